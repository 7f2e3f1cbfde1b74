"""A call in one line, for the report of its failure. Runs no code of the user's.

Plain builtins are shown, shortened; everything else by the name of its type: a
``__repr__`` may raise, take for ever, or tell secrets. What is called ``password`` or the
like is not shown either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import islice
from types import BuiltinFunctionType, FunctionType
from typing import Any

from safemp.codec.statics import type_name

__all__ = ["describe", "describe_call"]

_TEXT = 40
"""Characters of a text that are shown. Picked, as are the next three."""

_ITEMS = 3
_DEPTH = 2
_ARGUMENTS = 8

_MOST_BITS = 128
"""Of an integer that is shown; the digits of a large one take quadratic time, or are refused."""

_SECRET = re.compile("key|token|secret|passw|credential|auth", re.IGNORECASE)

_BRACKETS: tuple[tuple[type, str, str], ...] = (
    (list, "[", "]"),
    (tuple, "(", ")"),
    (set, "{", "}"),
    (frozenset, "frozenset({", "})"),
)


def describe_call(args: Any, kwargs: Mapping[str, Any]) -> str:
    """Show arguments as they are written in a call: ``(3, 'abc', size=<pkg.Size>)``. Never raises.

    Args:
        args: A tuple or list; of another iterable only the type is shown.
        kwargs: The keywords.
    """
    try:
        if type(args) is not tuple and type(args) is not list:
            args, shown = (), [f"*{describe(args)}"]
        else:
            shown = [describe(value) for value in args[:_ARGUMENTS]]
        left = max(0, len(args) - _ARGUMENTS) + max(0, len(kwargs) - _ARGUMENTS)
        shown += [f"{str.__str__(key)}={_named(key, value)}" for key, value in islice(kwargs.items(), _ARGUMENTS)]
        return f"({', '.join([*shown, f'… {left} more'] if left else shown)})"
    except Exception:  # something changes while we look
        return "(…)"


def _named(name: Any, value: Any, depth: int = _DEPTH) -> str:
    """Show a value that has a name, unless the name says that it is a secret."""
    return f"<{type_name(type(value))}>" if type(name) is str and _SECRET.search(name) else describe(value, depth)


def describe(value: Any, depth: int = _DEPTH) -> str:
    """Show *value* in a few characters.

    Args:
        value: Anything.
        depth: How many levels of containers are shown.

    Raises:
        RuntimeError: Another thread changes a container meanwhile.
    """
    kind = type(value)
    # By identity: a metaclass may have an __eq__ or a __hash__ of its own.
    if value is None or kind is bool or kind is float or kind is complex:
        return repr(value)
    if kind is int:
        bits = value.bit_length()
        return repr(value) if bits <= _MOST_BITS else f"<int of {bits} bits>"
    if kind is str or kind is bytes or kind is bytearray:
        return _shortened(value)
    if (kind is FunctionType or kind is BuiltinFunctionType) and type(value.__qualname__) is str:
        return f"<function {value.__qualname__}>"
    if kind is dict:
        return _dict(value, depth)
    for each, before, after in _BRACKETS:
        if kind is each:
            return _container(value, depth, before, after)
    return f"<{type_name(kind)}>"


def _shortened(value: str | bytes | bytearray) -> str:
    if len(value) <= _TEXT:
        return repr(value)
    unit = "characters" if isinstance(value, str) else "bytes"
    return f"{value[:_TEXT]!r}… ({len(value)} {unit})"


def _container(value: Any, depth: int, before: str, after: str) -> str:
    if value and depth <= 0:
        return f"<{type(value).__name__} of {len(value)}>"
    shown = [describe(item, depth - 1) for item in islice(value, _ITEMS)]
    left = len(value) - len(shown)
    if left:
        shown.append(f"… {left} more")
    elif type(value) is tuple and len(value) == 1:
        shown.append("")
    if not value and "{" in before:
        return f"{type(value).__name__}()"
    return f"{before}{', '.join(shown).rstrip(' ')}{after}"


def _dict(value: dict[Any, Any], depth: int) -> str:
    if value and depth <= 0:
        return f"<dict of {len(value)}>"
    shown = [f"{describe(k, depth - 1)}: {_named(k, v, depth - 1)}" for k, v in islice(value.items(), _ITEMS)]
    left = len(value) - len(shown)
    return f"{{{', '.join([*shown, f'… {left} more'] if left else shown)}}}"
