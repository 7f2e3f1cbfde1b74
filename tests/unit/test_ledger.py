"""The ledger: what a dead worker had written down is read as it was."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from safemp.codec.frames import Frames
from safemp.engines import rows, system
from safemp.engines.ledger import (
    _DATA,
    _HELD_AT,
    _SEAL,
    IDLE,
    LOADING,
    PAGE,
    RUNNING,
    SIZE,
    Ledger,
    Progress,
    Result,
    pack_result,
    unpack_results,
)
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


RESULTS: list[Result] = [(2**64 - 1 - i, 2**32 - 1 - i, outcome) for i, outcome in enumerate(OUTCOMES)]


def test_results_are_joined_and_taken_apart() -> None:
    """Any number of frames of any size, empty ones too."""
    records = b"".join(pack_result(*result) for result in RESULTS)

    assert unpack_results(records) == RESULTS
    assert unpack_results(memoryview(records)) == RESULTS
    assert unpack_results(b"") == []


def test_a_new_ledger_says_that_nothing_has_begun(both: tuple[Ledger, Ledger]) -> None:
    """A worker that dies before its first task is blamed for none."""
    assert both[1].progress() == Progress(0, 0.0, 0, IDLE)
    assert both[1].held() == []


@pytest.mark.parametrize("state", [IDLE, LOADING, RUNNING])
def test_what_begins_is_read(both: tuple[Ledger, Ledger], state: int) -> None:
    """Task, time, place and state are there at once, up to the largest numbers."""
    worker, caller = both
    worker.begin(2**64 - 1, 2**32 - 1, state, 1e12 + 0.25)

    assert caller.progress() == Progress(2**64 - 1, 1e12 + 0.25, 2**32 - 1, state)


def test_what_is_finished_rests(both: tuple[Ledger, Ledger]) -> None:
    """Only the state changes."""
    worker, caller = both
    worker.begin(7, 3, RUNNING, 1.5)
    worker.rest()

    assert caller.progress() == Progress(7, 1.5, 3, IDLE)


def test_outcomes_are_held_in_order(both: tuple[Ledger, Ledger]) -> None:
    """Each is read back as soon as it was added, also while the next one begins."""
    worker, caller = both
    for i, result in enumerate(RESULTS):
        assert worker.add(pack_result(*result))
        worker.begin(7, i, RUNNING, 0.0)
        assert caller.held() == RESULTS[: i + 1]


def test_what_does_not_fit_is_refused(both: tuple[Ledger, Ledger]) -> None:
    """It fills to its last byte, then says so, and what it holds stays."""
    worker, caller = both
    record = pack_result(1, 1, [b"", b"x" * 967])
    assert len(record) == 999
    n = 0
    while worker.add(record):
        n += 1
    rest = (SIZE - _DATA) - n * len(record)
    last = [b"", b"y" * (rest - 32)]

    assert n == (SIZE - _DATA) // 999
    assert not worker.add(pack_result(1, 2, [b"", b"y" * (rest - 31)]))
    assert worker.add(pack_result(1, 2, last))
    assert not worker.add(b"z")
    assert caller.held() == [*([(1, 1, [b"", b"x" * 967])] * n), (1, 2, last)]


def test_what_is_larger_than_the_page_is_refused(both: tuple[Ledger, Ledger]) -> None:
    """A large outcome never fits, and harms nothing."""
    worker, caller = both

    assert not worker.add(bytes(SIZE))
    assert caller.held() == []


def test_what_is_flushed_is_sent_then_forgotten(both: tuple[Ledger, Ledger]) -> None:
    """While it is sent, it is still held: a death in between loses nothing."""
    worker, caller = both
    for result in RESULTS:
        worker.add(pack_result(*result))
    sent: list[tuple[list[Result], list[Result]]] = []

    def send(records: bytes) -> None:
        sent.append((unpack_results(records), caller.held()))

    worker.flush(send)
    assert caller.held() == []
    worker.flush(send)
    worker.add(pack_result(*RESULTS[1]))

    assert sent == [(RESULTS, RESULTS)], "nothing held, nothing sent"
    assert caller.held() == RESULTS[1:2]


def test_what_is_held_behind_a_flush_is_seen() -> None:
    """A flush in the middle of a look does not hide what is held after it: nobody may look again."""

    class Page(mmap.mmap):
        """While it is read for the first time, its writer goes on."""

        def __getitem__(self, key: Any) -> Any:
            found = super().__getitem__(key)
            if meanwhile:
                meanwhile.pop()()
            return found

    def meanwhile_flush() -> None:
        worker.flush(sent.append)
        worker.add(pack_result(*RESULTS[1]))

    meanwhile: list[Callable[[], None]] = []
    sent: list[bytes] = []
    with contextlib.closing(Ledger(-1)) as worker:
        worker._page.close()
        worker._page = Page(-1, PAGE)
        worker._page[: len(_SEAL)] = _SEAL
        worker.add(pack_result(*RESULTS[0]))
        meanwhile.append(meanwhile_flush)

        assert worker.held() == RESULTS[1:2]
        assert not meanwhile


def test_a_page_that_is_written_is_not_misread(both: tuple[Ledger, Ledger]) -> None:
    """Read while its living writer flushes and goes on, it gives whole records in order, or none."""
    worker, caller = both
    child = os.fork()
    if child == 0:
        try:
            for i in range(200_000):
                if not worker.add(pack_result(1, i, [b"%d" % i, b"x" * (i % 3_000)])):
                    worker.flush(lambda records: None)
        finally:
            os._exit(0)
    reads = 0
    while not os.waitpid(child, os.WNOHANG)[0]:
        held = caller.held()
        reads += bool(held)
        assert all(frames == [b"%d" % i, b"x" * (i % 3_000)] for _, i, frames in held)
        assert [i for _, i, _ in held] == list(range(held[0][1], held[0][1] + len(held))) if held else True

    assert reads


@pytest.mark.parametrize("garbage", [b"x", bytes(64), b"GARBAGE!" * 8, bytes(range(256)) * 40])
def test_a_page_that_was_written_over_is_not_believed(both: tuple[Ledger, Ledger], garbage: bytes) -> None:
    """By a task that writes to descriptors which are not its own."""
    worker, caller = both
    worker.begin(5, 2, RUNNING, 0.0)
    worker.add(pack_result(*RESULTS[0]))
    assert caller.is_sound()
    assert worker.is_sealed()
    worker._page[: len(garbage)] = garbage

    assert not worker.is_sealed()
    assert not caller.is_sound()
    assert caller.held() == []
    assert caller.progress().task == 0


@pytest.mark.parametrize("held", [7, 2**63])
def test_records_that_do_not_parse_are_not_believed(both: tuple[Ledger, Ledger], held: int) -> None:
    """Nor do they end who reads them."""
    worker, caller = both
    worker._page[_HELD_AT : _HELD_AT + 8] = held.to_bytes(8, "little")
    worker._page[_DATA : _DATA + 64] = b"\xff" * 64

    assert not caller.is_sound()
    assert caller.held() == []


def test_a_page_outlives_its_writer(both: tuple[Ledger, Ledger]) -> None:
    """What a process had written down when it was killed is there."""
    worker, caller = both
    child = os.fork()
    if child == 0:
        worker.begin(5, 2, RUNNING, 0.0)
        worker.add(pack_result(*RESULTS[0]))
        os.kill(os.getpid(), signal.SIGKILL)
    assert until(lambda: os.waitpid(child, os.WNOHANG)[0])

    assert caller.progress() == Progress(5, 0.0, 2, RUNNING)
    assert caller.held() == RESULTS[:1]


# -- rows ----------------------------------------------------------------------------


def kind(cls: type) -> int:
    """Return the kind of its rows."""
    found = rows.kind_of(cls)
    assert found is not None
    return found


@pytest.mark.parametrize("cls", [int, float, bool, type(None)], ids=lambda cls: cls.__name__)
def test_a_row_is_read_while_it_grows(both: tuple[Ledger, Ledger], cls: type) -> None:
    """Its values, and with them how far the worker is, after every store."""
    worker, caller = both
    values: list[Any] = [None] * 5 if cls is type(None) else [cls(i % 2) for i in range(5)]
    worker.begin(7, 40, RUNNING, 1.5)
    cells = worker.open_row(kind(cls), 40, 5)
    assert worker.has_row
    assert caller.held() == []
    for n, value in enumerate(values, 1):
        cells[n - 1] = value or 0
        assert caller.held() == [(7, 40, values[:n])]
        assert [type(each) for each in caller.held()[0][2]] == [cls] * n  # type: ignore[union-attr, arg-type]
        assert caller.progress() == Progress(7, 1.5, 40 + n, RUNNING)
        assert worker.at() == (7, 40 + n)
    worker.rest()
    assert caller.progress() == Progress(7, 1.5, 44, IDLE)

    sent: list[Any] = []
    worker.close_row(5, lambda *what: sent.append((what, caller.held())))
    assert [(rows.unpack(*what), held) for what, held in sent] == [(values, [(7, 40, values)])]
    assert not worker.has_row
    assert caller.held() == []
    assert caller.progress().item < 45


@pytest.mark.parametrize("state", [RUNNING, IDLE])
def test_the_item_behind_a_row_is_the_one_that_runs(both: tuple[Ledger, Ledger], state: int) -> None:
    """When its outcome does not go into the row, the row is ended first."""
    worker, caller = both
    worker.begin(7, 3, RUNNING, 0.0)
    cells = worker.open_row(kind(int), 3, 100)
    cells[0] = cells[1] = 5
    worker.begin(7, 5, state, 0.0)
    assert caller.held() == [(7, 3, [5, 5])]
    assert caller.progress().item == 5

    worker.close_row(2, lambda *_: None)
    assert caller.progress() == Progress(7, 0.0, 5, state)
    assert caller.held() == []


def test_the_end_of_a_row_is_found_where_a_cell_begins(both: tuple[Ledger, Ledger]) -> None:
    """Not where the end of one value and the beginning of the next look like an empty cell."""
    worker, caller = both
    worker.begin(1, 0, RUNNING, 0.0)
    worker.open_row(kind(int), 0, 1)
    blank = worker._blank
    worker.close_row(0, lambda *_: None)
    values = [int.from_bytes(b"\0\0\0\0" + blank[:4], "little", signed=True)]
    values.append(int.from_bytes(blank[4:] + b"\0\0\0\0", "little", signed=True))
    cells = worker.open_row(kind(int), 0, rows.MOST)
    cells[0], cells[1] = values

    assert caller.held() == [(1, 0, values)]


def test_a_full_row_of_the_largest_size_is_read(both: tuple[Ledger, Ledger]) -> None:
    """Behind its last cell is an empty one."""
    worker, caller = both
    for value in (1, 2):  # what is left of the first is not in the second
        worker.begin(1, 0, RUNNING, 0.0)
        cells = worker.open_row(kind(int), 0, rows.MOST)
        for n in range(rows.MOST):
            cells[n] = value
        assert caller.held() == [(1, 0, [value] * rows.MOST)]
        worker.close_row(rows.MOST, lambda *_: None)
    worker.open_row(kind(int), 0, 2)[0] = 3
    assert caller.held() == [(1, 0, [3])]


def test_a_forked_child_stores_nothing(both: tuple[Ledger, Ledger]) -> None:
    """Its memory is the worker's; what it tries to store is a ``ValueError``."""
    worker, caller = both
    worker.begin(1, 0, RUNNING, 0.0)
    cells = worker.open_row(kind(int), 0, 2)
    cells[0] = 1
    worker.release_row()
    with pytest.raises(ValueError, match="released"):
        cells[1] = 2

    assert caller.held() == [(1, 0, [1])]
