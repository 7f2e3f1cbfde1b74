"""Rows: what calls for items one after another have returned, in cells of eight bytes.

An outcome of its own for each of a million items costs more than most of the calls. But
short calls return numbers, truths and ``None`` more often than not; these are stored where
the caller finds them, whatever becomes of the worker, by one instruction.
"""

from __future__ import annotations

from types import NoneType
from typing import Any

from safemp.codec.frames import Buffer
from safemp.engines import Values

__all__ = ["CELL", "MOST", "Width", "cells", "kind_of", "unpack"]

_TYPES: tuple[tuple[type, str], ...] = ((int, "q"), (float, "d"), (bool, "q"), (NoneType, "q"))
"""The types of values, and the format of their cells."""

_KINDS = {id(cls): kind for kind, (cls, _) in enumerate(_TYPES, 1)}
"""A number for each type of values. By their ids: a user's metaclass may refuse to hash."""

CELL = 8
"""Bytes of a cell."""

MOST = 32_000
"""Items of a row. Picked: the cells take a quarter of a megabyte."""

_FEW = 16
"""Items from which a row is worth a message of its own."""

_LEAST, _LONGEST = 0.002, 0.01
"""Seconds that a row should take. Picked: a message costs a hundredth of it, and nobody
waits for what is in it."""

_SINGLES = 64
"""Items done one by one after a row that ended as soon as it had begun."""


def kind_of(cls: type) -> int | None:
    """Return a number for the rows of values of type *cls*; ``None``: there are none."""
    return _KINDS.get(id(cls))


def cells(kind: int, memory: Any) -> memoryview:
    """Look at *memory* as at cells of a row of that kind."""
    cast: Any = memoryview(memory).cast
    return cast(_TYPES[kind - 1][1])  # type: ignore[no-any-return]


def unpack(kind: int, memory: Buffer) -> Values:
    """Return the values that are in the cells of a row."""
    cls = _TYPES[kind - 1][0]
    if cls is NoneType:
        return Values([None] * (len(memory) // CELL))
    values = cells(kind, memory).tolist()
    return Values(map(bool, values) if cls is bool else values)


class Width:
    """How many items the next row of a chunk may have.

    Args:
        count: The items of the chunk.
        single: Each is to begin by itself.
    """

    def __init__(self, count: int, single: bool) -> None:
        self._next = 1 if single or count < _FEW else _FEW
        self._singles = 0

    def next(self, left: int) -> int:
        """Return how many, of so many that are left; 1: there is no row."""
        if self._singles:
            self._singles -= 1
            return 1
        return min(self._next, left)

    def was(self, n: int, seconds: float, broken: bool) -> None:
        """Take notice of a row.

        Args:
            n: How many items were in it.
            seconds: What it took.
            broken: The next item did not fit in.
        """
        if broken and n < _FEW:
            self._singles = _SINGLES
        elif seconds < _LEAST:
            self._next = min(4 * self._next, MOST)
        elif seconds > _LONGEST:
            self._next = max(self._next // 4, _FEW)
