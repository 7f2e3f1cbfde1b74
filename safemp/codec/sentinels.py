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
from safemp.codec.rebuild import Made, reference
from safemp.codec.statics import instance_dict, is_written_in_python, lookup, members

__all__ = ["attribute_of_a_module", "by_name", "may_be_mark", "reduce_mark"]

_WAYS = {way: lookup(object, way) for way in ("__reduce_ex__", "__reduce__", "__getstate__")}


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
    if found is None:
        return None
    function, args = reference(value, found[0].__name__, found[1])
    return Made(function, *args)


def may_be_mark(cls: type) -> bool:
    """Tell whether an object of *cls* is a mark if it has no state, and a module has it."""
    if cls is object:
        return True
    return all(lookup(cls, way) is of_object for way, of_object in _WAYS.items()) and is_written_in_python(cls)


def reduce_mark(value: Any) -> Any:
    """Return the reduce value of a mark of the module of its class, or of any if it has none; else ``NotImplemented``.

    Args:
        value: Of a class that may be one's.
    """
    cls = type(value)
    if cls is object:
        made = attribute_of_a_module(value)
        return NotImplemented if made is None else made.__reduce__()
    if instance_dict(value) or members(value):
        return NotImplemented
    module = sys.modules.get(cls.__module__)  # of others there are too many without state to look everywhere
    for name, each in list(getattr(module, "__dict__", {}).items()):
        if each is value:
            return reference(value, cls.__module__, name)
    return NotImplemented


def _is_stateless(value: Any) -> bool:
    return may_be_mark(type(value)) and not instance_dict(value) and not members(value)
