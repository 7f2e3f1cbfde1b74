"""Large data, in memory that sender and receiver map: it goes through no pipe.

    frames = store.hold(frames)     the sender's copy of them, in a block of memory
    a message                       carries the block's descriptor and their sizes
    data = borrow(fd, ...)          the receiver's view: pages are copied when it writes

The receiver may write into what it is given; nobody sees that, and nothing fails. A new page
costs four times what copying into an old one does. So a block is used again when nobody
reads it any more; a byte in its head for each loan says whether somebody does. Who ends
without a word gives nothing back, and what was lent to it is never used again.

A block is a ``memfd``: it has no name in any file system, counts as memory of who writes it,
and is gone with its last user, however that ends. Where there is no such thing, and where
the kernel refuses one, frames are copied and go through the pipe.
"""

from __future__ import annotations

import errno
import mmap
import os
import sys
import threading
import weakref
from collections.abc import Callable
from itertools import count
from typing import Any

from safemp.codec.frames import Buffer, Frames
from safemp.engines import system

__all__ = ["LARGE", "Block", "Store", "borrow", "exporter_of", "own", "place_of", "store"]

LARGE = 1 << 18
"""Bytes of a message from which they go in a block. Measured: about where mapping begins to
cost less than the two copies of a pipe."""

_KEEP = 1 << 29
"""``Store.keep``. Picked: some arrays of a hundred megabytes."""

_MOST_OPEN = 256
"""Blocks that one process has at a time; and a quarter of the descriptors that it may have."""

_HEAD = mmap.ALLOCATIONGRANULARITY
"""Bytes before the data: the serial number of its contents, then a byte for each loan."""

_SERIAL = 8
_LOANS = slice(_SERIAL, 512)
_ALIGN = 64
"""Frames begin at multiples of it: a cache line."""

_FREE, _LENT, _KEPT = 0, 1, 2
"""What a loan's byte says; kept: a process that the receiver has forked may read it, too."""


class Block:
    """Some memory of its own, which others can map.

    Args:
        size: Bytes of data.

    Attributes:
        fd: Its descriptor; it is closed with the block.
        size: Bytes of data.
        serial: Distinct for each of its contents in this process.
        shared: Whether many messages may have what is in it.
        number: How many there are in this process.

    Raises:
        OSError: There is no memory, or no descriptor, to be had.
    """

    number: int = 0

    _serials = count(1)

    def __init__(self, size: int) -> None:
        self.fd: int = os.memfd_create("safemp-data")
        self.size: int = size
        self.serial: int = 0
        self.shared: bool = False
        self._used = False
        self._lease: Any = None
        try:
            os.ftruncate(self.fd, _HEAD + size)
            self._memory = system.map_memory(self.fd, _HEAD + size, private=False)
        except BaseException:
            os.close(self.fd)
            raise
        self._view = memoryview(self._memory).cast("B")
        Block.number += 1

    def __del__(self, close: Callable[[int], None] = os.close) -> None:  # at the end of the interpreter, too
        if hasattr(self, "_view"):
            close(self.fd)
            type(self).number -= 1

    def fill(self, frames: Frames, maps: bool) -> list[memoryview]:
        """Take copies of *frames*.

        Args:
            frames: They fit in.
            maps: See ``Store``.

        Returns:
            The copies. While one of them is there, or a receiver has the data, the block is in use.

        Raises:
            OSError: There is no memory to be had.
        """
        self.serial = next(Block._serials)
        self._view[_LOANS] = bytes(_LOANS.stop - _SERIAL)
        self._view[:_SERIAL] = self.serial.to_bytes(_SERIAL, sys.byteorder)
        lease = self.part(0, self.size)
        self._lease = weakref.ref(lease)
        data, at, views = memoryview(lease).cast("B"), 0, []
        for frame in frames:
            end = at + len(frame)
            if self._used and maps:
                data[at:end] = frame
            else:  # not through the mapping: a lack of memory is to be an error, and not a signal
                _write(self.fd, frame, _HEAD + at)
            views.append(data[at:end])
            at = _aligned(end)
        self._used = True
        return views

    def part(self, at: int, size: int) -> Any:
        """Return an array for some bytes of its data, which ``place_of`` knows."""
        part = system.part_of(self._memory, _HEAD + at, size)
        part.block, part.at = self, at
        return part

    def lend(self) -> int:
        """Begin a loan; return its number, which the receiver is to be told."""
        loans = bytes(self._view[_LOANS])
        loan = loans.find(_FREE)
        if loan < 0:
            loan = len(loans) - 1
            self._view[_SERIAL + loan] = _KEPT
        else:
            self._view[_SERIAL + loan] = _LENT
        return loan

    @property
    def leased(self) -> bool:
        """Whether its contents are still wanted in this process."""
        return self._lease is not None and self._lease() is not None

    @property
    def lent(self) -> bool:
        """Whether a receiver has not given it back."""
        return bool(bytes(self._view[_LOANS]).strip(b"\0"))

    @property
    def idle(self) -> bool:
        """Whether nobody reads it any more."""
        return not self.leased and not self.lent


def _write(fd: int, frame: Buffer, at: int) -> None:
    view = memoryview(frame)
    while view:
        n = os.pwrite(fd, view, at)
        view, at = view[n:], at + n


def _aligned(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def place_of(frame: Buffer) -> tuple[Block, int] | None:
    """Return the block that *frame* is in, and where, if it is one of ``Store.hold``."""
    if type(frame) is not memoryview or not frame.nbytes:
        return None
    obj = frame.obj
    while type(obj) is memoryview:
        obj = obj.obj
    if not system.is_mapped(obj):
        return None
    block = obj.__dict__.get("block")
    return (block, obj.__dict__["at"] + system.offset_of(obj, frame)) if type(block) is Block else None


def exporter_of(frame: Buffer) -> Any:
    """Return an object that exports the bytes of *frame*, and is no view: for views of it.

    Until Python 3.12 the garbage collector crashes at a view of a view by way of a ``PickleBuffer``
    (https://github.com/python/cpython/issues/77894).
    """
    place = place_of(frame)
    if place is None:
        return frame
    block, at = place
    part = block.part(at, len(frame))
    part.lease = frame
    return part


def own(frames: Frames) -> Frames:
    """Copy those of *frames* that are views of the user's data; what is in a block needs no copy."""
    return [bytearray(f) if type(f) is memoryview and place_of(f) is None else f for f in frames]


class Store:
    """The blocks of this process that may be used again.

    Attributes:
        keep: Bytes of unused ones that are kept for the next.
        maps: Fill used ones by way of their mappings, which is fast, and makes them count
            as resident memory of this process.
    """

    def __init__(self) -> None:
        self.keep: int = _KEEP
        self.maps: bool = True
        self._lock = threading.Lock()
        self._blocks: list[Block] = []
        self._most = _most_open()

    def hold(self, frames: Frames, *, again: bool = True) -> Frames:
        """Make *frames* ours: whoever made them may change them afterwards.

        Args:
            frames: What an ``encode_`` gave.
            again: Keep the memory for others afterwards.

        Returns:
            The same; large ones are in a block.
        """
        if len(frames) == 2 and len(frames[1]) < LARGE:
            return frames
        new = [i for i, frame in enumerate(frames) if i and place_of(frame) is None]
        size = sum(_aligned(len(frames[i])) for i in new)
        if size < LARGE or not system.MAPS:
            return own(frames)
        with self._lock:
            try:
                block = self._take(size)
                views = block.fill([frames[i] for i in new], self.maps)
                if not again:
                    block.shared = True
                    self._blocks = [each for each in self._blocks if each is not block]
            except OSError:
                return own(frames)
        held = list(frames)
        for i, view in zip(new, views, strict=True):
            held[i] = view
        return held

    def _take(self, size: int) -> Block:
        idle = sorted((block for block in self._blocks if block.idle), key=lambda block: block.size)
        found = next((block for block in idle if size <= block.size <= 2 * size), None)
        if found is not None:
            return found
        kept = 0
        for block in idle:
            kept += block.size
            if kept > self.keep:
                self._blocks.remove(block)
        del idle
        if Block.number >= self._most:
            self._blocks = [block for block in self._blocks if block.leased]
        if Block.number >= self._most:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        block = Block(size)
        self._blocks.append(block)
        return block

    def trim(self) -> None:
        """Keep nothing for later: give the unused memory back now, and the rest when nobody wants it any more."""
        with self._lock:
            self._blocks = []

    def a_receiver_died(self) -> None:
        """Use nothing again that is lent: whose loans will not end cannot be told."""
        with self._lock:
            self._blocks = [block for block in self._blocks if not block.lent]

    def before_fork(self) -> None:
        """Use nothing again that is wanted now: the new process has it, too."""
        self._blocks = [block for block in self._blocks if not block.leased]


def _most_open() -> int:
    try:
        import resource
    except ImportError:
        return _MOST_OPEN
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST_OPEN if soft < 0 else max(1, min(_MOST_OPEN, soft // 4))


# -- the receiver's side --------------------------------------------------------------

_borrowed: dict[int, tuple[memoryview, int]] = {}
"""The byte of each loan to this process that has not ended."""

_numbers = count(1)


def borrow(fd: int, serial: int, loan: int) -> memoryview:
    """Map the data of a block that somebody else has filled. It may be written to.

    Args:
        fd: Its descriptor; closed when this returns.
        serial: The serial number of its contents.
        loan: What ``lend`` gave.

    Returns:
        All of its data. When nobody refers to it any more, or to a part, the loan ends.

    Raises:
        MemoryError: There is no memory, or no descriptor, to be had.
    """
    if fd < 0:
        raise MemoryError
    try:
        size = os.fstat(fd).st_size - _HEAD
        try:
            head = memoryview(system.map_memory(fd, _HEAD, private=False)).cast("B")
        except OSError as error:
            raise MemoryError from error
        if int.from_bytes(head[:_SERIAL], sys.byteorder) != serial:
            raise MemoryError  # the descriptor that was expected was not taken
        at = _SERIAL + loan
        try:
            data = system.map_memory(fd, size, private=True, offset=_HEAD)
        except OSError:  # too many mappings, most likely
            copy = memoryview(bytearray(size))
            done = 0
            while done < size:
                done += os.preadv(fd, [copy[done:]], _HEAD + done)
            _end(head, at)
            return copy
        number = next(_numbers)
        _borrowed[number] = head, at
        weakref.finalize(data, _give_back, number).atexit = False
        return memoryview(data).cast("B")
    finally:
        os.close(fd)


def _give_back(number: int) -> None:
    found = _borrowed.pop(number, None)
    if found is not None:
        _end(*found)


def _end(head: memoryview, at: int) -> None:
    if head[at] == _LENT:
        head[at] = _FREE


# -- forks ----------------------------------------------------------------------------

store: Store = Store()
"""That of this process."""


def _before_fork() -> None:
    store.before_fork()
    for head, at in list(_borrowed.values()):
        head[at] = _KEPT


def _after_fork() -> None:
    store.__init__()  # type: ignore[misc] # the blocks are the parent's
    _borrowed.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
