"""``SafeExecutor`` behaves as ``ProcessPoolExecutor`` does, and more so."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import (
    ALL_COMPLETED,
    FIRST_COMPLETED,
    FIRST_EXCEPTION,
    CancelledError,
    Executor,
    Future,
    as_completed,
    wait,
)
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import errors, jobs
from tests.support.child import alive, lines, until


@pytest.fixture(scope="module")
def local() -> Iterator[safemp.SafeExecutor]:
    """Two worker processes for the module."""
    with safemp.SafeExecutor(2) as executor:
        yield executor


class Held:
    """Two workers kept busy until ``release``; what is submitted meanwhile is queued."""

    def __init__(self, executor: safemp.SafeExecutor, folder: Path, count: int = 2) -> None:
        self.release_path = folder / "release"
        started = [folder / f"started{i}" for i in range(count)]
        self.futures = [executor.submit(jobs.started_then_wait, str(one), str(self.release_path)) for one in started]
        assert until(lambda: all(one.exists() for one in started))

    def release(self) -> None:
        self.release_path.touch()


# -- futures ---------------------------------------------------------------------------


def test_it_is_an_executor_and_gives_futures(executor: safemp.SafeExecutor) -> None:
    """``isinstance`` says what a framework asks for."""
    future = executor.submit(jobs.square, 3)

    assert isinstance(executor, Executor)
    assert isinstance(future, Future)
    assert isinstance(future, safemp.SafeFuture)
    assert safemp.ProcessPoolExecutor is safemp.SafeExecutor
    assert future.result(30) == 9
    assert future.result() == 9
    assert future.exception() is None
    assert future.done()
    assert not future.running()
    assert not future.cancelled()
    assert not future.cancel()


def test_a_result_is_decoded_once(executor: safemp.SafeExecutor) -> None:
    """Who asks twice, or from many threads, is given the same object."""
    future = executor.submit(jobs.same, [1])
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(future.result(30))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len({id(one) for one in got}) == 1
    assert future.result() is got[0]


def test_waiting_too_short_is_a_timeout(local: safemp.SafeExecutor, tmp_path: Path) -> None:
    """``result`` and ``exception`` raise ``TimeoutError``; the call goes on."""
    held = Held(local, tmp_path, 1)
    (future,) = held.futures

    with pytest.raises(FutureTimeoutError):
        future.result(0.01)
    with pytest.raises(FutureTimeoutError):
        future.exception(0)
    assert future.running()
    held.release()
    assert isinstance(future.result(30), int)


def test_wait_and_as_completed(local: safemp.SafeExecutor, tmp_path: Path) -> None:
    """They work on these futures as on any, mixed with others."""
    held = Held(local, tmp_path, 1)
    ready = local.submit(jobs.square, 2)
    failed = local.submit(jobs.raise_two_arguments)
    foreign: Future[int] = Future()
    foreign.set_result(5)

    done, rest = wait([ready, *held.futures], 30, FIRST_COMPLETED)
    assert (done, rest) == ({ready}, set(held.futures))
    done, rest = wait([failed, *held.futures], 30, FIRST_EXCEPTION)
    assert (done, rest) == ({failed}, set(held.futures))
    done, rest = wait([ready, foreign, *held.futures], 0.01, ALL_COMPLETED)
    assert rest == set(held.futures)
    held.release()
    assert set(as_completed([ready, failed, foreign, *held.futures], 30)) == {ready, failed, foreign, *held.futures}


def test_wait_first_exception_does_not_stop_at_success(local: safemp.SafeExecutor, tmp_path: Path) -> None:
    """Successes, results that are exceptions among them, do not count as failures."""
    held = Held(local, tmp_path, 1)
    fine = [local.submit(jobs.square, 2), local.submit(errors.return_by_name, "KeyError")]

    done, rest = wait([*fine, *held.futures], 0.3, FIRST_EXCEPTION)
    assert rest >= set(held.futures)
    held.release()
    done, rest = wait([*fine, *held.futures], 30, FIRST_EXCEPTION)
    assert (len(done), rest) == (3, set())


def test_a_queued_call_can_be_cancelled_and_never_runs(tmp_path: Path) -> None:
    """``cancel`` says yes for what has not begun and no for what has."""
    effects = tmp_path / "effects"
    with safemp.SafeExecutor(1) as executor:
        held = Held(executor, tmp_path, 1)
        queued = [executor.submit(jobs.note, str(effects), i) for i in range(8)]
        cancelled = [future for future in reversed(queued) if future.cancel()]

        assert queued[-1] in cancelled
        assert not held.futures[0].cancel()
        with pytest.raises(CancelledError):
            queued[-1].result()
        held.release()
        assert isinstance(held.futures[0].result(30), int)
        kept = [i for i, future in enumerate(queued) if future not in cancelled]
        assert [queued[i].result(30) for i in kept] == kept
    assert sorted(map(int, lines(effects))) == kept


def test_callbacks_are_called_once_each(executor: safemp.SafeExecutor) -> None:
    """Added before or after the end; what a callback raises harms nobody else."""
    got: list[Any] = []

    def breaks(future: Future[Any]) -> None:
        got.append("breaks")
        raise RuntimeError("a callback of the user's")

    future = executor.submit(jobs.square, 3)
    for callback in (lambda f: got.append(f.result()), breaks, lambda f: got.append(f)):
        future.add_done_callback(callback)
    future.result(30)

    assert until(lambda: len(got) == 3)
    assert got == [9, "breaks", future]
    future.add_done_callback(lambda f: got.append("late"))
    assert got[-1] == "late"
    assert executor.submit(jobs.square, 4).result(30) == 16


def test_asyncio_awaits_results_and_errors(executor: safemp.SafeExecutor) -> None:
    """``run_in_executor`` and ``wrap_future`` give the value, or the exception as itself."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(executor, jobs.square, 3) == 9
        assert await asyncio.wrap_future(executor.submit(jobs.square, 4)) == 16
        with pytest.raises(jobs.TwoArguments, match="left/right"):
            await loop.run_in_executor(executor, jobs.raise_two_arguments)
        with pytest.raises(jobs.Locked, match="locked"):
            await asyncio.wrap_future(executor.submit(jobs.raise_locked))
        results = await asyncio.gather(*(loop.run_in_executor(executor, jobs.square, i) for i in range(10)))
        assert results == [i * i for i in range(10)]

    asyncio.run(asyncio.wait_for(main(), 50))


@pytest.mark.parametrize("name", ["StopIteration", "GeneratorExit", "SystemExit"])
def test_asyncio_is_answered_whatever_a_task_raises(executor: safemp.SafeExecutor, name: str) -> None:
    """An ``await`` ends for exceptions that asyncio's futures do not take, too."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        await asyncio.wait_for(loop.run_in_executor(executor, errors.raise_by_name, name), 5)

    with pytest.raises(BaseException) as caught:
        asyncio.run(main())

    assert not isinstance(caught.value, (asyncio.TimeoutError, FutureTimeoutError)), "nobody has answered"


# -- map -------------------------------------------------------------------------------


def test_map_gives_results_in_order(executor: safemp.SafeExecutor) -> None:
    """With one or several iterables, the shortest ending it; chunks change nothing."""
    for chunksize in (1, 2, 7, 100):
        assert list(executor.map(jobs.square, range(20), chunksize=chunksize)) == [i * i for i in range(20)]
        assert list(executor.map(jobs.add, range(9), range(3, 9), chunksize=chunksize)) == [
            i + j
            for i, j in zip(range(9), range(3, 9))  # noqa: B905  # the shortest ends it
        ]
    assert list(executor.map(jobs.square, [])) == []
    assert list(executor.map(jobs.square)) == []


def test_map_gives_the_results_before_an_error(executor: safemp.SafeExecutor) -> None:
    """The error comes in its place, whatever the chunks."""
    for chunksize in (1, 2, 10):
        iterator = executor.map(jobs.fail_if_odd, [0, 2, 4, 5, 6], chunksize=chunksize)

        assert [next(iterator) for _ in range(3)] == [0, 2, 4]
        with pytest.raises(ValueError, match="odd: 5"):
            next(iterator)


def test_map_times_out(local: safemp.SafeExecutor, tmp_path: Path) -> None:
    """The time counts from the call; results that are there come before the error."""
    release = tmp_path / "release"
    ready = tmp_path / "ready"
    ready.touch()
    iterator = local.map(jobs.wait_for, [str(ready), str(release)], timeout=1)
    try:
        assert next(iterator) == str(ready)
        with pytest.raises(FutureTimeoutError):
            next(iterator)
    finally:
        release.touch()
    assert local.submit(jobs.square, 3).result(30) == 9


@pytest.mark.parametrize("buffersize", [1, 3, 10])
def test_map_with_a_buffer_reads_no_further(executor: safemp.SafeExecutor, buffersize: int) -> None:
    """Of an infinite iterable it takes what is yielded and *buffersize* beyond."""
    taken = itertools.count()
    read: list[int] = []

    def items() -> Iterator[int]:
        for i in taken:
            read.append(i)
            yield i

    iterator = executor.map(jobs.square, items(), buffersize=buffersize)
    assert len(read) == buffersize
    assert [next(iterator) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert len(read) == buffersize + 5
    del iterator


def test_map_that_is_given_up_cancels_what_has_not_begun(tmp_path: Path) -> None:
    """Closing the iterator drops the rest of the map, as in the standard library."""
    effects, release = tmp_path / "effects", tmp_path / "release"
    with safemp.SafeExecutor(1) as executor:
        iterator: Any = executor.map(jobs.note_but_wait_at_1, repeat(str(effects)), repeat(str(release)), range(500))
        second = executor.map(jobs.square, [1])
        assert next(iterator) == 0
        iterator.close()
        release.touch()
        assert list(second) == [1]
    assert 1 <= len(lines(effects)) < 500


class Counted(safemp.SafeExecutor):
    """Puts something around ``submit``, as a library's executor does."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        self.submitted = [*getattr(self, "submitted", ()), fn]
        return super().submit(fn, *args, **kwargs)


def test_map_calls_a_submit_that_was_overridden(engine: str) -> None:
    """Once for each chunk, and answers, errors and buffers are what they are without."""
    with Counted(2, engine=engine) as executor:
        assert list(executor.map(jobs.add, range(7), range(1, 9))) == [1, 3, 5, 7, 9, 11, 13]
        assert executor.submitted == [jobs.add] * 7
        assert list(executor.map(jobs.square, range(7), chunksize=3)) == [i * i for i in range(7)]
        assert len(executor.submitted) == 7 + 3
        iterator = executor.map(jobs.fail_if_odd, itertools.chain([0, 2, 5], itertools.count()), buffersize=2)
        assert len(executor.submitted) == 10 + 2
        assert [next(iterator), next(iterator)] == [0, 2]
        with pytest.raises(ValueError, match="odd: 5"):
            next(iterator)
        with pytest.raises(safemp.PreflightError, match=r"cannot send args\[0\]: generator"):
            executor.map(jobs.square, [1, (n for n in range(3))])
        assert list(executor.options(retries=1).map(jobs.square, [3])) == [9]


def test_map_calls_a_submit_that_was_replaced(local: safemp.SafeExecutor, tmp_path: Path) -> None:
    """On the object itself, as tqdm does; what is not read is cancelled, and a timeout holds."""
    futures: list[Any] = []
    before, release, started = local.submit, tmp_path / "release", [tmp_path / "0", tmp_path / "1"]

    def submit(*args: Any) -> Any:
        futures.append(before(*args))
        return futures[-1]

    try:
        local.submit = submit  # type: ignore[method-assign]
        iterator = local.map(jobs.started_then_wait, map(str, [*started, *started]), repeat(str(release)), timeout=0.5)
        assert until(lambda: all(one.exists() for one in started))
        with pytest.raises(FutureTimeoutError):
            next(iterator)
    finally:
        del local.submit
        release.touch()
    assert [future.cancelled() for future in futures] == [False, False, True, True]


# -- many, and large -------------------------------------------------------------------


def test_ten_thousand_small_calls(executor: safemp.SafeExecutor) -> None:
    """Every one is answered, each with its own answer."""
    futures = [executor.submit(jobs.square, i) for i in range(10_000)]

    assert [future.result(50) for future in futures] == [i * i for i in range(10_000)]


def test_large_values_there_and_back(executor: safemp.SafeExecutor) -> None:
    """Twenty megabytes in, twenty megabytes out, on both workers at once."""
    values = [os.urandom(1000) * 20_000 for _ in range(4)]
    futures = [executor.submit(jobs.same, value) for value in values]

    assert [future.result(50) for future in futures] == values


def test_large_arrays_there_and_back_are_writable(executor: safemp.SafeExecutor) -> None:
    """An array arrives equal, and may be written to on either side."""
    numpy = pytest.importorskip("numpy", reason="wants numpy")
    value = numpy.arange(2_500_000, dtype="float64")
    value[0] = 41.0

    back = executor.submit(jobs.increment, value).result(50)
    assert back[0] == 42.0
    assert numpy.array_equal(back[1:], value[1:])
    assert value[0] == 41.0
    back[0] = 1.0
    assert (back[0], back.dtype, back.shape) == (1.0, value.dtype, value.shape)


def test_a_large_exception_arrives(executor: safemp.SafeExecutor) -> None:
    """Size is no reason to lose an error."""
    error = executor.submit(errors.raise_given, ValueError("x" * 5_000_000)).exception(50)

    assert isinstance(error, ValueError)
    assert len(str(error)) == 5_000_000


def test_threads_may_submit_at_once(executor: safemp.SafeExecutor) -> None:
    """Eight threads, two hundred calls each: every answer goes to who asked."""
    wrong: list[Any] = []

    def storm(first: int) -> None:
        futures = [(i, executor.submit(jobs.square, i)) for i in range(first, first + 200)]
        wrong.extend(i for i, future in futures if future.result(50) != i * i)

    threads = [threading.Thread(target=storm, args=(1000 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_calls_are_taken_in_order(tmp_path: Path) -> None:
    """One worker runs calls in the order of their submission."""
    effects = tmp_path / "effects"
    with safemp.SafeExecutor(1) as executor:
        for i in range(50):
            executor.submit(jobs.note, str(effects), i)

    assert list(map(int, lines(effects))) == list(range(50))


# -- workers ---------------------------------------------------------------------------


def test_workers_start_as_calls_arrive() -> None:
    """None for no call; one for calls one after the other; never more than allowed."""
    with safemp.SafeExecutor(3) as executor:
        assert executor._max_workers == 3
        assert len(executor._processes) == 0
        pids = {executor.submit(jobs.pid).result(30) for _ in range(5)}
        assert len(executor._processes) <= 3
        assert pids <= set(executor._processes)
        wait([executor.submit(jobs.work, i, 0.01) for i in range(30)], 30)
        assert len(executor._processes) == 3
        assert all(process.is_alive() for process in executor._processes.values())


def test_both_workers_are_used(tmp_path: Path) -> None:
    """Two calls that wait at once are in two processes, neither of them ours."""
    with safemp.SafeExecutor(2) as executor:
        held = Held(executor, tmp_path)
        held.release()
        pids = {future.result(30) for future in held.futures}

    assert len(pids) == 2
    assert os.getpid() not in pids


def test_workers_are_replaced_after_their_number_of_calls() -> None:
    """``max_tasks_per_child=2``: six calls need three workers, one after the other."""
    with safemp.SafeExecutor(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(jobs.pid).result(30) for _ in range(6)]

    assert pids[0] == pids[1]
    assert pids[2] == pids[3]
    assert pids[4] == pids[5]
    assert len(set(pids)) == 3


def test_a_storm_over_workers_that_are_replaced_loses_nothing() -> None:
    """Recycling does not drop, repeat or reorder anything."""
    with safemp.SafeExecutor(2, max_tasks_per_child=3) as executor:
        assert list(executor.map(jobs.square, range(40))) == [i * i for i in range(40)]


def test_the_initializer_runs_in_each_worker_once(tmp_path: Path) -> None:
    """What it has set, every call in that worker finds."""
    effects = tmp_path / "effects"
    with safemp.SafeExecutor(2, initializer=jobs.initialize, initargs=(str(effects), "value")) as executor:
        held = Held(executor, tmp_path)
        held.release()
        pids = sorted(future.result(30) for future in held.futures)
        found = {executor.submit(jobs.get_state, "initialized").result(30) for _ in range(10)}

    assert found == {"value"}
    assert sorted(map(int, lines(effects))) == pids


def test_a_failed_initializer_breaks_the_pool_and_is_shown(engine: str) -> None:
    """Every call, the next ones too, fails with a ``BrokenProcessPool`` whose cause is the real error."""
    with safemp.SafeExecutor(2, initializer=jobs.fail_to_start, engine=engine) as executor:
        seen: list[BaseException] = []
        for _ in range(2):
            with pytest.raises(BrokenProcessPool, match="initializer") as caught:
                executor.submit(jobs.square, 1).result(30)

            assert caught.value not in seen, "tracebacks would pile up on it"
            seen.append(caught.value)
            cause = caught.value.__cause__
            assert isinstance(cause, jobs.TwoArguments)
            assert str(cause) == "initializer/failed"
        with pytest.raises(BrokenProcessPool):
            list(executor.map(jobs.square, range(3)))


def test_an_initializer_that_ends_its_worker_breaks_the_pool() -> None:
    """Its death is an error of every call, not workers without end."""
    with safemp.SafeExecutor(2, initializer=jobs.die_by_exit) as executor:
        futures: list[Future[Any]] = []
        with pytest.raises(BrokenProcessPool):
            for i in range(3):
                futures.append(executor.submit(jobs.square, i))
                futures[-1].result(30)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_start_method_can_be_chosen(method: str) -> None:
    """By name or as a context of ``multiprocessing``."""
    import multiprocessing

    for context in (method, multiprocessing.get_context(method)):
        with safemp.SafeExecutor(1, mp_context=context, initializer=jobs.set_state, initargs=("k", 5)) as executor:
            assert executor.submit(jobs.get_state, "k").result(30) == 5
            assert executor.submit(lambda: jobs.square(3)).result(30) == 9
            assert executor.submit(jobs.pid).result(30) != os.getpid()


# -- the end ---------------------------------------------------------------------------


def test_shutdown_finishes_what_was_submitted(tmp_path: Path) -> None:
    """Also ``wait=False``: every future is answered, and then the workers end."""
    for wait_for_it in (True, False):
        effects = tmp_path / f"effects{wait_for_it}"
        executor = safemp.SafeExecutor(2)
        futures = [executor.submit(jobs.note, str(effects), i) for i in range(20)]
        processes = dict(executor._processes)
        executor.shutdown(wait=wait_for_it)

        assert not wait_for_it or all(future.done() for future in futures)
        assert [future.result(30) for future in futures] == list(range(20))
        assert sorted(map(int, lines(effects))) == list(range(20))
        assert until(lambda: not any(map(alive, processes)))  # noqa: B023


def test_shutdown_can_cancel_what_has_not_begun(tmp_path: Path) -> None:
    """``cancel_futures=True``: what runs is finished, the rest is cancelled."""
    executor = safemp.SafeExecutor(1)
    held = Held(executor, tmp_path, 1)
    queued = [executor.submit(jobs.square, i) for i in range(10)]
    threading.Timer(0.05, held.release).start()
    executor.shutdown(wait=True, cancel_futures=True)

    assert isinstance(held.futures[0].result(0), int)
    assert all(future.done() for future in queued)
    assert queued[-1].cancelled()
    assert sum(future.cancelled() for future in queued) >= 8


def test_shutdown_may_be_called_twice_and_from_two_threads() -> None:
    """The second call waits as the first does, and no more."""
    executor = safemp.SafeExecutor(2)
    future = executor.submit(jobs.work, 1, 0.05)
    threads = [threading.Thread(target=executor.shutdown) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert not any(thread.is_alive() for thread in threads)
    assert future.result(0) == 10
    executor.shutdown()


@pytest.mark.parametrize(
    ("method", "number"), [("kill_workers", signal.SIGKILL), ("terminate_workers", signal.SIGTERM)]
)
def test_workers_can_be_ended_now(tmp_path: Path, method: str, number: int) -> None:
    """Running calls fail as crashed, queued ones are answered, nothing is left, and the executor is shut down."""
    executor = safemp.SafeExecutor(2)
    held = Held(executor, tmp_path)
    queued = [executor.submit(jobs.square, i) for i in range(5)]
    processes = dict(executor._processes)
    getattr(executor, method)()

    for future in held.futures:
        error = future.exception(30)
        assert isinstance(error, BrokenProcessPool)
        assert isinstance(error, safemp.WorkerCrashed)
        assert error.signal == signal.Signals(number).name
    for future in queued:
        assert future.cancelled() or isinstance(future.exception(30), BrokenProcessPool)
    with pytest.raises(RuntimeError):
        executor.submit(jobs.square, 1)
    assert until(lambda: not any(map(alive, processes)))
    executor.shutdown()


def test_the_context_manager_waits(tmp_path: Path) -> None:
    """At the end of ``with`` everything is answered and no worker is there."""
    with safemp.SafeExecutor(2) as executor:
        futures = [executor.submit(jobs.work, i, 0.01) for i in range(10)]
        processes = dict(executor._processes)

    assert all(future.done() for future in futures)
    assert not any(map(alive, processes))


def test_ctrl_c_in_the_with_block_does_not_wait(tmp_path: Path) -> None:
    """A ``KeyboardInterrupt`` leaves at once, though calls were running and queued."""
    with pytest.raises(KeyboardInterrupt), safemp.SafeExecutor(2) as executor:
        held = Held(executor, tmp_path)
        executor.submit(jobs.square, 1)
        processes = dict(executor._processes)
        raise KeyboardInterrupt

    assert all(future.done() for future in held.futures)
    assert not any(map(alive, processes))


@pytest.mark.parametrize("error", [GeneratorExit, SystemExit, asyncio.CancelledError, ValueError])
def test_any_other_exception_in_the_with_block_waits(error: type[BaseException]) -> None:
    """As with the standard library: a generator that is closed, say, or a coroutine that is cancelled."""
    with pytest.raises(error), safemp.SafeExecutor(2) as executor:
        futures = [executor.submit(jobs.work, n, 0.05) for n in range(6)]
        raise error

    assert [future.result(0) for future in futures] == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("which", [0, 1, -1])
@pytest.mark.parametrize("by", ["result", "exception", "cancel", "a callback"])
def test_a_waiting_future_that_the_program_settles_costs_no_other(which: int, by: str) -> None:
    """Its call is dropped; the one before it, those behind it and later ones have their outcomes, also at the end."""
    with safemp.SafeExecutor(1) as executor:
        running = executor.submit(jobs.work, 7, 0.3)
        waiting = [executor.submit(jobs.work, n, 0.01) for n in range(5)]
        ours = waiting.pop(which)
        if by == "result":
            ours.set_result(99)
        elif by == "exception":
            ours.set_exception(KeyError(99))
        elif by == "cancel":
            assert ours.cancel()
            assert not ours.set_running_or_notify_cancel()
        else:
            running.add_done_callback(lambda _: ours.done() or ours.set_result(99))
        assert running.result(30) == 70
        assert [future.result(30) % 10 for future in waiting] == [0] * 4
        assert executor.submit(jobs.square, 3).result(30) == 9
    assert ours.cancelled() or ours.exception(0) is not None or ours.result(0) == 99


def test_waiting_futures_that_the_program_has_settled_stay_so_at_the_end() -> None:
    """``shutdown(cancel_futures=True)`` drops them, and cancels the others."""
    executor = safemp.SafeExecutor(1)
    running, *waiting = [executor.submit(jobs.work, n, 0.3) for n in range(4)]
    assert until(running.running)
    waiting[0].set_result(99)
    assert waiting[1].cancel()
    waiting[1].set_running_or_notify_cancel()
    executor.shutdown(cancel_futures=True)
    assert running.result(0) == 0
    assert waiting[0].result(0) == 99
    assert waiting[1].cancelled()
    assert waiting[2].cancelled()


def test_a_forgotten_executor_ends_its_workers() -> None:
    """Nobody refers to it any more: what was submitted is answered, then the workers end."""
    executor = safemp.SafeExecutor(2)
    futures = [executor.submit(jobs.square, i) for i in range(5)]
    processes = dict(executor._processes)
    del executor

    assert [future.result(30) for future in futures] == [0, 1, 4, 9, 16]
    assert until(lambda: not any(map(alive, processes)))


@pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool:ResourceWarning")
@pytest.mark.parametrize(
    "results",
    [
        lambda items: safemp.Pool(1).imap(jobs.square, items),
        lambda items: safemp.Pool(1).imap_unordered(jobs.square, items),
        lambda items: safemp.SafeExecutor(1).map(jobs.square, items, buffersize=2),
        lambda items: safemp.SafeExecutor(1).options(retries=1).map(jobs.square, items, buffersize=2),
    ],
    ids=["Pool.imap", "Pool.imap_unordered", "SafeExecutor.map", "options"],
)
def test_a_pool_lives_as_long_as_its_iterator(results: Callable[[Iterable[int]], Iterator[int]]) -> None:
    """``for x in Pool().imap(...)`` gives everything, though nobody has kept the pool."""
    assert list(results(range(100))) == [i * i for i in range(100)]


def test_an_executor_that_was_never_used_costs_nothing() -> None:
    """No process is started and none has to be ended."""
    executor = safemp.SafeExecutor(4)
    executor.shutdown()

    assert dict(executor._processes) == {}
