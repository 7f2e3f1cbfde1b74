"""Run a script that starts Ray, in a folder that is gone afterwards, and see what it leaves."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from tests.support.child import Ended, run_python, until

try:
    VERSION = version("ray")
except PackageNotFoundError:
    VERSION = ""

START = "ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100_000_000, logging_level='error')"
"""A Ray of this machine alone, as small as it can be."""


class Run(NamedTuple):
    """What has become of a script."""

    ended: Ended
    left: list[str]
    """The command lines of processes of that Ray that were still there a while later."""


def run(script: str) -> Run:
    """Run *script* with a home and a temporary folder of its own."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: there are sockets in it
        path = Path(folder, "script.py")
        path.write_text(script, encoding="utf-8")
        ended = run_python(str(path), cwd=path.parent, env=environment(folder), timeout=100)
        until(lambda: not processes(folder), timeout=20)
        return Run(ended, processes(folder))


def environment(folder: str) -> Mapping[str, str]:
    """Return the variables by which Ray writes into *folder* alone, and tells nobody of itself."""
    return {"HOME": folder, "RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


def processes(folder: str) -> list[str]:
    """Return the command lines of the processes that have to do with *folder*."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            command, environ = ((path / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:  # it has ended while we looked
            continue
        if command and folder.encode() in command + environ:
            found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found
