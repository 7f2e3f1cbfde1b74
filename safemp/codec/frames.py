"""The outer form of everything that travels: a header, one payload, then buffers.

    frames = [header, payload, buffer_0, ..., buffer_n-1]

The header says which version wrote it, what it is, how many buffers follow and what
the payload's checksum is, so that a cut, swapped, foreign or damaged frame ends in
``FrameError`` before pickle sees a byte of it.

Rule 1: nothing here knows what a payload means.
Rule 2: a receiver checks before it believes: version, kind, counts, checksum.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from zlib import crc32

from safemp.errors import FrameError

__all__ = ["VERSION", "Buffer", "Frames", "Kind", "kind_of", "pack", "split", "unpack"]

Buffer = bytes | bytearray | memoryview
Frames = list[Buffer]

VERSION = 1
"""Raised whenever the meaning of a frame changes. Both sides check it."""

_MAGIC = b"sm"
_HEADER = struct.Struct("<2sBBI")
_CHECKSUM = struct.Struct("<I")

_CHECKED = 1 << 20
"""Bytes of a payload that the checksum covers: all of a small one, the first MiB of a
large one (a full pass over 1 GiB would cost as much as sending it). Of buffers it covers
the lengths."""


class Kind(IntEnum):
    """What a set of frames is."""

    CALL = 1
    FUNCTION = 2
    CHUNK = 3
    VALUE = 16
    ERROR = 17
    UNSENDABLE = 18
    NOT_LOADED = 19


_KINDS = {int(kind): kind for kind in Kind}


def pack(kind: int, payload: Buffer, buffers: Frames | None = None) -> Frames:
    """Put a header before *payload* and *buffers*.

    Args:
        kind: A ``Kind``.
        payload: One stream of bytes.
        buffers: Out-of-band buffers, each of bytes; borrowed, not copied.

    Returns:
        ``[header, payload, *buffers]``.
    """
    if not buffers:
        head, checksum = _PLAIN[kind]
        return [head + _CHECKSUM.pack(crc32(_checked(payload), checksum)), payload]
    head = _HEADER.pack(_MAGIC, VERSION, kind, len(buffers))
    frames: Frames = [head + _CHECKSUM.pack(_checksum(head, payload, buffers)), payload]
    return frames + buffers


def _checked(payload: Buffer) -> Buffer:
    return payload if len(payload) <= _CHECKED else memoryview(payload)[:_CHECKED]


def _checksum(head: Buffer, payload: Buffer, buffers: Frames) -> int:
    checksum = crc32(_checked(payload), crc32(head))
    return crc32(struct.pack(f"<{len(buffers)}Q", *map(len, buffers)), checksum) if buffers else checksum


_PLAIN = {int(kind): (head, crc32(head)) for kind in Kind for head in [_HEADER.pack(_MAGIC, VERSION, kind, 0)]}
"""The headers of what has no buffers, and their checksums so far."""

_KINDS_OF_PLAIN = {head: (_KINDS[kind], checksum) for kind, (head, checksum) in _PLAIN.items()}


def unpack(frames: Frames) -> tuple[Kind, Buffer, Frames]:
    """Take *frames* apart again and check them.

    Returns:
        The kind, the payload and the list of buffers.

    Raises:
        FrameError: They are cut short, damaged, or written by another version.
    """
    if len(frames) < 2 or len(frames[0]) != _HEADER.size + _CHECKSUM.size:
        raise FrameError("cannot read frames: they are cut short, or not written by safemp")
    head = bytes(frames[0][: _HEADER.size])
    plain = _KINDS_OF_PLAIN.get(head) if len(frames) == 2 else None
    if plain is not None and frames[0][_HEADER.size :] == _CHECKSUM.pack(crc32(_checked(frames[1]), plain[1])):
        return plain[0], frames[1], []
    magic, version, kind, count = _HEADER.unpack(head)
    if magic != _MAGIC:
        raise FrameError("cannot read frames: not written by safemp")
    if version != VERSION:
        raise FrameError(
            f"cannot read frames of version {version}: this safemp reads version {VERSION}\n"
            "  fix:    install the same version of safemp on both sides"
        )
    payload = frames[1]
    if count != len(frames) - 2:
        raise FrameError(f"cannot read frames: {count} buffers announced, {len(frames) - 2} there")
    if _CHECKSUM.pack(_checksum(head, payload, frames[2:])) != frames[0][_HEADER.size :]:
        raise FrameError("cannot read frames: they are damaged")
    known = _KINDS.get(kind)
    if known is None:
        raise FrameError(f"cannot read frames: unknown kind {kind}")
    return known, payload, frames[2:]


def split(frames: Frames) -> tuple[Frames, Frames]:
    """Part the first set of frames from the next."""
    n = 2 + int(_HEADER.unpack_from(frames[0])[3])
    return frames[:n], frames[n:]


def kind_of(frames: Frames) -> int:
    """Return the kind that the header claims, unchecked; 0 if there is no header."""
    return frames[0][3] if frames and len(frames[0]) > 3 else 0
