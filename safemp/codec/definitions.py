"""Definitions of by-value globals: what goes ahead of a stream that refers to them.

A definition is one global, pickled. It is kept, so that a script's own functions and classes cost
little more than imported ones. That it has not changed since is told by looking at it (functions and
classes), or by a trace of it, which is pickling it once more, large buffers excepted.

    table  = 0x00, length, checksum, marshal of (attributes by key, groups)
    stream = table, then one pickle

A group is the names, the pickle of the tuple of their values, and a checksum of what that
refers to: only to itself and to groups before it. When one of these is another, so is the group.

A table that many calls have in common may travel *apart* from them, once:

    stream = 0x01, checksum of the table, then one pickle
"""

from __future__ import annotations

import abc
import atexit
import marshal
import struct
import sys
from collections.abc import Callable
from graphlib import CycleError, TopologicalSorter
from reprlib import recursive_repr
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType, ModuleType
from typing import Any, Protocol, cast
from zlib import crc32

from safemp.codec import namespaces
from safemp.codec.frames import Buffer
from safemp.codec.homes import Home, Needs, generation, goes_by_value, home_of
from safemp.codec.record import Count
from safemp.errors import FrameError

__all__ = [
    "ATOMS",
    "MADE",
    "Name",
    "OfMap",
    "Write",
    "define",
    "is_fixed",
    "known_prefix",
    "offer",
    "prefix",
    "refers_apart",
    "split",
]

Name = tuple[str, str]
"""The key of a namespace and the name of a global in it."""


class Pickled(Protocol):
    """One global, as pickled just now."""

    direct: set[Name]
    needs: Needs
    repairs: int

    def trace(self) -> Any:
        """Return what is equal if another one has the same content."""

    def blob(self) -> tuple[bytes, Callable[[], Any]]:
        """Return all of it in one, and what makes the trace of that."""


class Write(Protocol):
    """Pickles definitions. It lives for one stream."""

    def __call__(self, values: tuple[Any, ...], needs: Needs, inside: frozenset[Name], /) -> tuple[bytes, set[Name]]:
        """Pickle a tuple of values, of which the names are given.

        What else the values need is added to *needs*.

        Returns:
            The pickle, and the other by-value globals it names.
        """

    def one(self, name: Name, value: Any, home: Home, /) -> Pickled:
        """Pickle the tuple of one global, once."""

    def trace(self, name: Name, value: Any, home: Home, /) -> Any:
        """Return the trace of a global as it is now; ``None``: it cannot be pickled."""

    def identity(self, cls: type, /) -> str:
        """Return what tells a class from every other, however it changes."""


_HEAD = struct.Struct("<BII")
_MARK, _APART = 0, 1
"""A pickle begins with 0x80."""

_REFERENCE = struct.Struct("<BI")

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, type(Ellipsis)})
"""Types whose instances hold no other object, and never change."""

_LARGE = 1 << 20
"""Bytes of a table, of which sort only the latest is kept. Picked."""

_LARGEST = 1 << 28
"""Bytes of one that is not: then each call costs as much as the first. Picked."""

_SMALL = 1 << 16
"""Bytes of a definition that is kept beside its tables. Picked."""

_KEPT = 4096
"""Definitions kept. More than a script has; then all are forgotten."""


class _Definition:
    """One global as it was pickled.

    What is told by its trace is not held, nor is what it names: that may be large, and the caller done with it.

    Args:
        name: Its.
        home: Where it is.
        value: It.
        pickled: It.
        same: A test that it is the same; ``None``: its trace tells.
    """

    __slots__ = ("_home", "_name", "_named", "_same", "_trace", "_value", "blob", "direct", "needs", "repairs")

    def __init__(self, name: Name, home: Home, value: Any, pickled: Pickled, same: Callable[[], bool] | None) -> None:
        blob, trace = pickled.blob()
        self._name = name
        self._home = home
        self._same = same
        self._value = None if same is None else value
        self._trace = trace() if same is None else None
        self.blob: bytes | None = blob
        self.direct: set[Name] = pickled.direct
        self.needs: list[tuple[Home, str]] = [(pickled.needs.homes[key], needed) for key, needed in pickled.needs.names]
        self.repairs: int = pickled.repairs
        self._named = [
            (space, needed, id(found) if same is None else found)
            for where, needed in self.needs
            if (where.key, needed) in self.direct
            for space in [where.space]
            for found in [space.get(needed)]
        ]

    @property
    def is_traced(self) -> bool:
        """Whether its trace tells, and looking takes as long as pickling."""
        return self._same is None

    def holds_for(self, value: Any, write: Write) -> bool:
        """Tell whether pickling *value* now would give the same."""
        try:
            if self._same is None:
                return write.trace(self._name, value, self._home) == self._trace and all(
                    id(space.get(name)) == was for space, name, was in self._named
                )
            return (
                value is self._value
                and self._same()
                and (not self._named or all(space.get(name) is was for space, name, was in self._named))
            )
        except ValueError:  # a cell has been emptied since
            return False


_kept: dict[Name, _Definition] = {}


class _Generation:
    of_kept = (0, 0)


class OfMap(list[Buffer]):
    """Takes the table of definitions that the chunks of a map have in common, as it was when the first was pickled."""

    def __init__(self) -> None:
        super().__init__()
        self._needs = Needs()
        self._table: _Prefix | None = None

    def ahead(self, needs: Needs) -> bytes | None:
        """Return what goes ahead of a stream with those *needs*; ``None``: a table is to be made of ``all_of`` them."""
        if self._table is None or not needs.names.keys() <= self._needs.names.keys():
            return None
        return self._table.ahead(self)

    def all_of(self, needs: Needs) -> Needs:
        """Return what the chunks have needed so far, and this one needs."""
        found = Needs()
        for each in (self._needs, needs):
            for key, name in each.names:
                found.add(each.homes[key], name)
        return found

    def take(self, needs: Needs, made: _Prefix) -> bytes:
        """Take the table for all *needs*."""
        self._needs, self._table = needs, made
        return made.ahead(self)


def prefix(needs: Needs, write: Write, *, keep: bool = True, apart: list[Buffer] | None = None) -> bytes:
    """Pickle every global in *needs*, and those which these need in turn.

    Args:
        needs: Grows by what is found.
        write: Pickles.
        keep: What is written now may serve again.
        apart: Takes the table, if it is the same as last time, or many will need it (``OfMap``); ``None``: it
            always goes ahead.

    Returns:
        What goes ahead of the stream; nothing, if nothing is needed.

    Raises:
        Exception: Whatever pickling raises.
    """
    if _Generation.of_kept != generation():
        _forget()  # what they name may go by value now
        _Generation.of_kept = generation()
    if not any(name in needs.homes[key].space for key, name in needs.names):
        return b""
    of_map = apart if isinstance(apart, OfMap) else None
    if of_map is not None:
        if (ahead := of_map.ahead(needs)) is not None:
            return ahead
        needs = of_map.all_of(needs)
    asked = tuple(needs.names)
    known = _prefixes.get(asked)
    if known is not None:
        if known.holds(write):
            return known.ahead(apart) if of_map is None else of_map.take(needs, known)
        if keep:
            _drop(asked)
    groups: dict[tuple[Name, ...], tuple[bytes, set[Name]]] = {}
    parts: list[tuple[dict[str, Any], str, _Definition | None]] = []
    done = 0
    while done < len(needs.names):
        for name in list(needs.names)[done:]:
            done += 1
            space = needs.homes[name[0]].space
            definition = None
            if name[1] in space:
                definition, groups[(name,)] = _define(name, space[name[1]], needs, write, keep)
            parts.append((space, name[1], definition))
    ordered = _in_order(groups, needs, write)
    attrs = {key: _plain(home.attrs) for key, home in needs.homes.items()}
    table = marshal.dumps((attrs, _with_checksums(ordered, groups, needs, write)))
    made = _Prefix(parts, _HEAD.pack(_MARK, len(table), crc32(table)) + table)
    if of_map is not None:
        return of_map.take(needs, made)
    same, _last[asked] = _last.get(asked) == made.reference, made.reference
    # What is seen for the first time may be used once.
    if keep and made.size <= _LARGEST and (same or not any(d is not None and d.is_traced for _, _, d in parts)):
        _keep(asked, made)
    return made.ahead(apart if same and keep else None)


def _keep(asked: tuple[Name, ...], made: _Prefix) -> None:
    """Keep the table for some names."""
    if made.size > _LARGE:
        for names in [names for names, each in list(_prefixes.items()) if each.size > _LARGE]:
            _drop(names)
    _prefixes[asked] = made
    if len(asked) == 1:
        _of_one[asked[0][1]] = made


def _drop(asked: tuple[Name, ...]) -> None:
    """Keep the table for some names no more."""
    dropped = _prefixes.pop(asked, None)  # another thread may have been faster, here and below
    if dropped is not None and _of_one.get(asked[0][1]) is dropped:
        _of_one.pop(asked[0][1], None)


def _with_checksums(
    ordered: list[tuple[Name, ...]], groups: dict[tuple[Name, ...], tuple[bytes, set[Name]]], needs: Needs, write: Write
) -> list[namespaces.Group]:
    """Return groups as they travel."""
    found: list[namespaces.Group] = []
    places: dict[Name, namespaces.Group] = {}
    for group in ordered:
        blob, direct = groups[group]
        checksum = 0
        for name in sorted(direct - set(group)):
            value = needs.homes[name[0]].space.get(name[1]) if name[0] in needs.homes else None
            if issubclass(type(value), type):  # a class is changed where it is; only another one is another
                checksum = crc32(write.identity(cast("type", value)).encode(), checksum)
            elif name in places:
                _, _, of_it, below = places[name]
                checksum = crc32(of_it, checksum ^ below)
        made = group[0][0], tuple(name for _, name in group), blob, checksum
        found.append(made)
        places.update(dict.fromkeys(group, made))
    return found


def known_prefix(name: str, space: dict[str, Any], write: Write, apart: list[Buffer] | None) -> bytes | None:
    """Return what ``prefix`` would give for the global *name* of *space* alone, if that is known."""
    known = _of_one.get(name)
    if known is None or known.space is not space or _Generation.of_kept != generation() or not known.holds(write):
        return None
    return known.ahead(apart)


class _Prefix:
    """What was made for some names, while none of their definitions changes."""

    __slots__ = ("_parts", "_repairs", "_table", "reference", "size", "space")

    def __init__(self, parts: list[tuple[dict[str, Any], str, _Definition | None]], table: bytes) -> None:
        self._parts = parts
        self._repairs = sum(d.repairs for _, _, d in parts if d is not None)
        self.space: dict[str, Any] = parts[0][0]
        self.size: int = len(table)
        self._table = table
        self.reference: bytes = _REFERENCE.pack(_APART, _HEAD.unpack_from(table)[2])

    def ahead(self, apart: list[Buffer] | None) -> bytes:
        """Return what goes ahead of a stream; the table itself goes into *apart*, unless that is ``None``."""
        if self._repairs:
            Count.repairs += self._repairs
        if apart is None:
            return self._table
        apart.append(self._table)
        return self.reference

    def holds(self, write: Write) -> bool:
        for space, name, definition in self._parts:
            if name in space if definition is None else not definition.holds_for(space.get(name), write):
                return False
        return True


_prefixes: dict[tuple[Name, ...], _Prefix] = {}

_of_one: dict[str, _Prefix] = {}
"""Those for one global, by its name: the latest of that name."""

_last: dict[tuple[Name, ...], bytes] = {}
"""The reference to the latest table for some names."""


def _forget() -> None:
    """Hold no globals any more: the script's end with it, and their ``__del__`` finds all that it uses."""
    _kept.clear()
    _prefixes.clear()
    _of_one.clear()
    _last.clear()


atexit.register(_forget)


def _plain(attrs: dict[str, Any]) -> dict[str, Any]:
    """Leave the attributes that marshal takes: a package's ``__path__`` may be lazy."""
    found: dict[str, Any] = {name: value for name, value in attrs.items() if value is None or type(value) is str}
    if "__path__" in attrs:
        found["__path__"] = [str(part) for part in attrs["__path__"]]
    return found


def define(name: Name, value: Any, needs: Needs, write: Write, keep: bool) -> tuple[bytes, set[Name]]:
    """Pickle one global.

    Args:
        name: Its own.
        value: What it is.
        needs: Takes what it needs.
        write: Pickles.
        keep: What is written now may serve again.

    Returns:
        The pickle, and the other by-value globals it names.

    Raises:
        Exception: Whatever pickling raises.
    """
    return _define(name, value, needs, write, keep)[1]


def _define(
    name: Name, value: Any, needs: Needs, write: Write, keep: bool
) -> tuple[_Definition, tuple[bytes, set[Name]]]:
    definition = _kept.get(name)
    blob = None if definition is None else definition.blob
    if definition is None or blob is None or not definition.holds_for(value, write):
        home, same = needs.homes[name[0]], _sameness(value)
        definition = _Definition(name, home, value, write.one(name, value, home), same)
        blob = definition.blob
        assert blob is not None, "it has just been pickled"
        if len(blob) > _SMALL:
            definition.blob = None
        if keep:
            if len(_kept) >= _KEPT and name not in _kept:
                _forget()
            _kept[name] = definition
    for home, needed in definition.needs:
        needs.add(home, needed)
    return definition, (blob, definition.direct)


def _in_order(
    groups: dict[tuple[Name, ...], tuple[bytes, set[Name]]], needs: Needs, write: Write
) -> list[tuple[Name, ...]]:
    """Order *groups* so that each refers to earlier ones; merge those in a cycle."""
    if not any(direct for _, direct in groups.values()):
        return list(groups)
    while True:
        group_of = {name: group for group in groups for name in group}
        order: TopologicalSorter[tuple[Name, ...]] = TopologicalSorter(
            {g: {group_of[n] for n in direct if n in group_of} - {g} for g, (_, direct) in groups.items()}
        )
        try:
            return list(order.static_order())
        except CycleError as error:
            merged = tuple(dict.fromkeys(name for group in dict.fromkeys(error.args[1]) for name in group))
            for group in set(error.args[1]):
                del groups[group]
            values = tuple(needs.homes[key].space[name] for key, name in merged)
            groups[merged] = write(values, needs, frozenset(merged))


# -- what can be told not to have changed ---------------------------------------------


def _always() -> bool:
    return True


def _sameness(value: Any) -> Callable[[], bool] | None:
    """Return a test that the pickle of *value*, the same object, is still the same.

    ``None``: there is none; it can change without a trace.
    """
    if is_fixed(value):
        return _always
    if type(value) is FunctionType:
        return _function_sameness(value)
    if isinstance(value, type):
        return _class_sameness(value)
    return None


def is_fixed(value: Any) -> bool:
    """Tell whether *value* is immutable, or is found by its name."""
    cls = type(value)
    if cls in ATOMS or cls is BuiltinFunctionType:
        return True
    if cls in (tuple, frozenset):
        return all(map(is_fixed, value))
    if cls is ModuleType:
        return not goes_by_value(value.__name__)
    if cls is FunctionType:
        return isinstance(home_of(value.__globals__, value.__globals__.get("__name__")), str)
    if isinstance(value, type):
        module = sys.modules.get(value.__module__) if isinstance(value.__module__, str) else None
        return module is not None and isinstance(home_of(module.__dict__, value.__module__), str)
    return False


def _function_sameness(function: FunctionType) -> Callable[[], bool] | None:
    code, defaults, closure = function.__code__, function.__defaults__, function.__closure__
    wrapped = function.__dict__.get("__wrapped__")
    if type(wrapped) is FunctionType and code.co_filename == recursive_repr.__code__.co_filename:
        # The __repr__ of a dataclass: what its closure holds is of no account.
        return _function_sameness(wrapped)
    if function.__dict__ or function.__kwdefaults__ or not all(map(is_fixed, defaults or ())):
        return None
    contents = []
    for cell in closure or ():
        try:
            contents.append(cell.cell_contents)
        except ValueError:  # empty, and may be filled
            return None
    # A method's ``__class__`` is a class; what a class holds is its own business.
    if not all(is_fixed(content) or isinstance(content, type) for content in contents):
        return None
    cells = list(zip(closure or (), contents, strict=True))

    def same() -> bool:
        return (
            function.__code__ is code
            and function.__defaults__ is defaults
            and not function.__kwdefaults__
            and not function.__dict__
            and (not cells or all(cell.cell_contents is content for cell, content in cells))
        )

    return same


_DESCRIPTORS = (MemberDescriptorType, GetSetDescriptorType)

MADE = frozenset(
    {
        "__abstractmethods__",
        "__annotate_func__",
        "__annotations__",
        "__annotations_cache__",
        "__dataclass_fields__",
        "__dataclass_params__",
        "__firstlineno__",
        "__match_args__",
        "__orig_bases__",
        "__parameters__",
        "__slotnames__",
        "__slots__",
        "__static_attributes__",
        "_abc_impl",
    }
)
"""Attributes that the class statement, abc, copyreg, dataclasses and typing make, once."""


def _class_sameness(cls: type) -> Callable[[], bool] | None:
    items = {name: value for name, value in vars(cls).items() if name not in MADE}
    tests = []
    for value in items.values():
        if isinstance(value, _DESCRIPTORS):
            continue
        for part in _parts(value):
            if isinstance(part, type) and not is_fixed(part):
                return None
            test = _sameness(part)
            if test is None:
                return None
            if test is not _always:
                tests.append(test)
    bases = cls.__bases__
    registered = abc.get_cache_token() if isinstance(cls, abc.ABCMeta) else None

    def same() -> bool:
        now = vars(cls)
        return (
            cls.__bases__ is bases
            and (registered is None or registered == abc.get_cache_token())
            and all(now.get(name) is value for name, value in items.items())
            and not any(name not in items and name not in MADE for name in now)
            and all(test() for test in tests)
        )

    return same


def _parts(value: Any) -> tuple[Any, ...]:
    if type(value) in (staticmethod, classmethod):
        return (value.__func__,)
    if type(value) is property:
        return (value.fget, value.fset, value.fdel)
    return (value,)


# -- the receiving side ---------------------------------------------------------------


_made: dict[tuple[int, int], tuple[int, int]] = {}
"""The checksums of the tables that were made here of late, by their lengths and hashes, and what ``changes``
was then: if nothing has been defined since, there is nothing to do about them."""

_MOST_MADE = 64


def are_in(stream: Buffer) -> bool:
    """Tell whether a stream needs definitions."""
    return stream[0] in (_MARK, _APART)


def refers_apart(stream: Buffer) -> bool:
    """Tell whether a stream needs a table of definitions that travels apart from it."""
    return len(stream) > 0 and stream[0] == _APART


def split(stream: Buffer, apart: Buffer | None, load: Callable[[bytes], Any]) -> Buffer:
    """Take the definitions off *stream*, and make them.

    Args:
        stream: What was sent.
        apart: The table that *stream* refers to, if it has none itself.
        load: Loads one pickle.

    Returns:
        The rest: one pickle.

    Raises:
        FrameError: The table is damaged, or not the one that *stream* refers to.
        BaseException: Whatever user code raises while it is loaded.
    """
    if not are_in(stream):
        return stream
    if stream[0] == _APART:
        size, (_, checksum) = _REFERENCE.size, _REFERENCE.unpack_from(stream)
        table = bytes(apart or b"")
    else:
        size, checksum = _HEAD.size + _HEAD.unpack_from(stream)[1], None
        table = bytes(stream[:size])
    made, changes = _made.get((len(table), hash(table)), (None, -1))
    if changes != namespaces.changes():
        made = _make(table, load)
    if checksum is not None and checksum != made:
        raise FrameError("cannot read frames: they are cut short, or not written by safemp")
    return memoryview(stream)[size:]


def offer(table: bytes, load: Callable[[bytes], Any]) -> None:
    """Have what *table* defines made when somebody asks a module for it.

    Args:
        table: What ``prefix`` gave; it may be empty.
        load: Loads one pickle.
    """
    if table:
        attrs, groups, _ = _read(table)
        namespaces.offer(attrs, groups, load)


def _make(table: bytes, load: Callable[[bytes], Any]) -> int:
    """Define what *table* says; return its checksum."""
    attrs, groups, checksum = _read(table)
    for group in groups:
        namespaces.define(attrs[group[0]], group, load)
    if len(_made) >= _MOST_MADE:
        _made.clear()
    _made[len(table), hash(table)] = checksum, namespaces.changes()
    return checksum


def _read(table: bytes) -> tuple[dict[str, dict[str, Any]], list[namespaces.Group], int]:
    """Return the attributes and the groups of a table, and its checksum."""
    if len(table) < _HEAD.size:
        raise FrameError("cannot read frames: they are cut short, or not written by safemp")
    _, length, checksum = _HEAD.unpack_from(table)
    body = memoryview(table)[_HEAD.size :]
    if len(body) != length or crc32(body) != checksum:
        raise FrameError("cannot read frames: they are damaged")
    attrs, groups = marshal.loads(body)
    return attrs, groups, int(checksum)
