"""Messages: they arrive whole and in order, in whatever pieces they come."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from safemp.codec.frames import Frames
from safemp.engines import wire
from safemp.engines.wire import Message, Outbox, Reader


def message(task: int = 1, frames: Frames | None = None) -> Message:
    return Message(2, 3, 4, task, frames or [])


def same(found: Message, wanted: Message) -> bool:
    return found[:4] == wanted[:4] and [bytes(f) for f in found.frames] == [bytes(f) for f in wanted.frames]


def joined(messages: list[Message]) -> bytes:
    return b"".join(b"".join((wire.head(m), *m.frames)) for m in messages)


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
    message(7),
]


@pytest.mark.parametrize("most", [1, 2, 7, 4_096, 65_535, 65_536, 10**9])
def test_a_stream_gives_its_messages_in_pieces_of_any_size(most: int) -> None:
    """Byte by byte or all at once, what was written is read, in order."""
    found = feed(Reader(), joined(MESSAGES), most)

    assert len(found) == len(MESSAGES)
    assert all(map(same, found, MESSAGES))


def test_a_message_is_given_as_soon_as_it_is_whole() -> None:
    """Nothing waits for the message after it, and nothing comes before its last byte."""
    reader = Reader()
    for each in MESSAGES:
        stream = joined([each])
        assert feed(reader, stream[:-1], 10**9) == []

        found = feed(reader, stream[-1:], 1)

        assert len(found) == 1
        assert same(found[0], each)


def test_a_head_larger_than_the_readers_buffer_is_read() -> None:
    """A message of so many frames that their sizes alone fill the buffer arrives.

    A result that holds tens of thousands of arrays is such a message.
    """
    many = message(1, [b"abcdefg" for _ in range(20_000)])

    found = feed(Reader(), joined([many, message(2)]), 4_096)

    assert len(found) == 2
    assert same(found[0], many)


def test_what_was_read_is_writable_and_does_not_change() -> None:
    """Frames are memory of their own: the next message does not overwrite them."""
    reader = Reader()
    (first,) = feed(reader, joined([message(1, [b"small", b"l" * 70_000])]), 10**9)
    feed(reader, joined([message(2, [b"SMALL", b"L" * 70_000])]), 10**9)

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
    for each in MESSAGES:
        outbox.add(each)
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
    outbox = Outbox()
    outbox.add(message(1, [b"x"]))

    with pytest.raises(OSError, match=r".*"):
        outbox.flush(ours)


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
    ours.sendall(joined(MESSAGES)[:10])
    ours.close()

    with pytest.raises(EOFError):
        wire.receive(theirs, Reader())


@pytest.mark.parametrize("each", [m for m in MESSAGES if sum(map(len, m.frames)) < wire.PACKET and len(m.frames) < 99])
def test_a_packet_holds_one_message(each: Message) -> None:
    """What was packed into a packet is unpacked, and its frames are its own memory."""
    packet = bytearray(joined([each]))

    found = wire.unpacket(memoryview(packet))

    packet[:] = bytes(len(packet))
    assert same(found, each)


def test_packets_keep_their_bounds() -> None:
    """Two packets are read one at a time, where the system has packets."""
    made = wire.packets()
    if made is None:
        pytest.skip("this system has no packet sockets")
    ours, theirs = made
    with ours, theirs:
        for each in MESSAGES[:3]:
            ours.send(joined([each]))
        found = [wire.unpacket(memoryview(theirs.recv(2 * wire.PACKET))) for _ in range(3)]

    assert all(map(same, found, MESSAGES))


def test_the_largest_packet_goes_through() -> None:
    """A message of ``PACKET`` bytes of frames fits one packet and the buffer it is read into."""
    made = wire.packets()
    if made is None:
        pytest.skip("this system has no packet sockets")
    ours, theirs = made
    n = 512
    largest = message(1, [b"x" * (wire.PACKET // n - 8)] * n)
    assert sum(map(len, largest.frames)) + 8 * len(largest.frames) == wire.PACKET
    with ours, theirs:
        ours.send(joined([largest]))
        buffer = bytearray(2 * wire.PACKET)
        found = wire.unpacket(memoryview(buffer)[: theirs.recv_into(buffer)])

    assert same(found, largest)
