"""Messages between the caller and one worker, over two sockets and one page of memory.

A small message to the worker is one packet. In the place of a large one goes a packet
that says to look at the stream, on which the worker also answers. Packets, because
what the worker has not taken out of the socket yet can be taken back whole.

    message = kind, number of frames, items, ref, task id, the frames' sizes, the frames

This file speaks no user object and blocks only where it says so.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import NamedTuple

from safemp.codec.frames import Frames

__all__ = [
    "ON_STREAM",
    "PACKET",
    "Message",
    "Outbox",
    "Reader",
    "head",
    "packets",
    "receive",
    "send_all",
    "streams",
    "unpacket",
]

_HEAD = struct.Struct("<BxxxIIIQ")
_HEAD_2 = struct.Struct("<BxxxIIIQQQ")
"""The same with the sizes of two frames, which is what nearly every message has."""

PACKET = 1 << 15
"""Bytes of the largest message that goes as one packet. Well under every kernel's
default socket buffer (208 KiB on Linux)."""

ON_STREAM = 255
"""The kind of a packet in whose place a message is on the stream."""

_READ = 1 << 16
_VIEWS = 256
"""Views in one ``sendmsg``; POSIX guarantees 16, Linux and macOS take 1 024."""


class Message(NamedTuple):
    """One message.

    Attributes:
        kind: One of the constants of ``child``.
        items: How many it is about.
        ref: Another number that belongs to the kind.
        task: The id of the task it is about; 0: none.
        frames: What it carries.
    """

    kind: int
    items: int
    ref: int
    task: int
    frames: Frames


def head(message: Message) -> bytes:
    """Return the fixed part of *message* and the sizes of its frames."""
    frames = message.frames
    n = len(frames)
    if n == 2:
        return _HEAD_2.pack(message.kind, 2, message.items, message.ref, message.task, len(frames[0]), len(frames[1]))
    return _HEAD.pack(message.kind, n, message.items, message.ref, message.task) + struct.pack(
        f"<{n}Q", *map(len, frames)
    )


def streams() -> tuple[socket.socket, socket.socket]:
    """Make a pair of connected stream sockets."""
    return socket.socketpair()


def packets() -> tuple[socket.socket, socket.socket] | None:
    """Make a pair of packet sockets; ``None`` where there are none (macOS, Windows)."""
    kind = getattr(socket, "SOCK_SEQPACKET", None)
    family = getattr(socket, "AF_UNIX", None)
    if kind is None or family is None:
        return None
    try:
        return socket.socketpair(family, kind)
    except OSError:
        return None


def _parse(view: memoryview) -> tuple[Message, list[int], int] | None:
    """Read the fixed part at the start of *view*.

    Returns:
        The message without its frames, their sizes, and the length of the fixed part;
        ``None`` when *view* holds less than that.
    """
    if len(view) < _HEAD.size:
        return None
    kind, n, count, ref, task = _HEAD.unpack_from(view)
    size = _HEAD.size + 8 * n
    if len(view) < size:
        return None
    return Message(kind, count, ref, task, []), list(struct.unpack_from(f"<{n}Q", view, _HEAD.size)), size


def unpacket(packet: memoryview) -> Message:
    """Take a packet apart."""
    if len(packet) >= _HEAD_2.size:
        kind, n, items, ref, task, first, second = _HEAD_2.unpack_from(packet)
        if n == 2:
            at = _HEAD_2.size + first
            return Message(kind, items, ref, task, [bytes(packet[_HEAD_2.size : at]), bytes(packet[at : at + second])])
    parsed = _parse(packet)
    assert parsed is not None, "a packet holds at least a head"
    message, sizes, at = parsed
    for size in sizes:
        message.frames.append(bytes(packet[at : at + size]))
        at += size
    return message


class Reader:
    """Reads messages from a stream as they come, in pieces of any size.

    Large frames are read into place: a frame that does not fit the buffer gets memory
    of its own, writable, and the kernel copies into that.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_READ)
        self._view = memoryview(self._buffer)
        self._end = 0
        self._message: Message | None = None
        self._sizes: deque[int] = deque()
        self._frame: memoryview | None = None
        self._filled = 0

    def target(self) -> memoryview:
        """Return the memory that the next bytes belong into; never empty."""
        if self._frame is not None:
            return self._frame[self._filled :]
        if self._end == len(self._buffer):  # a head with thousands of frames
            self._buffer = self._buffer + bytes(len(self._buffer))
            self._view = memoryview(self._buffer)
        return self._view[self._end :]

    def took(self, n: int) -> list[Message]:
        """Say that *n* bytes were put into ``target()``.

        Returns:
            The messages that are now complete, in order.
        """
        if self._frame is not None:
            self._filled += n
            if self._filled < len(self._frame):
                return []
            self._frame = None
        else:
            self._end += n
        done: list[Message] = []
        at = self._usual(done) if self._message is None else 0
        while True:
            at = self._fill(at, done)
            if self._message is not None or (parsed := _parse(self._view[at : self._end])) is None:
                break
            self._message, sizes, size = parsed
            self._sizes.extend(sizes)
            at += size
        rest = self._end - at
        if rest and at:
            self._buffer[:rest] = self._buffer[at : self._end]
        self._end = rest
        return done

    def _usual(self, done: list[Message]) -> int:
        """Take whole messages of two frames off the front, as long as there are any."""
        buffer, at = self._buffer, 0
        while self._end - at >= _HEAD_2.size:
            kind, n, items, ref, task, first, second = _HEAD_2.unpack_from(buffer, at)
            middle = at + _HEAD_2.size + first
            end = middle + second
            if n != 2 or end > self._end:
                break
            done.append(Message(kind, items, ref, task, [buffer[at + _HEAD_2.size : middle], buffer[middle:end]]))
            at = end
        return at

    def _fill(self, at: int, done: list[Message]) -> int:
        """Give the current message what the buffer holds for it, from *at* on."""
        message = self._message
        if message is None:
            return at
        while self._sizes and self._frame is None:
            size = self._sizes.popleft()
            have = self._end - at
            if size <= have:
                message.frames.append(bytearray(self._view[at : at + size]))
                at += size
            else:
                frame = bytearray(size)
                frame[:have] = self._view[at : self._end]
                message.frames.append(frame)
                self._frame, self._filled = memoryview(frame), have
                at = self._end
        if self._frame is None:
            done.append(message)
            self._message = None
        return at


def receive(sock: socket.socket, reader: Reader) -> list[Message]:
    """Wait until *sock* has given at least one message. Blocks.

    Raises:
        EOFError: The other side is gone.
    """
    while True:
        n = sock.recv_into(reader.target())
        if not n:
            raise EOFError
        messages = reader.took(n)
        if messages:
            return messages


def _views(message: Message) -> list[memoryview]:
    return [memoryview(head(message)), *(memoryview(f).cast("B") for f in message.frames if len(f))]


def send_all(sock: socket.socket, message: Message) -> None:
    """Write *message* whole. Blocks until the other side has room for it."""
    total = sum(map(len, message.frames))
    if total <= _READ:
        sock.sendall(b"".join((head(message), *message.frames)))
        return
    views = deque(_views(message))
    while views:
        _advance(views, _send(sock, views))


def _send(sock: socket.socket, views: deque[memoryview]) -> int:
    if hasattr(sock, "sendmsg"):
        return sock.sendmsg([views[i] for i in range(min(len(views), _VIEWS))])
    return sock.send(views[0])  # Windows


def _advance(views: deque[memoryview], sent: int) -> None:
    while sent:
        first = views[0]
        if sent < len(first):
            views[0] = first[sent:]
            return
        sent -= len(first)
        views.popleft()


class Outbox:
    """What waits to be written to one non-blocking stream."""

    def __init__(self) -> None:
        self._views: deque[memoryview] = deque()

    def __bool__(self) -> bool:
        return bool(self._views)

    def add(self, message: Message) -> None:
        """Queue *message*."""
        self._views.extend(_views(message))

    def flush(self, sock: socket.socket) -> bool:
        """Write what *sock* takes now.

        Returns:
            Whether nothing is left.

        Raises:
            OSError: The other side is gone.
        """
        while self._views:
            try:
                sent = _send(sock, self._views)
            except BlockingIOError:
                return False
            _advance(self._views, sent)
        return True
