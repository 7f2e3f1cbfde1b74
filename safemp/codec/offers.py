"""What workers may be asked for by name: the definitions of the caller's ``__main__``.

A function takes along what its code names. But an object may come to a task by other ways
than its call: out of a manager's queue, out of a file. Such a pickle names its class in
``__main__``, where a spawned process would have it, and a forked one. So a worker that starts is given
definitions, too, which are made when somebody asks its ``__main__`` for one that it lacks.

Rule 1: only what nobody minds being pickled without need is offered: functions and classes
of the script, and of their globals and attributes what is small, plain and pickles without
running code of the user's. The rest goes with the calls that use it.
Rule 2: what cannot be pickled is left out. Nobody has asked for it yet.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import EnumMeta
from functools import cached_property, lru_cache, partialmethod
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, NamedTuple

from safemp.codec import namespaces, statics
from safemp.codec.definitions import Name, Write, define, is_fixed
from safemp.codec.homes import Home, Needs
from safemp.steady import by_a_handler

__all__ = ["harmless"]

_MANY = 1000
"""Members of a list or dict from which it is no longer small. Picked."""

_MOST = 1 << 18
"""Bytes of all that is offered. Picked: a script has less."""


def harmless(home: Home, write: Write) -> Needs:
    """Find what can be offered of a by-value module.

    Args:
        home: Where that is at home.
        write: As for ``definitions.prefix``.

    Returns:
        The names of it, and of all that they need.
    """
    needs, seen = Needs(), _Seen({}, {})
    room = _MOST
    for name, value in list(home.space.items()):
        if not _is_defined_there(home, name, value):
            continue
        try:
            found = _with_all_it_needs(home, name, write, seen)
        except Exception as error:
            if by_a_handler(error):
                raise
            continue
        new = {each: size for each, (_, size) in found.items() if each not in needs.names}
        if sum(new.values()) > room:
            continue
        room -= sum(new.values())
        for each in new:
            needs.add(found[each][0], each[1])
    return needs


def _is_defined_there(home: Home, name: str, value: Any) -> bool:
    """Tell whether that is a function or a class of the module, under its own name."""
    if type(value) not in (FunctionType, _CACHED) and not issubclass(type(value), type):
        return False
    if not namespaces.is_main(getattr(value, "__module__", None)) or getattr(value, "__qualname__", None) != name:
        return False
    return home.has(name, value)


class _Seen(NamedTuple):
    """What is known of globals already.

    Attributes:
        needs: What they need, and the bytes of their definition.
        harmless: Whether they are.
    """

    needs: dict[Name, tuple[Needs, int]]
    harmless: dict[Name, bool]


class _NotHarmlessError(Exception):
    pass


def _with_all_it_needs(home: Home, name: str, write: Write, seen: _Seen) -> dict[Name, tuple[Home, int]]:
    """Return where a global, and each that it needs, is at home, and the size of its definition.

    Raises:
        Exception: One is not harmless, or cannot be pickled.
    """
    found: dict[Name, tuple[Home, int]] = {}
    todo = [(home, name)]
    while todo:
        at, root = todo.pop()
        key = at.key, root
        if key in found:
            continue
        if root not in at.space:  # it may be a builtin, or come later
            found[key] = at, 0
            continue
        value = at.space[root]
        if key not in seen.harmless:
            seen.harmless[key] = _is_harmless(value, set())
        if not seen.harmless[key]:
            raise _NotHarmlessError
        if key not in seen.needs:
            mine = Needs()
            mine.homes[at.key] = at
            blob, _ = define(key, value, mine, write, keep=True)
            seen.needs[key] = mine, len(blob)
        mine, size = seen.needs[key]
        found[key] = at, size
        todo += [(mine.homes[needed[0]], needed[1]) for needed in mine.names]
    return found


_PLAIN = frozenset(
    {"dataclasses", "datetime", "decimal", "fractions", "ipaddress", "pathlib", "pathlib._local", "re", "typing"}
    | {"uuid", "zoneinfo"}
)
"""Modules of the standard library whose objects are values."""

_CACHED = type(lru_cache(abs))


def _is_harmless(value: Any, seen: set[int]) -> bool:
    """Tell whether pickling *value* takes little, and runs nothing of the user's."""
    if id(value) in seen or is_fixed(value):
        return True
    seen.add(id(value))
    cls = type(value)
    if cls in (list, tuple, set, frozenset):
        return len(value) <= _MANY and _are_harmless(value, seen)
    if cls is dict:
        return len(value) <= _MANY and _are_harmless([*value, *value.values()], seen)
    if cls is FunctionType:
        parts = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *value.__dict__.values()]
        return _are_harmless([*parts, *_contents(value)], seen)
    if issubclass(cls, type):
        return _is_harmless_class(value, seen)
    if cls in (staticmethod, classmethod):
        return _is_harmless(value.__func__, seen)
    if cls is property:
        return _are_harmless([value.fget, value.fset, value.fdel], seen)
    if cls in (cached_property, partialmethod):
        return _are_harmless(vars(value).values(), seen)
    if cls is _CACHED:
        return _is_harmless(value.__wrapped__, seen)
    if isinstance(cls, EnumMeta):
        return _is_harmless(cls, seen)
    return cls.__module__ in _PLAIN or (cls.__module__, cls.__qualname__) in _OTHERS


_OTHERS = {("logging", "Logger"), ("_thread", "lock"), ("_thread", "RLock")}
_OTHERS |= {("_collections", "_tuplegetter"), ("collections", "_tuplegetter")}
"""Classes of things that are found by a name, or made anew as an import would make them."""


def _are_harmless(values: Iterable[Any], seen: set[int]) -> bool:
    return all(_is_harmless(value, seen) for value in values)


def _contents(function: FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # it is empty
            continue
    return found


_ANNOTATE = ("__annotate__", "__annotate_func__")
"""From Python 3.14 on. What they return is what travels."""


def _is_harmless_class(cls: type, seen: set[int]) -> bool:
    space = statics.class_dict(cls)
    members: Any = space.get("_member_map_", {}) if issubclass(type(cls), EnumMeta) else {}
    if not _are_harmless([type(cls), *cls.__bases__, *(member._value_ for member in members.values())], seen):
        return False
    for name, value in space.items():
        if type(value) in (MemberDescriptorType, GetSetDescriptorType) or name in members:
            continue
        made = name == "_abc_impl" or (name.startswith("_") and name.endswith("_"))
        if made and (type(value) is not FunctionType or name in _ANNOTATE):
            continue  # by the class statement, an enumeration, a decorator
        if not _is_harmless(value, seen):
            return False
    return True
