"""Random messages in random pieces; random outcomes in the ledger."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safemp.codec.frames import Frames
from safemp.engines import system, wire
from safemp.engines.ledger import RUNNING, SIZE, Ledger, pack_outcome, unpack_outcomes
from safemp.engines.wire import Message, Outbox, Reader

FRAMES: st.SearchStrategy[Frames] = st.lists(
    st.binary(max_size=40) | st.builds(lambda n, b: b * n, st.integers(1, 200_000), st.binary(min_size=1, max_size=1)),
    max_size=6,
)
NUMBER = st.integers(0, 2**32 - 1)
MESSAGES = st.builds(Message, st.integers(0, 255), NUMBER, NUMBER, st.integers(0, 2**64 - 1), FRAMES)


def plain(message: Message) -> tuple[object, ...]:
    return (*message[:4], [bytes(f) for f in message.frames])


@given(st.lists(MESSAGES, max_size=6), st.data())
def test_any_stream_in_any_pieces_gives_its_messages(messages: list[Message], data: st.DataObject) -> None:
    """In order and whole, however the bytes are cut."""
    stream = b"".join(b"".join((wire.head(m), *m.frames)) for m in messages)
    pieces = data.draw(st.lists(st.integers(1, 100_000) | st.integers(1, 50), min_size=1, max_size=30))
    reader = Reader()
    found: list[Message] = []
    at = turn = 0
    while at < len(stream):
        target = reader.target()
        n = min(pieces[turn % len(pieces)], len(target), len(stream) - at)
        target[:n] = stream[at : at + n]
        found += reader.took(n)
        at += n
        turn += 1

    assert [plain(m) for m in found] == [plain(m) for m in messages]


@given(st.lists(MESSAGES, min_size=1, max_size=5))
def test_any_messages_leave_an_outbox_as_they_came(messages: list[Message]) -> None:
    """Through a socket that takes little at a time."""
    ours, theirs = wire.streams()
    with ours, theirs:
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_608)
        outbox, reader = Outbox(), Reader()
        found: list[Message] = []
        for message in messages:
            outbox.add(message)
        done = False
        while len(found) < len(messages):
            done = done or outbox.flush(ours)
            found += reader.took(theirs.recv_into(reader.target()))
        assert done
        assert not outbox

    assert [plain(m) for m in found] == [plain(m) for m in messages]


@given(MESSAGES)
def test_any_message_fits_a_packet_when_it_is_small(message: Message) -> None:
    """What is packed is unpacked."""
    packet = b"".join((wire.head(message), *message.frames))

    assert plain(wire.unpacket(memoryview(packet))) == plain(message)


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Ledger, Ledger]]:
    fd = system.ledger_file()
    worker, caller = Ledger(fd), Ledger(fd)
    os.close(fd)
    yield worker, caller
    worker.close()
    caller.close()


OUTCOMES = st.lists(st.lists(st.binary(max_size=20) | st.builds(bytes, st.integers(0, SIZE)), max_size=4), max_size=30)


@given(outcomes=OUTCOMES, takes=st.sets(st.integers(0, 29)))
def test_any_outcomes_are_held_or_sent_exactly_once(
    both: tuple[Ledger, Ledger], outcomes: list[Frames], takes: set[int]
) -> None:
    """Whatever fits, and whenever they are flushed: none is lost, none is twice, each has its index."""
    worker, caller = both
    worker.begin(1, RUNNING)
    sent: dict[int, Frames] = {}

    def flush(count: int, records: bytes) -> None:
        held = unpack_outcomes(records)
        assert len(held) == count
        base = caller.read().base
        assert not sent.keys() & set(range(base, base + count))
        sent.update(enumerate(held, base))

    for i, outcome in enumerate(outcomes):
        record = pack_outcome(outcome)
        if not worker.add(record):
            worker.take(1, RUNNING, flush)
            if not worker.add(record):
                sent[i] = outcome
                worker.begin(1, RUNNING, i + 1)
        if i in takes:
            worker.take(1, RUNNING, flush)
        progress = caller.read()
        everything = {**sent, **dict(enumerate(progress.outcomes, progress.base))}
        assert everything == dict(enumerate(outcomes[: i + 1]))
        assert progress.base + len(progress.outcomes) == i + 1
