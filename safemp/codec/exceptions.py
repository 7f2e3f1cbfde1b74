"""Exceptions to bytes and back: what was raised in a worker, raised here.

A record has two tiers. The *rich* one is a pickle, seen to load and to be equal before
it is sent: of the whole exception (``exception_reduce``), or if that does not do, of
its parts (``exception_rescue``). The *plain* one (``exception_plain``) needs nothing
but builtins, and is read when the rich one does not load on the other side.

Rule 1: ``encode_error`` and ``decode_error`` never raise, whatever user code does in
``__reduce__``, ``__setstate__``, ``__str__``, ``__getattr__``, a property or a metaclass.
Rule 2: what the user set is not touched: no note is added, no cause replaced. Where it
happened is told by a line at the top of the traceback.
Rule 3: a record names no class of safemp; it is written by ``marshal`` in a format that
every Python reads, so its outer layer cannot fail to load for want of a module.
``marshal`` trusts what it reads, so a checksum is compared first.
"""

from __future__ import annotations

import marshal
import struct
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from safemp.codec.exception_plain import PlainError, describe, names_of, revive
from safemp.codec.exception_reduce import has_own_way, in_order, reduce_exception, same_class
from safemp.codec.exception_rescue import ATOMS, Dump, Load, rescue
from safemp.codec.exception_state import linked, read_state, same_text, text_of
from safemp.codec.lost import Lost
from safemp.codec.tracebacks import prepend
from safemp.errors import FrameError

__all__ = ["Lost", "PlainError", "Where", "decode_error", "encode_error", "plain_of", "reduce_exception"]

_VERSION = 1
_MARSHAL = 2
"""The marshal format that all supported Pythons write and read."""
_CHECKSUM = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Where:
    """The place of a call.

    Attributes:
        fn: The function's name, ``module.qualname``.
        item: The item's index in the user's iterable; ``None`` outside of maps.
        pid: Of the worker.
        host: Of the worker.
    """

    fn: str
    item: int | None
    pid: int
    host: str

    def __str__(self) -> str:
        return f"in worker {self.pid} of {self.host}: {self._call()}"

    def _call(self) -> str:
        return self.fn if self.item is None else f"{self.fn}, items[{self.item}]"


# -- the worker's side ----------------------------------------------------------------


def encode_error(exc: BaseException, *, dump: Dump, load: Load, where: Where | None = None) -> bytes:
    """Turn an exception into a record. Never raises.

    Runs user code: ``__reduce__`` and what loading it calls, ``__str__``.

    Args:
        exc: Borrowed; it is not changed.
        dump: The careful pickler's dump, which asks ``reduce_exception`` for exceptions.
        load: Its counterpart.
        where: The call that raised.

    Returns:
        Bytes for ``decode_error``.
    """
    rich = _rich(exc, dump, load)
    place = None if where is None else (str(where.fn), where.item, where.pid, str(where.host))
    try:
        return _write(rich, describe(exc), place)
    except Exception:  # a value that is plain in our eyes and not in marshal's
        module, qualname, bases = names_of(type(exc))
        return _write(rich, PlainError(module, qualname, bases, text_of(exc)), place)


def _write(rich: bytes | None, plain: PlainError, place: Any) -> bytes:
    body = marshal.dumps((_VERSION, rich, plain.to_wire(), place), _MARSHAL)
    return _CHECKSUM.pack(crc32(body)) + body


def _rich(exc: BaseException, dump: Dump, load: Load) -> bytes | None:
    try:
        stream = bytes(dump(exc))
        if _faithful(exc, load(stream)):
            return stream
    except BaseException:  # user code may raise anything, SystemExit included
        pass
    try:
        return bytes(rescue(exc, dump, load))
    except BaseException:  # as above; there is the plain tier
        return None


def _faithful(exc: BaseException, made: Any) -> bool:
    """Tell whether *made* is as *exc* in all that can be compared without trust."""
    if not issubclass(type(made), BaseException):
        return False
    ours, theirs = in_order(exc), in_order(made)
    return len(ours) == len(theirs) and all(map(_equal, ours, theirs))


def _equal(exc: BaseException, made: BaseException) -> bool:
    if not same_class(type(exc), type(made)) or not same_text(exc, made) or len(linked(exc)) != len(linked(made)):
        return False
    if has_own_way(type(exc)):
        return True  # it may drop or change what it likes
    ours, theirs = _values(exc), _values(made)
    return ours.keys() == theirs.keys() and all(_same(value, theirs[key]) for key, value in ours.items())


def _values(exc: BaseException) -> dict[Any, Any]:
    state = read_state(exc)
    found: dict[Any, Any] = {("args", at): value for at, value in enumerate(state["args"])}
    for part in ("members", "dict"):
        found |= {(part, name): value for name, value in state.get(part, {}).items() if type(name) is str}
    return found


def _same(one: Any, other: Any) -> bool:
    """Compare plain values; trust the pickler with any other, whose ``__eq__`` is user code."""
    if type(one) not in ATOMS:
        return True
    return type(one) is type(other) and bool(one == other or one != one)  # the last: NaN


# -- the caller's side ----------------------------------------------------------------


def decode_error(record: Any, *, load: Load) -> BaseException:
    """Make the exception of a record. Never raises, for it may run in anybody's thread.

    Args:
        record: What ``encode_error`` returned; any buffer.
        load: As for ``encode_error``.

    Returns:
        The exception; if it does not load, its class with plain attributes or a
        stand-in; for a record that is damaged, a ``FrameError``.
    """
    try:
        rich, plain, place = _read(record)
    except BaseException as error:
        return FrameError(f"cannot read the record of an exception: {text_of(error)}")
    exc: Any = None
    try:
        if rich is not None:
            exc = load(rich)
    except BaseException:  # user code, while it loads
        exc = None
    if not issubclass(type(exc), BaseException):
        exc = revive(plain)
    return _placed(exc, place)


def plain_of(record: Any) -> PlainError:
    """Return the plain tier of a record, without running user code.

    Raises:
        FrameError: The record is damaged.
    """
    try:
        return _read(record)[1]
    except Exception as error:
        raise FrameError(f"cannot read the record of an exception: {error}") from error


def _read(record: Any) -> tuple[bytes | None, PlainError, Any]:
    body = memoryview(record)[_CHECKSUM.size :]
    if _CHECKSUM.unpack_from(record)[0] != crc32(body):
        raise ValueError("it is damaged")
    version, rich, plain, place = marshal.loads(body)
    if version != _VERSION:
        raise ValueError(f"version {version} found, {_VERSION} expected")
    return rich, PlainError.from_wire(plain), place


_tb = BaseException.__dict__["__traceback__"]


def _placed(exc: BaseException, place: Any) -> BaseException:
    if place is not None:
        where = Where(*place)
        above = f"<worker {where.pid} of {where.host}>"
        _tb.__set__(exc, prepend(above, where._call(), _tb.__get__(exc)))
    return exc
