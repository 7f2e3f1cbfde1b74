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
from safemp.engines.ledger import RUNNING, SIZE, Ledger, Progress, Result, pack_result, unpack_results
from safemp.engines.wire import Message, Outbox, Reader

FRAMES: st.SearchStrategy[Frames] = st.lists(
    st.binary(max_size=40) | st.builds(lambda n, b: b * n, st.integers(1, 200_000), st.binary(min_size=1, max_size=1)),
    max_size=6,
)
NUMBER = st.integers(0, 2**32 - 1)
MESSAGES = st.builds(
    Message, st.integers(0, 255), NUMBER, NUMBER, st.integers(0, 2**64 - 1), FRAMES, NUMBER, st.booleans(), st.just(0)
)


def plain(message: Message) -> tuple[object, ...]:
    return (*message[:4], [bytes(f) for f in message.frames], *message[5:])


@given(st.lists(MESSAGES, max_size=6), st.data())
def test_any_stream_in_any_pieces_gives_its_messages(messages: list[Message], data: st.DataObject) -> None:
    """In order and whole, however the bytes are cut."""
    stream = wire.pack(messages)
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
            outbox.send(ours, [message])
        done = False
        while len(found) < len(messages):
            done = done or outbox.flush(ours)
            found += reader.took(theirs.recv_into(reader.target()))
        assert done
        assert not outbox

    assert [plain(m) for m in found] == [plain(m) for m in messages]


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Ledger, Ledger]]:
    fd = system.ledger_file()
    worker, caller = Ledger(fd), Ledger(fd)
    os.close(fd)
    yield worker, caller
    worker.close()
    caller.close()


OUTCOMES = st.lists(st.lists(st.binary(max_size=20) | st.builds(bytes, st.integers(0, SIZE)), max_size=4), max_size=30)


@given(outcomes=OUTCOMES, flushes=st.sets(st.integers(0, 29)))
def test_any_outcomes_are_held_or_sent_exactly_once(
    both: tuple[Ledger, Ledger], outcomes: list[Frames], flushes: set[int]
) -> None:
    """Whatever fits, and whenever they are flushed: none is lost, none is twice, each has its index."""
    worker, caller = both
    sent: list[Result] = []

    def send(records: bytes) -> None:
        sent.extend(unpack_results(records))

    for i, outcome in enumerate(outcomes):
        worker.begin(1, i, RUNNING, 0.5 * i)
        record = pack_result(1, i, outcome)
        if not worker.add(record):
            worker.flush(send)
            if not worker.add(record):
                sent.append((1, i, outcome))
        if i in flushes:
            worker.flush(send)
        assert caller.progress() == Progress(1, 0.5 * i, i, RUNNING)
        assert [*sent, *caller.held()] == [(1, n, each) for n, each in enumerate(outcomes[: i + 1])]
    worker.flush(send)
