"""Which importable module has an object as an attribute: there the other process finds its own.

A lock at the top of a module is *the* lock of that module. So an object that pickle
cannot copy is first looked for here.

Rule 1: what is found is right when it is found: the attribute is that object.
Rule 2: looking again costs nothing while no module has come or grown.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any, TypeAlias

from safemp.codec import statics
from safemp.codec.homes import generation, goes_by_value

__all__ = ["Stamp", "find", "find_class", "find_indexed", "stamp"]


Stamp: TypeAlias = tuple[int, int, int, int]


class _Index:
    """Attributes of modules, of the types that were asked for."""

    seen: tuple[int, str] = (0, "")
    spaces: tuple[dict[str, Any], ...] = ()
    stamp: Stamp = (0, 0, 0, 0)
    types: frozenset[type] = frozenset()
    places: dict[int, tuple[ModuleType, str]] = {}  # noqa: RUF012 - replaced whole


def stamp() -> Stamp:
    """Return a value that changes when modules come or grow, or go by value."""
    seen = len(sys.modules), next(reversed(sys.modules), "")
    if seen != _Index.seen:
        modules = list(sys.modules.values())
        _Index.spaces = tuple(module.__dict__ for module in modules if isinstance(module, ModuleType))
        _Index.seen = seen
    spaces = _Index.spaces
    return len(spaces), sum(map(len, spaces)), *generation()


def find_indexed(obj: Any, now: Stamp) -> tuple[ModuleType, str] | None:
    """Return ``(module, name)`` of *obj*, quickly when asked often.

    Args:
        obj: Of a type of which there are few in modules.
        now: What ``stamp`` gave when this pickle began.
    """
    if now != _Index.stamp or type(obj) not in _Index.types:
        types = _Index.types | {type(obj)}
        places: dict[int, tuple[ModuleType, str]] = {}
        for module, space in _spaces():
            for name, value in list(space.items()):
                if type(value) in types:
                    places.setdefault(id(value), (module, name))
        _Index.places, _Index.types, _Index.stamp = places, types, now
    found = _Index.places.get(id(obj))
    if found is None or found[0].__dict__.get(found[1]) is not obj:
        return None
    return found


def find(obj: Any) -> tuple[ModuleType, str] | None:
    """Return ``(module, name)`` of *obj*, by looking everywhere."""
    for module, space in _spaces():
        for name, value in list(space.items()):
            if value is obj:
                return module, name
    return None


def find_class(cls: type) -> tuple[Any, str] | None:
    """Return ``(owner, name)`` of a class whose own name does not lead to it: a module, or a class of its module.

    ``Model.DoesNotExist`` of several packages is such, and ``pytest.fail.Exception``. A local class is looked for if it
    is an exception's: others may be attributes here, and not where the same function has not been called.
    """
    if "<locals>" in cls.__qualname__ and not issubclass(cls, BaseException):
        return None
    name: Any = cls.__module__
    module = sys.modules.get(name) if isinstance(name, str) else None
    if not isinstance(module, ModuleType) or name == "builtins":
        return find(cls)
    if goes_by_value(name):
        return None
    for attribute, value in list(module.__dict__.items()):
        if value is cls:
            return module, attribute
        if issubclass(type(value), type):
            for inner, part in list(statics.class_dict(value).items()):
                if part is cls:
                    return value, inner
    return None


def _spaces() -> list[tuple[ModuleType, dict[str, Any]]]:
    return [
        (module, module.__dict__)
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and module.__dict__.get("__name__") == name and not goes_by_value(name)
    ]
