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

__all__ = ["FIXES", "PAGE", "REFUSALS", "Text", "fixes_table", "refusals_table", "texts"]

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "errors.md"

FIXES = re.compile(r"(<!-- fixes: made by python -m tests.support.error_texts -->\n)(.*?)(<!-- end -->)", re.DOTALL)

REFUSALS = re.compile(FIXES.pattern.replace("fixes", "refusals"), re.DOTALL)


class Text(NamedTuple):
    """One text that is raised, and where; and what it advises, if it is given that."""

    where: str
    error: str
    text: str
    advice: str | None = None


def texts(package: Path) -> Iterator[Text]:
    """Yield the text of each ``raise X("...")`` below *package*.

    Constants of modules that are raised (``raise X(TEXT)``) are looked up.
    """
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(package.rglob("*.py"))}
    everywhere: dict[str, ast.expr] = {}
    for tree in trees.values():
        everywhere = _constants(tree) | everywhere
    for path, tree in trees.items():
        constants = everywhere | _constants(tree)
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
                    error = ast.unparse(node.exc.func)
                    advice = _advice(node.exc.args[1:], constants) if error == "RefusedError" else None
                    yield Text(str(path.relative_to(package.parent)), error, text, advice)


def _template(node: ast.expr | None) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return None


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    found: dict[str, ast.expr] = {}
    for node in tree.body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None and isinstance(target, ast.Name):
            found.setdefault(target.id, node.value)
    return found


def _advice(rest: list[ast.expr], constants: dict[str, ast.expr]) -> str | None:
    """Return what the second argument of a ``RefusedError`` says; ``None``: there is none."""
    if not rest:
        return None
    node = rest[0]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):  # "...".format(...)
        node = node.func.value
    if isinstance(node, ast.Name):
        node = constants[node.id]
    text = _template(node)
    assert text is not None, f"what is advised is put together in a way that is not known: {ast.unparse(rest[0])}"
    return re.sub(r"{[!\w]*}", "…", text)


def refusals_table() -> str:
    """Return the table of what is refused because of what its copy would be."""
    found = {text: advice for _, error, text, advice in texts(PAGE.parents[2] / "safemp") if error == "RefusedError"}
    rows = "".join(f"| `{text}` | {advice or _BY_TYPE} |\n" for text, advice in sorted(found.items()))
    return f"| text | what to type |\n|---|---|\n{rows}"


_BY_TYPE = "by its type: see [every fix](#every-fix)"


def fixes_table() -> str:
    """Return the table of what is advised for each type."""
    types: dict[str, list[str]] = {}
    for (module, name), advice in sorted(fixes._ADVICE.items()):
        types.setdefault(advice, []).append(name if module == "builtins" else f"{module}.{name}")
    rows = sorted((", ".join(f"`{name}`" for name in names), advice) for advice, names in types.items())
    return "| a culprit of type, or one below it | fix |\n|---|---|\n" + "".join(f"| {a} | {b} |\n" for a, b in rows)


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    for part, made in ((FIXES, fixes_table()), (REFUSALS, refusals_table())):
        page = part.sub(lambda found, made=made: found[1] + made + found[3], page)  # type: ignore[misc]
    PAGE.write_text(page, encoding="utf-8")
