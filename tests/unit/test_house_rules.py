"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = sorted(path for top in ("safemp", "tests", "benchmarks") for path in (ROOT / top).rglob("*.py"))


def names(paths: list[Path]) -> list[str]:
    """Return *paths* as they are shown in a test's name."""
    return [str(path.relative_to(ROOT)) for path in paths]


TESTS = [path for path in MODULES if path.name.startswith("test_")]


@pytest.mark.parametrize("path", TESTS, ids=names(TESTS))
def test_every_test_states_its_promise(path: Path) -> None:
    """Each test has a docstring of its own."""
    silent = [
        node.name
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


def test_every_module_says_its_one_idea() -> None:
    """Each file with code in it begins with a docstring."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}

    assert [str(path) for path, tree in trees.items() if tree.body and not ast.get_docstring(tree)] == []


def test_no_file_is_a_drawer() -> None:
    """No file is named for holding whatever fits nowhere else."""
    assert [path for path in MODULES if path.stem in {"utils", "helpers", "common", "misc"}] == []
