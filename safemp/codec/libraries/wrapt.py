"""wrapt: a decorated function is its name, or its parts wrapped again; a method under a decorator is looked up."""

from __future__ import annotations

import gc
import sys
from functools import partial, update_wrapper
from operator import methodcaller
from typing import Any

from safemp.codec import statics
from safemp.codec.homes import name_elsewhere, resolve_name
from safemp.codec.libraries import loaded
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_any: Any = update_wrapper
_PLACEHOLDERS = {"function": _any, "classmethod": classmethod(_any), "staticmethod": staticmethod(_any)}
"""What stands in until the wrapped function is there, by how that is bound: any function of Python."""

_HOOKS = frozenset(("__new__", "__init__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__"))
"""With one of these a derived class has a way of its own, or wants more than a function and its wrapper."""


def _function(wrapper: Any) -> Any:
    name = name_elsewhere(wrapper)
    if name is not None:
        return name
    cls, inner = type(wrapper), wrapper.__wrapped__
    if _has_its_own_way(cls, loaded("wrapt", "FunctionWrapper")):
        return _its_own(wrapper)
    state = _state(wrapper)
    placeholder = _PLACEHOLDERS.get(wrapper._self_binding)
    if placeholder is None:
        return cls, (inner, wrapper._self_wrapper, wrapper._self_enabled), (None, state) if state else None
    # The function is given afterwards, since it may refer to its own wrapper.
    return cls, (placeholder, wrapper._self_wrapper, wrapper._self_enabled), (None, {"__wrapped__": inner, **state})


def _adapted(wrapper: Any) -> Any:
    name = name_elsewhere(wrapper)
    if name is not None:
        return name
    state = _state(wrapper)
    options = {"enabled": wrapper._self_enabled, "adapter": state.pop("_self_adapter", wrapper._self_adapter)}
    state.pop("_self_surrogate", None)  # which is made of it
    cls: Any = type(wrapper)
    made = partial(cls, wrapper.__wrapped__, wrapper._self_wrapper, **options)
    return made, (), (None, state) if state else None


def _bound(wrapper: Any) -> Any:
    cls, parent = type(wrapper), wrapper._self_parent
    if _has_its_own_way(cls, loaded("wrapt", "BoundFunctionWrapper")) or _state(wrapper):
        return _its_own(wrapper)
    instance = wrapper._self_instance
    owner = getattr(wrapper, "_self_owner", None) or _owner(wrapper)  # wrapt 2 knows it
    holder = owner if instance is None else instance
    place = type(instance) if instance is not None and not isinstance(instance, type) else holder
    if not isinstance(place, type):
        return _its_own(wrapper)
    hidden = () if holder is place else statics.instance_dict(holder) or ()
    for base in place.__mro__:
        for name, value in vars(base).items():
            if value is parent and statics.lookup(place, name) is parent and name not in hidden:
                return getattr, (holder, name)
    return methodcaller("__get__", instance, owner or place), (parent,)  # super()'s, or bound by hand


def _owner(wrapper: Any) -> Any:
    if wrapper._self_instance is not None:
        return type(wrapper._self_instance)
    bound = getattr(wrapper.__wrapped__, "__self__", None)
    if isinstance(bound, type):
        return bound
    path = getattr(wrapper, "__qualname__", "").rpartition(".")[0]
    return resolve_name(sys.modules.get(wrapper.__module__), path) if path else None


def _proxy(proxy: Any) -> Any:
    state = _state(proxy)
    return type(proxy), (proxy.__wrapped__,), (None, state) if state else None


def _state(proxy: Any) -> dict[str, Any]:
    """Return what a program has put on the proxy and not on what it stands for: names that begin with ``_self_``.

    All other ways to a proxy's own dict lead to that of what it stands for. Not of wrapt without its part in C.
    """
    own: Any = next((each for each in gc.get_referents(proxy) if type(each) is dict), {})
    if own is proxy.__wrapped__ or own is getattr(proxy.__wrapped__, "__dict__", None):
        return {}
    return {name: own[name] for name in own if isinstance(name, str) and name.startswith("_self_")}


def _has_its_own_way(cls: Any, plain: Any) -> bool:
    derived = cls.__mro__[: cls.__mro__.index(plain)]
    return any(not _HOOKS.isdisjoint(vars(base)) for base in derived)


def _its_own(wrapper: Any) -> Any:
    try:
        return wrapper.__reduce_ex__(5)
    except NotImplementedError as error:
        if type(wrapper).__module__.startswith("wrapt."):
            raise
        name = type(wrapper).__name__
        raise RefusedError(
            f"cannot pickle {name}, which derives from wrapt's: {error}", f"give {name} a __reduce_ex__"
        ) from None


def table() -> dict[type, Repair]:
    """Return the rules: of proxies, for the classes themselves, since those derived from them may hold more."""
    why = "no module has it under its name; the copy wraps a copy of the function in the same way"
    bound = "it is the attribute of its object or class, or is bound to that again"
    proxies = Repair(RECONSTRUCT, "the copy stands for a copy of what it stands for", _proxy)
    adapted = Repair(RECONSTRUCT, why, _adapted)
    return {
        loaded("wrapt", "FunctionWrapper"): Repair(RECONSTRUCT, why, _function, family=True),
        loaded("wrapt", "BoundFunctionWrapper"): Repair(RECONSTRUCT, bound, _bound, family=True),
        loaded("wrapt.decorators", "_AdapterFunctionWrapper"): adapted,
        loaded("wrapt.decorators", "AdapterWrapper"): adapted,
        loaded("wrapt", "ObjectProxy"): proxies,
        loaded("wrapt", "CallableObjectProxy"): proxies,
    }
