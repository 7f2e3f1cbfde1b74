"""What is looked up by its name: modules, functions of C, and what is an attribute of a module."""

from __future__ import annotations

import sys
from contextvars import Context, ContextVar
from datetime import datetime_CAPI  # the capsule that every Python has
from functools import lru_cache, partial
from importlib import import_module
from types import BuiltinFunctionType, ModuleType
from typing import Any

from safemp.codec import named
from safemp.codec.homes import resolve_name
from safemp.codec.libraries import loaded, says_how
from safemp.codec.rebuild import Made
from safemp.codec.repairs import BY_NAME, REBUILD, Repair, importable

__all__ = ["recached", "table"]

_Capsule = type(datetime_CAPI)


def _module(module: ModuleType) -> Any:
    if says_how(type(module)):
        return module.__reduce_ex__(5)
    name = module.__name__
    if sys.modules.get(name) is module and importable(name):
        return import_module, (name,)
    raise TypeError(f"cannot pickle module {name!r}: it exists only in this process")


def _builtin(function: Any) -> Any:
    """Find a bound C function again: pybind11 2.x binds functions to a ``PyCapsule``."""
    owner = function.__self__
    if type(owner) is not _Capsule:
        return function.__reduce__()
    home, name = function.__module__, function.__name__
    module = sys.modules.get(home) if isinstance(home, str) else None
    if module is not None and importable(module.__name__) and module.__dict__.get(name) is function:
        return getattr, (module, name)
    return _capsule(function)


def _capsule(capsule: Any) -> Any:
    found = named.find(capsule)
    if found is None:
        raise TypeError("cannot pickle 'PyCapsule' object")
    return getattr, found


def _context_var(var: ContextVar[Any]) -> tuple[Any, ...]:
    """A ``ContextVar`` is an attribute of a module, under whatever name; one of the script is made again."""
    found = named.find_indexed(var, named.stamp())
    if found is not None:
        return getattr, found
    try:
        return partial(ContextVar, var.name, default=Context().run(var.get)), ()
    except LookupError:
        return ContextVar, (var.name,)


def _cached(function: Any) -> Any:
    """Find a function under ``lru_cache`` by its name; put a cache around a function that has none."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is not None and resolve_name(module, function.__qualname__) is function:
        return function.__reduce__()
    return recached(function)


def recached(function: Any) -> tuple[Any, ...]:
    """Reduce a function under ``lru_cache`` to the function, and a cache of its own."""
    parameters = function.cache_parameters()
    return Made(lru_cache, parameters["maxsize"], parameters["typed"]), (function.__wrapped__,)


def _plain(obj: Any) -> Any:
    return obj.__reduce_ex__(5)


def _not_of_a_module(reduced: Any) -> bool:
    return type(reduced) is str or reduced[0] is not getattr or not isinstance(reduced[1][0], ModuleType)


def _not_recached(reduced: Any) -> bool:
    return type(reduced) is str or type(reduced[0]) is not Made


def _bare(obj: Any) -> tuple[Any, ...]:
    return type(obj), ()


def table() -> dict[type, Repair]:
    """Return the rules."""
    rules = {
        ModuleType: Repair(BY_NAME, "the other process imports the same module", _module, family=True),
        BuiltinFunctionType: Repair(
            BY_NAME, "it is a function of a module, which the other process imports", _builtin, plain=_not_of_a_module
        ),
        object: Repair(
            BY_NAME,
            "a sentinel is itself only where it is an attribute of its module",
            _plain,
            named=True,
            plain=_not_of_a_module,
        ),
        _Capsule: Repair(BY_NAME, "it is an attribute of a module, whose own the other process has", _capsule),
        ContextVar: Repair(
            BY_NAME,
            "it is its name in a module",
            _context_var,
            otherwise="no module has it, so it is made again under its name, with its default",
        ),
        type(lru_cache(abs)): Repair(
            REBUILD,
            "no module has it under its name; the copy begins with an empty cache",
            _cached,
            plain=_not_recached,
        ),
    }
    random = loaded("random", "SystemRandom")
    if random is not None:
        rules[random] = Repair(REBUILD, "it has no state: it asks the operating system", _bare)
    return rules
