"""All that can be seen of an exception, as plain data that any process can compare.

A value becomes its *form*: nested tuples of builtins, from what pickle is told of it
(``__reduce_ex__``). So values are equal without an ``__eq__``, in another process too.

Rule 1: nothing of the codec is used to look, so that it cannot hide its own mistakes.
Rule 2: a value counts if a copy made by stock pickle has the same form: a lock, a
connection or an object with an address in its state does not.
"""

from __future__ import annotations

import copyreg
import re
import types
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from safemp.audit import stock

__all__ = ["Portrait", "portrait", "text_of"]

_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(Ellipsis), type(NotImplemented))
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_DEEPEST = 40
"""Levels of a value that are compared. Picked, not measured."""
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
_space = BaseException.__dict__


@dataclass(frozen=True)
class Portrait:
    """All that can be seen of an exception.

    Attributes:
        cls: Module and qualified name of its class.
        bases: The same of the exception classes behind it.
        text: ``str()`` of it without addresses, or the type of what that raised.
        args: A digest for each of its ``args``; ``None`` where it does not count.
        attributes: The same for each attribute: what is in ``__dict__``, slots and C
            members, public properties.
        notes: ``__notes__``.
        links: Class, text and suppression of cause and context, as far as they go.
    """

    cls: tuple[str, str]
    bases: tuple[tuple[str, str], ...]
    text: str
    args: tuple[bytes | None, ...]
    attributes: dict[str, bytes | None]
    notes: tuple[str, ...]
    links: tuple[Any, ...]


def portrait(exc: BaseException) -> Portrait:
    """Look at *exc*. Runs its ``__str__`` and its public properties."""
    text_of(exc), _computed(exc)  # some exceptions finish themselves when they are first looked at
    space = dict(_space["__dict__"].__get__(exc))
    notes = space.pop("__notes__", ())
    found = {**_computed(exc), **{name: value for name, value in space.items() if type(name) is str}}
    return Portrait(
        _name_of(type(exc)),
        tuple(_name_of(base) for base in type(exc).__mro__[1:] if issubclass(base, BaseException)),
        text_of(exc),
        tuple(map(_digest, _space["args"].__get__(exc))),
        {name: _digest(value) for name, value in sorted(found.items())},
        tuple(map(str, notes)) if isinstance(notes, list | tuple) else (),
        _links(exc),
    )


def text_of(exc: BaseException) -> str:
    """Return ``str(exc)`` without addresses, or what that raised."""
    try:
        return _ADDRESS.sub("0x", str(exc))
    except BaseException as error:  # user code
        return f"<str() raises {type(error).__name__}>"


def _computed(exc: BaseException) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, descriptor in _descriptors(type(exc)):
        if name not in found:
            try:
                found[name] = descriptor.__get__(exc, type(exc))
            except AttributeError:  # an empty slot
                continue
            except BaseException as error:  # user code
                found[name] = f"raises {type(error).__name__}"
    return found


def _descriptors(cls: type) -> Iterable[tuple[str, Any]]:
    """List what gives instances of *cls* attributes beside their ``__dict__``."""
    for base in cls.__mro__[:-1]:
        if base is BaseException:
            continue
        for name, value in list(vars(base).items()):
            stored = isinstance(value, types.MemberDescriptorType)
            computed = isinstance(value, property | types.GetSetDescriptorType) and not name.startswith("_")
            if (stored and not name.startswith("__")) or computed:
                yield name, value


def _links(exc: BaseException) -> tuple[Any, ...]:
    """Describe causes and contexts; a chain is followed to its end, and a cycle once around."""
    order: dict[int, int] = {}
    found: list[Any] = []
    rest: list[BaseException | None] = [exc]
    while rest:
        at = rest.pop(0)
        if at is None or id(at) in order:
            found.append(at if at is None else order[id(at)])
            continue
        order[id(at)] = len(order)
        found.append((_name_of(type(at)), text_of(at), bool(_space["__suppress_context__"].__get__(at))))
        rest += [_space["__cause__"].__get__(at), _space["__context__"].__get__(at)]
    return tuple(found[1:])


def _name_of(cls: type) -> tuple[str, str]:
    return str(cls.__module__), cls.__qualname__


# -- values ---------------------------------------------------------------------------


def _digest(value: Any) -> bytes | None:
    try:
        form = repr(_form(value, {}, 0))
        if type(value) not in _ATOMS and repr(_form(stock.copy(value), {}, 0)) != form:
            return None
    except BaseException:  # it does not pickle, or not so that the copy is equal
        return None
    return blake2b(form.encode("utf-8", "backslashreplace"), digest_size=16).digest()


def _form(value: Any, seen: dict[int, tuple[int, Any]], depth: int) -> Any:
    cls = type(value)
    if cls in _ATOMS:
        return cls.__name__, repr(value)
    if isinstance(value, _NAMED):
        return "named", getattr(value, "__module__", None), getattr(value, "__qualname__", None) or value.__name__
    if cls is not tuple:
        if id(value) in seen:
            return "seen", seen[id(value)][0]
        seen[id(value)] = len(seen), value  # kept, so that no other gets its id
    if depth > _DEEPEST:
        return ("deep",)

    def inner(part: Any) -> Any:
        return _form(part, seen, depth + 1)

    if cls in (list, tuple):
        return cls.__name__, [inner(item) for item in value]
    if cls in (set, frozenset):
        return cls.__name__, sorted(repr(_form(item, {}, depth + 1)) for item in value)
    if cls is dict:
        return "dict", [(inner(key), inner(item)) for key, item in value.items()]
    if isinstance(value, BaseException):
        # Not as pickle is told: another way to make it is not another exception.
        space = {k: v for k, v in _space["__dict__"].__get__(value).items() if k != "__notes__"}
        return _name_of(cls), text_of(value), inner(_space["args"].__get__(value)), inner(space)
    reducer = copyreg.dispatch_table.get(cls)
    reduced: Any = reducer(value) if reducer is not None else value.__reduce_ex__(4)
    if isinstance(reduced, str):
        return "global", cls.__module__, reduced
    function, args, *rest = reduced
    parts = [list(part) if at in (1, 2) and part is not None else part for at, part in enumerate(rest)]
    return _name_of(cls), inner(function), inner(args), [inner(part) for part in parts]
