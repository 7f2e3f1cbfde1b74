"""The examples: each runs as it stands and prints what its docstring says."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

import pytest

from tests.support.child import ROOT, quiet, run_python

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    """With nothing on stderr, and nothing left behind."""
    said = inspect.cleandoc(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "")
    ended = run_python(str(path), cwd=tmp_path)

    assert quiet(ended, out=textwrap.dedent(said.partition("Prints:\n\n")[2]) + "\n"), str(ended)
    assert list(tmp_path.iterdir()) == []


def test_every_example_is_in_the_list() -> None:
    """``examples/README.md`` names each, and no other."""
    listed = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")

    assert [path.name for path in EXAMPLES if f"]({path.name})" not in listed] == []
    assert listed.count("](") == len(EXAMPLES) > 0
