"""Marks that mean something only by being that one object: ``_unset = object()``.

A copy of such a mark is another mark, and ``value is _unset`` no longer true. So it
travels by the name that some module has for it.

Rule 1: a mark is an object without any state, of a class written in Python, that is an
attribute of an importable module. What has state could be another there by now.
"""

from __future__ import annotations

from typing import Any

from safemp.codec import named
from safemp.codec.rebuild import Made, look_up
from safemp.codec.statics import class_dict, instance_dict, is_heap_type, lookup, members, mro, type_name

__all__ = ["by_name"]

_WAYS = ("__reduce_ex__", "__reduce__", "__getstate__")


def by_name(value: Any) -> Any:
    """Return what to send in the place of *value*: itself, unless it is a mark."""
    if not _is_stateless(value):
        return value
    found = named.find_indexed(value, named.stamp())
    if found is None:
        return value
    module, name = found
    return Made(look_up, module.__name__, name, type_name(type(value)))


def _is_stateless(value: Any) -> bool:
    cls = type(value)
    if cls is object:
        return True
    *classes, _ = mro(cls)
    return (
        all(
            is_heap_type(base) and not class_dict(base).keys().isdisjoint(("__dict__", "__slots__")) for base in classes
        )
        and not any(lookup(cls, way) is not lookup(object, way) for way in _WAYS)
        and not instance_dict(value)
        and not members(value)
    )
