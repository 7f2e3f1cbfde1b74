"""The programs of the README: they are fragments, and run with what they leave out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.child import ROOT, quiet, run_script
from tests.support.pages import blocks

FRAGMENTS = [block.text for block in blocks(ROOT / "README.md", "python")]

pytestmark = pytest.mark.slow

AROUND = """
import safemp

def fn(x): return -x
def parse(page, **options): return page
items, page = [1, 2], 3

if __name__ == "__main__":
{}
    print(globals().get("results") or future.result())
"""


@pytest.mark.parametrize("number", range(len(FRAGMENTS)))
def test_a_fragment_runs(tmp_path: Path, number: int) -> None:
    """With a function and items in the place of the reader's."""
    fragment = "\n".join(f"    {line}" for line in FRAGMENTS[number].splitlines())
    ended = run_script(tmp_path, AROUND.format(fragment))

    assert quiet(ended, out="3\n" if "future" in fragment else "[-1, -2]\n"), str(ended)
