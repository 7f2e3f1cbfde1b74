"""Look at an object without running any code of its class.

A class may lie about its name, its module and its ``__class__``, its ``__getattr__`` may
recurse, a property may open a connection. So everything here goes through ``type``'s
own descriptors and through the memory of the object.
"""

from __future__ import annotations

from types import BuiltinFunctionType, CellType, GetSetDescriptorType, MappingProxyType, MemberDescriptorType
from typing import Any

__all__ = [
    "class_dict",
    "has_data_descriptor",
    "instance_dict",
    "is_heap_type",
    "is_written_in_python",
    "lookup",
    "members",
    "module_of",
    "mro",
    "qualname",
    "type_name",
]

_flags_of = type.__dict__["__flags__"].__get__
_mro_of = type.__dict__["__mro__"].__get__
_dict_of = type.__dict__["__dict__"].__get__
_module_of = type.__dict__["__module__"].__get__
_qualname_of = type.__dict__["__qualname__"].__get__

_READABLE: dict[type, tuple[str, ...]] = {
    BaseException: ("args", "__cause__", "__context__"),
    BuiltinFunctionType: ("__self__",),
    CellType: ("cell_contents",),
}
"""Getters of C types which are known to do nothing but read."""


def mro(cls: type) -> tuple[type, ...]:
    """Return the true ``__mro__`` of *cls*."""
    found: tuple[type, ...] = _mro_of(cls)
    return found


def class_dict(cls: type) -> MappingProxyType[str, Any]:
    """Return the true ``__dict__`` of *cls*."""
    found: MappingProxyType[str, Any] = _dict_of(cls)
    return found


def is_heap_type(cls: type) -> bool:
    """Tell whether *cls* was made by a ``class`` statement or like one, not in C as a static type."""
    return bool(_flags_of(cls) & 1 << 9)  # Py_TPFLAGS_HEAPTYPE


def lookup(cls: type, name: str) -> Any:
    """Return what *name* is in *cls* or its bases, unbound; ``None`` if it is nothing."""
    for base in mro(cls):
        space = class_dict(base)
        if name in space:
            return space[name]
    return None


def has_data_descriptor(cls: type, name: str) -> bool:
    """Tell whether instances of *cls* get *name* from the class, past their ``__dict__``."""
    kind = type(lookup(cls, name))
    return lookup(kind, "__set__") is not None or lookup(kind, "__delete__") is not None


def is_written_in_python(cls: type) -> bool:
    """Tell whether *cls* and its bases, but ``object``, come of ``class`` statements: there is no state in C."""
    *classes, _ = mro(cls)
    return all(
        is_heap_type(base) and not class_dict(base).keys().isdisjoint(("__dict__", "__slots__")) for base in classes
    )


def instance_dict(obj: Any) -> dict[str, Any] | None:
    """Return the true ``__dict__`` of *obj*, ``None`` if it has none.

    A class of the user may have a property called ``__dict__``; only C getters count.
    """
    for base in mro(type(obj)):
        found: Any = class_dict(base).get("__dict__")
        if type(found) in (GetSetDescriptorType, MemberDescriptorType) and base is not type:
            try:
                space = found.__get__(obj)
            except Exception:  # a getter of a C type that needs what *obj* lacks
                return None
            return space if isinstance(space, dict) else None
    return None


def members(obj: Any) -> list[tuple[str, Any]]:
    """List ``(name, value)`` of the slots and C members of *obj* that are set."""
    found: list[tuple[str, Any]] = []
    seen: set[str] = set()
    for base in mro(type(obj)):
        readable = _READABLE.get(base, ())
        for name, descriptor in list(class_dict(base).items()):
            if name in seen or name == "__dict__":
                continue
            seen.add(name)
            kind = type(descriptor)
            if kind is MemberDescriptorType or (kind is GetSetDescriptorType and name in readable):
                try:
                    found.append((name, descriptor.__get__(obj)))
                except Exception:  # an empty slot or cell
                    continue
    return found


def module_of(cls: type) -> str | None:
    """Return the name of the module of *cls*; ``None`` if it has none, or something else for it."""
    try:
        module = _module_of(cls)
    except Exception:  # deleted from the class
        return None
    return str.__str__(module) if isinstance(module, str) else None


def qualname(cls: type) -> str:
    """Return the true ``__qualname__`` of *cls*."""
    return str.__str__(_qualname_of(cls))


def type_name(cls: type) -> str:
    """Return ``module.qualname`` of *cls*, without the module if that is ``builtins``."""
    module = module_of(cls)
    return qualname(cls) if module is None or module == "builtins" else f"{module}.{qualname(cls)}"
