"""What a function or class that travels by value takes along, and how to spell each part.

cloudpickle saves a function's closure, defaults, annotations, attributes and the globals
that its code names, and a class's metaclass, bases and own attributes. A path through
them starts from the function or class; some of it goes in front (``type(cls)``).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from enum import EnumMeta
from types import FunctionType
from typing import Any, TypeAlias

from safemp.codec import statics
from safemp.codec.paths import key_text

__all__ = ["Put", "class_parts", "dot", "function_parts"]

_ENUM_OWN = frozenset(
    {"_generate_next_value_", "_member_names_", "_member_map_", "_member_type_", "_value2member_map_"}
)
"""What ``EnumMeta`` makes anew from the members."""

Put: TypeAlias = Callable[[tuple[Any, str, str]], None]
"""Takes a part, what goes in front of the path so far, and what after it."""


def function_parts(function: FunctionType, global_values: Mapping[str, Any], put: Put) -> None:
    """Hand what by-value *function* takes along to *put*.

    Args:
        function: The function.
        global_values: Those of its globals that travel with it.
        put: Called with ``(part, before, after)``.
    """
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            put((cell.cell_contents, "", f".__closure__[{name!r}]"))
        except ValueError:  # an empty cell
            continue
    for i, value in enumerate(function.__defaults__ or ()):
        put((value, "", f".__defaults__[{i}]"))
    for attribute in ("__kwdefaults__", "__annotations__"):
        for name, value in (getattr(function, attribute) or {}).items():
            put((value, "", f".{attribute}[{name!r}]"))
    for name, value in function.__dict__.items():
        put((value, "", dot(name)))
    for attribute in ("__module__", "__doc__"):
        put((getattr(function, attribute), "", f".{attribute}"))
    for name, value in global_values.items():
        put((value, "", f".__globals__[{name!r}]"))


def class_parts(cls: type, put: Put) -> None:
    """Hand what by-value *cls* takes along to *put*.

    Mirrors cloudpickle's ``_class_getnewargs`` and ``_class_getstate`` (3.1).

    Args:
        cls: The class.
        put: Called with ``(part, before, after)``.
    """
    space = dict(statics.class_dict(cls))
    put((type(cls), "type(", ")"))
    bases = "__orig_bases__" if "__orig_bases__" in space else "__bases__"
    for i, base in enumerate(getattr(cls, bases)):
        put((base, "", f".{bases}[{i}]"))
    left_out = {"__weakref__", "__dict__", "__annotate_func__", "_abc_impl"}
    if isinstance(space.get("__dict__"), property):
        left_out.discard("__dict__")
    slots = space.get("__slots__", ())
    left_out.update([slots] if isinstance(slots, str) else slots)
    if issubclass(type(cls), EnumMeta):
        for name, member in space["_member_map_"].items():
            left_out.add(name)
            put((member._value_, "", f".{name}._value_"))
        left_out |= _ENUM_OWN
    if "_abc_impl" in space:
        # The registered classes; ``abc`` keeps them in C, and this is how cloudpickle asks for them.
        for i, reference in enumerate(abc._get_dump(cls)[0]):  # type: ignore[attr-defined]
            put((reference(), "list(abc._get_dump(", f")[0])[{i}]()"))
    inherited: dict[str, Any] = {}
    for base in reversed(cls.__bases__):
        inherited.update(statics.class_dict(base))
    for name, value in space.items():
        if name not in left_out and not (name in inherited and inherited[name] is value):
            put((value, "", dot(name) if _reads_as_itself(value) else f".__dict__[{name!r}]"))


def _reads_as_itself(value: Any) -> bool:
    """Tell whether an attribute of a class that holds *value* gives *value* (or what it wraps)."""
    kind = type(value)
    if kind is classmethod:
        return type(value.__func__) is FunctionType
    return kind in (FunctionType, staticmethod, property) or statics.lookup(kind, "__get__") is None


def dot(name: str) -> str:
    """Spell the attribute *name*, whatever characters it is made of."""
    return f".{name}" if name.isidentifier() else f".__dict__[{key_text(name) or ascii(name)}]"
