"""Maps of short calls: their results go in rows, and nobody can tell but by the clock."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import safemp

NUMBERS: list[Any] = [0, 1, -1, 2**63 - 1, -(2**63), 2**63, 10**40, True, False, None]
NUMBERS += [0.0, -0.0, 1.5, -1e308, math.inf, -math.inf, 5e-324]


class Number(int):
    """Not an ``int``, to those who look."""


def pick(i: int) -> Any:
    """Return one of all kinds of values; which one, changes at every turn or seldom."""
    turn = i if i % 5000 < 1000 else i // 700
    return [*NUMBERS, Number(3), "text", b"bytes", (1, 2.0), [i]][turn % (len(NUMBERS) + 5)]


@pytest.fixture(scope="module")
def pool() -> Iterator[safemp.Pool]:
    """Two workers for the module."""
    with safemp.Pool(2) as pool:
        yield pool


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and repr(a) == repr(b)


WAYS: list[Callable[[safemp.Pool, Any, Any], Any]] = [
    lambda pool, fn, items: pool.map(fn, items),
    lambda pool, fn, items: pool.map(fn, items, 17),
    lambda pool, fn, items: list(pool.imap(fn, items, 300)),
    lambda pool, fn, items: pool.starmap(fn, [(item,) for item in items]),
]


@pytest.mark.parametrize("way", WAYS, ids=["map", "chunks of 17", "imap", "starmap"])
def test_every_value_comes_back_as_it_is(pool: safemp.Pool, way: Any) -> None:
    """Type, sign and size; in long rows of one type, and where each is of another one."""
    found = way(pool, pick, range(20_000))

    assert len(found) == 20_000
    assert all(_same(value, pick(i)) for i, value in enumerate(found))


class Unhashable(type):
    """A metaclass whose classes raise when they are hashed or compared."""

    def __hash__(cls) -> int:
        raise RuntimeError("no hash")

    def __eq__(cls, other: object) -> bool:
        raise RuntimeError("no equality")


class Thing(metaclass=Unhashable):
    """One of those."""


class OddThing(Exception, metaclass=Unhashable):
    """And an exception."""


def things(i: int) -> Any:
    """Return or raise what cannot be hashed, now and then."""
    if i == 999:
        raise OddThing(i)
    return Thing() if i % 100 == 50 else i


def test_a_type_that_does_not_hash_fails_its_own_item(pool: safemp.Pool) -> None:
    """Pickle cannot do without; but a row is not what stumbles over it."""
    results = pool.imap(things, range(1000), 500)
    found: list[Any] = []
    for _ in range(1000):
        try:
            found.append(next(results))
        except Exception as error:
            found.append(type(error))

    expected: list[Any] = [safemp.ResultError if i % 100 == 50 else i for i in range(999)]
    assert found[:-1] == expected
    assert isinstance(found[-1], type)
    with pytest.raises(safemp.ResultError):
        pool.map(things, range(500))


def test_not_a_number_stays_one(pool: safemp.Pool) -> None:
    """It equals nothing, not even what stands for an empty cell."""
    assert all(map(math.isnan, pool.map(_nan, range(5000))))


def _nan(i: int) -> float:
    return math.nan if i % 2 else -math.nan


class OddError(Exception):
    """Wants its argument by name."""

    def __init__(self, *, item: int) -> None:
        super().__init__(f"item {item}")
        self.item = item


def odd(i: int) -> int:
    """Raise for some."""
    if i % 1000 == 777:
        raise OddError(item=i)
    if i == 1500:
        raise StopIteration(i)
    if i == 2500:
        raise ValueError("of the task's own")
    return i


def test_what_some_raise_comes_in_its_place(pool: safemp.Pool) -> None:
    """As its own class; a ``ValueError`` and a ``StopIteration`` too. The rest is unharmed."""
    iterator = pool.imap(odd, range(4000), 500)
    found: list[Any] = []
    for _ in range(4000):
        try:
            found.append(next(iterator))
        except Exception as error:
            found.append(error)

    wrong = {i: value for i, value in enumerate(found) if value != i}
    assert {i: type(value) for i, value in wrong.items()} == {
        777: OddError,
        1500: RuntimeError,
        1777: OddError,
        2500: ValueError,
        2777: OddError,
        3777: OddError,
    }
    assert [value.item for value in wrong.values() if isinstance(value, OddError)] == [777, 1777, 2777, 3777]


def test_a_traceback_begins_in_the_task(pool: safemp.Pool) -> None:
    """Of ``map`` and of ``starmap``, in the middle of a row and at its beginning."""
    for at in (777, 0):
        for call in (lambda at: pool.map(odd, [*range(at), 777], 1000), lambda at: pool.starmap(odd, [(777,)], 1)):
            with pytest.raises(OddError) as caught:
                call(at)
            names = [entry.name for entry in caught.traceback]
            assert names[-1] == "odd"
            assert "run_items" not in names
            assert "spread" not in names


class _Writer:
    """Write down that item *i* runs; one of them ends its worker."""

    def __init__(self, path: str, fatal: int | None = None) -> None:
        self.path = path
        self.fatal = fatal

    def __call__(self, i: int) -> None:
        with open(self.path, "ab", buffering=0) as file:
            file.write(b"%d\n" % i)
        if i == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("fatal", [0, 1, 15, 16, 17, 500, 1999])
def test_a_crash_in_a_row_fails_one_item(tmp_path: Path, fatal: int) -> None:
    """The items before it keep their results, those after it run, each once; the report names it."""
    path = str(tmp_path / "ran")
    outcomes: list[Any] = []
    with safemp.Pool(1) as pool:
        results = pool.imap(_Writer(path, fatal), range(2000), 2000)
        for _ in range(2000):
            try:
                outcomes.append(next(results))
            except safemp.WorkerCrashed as error:
                outcomes.append(error.item)

    assert outcomes == [fatal if i == fatal else None for i in range(2000)]
    ran = Counter(map(int, Path(path).read_text().split()))
    assert ran == Counter(range(2000))


@pytest.mark.parametrize("seed", range(3))
def test_kills_from_outside_cost_one_item_each(tmp_path: Path, seed: int) -> None:
    """Whatever a worker is at: what has run is never run again, and what has not, runs."""
    path = str(tmp_path / "ran")
    chance = random.Random(seed)
    n = 24_000
    with safemp.Pool(2) as pool:
        results = pool.imap_unordered(_Writer(path), range(n), 2000)
        outcomes: list[Any] = []
        kills = 0
        for i in range(n):
            try:
                outcomes.append(results.next(60))
            except safemp.WorkerCrashed as error:
                outcomes.append(error)
            if i % 3000 == 100 and pool._processes:
                pid = chance.choice([process.pid for process in pool._pool])
                time.sleep(chance.random() * 0.01)
                with contextlib.suppress(ProcessLookupError):  # killed before, and not buried yet
                    os.kill(pid, signal.SIGKILL)
                    kills += 1

    crashed = {error.item for error in outcomes if isinstance(error, safemp.WorkerCrashed)}
    ran = Counter(map(int, Path(path).read_text().split()))
    assert len(crashed) <= kills
    assert [value for value in outcomes if not isinstance(value, safemp.WorkerCrashed)] == [None] * (n - len(crashed))
    assert max(ran.values()) == 1
    assert set(range(n)) - set(ran) <= crashed


class _Forks(_Writer):
    def __call__(self, i: int) -> None:
        super().__call__(i)
        if i == 900:
            pid = os.fork()
            if pid:
                os.waitpid(pid, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork")
def test_a_child_that_a_task_has_forked_answers_nothing(pool: safemp.Pool, tmp_path: Path) -> None:
    """It comes back into the row, and ends before it has called anything else than the next item."""
    path = str(tmp_path / "ran")

    assert pool.map(_Forks(path), range(3000), 3000) == [None] * 3000
    ran = Counter(map(int, Path(path).read_text().split()))
    assert ran == Counter(range(3000))


def _logs(i: int) -> int:
    if i in (3, 1000):
        logging.getLogger("rows").warning("item %d", i)
    return i


def test_what_is_logged_in_a_row_has_its_item(pool: safemp.Pool, caplog: pytest.LogCaptureFixture) -> None:
    """And is there when the map is."""
    assert pool.map(_logs, range(3000), 3000) == list(range(3000))

    assert [(r.getMessage(), r.safemp_item) for r in caplog.records if r.name == "rows"] == [  # type: ignore[attr-defined]
        ("item 3", 3),
        ("item 1000", 1000),
    ]


def _sleeps(i: int) -> int:
    if i == 1000:
        time.sleep(60)
    return i


def test_each_item_has_its_own_time_where_time_is_limited() -> None:
    """A limit is for a call, not for a row."""
    with safemp.SafeExecutor(1, task_timeout=2) as executor:
        results = executor.map(_sleeps, range(1500), chunksize=1500)
        assert [next(results) for _ in range(1000)] == list(range(1000))
        with pytest.raises(safemp.TaskTimeout) as caught:
            next(results)
        assert caught.value.item == 1000


def test_a_long_item_does_not_hold_back_those_long_before_it(pool: safemp.Pool) -> None:
    """``imap`` gives what rows have brought while the next item takes its time."""
    iterator = pool.imap(_waits, range(40_000), 40_000)

    assert [iterator.next(20) for _ in range(100)] == [0] * 100
    assert sum(iterator) == 0


def _waits(i: int) -> int:
    if i == 39_999:
        time.sleep(0.5)
    return 0
