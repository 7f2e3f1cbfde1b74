"""What a stream calls when it is loaded, to make again what pickle cannot."""

from __future__ import annotations

import types
from _abc import _abc_init  # type: ignore[import-not-found]
from abc import ABCMeta
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache, singledispatch
from typing import Any, NewType

__all__ = ["make_context_var", "make_quietly", "recache", "redispatch", "renew"]


def make_context_var(name: str, default: tuple[Any, ...]) -> ContextVar[Any]:
    """Make a context variable; *default* holds its default value, if it has one."""
    return ContextVar(name, default=default[0]) if default else ContextVar(name)


def recache(function: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    """Put an empty ``lru_cache`` around *function*."""
    return lru_cache(**parameters)(function)


def renew(name: str, supertype: Any, module: str) -> Any:
    """Make a ``NewType``."""
    made = NewType(name, supertype)  # type: ignore[misc]
    made.__module__ = module
    return made


def redispatch(registry: list[tuple[type, Callable[..., Any]]]) -> Any:
    """Make a ``singledispatch`` function with these implementations."""
    functions = dict(registry)
    made = singledispatch(functions.pop(object))
    for cls, function in functions.items():
        made.register(cls, function)
    return made


class _Quiet:
    """Keeps ``__init_subclass__`` of the other bases from running: it has run, at home."""

    def __init_subclass__(cls, **_: Any) -> None:
        pass


class _QuietSlots:
    """The same, for classes whose instances have no ``__dict__``."""

    __slots__ = ()

    def __init_subclass__(cls, **_: Any) -> None:
        pass


def make_quietly(meta: type, name: str, bases: tuple[Any, ...], space: dict[str, Any]) -> type | None:
    """Make a class without the hooks of its bases and metaclass.

    What the hooks did (a registry, say) has been done where the class statement ran,
    and travels with the objects that it was done to.

    Returns:
        ``None``: there are no such hooks, or Python does not let us.
    """
    resolved = types.resolve_bases(bases)
    hooked = any("__init_subclass__" in vars(base) for b in resolved for base in b.__mro__[:-1])
    if not hooked and (meta is type or meta is ABCMeta):
        return None
    if resolved is not bases:
        space = {**space, "__orig_bases__": bases}
    for quiet in ((_Quiet,), (_QuietSlots,)) if hooked else ((),):
        try:
            cls: type = type.__new__(meta, name, (*quiet, *resolved), dict(space))
            if hooked:
                cls.__bases__ = resolved
        except TypeError:  # another layout
            continue
        if issubclass(meta, ABCMeta):
            _abc_init(cls)
        return cls
    return None
