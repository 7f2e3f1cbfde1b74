"""What plain pickle makes of an object, and which part of it is to blame where it fails.

The standard library's pools pickle what tasks return and raise. So this is what a class has
to stand when its users have nothing else.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Mapping
from dataclasses import replace
from types import FunctionType, ModuleType
from typing import Any

from safemp.codec.exception_reduce import has_own_way
from safemp.codec.loading import load_culprit
from safemp.codec.paths import Edge, Node
from safemp.codec.pickling import USER_ERRORS
from safemp.codec.statics import type_name
from safemp.codec.walker import ATOMS, below, find_culprits, reason_of
from safemp.errors import Culprit

__all__ = ["USER_ERRORS", "dump", "load", "undumpable", "unloadable"]

_MOST_TRIED = 1000
"""Parts whose pickles are made, one by one. Picked, not measured."""
_MOST_NAMED = 20
"""Parts that are named. Picked, too."""


def dump(obj: Any) -> bytes:
    """Pickle *obj* as the standard library does. Raises what pickling raises."""
    return pickle.dumps(obj)


def load(data: bytes) -> Any:
    """Load what ``dump`` gave. Raises what loading raises."""
    return pickle.loads(data)


class _Semantics:
    """What plain pickle would do with one object, for the walker."""

    def reduce(self, obj: Any) -> Any:
        reducer = copyreg.dispatch_table.get(type(obj))
        return reducer(obj) if reducer is not None else obj.__reduce_ex__(pickle.DEFAULT_PROTOCOL)

    def by_value(self, obj: Any) -> bool:
        return False

    def find_global(self, obj: Any, name: str | None) -> str | None:
        try:
            pickle.dumps(obj)
        except USER_ERRORS as error:  # the reason is what we are after
            return str(error)
        return None

    def globals_of(self, function: FunctionType, /) -> Mapping[str, Any]:
        return {}

    def globals_of_module(self, module: ModuleType, /) -> Mapping[str, Any] | None:
        return None

    def dump(self, obj: Any) -> None:
        pickle.dumps(obj)


def undumpable(obj: Any, name: str, error: BaseException) -> tuple[Culprit, ...]:
    """Name every part of *obj* that plain pickle refuses.

    Args:
        obj: What was pickled.
        name: What paths begin with.
        error: What pickling it raised: the answer where no part is to blame.
    """
    found = find_culprits([(name, obj)], _Semantics())
    whole = Culprit(name, type_name(type(obj)), reason_of(error), "pickle less of it at once", _obj=obj)
    return tuple(found) or (whole,)


def unloadable(obj: Any, name: str, error: BaseException) -> tuple[Culprit, ...]:
    """Name the smallest parts of *obj* that plain pickle writes and does not load.

    Args:
        obj: What was pickled.
        name: What paths begin with.
        error: What loading it raised.
    """
    found: list[tuple[Node, BaseException]] = []
    stack: list[tuple[Node, BaseException]] = [((obj, None, Edge.ROOT, name), error)]
    known: dict[int, Any] = {}
    while stack and len(found) < _MOST_NAMED:
        node, why = stack.pop()
        failing = _failing(node, known)
        stack += failing[::-1]
        if not failing:
            found.append((node, why))
    steps: dict[int, Any] = {}
    return tuple(_with_advice(load_culprit(node, why, steps)) for node, why in found)


def _with_advice(culprit: Culprit) -> Culprit:
    """Say what to do about an exception: pickle calls its class with its ``args``."""
    cls = type(culprit._obj)
    if not issubclass(cls, BaseException) or has_own_way(cls):
        return culprit
    fix = "let its __init__ take exactly what it gives to super().__init__(), or define its __reduce__"
    return replace(culprit, fix=fix)


def _failing(node: Node, known: dict[int, Any]) -> list[tuple[Node, BaseException]]:
    """Return the parts directly below *node* that do not load, each with the reason."""
    found: list[tuple[Node, BaseException]] = []
    try:
        parts = below(node, _Semantics(), {})
    except USER_ERRORS:  # user code, in __reduce__
        return []
    for part in parts:
        obj = part[0]
        if type(obj) in ATOMS or id(obj) in known or len(known) >= _MOST_TRIED:
            continue
        known[id(obj)] = obj
        try:
            data = pickle.dumps(obj)
        except USER_ERRORS:  # it is part of a reduce value only
            continue
        try:
            pickle.loads(data)
        except USER_ERRORS as why:
            found.append((part, why))
    return found
