"""Frozen dataclasses with slots of their own: they pickle, and refuse to be loaded.

pickle sets slots by ``setattr``, which such a class forbids (h11's events are ones). Those that
``dataclass(slots=True)`` has made bring a ``__setstate__`` for it; those whose slots are written
by hand do not (bpo-36424).
"""

from __future__ import annotations

from typing import Any

from safemp.codec import rebuild
from safemp.codec.statics import class_dict, mro

__all__ = ["WHY", "reduce", "refuses_its_slots"]

WHY = "its class forbids assignment, also to pickle: its slots are set past that"

_OWN_WAYS = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")


def refuses_its_slots(cls: type) -> bool:
    """Tell whether objects of *cls* pickle as all do, and refuse their slots when loaded. Runs no user code."""
    spaces = [class_dict(base) for base in mro(cls)[:-1]]
    guard = next((space for space in spaces if "__setattr__" in space), None)
    if guard is None or not getattr(guard.get("__dataclass_params__"), "frozen", False):
        return False
    return any(space.get("__slots__") for space in spaces) and not any(
        way in space for space in spaces for way in _OWN_WAYS
    )


def reduce(obj: Any) -> tuple[Any, ...]:
    """Reduce as pickle does, with another way to set the state."""
    made, args, *rest = obj.__reduce_ex__(5)
    state = rest[0] if rest else None
    if not isinstance(state, tuple):  # no slot has a value
        return (made, args, *rest)
    return made, args, state, None, None, rebuild.set_state
