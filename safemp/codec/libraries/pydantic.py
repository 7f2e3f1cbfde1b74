"""pydantic: what checks the arguments of a function is made again of the function."""

from __future__ import annotations

import ast
from collections import ChainMap
from functools import partial
from typing import Any, Literal, get_origin

from safemp.codec.libraries import called, loaded
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]


def _checker(checker: Any) -> Any:
    function = checker.function
    inner = function.func if isinstance(function, partial) else function
    places = getattr(checker.ns_resolver, "_base_ns_tuple", None)
    space = ChainMap(dict(getattr(places, "locals", ())), getattr(inner, "__globals__", {}))
    named = {name: space[name] for name in _names_in(inner) if name in space}
    return called(type(checker), function, checker.config_wrapper.config_dict, checker.validate_return, named)


def _names_in(function: Any) -> set[str]:
    """Return what annotations name that are text, or have text in them: it is looked up when the checks are made."""
    names: set[str] = set()
    todo = [*getattr(function, "__annotations__", {}).values()]
    while todo:
        each = todo.pop()
        text = getattr(each, "__forward_arg__", each)
        if isinstance(text, str):
            _add_names(text, names)
        elif get_origin(each) is not Literal:
            todo += getattr(each, "__args__", ())  # of an alias
    return names


def _add_names(text: str, names: set[str]) -> None:
    try:
        todo: list[ast.AST] = [ast.parse(f"({text},)", mode="eval")]
    except SyntaxError:
        return
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            _add_names(node.value, names)
        elif isinstance(node, ast.Subscript) and ast.unparse(node.value).rpartition(".")[2] == "Literal":
            todo.append(node.value)
        else:
            todo += ast.iter_child_nodes(node)


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "the same checks are made of a copy of the function"
    checker = loaded("pydantic._internal._validate_call", "ValidateCallWrapper")
    if "ns_resolver" not in getattr(checker, "__slots__", ()):
        return {}  # older than pydantic 2.11: a copy of its parts is as good
    return {checker: Repair(RECONSTRUCT, why, _checker)}
