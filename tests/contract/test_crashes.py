"""A worker that dies fails the call it was at, and nothing else."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import crash_jobs, jobs
from tests.support.child import alive, lines, until

Death = tuple[Callable[..., Any], Callable[[], tuple[Any, ...]], int, str]

DEATHS: dict[str, Death] = {
    "exit": (jobs.die_by_exit, tuple, 1, "die_by_exit"),
    "sigkill": (jobs.die_by_sigkill, tuple, -signal.SIGKILL, "die_by_sigkill"),
    "segfault": (jobs.die_by_segfault, tuple, -signal.SIGSEGV, "die_by_segfault"),
    "argument-setstate": (jobs.take, lambda: (jobs.ExitsOnLoad(),), 5, "take"),
    "argument-reduce-in-worker": (jobs.same, lambda: (jobs.ExitsOnDump(os.getpid()),), 6, "same"),
    "result-reduce": (jobs.return_exits_on_dump, lambda: (os.getpid(),), 6, "return_exits_on_dump"),
    "error-load-in-worker": (jobs.load_in_worker, lambda: (os.getpid(),), 5, "load_in_worker"),
    "error-reduce": (jobs.raise_exits_on_dump, lambda: (os.getpid(),), 8, "raise_exits_on_dump"),
}


@pytest.fixture(scope="module")
def engine() -> str:
    """Only processes have this."""
    return "local"


def _check(error: BaseException, exitcode: int, name: str) -> None:
    assert isinstance(error, safemp.WorkerCrashed)
    assert isinstance(error, BrokenProcessPool)
    assert error.exitcode == exitcode
    assert error.signal == (signal.Signals(-exitcode).name if exitcode < 0 else None)
    assert name in error.call
    assert isinstance(error.pid, int)
    assert error.pid != os.getpid()
    first_line = str(error).splitlines()[0]
    assert name in first_line
    assert str(error.pid) in first_line
    assert (error.signal or f"{exitcode}") in first_line
    assert until(lambda: not alive(error.pid))


@pytest.mark.parametrize("death", DEATHS)
def test_submit_a_dead_worker_fails_its_own_call_alone(executor: safemp.SafeExecutor, death: str) -> None:
    """One future fails, saying which call and how; the rest finish; the pool goes on."""
    function, arguments, exitcode, name = DEATHS[death]
    before = [executor.submit(jobs.work, i, 0.02) for i in range(6)]
    fatal = executor.submit(function, *arguments())
    after = [executor.submit(jobs.work, i, 0.02) for i in range(6)]

    error = fatal.exception(30)
    _check(error, exitcode, name)  # type: ignore[arg-type]
    assert error.item is None  # type: ignore[union-attr]
    assert [f.result(30) for f in before + after] == [0, 10, 20, 30, 40, 50] * 2
    assert executor.submit(jobs.square, 3).result(30) == 9


@pytest.mark.parametrize("death", DEATHS)
def test_apply_async_a_dead_worker_fails_its_own_call_alone(pool: safemp.Pool, death: str) -> None:
    """One result fails, saying which call and how; the rest finish; the pool goes on."""
    function, arguments, exitcode, name = DEATHS[death]
    before = [pool.apply_async(jobs.work, (i, 0.02)) for i in range(6)]
    fatal = pool.apply_async(function, arguments())
    after = [pool.apply_async(jobs.work, (i, 0.02)) for i in range(6)]

    with pytest.raises(safemp.WorkerCrashed) as caught:
        fatal.get(30)
    _check(caught.value, exitcode, name)
    assert [r.get(30) for r in before + after] == [0, 10, 20, 30, 40, 50] * 2
    assert pool.apply_async(jobs.square, (3,)).get(30) == 9


def test_a_queue_of_deaths_fails_one_call_each(executor: safemp.SafeExecutor) -> None:
    """Ten deaths among twenty calls are ten errors and ten answers."""
    futures = [executor.submit(jobs.die_by_exit) if i % 2 else executor.submit(jobs.square, i) for i in range(20)]

    for i, future in enumerate(futures):
        if i % 2:
            assert isinstance(future.exception(30), safemp.WorkerCrashed)
        else:
            assert future.result(30) == i * i


@pytest.mark.parametrize("chunksize", [None, 1, 4, 100])
def test_map_the_crash_of_one_item_leaves_the_others_effects_exactly_once(
    pool: safemp.Pool, tmp_path: Path, chunksize: int | None
) -> None:
    """``Pool.map`` names the item; every other item has run, once."""
    path = tmp_path / "effects"
    with pytest.raises(safemp.WorkerCrashed) as caught:
        pool.map_async(partial(jobs.note_or_die, str(path), 13), range(40), chunksize).get(30)

    assert caught.value.item == 13
    assert caught.value.signal == "SIGKILL"
    assert "items[13]" in str(caught.value).splitlines()[0]
    assert "note_or_die" in caught.value.call
    assert sorted(map(int, lines(path))) == [i for i in range(40) if i != 13]


@pytest.mark.parametrize("chunksize", [1, 4])
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_imap_the_crash_of_one_item_takes_one_place(
    pool: safemp.Pool, tmp_path: Path, method: str, chunksize: int
) -> None:
    """The iteration gives one ``WorkerCrashed`` for the item and every other result, each computed once."""
    path = tmp_path / "effects"
    iterator = getattr(pool, method)(partial(jobs.note_or_die, str(path), 7), range(20), chunksize)
    results: list[Any] = []
    for _ in range(20):
        try:
            results.append(iterator.next(30))
        except safemp.WorkerCrashed as error:
            results.append(-1 if error.item == 7 else error)

    with pytest.raises(StopIteration):
        iterator.next(30)
    wanted = [-1 if i == 7 else i * i for i in range(20)]
    assert (results if method == "imap" else sorted(results)) == (wanted if method == "imap" else sorted(wanted))
    assert sorted(map(int, lines(path))) == [i for i in range(20) if i != 7]


@pytest.mark.parametrize("chunksize", [1, 4])
def test_executor_map_the_crash_of_one_item_leaves_the_others_effects_exactly_once(
    executor: safemp.SafeExecutor, tmp_path: Path, chunksize: int
) -> None:
    """``SafeExecutor.map`` gives the results before the item, then the crash; the earlier items ran once."""
    path = tmp_path / "effects"
    iterator = executor.map(partial(jobs.note_or_die, str(path), 7), range(12), chunksize=chunksize, timeout=30)

    assert [next(iterator) for _ in range(7)] == [i * i for i in range(7)]
    with pytest.raises(safemp.WorkerCrashed) as caught:
        next(iterator)
    assert caught.value.item == 7
    done = list(map(int, lines(path)))
    assert len(done) == len(set(done))
    assert set(range(7)) <= set(done)


def test_an_item_that_ends_the_worker_while_it_is_loaded_is_named(pool: safemp.Pool) -> None:
    """A chunk whose one item cannot be loaded without dying costs that item alone."""
    items = [1, 2, jobs.ExitsOnLoad(), 4]
    iterator = pool.imap(jobs.take, items, 4)
    results: list[Any] = []
    for _ in items:
        try:
            results.append(iterator.next(30))
        except safemp.WorkerCrashed as error:
            results.append((error.item, error.exitcode))

    assert results == ["int", "int", (2, 5), "int"]


def test_a_worker_that_dies_idle_costs_nothing() -> None:
    """A worker killed between two calls is replaced before anybody notices."""
    with safemp.SafeExecutor(1) as executor:
        pid = executor.submit(jobs.pid).result(30)
        os.kill(pid, signal.SIGKILL)

        answers = [executor.submit(jobs.square, i) for i in range(5)]
        assert [a.result(30) for a in answers] == [0, 1, 4, 9, 16]
        assert executor.submit(jobs.pid).result(30) != pid


def test_only_the_running_call_fails_when_all_workers_are_killed(tmp_path: Path) -> None:
    """Calls that had not begun run once, on the workers that come after."""
    path = tmp_path / "effects"
    with safemp.SafeExecutor(2) as executor:
        started = [str(tmp_path / f"started{i}") for i in range(2)]
        running = [executor.submit(jobs.started_then_wait, s, str(tmp_path / "never")) for s in started]
        queued = [executor.submit(jobs.note, str(path), i) for i in range(6)]
        assert until(lambda: all(map(os.path.exists, started)))
        for pid in list(executor._processes):
            os.kill(pid, signal.SIGKILL)

        assert [type(f.exception(30)) for f in running] == [safemp.WorkerCrashed] * 2
        assert [f.result(30) for f in queued] == list(range(6))
        assert sorted(lines(path)) == list("012345")


def test_no_process_is_left_by_a_pool_that_has_seen_deaths() -> None:
    """After ``shutdown`` every worker that ever was is gone."""
    with safemp.SafeExecutor(2) as executor:
        pids = {executor.submit(jobs.pid).result(30)}
        for _ in range(3):
            error = executor.submit(jobs.die_by_sigkill).exception(30)
            pids |= {error.pid, executor.submit(jobs.pid).result(30), *executor._processes}  # type: ignore[union-attr]

    assert len(pids) >= 4
    assert not [pid for pid in pids if alive(pid)]


def test_a_crash_error_pickles() -> None:
    """A crash that is itself sent to another process arrives with all it says."""
    import pickle

    with safemp.SafeExecutor(1) as executor:
        error = executor.submit(jobs.die_by_sigkill).exception(30)
    assert isinstance(error, safemp.WorkerCrashed)
    copy = pickle.loads(pickle.dumps(error))

    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_crash_is_isolated_under_every_start_method(method: str) -> None:
    """``mp_context`` changes how workers start, not what a death costs."""
    with safemp.SafeExecutor(2, mp_context=method) as executor:
        fatal = executor.submit(jobs.die_by_exit)
        good = [executor.submit(jobs.square, i) for i in range(4)]

        assert isinstance(fatal.exception(40), safemp.WorkerCrashed)
        assert [f.result(40) for f in good] == [0, 1, 4, 9]


@pytest.mark.parametrize("recycle", [None, 7])
def test_a_storm_of_everything_answers_each_call_once(tmp_path: Path, recycle: int | None) -> None:
    """Answers, errors, deaths and cancellations mixed: each call has its own outcome, each effect happens once."""
    path = str(tmp_path / "effects")
    futures: dict[int, Any] = {}
    with safemp.SafeExecutor(3, max_tasks_per_child=recycle) as executor:
        for i in range(120):
            if i % 24 == 7:
                futures[i] = executor.submit(jobs.die_by_exit)
            elif i % 24 == 11:
                futures[i] = executor.submit(jobs.die_by_sigkill)
            elif i % 6 == 5:
                futures[i] = executor.submit(jobs.raise_two_arguments, i, i)
            else:
                futures[i] = executor.submit(jobs.note, path, i)
        cancelled = {i for i in range(96, 120) if futures[i].cancel()}

        for i in futures.keys() - cancelled:
            error = futures[i].exception(50)
            if i % 24 in (7, 11):
                assert isinstance(error, safemp.WorkerCrashed)
            elif i % 6 == 5:
                assert str(error) == f"{i}/{i}"
            else:
                assert futures[i].result() == i
    wanted = [i for i in futures.keys() - cancelled if i % 24 not in (7, 11) and i % 6 != 5]
    assert sorted(map(int, lines(tmp_path / "effects"))) == sorted(wanted)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.parametrize("task", [jobs.fork_and_return, jobs.fork_and_exit])
def test_a_child_that_a_task_forks_does_not_answer_in_its_place(task: Callable[[], str]) -> None:
    """It ends with the task: the call has one answer, its parent's, and the pool goes on."""
    with safemp.SafeExecutor(1) as executor:
        for _ in range(3):
            assert executor.submit(task).result(20) == "parent"
        assert [executor.submit(jobs.square, i).result(30) for i in range(5)] == [0, 1, 4, 9, 16]


def test_a_task_that_closes_the_workers_files_fails_alone() -> None:
    """A daemonizing task, which closes every descriptor, costs its own worker and no more."""
    with safemp.SafeExecutor(1) as executor:
        assert isinstance(executor.submit(os.closerange, 3, 256).exception(30), safemp.WorkerCrashed)
        assert executor.submit(jobs.square, 3).result(30) == 9


def test_whoever_waits_is_answered_when_the_pool_is_ended() -> None:
    """``get``, ``next`` and ``map`` raise when the pool is terminated; the standard library's wait for ever."""
    pool = safemp.Pool(2)
    iterator = pool.imap(jobs.work, range(500))
    assert iterator.next(30) == 0
    result = pool.map_async(jobs.work, range(500), 1)
    pool.terminate()

    for wait in (lambda: result.get(30), lambda: [iterator.next(30) for _ in range(500)]):
        with pytest.raises(BaseException) as caught:
            wait()
        assert not isinstance(caught.value, TimeoutError)
        assert type(caught.value).__name__ in ("CancelledError", "WorkerCrashed")


DESTROYED: dict[str, tuple[Callable[..., Any], type]] = {
    "argument": (crash_jobs.note_and_take, crash_jobs.EndsWhenDestroyed),
    "argument of a call that raises": (crash_jobs.note_and_fail, crash_jobs.EndsWhenDestroyed),
    "result": (crash_jobs.note_and_give, object),
}


@pytest.mark.parametrize("what", DESTROYED)
@pytest.mark.parametrize("way", ["submit", "apply_async", "imap"])
def test_an_outcome_is_not_lost_by_a_destructor_that_ends_the_process(tmp_path: Path, what: str, way: str) -> None:
    """What has come of the call arrives, and it is not tried again. loky has a test of that, too."""
    fn, made = DESTROYED[what]
    path = str(tmp_path / "runs")
    values = [made() for _ in range(3)]
    found: list[Any] = []

    def settle(get: Callable[[], Any]) -> None:
        try:
            found.append(get())
        except Exception as error:
            found.append(error)

    if way == "submit":
        with safemp.SafeExecutor(1, retries=2) as executor:
            for value in values:
                settle(executor.submit(fn, path, value).result)
    else:
        with safemp.Pool(1, retries=2) as pool:
            if way == "apply_async":
                for result in [pool.apply_async(fn, (path, value)) for value in values]:
                    settle(result.get)
            else:
                results = pool.imap(partial(fn, path), values)
                for _ in values:
                    settle(results.next)

    wanted = {"argument": str, "argument of a call that raises": KeyError, "result": crash_jobs.FromWorker}[what]
    assert [type(each) for each in found] == [wanted] * 3
    assert len(lines(Path(path))) == 3
    for each in found:
        if isinstance(each, crash_jobs.EndsWhenDestroyed):
            each.home = 0
    values.clear()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="finds descriptors as Linux shows them")
@pytest.mark.parametrize("over", [("safemp-ledger", "socket:"), ("socket:",)])
def test_a_task_that_writes_to_descriptors_of_its_worker_runs_once(tmp_path: Path, over: tuple[str, ...]) -> None:
    """Over the ledger and into the stream: nothing that the worker says is believed, so the task is to blame."""
    path = tmp_path / "ran"
    with safemp.SafeExecutor(1) as executor:
        error = executor.submit(crash_jobs.scribble, str(path), *over).exception(60)
        others = [executor.submit(jobs.square, i) for i in range(20)]

        assert isinstance(error, safemp.WorkerCrashed)
        assert "while it ran tests.support.crash_jobs.scribble" in str(error)
        assert lines(path) == ["ran"]
        assert [future.result(60) for future in others] == [i * i for i in range(20)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="finds descriptors as Linux shows them")
def test_a_worker_sends_nothing_that_was_written_over(tmp_path: Path) -> None:
    """The outcomes of a chunk that it holds as an item writes over them: none is wrong, and none runs twice."""
    path = tmp_path / "ran"
    with safemp.SafeExecutor(1) as executor:
        found = executor.map(partial(crash_jobs.scribble_at, 3, str(path)), range(6), chunksize=6, on_error="return")
        for i, outcome in enumerate(found):
            assert isinstance(outcome, safemp.WorkerCrashed) or outcome == f"done {i}"
        ran = lines(path)

        assert len(ran) == len(set(ran)) <= 6
        assert executor.submit(jobs.square, 3).result(60) == 9
