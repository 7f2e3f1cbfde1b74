"""Memory that is lent to be read only, as memory of one's own: pages are copied when they are written.

A call may write into what it is given, and nobody else is to see that. Ray's workers have arguments in
its object store, which they all map, and which they must not change. The file that is mapped there has no
name any more, but the process that has started the worker still has it open. So it is mapped once more,
privately. Where that cannot be, the data are copied.
"""

from __future__ import annotations

import mmap
import os
from typing import Any

from safemp.codec.frames import Buffer, Frames
from safemp.codec.pickling import PickleBuffer
from safemp.engines import system
from safemp.engines.blocks import LARGE

__all__ = ["lend", "writable"]

_files: dict[tuple[int, int], int | None] = {}
"""Descriptors of the files that have been looked for, by device and number; ``None``: it cannot be had."""


def lend(frames: Frames) -> list[Any]:
    """Return *frames* such that a pickler which can leaves the large ones where they are."""
    return [PickleBuffer(one) if len(one) >= LARGE else bytes(one) for one in frames]


def writable(frame: Buffer) -> Buffer:
    """Return the bytes of *frame*, which may be written to, apart from everybody else's.

    While what is returned is used, *frame* is kept.
    """
    view = memoryview(frame)
    if view.readonly and view.nbytes >= LARGE and view.contiguous:
        try:
            mapped = _map(frame, view.nbytes)
        except (OSError, ValueError):  # not from a file, or from one that is not ours to read; too many mappings
            mapped = None
        if mapped is not None:
            return mapped
    return bytearray(view)


def _map(frame: Buffer, size: int) -> memoryview | None:
    address = system.address_of(frame)
    found = _file_at(address, size)
    if found is None:
        return None
    fd, offset = found
    start = offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    array = system.map_memory(fd, offset - start + size, private=True, offset=start)
    array.lender = frame
    return memoryview(array).cast("B")[offset - start :]


def _file_at(address: int, size: int) -> tuple[int, int] | None:
    """Return the descriptor of the file that is mapped there for many processes, and the place in it."""
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:
            place, rights, offset, device, number = line.split(maxsplit=5)[:5]
            begin, end = (int(each, 16) for each in place.split("-"))
            if begin <= address and address + size <= end:
                if rights[3] != "s" or number == "0":
                    return None
                major, minor = (int(each, 16) for each in device.split(":"))
                fd = _open(os.makedev(major, minor), int(number))
                return None if fd is None else (fd, int(offset, 16) + address - begin)
    return None


def _open(device: int, number: int) -> int | None:
    """Open a file by what tells it apart, if the process that has started this one has it open."""
    key = device, number
    if key not in _files:
        _files[key] = None
        folder = f"/proc/{os.getppid()}/fd"
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            try:
                found = os.stat(path)
                if (found.st_dev, found.st_ino) == key:
                    _files[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    break
            except OSError:  # it has been closed since
                continue
    return _files[key]
