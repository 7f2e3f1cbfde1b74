"""Messages between the caller and one worker, on a stream of bytes each way; and tokens.

    message = kind, ahead, number of sizes, items, stop, ref, task id, the sizes, the frames

Large frames are in a block of memory (see ``blocks``) whose descriptor goes along with the
first byte of the message. Before their sizes there is a number which says what block it is.

What is written *ahead*, to a worker that is busy, the worker may begin only when it has
taken the message's token: eight bytes out of a second socket, whose both ends the caller
keeps, too. So the caller can take back what has not begun, by taking the tokens; the
kernel gives each token to one of them only.

This file speaks no user object and blocks only where it says so.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from array import array
from collections import deque
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import NamedTuple

from safemp.codec.frames import Frames
from safemp.engines import system
from safemp.engines.blocks import Block, borrow, place_of
from safemp.errors import FrameError

__all__ = [
    "SMALL",
    "Message",
    "Outbox",
    "Reader",
    "Tokens",
    "claim",
    "pack",
    "read",
    "receive",
    "send_all",
    "streams",
]

_HEAD = struct.Struct("<BBxxIIIIQ")
_HEAD_2 = struct.Struct("<BBxxIIIIQQQ")
"""The same with the sizes of two frames, which is what nearly every message has."""

SMALL = 1 << 15
"""Bytes that are joined and written at once. Well under every kernel's default socket
buffer (208 KiB on Linux), so that most of the time they are taken whole."""

_READ = 1 << 16
_VIEWS = 256
"""Views in one ``sendmsg``; POSIX guarantees 16, Linux and macOS take 1 024."""

_TOKEN = struct.Struct("<Q")
_DROP = 1 << 63

_HELD = 1 << 63
"""In the place of a size: the frame is in a block. The number of the block in this message
follows, then 56 bits with the place in it; the next number is the size."""

_BLOCK = 1 << 62
"""The same, before the first frame of a block: its serial number, then its loan in 16 bits."""

_PLACE = (1 << 56) - 1

_MOST_BLOCKS = 8
"""Blocks of one message. What a call has of its own is in one; what it shares, in others."""


_MOST_FRAMES = 1 << 24
"""Sizes of one message. More than there is memory for as views; and what is no message seems to have more."""


class Message(NamedTuple):
    """One message.

    Attributes:
        kind: One of the constants of ``child``.
        items: How many it is about, or the index of the first one.
        ref: Another number that belongs to the kind.
        task: The id of the task it is about; 0: none.
        frames: What it carries.
        stop: The index behind the last item it is about.
        ahead: Whether it may be begun only with its token.
        lost: The bytes of the largest frame for which there was no memory, or no descriptor;
            then it has no frames. 0: all is there.
    """

    kind: int
    items: int
    ref: int
    task: int
    frames: Frames
    stop: int = 0
    ahead: bool = False
    lost: int = 0


def _head(message: Message) -> bytes:
    """Return the fixed part of *message* and the sizes of its frames, none of which is in a block."""
    kind, items, ref, task, frames, stop, ahead, _ = message
    n = len(frames)
    if n == 2:
        return _HEAD_2.pack(kind, ahead, 2, items, stop, ref, task, len(frames[0]), len(frames[1]))
    return _HEAD.pack(kind, ahead, n, items, stop, ref, task) + struct.pack(f"<{n}Q", *map(len, frames))


def _lend(message: Message) -> tuple[bytes, list[Block]]:
    """Return what of *message* goes on the stream, and the blocks that go along."""
    kind, items, ref, task, frames, stop, ahead, _ = message
    sizes: list[int] = []
    rest: Frames = []
    lent: list[Block] = []
    for frame in frames:
        place = place_of(frame)
        if place is None or (place[0] not in lent and len(lent) == _MOST_BLOCKS):
            sizes.append(len(frame))
            rest.append(frame)
            continue
        block, at = place
        if block not in lent:
            lent.append(block)
            sizes.append(_HELD | _BLOCK | block.serial << 16 | block.lend())
        sizes += [_HELD | lent.index(block) << 56 | at, len(frame)]
    head = _HEAD.pack(kind, ahead, len(sizes), items, stop, ref, task) + struct.pack(f"<{len(sizes)}Q", *sizes)
    return b"".join([head, *rest]), lent


def pack(messages: Sequence[Message]) -> bytes:
    """Join messages into what goes on a stream. For small ones."""
    return b"".join([part for message in messages for part in (_head(message), *message.frames)])


def streams() -> tuple[socket.socket, socket.socket]:
    """Make a pair of connected stream sockets, which block whatever ``socket.setdefaulttimeout`` was told.

    The second one blocks where it is inherited, too: under gevent none does that is made here.
    """
    pair = socket.socketpair()
    for each in pair:
        each.setblocking(True)
    os.set_blocking(pair[1].fileno(), True)
    return pair


class Tokens:
    """The caller's side of the tokens of one worker. Never blocks.

    Attributes:
        theirs: The end that the worker takes tokens from; the caller's copy of it.
    """

    def __init__(self) -> None:
        ours, theirs = streams()
        self._ours = ours
        self.theirs: socket.socket = theirs
        self._ours.setblocking(False)

    def give(self, ids: Sequence[int]) -> None:
        """Let the worker begin these tasks, in this order.

        Raises:
            OSError: The worker is gone.
        """
        self._ours.send(struct.pack(f"<{len(ids)}Q", *ids))

    def take_back(self) -> list[int]:
        """Take the tokens that the worker has not taken; have it skip their messages.

        Returns:
            The ids of their tasks.
        """
        taken = b""
        while True:
            # Not a non-blocking socket: that would be so for the worker, too.
            try:
                more = self.theirs.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            if not more:
                break
            taken += more
        ids = [token for (token,) in _TOKEN.iter_unpack(taken) if not token & _DROP]
        drops = [token for (token,) in _TOKEN.iter_unpack(taken) if token & _DROP]
        if ids or drops:  # an order to skip that nobody has read yet must not get lost
            self._ours.send(_TOKEN.pack(max([_DROP | max(ids, default=0), *drops])))
        return ids

    def close(self) -> None:
        """Give both ends back."""
        self._ours.close()
        self.theirs.close()


def claim(tokens: socket.socket, task: int, dropped: int) -> tuple[bool, int]:
    """In the worker: ask whether *task* may begin. Blocks until its token, or an order to skip it, is there.

    Args:
        tokens: The worker's end.
        task: The id in a message that was written ahead.
        dropped: What this function gave last; 0 at first.

    Returns:
        Whether it may, and the highest id that is to be skipped.

    Raises:
        EOFError: The caller is gone.
    """
    while task > dropped:
        token = tokens.recv(_TOKEN.size)
        if len(token) != _TOKEN.size:
            raise EOFError
        (number,) = _TOKEN.unpack(token)
        if number == task:
            return True, dropped
        assert number & _DROP, "tokens come in the order of their messages"
        dropped = max(dropped, number ^ _DROP)
    return False, dropped


def _parse(view: memoryview) -> tuple[Message, list[int], int] | None:
    """Read the fixed part at the start of *view*.

    Returns:
        The message without its frames, their sizes, and the length of the fixed part;
        ``None`` when *view* holds less than that.

    Raises:
        FrameError: That is no message of ours: a task has written to a descriptor that is not its own.
    """
    if len(view) < _HEAD.size:
        return None
    kind, ahead, n, items, stop, ref, task = _HEAD.unpack_from(view)
    if n > _MOST_FRAMES:
        raise FrameError("cannot read frames: not written by safemp")
    size = _HEAD.size + 8 * n
    if len(view) < size:
        return None
    sizes = list(struct.unpack_from(f"<{n}Q", view, _HEAD.size))
    return Message(kind, items, ref, task, [], stop, bool(ahead)), sizes, size


class Reader:
    """Reads messages from a stream as they come, in pieces of any size.

    Large frames are read into place: a frame that does not fit the buffer gets memory
    of its own, writable, and the kernel copies into that. Where there is none to be had,
    the message is read over, and comes without its frames (``Message.lost``).
    """

    def __init__(self) -> None:
        self._buffer = bytearray(_READ)
        self._view = memoryview(self._buffer)
        self._end = 0
        self._message: Message | None = None
        self._sizes: deque[int] = deque()
        self._fds: deque[int] = deque()
        self._blocks: list[memoryview | None] = []  # of the current message
        self._frame: memoryview | None = None
        self._filled = 0
        self._lost = 0  # of the current message, as ``Message.lost``
        self._over = 0  # bytes to be read over

    def target(self) -> memoryview:
        """Return the memory that the next bytes belong into; never empty."""
        if self._frame is not None:
            return self._frame[self._filled :]
        if self._over:
            return self._view[: min(self._over, len(self._buffer))]
        if self._end == len(self._buffer):  # a head with thousands of frames
            self._buffer = self._buffer + bytes(len(self._buffer))
            self._view = memoryview(self._buffer)
        return self._view[self._end :]

    def close(self) -> None:
        """Give back what has come for a message that will never be whole."""
        while self._fds:
            os.close(self._fds.popleft())

    def took(self, n: int, fds: Sequence[int] = ()) -> list[Message]:
        """Say that *n* bytes were put into ``target()``.

        Args:
            n: How many.
            fds: Descriptors that came with them; they belong to the reader now.

        Returns:
            The messages that are now complete, in order.
        """
        self._fds.extend(fds)
        if self._frame is not None:
            self._filled += n
            if self._filled < len(self._frame):
                return []
            self._frame = None
        elif self._over:
            self._over -= n
            if self._over:
                return []
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
        buffer, at, head = self._buffer, 0, _HEAD_2.size
        while self._end - at >= head:
            kind, ahead, n, items, stop, ref, task, first, second = _HEAD_2.unpack_from(buffer, at)
            middle = at + head + first
            end = middle + second
            if n != 2 or end > self._end:
                break
            frames: Frames = [buffer[at + head : middle], buffer[middle:end]]
            done.append(Message(kind, items, ref, task, frames, stop, ahead))
            at = end
        return at

    def _fill(self, at: int, done: list[Message]) -> int:
        """Give the current message what the buffer holds for it, from *at* on."""
        message = self._message
        if message is None:
            return at
        while self._sizes and self._frame is None and not self._over:
            size = self._sizes.popleft()
            have = self._end - at
            if size & _HELD:
                self._borrow(size, message.frames)
                continue
            try:
                if size <= have:
                    message.frames.append(bytearray(self._view[at : at + size]))
                    at += size
                    continue
                frame = bytearray(size)
            except MemoryError:
                self._lost = max(self._lost, size)
                message.frames.clear()
                self._over = max(0, size - have)
                at = min(self._end, at + size)
                continue
            frame[:have] = self._view[at : self._end]
            message.frames.append(frame)
            self._frame, self._filled = memoryview(frame), have
            at = self._end
        if self._frame is None and not self._over:
            if self._lost:
                message.frames.clear()
                message = message._replace(lost=self._lost)
                self._lost = 0
            done.append(message)
            self._message = None
            self._blocks = []
        return at

    def _borrow(self, size: int, frames: Frames) -> None:
        """Take a block that has come, or a frame out of one."""
        if size & _BLOCK:
            fd = self._fds.popleft() if self._fds else -1
            try:
                self._blocks.append(borrow(fd, (size & ~(_HELD | _BLOCK)) >> 16, size & 0xFFFF))
            except MemoryError:
                self._blocks.append(None)
            return
        at, n = size & _PLACE, self._sizes.popleft()
        block = self._blocks[(size & ~_HELD) >> 56]
        if block is None:
            self._lost = max(self._lost, n, 1)
        else:
            frames.append(block[at : at + n])


def read(sock: socket.socket, reader: Reader) -> tuple[int, list[Message]]:
    """Read once.

    Returns:
        How many bytes came, 0 at the end of the stream; and the messages that are complete.

    Raises:
        BlockingIOError: There is nothing, and *sock* does not block.
        OSError: The other side is gone.
    """
    if not system.MAPS:
        n = sock.recv_into(reader.target())
        return n, reader.took(n) if n else []
    n, sent, _, _ = sock.recvmsg_into([reader.target()], _ROOM, socket.MSG_CMSG_CLOEXEC)
    if not sent:
        return n, reader.took(n) if n else []
    fds = array("i", b"".join([data[: len(data) - len(data) % 4] for _, _, data in sent]))
    return n, reader.took(n, fds)


_ROOM = socket.CMSG_SPACE(_MOST_BLOCKS * 4) if system.MAPS else 0


def receive(sock: socket.socket, reader: Reader) -> list[Message]:
    """Wait until *sock* has given at least one message. Blocks.

    Raises:
        EOFError: The other side is gone.
    """
    while True:
        n, messages = read(sock, reader)
        if not n:
            raise EOFError
        if messages:
            return messages


def _views(message: Message) -> list[memoryview]:
    return [memoryview(_head(message)), *(memoryview(f).cast("B") for f in message.frames if len(f))]


def _has_blocks(message: Message) -> bool:
    return any(type(frame) is memoryview and place_of(frame) is not None for frame in message.frames)


def send_all(sock: socket.socket, message: Message) -> None:
    """Write *message* whole. Blocks until the other side has room for it."""
    outbox = Outbox()
    outbox.send(sock, [message])
    assert not outbox, "the stream blocks"


class _Loan(NamedTuple):
    """A message with blocks, that has not begun to go."""

    view: memoryview  # all of it that goes on the stream
    fds: array[int]
    message: Message  # keeps the blocks


class Outbox:
    """What waits to be written to one stream, which may be one that blocks.

    Attributes:
        written: How many bytes were written, of those that had to wait.
    """

    def __init__(self) -> None:
        self.written: int = 0
        self._views: deque[memoryview] = deque()
        self._loans: deque[_Loan] = deque()

    def __bool__(self) -> bool:
        return bool(self._views)

    def send(self, sock: socket.socket, messages: Sequence[Message]) -> None:
        """Write *messages* as far as *sock* takes them now; keep the rest.

        Raises:
            OSError: The other side is gone.
        """
        if not self._views and sum(len(f) for m in messages for f in m.frames) <= SMALL:
            packed = pack(messages)
            try:
                sent = sock.send(packed)
            except BlockingIOError:
                sent = 0
            if sent < len(packed):
                self._views.append(memoryview(packed)[sent:])
                self.flush(sock)
            return
        for message in messages:
            if _has_blocks(message):
                data, blocks = _lend(message)
                self._views.append(memoryview(data))
                self._loans.append(_Loan(self._views[-1], array("i", [block.fd for block in blocks]), message))
            else:
                self._views.extend(_views(message))
        self.flush(sock)

    def flush(self, sock: socket.socket) -> bool:
        """Write what *sock* takes now.

        Returns:
            Whether nothing is left.

        Raises:
            OSError: The other side is gone.
        """
        while self._views:
            try:
                sent = self._write(sock)
            except BlockingIOError:
                return False
            self._advance(sent)
        return True

    def _write(self, sock: socket.socket) -> int:
        views, loans = self._views, self._loans
        if not loans:
            if hasattr(sock, "sendmsg"):
                return sock.sendmsg(list(islice(views, _VIEWS)))
            return sock.send(views[0])  # Windows
        loan = loans[0]
        if views[0] is not loan.view:  # up to the one that begins with descriptors
            return sock.sendmsg(list(takewhile(lambda view: view is not loan.view, islice(views, _VIEWS))))
        try:
            sent = sock.sendmsg([views[0]], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, loan.fds)])
        except OSError as error:
            if error.errno != errno.ETOOMANYREFS:
                raise
            # As many descriptors as we may have are under way already. So this goes as any other.
            loans.popleft()
            views.popleft()
            views.extendleft(reversed(_views(loan.message)))
            return 0
        loans.popleft()
        return sent

    def _advance(self, sent: int) -> None:
        views = self._views
        self.written += sent
        while sent:
            first = views[0]
            if sent < len(first):
                views[0] = first[sent:]
                return
            sent -= len(first)
            views.popleft()
