"""What can honestly be rebuilt on the other side: one reducer for each exact type.

A lock protects the memory of one process; the copy of the object that holds it needs
its own, unlocked. A logger or a module is looked up by its name. Each reducer gives
calls into the standard library wherever it can, so that what it wrote loads anywhere.

Rule 1: matched by type identity, never by a class's name.
Rule 2: what is not honest is refused, also when something lower would copy it
(cloudpickle sends an open text file as a ``StringIO``).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from importlib import import_module
from io import TextIOWrapper
from types import BuiltinFunctionType, ModuleType
from typing import Any

__all__ = ["REFUSED", "REPAIRS", "Repair", "importable", "refuse", "repair_of"]


def importable(name: str) -> bool:
    """Tell whether another process can be expected to import module *name*.

    A module that somebody made in memory is only in this process's ``sys.modules``.
    """
    module = sys.modules.get(name)
    if module is None:
        return False
    if name in sys.builtin_module_names or getattr(module, "__file__", None):
        return True
    spec = getattr(module, "__spec__", None)
    return spec is not None and getattr(spec, "loader", None) is not None


def _lock(_: Any) -> tuple[Any, ...]:
    return threading.Lock, ()


def _rlock(_: Any) -> tuple[Any, ...]:
    return threading.RLock, ()


def _local(_: Any) -> tuple[Any, ...]:
    return threading.local, ()


def _module(module: ModuleType) -> tuple[Any, ...]:
    name = module.__name__
    if sys.modules.get(name) is module and importable(name):
        return import_module, (name,)
    raise TypeError(f"cannot pickle module {name!r}: it exists only in this process")


def _text_file(file: Any) -> tuple[Any, ...]:
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name) or file is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    raise TypeError("cannot pickle '_io.TextIOWrapper' object")


def _builtin(function: Any) -> Any:
    """Find a bound C function again: pybind11 2.x binds functions to a ``PyCapsule``."""
    owner = function.__self__
    if owner is None or isinstance(owner, ModuleType):
        return function.__reduce__()
    if type(owner).__name__ == "PyCapsule":
        home, name = function.__module__, function.__name__
        module = sys.modules.get(home) if isinstance(home, str) else None
        if module is not None and importable(module.__name__) and module.__dict__.get(name) is function:
            return getattr, (module, name)
        raise TypeError("cannot pickle 'PyCapsule' object")
    return function.__reduce__()


REPAIRS: dict[type, Callable[[Any], Any]] = {
    type(threading.Lock()): _lock,
    type(threading.RLock()): _rlock,
    threading.local: _local,
    ModuleType: _module,
    TextIOWrapper: _text_file,
    BuiltinFunctionType: _builtin,
}
"""Reducers by exact type, for a pickler's private ``dispatch_table``."""

REFUSED = {("subprocess", "Popen"), ("threading", "Thread")}
"""``(module, name)`` of classes whose objects would pickle, but are bound to this process."""


def refuse(obj: Any) -> Any:
    """Reduce nothing.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"cannot pickle {type(obj).__name__!r} object: it is bound to this process")


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair is, and why it is honest.

    Attributes:
        kind: ``rebuild``, ``by name``, ``by value``, ``reconstruct`` or ``reopen``.
        why: One sentence for people.
        needs_safemp: The stream calls something of safemp when it is loaded.
    """

    kind: str
    why: str
    needs_safemp: bool = False


_A_LOCK = Repair("rebuild", "a lock protects the memory of one process; the copy gets its own, unlocked")
_HELD = Repair(
    "rebuild", "it is held here; a lock protects the memory of one process, and the copy gets its own, unlocked"
)
_BY_NAME = Repair("by name", "the other side looks the same name up")

ABOUT: dict[type, Repair] = {
    type(threading.Lock()): _A_LOCK,
    type(threading.RLock()): _A_LOCK,
    threading.local: Repair("rebuild", "what a thread has put there belongs to the thread; the copy begins empty"),
    ModuleType: Repair("by name", "the other side imports the module of this name"),
    TextIOWrapper: Repair("by name", "it is a standard stream; the other side uses its own"),
    BuiltinFunctionType: _BY_NAME,
    ContextVar: _BY_NAME,
}
"""What to tell of the repairs above, by exact type."""


def repair_of(obj: Any, reduced: Any) -> Repair | None:
    """Tell by which repair *obj* has the reduce value *reduced*; ``None``: by none. Runs no code of the user's."""
    about = ABOUT.get(type(obj))
    if about is None:
        return None
    if about is _A_LOCK:
        return _HELD if "<locked" in repr(obj) else about
    if type(obj) is BuiltinFunctionType and type(obj.__self__).__name__ != "PyCapsule":
        return None
    if type(obj) is ContextVar and reduced[0] is not getattr:
        return Repair("rebuild", "it is a variable of the script, which is made again under its name", True)
    return about
