"""Run garak's command line against a server of ours, and read its report; the scans that the tests make."""

from __future__ import annotations

import json
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.chat_server import ChatServer
from tests.support.child import Ended, run_python

try:
    VERSION = version("garak")
except PackageNotFoundError:
    VERSION = ""

OLD = VERSION.startswith("0.9.")

TARGET = ("--model_type", "openai", "--model_name", "gpt-4")
if not OLD:
    TARGET = ("--target_type", "openai", "--target_name", "gpt-4")


class Case(NamedTuple):
    """A scan."""

    probes: str
    statuses: tuple[int, ...]
    """Of the server's answers to each prompt."""
    says: str
    """What a serial scan says, at the end of its last line on stderr or on stdout."""


CASES = {
    "answers": Case("test.Blank,test.Test", (200,), "garak run complete"),
    "unauthorized": Case("test.Test", (401,), "Error code: 401"),
    "not found": Case("test.Test", (404,), "Error code: 404" if OLD else "garak run complete"),
    "unprocessable": Case("test.Test", (422,), "Error code: 422" if OLD else "garak run complete"),
    "rate limit, once": Case("test.Test", (429, 200), "garak run complete"),
    "server error, once": Case("test.Test", (500, 200), "garak run complete"),
}
"""By what the server answers. Newer versions note an attempt without an answer and go on, but for 401 and 403."""


class Scan(NamedTuple):
    """What has become of a scan."""

    ended: Ended
    last: str
    """The last line on stderr that is no progress bar's."""
    report: list[dict[str, Any]]
    """The attempts and evaluations in the report, without what is never the same twice, in a fixed order."""
    summary: bool
    """Whether there is the summary in HTML, too."""


def command(probes: str, attempts: int) -> list[str]:
    """Return garak's arguments for a scan with so many attempts at a time."""
    return ["-m", "garak", *TARGET, "--probes", probes, "--parallel_attempts", str(attempts), "--generations", "1"]


def environment(folder: Path, server: ChatServer) -> dict[str, str]:
    """Return the variables by which garak finds the server, and writes into *folder* alone."""
    homes = {name: str(folder) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")}
    return {**homes, "OPENAI_API_KEY": "sk-none", "OPENAI_BASE_URL": server.url, "HF_HUB_OFFLINE": "1"}


def scan(folder: Path, statuses: tuple[int, ...], *args: str, **env: str) -> Scan:
    """Run ``python *args`` against a server that answers with *statuses*."""
    folder.mkdir()
    with ChatServer(*statuses) as server:
        ended = run_python(*args, cwd=folder, env={**environment(folder, server), **env}, timeout=100)
    summary = any(path.stat().st_size for path in folder.rglob("*.report.html"))
    return Scan(ended, last_line(ended.err), report(folder), summary)


def last_line(err: str) -> str:
    """Return the last line that is no progress bar's."""
    lines = [
        line.strip() for line in err.splitlines() if line.strip() and not re.search(r"(it/s|s/it|\?)\]$", line.strip())
    ]
    return lines[-1] if lines else ""


def report(folder: Path) -> list[dict[str, Any]]:
    """Return what is in the only report of *folder*."""
    (path,) = folder.rglob("*.report.jsonl")
    entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    kept = [entry for entry in entries if entry["entry_type"] in ("attempt", "eval")]
    for entry in kept:
        entry.pop("uuid", None)
    return sorted(kept, key=lambda entry: json.dumps(entry, sort_keys=True))
