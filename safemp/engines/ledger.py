"""A page of memory that a worker writes and the caller reads when the worker is dead.

It says which task the worker had begun and how far it was, and it holds the outcomes
of a chunk's items that were not sent yet. So a crash is blamed on exactly one item,
the outcomes before it are not lost, and nothing that had finished runs again.

    task, state, base, count, used | outcome, outcome, ...

The page outlives its writer, whatever ended it; it has no name in any file system.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from typing import NamedTuple

from safemp.codec.frames import Frames

__all__ = ["IDLE", "LOADING", "RUNNING", "SIZE", "Ledger", "Progress", "pack_outcome", "unpack_outcomes"]

IDLE, LOADING, RUNNING = 0, 1, 2

_HEADER = struct.Struct("<QIIII")
_COUNTS = struct.Struct("<II")
_COUNTS_AT = 16
_DATA = 32
SIZE = 1 << 16
"""Bytes. What does not fit is sent at once, which is as durable."""


class Progress(NamedTuple):
    """How far a worker was.

    Attributes:
        task: The id of the task it had begun last.
        state: ``IDLE``, ``LOADING`` or ``RUNNING``.
        base: The index, in its task, of the first outcome held.
        outcomes: The outcomes held, in order.
    """

    task: int
    state: int
    base: int
    outcomes: list[Frames]


def pack_outcome(frames: Frames) -> bytes:
    """Join one outcome's frames into one record."""
    n = len(frames)
    return b"".join((struct.pack(f"<I{n}Q", n, *map(len, frames)), *frames))


def unpack_outcomes(records: bytes | bytearray | memoryview) -> list[Frames]:
    """Take records apart again."""
    view = memoryview(records)
    found: list[Frames] = []
    at = 0
    while at < len(view):
        (n,) = struct.unpack_from("<I", view, at)
        sizes = struct.unpack_from(f"<{n}Q", view, at + 4)
        at += 4 + 8 * n
        frames: Frames = []
        for size in sizes:
            frames.append(bytes(view[at : at + size]))
            at += size
        found.append(frames)
    return found


class Ledger:
    """The page, as either side sees it.

    Args:
        fd: A file of ``SIZE`` bytes that both sides have open; ``-1``: memory that a
            forked child shares. Borrowed; may be closed afterwards.
    """

    def __init__(self, fd: int) -> None:
        self._page = mmap.mmap(fd, SIZE)
        self._used = 0
        self._count = 0
        self._base = 0

    def begin(self, task: int, state: int, base: int = 0) -> None:
        """Write down that *task* begins; forget the outcomes held."""
        self._base, self._count, self._used = base, 0, 0
        _HEADER.pack_into(self._page, 0, task, state, base, 0, 0)

    def add(self, record: bytes) -> bool:
        """Hold one more outcome.

        Returns:
            Whether there was room.
        """
        at = _DATA + self._used
        if at + len(record) > SIZE:
            return False
        self._page[at : at + len(record)] = record
        self._used += len(record)
        self._count += 1
        # After the record: a count never covers bytes that are not there yet.
        _COUNTS.pack_into(self._page, _COUNTS_AT, self._count, self._used)
        return True

    def at(self) -> tuple[int, int]:
        """Return which task is running and at which of its items; task 0: none is."""
        task, state, base, count, _ = _HEADER.unpack_from(self._page, 0)
        return (task, base + count) if state != IDLE else (0, 0)

    @property
    def held(self) -> int:
        """How many outcomes are held."""
        return self._count

    def take(self, task: int, state: int, send: Callable[[int, bytes], object]) -> None:
        """Send what is held, then forget it.

        Args:
            task: The task it belongs to.
            state: The state to go on in.
            send: Called with the number of outcomes and their records. When the worker
                dies between sending and forgetting, the caller sees them twice, and
                tells by their index.
        """
        if self._count:
            send(self._count, bytes(self._page[_DATA : _DATA + self._used]))
            self.begin(task, state, self._base + self._count)

    def read(self) -> Progress:
        """Return how far the worker was."""
        task, state, base, _, used = _HEADER.unpack_from(self._page, 0)
        return Progress(task, state, base, unpack_outcomes(bytes(self._page[_DATA : _DATA + used])))

    def close(self) -> None:
        """Give the memory back."""
        self._page.close()
