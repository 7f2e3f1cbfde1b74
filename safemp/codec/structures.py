"""Classes of ctypes that go by value: what they are made of, and in which order.

ctypes makes descriptors out of ``_fields_``, and these cannot be copied; the fields can.
Arrays, pointers and the like are made by a call, and there is one of each in a process.
"""

from __future__ import annotations

import operator
import sys
from typing import Any

from safemp.codec import rebuild
from safemp.codec.homes import resolve
from safemp.codec.statics import class_dict, module_of, mro

__all__ = ["by_call", "descriptors", "is_of_ctypes", "metaclass", "ordered"]

_AT_FIRST = frozenset(
    {"_align_", "_argtypes_", "_flags_", "_layout_", "_length_", "_pack_", "_restype_", "_swappedbytes_", "_type_"}
)
"""What ctypes wants to know when a class is made, or before its fields."""

_FIELDS = ("_anonymous_", "_fields_")
"""What is set when the class is there: a field may be a pointer to it."""

_USE_ERRNO, _USE_LAST_ERROR, _CDECL, _PYTHON = 8, 16, 1, 4
"""ctypes' flags of function types."""


def is_of_ctypes(cls: type) -> bool:
    """Tell whether *cls* is a structure, an array, a pointer or the like."""
    return type(cls) is not type and any(module_of(base) == "_ctypes" for base in mro(type(cls)))


def by_call(cls: Any) -> tuple[Any, ...] | None:
    """Reduce a class of ctypes that has no home, because a call has made it; ``None``: it is no such class."""
    ctypes = sys.modules.get("ctypes")
    if ctypes is None or resolve(sys.modules.get(cls.__module__), cls) is cls:
        return None
    bases = cls.__bases__
    if bases == (ctypes.Array,):
        return operator.mul, (cls._type_, cls._length_)
    if bases == (ctypes._Pointer,) and ctypes.POINTER(cls._type_) is cls:
        return ctypes.POINTER, (cls._type_,)
    if bases == (ctypes._CFuncPtr,) and cls._flags_ & (_CDECL | _PYTHON) == _CDECL and hasattr(cls, "_argtypes_"):
        options = {"use_errno": bool(cls._flags_ & _USE_ERRNO), "use_last_error": bool(cls._flags_ & _USE_LAST_ERROR)}
        args = (cls._restype_, *cls._argtypes_)
        if not any(options.values()) and ctypes.CFUNCTYPE(*args) is cls:
            return ctypes.CFUNCTYPE, args
    for order in ("__ctype_be__", "__ctype_le__"):  # of a simple type with its bytes the other way round
        native = class_dict(cls).get("__ctype_le__" if order == "__ctype_be__" else "__ctype_be__")
        if class_dict(cls).get(order) is cls and native is not None and native is not cls:
            return getattr, (native, order)
    return None


def descriptors(cls: type) -> frozenset[str]:
    """Name what ctypes has put into *cls* for its fields, and for those of anonymous ones."""
    space = class_dict(cls)
    kinds = {type(space[name]) for name, *_ in space.get("_fields_", ()) if name in space}
    return frozenset(name for name, value in space.items() if type(value) in kinds)


def metaclass(cls: type) -> Any:
    """Return the metaclass of *cls*, or what gives it there: those of ctypes itself cannot be imported."""
    return rebuild.Made(type, cls.__bases__[0]) if module_of(type(cls)) == "_ctypes" else type(cls)


def ordered(cls: type, kwargs: dict[str, Any], state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what cloudpickle gives to the class when it is made, and what afterwards, as ctypes wants it."""
    made = descriptors(cls)
    early = {name: value for name, value in state.items() if name in _AT_FIRST}
    fields = {name: state[name] for name in _FIELDS if name in state}
    late = {name: value for name, value in state.items() if not (name in made or name in early or name in fields)}
    return {**kwargs, **early}, {**fields, **late}
