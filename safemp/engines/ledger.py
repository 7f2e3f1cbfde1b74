"""A page of memory that a worker writes; the caller reads it when the worker is dead or silent.

It says which item of which task the worker has begun and when, and it holds outcomes
that were not sent yet. So a crash is blamed on exactly one item, the outcomes before it
are not lost, and nothing that had finished runs again.

    seal, task, began, item, state, flushes, held, row, blank, asked | record, record, ...
    record = task, index, number of frames, their sizes, the frames

or, instead of records, the cells of a row (see ``rows``). ``row`` says of which kind it is,
and which item is its first; the cells that are not ``blank`` any more say how many have
finished. So there is one store for each item, of its value. ``asked`` is the caller's: it
would have items of that task back, for a worker that has nothing to do.

The page outlives its writer, whatever ended it; it has no name in any file system. A task that writes
to descriptors which are not its own breaks the seal: then nothing in the page is believed.

Rule: a number of eight bytes at a multiple of eight is written and read whole. What is
held grows by such a number, after the record; and ``flushes`` is another one before a
record, or a row, is written where an older one was. So a living worker's page can be
read, too.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable
from typing import NamedTuple

from safemp.codec.frames import Frames
from safemp.engines import Outcome, Values, rows

__all__ = [
    "IDLE",
    "LOADING",
    "PAGE",
    "RUNNING",
    "SIZE",
    "Ledger",
    "Progress",
    "Result",
    "pack_result",
    "unpack_results",
]

IDLE, LOADING, RUNNING = 0, 1, 2

Result = tuple[int, int, Outcome | Values]
"""A task's id, the index of its item, the outcome; or those of more items from there on."""

_NO_ITEM = 0xFFFFFFFF

_SEAL = b"\xa5safemp\x5a"
_HEADER = struct.Struct("<QdII")
_HEADER_AT = len(_SEAL)
_STATE = struct.Struct("<I")
_STATE_AT = 28
_NUMBER = struct.Struct("<Q")
_FLUSHES_AT = 32
_HELD_AT = 40
_ROW_AT = 48
_BLANK_AT = 56
_ASKED_AT = 64
_DATA = 72
SIZE = 1 << 16
"""Bytes up to the end of the records. What does not fit is sent at once, which is as durable."""

PAGE = _DATA + rows.CELL * (rows.MOST + 1)
"""Bytes of the whole; what no row has needed takes no memory."""


_RECORD = struct.Struct("<QII")
_RECORD_2 = struct.Struct("<QIIQQ")
"""The same with the sizes of two frames."""


class Progress(NamedTuple):
    """How far a worker is.

    Attributes:
        task: The id of the task it has begun last; 0: none.
        began: When it began the item it is at (``time.monotonic``, which is the same
            clock in every process of a machine).
        item: The index of that item in its task.
        state: ``IDLE``, ``LOADING`` or ``RUNNING``.
    """

    task: int
    began: float
    item: int
    state: int


_NO_PROGRESS = Progress(0, 0.0, 0, IDLE)


def pack_result(task: int, index: int, frames: Frames) -> bytes:
    """Make the record of one outcome."""
    n = len(frames)
    if n == 2:
        return b"".join((_RECORD_2.pack(task, index, 2, len(frames[0]), len(frames[1])), *frames))
    return b"".join((_RECORD.pack(task, index, n), struct.pack(f"<{n}Q", *map(len, frames)), *frames))


def unpack_results(records: bytes | bytearray | memoryview) -> list[Result]:
    """Take records apart again."""
    found: list[Result] = []
    at, total = 0, len(records)
    while at < total:
        task, index, n = _RECORD.unpack_from(records, at)
        sizes = struct.unpack_from(f"<{n}Q", records, at + _RECORD.size)
        at += _RECORD.size + 8 * n
        frames: Frames = []
        for size in sizes:
            frames.append(bytes(records[at : at + size]))
            at += size
        found.append((task, index, frames))
    return found


class Ledger:
    """The page, as either side sees it.

    Args:
        fd: A file of ``PAGE`` bytes that both sides have open; ``-1``: memory that a
            forked child shares. Borrowed; may be closed afterwards.
    """

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, PAGE)
        self._page[: len(_SEAL)] = _SEAL
        self._held = 0
        self._flushes = 0
        self._row: memoryview | None = None
        self._blank = b""

    # -- the worker's side ------------------------------------------------------------

    def is_sealed(self) -> bool:
        """Tell whether nobody has written over the beginning of the page."""
        return self._page[: len(_SEAL)] == _SEAL

    def begin(self, task: int, item: int, state: int, now: float) -> None:
        """Write down that *item* of *task* begins."""
        _HEADER.pack_into(self._page, _HEADER_AT, task, now, item, state)

    def rest(self) -> None:
        """Write down that what had begun is finished."""
        _STATE.pack_into(self._page, _STATE_AT, IDLE)

    def refuse(self, task: int) -> None:
        """Write down that *task* did not load: nothing runs, and none of its items is finished."""
        _HEADER.pack_into(self._page, _HEADER_AT, task, 0.0, _NO_ITEM, IDLE)

    def add(self, record: bytes) -> bool:
        """Hold one more outcome.

        Returns:
            Whether there was room.
        """
        at = _DATA + self._held
        if at + len(record) > SIZE:
            return False
        self._page[at : at + len(record)] = record
        self._held += len(record)
        _NUMBER.pack_into(self._page, _HELD_AT, self._held)  # after the record
        return True

    def flush(self, send: Callable[[bytes], object]) -> None:
        """Send what is held, if anything, then forget it.

        When the worker dies between the two, the caller sees it twice, and tells by the
        index.
        """
        if self._held:
            send(self._page[_DATA : _DATA + self._held])
            self._held = 0
            self._flushes += 1
            _NUMBER.pack_into(self._page, _HELD_AT, 0)
            _NUMBER.pack_into(self._page, _FLUSHES_AT, self._flushes)

    def open_row(self, kind: int, first: int, width: int) -> memoryview:
        """Begin a row; nothing is held. End it with ``close_row``.

        Args:
            kind: Of which it is.
            first: The item of the first one, which has begun.
            width: How many values there may be, at most ``rows.MOST``.

        Returns:
            A cell for each value; what does not fit in raises ``ValueError``.
        """
        if not self._blank:  # a value that no call returns, unless it has looked here
            self._blank = os.urandom(rows.CELL)
            self._page[_BLANK_AT : _BLANK_AT + rows.CELL] = self._blank
        size = width * rows.CELL
        self._page[_DATA : _DATA + size + rows.CELL] = self._blank * (width + 1)
        _NUMBER.pack_into(self._page, _ROW_AT, kind << 32 | first)
        self._row = rows.cells(kind, memoryview(self._page)[_DATA : _DATA + size])
        return self._row

    @property
    def has_row(self) -> bool:
        """Whether a row is open."""
        return self._row is not None

    def close_row(self, n: int, send: Callable[[int, bytes], object]) -> None:
        """Send the first *n* values of the row, then forget it. As ``flush``."""
        assert self._row is not None
        (row,) = _NUMBER.unpack_from(self._page, _ROW_AT)
        self._row.release()
        self._row = None
        if n:
            send(row >> 32, self._page[_DATA : _DATA + n * rows.CELL])
        self._flushes += 1
        _NUMBER.pack_into(self._page, _ROW_AT, 0)
        _NUMBER.pack_into(self._page, _FLUSHES_AT, self._flushes)

    def release_row(self) -> None:
        """Let nothing more be written into the row: a child that a task has forked has it, too."""
        if self._row is not None:
            self._row.release()

    def asked(self) -> int:
        """Return of which task the caller would have items back; 0: of none."""
        asked: int = _NUMBER.unpack_from(self._page, _ASKED_AT)[0]
        return asked

    def at(self) -> tuple[int, int]:
        """Return which task is running and at which of its items; task 0: none is."""
        progress = self.progress()
        return (progress.task, progress.item) if progress.state != IDLE else (0, 0)

    # -- the caller's side ------------------------------------------------------------

    def ask(self, task: int) -> None:
        """Ask the worker to give items of *task* back."""
        _NUMBER.pack_into(self._page, _ASKED_AT, task)

    def progress(self) -> Progress:
        """Return how far the worker is; as if it had begun nothing, if the seal is broken."""
        found = self._read()
        if found is None:
            return _NO_PROGRESS
        progress, kind, first, held = found
        if not kind:
            return progress
        at = first + len(held) // rows.CELL - (progress.state == IDLE)
        return progress._replace(item=max(progress.item, at))

    def held(self) -> list[Result]:
        """Return the outcomes held, among them all that were there when this was called and were not sent since."""
        return self._held_results() or []

    def is_sound(self) -> bool:
        """Tell whether the page is as a worker writes it."""
        return self._held_results() is not None

    def _held_results(self) -> list[Result] | None:
        """Return the outcomes held; ``None``: the page is not as a worker writes it."""
        found = self._read()
        if found is None:
            return None
        progress, kind, first, held = found
        try:
            if not kind:
                return unpack_results(held)
            return [(progress.task, first, rows.unpack(kind, held))] if held else []
        except (struct.error, IndexError):
            return None

    def _read(self) -> tuple[Progress, int, int, bytes] | None:
        """Return the header, the kind of the row (0: there is none), its first item, and what is held.

        ``None``: the seal is broken.

        The worker may go on meanwhile: then we look again, which takes us less than it
        takes it to get there; and what is held now may be behind a task that takes for ever.
        """
        while True:
            before = self._page[:_HELD_AT]
            (held,) = _NUMBER.unpack_from(self._page, _HELD_AT)
            (row,) = _NUMBER.unpack_from(self._page, _ROW_AT)
            data = self._page[_DATA : _DATA + held] if not row else self._cells()
            if not before.startswith(_SEAL):
                return None
            if before == self._page[:_HELD_AT]:
                return Progress(*_HEADER.unpack_from(before, _HEADER_AT)), row >> 32, row & 0xFFFFFFFF, data

    def _cells(self) -> bytes:
        """Return the cells of the row that are not blank any more."""
        blank = self._page[_BLANK_AT : _BLANK_AT + rows.CELL]
        cells = self._page[_DATA : _DATA + rows.CELL * (rows.MOST + 1)]
        end = cells.find(blank)
        while end > 0 and end % rows.CELL:  # the end of one value and the beginning of the next
            end = cells.find(blank, end + 1)
        return cells[: max(end, 0)]

    def close(self) -> None:
        """Give the memory back."""
        self.release_row()
        self._page.close()
