"""pydantic: what checks the arguments of a function is made again of the function."""

from __future__ import annotations

import re
from collections import ChainMap
from functools import partial
from typing import Any

from safemp.codec.libraries import called, loaded
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]


def _checker(checker: Any) -> Any:
    function = checker.function
    inner = function.func if isinstance(function, partial) else function
    places = getattr(getattr(checker, "ns_resolver", None), "_base_ns_tuple", None)  # since pydantic 2.10
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
            names.update(re.findall(r"[^\W\d]\w*", text))
        else:
            todo += getattr(each, "__args__", ())  # of an alias
    return names


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "the same checks are made of a copy of the function"
    checker = loaded("pydantic._internal._validate_call", "ValidateCallWrapper")
    if "ns_resolver" not in getattr(checker, "__slots__", ()):
        return {}  # older than pydantic 2.11: a copy of its parts is as good
    return {checker: Repair(RECONSTRUCT, why, _checker)}
