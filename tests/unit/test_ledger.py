"""The ledger: what a dead worker had written down is read as it was."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from safemp.codec.frames import Frames
from safemp.engines import system
from safemp.engines.ledger import IDLE, LOADING, RUNNING, SIZE, Ledger, Progress, pack_outcome, unpack_outcomes
from tests.support.child import until


@pytest.fixture
def both() -> Iterator[tuple[Ledger, Ledger]]:
    """The worker's view and the caller's of one page."""
    fd = system.ledger_file()
    worker, caller = Ledger(fd), Ledger(fd)
    os.close(fd)
    yield worker, caller
    worker.close()
    caller.close()


OUTCOMES: list[Frames] = [
    [b"header", b"payload"],
    [b"header", b"", b"buffer", b""],
    [b"", b""],
    [b"h" * 12, b"x" * 999],
]


def test_outcomes_are_joined_and_taken_apart() -> None:
    """Any number of frames of any size, empty ones too."""
    records = b"".join(map(pack_outcome, OUTCOMES))

    assert unpack_outcomes(records) == OUTCOMES
    assert unpack_outcomes(memoryview(records)) == OUTCOMES
    assert unpack_outcomes(b"") == []


def test_a_new_ledger_says_that_nothing_has_begun(both: tuple[Ledger, Ledger]) -> None:
    """A worker that dies before its first task is blamed for none."""
    assert both[1].read() == Progress(0, IDLE, 0, [])


@pytest.mark.parametrize("state", [IDLE, LOADING, RUNNING])
def test_what_begins_is_read(both: tuple[Ledger, Ledger], state: int) -> None:
    """Task, state and place are there at once, up to the largest numbers."""
    worker, caller = both
    worker.begin(2**64 - 1, state, 2**32 - 1)

    assert caller.read() == Progress(2**64 - 1, state, 2**32 - 1, [])


def test_outcomes_are_held_in_order(both: tuple[Ledger, Ledger]) -> None:
    """Each is read back as soon as it was added."""
    worker, caller = both
    worker.begin(7, RUNNING, 3)
    for i, outcome in enumerate(OUTCOMES):
        assert worker.held == i
        assert worker.add(pack_outcome(outcome))
        assert caller.read() == Progress(7, RUNNING, 3, OUTCOMES[: i + 1])


def test_beginning_forgets_what_was_held(both: tuple[Ledger, Ledger]) -> None:
    """Outcomes of one task are never taken for another's."""
    worker, caller = both
    worker.begin(7, RUNNING)
    worker.add(pack_outcome(OUTCOMES[0]))
    worker.begin(8, LOADING)

    assert caller.read() == Progress(8, LOADING, 0, [])
    assert worker.held == 0


def test_what_does_not_fit_is_refused(both: tuple[Ledger, Ledger]) -> None:
    """It fills to its last byte, then says so, and what it holds stays."""
    worker, caller = both
    record = pack_outcome([b"", b"x" * 979])
    assert len(record) == 999
    worker.begin(1, RUNNING)
    n = 0
    while worker.add(record):
        n += 1
    rest = (SIZE - 32) - n * len(record)
    last = [b"", b"y" * (rest - 20)]

    assert n == (SIZE - 32) // 999
    assert not worker.add(pack_outcome([b"", b"y" * (rest - 19)]))
    assert worker.add(pack_outcome(last))
    assert not worker.add(b"z")
    assert caller.read().outcomes == [*([[b"", b"x" * 979]] * n), last]


def test_what_is_larger_than_the_page_is_refused(both: tuple[Ledger, Ledger]) -> None:
    """A large outcome never fits, and harms nothing."""
    worker, caller = both
    worker.begin(1, RUNNING)

    assert not worker.add(bytes(SIZE))
    assert caller.read() == Progress(1, RUNNING, 0, [])


def test_what_is_taken_is_sent_then_forgotten(both: tuple[Ledger, Ledger]) -> None:
    """The place moves on by as many as were sent; while they are sent, they are still held."""
    worker, caller = both
    worker.begin(7, RUNNING, 10)
    for outcome in OUTCOMES:
        worker.add(pack_outcome(outcome))
    sent: list[tuple[int, list[Frames], Progress]] = []

    def send(count: int, records: bytes) -> None:
        sent.append((count, unpack_outcomes(records), caller.read()))

    worker.take(7, RUNNING, send)
    after = caller.read()
    worker.take(7, RUNNING, send)

    assert sent == [(4, OUTCOMES, Progress(7, RUNNING, 10, OUTCOMES))]
    assert after == Progress(7, RUNNING, 14, [])
    assert caller.read() == after, "nothing held, nothing sent"


def test_taking_again_goes_on_from_there(both: tuple[Ledger, Ledger]) -> None:
    """Outcomes after a flush carry their own place."""
    worker, caller = both
    worker.begin(7, RUNNING)
    worker.add(pack_outcome(OUTCOMES[0]))
    worker.take(7, RUNNING, lambda count, records: None)
    worker.add(pack_outcome(OUTCOMES[1]))

    assert caller.read() == Progress(7, RUNNING, 1, [OUTCOMES[1]])

    worker.take(7, IDLE, lambda count, records: None)

    assert caller.read() == Progress(7, IDLE, 2, [])


def test_a_page_outlives_its_writer(both: tuple[Ledger, Ledger]) -> None:
    """What a process had written down when it was killed is there."""
    worker, caller = both
    child = os.fork()
    if child == 0:
        worker.begin(5, RUNNING)
        worker.add(pack_outcome(OUTCOMES[0]))
        os.kill(os.getpid(), signal.SIGKILL)
    assert until(lambda: os.waitpid(child, os.WNOHANG)[0])

    assert caller.read() == Progress(5, RUNNING, 0, [OUTCOMES[0]])
