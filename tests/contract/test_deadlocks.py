"""Where other pools hang, ours answers: faults while a call or its result is pickled, loaded, run or freed."""

from __future__ import annotations

import json
import os
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import wait
from typing import Any

import pytest

import safemp
from tests.support import deadlocks, jobs
from tests.support.child import run_python
from tests.support.deadlocks import CASES, Error, Fault

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="dies as POSIX does")

EXPECTED: dict[tuple[str, str], type] = {
    ("argument pickled", "error"): safemp.PreflightError,
    ("argument pickled", "exit"): safemp.PreflightError,
    ("argument loaded", "error"): safemp.PreflightError,
    ("argument loaded", "exit"): safemp.PreflightError,
    ("run", "error"): Fault,
    ("run", "exit"): SystemExit,
    ("argument freed", "error"): str,
    ("argument freed", "exit"): str,
    ("result pickled", "error"): safemp.ResultError,
    ("result pickled", "exit"): safemp.ResultError,
    ("result loaded in the worker", "error"): deadlocks.AtUnpickle,
    ("result loaded in the worker", "exit"): deadlocks.AtUnpickle,
    ("result loaded in the worker", "c_exit"): deadlocks.AtUnpickle,
    ("result loaded in the worker", "crash"): deadlocks.AtUnpickle,
    ("result loaded", "error"): safemp.ResultError,
    ("result loaded", "exit"): safemp.ResultError,
    ("error pickled", "error"): Error,
    ("error pickled", "exit"): Error,
    ("error loaded in the worker", "error"): Error,
    ("error loaded in the worker", "exit"): Error,
    ("error loaded", "error"): Error,
    ("error loaded", "exit"): Error,
}
"""What comes back. What is not here ends the worker: ``WorkerCrashed``."""

EXITCODES = {"c_exit": 7, "crash": -11}

Outcome = Callable[[], Any]
Ask = Callable[[Callable[[Any], Any], list[Any]], list[Outcome]]


@pytest.fixture(scope="module")
def engine() -> str:
    """Only processes have this."""
    return "local"


def _raising(error: BaseException) -> Outcome:
    def get() -> Any:
        raise error

    return get


def _outcome(get: Outcome) -> Any:
    try:
        return get()
    except BaseException as error:
        return error


def _one_by_one(iterator: Any, items: list[Any]) -> list[Outcome]:
    found = []
    for _ in items:
        value = _outcome(lambda: iterator.next(30))
        found.append(_raising(value) if isinstance(value, BaseException) else lambda value=value: value)
    return found  # type: ignore[return-value]


@pytest.fixture(params=["submit", "apply_async", "map_async", "imap", "imap in chunks", "Executor.map"])
def ask(request: pytest.FixtureRequest, executor: safemp.SafeExecutor, pool: safemp.Pool) -> Ask:
    """Call a function for each of some items, one of which has a fault, in each way there is.

    A way that shows only the first failure shows it as every item's outcome.
    """

    def at_once(get: Outcome, items: list[Any]) -> list[Outcome]:
        value = _outcome(get)
        if isinstance(value, BaseException):
            return [_raising(value)] * len(items)
        return [lambda each=each: each for each in value]  # type: ignore[misc]

    def submit(function: Any, items: list[Any]) -> list[Outcome]:
        futures = [executor.submit(function, item) for item in items]
        return [lambda future=future: future.result(30) for future in futures]  # type: ignore[misc]

    def apply_async(function: Any, items: list[Any]) -> list[Outcome]:
        results = [pool.apply_async(function, (item,)) for item in items]
        return [lambda result=result: result.get(30) for result in results]  # type: ignore[misc]

    ways: dict[str, Ask] = {
        "submit": submit,
        "apply_async": apply_async,
        "map_async": lambda f, items: at_once(lambda: pool.map_async(f, items, 3).get(30), items),
        "imap": lambda f, items: _one_by_one(pool.imap(f, items), items),
        "imap in chunks": lambda f, items: _one_by_one(pool.imap(f, items, 3), items),
        "Executor.map": lambda f, items: at_once(lambda: list(executor.map(f, items, timeout=30)), items),
    }
    return ways[request.param]


@pytest.mark.parametrize("where", CASES)
def test_a_fault_anywhere_is_the_outcome_of_its_call_alone(ask: Ask, where: str) -> None:
    """Its error arrives, or its value where nothing is lost; the calls beside it and after it are answered."""
    function, make, faults = CASES[where]
    for fault in faults:
        items = [make("none"), make(fault), make("none")]
        try:
            outcomes = ask(function, items)
        except safemp.PreflightError as error:
            outcomes = [_raising(error)] * 3
        first, found, last = map(_outcome, outcomes)

        wanted = EXPECTED.get((where, fault), safemp.WorkerCrashed)
        # What is freed when its outcome has been sent already can end the worker and cost nothing.
        assert isinstance(found, (wanted, str) if where == "argument freed" else wanted), (fault, found)
        if isinstance(found, safemp.WorkerCrashed):
            assert found.exitcode == EXITCODES[fault]
        for beside in (first, last):
            assert beside is found or not isinstance(beside, safemp.SafempError), (fault, beside)
    assert _outcome(ask(jobs.square, [1, 2, 3])[2]) == 9


def test_these_faults_hang_todays_pool() -> None:
    """``multiprocessing.Pool`` never answers most of them."""
    ended = run_python("-m", "tests.support.deadlocks", settle=0)
    assert ended.returncode == 0, str(ended)
    told = json.loads(ended.out)

    never = {case for case, answer in told.items() if answer == "never"}
    assert len(never) >= 11
    assert {"argument loaded: error", "run: crash", "result pickled: crash", "result loaded: error"} <= never


# -- beyond the table -------------------------------------------------------------------


def test_a_crash_after_shutdown_was_asked_for_does_not_hang_it() -> None:
    """``shutdown(wait=True)`` returns, and the call has its ``WorkerCrashed``."""
    executor = safemp.SafeExecutor(2)
    future = executor.submit(deadlocks.crash_later, 0.1)
    executor.shutdown(wait=True)

    assert isinstance(future.exception(0), safemp.WorkerCrashed)


def test_a_crash_after_close_does_not_hang_join() -> None:
    """``Pool.join`` returns, and the call has its ``WorkerCrashed``."""
    pool = safemp.Pool(2)
    result = pool.apply_async(deadlocks.crash_later, (0.1,))
    pool.close()
    pool.join()

    with pytest.raises(safemp.WorkerCrashed):
        result.get(0)


def test_an_argument_that_does_not_pickle_does_not_hang_a_shutdown_right_after_it() -> None:
    """The error is raised at the call; the executor ends without being waited for."""
    executor = safemp.SafeExecutor(2)
    assert executor.submit(jobs.square, 3).result(30) == 9
    with pytest.raises(pickle.PicklingError):
        executor.submit(id, deadlocks.AtPickle("error"))
    executor.shutdown(wait=False)


@pytest.mark.parametrize("chunksize", [1, 4])
def test_crashes_with_much_data_on_its_way_do_not_hang(
    executor: safemp.SafeExecutor, pool: safemp.Pool, chunksize: int
) -> None:
    """Every worker dies of every item, each while the next is being written: https://github.com/python/cpython/issues/94777."""
    items = ["a" * 4_000_000] * 10
    with pytest.raises(safemp.WorkerCrashed):
        list(executor.map(deadlocks.crash_with, items, chunksize=chunksize, timeout=40))
    iterator = pool.imap(deadlocks.crash_with, items, chunksize)
    found = [_outcome(get) for get in _one_by_one(iterator, items)]

    assert [type(error) for error in found] == [safemp.WorkerCrashed] * 10
    assert [error.item for error in found] == list(range(10))


@pytest.mark.parametrize("fault", ["error", "exit", "c_exit", "crash"])
def test_a_call_submitted_in_a_callback_may_fail(executor: safemp.SafeExecutor, fault: str) -> None:
    """Its outcome arrives: callbacks run where others wait, so that nothing may wait for them."""
    inner: list[Any] = []
    submitted = threading.Event()

    def submit(_: object) -> None:
        inner.append(executor.submit(deadlocks.run_fault, fault))
        submitted.set()

    executor.submit(jobs.work, 1, 0.05).add_done_callback(submit)
    assert submitted.wait(30)

    assert isinstance(inner[0].exception(30), EXPECTED.get(("run", fault), safemp.WorkerCrashed))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("error", [SystemExit, ValueError, KeyboardInterrupt])
def test_a_callback_that_raises_ends_nothing(executor: safemp.SafeExecutor, error: type[BaseException]) -> None:
    """Calls under way and calls after it are answered."""
    future = executor.submit(jobs.work, 1, 0.05)
    future.add_done_callback(lambda _: _raising(error(1))())
    beside = [executor.submit(jobs.square, i) for i in range(20)]

    assert future.result(30) == 10
    assert [each.result(30) for each in beside] == [i * i for i in range(20)]
    assert executor.submit(jobs.square, 3).result(30) == 9


def test_submitting_never_waits_for_callbacks() -> None:
    """While a callback stays, thousands of calls can be submitted: https://github.com/python/cpython/issues/105829."""
    entered, go_on = threading.Event(), threading.Event()

    def stay(_: object) -> None:
        entered.set()
        go_on.wait(40)

    with safemp.SafeExecutor(2) as executor:
        executor.submit(jobs.work, 1, 0.05).add_done_callback(stay)
        assert entered.wait(30)
        try:
            futures = [executor.submit(jobs.square, i) for i in range(3_000)]
        finally:
            go_on.set()
        _, pending = wait(futures, 40)

        assert not pending
        assert [future.result() for future in futures] == [i * i for i in range(3_000)]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_workers_that_kill_each_other_cost_their_calls_and_no_more(workers: int) -> None:
    """Each call has an outcome, and the pool is whole again."""
    with safemp.SafeExecutor(workers) as executor:
        wait([executor.submit(jobs.work, i, 0.05) for i in range(2 * workers)])
        pids = list(executor._processes)
        futures = [executor.submit(deadlocks.kill_friend, pid) for pid in reversed(pids)]
        found = [type(future.exception(30)) for future in futures]

        assert set(found) <= {safemp.WorkerCrashed, type(None)}
        assert list(executor.map(jobs.square, range(10), timeout=30)) == [i * i for i in range(10)]
