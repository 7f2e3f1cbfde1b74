"""The page on scale: its program prints what the page says, also when a crash happens in a part."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.child import ROOT, quiet, run_script
from tests.support.how_to import PROGRAM, is_all_run

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "explanation" / "scaling.md"


def test_a_tree_of_submitters_prints_what_the_page_says(tmp_path: Path) -> None:
    """As a script."""
    assert is_all_run(PAGE)
    ((source, out),) = PROGRAM.findall(PAGE.read_text(encoding="utf-8"))

    assert quiet(ended := run_script(tmp_path, source), out=out), str(ended)


def test_a_crash_in_a_tree_ends_its_part_and_no_other(tmp_path: Path) -> None:
    """It comes through both callers as what it was."""
    ((source, _),) = PROGRAM.findall(PAGE.read_text(encoding="utf-8"))
    source = source.replace("    return n * n", "    return n * n if n != 300 else __import__('os')._exit(3)")
    source = source.replace(
        "print(sum(machines.map(on_one_machine, parts, chunksize=1)))",
        "print([type(one).__name__ for one in machines.map(on_one_machine, parts, chunksize=1, on_error='return')])",
    )

    ended = run_script(tmp_path, source)
    assert quiet(ended, out="['int', 'WorkerCrashed', 'int', 'int']\n"), str(ended)
