"""Marks that mean something only by being that one object: ``_unset = object()``.

A copy of such a mark is another mark, and ``value is _unset`` no longer true. So it
travels by the name that some module has for it.

Rule 1: a mark is an object without any state, of a class written in Python, that is an
attribute of an importable module. What has state could be another there by now.
"""

from __future__ import annotations

import sys
from typing import Any

from safemp.codec import named
from safemp.codec.inheritance import bound_kind
from safemp.codec.rebuild import Made, look_up
from safemp.codec.statics import instance_dict, is_written_in_python, lookup, members, type_name

__all__ = ["attribute_of_a_module", "by_name", "may_be_mark", "reduce_mark"]

_WAYS = ("__reduce_ex__", "__reduce__", "__getstate__")


def by_name(value: Any) -> Any:
    """Return what to send in the place of *value*: itself, unless it is a mark."""
    if not _is_stateless(value):
        return value
    return attribute_of_a_module(value) or value


def attribute_of_a_module(value: Any) -> Made | None:
    """Return what to send in the place of *value*, which cannot be copied, if a module has it: the name."""
    if bound_kind(type(value)) is not None:
        return None  # the other process's module has another
    found = named.find_indexed(value, named.stamp())
    return None if found is None else Made(look_up, found[0].__name__, found[1], type_name(type(value)))


def may_be_mark(cls: type) -> bool:
    """Tell whether an object of *cls* is a mark if it has no state, and a module has it."""
    if cls is object:
        return True
    return is_written_in_python(cls) and not any(lookup(cls, way) is not lookup(object, way) for way in _WAYS)


def reduce_mark(value: Any) -> Any:
    """Return the reduce value of a mark of the module of its class, or of any if it has none; else ``NotImplemented``.

    Args:
        value: Of a class that may be one's.
    """
    cls = type(value)
    if cls is object:
        made = by_name(value)
        return NotImplemented if made is value else made.__reduce__()
    if instance_dict(value) or members(value):
        return NotImplemented
    module = sys.modules.get(cls.__module__)
    for name, each in list(getattr(module, "__dict__", {}).items()):
        if each is value:
            return look_up, (cls.__module__, name, type_name(cls))
    return NotImplemented


def _is_stateless(value: Any) -> bool:
    return may_be_mark(type(value)) and not instance_dict(value) and not members(value)
