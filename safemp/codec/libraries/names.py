"""What is looked up by its name: modules, functions of C, and what is an attribute of a module."""

from __future__ import annotations

import sys
from contextvars import Context, ContextVar
from datetime import datetime_CAPI  # the capsule that every Python has
from functools import partial
from importlib import import_module
from types import BuiltinFunctionType, ModuleType
from typing import Any

from safemp.codec import named
from safemp.codec.libraries import loaded
from safemp.codec.repairs import BY_NAME, REBUILD, Repair, importable

__all__ = ["table"]

_Capsule = type(datetime_CAPI)


def _module(module: ModuleType) -> tuple[Any, ...]:
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
    """A ``ContextVar`` is its name in a module; one of the script is made again."""
    for name, module in list(sys.modules.items()):
        space = getattr(module, "__dict__", None)
        if type(space) is not dict or name in ("__main__", "__mp_main__"):
            continue
        for attr in (var.name, var.name.rpartition(".")[2]):
            if space.get(attr) is var and importable(name):
                return getattr, (module, attr)
    try:
        return partial(ContextVar, var.name, default=Context().run(var.get)), ()
    except LookupError:
        return ContextVar, (var.name,)


def _plain(obj: Any) -> Any:
    return obj.__reduce_ex__(5)


def _bare(obj: Any) -> tuple[Any, ...]:
    return type(obj), ()


def table() -> dict[type, Repair]:
    """Return the rules."""
    rules = {
        ModuleType: Repair(BY_NAME, "the other process imports the same module", _module),
        BuiltinFunctionType: Repair(
            BY_NAME, "it is a function of a module, which the other process imports", _builtin, as_pickle=True
        ),
        object: Repair(
            BY_NAME,
            "a sentinel is itself only where it is an attribute of its module",
            _plain,
            named=True,
            as_pickle=True,
        ),
        _Capsule: Repair(BY_NAME, "it is an attribute of a module, whose own the other process has", _capsule),
        ContextVar: Repair(
            BY_NAME, "it is its name in a module; one that no module has comes with its default", _context_var
        ),
    }
    random = loaded("random", "SystemRandom")
    if random is not None:
        rules[random] = Repair(REBUILD, "it has no state: it asks the operating system", _bare)
    return rules
