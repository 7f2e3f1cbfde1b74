"""Collects the texts of errors from the source: what each ``raise`` says, with ``…`` for what varies."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["Text", "texts"]


class Text(NamedTuple):
    """One text that is raised, and where."""

    where: str
    error: str
    text: str


def texts(package: Path) -> Iterator[Text]:
    """Yield the text of each ``raise X("...")`` below *package*.

    Constants of the module that are raised (``raise X(TEXT)``) are looked up.
    """
    for path in sorted(package.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                first: ast.expr | None = node.exc.args[0]
                if isinstance(first, ast.Name):
                    first = constants.get(first.id)
                text = _template(first)
                if text is not None and text.strip("… "):
                    yield Text(str(path.relative_to(package.parent)), ast.unparse(node.exc.func), text)


def _template(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _template(node.left), _template(node.right)
        return None if left is None or right is None else left + right
    return None
