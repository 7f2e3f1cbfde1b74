"""Parameters of types, and ``type`` aliases, that travel by value.

What such a thing holds (its bound, its default, the value of an alias) Python makes when somebody asks for it: it may
name what is not there, or not there yet, or the very thing. So the thing is made first, by code that asks
for what it holds; and is given that afterwards.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from keyword import iskeyword
from typing import Any

__all__ = ["fill", "make", "take_apart"]

_GIVEN = ("covariant", "contravariant", "infer_variance", "type_params")
_HELD = ("bound", "constraints", "default", "value")
"""What these things are made of. It is in attributes of these names, on the Pythons that have it."""

_ABSENT = {"bound": None, "constraints": (), "default": getattr(typing, "NoDefault", None)}
"""How the attribute says that there is none."""

_ASK = "_safemp_ask"
_MADE = "_safemp_made"

_STATEMENTS = {
    "TypeVar": "def {made}[{name}{bound}{constraints}{default}](): pass",
    "TypeVarTuple": "def {made}[*{name}{default}](): pass",
    "ParamSpec": "def {made}[**{name}{default}](): pass",
    "TypeAliasType": "type {name} = {value}",
}
"""How each of them is made so that it asks."""

_ASKS = {
    "bound": f": {_ASK}('bound')",
    "constraints": f": (*{_ASK}('constraints'),)",
    "default": f" = {_ASK}('default')",
    "value": f"{_ASK}('value')",
}

_LAZY = sys.version_info >= (3, 12)


def take_apart(obj: Any) -> tuple[tuple[Any, ...], Any]:
    """Return what ``make`` makes the same of, and what ``fill`` is to give to that; ``None``: nothing.

    Raises:
        Exception: Making what it holds raises what cannot travel.
    """
    kind, name = type(obj), obj.__name__
    has = vars(kind) if _LAZY else dir(obj)  # asking the object itself would make what it holds
    given = {each: getattr(obj, f"__{each}__") for each in _GIVEN if f"__{each}__" in has}
    held: dict[str, Any] = {}
    late: dict[str, Callable[[int], Any]] = {}
    for each in _HELD:
        if f"__{each}__" not in has:
            continue
        try:
            value = getattr(obj, f"__{each}__")
        except Exception as error:  # a NameError, mostly; it may be any expression
            if type(error) not in _TRAVEL:
                raise
            late[each] = getattr(obj, f"evaluate_{each}", None) or partial(_fail, type(error), error.args)
        else:
            if each == "value" or value is not _ABSENT[each]:
                held[each] = value
    asks = _LAZY and given.get("infer_variance", True) and name.isidentifier() and not iskeyword(name)
    if not asks or not (held or late) or (kind.__name__ == "ParamSpec" and "bound" in held):
        return (kind, name, obj.__module__, {**given, **held}), None
    holder: dict[str, Any] = {}
    return (kind, name, obj.__module__, given, (*held, *late), holder), (holder, held, late)


_TRAVEL = (NameError, AttributeError, ImportError, KeyError, TypeError)
"""What making it may raise, with nothing in the arguments that is not plain."""


def _fail(kind: type[Exception], args: tuple[Any, ...], _format: int) -> Any:
    raise kind(*args)


def make(
    kind: Any,
    name: str,
    module: str | None,
    given: dict[str, Any],
    asks: tuple[str, ...] = (),
    holder: dict[str, Any] | None = None,
) -> Any:
    """Make a parameter or an alias.

    Args:
        kind: Its type.
        name: Its name.
        module: Where it is from.
        given: What it is made of at once.
        asks: What it asks for.
        holder: Where it will find that.
    """
    if holder is None:
        made = kind(name, *given.pop("constraints", ()), **given)
    else:
        parts = {each: _ASKS[each] if each in asks else "" for each in _ASKS}
        code = compile(_STATEMENTS[kind.__name__].format(name=name, made=_MADE, **parts), "<safemp>", "exec")
        if params := given.get("type_params"):  # these, and not ones that the statement makes
            code = code.replace(co_consts=tuple(params if const is None else const for const in code.co_consts))
        space: dict[str, Any] = {"__name__": module, _ASK: partial(_ask, holder)}
        exec(code, space)  # one of the statements above
        made = space[_MADE].__type_params__[0] if _MADE in space else space[name]
    with suppress(AttributeError):  # an alias does not let itself be told
        made.__module__ = module
    return made


def _ask(holder: dict[str, Any], part: str) -> Any:
    held, late = holder["parts"]
    return late[part](1) if part in late else held[part]


def fill(_: Any, state: tuple[dict[str, Any], dict[str, Any], dict[str, Any]]) -> None:
    """Give what it asks for to what ``make`` has made."""
    holder, *parts = state
    holder["parts"] = parts
