"""Tracebacks as values, and real traceback objects made from them again.

A frame travels as a tuple of strings and numbers (``Record``). On the other side
each becomes a real traceback object over a real frame, so that ``print_exception``,
``sys.excepthook``, ``pdb.pm()`` and pytest need to know nothing of us. The frame
belongs to a generator that never runs: its code object has the worker's file, names
and first line, and a line table in which every instruction stands at the worker's
exact position. Hence the carets of Python 3.11+ are right, nothing is executed, and the
frame has no ``f_back`` that would keep our caller's variables alive.

tblib does the same by running a ``raise`` statement, and loses the columns and the
first line of the function. It is the second way: where this Python's line tables are
not the ones we can write (checked for each one that we make), its ``Traceback`` makes
the frame. ``tblib.pickling_support.install()`` is never called: it edits a table of
the whole process.

Rule 1: a wire value holds builtins only, is versioned, and has at most ``_FIRST +
_LAST + 1`` frames. (A ``RecursionError`` has a thousand.)
Rule 2: rebuilding never raises. What cannot be read is left out.
Rule 3: source text that travelled is used only where ``linecache`` finds none.

Reading the worker's source goes through ``linecache``, which may read that file: the
one exception to "the codec does no I/O", the same that ``traceback`` makes.
"""

from __future__ import annotations

import linecache
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import islice
from types import CodeType, FunctionType, TracebackType
from typing import Any, TypeAlias

from tblib import Traceback as _TblibTraceback

__all__ = ["decode_traceback", "encode_traceback", "prepend", "reduce_traceback"]

Record: TypeAlias = tuple[Any, ...]
"""``(filename, name, qualname, first line, position, module, file, hidden, source)``:
position is ``(line, end line, column, end column)``, columns in UTF-8 bytes or ``None``;
hidden is ``__tracebackhide__``; source is the text of the position's lines."""

Wire: TypeAlias = tuple[int, tuple[Record, ...]]

_VERSION = 1
_FIRST = 100
_LAST = 100
"""Frames that are kept of a longer traceback, at either end. Picked, not measured."""
_MOST_LINES = 20
"""Source lines that travel for one frame. Picked, not measured."""
_NAMELESS = frozenset({"<string>", "<stdin>", "<unknown>", "<module>", ""})
"""File names that mean many sources: a line remembered for one would be shown for all."""


# -- to values ------------------------------------------------------------------------


def encode_traceback(tb: TracebackType | None) -> Wire | None:
    """Turn a traceback into builtins. Never raises; keeps no frame alive.

    Args:
        tb: A traceback of this process, or ``None``.

    Returns:
        A value for ``decode_traceback``, or ``None`` for no traceback.
    """
    if tb is None:
        return None
    entries: list[TracebackType] = []
    while tb is not None:
        entries.append(tb)
        tb = tb.tb_next
    known: dict[tuple[int, int], Record] = {}  # recursion repeats the same few places
    fresh: set[str] = set()
    if len(entries) <= _FIRST + _LAST + 1:
        return _VERSION, tuple(_record(entry, known, fresh) for entry in entries)
    left_out = len(entries) - _FIRST - _LAST
    head = [_record(entry, known, fresh) for entry in entries[:_FIRST]]
    tail = [_record(entry, known, fresh) for entry in entries[-_LAST:]]
    return _VERSION, (*head, _label(f"<{left_out} more frames>", "..."), *tail)


def _record(tb: TracebackType, known: dict[tuple[int, int], Record], fresh: set[str]) -> Record:
    code, frame = tb.tb_frame.f_code, tb.tb_frame
    key = (id(code), tb.tb_lasti)
    if key not in known:
        module, file = (_text_in(frame.f_globals, name) for name in ("__name__", "__file__"))
        hidden = "__tracebackhide__" in code.co_varnames and frame.f_locals.get("__tracebackhide__") is True
        position = _position(tb)
        source = _source(code.co_filename, position, frame.f_globals, fresh)
        qualname = getattr(code, "co_qualname", code.co_name)  # 3.11
        names = (code.co_filename, code.co_name, qualname, code.co_firstlineno)
        known[key] = (*names, position, module, file, hidden, source)
    return known[key]


def _text_in(space: dict[str, Any], name: str) -> str | None:
    value = space.get(name)
    return value if type(value) is str else None


def _position(tb: TracebackType) -> tuple[int, int, int | None, int | None]:
    code = tb.tb_frame.f_code
    line = tb.tb_lineno or code.co_firstlineno  # None for an instruction without a line
    positions: Callable[[], Iterator[Any]] | None = getattr(code, "co_positions", None)  # 3.11
    if positions is None or tb.tb_lasti < 0:
        return line, line, None, None
    first, last, start, end = next(islice(positions(), tb.tb_lasti // 2, None), (None,) * 4)
    if first != line or last is None or last < line or start is None or end is None:
        return line, line, None, None
    return line, last, start, end


def _source(filename: str, position: tuple[Any, ...], space: dict[str, Any], fresh: set[str]) -> str:
    line, end = position[:2]
    try:
        if filename not in fresh:
            fresh.add(filename)
            linecache.checkcache(filename)
        lines = linecache.getlines(filename, space)
    except BaseException:  # a module's __loader__ is user code
        return ""
    return "".join(lines[line - 1 : min(end, line + _MOST_LINES - 1)])


def _label(filename: str, name: str) -> Record:
    """Make a record that shows text in a traceback's ``File ..., in ...``."""
    return filename, name, name, 1, (1, 1, None, None), None, None, False, ""


# -- and back -------------------------------------------------------------------------


def decode_traceback(wire: Any) -> TracebackType | None:
    """Make real traceback objects. Never raises.

    Args:
        wire: What ``encode_traceback`` returned, here or in another process.

    Returns:
        The outermost traceback; ``None`` for none, or for a value of another version.
    """
    try:
        version, records = wire
        return _linked(records, None) if version == _VERSION else None
    except Exception:  # not ours
        return None


def prepend(filename: str, name: str, tb: TracebackType | None) -> TracebackType | None:
    """Put a line ``File "<filename>", line 1, in <name>`` above *tb*."""
    return _linked([_label(filename, name)], tb)


def reduce_traceback(tb: TracebackType) -> tuple[Any, ...]:
    """Return a reduce value for a traceback object that is an attribute or a result."""
    return decode_traceback, (encode_traceback(tb),)


def _linked(records: Any, tb: TracebackType | None) -> TracebackType | None:
    for record in reversed(records):
        made = _traceback(record)
        if made is not None:
            made.tb_next = tb
            tb = made
    return tb


def _traceback(record: Record) -> TracebackType | None:
    filename, name, qualname, first, position, module, file, hidden, source = record
    space = {"__name__": module or "?", "__file__": file or filename}
    if source:
        _remember(filename, position[0], source)
    try:
        code = _code(filename, name, qualname, first, tuple(position), bool(hidden))
        generator: Any = FunctionType(code, space)(*[True][: code.co_argcount])
        if sys.version_info < (3, 11):
            next(generator)  # a frame that has not started is at its first line there
        return TracebackType(None, generator.gi_frame, 0, position[0])
    except Exception:  # a Python that we do not know
        return _by_tblib(filename, name, position[0], space)


def _by_tblib(filename: str, name: str, line: int, space: dict[str, str]) -> TracebackType | None:
    code = {"co_filename": filename, "co_name": name}
    frame = {"f_globals": space, "f_locals": {}, "f_code": code, "f_lineno": line}
    try:
        made = _TblibTraceback.from_dict({"tb_frame": frame, "tb_lineno": line, "tb_next": None}).as_traceback()
    except Exception:  # rule 2
        return None
    return made if isinstance(made, TracebackType) else None


def _plain() -> Iterator[None]:
    yield


def _hiding(__tracebackhide__: bool) -> Iterator[None]:
    yield


@lru_cache(maxsize=512)
def _code(filename: str, name: str, qualname: str, first: int, position: tuple[Any, ...], hidden: bool) -> CodeType:
    """Make a generator's code object, all of it at *position*."""
    template = (_hiding if hidden else _plain).__code__
    first = min(first, position[0])
    units = len(template.co_code) // 2
    changes: dict[str, Any] = {"co_filename": filename, "co_name": name, "co_firstlineno": first}
    if sys.version_info < (3, 11):
        return template.replace(**changes, co_linetable=_lines_310(units, position[0] - first))
    table = _locations(units, first, *position)
    code = template.replace(**changes, co_qualname=qualname, co_linetable=table)
    if next(code.co_positions()) != position:
        raise ValueError("this Python writes its line tables in another way")
    return code


def _lines_310(units: int, delta: int) -> bytes:
    """Write a line table of Python 3.10 (PEP 626): pairs of bytes covered and lines advanced."""
    steps = b"\x00\x7f" * (delta // 127)
    return steps + bytes([units * 2, delta % 127])


def _locations(units: int, first: int, line: int, end: int, start: int | None, stop: int | None) -> bytes:
    """Write a location table of Python 3.11+ (CPython, InternalDocs/code_objects.md)."""
    table = bytearray()
    delta = line - first
    while units > 0:
        covered = min(units, 8)
        if start is None or stop is None:
            table += bytes([0x80 | 13 << 3 | covered - 1]) + _varint(delta << 1)
        else:
            entry = (delta << 1, end - line, start + 1, stop + 1)
            table += bytes([0x80 | 14 << 3 | covered - 1]) + b"".join(map(_varint, entry))
        units -= covered
        delta = 0
    return bytes(table)


def _varint(value: int) -> bytes:
    written = bytearray()
    while value > 63:
        written.append(0x40 | value & 63)
        value >>= 6
    written.append(value)
    return bytes(written)


# -- source that travelled ------------------------------------------------------------

_travelled: dict[str, dict[int, str]] = {}
"""File name -> line number -> text. For files that ``linecache`` did not have."""
_MOST_FILES = 1000
"""Files whose lines are remembered. Picked, not measured."""
_LAST_LINE = 1_000_000
"""Lines further down are not remembered: the file is laid out with all lines above."""


def _remember(filename: str, line: int, source: str) -> None:
    """Offer *source* to ``linecache``, for when it finds nothing better."""
    entry: Any = linecache.cache.get(filename)
    if entry is not None and (filename not in _travelled or (len(entry) > 1 and entry[1] is not None)):
        return  # found by linecache itself
    if filename in _NAMELESS or line > _LAST_LINE or (filename not in _travelled and len(_travelled) >= _MOST_FILES):
        return
    lines = _travelled.setdefault(filename, {})
    for at, text in enumerate(source.splitlines(), line):
        lines[at] = text

    def whole() -> str:
        last = max(list(lines))  # a copy: another thread may add to it
        return "".join(f"{lines.get(at, '')}\n" for at in range(1, last + 1))

    cache: dict[str, Any] = linecache.cache
    if filename.startswith("<") and filename.endswith(">"):  # linecache never looks for those
        text = whole()
        cache[filename] = (len(text), None, text.splitlines(True), filename)
    else:
        # A lazy entry, as ``linecache.lazycache`` makes them: the file itself comes
        # first when it is there, and is not even looked for until somebody prints.
        cache[filename] = (whole,)
