"""The plain record of an exception, and the stand-in that is made from it.

The record needs nothing but builtins to load. When the exception itself does not load
(its class is not here, or is another version), ``revive`` makes the next best thing:
the class itself if it can be imported, otherwise a *stand-in*: a class made on the
spot with the same name, which derives from the nearest importable bases, so that
``except OSError`` still catches it. No constructor runs, and no ``__init_subclass__``
where it can be kept from it. The text is the original's.

Rule 1: neither side raises, whatever user code does.
Rule 2: a stand-in pickles, with plain pickle too, and comes out as a stand-in.
"""

from __future__ import annotations

import builtins
import importlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from types import MemberDescriptorType
from typing import Any, TypeAlias

from safemp.codec.exception_fields import has_fields
from safemp.codec.exception_state import (
    State,
    fields_of,
    group_of,
    is_builtin,
    make,
    read_links,
    read_members,
    read_state,
    text_of,
    write_state,
)
from safemp.codec.lost import Lost
from safemp.codec.rebuild import make_quietly
from safemp.codec.statics import class_dict, lookup, mro, type_name
from safemp.errors import SafempError

__all__ = ["ClassName", "PlainError", "describe", "names_of", "revive", "stand_in", "stand_in_class"]

ClassName: TypeAlias = tuple[str, str]
"""``(module, qualname)``."""

_DEPTH = 20
"""Causes, contexts and members that are followed from one exception. Picked, not measured."""
_NODES = 200
"""Exceptions in one record. Picked, not measured."""
_MOST_TEXT = 1 << 20
"""Characters kept of a text. Picked, not measured."""
_MOST_ITEMS = 1000
"""Elements of a plain container. Picked, not measured."""

_NOT_HERE = "it is left out of the plain record of an exception that did not load"

# Packed: ``(value,)`` for plain data, ``(type name, reason)`` for anything else.
_Packed: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class PlainError:
    """What is known of an exception without loading it.

    Attributes:
        module: Of its class.
        qualname: Of its class.
        bases: ``(module, qualname)`` of the exception classes behind it in the MRO.
        text: ``str(exc)``.
        notes: ``__notes__``.
        args: Packed; see ``values``.
        attributes: ``__dict__`` and slots, packed.
        members: C members of builtin bases, packed.
        suppress: ``__suppress_context__``.
        traceback: A wire value of ``tracebacks``, or ``None``.
        message: Of a group.
        group: Its members; ``None`` for anything but a group.
        cause: ``__cause__``.
        context: ``__context__``.
    """

    module: str
    qualname: str
    bases: tuple[ClassName, ...] = ()
    text: str = ""
    notes: tuple[str, ...] = ()
    args: tuple[_Packed, ...] = ()
    attributes: dict[str, _Packed] = field(default_factory=dict)
    members: dict[str, _Packed] = field(default_factory=dict)
    suppress: bool = False
    traceback: Any = None
    message: str = ""
    group: tuple[PlainError, ...] | None = None
    cause: PlainError | None = None
    context: PlainError | None = None

    def to_wire(self) -> tuple[Any, ...]:
        """Return nested builtins."""
        *flat, group, cause, context = (getattr(self, f.name) for f in fields(self))
        members = None if group is None else tuple(member.to_wire() for member in group)
        return (*flat, members, cause and cause.to_wire(), context and context.to_wire())

    @classmethod
    def from_wire(cls, wire: tuple[Any, ...]) -> PlainError:
        """Read what ``to_wire`` returned."""
        *flat, group, cause, context = wire
        members = None if group is None else tuple(map(cls.from_wire, group))
        return cls(*(*flat, members, cause and cls.from_wire(cause), context and cls.from_wire(context)))


# -- to the record --------------------------------------------------------------------


def describe(exc: BaseException) -> PlainError:
    """Make the plain record of *exc*. Never raises."""
    return _Describe().told(exc, _DEPTH) or PlainError("builtins", "Exception")


class _Describe:
    """One walk over what Python ties to an exception."""

    def __init__(self) -> None:
        self.seen: dict[int, BaseException] = {}
        self.left = _NODES

    def told(self, exc: BaseException | None, depth: int, *, again: bool = False) -> PlainError | None:
        """Describe *exc*; ``None`` when it has been told, unless *again*: then without its links."""
        known = exc is not None and id(exc) in self.seen
        if exc is None or depth < 0 or self.left <= 0 or (known and not again):
            return None
        self.left -= 1
        self.seen[id(exc)] = exc
        facts: dict[str, Any] = {"text": text_of(exc)[:_MOST_TEXT]}
        try:
            facts |= _facts(exc)
            group = group_of(exc)
            if group is not None:  # a group of fewer members would be another one, so these are told again
                members = (self.told(member, depth - 1, again=True) for member in group[1])
                facts["message"], facts["group"] = str.__str__(group[0]), tuple(filter(None, members))
            if not known:
                cause, context = read_links(exc)
                facts["cause"] = self.told(cause, depth - 1)
                facts["context"] = self.told(context, depth - 1) if context is not cause else None
        except BaseException:  # user code of a kind that we did not think of; the text is what matters
            pass
        return PlainError(*names_of(type(exc)), **facts)


def names_of(cls: type) -> tuple[str, str, tuple[ClassName, ...]]:
    """Return module, qualname and the names of the exception classes behind *cls*."""
    names = [_name_of(base) for base in mro(cls) if issubclass(base, BaseException)]
    return *names[0], tuple(names[1:])


def _name_of(cls: type) -> ClassName:
    module = class_dict(cls).get("__module__", "builtins") if not is_builtin(cls) else "builtins"
    qualname = type.__dict__["__qualname__"].__get__(cls)
    return str.__str__(module) if isinstance(module, str) else "?", str.__str__(qualname)


def _facts(exc: BaseException) -> dict[str, Any]:
    state = read_state(exc)
    builtin = read_members(exc, slots=False)
    slots = {key.rpartition(".")[2]: value for key, value in state.get("members", {}).items() if key not in builtin}
    space = {name: value for name, value in state.get("dict", {}).items() if type(name) is str}
    notes = space.pop("__notes__", ())
    group = group_of(exc) is not None
    return {
        "notes": tuple(note for note in notes if type(note) is str) if type(notes) in (list, tuple) else (),
        "args": () if group else tuple(map(_pack, state["args"])),  # a group's are its message and members
        "attributes": {name: _pack(value) for name, value in {**slots, **space}.items()},
        "members": {name: _pack(value) for name, value in builtin.items()},
        "suppress": state.get("suppress", False),
        "traceback": state.get("tb"),
    }


def _pack(value: Any) -> _Packed:
    return (value,) if _is_plain(value, 4) else (type_name(type(value)), _NOT_HERE)


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind in (str, bytes):
        return len(value) <= _MOST_TEXT
    if kind in (int, float, bool, complex, type(None)):
        return True
    if depth and kind in (tuple, list, dict):
        parts: Iterable[Any] = [*value, *value.values()] if kind is dict else value
        return len(value) <= _MOST_ITEMS and all(_is_plain(part, depth - 1) for part in parts)
    return False


# -- back to an exception -------------------------------------------------------------


def revive(plain: PlainError) -> BaseException:
    """Make the exception of a plain record, as near to the original as can be had here.

    Imports the modules of its class and bases, as loading it would. Never raises.
    """
    try:
        return _revive(plain)
    except BaseException:  # rule 1
        return SafempError(f"{plain.module}.{plain.qualname}: {plain.text}")


def _revive(plain: PlainError) -> BaseException:
    group = None if plain.group is None else (plain.message, [revive(member) for member in plain.group])
    cause = plain.cause and revive(plain.cause)
    context = revive(plain.context) if plain.context else cause  # the record leaves out a context that is the cause
    space = {name: _unpack(value, f"exc.{name}") for name, value in plain.attributes.items()}
    if plain.notes:
        space["__notes__"] = list(plain.notes)
    state: State = {
        "args": tuple(_unpack(value, f"exc.args[{i}]") for i, value in enumerate(plain.args)),
        "members": {key: _unpack(value, f"exc.{key.rpartition('.')[2]}") for key, value in plain.members.items()},
        "dict": space,
        "cause": cause,
        "context": context,
        "suppress": plain.suppress,
        "tb": plain.traceback,
    }
    if group is not None and group[1]:
        state["args"] = group
    elif group is not None:  # its members were cut off; a group must have one
        kind = (
            SafempError
            if ("builtins", "ExceptionGroup") in [*plain.bases, (plain.module, plain.qualname)]
            else BaseException
        )
        group = plain.message, [kind("the members of this group did not travel")]
    cls = _import((plain.module, plain.qualname))
    if cls is not None:
        try:
            made = make(cls, *(group or ()))
            write_state(made, _with_slots(made, state))
            if text_of(made) == plain.text and has_fields(made, space):
                return made
        except BaseException:  # a class that cannot be made so
            pass
    bases = ((plain.module, plain.qualname), *plain.bases)
    return stand_in(plain.module, plain.qualname, bases, plain.text, group, state)


def _with_slots(exc: BaseException, state: State) -> State:
    """Move the attributes that are slots or C fields of the class of *exc* from its dict to them."""
    space, members = dict(state["dict"]), dict(state["members"])
    for cls in mro(type(exc)):
        for name, descriptor in class_dict(cls).items():
            if name in space and type(descriptor) is MemberDescriptorType:
                members[f"{cls.__qualname__}.{name}"] = space.pop(name)
    for key in fields_of(type(exc)):
        name = key.rpartition(".")[2]
        if name in space:
            members[key] = space.pop(name)
    return {**state, "dict": space, "members": members}


def _unpack(packed: _Packed, path: str) -> Any:
    return packed[0] if len(packed) == 1 else Lost(packed[0], packed[1], path)


def _import(name: ClassName) -> Any:
    """Return the exception class of that name, or ``None``."""
    module, qualname = name
    try:
        found: Any = sys.modules.get(module) or importlib.import_module(module)
        for part in qualname.split("."):
            found = getattr(found, part)
    except BaseException:  # importing is user code
        return None
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


# -- stand-ins ------------------------------------------------------------------------

_made: dict[tuple[Any, ...], type[BaseException]] = {}
_MOST_MADE = 1000
"""Stand-in classes that are kept, so that two errors of one class share one."""


def stand_in(
    module: str,
    qualname: str,
    bases: tuple[ClassName | type, ...],
    text: str,
    group: tuple[str, list[BaseException]] | None = None,
    state: State | None = None,
) -> BaseException:
    """Make an exception of a class that is not here.

    Args:
        module: Of the class.
        qualname: Of the class.
        bases: What is behind it in its MRO; the first that can be had is its base.
        text: What ``str`` of it gives.
        group: Message and members, for a group.
        state: For ``write_state``; slots may be in its dict.
    """
    cls = stand_in_class(module, qualname, bases, group is not None)
    made = make(cls, *(group or ()))
    lookup(cls, "_safemp_text").__set__(made, text)  # a frozen class has a __setattr__ that refuses
    if state is not None:
        write_state(made, _with_slots(made, state))
    return made


def stand_in_class(
    module: str, qualname: str, bases: tuple[ClassName | type, ...], group: bool = False
) -> type[BaseException]:
    """Return a class of that name, from the nearest of *bases* that can be had."""
    key = (module, qualname, bases, group)
    if key in _made:
        return _made[key]
    chosen: list[type] = []
    for base in bases:
        found = base if isinstance(base, type) else _import(base)
        if found is None or any(issubclass(other, found) for other in chosen):
            continue
        if _new_class(module, qualname, (*chosen, found), key) is not None:  # else: two layouts in one
            chosen.append(found)
    last: type = getattr(builtins, "ExceptionGroup", Exception) if group else Exception
    cls = _new_class(module, qualname, tuple(chosen) or (last,), key)
    assert cls is not None  # each step above was tried
    if len(_made) < _MOST_MADE:
        _made[key] = cls
    return cls


def _new_class(module: str, qualname: str, bases: tuple[type, ...], key: tuple[Any, ...]) -> type[BaseException] | None:
    name = qualname.rpartition(".")[2]
    space = {
        "__slots__": ("_safemp_text", *_names_of_fields(bases)),
        "__module__": module,
        "__qualname__": qualname,
        "__doc__": "Stands for an exception whose class could not be had in this process.",
        "__str__": _text,
        "__reduce__": _reduce,
        "__reduce_ex__": lambda self, protocol: _reduce(self),
        "__setstate__": write_state,
        "_safemp_names": key[:3],
    }
    for way in (make_quietly, type.__call__):  # quietly first: a hook may refuse, or keep a list of the subclasses
        try:
            cls = way(type(bases[0]), name, bases, space)
            if isinstance(cls, type) and issubclass(cls, BaseException):
                make(cls, *(("", [Exception()]) if key[3] else ()))
                return cls
        except BaseException:  # a metaclass, an __init_subclass__, or two layouts in one
            continue
    return None


def _names_of_fields(bases: tuple[type, ...]) -> list[str]:
    """Name the C fields of extension classes: over a read-only one, what the original had can still be put."""
    return sorted({key.rpartition(".")[2] for base in bases if not is_builtin(base) for key in fields_of(base)})


def _text(self: BaseException) -> str:
    text: str = lookup(type(self), "_safemp_text").__get__(self)  # past a __getattribute__
    return text


def _reduce(self: BaseException) -> tuple[Any, ...]:
    args = (*lookup(type(self), "_safemp_names"), _text(self), group_of(self))
    return stand_in, args, read_state(self)
