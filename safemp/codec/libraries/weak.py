"""``weakref``: weak references to what travels on its own.

A weak reference keeps nothing alive, so a copy is the same only if something else in
what is sent holds its referent. ``watch`` looks at that when all is written.

What a global of the script refers to weakly may be held by other globals, which no function reads that is sent: then a
weak container holds it there itself.
"""

from __future__ import annotations

import weakref
from collections.abc import Set
from typing import Any

from safemp.codec.rebuild import Made
from safemp.codec.repairs import REBUILD, RefusedError, Repair

__all__ = ["referents", "table"]

_HELD = "_safemp_held"
"""The attribute by which a container does that."""


def _ref(ref: Any) -> tuple[Any, ...]:
    referent = ref()
    if referent is None:
        return weakref.ref, (Made(set),)  # dead on arrival, as it is here
    return (weakref.ref, (referent,)) if ref.__callback__ is None else (weakref.ref, (referent, ref.__callback__))


def _method(ref: Any) -> tuple[Any, ...]:
    method = ref()
    if method is None:
        raise RefusedError("cannot pickle a dead WeakMethod")
    return weakref.WeakMethod, (method,)


def _proxy(proxy: Any) -> tuple[Any, ...]:
    return weakref.proxy, (_behind(proxy),)


def _behind(proxy: Any) -> Any:
    """A proxy passes everything on; a bound method of its referent knows the referent."""
    try:
        return proxy.__reduce_ex__.__self__
    except ReferenceError:
        raise RefusedError("cannot pickle a dead weak proxy") from None


def _by_value(mapping: Any, orphans: Set[int] = frozenset()) -> tuple[Any, ...]:
    return type(mapping), (), _holding(mapping, orphans), None, iter(list(mapping.items()))


def _members(members: Any, orphans: Set[int] = frozenset()) -> tuple[Any, ...]:
    return type(members), (list(members),), _holding(members, orphans)


def _holding(container: Any, orphans: Set[int]) -> dict[str, Any] | None:
    """Return the state by which *container* holds those of its members whose ids these are."""
    held = [each for each in referents(container) if id(each) in orphans] if orphans else []
    return {_HELD: held} if held else None


def referents(obj: Any) -> list[Any]:
    """List what *obj*, of a type in ``table``, refers to weakly."""
    cls = type(obj)
    if cls is weakref.ReferenceType:
        return [obj()]
    if cls is weakref.WeakMethod:
        return [obj().__self__]
    if cls in (weakref.ProxyType, weakref.CallableProxyType):
        return [_behind(obj)]
    if cls is weakref.WeakValueDictionary:
        return list(obj.values())
    return list(obj)


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "what it refers to travels too, and something else holds it there"
    reducers = {
        weakref.ReferenceType: _ref,
        weakref.WeakMethod: _method,
        weakref.ProxyType: _proxy,
        weakref.CallableProxyType: _proxy,
        weakref.WeakValueDictionary: _by_value,
        weakref.WeakKeyDictionary: _by_value,
        weakref.WeakSet: _members,
    }
    holds = {_by_value, _members}
    return {cls: Repair(REBUILD, why, reduce, weak=True, holds=reduce in holds) for cls, reduce in reducers.items()}
