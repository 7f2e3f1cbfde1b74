"""The how-to page on Ray clusters: its program prints what the page says."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.child import ROOT, run_python
from tests.support.how_to import PROGRAM, is_all_run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("ray") is None, reason="wants the ray package"),
    pytest.mark.timeout(180),
]

PAGE = ROOT / "docs" / "how-to" / "systems" / "ray-cluster.md"


def test_the_program_prints_what_the_page_says() -> None:
    """As a script; no process of Ray is left."""
    assert is_all_run(PAGE)
    ((source, out),) = PROGRAM.findall(PAGE.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: there are sockets in it
        script = Path(folder, "script.py")
        script.write_text(source, encoding="utf-8")
        variables = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        ended = run_python(str(script), cwd=script.parent, env={**variables, "PYTHONPATH": str(ROOT)}, timeout=100)

    said = [line for line in ended.out.splitlines(keepends=True) if "(raylet)" not in line]  # it speaks of the death
    assert (ended.returncode, "".join(said), ended.left) == (0, out, ()), str(ended)
