"""What a call costs its caller, counted and not timed: the calls of functions that it takes, Python's and C's.

They are the same on every machine and under any load. The bounds are a third above what there
was when they were set; whoever needs more changes them, and knows it.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import pytest

from safemp import Pool, SafeExecutor
from tests.support.jobs import square, text_of_last


def calls(work: Callable[[], Any]) -> int:
    """Return how many calls of functions *work* takes in this thread."""
    found = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal found
        found += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return found


@pytest.fixture
def busy() -> Iterator[SafeExecutor]:
    """An executor whose one worker is at a long call, so that what is submitted waits."""
    with SafeExecutor(1) as executor:
        wait([executor.submit(square, i) for i in range(20)])
        held = executor.submit(time.sleep, 60)
        while not held.running() or executor.stats().running > 1:
            time.sleep(0.01)
        yield executor
        held.kill()


def test_a_submit_takes_few_calls(busy: SafeExecutor) -> None:
    """Submitting a call of a module's function takes less than 75 calls, and reading its answer less than 34."""
    futures = []
    # The least of many: now and then a worker is looked after, or the garbage collector comes by.
    submit = min(calls(lambda: futures.append(busy.submit(square, 1))) for _ in range(20))
    assert submit < 75

    with SafeExecutor(1) as executor:
        futures = [executor.submit(square, 1) for _ in range(20)]
        wait(futures)
        result = min(calls(future.result) for future in futures)
    assert result < 34


def test_a_queued_call_takes_less_than_a_kilobyte(busy: SafeExecutor) -> None:
    """All that the caller keeps of a call with one number that waits for its turn, its future included."""
    for i in range(100):
        busy.submit(square, i)
    futures: list[Any] = [None] * 2000
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(len(futures)):
            futures[i] = busy.submit(square, i)
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    busy.shutdown(wait=False, cancel_futures=True)

    # Before Python 3.11 the attributes of an object take more, and those of a future a little too much.
    assert taken / len(futures) < (1024 if sys.version_info >= (3, 11) else 1100)


def test_an_item_of_a_map_takes_next_to_no_call() -> None:
    """Ten thousand items more take less than a thousand calls more: what is done for each item is done in C.

    Not quite for each: where a worker was kept waiting, a row begins with an outcome by itself.
    """
    with Pool(1) as pool:
        pool.map(square, range(1000))
        few = calls(lambda: pool.map(square, range(1000)))
        many = calls(lambda: pool.map(square, range(11_000)))

        assert many - few < 1000


def test_one_outcome_by_itself_does_not_make_the_others_dear() -> None:
    """A result that is no number among ten thousand that are costs for itself only."""
    with Pool(1) as pool:
        pool.map(text_of_last, range(1000))
        few = calls(lambda: pool.map(text_of_last, range(1000)))
        many = calls(lambda: pool.map(text_of_last, range(11_000)))

        assert many - few < 1000
