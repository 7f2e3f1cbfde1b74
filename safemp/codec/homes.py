"""Where a function, a class or a globals dict is at home, and whether it goes by value.

By value go ``__main__``, modules registered with cloudpickle, modules that exist only
in this process, and modules which a worker has said it cannot import. Everything else
is found by its name on the other side.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

from safemp.codec import namespaces
from safemp.codec.repairs import importable

__all__ = [
    "Home",
    "Needs",
    "by_name_again",
    "generation",
    "goes_by_value",
    "home_of",
    "is_global",
    "is_received",
    "name_elsewhere",
    "names_by_value",
    "registered",
    "resolve",
    "resolve_name",
    "send_by_value",
    "supposing",
]

registered: set[str] = set()
"""The names registered with cloudpickle: ``pickling`` puts cloudpickle's own set here."""

_refused: set[str] = set()
"""Modules which a worker said it cannot import."""


class _Changes:
    """How often what goes by value has been changed here."""

    count = 0


def send_by_value(module: str) -> None:
    """Remember that workers cannot import *module*."""
    if module not in _refused:
        _refused.add(module)
        _Changes.count += 1


def by_name_again(modules: Iterable[str]) -> bool:
    """Let go by name again those of *modules*, or packages above them, that a worker could not import.

    Others may; and by value they cannot go. Tell whether there is one.
    """
    found = {name for name in _refused if any(each == name or each.startswith(f"{name}.") for each in modules)}
    if found:
        _refused.difference_update(found)
        _Changes.count += 1
    return bool(found)


@contextmanager
def supposing(modules: Iterable[str]) -> Iterator[None]:
    """Within, let *modules* go by value, as if a worker had said that it cannot import them.

    For a look at what would happen. Calls of other threads are encoded so meanwhile,
    which is right, only not necessary.
    """
    new = set(modules) - _refused
    _refused.update(new)
    _Changes.count += 1
    try:
        yield
    finally:
        _refused.difference_update(new)
        _Changes.count += 1


class _InMemory:
    """The modules that somebody made in this process, found again when modules come."""

    seen = (0, "")
    """How many modules there were, and the last that came."""

    names: tuple[bytes, ...] = ()


def names_by_value() -> Sequence[bytes]:
    """Return the names, but ``__main__``, that a stream of the fast rung must not hold."""
    modules = sys.modules
    seen = len(modules), next(reversed(modules), "")
    if seen != _InMemory.seen:
        _InMemory.seen = seen
        _InMemory.names = tuple(
            name.encode() for name in list(modules) if not namespaces.is_main(name) and not importable(name)
        )
    if not registered and not _refused:
        return _InMemory.names
    return [*_InMemory.names, *(name.encode() for name in (*registered, *_refused))]


def generation() -> tuple[int, int]:
    """Return a value that changes when more modules, or fewer, go by value."""
    return len(registered), _Changes.count


def goes_by_value(name: str) -> bool:
    """Tell whether what is defined in module *name* goes by value."""
    if namespaces.is_main(name) or not importable(name):
        return True
    while name and (registered or _refused):  # itself, or a package above it
        if name in registered or name in _refused:
            return True
        name = name.rpartition(".")[0]
    return False


class Home:
    """A by-value module, as seen from here.

    Attributes:
        key: Its name on every side.
        space: Its globals.
        names: Of a received one, the names that its origin has defined: only these can
            be named to others. ``None``: this process is the origin.
        attrs: ``__name__`` and the like.
    """

    __slots__ = ("attrs", "key", "names", "space")

    def __init__(self, key: str, space: dict[str, Any], names: Mapping[str, object] | None) -> None:
        self.key: str = key
        self.space: dict[str, Any] = space
        self.names: Mapping[str, object] | None = names
        self.attrs: dict[str, Any] = {}
        # A loop: a script's every call makes one of these, and a comprehension is a call more.
        for name in namespaces.ORIGIN_ATTRS:
            if name in space:
                self.attrs[name] = space[name]

    def has(self, qualname: str, obj: Any) -> bool:
        """Tell whether *qualname* leads to *obj* here and at the origin."""
        root, *rest = qualname.split(".")
        if root not in self.space or (self.names is not None and root not in self.names):
            return False
        return _follow(self.space[root], rest) is obj


def _follow(found: Any, parts: list[str]) -> Any:
    """Follow attributes; ``None`` where they lead nowhere."""
    try:
        for part in parts:
            found = getattr(found, part)
    except Exception:  # a metaclass's __getattr__ may raise anything
        return None
    return found


def is_global(fn: Any) -> bool:
    """Tell whether that is a function, found under its name among the globals of its module."""
    if type(fn) is not FunctionType:
        return False
    module = sys.modules.get(fn.__module__) if type(fn.__module__) is str else None
    return module is not None and module.__dict__.get(fn.__qualname__) is fn


def is_received(fn: Any) -> bool:
    """Tell whether that is a function of another process, found under its name among the globals that came with it."""
    return (
        type(fn) is FunctionType
        and namespaces.key_of(fn.__globals__) is not None
        and fn.__globals__.get(fn.__qualname__) is fn
    )


def resolve(module: Any, obj: Any) -> Any:
    """Return what the qualified name of *obj* leads to in *module*."""
    qualname = getattr(obj, "__qualname__", None)
    return _follow(module, qualname.split(".")) if isinstance(qualname, str) else None


def name_elsewhere(obj: Any) -> str | None:
    """Return the qualified name under which other processes find *obj* in its module; ``None``: there is none."""
    home, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", None)
    module = sys.modules.get(home) if isinstance(home, str) else None
    if module is None or not isinstance(name, str) or goes_by_value(module.__name__):
        return None
    return name if resolve_name(module, name) is obj else None


def resolve_name(module: Any, name: str) -> Any:
    """Return what the dotted *name* leads to in *module*; ``None`` if nowhere."""
    return _follow(module, name.split("."))


def home_of(space: dict[str, Any], name: Any, by_name: bool = False) -> Home | str | None:
    """Place a globals dict.

    Args:
        space: The dict.
        name: The name of the module it says it belongs to.
        by_name: ``__main__`` is the same script on the other side.

    Returns:
        A ``Home`` for a by-value module, the name of an importable one, ``None`` for a
        dict that belongs to no module.
    """
    key = namespaces.key_of(space)
    if key is not None:
        return Home(key, space, namespaces.known_names(key))
    module = sys.modules.get(name) if isinstance(name, str) else None
    if module is None or getattr(module, "__dict__", None) is not space:
        return None
    if by_name and namespaces.is_main(name):
        return "__main__"
    if goes_by_value(name):
        return Home(namespaces.origin("__main__" if namespaces.is_main(name) else name), space, None)
    return str(name)


class Needs:
    """By-value globals that a stream refers to, in the order in which it met them."""

    def __init__(self) -> None:
        self.homes: dict[str, Home] = {}
        self.names: dict[tuple[str, str], None] = {}

    def add(self, home: Home, name: str) -> None:
        """Ask for global *name* of *home*."""
        self.homes.setdefault(home.key, home)
        self.names.setdefault((home.key, name))
