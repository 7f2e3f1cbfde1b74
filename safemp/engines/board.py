"""A page that the caller writes and its workers read.

It holds what the caller wants every worker to know by the next task at the latest (a
text of bytes, with a version); for each worker, how many bytes of its messages have been
dealt with; and whether it is a write to a file that keeps us. No worker can write to
it, so none can harm another by it.

    version, writing | handled[0], handled[1], ... | length, checksum, version, text
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
from zlib import crc32

from safemp.engines import system

__all__ = ["NO_SLOT", "Board", "Notice"]

_WORD = struct.Struct("@Q")  # native: the bytes of one word are written at once
_SLOTS = 1022
_WRITING = _WORD.size
_FIRST = 2 * _WORD.size
_PAGE = _FIRST + _WORD.size * _SLOTS
_TEXT = struct.Struct("<IIQ")

NO_SLOT = _SLOTS
"""Given to a worker for which there is no slot left: it is not told what was handled."""


class Board:
    """The page, as the caller sees it. Safe to use from any thread."""

    def __init__(self) -> None:
        self.fd: int = system.nameless_file("safemp-board", _PAGE)
        try:
            self._page = mmap.mmap(self.fd, _PAGE)
        except OSError:  # it takes another descriptor
            os.close(self.fd)
            raise
        self._lock = threading.Lock()
        self._version = 0
        self._free = list(range(_SLOTS - 1, -1, -1))

    def publish(self, text: bytes) -> None:
        """Let every worker know *text*, in the stead of the last one."""
        with self._lock:
            self._version += 1
            os.pwrite(self.fd, _TEXT.pack(len(text), crc32(text), self._version) + text, _PAGE)
            # Last: who reads in between sees that the checksum is wrong, and looks again.
            _WORD.pack_into(self._page, 0, self._version)

    def take_slot(self) -> int:
        """Return the number of a free slot, which says 0; ``NO_SLOT`` if there is none."""
        with self._lock:
            slot = self._free.pop() if self._free else NO_SLOT
        self.set_handled(slot, 0)
        return slot

    def give_slot(self, slot: int) -> None:
        """Say that the worker of *slot* has ended."""
        if slot != NO_SLOT:
            with self._lock:
                self._free.append(slot)

    def set_handled(self, slot: int, n: int) -> None:
        """Say that *n* bytes of the messages of the worker of *slot* have been dealt with."""
        if slot != NO_SLOT:
            _WORD.pack_into(self._page, _FIRST + _WORD.size * slot, n)

    def set_writing(self, yes: bool) -> None:
        """Say whether we are writing to a file, which may be a pipe that nobody reads just now."""
        _WORD.pack_into(self._page, _WRITING, yes)

    def close(self) -> None:
        """Give memory and descriptor back."""
        self._page.close()
        os.close(self.fd)


class Notice:
    """The page, as one worker sees it.

    Args:
        fd: The caller's; ours from now on.
        slot: This worker's.
    """

    def __init__(self, fd: int, slot: int) -> None:
        self._fd = fd
        self._page = mmap.mmap(fd, _PAGE, access=mmap.ACCESS_READ)
        self._slot = slot
        self._seen = 0

    def news(self) -> bytes | None:
        """Return the text if it is new; it costs nearly nothing if it is not."""
        if _WORD.unpack_from(self._page)[0] == self._seen:
            return None
        length, checksum, version = _TEXT.unpack(os.pread(self._fd, _TEXT.size, _PAGE))
        text = os.pread(self._fd, length, _PAGE + _TEXT.size)
        if crc32(text) != checksum:  # it is being written; the next look will find it
            return None
        self._seen = version
        return text

    def writing(self) -> bool:
        """Tell whether the caller is writing to a file."""
        return bool(_WORD.unpack_from(self._page, _WRITING)[0])

    def handled(self) -> int | None:
        """Return how many bytes of our messages were dealt with; ``None``: nobody says."""
        if self._slot == NO_SLOT:
            return None
        handled: int = _WORD.unpack_from(self._page, _FIRST + _WORD.size * self._slot)[0]
        return handled
