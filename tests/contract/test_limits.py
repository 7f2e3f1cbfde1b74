"""Time limits, retries, memory limits, kill: they cost the call that earned it, and nothing else."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Executor
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import errors, jobs, limit_jobs
from tests.support.child import alive, lines, run_script, until
from tests.unit import exceptions_zoo

SHORT = 0.4
"""Seconds that a call may run which never ends. Long enough for any other one here."""


@pytest.fixture(scope="module")
def engine() -> str:
    """Only processes have this."""
    return "local"


# -- time ----------------------------------------------------------------------------------


def test_a_call_that_sleeps_is_ended(executor: safemp.SafeExecutor) -> None:
    """Its error is a ``TimeoutError`` that says which call, for how long, and which process."""
    future = executor.options(task_timeout=SHORT).submit(time.sleep, 600)
    with pytest.raises(TimeoutError, match=r"time\.sleep.* ran for more than its task_timeout of 0\.4 s") as caught:
        future.result(30)

    error = caught.value
    assert type(error) is safemp.TaskTimeout
    assert error.call == "time.sleep"
    assert error.pid is not None
    assert until(lambda: not alive(error.pid))


def test_a_call_in_c_that_keeps_the_gil_is_ended(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """No cooperation is needed from a task that nothing can interrupt."""
    path = tmp_path / "pid"
    future = executor.options(task_timeout=SHORT).submit(limit_jobs.spin, str(path))

    error = future.exception(30)
    assert isinstance(error, safemp.TaskTimeout)
    assert "in spin" in error.stack.splitlines()[1], "it says where it was stuck"
    assert "in spin" in str(error)
    assert until(lambda: not alive(int(lines(path)[0])))


def test_what_the_call_had_started_is_ended_with_it(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """Children and their children, which would go on for nobody."""
    path = tmp_path / "pids"
    future = executor.options(task_timeout=5).submit(limit_jobs.start_a_child_and_wait, str(path))
    assert until(lambda: len(lines(path)) == 3)

    assert isinstance(future.exception(30), safemp.TaskTimeout)
    assert until(lambda: not any(alive(int(pid)) for pid in lines(path)))


def test_kill_workers_ends_what_calls_have_started(tmp_path: Path) -> None:
    """As ``kill()`` of each of them would; nobody is left to wait for it."""
    path = tmp_path / "pids"
    executor = safemp.SafeExecutor(2)
    futures = [executor.submit(limit_jobs.start_a_child_and_wait, str(path)) for _ in range(2)]
    assert until(lambda: len(lines(path)) == 6)
    executor.kill_workers()

    assert [type(future.exception(30)) for future in futures] == [safemp.WorkerCrashed] * 2
    assert until(lambda: not any(alive(int(pid)) for pid in lines(path)))
    executor.shutdown()


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="wants /dev/shm")
@pytest.mark.parametrize("ended_by", ["task_timeout", "kill", "kill_workers"])
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_shared_memory_of_a_call_that_is_ended_is_removed(tmp_path: Path, method: str, ended_by: str) -> None:
    """A forked worker may have a resource tracker of its own, which removes it then; others have the program's."""
    ended = run_script(tmp_path, SHARED_MEMORY.format(method=method, ended_by=ended_by))

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    (name,) = ended.out.split()
    assert until(lambda: not os.path.exists(f"/dev/shm/{name}"))


SHARED_MEMORY = """
import os, time
from concurrent.futures import wait
from multiprocessing import resource_tracker, shared_memory

import safemp


def create(path):
    memory = shared_memory.SharedMemory(create=True, size=1000)
    tracker = resource_tracker._resource_tracker._pid  # of this process, if it is forked
    while tracker and b"resource_tracker" not in open(f"/proc/{{tracker}}/cmdline", "rb").read():
        time.sleep(0.01)  # it is a fork of this process still
    os.write(os.open(path, os.O_WRONLY), (memory.name + "\\n").encode())
    time.sleep(600)


if __name__ == "__main__":
    os.mkfifo("name")
    executor = safemp.SafeExecutor(1, mp_context="{method}")
    seconds = 1 if "{ended_by}" == "task_timeout" else None
    future = executor.options(task_timeout=seconds).submit(create, "name")
    name = open("name").readline().strip()
    assert os.path.exists("/dev/shm/" + name)
    if "{ended_by}" == "kill":
        future.kill()
    elif "{ended_by}" == "kill_workers":
        executor.kill_workers()
    wait([future], 30)
    assert future.done()
    executor.shutdown()
    print(name)
"""


def test_a_stopped_process_is_ended_too(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """A worker that got SIGSTOP in its task cannot answer, nor write its stack."""
    path = tmp_path / "pid"
    future = executor.options(task_timeout=2).submit(limit_jobs.pid_then_wait, str(path), str(tmp_path / "never"))
    assert until(lambda: lines(path))
    os.kill(int(lines(path)[0]), signal.SIGSTOP)

    assert isinstance(future.exception(30), safemp.TaskTimeout)


def test_a_call_that_cannot_begin_is_moved(tmp_path: Path) -> None:
    """A worker that was stopped before is not the fault of the call that it gets."""
    with safemp.SafeExecutor(1) as executor:
        pid = executor.submit(jobs.pid).result(30)
        os.kill(pid, signal.SIGSTOP)
        found = executor.options(task_timeout=SHORT).submit(jobs.pid).result(30)

    assert found != pid


def test_the_others_do_not_notice(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """Calls beside, behind and before one that is ended run once and are answered."""
    path = tmp_path / "ran"
    view = executor.options(task_timeout=SHORT)
    futures: list[Any] = []
    for i in range(60):
        futures.append(executor.submit(jobs.note, str(path), i))
        if i % 20 == 10:
            futures.append(view.submit(time.sleep, 600))
    found = [future.exception(60) for future in futures]

    assert Counter(type(e) for e in found) == {type(None): 60, safemp.TaskTimeout: 3}
    assert Counter(lines(path)) == Counter(map(str, range(60)))


@pytest.mark.parametrize("chunksize", [1, 5, 20])
def test_each_item_of_a_map_has_its_own_time(tmp_path: Path, chunksize: int) -> None:
    """A chunk may take as long as its items; the one that takes too long fails, and only that."""
    path = tmp_path / "ran"
    with safemp.Pool(2, task_timeout=2 * SHORT) as pool:
        result = pool.imap(partial(limit_jobs.sleep_and_note, str(path), 0.1), range(20), chunksize)
        assert list(result) == list(range(20)), "the chunk takes longer than one item may"

        it = pool.imap(partial(limit_jobs.sleep_if, str(path), 13), range(20), chunksize)
        found: list[Any] = []
        for _ in range(20):
            try:
                found.append(it.next(30))
            except safemp.TaskTimeout as error:
                found.append(error)

    assert [i for i, each in enumerate(found) if each != i] == [13]
    assert found[13].item == 13
    assert "items[13]" in str(found[13])
    assert set(Counter(lines(path)).values()) == {2}, "each item once in each map"


def test_many_calls_with_a_limit_are_answered(executor: safemp.SafeExecutor) -> None:
    """Short calls are written ahead with their limits; none is ended for another's time."""
    view = executor.options(task_timeout=5)
    futures = [view.submit(jobs.square, i) for i in range(2_000)]

    assert [f.result(60) for f in futures] == [i * i for i in range(2_000)]


def test_a_limit_is_of_the_call_not_of_the_wait(executor: safemp.SafeExecutor) -> None:
    """Time in the queue does not count; and ``result(timeout=)`` ends no call."""
    with safemp.SafeExecutor(1, task_timeout=3) as alone:
        futures = [alone.submit(jobs.work, i, 0.8) for i in range(6)]
        with pytest.raises(FutureTimeoutError):
            futures[-1].result(0.1)
        assert [f.result(60) for f in futures] == [10 * i for i in range(6)]


def test_all_front_ends_take_limits(tmp_path: Path) -> None:
    """``Pool``, ``SafeExecutor``, ``options`` and the functions of the package."""
    with safemp.Pool(1, task_timeout=SHORT) as pool:
        with pytest.raises(safemp.TaskTimeout):
            pool.apply_async(time.sleep, (600,)).get(30)
        with pytest.raises(safemp.TaskTimeout):
            pool.map_async(time.sleep, [0, 600]).get(30)
    with safemp.SafeExecutor(1, task_timeout=SHORT) as alone:
        with pytest.raises(safemp.TaskTimeout):
            list(alone.map(time.sleep, [0, 600]))
        with pytest.raises(safemp.TaskTimeout):
            alone.submit(time.sleep, 600).result(30)
    calls: list[Callable[[], Any]] = [
        lambda: safemp.map(time.sleep, [600], task_timeout=SHORT),
        lambda: safemp.starmap(time.sleep, [(600,)], task_timeout=SHORT),
        lambda: list(safemp.imap(time.sleep, [600], task_timeout=SHORT)),
        lambda: list(safemp.imap_unordered(time.sleep, [600], task_timeout=SHORT)),
    ]
    for call in calls:
        with pytest.raises(safemp.TaskTimeout):
            call()


# -- views ---------------------------------------------------------------------------------


def test_a_view_is_the_same_executor(executor: safemp.SafeExecutor) -> None:
    """Same workers, other limits; a view of a view adds to them; none changes the whole."""
    view = executor.options(task_timeout=SHORT)
    further = view.options(retries=1)

    assert isinstance(view, Executor)
    assert further.submit(jobs.pid).result(30) in executor._processes
    with pytest.raises(safemp.TaskTimeout):
        further.submit(time.sleep, 600).result(30)
    assert executor.submit(jobs.work, 1, 2 * SHORT).result(30) == 10


def test_closing_a_view_closes_the_executor() -> None:
    """A framework that is handed a view may end it."""
    executor = safemp.SafeExecutor(1)
    view = executor.options(retries=1)
    with view:
        assert view.submit(jobs.square, 3).result(30) == 9
    for each in (executor, view, view.options()):
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            each.submit(jobs.square, 3)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"task_timeout": 0}, ValueError),
        ({"task_timeout": float("nan")}, ValueError),
        ({"task_timeout": "5"}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"retry_on": 5}, TypeError),
        ({"retry_on": (ValueError, "x")}, TypeError),
        ({"max_memory": 0}, ValueError),
        ({"max_memory": 1e9}, TypeError),
        ({"patience": 3}, TypeError),
    ],
)
def test_wrong_limits_are_named(executor: safemp.SafeExecutor, options: dict[str, Any], error: type[Exception]) -> None:
    """At the caller's line, by every front end, before anything is started."""
    (name,) = options
    calls: list[Callable[..., Any]] = [
        executor.options,
        partial(safemp.SafeExecutor, 1),
        partial(safemp.Pool, 1),
        partial(safemp.map, jobs.square, [1]),
        partial(safemp.imap, jobs.square, [1]),
    ]
    for call in calls:
        with pytest.raises(error, match=name) as caught:
            call(**options)
        assert "Limits" not in str(caught.value), "a class that the user has not met"


# -- tries ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "sleep"])
def test_nothing_is_tried_again_by_itself(executor: safemp.SafeExecutor, tmp_path: Path, how: str) -> None:
    """A task that had begun may have done half of its work."""
    path = tmp_path / "tries"
    future = executor.options(task_timeout=SHORT).submit(limit_jobs.fail_times, str(path), 1, how)

    assert isinstance(future.exception(30), (safemp.WorkerCrashed, safemp.TaskTimeout))
    assert len(lines(path)) == 1


@pytest.mark.parametrize(("how", "times"), [("exit", 2), ("sleep", 1)])
def test_a_call_is_tried_again(executor: safemp.SafeExecutor, tmp_path: Path, how: str, times: int) -> None:
    """As often as asked for, until it gives something."""
    path = tmp_path / "tries"
    view = executor.options(task_timeout=1, retries=times)

    assert view.submit(limit_jobs.fail_times, str(path), times, how).result(60) == times + 1
    assert len(lines(path)) == times + 1


def test_tries_are_counted_for_each_call(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """One more failure than retries is the failure."""
    path = tmp_path / "tries"
    future = executor.options(retries=1).submit(limit_jobs.fail_times, str(path), 5, "exit")
    error = future.exception(30)

    assert isinstance(error, safemp.WorkerCrashed)
    assert error.tries == 2
    assert "tries:  2" in str(error)
    assert len(lines(path)) == 2


def test_what_ends_three_workers_is_not_tried_again(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """Whatever ``retries`` says: it would end them all."""
    path = tmp_path / "tries"
    future = executor.options(retries=50).submit(limit_jobs.fail_times, str(path), 50, "exit")
    error = future.exception(60)

    assert isinstance(error, safemp.WorkerCrashed)
    assert "tries:  3; each has ended a worker, so there is no other" in str(error)
    assert len(lines(path)) == 3


def test_what_a_call_raises_is_tried_again_only_when_asked_for(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """By default an exception is an answer; with ``retry_on`` it is one of those named."""
    runs = {name: tmp_path / name for name in ("default", "asked", "base", "other")}
    default = executor.options(retries=3).submit(limit_jobs.fail_times, str(runs["default"]), 2, "ConnectionError")
    asked = executor.options(retries=3, retry_on=ConnectionError)
    base = executor.options(retries=3, retry_on=(KeyError, OSError))

    assert isinstance(default.exception(30), ConnectionError)
    assert asked.submit(limit_jobs.fail_times, str(runs["asked"]), 2, "ConnectionError").result(60) == 3
    assert base.submit(limit_jobs.fail_times, str(runs["base"]), 2, "TimeoutError").result(60) == 3
    assert isinstance(
        asked.submit(limit_jobs.fail_times, str(runs["other"]), 2, "ValueError").exception(30), ValueError
    )
    assert [len(lines(path)) for path in runs.values()] == [1, 3, 3, 1]


class _Rude(type):
    def __subclasscheck__(cls, other: type) -> bool:
        raise SystemExit("no subclasses")


class RudeError(Exception, metaclass=_Rude):
    """Ends whoever asks what is one."""


@pytest.mark.parametrize("retry_on", [ConnectionError, RudeError])
def test_an_error_that_refuses_to_be_asked_is_an_answer(executor: safemp.SafeExecutor, retry_on: Any) -> None:
    """Whoever looks whether it is one to retry on runs none of its code, or survives that."""
    future = executor.options(retries=2, retry_on=retry_on).submit(
        errors.raise_given, exceptions_zoo.GetattributeRaises(1, 2)
    )

    assert type(future.exception(30)) is exceptions_zoo.GetattributeRaises


@pytest.mark.parametrize("how", ["exit", "sleep", "ConnectionError"])
@pytest.mark.parametrize("chunksize", [1, 7, 30])
def test_only_the_item_that_failed_is_tried_again(tmp_path: Path, how: str, chunksize: int) -> None:
    """Every other item of its chunk runs once, and each result is in its place."""
    path = tmp_path / "ran"
    fn = partial(limit_jobs.fail_item, str(path), 11, 2, how)
    retry_on = (safemp.WorkerCrashed, safemp.TaskTimeout, ConnectionError)
    found = safemp.map(fn, range(30), chunksize=chunksize, retries=2, retry_on=retry_on, task_timeout=1)

    assert found == list(range(30))
    assert Counter(lines(path)) == Counter(map(str, range(30)))
    assert len(lines(tmp_path / "ran.bad")) == 3


def test_a_task_that_had_not_begun_does_not_count_as_tried(tmp_path: Path) -> None:
    """A worker's death moves what it had not begun, retries or not."""
    path = tmp_path / "ran"
    with safemp.SafeExecutor(1) as executor:
        for _ in range(50):
            executor.submit(jobs.square, 2).result(30)
        futures = [executor.submit(jobs.note, str(path), i) for i in range(10)]
        dead = executor.submit(jobs.die_by_exit)
        futures += [executor.submit(jobs.note, str(path), i) for i in range(10, 60)]
        assert isinstance(dead.exception(30), safemp.WorkerCrashed)
        assert [f.exception(30) for f in futures] == [None] * 60

    assert Counter(lines(path)) == Counter(map(str, range(60)))


def test_shutdown_waits_for_a_call_that_is_tried_again(tmp_path: Path) -> None:
    """It was taken, so it is done."""
    path = tmp_path / "tries"
    executor = safemp.SafeExecutor(1, retries=1)
    future = executor.submit(limit_jobs.fail_times, str(path), 1, "exit")
    executor.shutdown(wait=True)

    assert future.result(0) == 2


def test_ending_the_pool_ends_the_tries(tmp_path: Path) -> None:
    """``kill_workers`` while a call waits for its next try: it fails at once."""
    path = tmp_path / "tries"
    executor = safemp.SafeExecutor(1, retries=2)
    future = executor.submit(limit_jobs.fail_times, str(path), 9, "exit")
    assert until(lambda: lines(path))
    executor.kill_workers()

    assert isinstance(future.exception(30), safemp.WorkerCrashed)
    executor.shutdown(wait=True)


# -- memory --------------------------------------------------------------------------------


def test_a_call_that_takes_too_much_memory_is_ended(executor: safemp.SafeExecutor) -> None:
    """Its error is a ``MemoryError`` that names both figures."""
    view = executor.options(max_memory=200_000_000)
    with pytest.raises(
        MemoryError, match=r"limit_jobs\.take.* used .* MB, more than its max_memory of 200 MB"
    ) as caught:
        view.submit(limit_jobs.take, 400_000_000, 600).result(60)

    assert type(caught.value) is safemp.MemoryLimitExceeded
    assert view.submit(limit_jobs.take, 1_000_000, 0.2).result(60) == 1_000_000


def test_a_worker_that_has_kept_too_much_is_replaced(tmp_path: Path) -> None:
    """Between calls: the next one is not ended for what the last one left."""
    with safemp.SafeExecutor(1, max_memory=200_000_000) as executor:
        small = executor.submit(limit_jobs.keep, 1_000).result(30)
        assert executor.submit(limit_jobs.keep, 1_000).result(30) == small
        assert executor.submit(jobs.pid).result(30) == small
        futures = [executor.options(max_memory=350_000_000).submit(limit_jobs.keep, 250_000_000)]
        futures += [executor.submit(limit_jobs.keep, 1_000) for _ in range(3)]
        pids = [f.result(60) for f in futures]

    assert pids[0] == small
    assert small not in pids[1:]


# -- kill ----------------------------------------------------------------------------------


def test_a_running_call_is_killed(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """``kill`` ends it; its ``result`` raises, and is a ``CancelledError``."""
    path = tmp_path / "pid"
    future = executor.submit(limit_jobs.pid_then_wait, str(path), str(tmp_path / "never"))
    assert until(lambda: lines(path))
    assert not future.cancel(), "as in the standard library"
    assert future.kill()
    with pytest.raises(CancelledError) as caught:
        future.result(30)

    assert type(caught.value) is safemp.TaskKilled
    assert until(lambda: not alive(int(lines(path)[0])))
    assert not future.kill(), "it has ended"


def test_a_waiting_call_is_cancelled(tmp_path: Path) -> None:
    """One that waits in the queue, or was written ahead, never runs."""
    path, release = tmp_path / "ran", tmp_path / "release"
    with safemp.SafeExecutor(1) as executor:
        for _ in range(50):
            executor.submit(jobs.square, 2).result(30)
        blocked = executor.submit(jobs.wait_for, str(release))
        futures = [executor.submit(jobs.note, str(path), i) for i in range(40)]
        killed = [future.kill() for future in futures[::2]]
        release.touch()
        assert blocked.result(30) == str(release)
        found = [future.exception(30) if not future.cancelled() else None for future in futures[::2]]

        assert all(killed)
        assert all(error is None or isinstance(error, safemp.TaskKilled) for error in found)
        assert [f.result(30) for f in futures[1::2]] == list(range(1, 40, 2))
    assert Counter(lines(path)) == Counter(map(str, range(1, 40, 2)))


def test_a_killed_call_is_not_tried_again(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """Whatever ``retry_on`` says."""
    path = tmp_path / "tries"
    future = executor.options(retries=5, retry_on=BaseException).submit(limit_jobs.fail_times, str(path), 9, "sleep")
    assert until(lambda: lines(path))

    assert future.kill()
    assert isinstance(future.exception(30), safemp.TaskKilled)
    assert len(lines(path)) == 1


def test_a_call_that_waits_for_another_try_at_loading_can_be_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker could not import its module, it was encoded again, and waits behind a longer one."""
    (tmp_path / "only_here_to_wait.py").write_text("def f():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here_to_wait  # type: ignore[import-not-found]

    release = tmp_path / "release"
    try:
        with safemp.SafeExecutor(1) as executor:
            (tmp_path / "only_here_to_wait.py").unlink()
            executor.submit(jobs.started_then_wait, str(tmp_path / "first"), str(release))
            future = executor.submit(only_here_to_wait.f)
            second = executor.submit(jobs.started_then_wait, str(tmp_path / "second"), str(tmp_path / "never"))
            release.touch()
            assert until((tmp_path / "second").exists), "it has taken the worker while the other is encoded"
            assert future.kill()
            assert isinstance(future.exception(30), safemp.TaskKilled)
            assert second.kill()
    finally:
        del sys.modules["only_here_to_wait"]


def test_a_finished_call_cannot_be_killed(executor: safemp.SafeExecutor) -> None:
    """Its result stays."""
    future = executor.submit(jobs.square, 3)
    assert future.result(30) == 9

    assert not future.kill()
    assert future.result() == 9


def test_kills_at_random_moments_cost_what_they_hit(tmp_path: Path) -> None:
    """Each call ends once: with its result, or killed; what was not killed has run once."""
    path = tmp_path / "ran"
    with safemp.SafeExecutor(2) as executor:
        futures = []
        for i in range(300):
            futures.append(executor.submit(jobs.note, str(path), i))
            if i % 15 == 7:
                futures[-1 - i % 4].kill()
        found = [None if f.cancelled() else f.exception(60) for f in futures]
        results = [f.result() for f in futures if not f.cancelled() and f.exception() is None]

    assert {type(e) for e in found} <= {type(None), safemp.TaskKilled}
    ran = Counter(lines(path))
    assert all(ran[str(value)] == 1 for value in results)
    assert max(ran.values()) == 1


# -- idle ----------------------------------------------------------------------------------


def test_idle_workers_end_and_come_back() -> None:
    """After ``idle_timeout`` seconds without a call; the next call starts one again."""
    with safemp.SafeExecutor(2, idle_timeout=0.3) as executor:
        first = {executor.submit(jobs.pid).result(30) for _ in range(4)}
        assert until(lambda: not executor._processes)
        assert until(lambda: not any(map(alive, first)))
        again = executor.submit(jobs.pid).result(30)

    assert again not in first


def test_busy_workers_do_not_count_as_idle() -> None:
    """A call may take longer than ``idle_timeout``."""
    with safemp.SafeExecutor(1, idle_timeout=0.2) as executor:
        assert executor.submit(jobs.work, 5, 1.0).result(30) == 50


# -- leaving -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["with-pool", "terminate", "cancel"])
def test_leaving_is_prompt(tmp_path: Path, how: str) -> None:
    """A pool that is left by an exception, terminated, or shut down with ``cancel_futures`` runs nothing more."""
    path, release = tmp_path / "ran", tmp_path / "release"
    if how == "cancel":
        executor = safemp.SafeExecutor(1)
        first = executor.submit(limit_jobs.pid_then_wait, str(path), str(release))
        rest = [executor.submit(jobs.note, str(path), i) for i in range(50)]
        assert until(lambda: lines(path))
        executor.shutdown(wait=False, cancel_futures=True)
        release.touch()
        executor.shutdown(wait=True)
        assert first.result(0)
        assert all(future.cancelled() for future in rest)
    else:
        pool = safemp.Pool(1)
        result = pool.apply_async(limit_jobs.pid_then_wait, (str(path), str(release)))
        rest_of = [pool.apply_async(jobs.note, (str(path), i)) for i in range(50)]
        assert until(lambda: lines(path))
        if how == "terminate":
            pool.terminate()
        else:
            with pytest.raises(ZeroDivisionError), pool:
                raise ZeroDivisionError
        pool.join()
        for each in (result, *rest_of):
            with pytest.raises((safemp.WorkerCrashed, CancelledError)):
                each.get(0)
    assert len(lines(path)) == 1


# -- what the system has, or has not ---------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="calls are written ahead on Linux and macOS")
def test_a_call_has_its_own_time_behind_one_that_has_more(tmp_path: Path) -> None:
    """What was written ahead behind another is looked at when its turn comes."""
    with safemp.SafeExecutor(1, task_timeout=3600) as executor:
        view = executor.options(task_timeout=SHORT)
        for _ in range(4):
            for future in [
                executor.submit(jobs.square, n) for n in range(200)
            ]:  # short of late: some are written ahead
                future.result(60)
            for n in range(20):
                executor.submit(jobs.square, n)
            assert isinstance(view.submit(time.sleep, 3600).exception(60), safemp.TaskTimeout)


@pytest.mark.parametrize("seconds", [30 * 86400, 1e12, float("inf")])
def test_a_limit_may_be_for_ever(seconds: float) -> None:
    """Longer than the system can wait at a time."""
    with safemp.SafeExecutor(1, task_timeout=seconds, idle_timeout=seconds) as executor:
        assert [executor.submit(jobs.square, n).result(60) for n in range(3)] == [0, 1, 4]


NO_DESCRIPTORS = """
import os, resource, time
from concurrent.futures import wait
import safemp

def nap(seconds):
    time.sleep(seconds)
    return seconds

def take_all():
    held = []
    try:
        while True: held.append(os.dup(0))
    except OSError:
        return held

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    executor = safemp.SafeExecutor(2)
    executor.submit(nap, 0).result()
    limited = executor.options(task_timeout=0.5).submit(nap, 600)
    good = executor.submit(nap, 1.5)
    while not (limited.running() and good.running()): time.sleep(0.01)
    held = take_all()
    time.sleep(1)
    for fd in held: os.close(fd)
    print(type(limited.exception(60)).__name__, good.result(60), executor.submit(nap, 0.01).result(60))
    calls = [executor.submit(nap, 600) for _ in range(2)]
    while not all(call.running() for call in calls): time.sleep(0.01)
    held = take_all()
    executor.kill_workers()
    for fd in held: os.close(fd)
    print([type(call.exception(60)).__name__ for call in calls])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors as Linux does")
def test_limits_hold_while_there_are_no_descriptors(tmp_path: Path) -> None:
    """A time limit, and the end of the pool, while the program has all files open that it may."""
    ended = run_script(tmp_path, NO_DESCRIPTORS)

    assert ended.out == "TaskTimeout 1.5 0.01\n['WorkerCrashed', 'WorkerCrashed']\n", str(ended)
    assert (ended.returncode, ended.left) == (0, ()), str(ended)
