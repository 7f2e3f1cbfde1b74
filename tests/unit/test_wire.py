"""Messages: they arrive whole and in order, in whatever pieces they come."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from itertools import count

import pytest

from safemp.codec.frames import Frames
from safemp.engines import wire
from safemp.engines.wire import Message, Outbox, Reader
from safemp.errors import FrameError


def message(task: int = 1, frames: Frames | None = None) -> Message:
    return Message(2, 3, 4, task, frames or [])


def same(found: Message, wanted: Message) -> bool:
    plain = found._replace(frames=[]) == wanted._replace(frames=[])
    return plain and [bytes(f) for f in found.frames] == [bytes(f) for f in wanted.frames]


def feed(reader: Reader, stream: bytes, most: int) -> list[Message]:
    """Put *stream* into *reader*, at most *most* bytes at a time."""
    found: list[Message] = []
    at = 0
    while at < len(stream):
        target = reader.target()
        assert len(target)
        n = min(len(target), most, len(stream) - at)
        target[:n] = stream[at : at + n]
        found += reader.took(n)
        at += n
    return found


MESSAGES = [
    message(1),
    message(2, [b""]),
    message(3, [b"a", b"", b"bcd"]),
    Message(255, 2**32 - 1, 2**32 - 1, 2**64 - 1, [b"largest numbers"]),
    message(4, [b"x" * 70_000, b"y"]),
    message(5, [b"z" * 65_536]),
    message(6, [bytes([i % 251]) for i in range(3_000)]),
    Message(1, 2, 3, 7, [], stop=2**32 - 1, ahead=True),
    Message(1, 2, 3, 8, [b"two", b"frames"], stop=9, ahead=True),
]


@pytest.mark.parametrize("most", [1, 2, 7, 4_096, 65_535, 65_536, 10**9])
def test_a_stream_gives_its_messages_in_pieces_of_any_size(most: int) -> None:
    """Byte by byte or all at once, what was written is read, in order."""
    found = feed(Reader(), wire.pack(MESSAGES), most)

    assert len(found) == len(MESSAGES)
    assert all(map(same, found, MESSAGES))


def test_a_message_is_given_as_soon_as_it_is_whole() -> None:
    """Nothing waits for the message after it, and nothing comes before its last byte."""
    reader = Reader()
    for each in MESSAGES:
        stream = wire.pack([each])
        assert feed(reader, stream[:-1], 10**9) == []

        found = feed(reader, stream[-1:], 1)

        assert len(found) == 1
        assert same(found[0], each)


def test_a_head_larger_than_the_readers_buffer_is_read() -> None:
    """A message of so many frames that their sizes alone fill the buffer arrives.

    A result that holds tens of thousands of arrays is such a message.
    """
    many = message(1, [b"abcdefg" for _ in range(20_000)])

    found = feed(Reader(), wire.pack([many, message(2)]), 4_096)

    assert len(found) == 2
    assert same(found[0], many)


def test_what_was_read_is_writable_and_does_not_change() -> None:
    """Frames are memory of their own: the next message does not overwrite them."""
    reader = Reader()
    (first,) = feed(reader, wire.pack([message(1, [b"small", b"l" * 70_000])]), 10**9)
    feed(reader, wire.pack([message(2, [b"SMALL", b"L" * 70_000])]), 10**9)

    assert [bytes(first.frames[0]), bytes(first.frames[1])[:2]] == [b"small", b"ll"]
    for frame in first.frames:
        memoryview(frame)[0] = 1


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = wire.streams()
    with ours, theirs:
        yield ours, theirs


def drain(outbox: Outbox, ours: socket.socket, theirs: socket.socket) -> tuple[list[Message], int]:
    """Flush *outbox* into *ours* until it is empty, reading from *theirs* as it fills."""
    reader = Reader()
    found: list[Message] = []
    flushes = 0
    while not outbox.flush(ours):
        flushes += 1
        found += reader.took(theirs.recv_into(reader.target()))
    theirs.setblocking(False)
    while True:
        try:
            found += reader.took(theirs.recv_into(reader.target()))
        except BlockingIOError:
            return found, flushes


def test_an_outbox_writes_what_the_socket_takes(pair: tuple[socket.socket, socket.socket]) -> None:
    """It never blocks; what does not fit stays, and goes on where it stopped."""
    ours, theirs = pair
    ours.setblocking(False)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_608)
    outbox = Outbox()
    assert not outbox
    outbox.send(ours, MESSAGES)
    assert outbox

    found, flushes = drain(outbox, ours, theirs)

    assert flushes > 1, "the socket took everything at once: this shows nothing"
    assert not outbox
    assert len(found) == len(MESSAGES)
    assert all(map(same, found, MESSAGES))


def test_an_outbox_says_when_the_other_side_is_gone(pair: tuple[socket.socket, socket.socket]) -> None:
    """Writing to nobody is an ``OSError``, not a wait."""
    ours, theirs = pair
    ours.setblocking(False)
    theirs.close()

    for large in (False, True):
        with pytest.raises(OSError, match=r".*"):
            Outbox().send(ours, [message(1, [b"x" * (wire.SMALL + 1 if large else 1)])])


@pytest.mark.parametrize("each", MESSAGES[:4] + MESSAGES[-1:])
def test_what_was_sent_is_received(pair: tuple[socket.socket, socket.socket], each: Message) -> None:
    """``send_all`` and ``receive`` are each other's inverse."""
    ours, theirs = pair
    wire.send_all(ours, each)

    (found,) = wire.receive(theirs, Reader())

    assert same(found, each)


def test_the_end_of_a_stream_is_an_eof_error(pair: tuple[socket.socket, socket.socket]) -> None:
    """Also in the middle of a message."""
    ours, theirs = pair
    ours.sendall(wire.pack(MESSAGES)[:10])
    ours.close()

    with pytest.raises(EOFError):
        wire.receive(theirs, Reader())


def test_small_messages_go_out_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """While there is room nothing is kept; behind what is kept nothing overtakes."""
    ours, theirs = pair
    ours.setblocking(False)
    outbox = Outbox()
    outbox.send(ours, MESSAGES[:3])
    assert not outbox
    outbox.send(ours, [message(8, [bytes(8_000_000)])])
    assert outbox
    outbox.send(ours, [message(9)])

    found, _ = drain(outbox, ours, theirs)

    assert [m.task for m in found] == [1, 2, 3, 8, 9]


# -- tokens ------------------------------------------------------------------------------


@pytest.fixture
def tokens() -> Iterator[wire.Tokens]:
    made = wire.Tokens()
    yield made
    made.close()


def test_a_task_may_begin_with_its_token(tokens: wire.Tokens) -> None:
    """Each once, in order."""
    tokens.give([1, 2])
    tokens.give([2**62])

    assert [wire.claim(tokens.theirs, task, 0) for task in (1, 2, 2**62)] == [(True, 0)] * 3


def test_what_is_taken_back_may_not_begin(tokens: wire.Tokens) -> None:
    """Not even when its message had been read; and what comes later may."""
    tokens.give([1, 2, 3])
    assert wire.claim(tokens.theirs, 1, 0) == (True, 0)

    assert tokens.take_back() == [2, 3]
    tokens.give([4])

    may, dropped = wire.claim(tokens.theirs, 2, 0)
    assert (may, dropped) == (False, 3)
    assert wire.claim(tokens.theirs, 3, dropped) == (False, 3)
    assert wire.claim(tokens.theirs, 4, dropped) == (True, 3)


def test_taking_back_twice_forgets_nothing(tokens: wire.Tokens) -> None:
    """An order to skip that nobody has read yet is renewed."""
    tokens.give([1, 2])
    assert tokens.take_back() == [1, 2]
    assert tokens.take_back() == []
    tokens.give([5])
    assert tokens.take_back() == [5]

    assert wire.claim(tokens.theirs, 1, 0) == (False, 5)


def test_taking_back_nothing_says_nothing(tokens: wire.Tokens) -> None:
    """Then there is no order to skip, and the socket stays empty."""
    assert tokens.take_back() == []
    tokens.give([1])

    assert wire.claim(tokens.theirs, 1, 0) == (True, 0)


def test_a_claim_waits_for_its_token(tokens: wire.Tokens) -> None:
    """The message may be there before its token."""
    found: list[tuple[bool, int]] = []
    thread = threading.Thread(target=lambda: found.append(wire.claim(tokens.theirs, 1, 0)))
    thread.start()
    tokens.give([1])
    thread.join()

    assert found == [(True, 0)]


def test_a_claim_ends_with_the_caller() -> None:
    """A worker whose caller is gone does not wait for ever."""
    tokens = wire.Tokens()
    theirs = tokens.theirs.dup()
    tokens.close()

    with theirs, pytest.raises(EOFError):
        wire.claim(theirs, 1, 0)


def test_every_token_goes_to_one_side(tokens: wire.Tokens) -> None:
    """While both sides take as fast as they can, none is lost and none is there twice."""
    claimed: list[int] = []
    back: list[int] = []
    last = 0  # the last task there is, when there are no more

    def claim_all() -> None:
        dropped = 0
        for task in count(1):
            may, dropped = wire.claim(tokens.theirs, task, dropped)
            if may:
                claimed.append(task)
            if task == last:
                return

    thread = threading.Thread(target=claim_all)
    thread.start()
    until = time.monotonic() + 30
    for first in count(1, 20):
        # Which side is the faster one is not ours to say: until either has had some.
        if first > 20_000 and ((claimed and back) or time.monotonic() > until):
            break
        tokens.give(range(first, first + 20))
        back += tokens.take_back()
    last = first
    tokens.give([last])
    thread.join()

    assert sorted(claimed + back) == list(range(1, last + 1))
    assert claimed
    assert back


def test_what_is_no_message_is_said_to_be_none() -> None:
    """A task has written to a descriptor that is not its own: nobody waits for the rest of that."""
    ours, theirs = wire.streams()
    with ours, theirs:
        theirs.sendall(b"garbage" * 10)
        with pytest.raises(FrameError, match="not written by safemp"):
            wire.read(ours, wire.Reader())
