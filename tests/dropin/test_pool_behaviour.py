"""``Pool`` behaves as ``multiprocessing.Pool`` does: the same test, run on both.

What is asked of ours alone, or differs on purpose, stands at the end.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import multiprocessing.pool
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import jobs
from tests.support.child import alive, lines, until

KINDS: dict[str, Callable[..., Any]] = {
    "multiprocessing": multiprocessing.get_context("spawn").Pool,
    "safemp": safemp.Pool,
}


@pytest.fixture(scope="module", params=KINDS)
def make(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Makes pools of one of the two kinds."""
    return KINDS[request.param]


@pytest.fixture(scope="module")
def pool(make: Callable[..., Any]) -> Iterator[Any]:
    """Two workers for the module."""
    with make(2) as pool:
        yield pool


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """Collect the standard library's pools here, and not while it talks to its resource tracker.

    It cannot bear that: "ResourceTracker called reentrantly" (Python 3.12).
    """
    yield
    gc.collect()


class SayWhen(Exception):
    """What an iterable of ours raises."""


def throwing(total: int, when: int) -> Iterator[int]:
    """Give *total* numbers, but raise at number *when*."""
    if when == -1:
        raise SayWhen("somebody said when")
    for i in range(total):
        if i == when:
            raise SayWhen("somebody said when")
        yield i


# -- calls -----------------------------------------------------------------------------


def test_apply(pool: Any) -> None:
    """``apply`` gives the value or raises the error, with positional and keyword arguments."""
    assert pool.apply(jobs.add, (2, 3)) == 5
    assert pool.apply(jobs.add, (2,), {"y": 3}) == 5
    assert pool.apply(jobs.add, args=(2,), kwds={"y": 3}) == 5
    with pytest.raises(ValueError, match="odd: 3"):
        pool.apply(jobs.fail_if_odd, (3,))


def test_apply_async_and_its_result(pool: Any, tmp_path: Path) -> None:
    """``ready``, ``wait``, ``successful`` and ``get`` say how far a call is."""
    release = tmp_path / "release"
    result = pool.apply_async(jobs.wait_for, (str(release),))

    assert not result.ready()
    result.wait(0.01)
    assert not result.ready()
    with pytest.raises(ValueError, match="not ready"):
        result.successful()
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(timeout=0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        result.get(0)
    release.touch()
    result.wait(30)
    assert result.ready()
    assert result.successful()
    assert result.get() == str(release)
    assert result.get(0) == str(release)


def test_a_failed_call_is_not_successful(pool: Any) -> None:
    """``successful`` says no, and ``get`` raises each time it is asked."""
    result = pool.apply_async(jobs.fail_if_odd, (1,))
    result.wait(30)

    assert result.ready()
    assert not result.successful()
    for _ in range(2):
        with pytest.raises(ValueError, match="odd: 1"):
            result.get()


def test_callbacks(pool: Any) -> None:
    """One of the two is called, once, before ``get`` returns, in a thread that is not ours."""
    got: list[Any] = []

    def callback(value: Any) -> None:
        got.append(("callback", value, threading.current_thread() is threading.main_thread()))

    def error_callback(error: BaseException) -> None:
        got.append(("error", str(error), threading.current_thread() is threading.main_thread()))

    pool.apply_async(jobs.square, (3,), callback=callback, error_callback=error_callback).get(30)
    assert got.pop() == ("callback", 9, False)
    with pytest.raises(ValueError):
        pool.apply_async(jobs.fail_if_odd, (3,), callback=callback, error_callback=error_callback).get(30)
    assert got.pop() == ("error", "odd: 3", False)
    pool.map_async(jobs.square, range(4), callback=callback, error_callback=error_callback).get(30)
    assert got.pop() == ("callback", [0, 1, 4, 9], False)
    with pytest.raises(ValueError):
        pool.map_async(jobs.fail_if_odd, range(3), callback=callback, error_callback=error_callback).get(30)
    assert got.pop() == ("error", "odd: 1", False)
    pool.starmap_async(jobs.add, [(1, 2)], callback=callback).get(30)
    assert got == [("callback", [3], False)]


def test_map(pool: Any) -> None:
    """Results in order, as a list, of any iterable, with any chunks."""
    assert pool.map(jobs.square, range(20)) == [i * i for i in range(20)]
    assert pool.map(jobs.square, (i for i in range(5))) == [0, 1, 4, 9, 16]
    assert pool.map(jobs.square, {2: None, 3: None}) == [4, 9]
    for chunksize in (1, 3, 20, 1000):
        assert pool.map(jobs.square, range(20), chunksize) == [i * i for i in range(20)]
        assert pool.map(jobs.square, range(20), chunksize=chunksize) == [i * i for i in range(20)]
    assert pool.map(jobs.square, []) == []
    assert pool.map(jobs.square, [], chunksize=5) == []


def test_map_async(pool: Any, tmp_path: Path) -> None:
    """It returns at once; the result is ready when all items are."""
    release = tmp_path / "release"
    ready = tmp_path / "ready"
    ready.touch()
    result = pool.map_async(jobs.wait_for, [str(ready), str(release)], 1)

    assert not result.ready()
    release.touch()
    assert result.get(30) == [str(ready), str(release)]
    empty = pool.map_async(jobs.square, [])
    assert empty.get(30) == []
    assert empty.successful()


def test_map_waits_for_all_items_before_it_raises(pool: Any, tmp_path: Path) -> None:
    """A failure does not cost the others their effects."""
    path = tmp_path / "effects"
    with pytest.raises(ValueError):
        pool.map(jobs.NoteOrFail(str(path), 3), range(10), 1)

    assert sorted(map(int, lines(path))) == [i for i in range(10) if i != 3]


def test_starmap(pool: Any) -> None:
    """Each item is the arguments of a call."""
    pairs = list(zip(range(10), range(10, 20)))  # noqa: B905  # equal lengths

    assert pool.starmap(jobs.add, pairs) == [a + b for a, b in pairs]
    assert pool.starmap(jobs.add, iter(pairs), 3) == [a + b for a, b in pairs]
    assert pool.starmap_async(jobs.add, pairs, chunksize=4).get(30) == [a + b for a, b in pairs]
    assert pool.starmap(jobs.add, []) == []
    with pytest.raises(TypeError):
        pool.starmap(jobs.add, [(1,)])


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_imap(pool: Any, chunksize: int) -> None:
    """An iterator over the results in order; after the last one it stays at its end."""
    iterator = pool.imap(jobs.square, iter(range(10)), chunksize)

    assert iter(iterator) is iterator
    assert [next(iterator) for _ in range(10)] == [i * i for i in range(10)]
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(iterator)
    assert list(pool.imap(jobs.square, [], chunksize)) == []
    assert sorted(pool.imap_unordered(jobs.square, range(10), chunksize=chunksize)) == [i * i for i in range(10)]


def test_imap_has_a_next_with_a_timeout(pool: Any, tmp_path: Path) -> None:
    """``next(timeout)`` raises ``multiprocessing.TimeoutError``, and the item is not lost."""
    release = tmp_path / "release"
    for method in (pool.imap, pool.imap_unordered):
        iterator = method(jobs.wait_for, [str(release)])
        with pytest.raises(multiprocessing.TimeoutError):
            iterator.next(timeout=0.01)
        with pytest.raises(multiprocessing.TimeoutError):
            iterator.next(0)
        release.touch()
        assert iterator.next(30) == str(release)
        with pytest.raises(StopIteration):
            iterator.next(30)
        release.unlink()


def test_imap_goes_on_after_an_error(pool: Any) -> None:
    """The error takes the item's place."""
    iterator = pool.imap(jobs.fail_if_odd, range(4))

    assert next(iterator) == 0
    with pytest.raises(ValueError, match="odd: 1"):
        next(iterator)
    assert next(iterator) == 2
    with pytest.raises(ValueError, match="odd: 3"):
        next(iterator)
    with pytest.raises(StopIteration):
        next(iterator)


def test_imap_unordered_gives_what_is_ready(pool: Any, tmp_path: Path) -> None:
    """A slow first item does not hold back the second."""
    release = tmp_path / "release"
    ready = tmp_path / "ready"
    ready.touch()
    iterator = pool.imap_unordered(jobs.wait_for, [str(release), str(ready)])

    assert iterator.next(30) == str(ready)
    release.touch()
    assert iterator.next(30) == str(release)


# -- errors in the iterable ------------------------------------------------------------


def test_map_raises_what_its_iterable_raises(pool: Any) -> None:
    """At the call, as itself."""
    for when in (-1, 3):
        with pytest.raises(SayWhen):
            pool.map(jobs.square, throwing(10, when), 1)
        with pytest.raises(SayWhen):
            pool.map_async(jobs.square, throwing(10, when), 1)
    with pytest.raises(TypeError):
        pool.map(jobs.square, 5)

    assert pool.map(jobs.square, range(3)) == [0, 1, 4]


def test_imap_raises_what_its_iterable_raises(pool: Any) -> None:
    """After the items before it."""
    iterator = pool.imap(jobs.square, throwing(10, -1), 1)
    with pytest.raises(SayWhen):
        next(iterator)
    iterator = pool.imap(jobs.square, throwing(10, 3), 1)
    assert [next(iterator) for _ in range(3)] == [0, 1, 4]
    with pytest.raises(SayWhen):
        next(iterator)
    iterator = pool.imap(jobs.square, throwing(20, 6), 2)
    assert [next(iterator) for _ in range(6)] == [i * i for i in range(6)]
    with pytest.raises(SayWhen):
        next(iterator)

    assert pool.map(jobs.square, range(3)) == [0, 1, 4]


def test_imap_unordered_raises_what_its_iterable_raises(pool: Any) -> None:
    """Among the results of the items before it."""
    with pytest.raises(SayWhen):
        list(pool.imap_unordered(jobs.square, throwing(10, -1), 1))
    iterator = pool.imap_unordered(jobs.square, throwing(10, 3), 1)
    got = []
    with pytest.raises(SayWhen):
        for _ in range(10):
            got.append(next(iterator))

    assert set(got) <= {0, 1, 4}
    assert pool.map(jobs.square, range(3)) == [0, 1, 4]


# -- workers ---------------------------------------------------------------------------


def test_the_initializer_runs_in_every_worker(make: Callable[..., Any], tmp_path: Path) -> None:
    """With its arguments, before any call."""
    path = tmp_path / "effects"
    with make(2, jobs.initialize, (str(path), "value")) as pool:
        assert pool.map(jobs.get_state, ["initialized"] * 20, 1) == ["value"] * 20
        assert until(lambda: len(lines(path)) == 2)
        pids = set(pool.map(jobs.pid, range(20), 1))

    assert pids <= set(map(int, lines(path)))


def test_workers_are_replaced_after_their_number_of_tasks(make: Callable[..., Any]) -> None:
    """A chunk is a task: ``maxtasksperchild=2`` and six chunks of one make three workers."""
    with make(1, maxtasksperchild=2) as pool:
        pids = pool.map(jobs.pid, range(6), 1)
        chunked = pool.map(jobs.pid, range(12), 6)
        by_apply = [pool.apply(jobs.pid) for _ in range(4)]

    assert [pids[0], pids[2], pids[4]] == [pids[1], pids[3], pids[5]]
    assert len(set(pids)) == 3
    assert len(set(chunked)) == 1
    assert len(set(by_apply)) == 2


def test_workers_are_as_many_as_asked_for(make: Callable[..., Any]) -> None:
    """They are there from the start, as ``_pool`` shows to those who look."""
    with make(3) as pool:
        assert pool._processes == 3
        assert until(lambda: len(pool._pool) == 3)
        assert len({worker.pid for worker in pool._pool}) == 3
        assert all(worker.is_alive() for worker in pool._pool)


# -- the end ---------------------------------------------------------------------------


def test_join_before_close_is_refused(make: Callable[..., Any]) -> None:
    """A ``ValueError`` with the text that people search for."""
    with make(1) as pool, pytest.raises(ValueError, match="Pool is still running"):
        pool.join()


def test_close_finishes_what_was_submitted(make: Callable[..., Any], tmp_path: Path) -> None:
    """``close`` and ``join``: every answer is there, and no worker."""
    path = tmp_path / "effects"
    pool = make(2)
    workers = list(pool._pool)
    result = pool.starmap_async(jobs.note, [(str(path), i) for i in range(20)], 1)
    iterator = pool.imap(jobs.square, range(10))
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(jobs.square, (1,))
    pool.join()

    assert result.get(0) == list(range(20))
    assert list(iterator) == [i * i for i in range(10)]
    assert sorted(map(int, lines(path))) == list(range(20))
    assert not any(worker.is_alive() for worker in workers)
    pool.close()
    pool.join()


def test_terminate_does_not_wait(make: Callable[..., Any], tmp_path: Path) -> None:
    """What runs is ended, what is queued is dropped, and ``join`` returns."""
    started = [tmp_path / f"started{i}" for i in range(2)]
    pool = make(2)
    for one in started:
        pool.apply_async(jobs.started_then_wait, (str(one), str(tmp_path / "never")))
    assert until(lambda: all(one.exists() for one in started))
    pool.map_async(jobs.square, range(1000), 1)
    workers = list(pool._pool)
    pool.terminate()
    pool.join()

    assert not any(worker.is_alive() for worker in workers)
    pool.terminate()


def test_the_context_manager_terminates(make: Callable[..., Any], tmp_path: Path) -> None:
    """``with`` does not wait for what is still running."""
    started = tmp_path / "started"
    with make(1) as pool:
        pool.apply_async(jobs.started_then_wait, (str(started), str(tmp_path / "never")))
        assert until(started.exists)
        workers = list(pool._pool)

    assert until(lambda: not any(worker.is_alive() for worker in workers))
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(jobs.square, (1,))
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass


def test_terminate_in_the_middle_of_an_infinite_imap(make: Callable[..., Any]) -> None:
    """An iterable without an end does not keep the pool from ending."""
    with make(2) as pool:
        iterator = pool.imap(jobs.square, itertools.count())
        assert [next(iterator) for _ in range(5)] == [0, 1, 4, 9, 16]
        workers = list(pool._pool)

    assert until(lambda: not any(worker.is_alive() for worker in workers))


def test_a_closed_pool_is_collected_without_a_warning(make: Callable[..., Any]) -> None:
    """Who has cleaned up is not scolded."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with make(1) as pool:
            assert pool.apply(jobs.square, (3,)) == 9
        pool.join()
        del pool
        gc.collect()

    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []


def test_a_pool_cannot_be_pickled(make: Callable[..., Any]) -> None:
    """``NotImplementedError``, as the standard library says."""
    import pickle

    with make(1) as pool, pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes"):
        pickle.dumps(pool)


def test_the_repr_says_state_and_size(pool: Any) -> None:
    """``state=RUN pool_size=2``."""
    assert "state=RUN" in repr(pool)
    assert "pool_size=2" in repr(pool)


def test_the_signatures_are_the_same() -> None:
    """Every public method takes the same parameters, in the same order, with the same defaults; ours are keywords."""
    import inspect

    theirs, ours = multiprocessing.pool.Pool, safemp.Pool
    names = [n for n in vars(theirs) if not n.startswith("_") and inspect.isfunction(vars(theirs)[n])]

    def parameters(function: Any) -> list[tuple[str, Any]]:
        # kwds={} and kwds=None are the same to a caller.
        found = inspect.signature(function).parameters.values()
        assert all(p.default is not p.empty for p in found if p.kind is p.KEYWORD_ONLY)
        return [(p.name, p.default or None) for p in found if p.kind is not p.KEYWORD_ONLY]

    assert {n: parameters(getattr(ours, n)) for n in names} == {n: parameters(getattr(theirs, n)) for n in names}
    init = [p for p in inspect.signature(ours).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    assert [p.name for p in init] == list(inspect.signature(theirs).parameters)
    for name in ("ready", "successful", "wait", "get"):
        assert parameters(getattr(safemp.AsyncResult, name)) == parameters(
            getattr(multiprocessing.pool.AsyncResult, name)
        )


# -- ours alone ------------------------------------------------------------------------


def test_a_forgotten_pool_warns_and_ends_its_workers() -> None:
    """Collected while it runs: a ``ResourceWarning``, and no process stays."""
    pool = safemp.Pool(2)
    assert pool.apply(jobs.square, (3,)) == 9
    pids = [worker.pid for worker in pool._pool]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()

    categories = [w.category for w in caught if "unclosed running" in str(w.message)]
    caught.clear()  # a warning holds its source: the pool
    gc.collect()
    assert categories == [ResourceWarning]
    assert until(lambda: not any(map(alive, pids)))


def test_a_forgotten_pool_lives_until_its_results_are_there() -> None:
    """Whoever holds an ``AsyncResult`` is answered, though nobody holds the pool."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        result = safemp.Pool(1).apply_async(jobs.work, (4, 0.1))
        gc.collect()
        assert result.get(30) == 40
        del result
        gc.collect()


def test_an_infinite_iterable_is_not_read_far_ahead() -> None:
    """Nobody reads the results: the feeder pauses, rather than filling memory."""
    read = itertools.count()
    last = [0]

    def numbers() -> Iterator[int]:
        for last[0] in read:
            yield last[0]

    with safemp.Pool(2) as pool:
        iterator = pool.imap(jobs.square, numbers())
        assert [next(iterator) for _ in range(5)] == [0, 1, 4, 9, 16]
        before = -1

        def has_paused() -> bool:
            nonlocal before
            paused, before = before == last[0], last[0]
            threading.Event().wait(0.05)
            return paused

        assert until(has_paused), "it has read without end"
    assert last[0] < 100_000


def test_a_callback_that_raises_harms_nobody() -> None:
    """The result is there, the pool goes on, and the error is shown; the standard library's pool hangs."""
    shown: list[Any] = []
    hook, threading.excepthook = threading.excepthook, lambda args: shown.append(args.exc_value)
    try:
        with safemp.Pool(1) as pool:
            result = pool.apply_async(jobs.square, (3,), callback=lambda _: 1 / 0)
            assert result.get(30) == 9
            assert pool.apply(jobs.square, (4,)) == 16
    finally:
        threading.excepthook = hook

    assert [type(error) for error in shown] == [ZeroDivisionError]


def test_a_callback_may_use_the_pool() -> None:
    """A call made from a callback is taken."""
    got: list[Any] = []
    with safemp.Pool(1) as pool:
        pool.apply_async(jobs.square, (3,), callback=lambda v: got.append(pool.apply_async(jobs.square, (v,)))).get(30)
        assert until(lambda: got)
        assert got[0].get(30) == 81


def test_a_failed_initializer_is_shown() -> None:
    """Every call fails with the real error as cause; the standard library starts workers for ever."""
    from concurrent.futures.process import BrokenProcessPool

    with safemp.Pool(2, jobs.fail_to_start) as pool:
        for call in (lambda: pool.apply(jobs.square, (1,)), lambda: pool.map(jobs.square, range(3))):
            with pytest.raises(BrokenProcessPool, match="initializer") as caught:
                call()
            assert isinstance(caught.value.__cause__, jobs.TwoArguments)


def test_a_worker_that_exits_is_no_end_of_the_pool() -> None:
    """``sys.exit`` in a task comes back as ``SystemExit``; the worker and its state stay."""
    with safemp.Pool(1) as pool:
        pid = pool.apply(jobs.pid)
        with pytest.raises(SystemExit) as caught:
            pool.apply(exit_with, (3,))
        assert caught.value.code == 3
        assert pool.apply(jobs.pid) == pid


def exit_with(code: int) -> None:
    import sys

    sys.exit(code)


def test_an_unread_iterator_does_not_keep_the_pool_from_closing(tmp_path: Path) -> None:
    """``close`` and ``join`` run all items of an ``imap`` whose results nobody takes."""
    path = tmp_path / "effects"
    with safemp.Pool(2) as pool:
        pool.imap(jobs.Noting(str(path)), range(100))
        pool.close()
        pool.join()

    assert sorted(map(int, lines(path))) == list(range(100))
