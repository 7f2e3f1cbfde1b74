"""wrapt: a decorated function is its name, or its parts wrapped again; a method under a decorator is looked up."""

from __future__ import annotations

import sys
from functools import update_wrapper
from typing import Any

from safemp.codec.homes import goes_by_value, resolve_name
from safemp.codec.libraries import called, loaded
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_any: Any = update_wrapper
_PLACEHOLDERS = {"function": _any, "classmethod": classmethod(_any), "staticmethod": staticmethod(_any)}
"""What stands in until the wrapped function is there, by how that is bound: any function of Python."""


def _function(wrapper: Any) -> Any:
    name = getattr(wrapper, "__qualname__", None)
    if isinstance(name, str) and _found(getattr(wrapper, "__module__", None), name) is wrapper:
        return name
    cls, inner = type(wrapper), wrapper.__wrapped__
    adapters = loaded("wrapt.decorators", "_AdapterFunctionWrapper") or loaded("wrapt.decorators", "AdapterWrapper")
    if cls is adapters:
        options = {"enabled": wrapper._self_enabled, "adapter": wrapper._self_adapter}
        return called(cls, inner, wrapper._self_wrapper, **options)
    plain = loaded("wrapt", "FunctionWrapper")
    if any("__init__" in vars(base) for base in cls.__mro__[: cls.__mro__.index(plain)]):
        return _its_own(wrapper)  # it may want more
    placeholder = _PLACEHOLDERS.get(wrapper._self_binding)
    if placeholder is None:
        return cls, (inner, wrapper._self_wrapper, wrapper._self_enabled)
    # The function is given afterwards, since it may refer to its own wrapper.
    return cls, (placeholder, wrapper._self_wrapper, wrapper._self_enabled), (None, {"__wrapped__": inner})


def _found(module: Any, name: str) -> Any:
    """Return what *name* leads to in a module that other processes import; ``None`` if nowhere."""
    here = isinstance(module, str) and module in sys.modules and not goes_by_value(module)
    return resolve_name(sys.modules[module], name) if here else None


def _bound(wrapper: Any) -> Any:
    owner, name = wrapper._self_instance, getattr(wrapper, "__name__", "")
    if owner is None:
        owner = getattr(wrapper, "_self_owner", None)  # since wrapt 2
    if owner is None:
        place = getattr(wrapper, "__qualname__", "").rpartition(".")[0]
        owner = resolve_name(sys.modules.get(wrapper.__module__), place)
        if not isinstance(owner, type) or vars(owner).get(name) is not wrapper._self_parent:
            return _its_own(wrapper)
    return getattr, (owner, name)


def _its_own(wrapper: Any) -> Any:
    try:
        return wrapper.__reduce_ex__(5)
    except NotImplementedError as error:
        name = type(wrapper).__name__
        raise RefusedError(
            f"cannot pickle {name}, which derives from wrapt's: {error}", f"give {name} a __reduce__"
        ) from None


def _proxy(proxy: Any) -> Any:
    return type(proxy), (proxy.__wrapped__,)


def table() -> dict[type, Repair]:
    """Return the rules: of proxies, for the classes themselves, since those derived from them may hold more."""
    why = "no module has it under its name; the copy wraps a copy of the function in the same way"
    proxies = Repair(RECONSTRUCT, "the copy stands for a copy of what it stands for", _proxy)
    return {
        loaded("wrapt", "FunctionWrapper"): Repair(
            RECONSTRUCT, why, _function, family=True, plain=lambda reduced: type(reduced) is str
        ),
        loaded("wrapt", "BoundFunctionWrapper"): Repair(
            RECONSTRUCT, "it is the attribute of its object that has its name", _bound, family=True
        ),
        loaded("wrapt", "ObjectProxy"): proxies,
        loaded("wrapt", "CallableObjectProxy"): proxies,
    }
