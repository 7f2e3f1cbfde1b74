"""What a function or class that travels by value takes along, and how to spell each part.

cloudpickle saves a function's closure, defaults, annotations, attributes and the globals
that its code names, and a class's metaclass, bases and own attributes. A path through
them starts from the function or class; some of it goes in front (``type(cls)``).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dis import get_instructions
from enum import EnumMeta
from inspect import CO_OPTIMIZED
from types import CodeType, FunctionType
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

from safemp.codec import statics, structures
from safemp.codec.paths import key_text

__all__ = ["Put", "annotations_of", "class_parts", "closed_over", "dot", "function_parts", "read_in_class_bodies"]

_ENUM_OWN = frozenset(
    {"_generate_next_value_", "_member_names_", "_member_map_", "_member_type_", "_value2member_map_"}
)
"""What ``EnumMeta`` makes anew from the members."""

Put: TypeAlias = Callable[[tuple[Any, str, str]], None]
"""Takes a part, what goes in front of the path so far, and what after it."""


_annotations_of_class = type.__dict__["__annotations__"].__get__  # noqa: RUF063 - it is what is called


def annotations_of(obj: FunctionType | type) -> tuple[str, Any]:
    """Return the attribute that says the annotations of by-value *obj*, and its value.

    They themselves, if they can be had. From Python 3.14 on they may name what is not there,
    or not there yet; then it is the function that makes them when somebody asks.

    Returns:
        An empty name for a class of which they are an attribute like others, or which has none.
    """
    function = type(obj) is FunctionType
    if not function and "__annotate_func__" not in statics.class_dict(obj):  # type: ignore[arg-type]
        return "", None
    try:
        return "__annotations__", obj.__annotations__ if function else _annotations_of_class(obj)
    except Exception:  # a NameError, mostly; an annotation may be any expression
        return "__annotate__", obj.__annotate__  # type: ignore[union-attr]


_LOADS = ("LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")

_read: WeakKeyDictionary[CodeType, tuple[str, ...]] = WeakKeyDictionary()


def read_in_class_bodies(code: CodeType) -> tuple[str, ...]:
    """Name the globals that a function reads in bodies of classes, and in late annotations of these.

    cloudpickle's ``_extract_code_globals`` does not look for them: there, Python looks a name up
    among what the body has set before it comes to the globals.
    """
    function = code.co_flags & CO_OPTIMIZED and "__classdict__" not in code.co_freevars
    if function and CodeType not in map(type, code.co_consts):
        return ()
    found = _read.get(code)
    if found is None:
        names: dict[str, None] = {}
        stored = {"__name__"}  # every body reads it
        if not function:
            for instruction in get_instructions(code):
                if instruction.opname == "STORE_NAME":
                    stored.add(instruction.argval)
                elif instruction.opname in _LOADS and instruction.argval not in stored:
                    names[instruction.argval] = None
        for const in code.co_consts:
            if type(const) is CodeType:
                names.update(dict.fromkeys(read_in_class_bodies(const)))
        found = _read[code] = tuple(names)
    return found


def closed_over(function: FunctionType) -> dict[str, Any]:
    """Return the variables of a closure by name, those that have a value."""
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # it is empty
            continue
    return found


def function_parts(function: FunctionType, global_values: Mapping[str, Any], put: Put) -> None:
    """Hand what by-value *function* takes along to *put*.

    Args:
        function: The function.
        global_values: Those of its globals that travel with it.
        put: Called with ``(part, before, after)``.
    """
    for name, value in closed_over(function).items():
        put((value, "", f".__closure__[{name!r}]"))
    for i, value in enumerate(function.__defaults__ or ()):
        put((value, "", f".__defaults__[{i}]"))
    for name, value in (function.__kwdefaults__ or {}).items():
        put((value, "", f".__kwdefaults__[{name!r}]"))
    attribute, annotations = annotations_of(function)
    if type(annotations) is FunctionType:
        put((annotations, "", dot(attribute)))
    else:
        for name, value in annotations.items():
            put((value, "", f".{attribute}[{name!r}]"))
    for i, value in enumerate(getattr(function, "__type_params__", ())):  # from Python 3.12 on
        put((value, "", f".__type_params__[{i}]"))
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
    of_ctypes = structures.is_of_ctypes(cls)
    if not of_ctypes or structures.metaclass(cls) is type(cls):
        put((type(cls), "type(", ")"))
    bases = "__orig_bases__" if "__orig_bases__" in space else "__bases__"
    for i, base in enumerate(getattr(cls, bases)):
        put((base, "", f".{bases}[{i}]"))
    left_out = {"__weakref__", "__dict__", "__annotate_func__", "_abc_impl"}
    if isinstance(space.get("__dict__"), property):
        left_out.discard("__dict__")
    left_out |= structures.descriptors(cls) if of_ctypes else set()
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
    attribute, annotations = annotations_of(cls)
    if attribute:
        put((annotations, "", dot(attribute)))


def _reads_as_itself(value: Any) -> bool:
    """Tell whether an attribute of a class that holds *value* gives *value* (or what it wraps)."""
    kind = type(value)
    if kind is classmethod:
        return type(value.__func__) is FunctionType
    return kind in (FunctionType, staticmethod, property) or statics.lookup(kind, "__get__") is None


def dot(name: str) -> str:
    """Spell the attribute *name*, whatever characters it is made of."""
    return f".{name}" if name.isidentifier() else f".__dict__[{key_text(name) or ascii(name)}]"
