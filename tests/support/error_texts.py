"""Collects the texts of errors from the source: what each ``raise`` says, with ``…`` for what varies.

    python -m tests.support.error_texts

writes the part of ``docs/reference/errors.md`` that is made from the code.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from safemp.codec import fixes

__all__ = ["FIXES", "PAGE", "Text", "fixes_table", "texts"]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"

FIXES = re.compile(r"(<!-- fixes: made by python -m tests.support.error_texts -->\n)(.*?)(<!-- end -->)", re.DOTALL)


class Text(NamedTuple):
    """One text that is raised, and where."""

    where: str
    error: str
    text: str


def texts(package: Path) -> Iterator[Text]:
    """Yield the text of each ``raise X("...")`` below *package*.

    Constants of modules that are raised (``raise X(TEXT)``) are looked up.
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    constants: dict[str, ast.expr] = {}
    for tree in trees.values():
        for node in tree.body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                constants.setdefault(node.targets[0].id, node.value)
    for path, tree in trees.items():
        names = {
            alias.asname or alias.name: alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                first: ast.expr | None = node.exc.args[0]
                if isinstance(first, ast.Name):
                    first = constants.get(names.get(first.id, first.id))
                text = _template(first)
                if text is not None and text.strip("… "):
                    yield Text(str(path.relative_to(package.parent)), ast.unparse(node.exc.func), text)


def _template(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def fixes_table() -> str:
    """Return the table of what is advised for each type."""
    types: dict[str, list[str]] = {}
    for (module, name), advice in sorted(fixes._ADVICE.items()):
        types.setdefault(advice, []).append(name if module == "builtins" else f"{module}.{name}")
    rows = sorted((", ".join(f"`{name}`" for name in names), advice) for advice, names in types.items())
    return "| a culprit of type, or one below it | fix |\n|---|---|\n" + "".join(f"| {a} | {b} |\n" for a, b in rows)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(FIXES.sub(lambda found: found[1] + fixes_table() + found[3], page), encoding="utf-8")
