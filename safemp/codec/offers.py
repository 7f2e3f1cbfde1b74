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

import dataclasses
from collections.abc import Iterable
from enum import EnumMeta
from functools import cached_property, lru_cache, partialmethod
from types import FunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from safemp.codec import namespaces, statics
from safemp.codec.by_value import closed_over
from safemp.codec.definitions import ATOMS, MADE, Name, Write, define, is_fixed
from safemp.codec.homes import Home, Needs
from safemp.steady import by_a_handler

__all__ = ["harmless"]

_MOST = 1 << 18
"""Bytes of all that is offered. Picked: a script has less."""

_SMALL = 1 << 16
"""Objects, and bytes, of one global. Picked: more is data."""


def harmless(home: Home, write: Write, keep: bool) -> Needs:
    """Find what can be offered of a by-value module.

    Args:
        home: Where that is at home.
        write: As for ``definitions.prefix``.
        keep: As for ``definitions.define``.

    Returns:
        The names of it, and of all that they need.
    """
    roots = [(home.key, name) for name, value in list(home.space.items()) if _is_defined_there(home, name, value)]
    homes = {home.key: home}
    needed: dict[Name, set[Name]] = {}
    sizes: dict[Name, int] = {}
    bad: set[Name] = set()
    todo = roots[::-1]
    look = _Look()
    while todo:
        key = todo.pop()
        if key in needed:
            continue
        needed[key] = set()
        space = homes[key[0]].space
        if key[1] not in space:  # it may be a builtin, or come later
            continue
        mine = Needs()
        mine.homes[key[0]] = homes[key[0]]
        try:
            look.left = _SMALL
            if not look.is_harmless(space[key[1]]):
                bad.add(key)
                continue
            sizes[key] = len(define(key, space[key[1]], mine, write, keep)[0])
        except (Exception, SystemExit, GeneratorExit) as error:
            if by_a_handler(error):
                raise
            bad.add(key)
            continue
        homes.update(mine.homes)
        needed[key] = set(mine.names)
        todo += mine.names
    _spread(bad, needed)
    needs, room = Needs(), _MOST
    for root in roots:
        if root in bad:
            continue
        new, todo = [], [root]
        while todo:
            key = todo.pop()
            if key not in needs.names and key not in new:
                new.append(key)
                todo += needed[key]
        room -= sum(sizes.get(key, 0) for key in new)
        if room < 0:
            break
        for key in new:
            needs.add(homes[key[0]], key[1])
    return needs


def _spread(bad: set[Name], needed: dict[Name, set[Name]]) -> None:
    """Add to *bad* all that need something in it."""
    users: dict[Name, list[Name]] = {}
    for user, names in needed.items():
        for name in names:
            users.setdefault(name, []).append(user)
    todo = list(bad)
    while todo:
        new = [user for user in users.get(todo.pop(), ()) if user not in bad]
        bad.update(new)
        todo += new


def _is_defined_there(home: Home, name: str, value: Any) -> bool:
    """Tell whether that is a function or a class of the module, under its own name."""
    if type(value) not in (FunctionType, _CACHED) and not issubclass(type(value), type):
        return False
    try:
        if not namespaces.is_main(getattr(value, "__module__", None)) or getattr(value, "__qualname__", None) != name:
            return False
    except Exception:  # a metaclass may do anything
        return False
    return home.has(name, value)


_PLAIN = frozenset(
    {"dataclasses", "datetime", "decimal", "fractions", "ipaddress", "pathlib", "pathlib._local", "re", "typing"}
    | {"uuid", "zoneinfo"}
)
"""Modules of the standard library whose objects are values."""

_CACHED = type(lru_cache(abs))

_OTHERS = {("logging", "Logger"), ("_thread", "lock"), ("_thread", "RLock")}
_OTHERS |= {("_collections", "_tuplegetter"), ("collections", "_tuplegetter")}
"""Classes of things that are found by a name, or made anew as an import would make them."""

_MADE = (MADE - {"__dataclass_fields__"}) | {"__annotate__", "__classcell__", "__classdictcell__", "__dict__"}
_MADE |= {"__doc__", "__module__", "__qualname__", "__weakref__"}
"""What the class statement and others make, and what is no object of the user's. Fields of a dataclass hold some."""


class _Look:
    """Looks whether pickling things takes little, and runs nothing of the user's.

    Attributes:
        left: The objects and bytes that may be looked at, for one global.
    """

    def __init__(self) -> None:
        self.left: int = _SMALL
        self._seen: set[int] = set()
        self._bad: set[int] = set()

    def is_harmless(self, value: Any) -> bool:
        """Tell whether that is so of *value*, and of all in it."""
        if type(value) in ATOMS:
            return self._takes(value)
        if id(value) not in self._seen:
            self._seen.add(id(value))
            harmless = False
            try:
                harmless = self._takes(value) and self._is_harmless(value)
            finally:
                if not harmless:
                    self._bad.add(id(value))
        return id(value) not in self._bad

    def _takes(self, value: Any) -> bool:
        """Tell whether there is room for *value* itself."""
        cost = 1
        if type(value) in (str, bytes, list, tuple, set, frozenset, dict):
            cost += len(value)
        elif type(value) is int:
            cost += value.bit_length() >> 3
        self.left -= cost
        return self.left >= 0

    def _are_harmless(self, values: Iterable[Any]) -> bool:
        return all(map(self.is_harmless, values))

    def _is_harmless(self, value: Any) -> bool:
        cls = type(value)
        if cls in (list, tuple, set, frozenset):
            return self._are_harmless(value)
        if cls is dict:
            return self._are_harmless([*value, *value.values()])
        if is_fixed(value):
            return True
        if cls is FunctionType:
            parts = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values(), *value.__dict__.values()]
            return self._are_harmless([*parts, *closed_over(value).values(), *_annotations(value)])
        if issubclass(cls, type):
            return self._is_harmless_class(value)
        if cls in (staticmethod, classmethod):
            return self.is_harmless(value.__func__)
        if cls is property:
            return self._are_harmless([value.fget, value.fset, value.fdel])
        if cls in (cached_property, partialmethod):
            return self._are_harmless(vars(value).values())
        if cls is _CACHED:
            return self.is_harmless(value.__wrapped__)
        if cls is dataclasses.Field:
            return self._are_harmless([value.default, value.default_factory, value.type, *value.metadata.values()])
        if isinstance(cls, EnumMeta):
            return self.is_harmless(cls)
        if cls.__module__ in ("typing", "types") and hasattr(value, "__args__"):  # an alias, a union
            return self._are_harmless([*value.__args__, *getattr(value, "__metadata__", ())])
        return cls.__module__ in _PLAIN or (cls.__module__, cls.__qualname__) in _OTHERS

    def _is_harmless_class(self, cls: type) -> bool:
        space = statics.class_dict(cls)
        members: Any = space.get("_member_map_", {}) if issubclass(type(cls), EnumMeta) else {}
        parts = [type(cls), *cls.__bases__, *(member._value_ for member in members.values()), *_annotations(cls)]
        for name, value in space.items():
            if type(value) in (MemberDescriptorType, GetSetDescriptorType) or name in members or name in _MADE:
                continue
            if members and name[:1] == "_" == name[-1:] and type(value) is not FunctionType:
                continue  # an enumeration's own
            parts.append(value)
        return self._are_harmless(parts)


def _annotations(obj: FunctionType | type) -> list[Any]:
    """Return the values of annotations. From Python 3.14 on that makes them, as pickling does."""
    found = getattr(obj, "__annotations__", None)
    return list(found.values()) if type(found) is dict else []
