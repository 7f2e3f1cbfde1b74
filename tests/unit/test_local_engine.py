"""The local engine keeps its five invariants, whatever happens to a worker."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.codec import calls
from safemp.engines import Function, Outcome, Task, Tasks, dispatch, process, system
from safemp.engines.local import LocalEngine
from safemp.engines.settings import Settings
from tests.support import engine_jobs, jobs
from tests.support.child import alive, in_session, lines, started, until
from tests.support.engine_jobs import Recorded

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills and stops processes as POSIX does")


def warm(executor: safemp.SafeExecutor) -> None:
    """Run so many short calls that more are written ahead."""
    for _ in range(4):
        for future in [executor.submit(jobs.square, i) for i in range(200)]:
            future.result(30)


def engine_of(executor: safemp.SafeExecutor) -> LocalEngine:
    engine = executor._engine
    assert isinstance(engine, LocalEngine)
    return engine


def start_all(executor: safemp.SafeExecutor, folder: Path) -> list[int]:
    """Have every worker started; return their pids."""
    n = executor._max_workers
    release = folder / f"release-{time.monotonic_ns()}"
    noted = folder / f"started-{time.monotonic_ns()}"
    futures = [executor.submit(engine_jobs.note_and_wait, str(noted), str(release)) for _ in range(n)]
    assert until(lambda: len(lines(noted)) == n)
    release.touch()
    return [future.result(30) for future in futures]


def answers(futures: list[safemp.SafeFuture[Any]], timeout: float = 30) -> list[Any]:
    """Return each one's result or error; fail when one has none."""
    _, pending = wait(futures, timeout)
    assert not pending, f"{len(pending)} of {len(futures)} have no answer"
    return [None if f.cancelled() else (f.exception() or f.result()) for f in futures]


# -- 1: a worker harms only its own task ---------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_workers_killed_at_random_moments_cost_one_task_each(tmp_path: Path, seed: int) -> None:
    """Whatever instruction they are at: every other task is answered, and runs once."""
    draw = random.Random(seed)
    path = tmp_path / "effects"
    kills = 0
    with safemp.SafeExecutor(2) as executor:
        warm(executor)
        futures = []
        for i in range(400):
            futures.append(executor.submit(engine_jobs.note_pid, str(path), i))
            if i % 20 == 19:
                for pid in draw.sample(list(executor._processes), 1):
                    for _ in range(draw.randrange(3)):
                        draw.choice(futures).done()
                    with contextlib.suppress(ProcessLookupError):  # the last kill of it is being noticed
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
        found = answers(futures)
        crashed = [e for e in found if isinstance(e, BaseException)]
        after = executor.submit(jobs.square, 3).result(30)

    assert all(type(e) is safemp.WorkerCrashed and e.signal == "SIGKILL" for e in crashed)
    assert len(crashed) <= kills
    ran = Counter(lines(path))
    assert all(ran[str(i)] == 1 for i, value in enumerate(found) if isinstance(value, int))
    assert max(ran.values()) == 1, "nothing runs twice"
    assert after == 9


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_workers_killed_in_a_map_cost_one_item_each(tmp_path: Path, seed: int) -> None:
    """A chunk's other items are answered, and run once."""
    draw = random.Random(seed)
    path = tmp_path / "effects"
    deliveries: list[Delivered] = []
    engine = LocalEngine(Settings(max_workers=2, context=_context()))
    try:
        function = Function(calls.encode_function(jobs.Noting(str(path))))
        for k in range(40):
            deliveries.append(Delivered(function, list(range(k * 10, k * 10 + 10)), k * 10))
            engine.submit(deliveries[-1])
            if k % 4 == 3 and until(lambda: len(engine.processes()) == 2):
                with contextlib.suppress(ProcessLookupError):  # as above
                    os.kill(draw.choice(list(engine.processes())), signal.SIGKILL)
    finally:
        engine.close()
    found = [outcome for task in deliveries for outcome in task.outcomes()]
    crashed = [e for e in found if isinstance(e, safemp.WorkerCrashed)]
    ran = Counter(lines(path))

    assert len(crashed) <= 10
    assert all(ran[str(i)] == 1 for i, outcome in enumerate(found) if not isinstance(outcome, BaseException))
    assert max(ran.values()) == 1
    assert all(found[e.item] is e for e in crashed if e.item is not None), "each names its own item"


def test_a_stopped_worker_does_not_stall_the_others(tmp_path: Path) -> None:
    """It keeps the task that it has; everything else is done by the rest, and its own when it goes on."""
    release = tmp_path / "release"
    noted = tmp_path / "noted"
    with safemp.SafeExecutor(2) as executor:
        warm(executor)
        held = executor.submit(engine_jobs.note_and_wait, str(noted), str(release))
        assert until(lambda: lines(noted))
        stopped = int(lines(noted)[0])
        os.kill(stopped, signal.SIGSTOP)
        try:
            futures = [executor.submit(jobs.pid) for _ in range(300)]
            found = answers(futures)
            release.touch()
            still = held.done()
        finally:
            os.kill(stopped, signal.SIGCONT)
        own = held.result(30)

    assert stopped not in found
    assert not still
    assert own == stopped


def test_a_worker_that_was_stopped_while_idle_holds_one_task_at_most(tmp_path: Path) -> None:
    """Nobody can tell it from one that is about to begin; what was written ahead is taken back."""
    with safemp.SafeExecutor(2) as executor:
        pids = start_all(executor, tmp_path)
        warm(executor)
        os.kill(pids[0], signal.SIGSTOP)
        try:
            futures = [executor.submit(jobs.pid) for _ in range(300)]
            assert until(lambda: sum(f.done() for f in futures) >= 299)
            pending = [f for f in futures if not f.done()]
        finally:
            os.kill(pids[0], signal.SIGCONT)
        found = answers(futures)

    assert len(pending) <= 1
    assert set(found) <= set(pids)


def test_stopped_workers_do_not_keep_a_pool_from_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not leave when it is told to is killed in the end."""
    monkeypatch.setattr(dispatch, "_GRACE", 0.2)
    executor = safemp.SafeExecutor(2)
    pids = start_all(executor, tmp_path)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    executor.shutdown(wait=True)

    assert until(lambda: not any(map(alive, pids)))


@pytest.mark.parametrize("job", [engine_jobs.hang_at_exit, engine_jobs.leave_thread])
def test_workers_that_cannot_leave_are_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: Callable[[str], int]
) -> None:
    """An exit handler or a thread that stays does not keep the pool from closing, nor from being terminated."""
    monkeypatch.setattr(dispatch, "_GRACE", 0.2)
    monkeypatch.setattr(dispatch, "_TERM_GRACE", 0.2)
    for end in (safemp.SafeExecutor.shutdown, safemp.SafeExecutor.terminate_workers):
        executor = safemp.SafeExecutor(1)
        pid = executor.submit(job, str(tmp_path / "never")).result(30)
        end(executor)

        assert until(lambda pid=pid: not alive(pid))
        executor.shutdown(wait=True)


def test_idle_workers_that_are_terminated_leave_in_order(tmp_path: Path) -> None:
    """There is nothing to interrupt, so their exit handlers run; one that is at work is ended at once."""
    started, left = tmp_path / "started", [tmp_path / "idle", tmp_path / "busy"]
    with safemp.Pool(1) as pool:
        pool.apply(engine_jobs.note_at_exit, (str(left[0]),))
    pool.join()
    with safemp.Pool(1) as pool:
        pool.apply(engine_jobs.note_at_exit, (str(left[1]),))
        pool.apply_async(jobs.started_then_wait, (str(started), str(tmp_path / "never")))
        assert until(started.exists)
    pool.join()

    assert [one.exists() for one in left] == [True, False]


# -- 2: no send waits for a send --------------------------------------------------------------


MANY = 20_000_000


def test_large_frames_both_ways_at_once_do_not_deadlock() -> None:
    """Every worker is sent much while it sends much."""
    with safemp.SafeExecutor(2) as executor:
        futures = [executor.submit(engine_jobs.sum_and_return, bytes([i]) * MANY, MANY) for i in range(8)]
        small = [executor.submit(jobs.square, i) for i in range(20)]
        found = [(len(b), b[:1], b[-1:]) for b in answers(futures, 50)]
        assert answers(small) == [i * i for i in range(20)]

    assert found == [(MANY, bytes([i * 100 % 256]), bytes([i * 100 % 256])) for i in range(8)]


def test_large_frames_wait_for_a_stopped_worker_alone(tmp_path: Path) -> None:
    """What is half written to it stays so, until it goes on."""
    with safemp.SafeExecutor(2) as executor:
        pids = start_all(executor, tmp_path)
        os.kill(pids[0], signal.SIGSTOP)
        try:
            futures = [executor.submit(engine_jobs.sum_and_return, bytes([1]) * MANY, MANY) for _ in range(6)]
            assert until(lambda: sum(f.done() for f in futures) >= 5, timeout=40)
        finally:
            os.kill(pids[0], signal.SIGCONT)
        found = answers(futures)

    assert [len(b) for b in found] == [MANY] * 6


def test_a_worker_that_dies_half_way_through_a_large_argument_costs_nothing(tmp_path: Path) -> None:
    """Its task had not begun, so it runs on another one."""
    path = tmp_path / "ran"
    with safemp.SafeExecutor(1) as executor:
        (pid,) = start_all(executor, tmp_path)
        os.kill(pid, signal.SIGSTOP)
        future = executor.submit(engine_jobs.sum_and_return, bytes([1]) * MANY, 10)
        behind = executor.submit(engine_jobs.note_pid, str(path), 1)
        os.kill(pid, signal.SIGKILL)

        assert future.result(30) == bytes([100]) * 10
        assert behind.result(30) != pid
    assert lines(path) == ["1"]


def test_a_result_of_thousands_of_buffers_arrives() -> None:
    """There and back, each in its place."""
    np = pytest.importorskip("numpy")
    arrays = [np.full(8_192, i, dtype=np.float64) for i in range(1_000)]
    with safemp.SafeExecutor(1) as executor:
        found = executor.submit(jobs.same, arrays).result(50)

    assert [a[0] for a in found] == list(range(1_000))
    assert all((a == a[0]).all() for a in found)


# -- 3: the dispatcher runs no user code --------------------------------------------------------


def test_user_code_never_runs_in_the_dispatcher() -> None:
    """Arguments are pickled by who submits, results loaded by who asks, and what is mended in a thread for that."""
    Recorded.threads.clear()
    engine_jobs.LoadsAtSecondTry.dumps = 0
    with safemp.SafeExecutor(1) as executor:
        dispatcher = engine_of(executor)._thread.name
        futures = [executor.submit(jobs.same, Recorded(i)) for i in range(5)]
        futures.append(executor.submit(engine_jobs.raise_recorded, Recorded(1)))
        wait(futures, 30)
        before = len(Recorded.threads)
        assert [f.result(30).n for f in futures[:5]] == [0, 1, 2, 3, 4]
        assert isinstance(futures[5].exception(30), engine_jobs.RecordedError)
        assert [r.n for r in executor.map(jobs.same, [Recorded(1), Recorded(2)])] == [1, 2]
        loaded = len(Recorded.threads)
        assert executor.submit(jobs.same, engine_jobs.LoadsAtSecondTry()).result(30) == 5

    assert before == 6, "waiting loads nothing"
    assert set(Recorded.threads[:loaded]) == {threading.current_thread().name}
    assert len(set(Recorded.threads[loaded:])) == 2
    assert dispatcher not in Recorded.threads


def test_a_callback_that_raises_ends_nothing_but_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even by ``SystemExit`` or ``KeyboardInterrupt``."""
    told: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: told.append(args.exc_type))
    # A record of the log would keep the frames, and they the worker.
    monkeypatch.setattr(logging.getLogger("concurrent.futures"), "disabled", True)
    ran = []

    def callback(future: Future[Any], error: type[BaseException]) -> None:
        ran.append(error)
        raise error

    with safemp.SafeExecutor(1) as executor:
        for error in (ValueError, SystemExit, KeyboardInterrupt, GeneratorExit):
            future = executor.submit(jobs.square, 3)
            future.add_done_callback(lambda f, error=error: callback(f, error))
            assert future.result(30) == 9
        assert executor.submit(jobs.square, 4).result(30) == 16

    assert len(ran) == 4
    assert told == [SystemExit, KeyboardInterrupt, GeneratorExit], "futures themselves log an Exception"


def test_a_callback_may_use_the_pool_and_close_it() -> None:
    """It runs in the dispatcher, which must not wait for itself."""
    chained: list[Future[int]] = []
    done = threading.Event()

    def callback(future: Future[int]) -> None:
        if len(chained) < 50:
            chained.append(executor.submit(jobs.square, len(chained)))
            chained[-1].add_done_callback(callback)
        else:
            executor.shutdown(wait=True)
            done.set()

    executor = safemp.SafeExecutor(1)
    executor.submit(jobs.square, 0).add_done_callback(callback)
    assert done.wait(30)
    executor.shutdown(wait=True)

    assert [f.result(0) for f in chained] == [i * i for i in range(50)]


# -- 4: exactly one outcome each -------------------------------------------------------------------


def _context() -> Any:
    from loky.backend import get_context

    return get_context("loky")


class Delivered(Task):
    """A chunk that counts what it is delivered."""

    __slots__ = ("_function", "_items", "begun", "delivered")

    def __init__(self, function: Function, items: list[Any], first: int) -> None:
        super().__init__(calls.encode_chunk(items, first), "delivered", function, len(items), first)
        self._items = items
        self._function = function
        self.begun = 0
        self.delivered: list[tuple[int, Outcome]] = []

    def begin(self) -> bool:
        self.begun += 1
        return True

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        self.delivered += enumerate(outcomes, first)

    def abort(self) -> None:
        self.deliver_same(CancelledError())

    def mend(self, outcome: Any) -> Tasks:
        items = self._items[self.done :]
        parts = [Part(self, self._function, item, self.done + i) for i, item in enumerate(items)]
        return Tasks(parts)

    def outcomes(self) -> list[Any]:
        """Return each item's outcome; fail unless it has exactly one."""
        assert sorted(index for index, _ in self.delivered) == list(range(self.count))
        found = [outcome for _, outcome in sorted(self.delivered, key=lambda pair: pair[0])]
        return [calls.decode_outcome(o)[1] if isinstance(o, list) else o for o in found]


class Part(Delivered):
    """One item of a chunk that goes alone."""

    __slots__ = ("_at", "_whole")

    def __init__(self, whole: Delivered, function: Function, item: Any, at: int) -> None:
        super().__init__(function, [item], whole.first + at)
        self._whole = whole
        self._at = at

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        self._whole.deliver(self._at, outcomes)


@pytest.mark.parametrize("odds", [0.02, 0.2, 1.0])
@pytest.mark.parametrize("size", [1, 3, 17])
def test_each_item_has_exactly_one_outcome_under_random_deaths(tmp_path: Path, odds: float, size: int) -> None:
    """Its value or its own crash, in its place; and it never runs twice."""
    path = tmp_path / "effects"
    n = {0.02: 170, 0.2: 51, 1.0: 17}[odds]
    engine = LocalEngine(Settings(max_workers=2, context=_context()))
    tasks: list[Delivered] = []
    try:
        function = Function(calls.encode_function(engine_jobs.MaybeDie(str(path), odds)))
        for first in range(0, n, size):
            tasks.append(Delivered(function, list(range(first, min(first + size, n))), first))
            engine.submit(tasks[-1])
    finally:
        engine.close()
    found = [outcome for task in tasks for outcome in task.outcomes()]
    ran = Counter(map(int, lines(path)))

    for i, outcome in enumerate(found):
        if isinstance(outcome, BaseException):
            assert type(outcome) is safemp.WorkerCrashed
            assert outcome.item == i
            assert ran[i] <= 1
        else:
            assert (outcome, ran[i]) == (i, 1)
    if odds == 1.0:
        assert all(isinstance(outcome, safemp.WorkerCrashed) for outcome in found)


def test_a_death_while_a_chunk_is_loaded_is_narrowed_down_to_its_item(tmp_path: Path) -> None:
    """The others run once; those before and after it in the chunk, too."""
    path = tmp_path / "effects"
    items: list[Any] = [0, 1, jobs.ExitsOnLoad(), 3, jobs.ExitsOnLoad(), 5]
    engine = LocalEngine(Settings(max_workers=2, context=_context()))
    try:
        function = Function(calls.encode_function(jobs.Noting(str(path))))
        task = Delivered(function, items, 100)
        other = Delivered(function, [6, 7], 200)
        engine.submit(task)
        engine.submit(other)
    finally:
        engine.close()
    found = task.outcomes()

    assert [o if isinstance(o, int) else (type(o).__name__, o.item) for o in found] == [
        0, 1, ("WorkerCrashed", 102), 3, ("WorkerCrashed", 104), 5,
    ]  # fmt: skip
    assert other.outcomes() == [6, 7]
    assert sorted(lines(path)) == ["0", "1", "3", "5", "6", "7"]


@pytest.mark.parametrize("blockers", [1, 2])
@pytest.mark.parametrize("quiet_for", [0, 0.004, 0.05])
def test_tasks_behind_one_that_blocks_run_elsewhere(tmp_path: Path, blockers: int, quiet_for: float) -> None:
    """What was written ahead to a worker is taken back when it does not begin."""
    release = tmp_path / "release"
    with safemp.SafeExecutor(blockers + 1) as executor:
        start_all(executor, tmp_path)
        warm(executor)
        futures = [executor.submit(jobs.square, i) for i in range(50)]
        blocked = []
        for _ in range(blockers):
            blocked.append(executor.submit(jobs.wait_for, str(release)))
            futures += [executor.submit(jobs.square, i) for i in range(20)]
            time.sleep(quiet_for)
        futures += [executor.submit(jobs.square, i) for i in range(50)]
        try:
            answers(futures)
            assert not any(f.done() for f in blocked)
        finally:
            release.touch()
        assert answers(blocked) == [str(release)] * blockers


def test_tasks_behind_one_that_blocks_get_a_worker_that_is_not_there_yet(tmp_path: Path) -> None:
    """A pool that needed one worker until now starts another."""
    release = tmp_path / "release"
    with safemp.SafeExecutor(2) as executor:
        for i in range(400):  # one after the other: one worker is enough
            executor.submit(jobs.square, i).result(30)
        assert len(engine_of(executor).workers) == 1
        blocked = executor.submit(engine_jobs.note_and_wait, str(tmp_path / "noted"), str(release))
        assert until(lambda: lines(tmp_path / "noted"))
        futures = [executor.submit(jobs.square, i) for i in range(5)]
        try:
            found = answers(futures)
            assert not blocked.done()
        finally:
            release.touch()
        blocked.result(30)

    assert found == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("first", [0, 1])
def test_what_waits_behind_the_last_blocker_moves_when_another_ends(tmp_path: Path, first: int) -> None:
    """All workers block, tasks are written ahead to each; one blocker's end is enough for all of them."""
    releases = [tmp_path / "release-0", tmp_path / "release-1"]
    with safemp.SafeExecutor(2) as executor:
        start_all(executor, tmp_path)
        for pause in (0, 0.002, 0.004, 0.006):
            warm(executor)
            for release in releases:
                release.unlink(missing_ok=True)
            blocked, futures = [], []
            for release in releases:
                blocked.append(executor.submit(jobs.wait_for, str(release)))
                futures += [executor.submit(jobs.square, i) for i in range(6)]
                time.sleep(pause)
            futures += [executor.submit(jobs.square, i) for i in range(6)]
            try:
                releases[first].touch()
                answers(futures)
                assert not blocked[1 - first].done()
            finally:
                releases[1 - first].touch()
            answers(blocked)


def test_tasks_written_ahead_begin_in_order(tmp_path: Path) -> None:
    """Taken back or not: on one worker, the order of submission is the order of effects."""
    path, release = tmp_path / "effects", tmp_path / "release"
    with safemp.SafeExecutor(1) as executor:
        warm(executor)
        futures = [executor.submit(engine_jobs.note_pid, str(path), i) for i in range(30)]
        blocked = executor.submit(jobs.wait_for, str(release))
        futures += [executor.submit(engine_jobs.note_pid, str(path), i) for i in range(30, 90)]
        assert until(lambda: len(lines(path)) == 30)
        assert until(lambda: len(engine_of(executor)._dispatcher._queue) == 60), "they are taken back"
        futures += [executor.submit(engine_jobs.note_pid, str(path), i) for i in range(90, 100)]
        release.touch()
        answers([*futures, blocked])

    assert lines(path) == [str(i) for i in range(100)]


@pytest.mark.parametrize("how", ["kill", "terminate", "cancel"])
def test_what_was_taken_back_is_answered_when_the_pool_ends(tmp_path: Path, how: str) -> None:
    """Its future runs already, so it cannot be cancelled; it fails, or is dropped, but it ends."""
    release = tmp_path / "release"
    executor = safemp.SafeExecutor(1)
    warm(executor)
    first = [executor.submit(jobs.square, i) for i in range(20)]
    blocked = executor.submit(jobs.wait_for, str(release))
    behind = [executor.submit(jobs.square, i) for i in range(10)]
    answers(first)
    until(lambda: len(engine_of(executor)._dispatcher._queue) == 10, timeout=2)
    if how == "cancel":
        executor.shutdown(wait=False, cancel_futures=True)
        release.touch()
    elif how == "kill":
        executor.kill_workers()
    else:
        executor.terminate_workers()
    found = answers([blocked, *behind])
    executor.shutdown(wait=True)

    if how == "cancel":
        assert found[0] == str(release)
    else:
        assert isinstance(found[0], safemp.WorkerCrashed)
    for each in found[1:]:
        assert each is None or isinstance(each, (safemp.WorkerCrashed, CancelledError, int))


class Holding(Delivered):
    """A task whose delivery takes as long as it is told to."""

    __slots__ = ("entered", "go_on")

    def __init__(self, function: Function) -> None:
        super().__init__(function, [0], 0)
        self.entered = threading.Event()
        self.go_on = threading.Event()

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        self.entered.set()
        self.go_on.wait(30)
        super().deliver(first, outcomes)


@pytest.mark.parametrize(("size", "fatal"), [(10, 5), (33_000, 6), (66_000, 3), (200_000, 5)])
def test_what_had_finished_before_a_death_is_not_lost(tmp_path: Path, size: int, fatal: int) -> None:
    """Answers that lie in the socket count, however many and large; nothing that finished runs again."""
    path = tmp_path / "effects"
    engine = LocalEngine(Settings(max_workers=1, context=_context()))
    try:
        function = Function(calls.encode_function(engine_jobs.NoteAndReturn(str(path), size, fatal)))
        for _ in range(3):
            quick = [Delivered(function, [0], i) for i in range(100)]
            for task in quick:
                engine.submit(task)
            assert until(lambda quick=quick: all(task.delivered for task in quick))
        holding = Holding(function)
        engine.submit(holding)
        assert holding.entered.wait(30)
        (pid,) = engine.workers
        engine._dispatcher._pace.seconds = 1e-5  # as it is found to be where nothing else keeps the machine busy
        # The first goes to the idle worker, the others ahead of it, all at once.
        tasks = [Delivered(function, [i], i) for i in range(1, 18)]
        for task in tasks:
            engine.submit(task)
        # The largest answers fill the socket, which nobody reads yet; the others are all in it.
        assert until(lambda: lines(path) if size > 100_000 else not alive(pid))
        assert not any(task.delivered for task in tasks)
        holding.go_on.set()
    finally:
        engine.close()
    found = [task.outcomes()[0] for task in tasks]

    assert [len(v) if isinstance(v, bytes) else v.signal for v in found] == [
        size if i != fatal else "SIGKILL" for i in range(1, 18)
    ]
    assert lines(path) == [str(i) for i in range(1, 18)]


@pytest.mark.parametrize("how", ["kill", "broken"])
@pytest.mark.parametrize("mended", [(int, (5,)), (jobs._refuse_to_load, ())])
def test_a_pool_that_ends_while_a_task_is_mended_answers_it(tmp_path: Path, how: str, mended: Any) -> None:
    """A call that did not load is being encoded again, and nobody is left to take it."""
    argument = engine_jobs.WaitsAtSecondTry(mended)
    executor = safemp.SafeExecutor(1)
    future = executor.submit(jobs.same, argument)
    assert argument.asked.wait(30)
    if how == "kill":
        executor.kill_workers()
    else:
        engine = engine_of(executor)
        with engine._dispatcher.lock:
            engine._dispatcher._break(safemp.WorkerCrashed("", None, None, None, "broken by a test"))
            engine._wake()
    until(lambda: not engine_of(executor).workers, timeout=2)
    argument.go_on.set()
    (error,) = answers([future])
    executor.shutdown(wait=True)

    assert isinstance(error, BaseException)


def test_a_pool_that_closes_while_a_task_is_mended_runs_it() -> None:
    """It was taken, so it is done; ``shutdown`` returns when it has its answer."""
    argument = engine_jobs.WaitsAtSecondTry()
    executor = safemp.SafeExecutor(1)
    future = executor.submit(jobs.same, argument)
    assert argument.asked.wait(30)
    executor.shutdown(wait=False)
    argument.go_on.set()
    executor.shutdown(wait=True)

    assert future.done()
    assert future.result(0) == 5


def test_a_call_that_never_loads_is_answered_before_the_pool_has_closed() -> None:
    """The error of a call that was mended in vain comes before ``shutdown`` returns."""
    for _ in range(10):
        executor = safemp.SafeExecutor(1)
        future = executor.submit(jobs.same, jobs.RaisesOnLoad())
        executor.shutdown(wait=True)

        assert future.done()
        assert isinstance(future.exception(0), safemp.PreflightError)


@pytest.mark.parametrize("how", ["kill", "terminate"])
@pytest.mark.parametrize("when", ["at once", "running", "stubborn"])
def test_ending_a_pool_answers_everything(tmp_path: Path, how: str, when: str) -> None:
    """Running tasks fail with the signal, queued ones are dropped; workers that ignore SIGTERM end as well."""
    noted, never = tmp_path / "noted", str(tmp_path / "never")
    job = engine_jobs.stubborn if when == "stubborn" else engine_jobs.note_and_wait
    executor = safemp.SafeExecutor(2)
    futures = [executor.submit(job, str(noted), never) for _ in range(6)]
    if when != "at once":
        assert until(lambda: len(lines(noted)) == 2)
    (executor.kill_workers if how == "kill" else executor.terminate_workers)()
    found = answers(futures)
    executor.shutdown(wait=True)

    assert all(e is None or isinstance(e, safemp.WorkerCrashed) for e in found)
    if when != "at once":
        number = "SIGKILL" if how == "kill" or when == "stubborn" else "SIGTERM"
        assert [e.signal for e in found[:2]] == [number] * 2
        assert found[2:] == [None] * 4
    assert not any(alive(int(pid)) for pid in lines(noted))
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(jobs.square, 1)


def test_submitting_while_another_thread_shuts_down_loses_nothing() -> None:
    """Each call is refused, or answered."""
    for attempt in range(8):
        executor = safemp.SafeExecutor(2)
        begin = threading.Barrier(5)

        def submit(executor: safemp.SafeExecutor = executor, begin: Any = begin) -> list[Any]:
            taken = []
            begin.wait()
            try:
                while True:
                    taken.append(executor.submit(jobs.square, len(taken)))
            except RuntimeError:
                return taken

        def end(executor: safemp.SafeExecutor = executor, begin: Any = begin, attempt: int = attempt) -> list[Any]:
            begin.wait()
            time.sleep(0.01 * attempt)
            if attempt % 4 == 3:
                executor.kill_workers()
            else:
                executor.shutdown(wait=attempt % 2 == 0, cancel_futures=attempt % 4 == 2)
            return []

        with ThreadPoolExecutor(5) as threads:
            futures = [f for part in [threads.submit(w) for w in (submit,) * 4 + (end,)] for f in part.result(40)]
        executor.shutdown(wait=True)

        assert all(f.done() for f in futures)
        for future in futures:
            if not future.cancelled():
                assert isinstance(future.exception(0), (type(None), safemp.WorkerCrashed, CancelledError))


# -- 5: nothing outlives the caller -----------------------------------------------------------------


CALLER = """
import sys, time, threading
from concurrent.futures import ProcessPoolExecutor
import multiprocessing, safemp
from tests.support import engine_jobs, jobs

if __name__ == "__main__":
    ours, theirs, kind = sys.argv[1:4]
    args = (600,) if kind == "note_and_sleep" else ()
    job = getattr(engine_jobs, kind)
    if theirs != "-":
        pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
        for _ in range(2):
            pool.submit(job, theirs, *args)
    executor = safemp.SafeExecutor(2)
    for _ in range(2):
        executor.submit(job, ours, *args)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["note_and_sleep", "note_and_spin"])
def test_workers_of_a_killed_caller_end_where_the_standard_librarys_stay(tmp_path: Path, kind: str) -> None:
    """By SIGKILL, while tasks sleep or stay in C with the GIL."""
    script = tmp_path / "caller.py"
    script.write_text(CALLER)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    with started(str(script), str(ours), str(theirs), kind) as (child, written):
        assert until(lambda: len(lines(ours)) == len(lines(theirs)) == 2, timeout=40), written()
        child.kill()
        child.wait()
        gone = until(lambda: not any(alive(int(pid)) for pid in lines(ours)), timeout=10)
        stay = [alive(int(pid)) for pid in lines(theirs)]

    assert gone
    assert stay == [True, True], "the standard library's are there still: so this shows something"


@pytest.mark.parametrize("kind", ["note_and_sleep", "note_and_spin", "note_and_nest"])
def test_nothing_is_left_of_a_killed_caller(tmp_path: Path, kind: str) -> None:
    """No worker, no worker's worker, no tracker."""
    script = tmp_path / "caller.py"
    script.write_text(CALLER)
    ours = tmp_path / "ours"
    with started(str(script), str(ours), "-", kind) as (child, written):
        assert until(lambda: len(lines(ours)) >= (4 if kind == "note_and_nest" else 2), timeout=40), written()
        child.kill()
        child.wait()

        assert until(lambda: not in_session(child.pid), timeout=10), in_session(child.pid)


def test_nothing_is_left_of_many_pools() -> None:
    """Descriptors, threads and processes are as they were."""

    def open_and_close() -> None:
        with safemp.SafeExecutor(2) as executor:
            assert executor.submit(jobs.square, 3).result(30) == 9

    def owned() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0, threading.active_count()

    open_and_close()  # the resource trackers start
    before = owned()
    for _ in range(30):
        open_and_close()

    assert until(lambda: owned() == before), (before, owned())


# -- workers come and go --------------------------------------------------------------------------------


@pytest.mark.parametrize("most", [1, 7])
def test_workers_are_replaced_after_exactly_as_many_tasks(most: int) -> None:
    """Also when tasks are written ahead to them."""
    n = 24 if most == 1 else 200
    with safemp.SafeExecutor(2, max_tasks_per_child=most) as executor:
        found = answers([executor.submit(jobs.pid) for _ in range(n)], 50)
        counted = Counter(found)

    assert max(counted.values()) <= most
    short = [pid for pid, times in counted.items() if times < most]
    assert len(short) <= 2, "only those that were there at the end have made fewer"


def test_a_worker_that_leaves_is_not_counted_with_its_successor(tmp_path: Path) -> None:
    """``_processes`` has as many as the pool may have, also while one that was replaced is at its exit handlers."""
    release = tmp_path / "release"
    with safemp.SafeExecutor(1, max_tasks_per_child=2) as executor:
        old = executor.submit(engine_jobs.hang_at_exit, str(release)).result(30)
        assert executor.submit(jobs.pid).result(30) == old
        new = executor.submit(jobs.pid).result(30)

        assert alive(old)
        assert list(executor._processes) == [new] != [old]
        release.touch()


def test_workers_that_die_as_they_start_are_not_replaced_for_ever(tmp_path: Path) -> None:
    """After a few, the calls that wait fail and say how they died, and so does a later one."""
    path = tmp_path / "started"
    with safemp.SafeExecutor(2, initializer=engine_jobs.die_at_start, initargs=(str(path),)) as executor:
        futures = [executor.submit(jobs.square, i) for i in range(10)]
        found = answers(futures)
        found += answers([executor.submit(jobs.square, 1)])

    assert all(isinstance(e, safemp.WorkerCrashed) and e.exitcode == 7 for e in found)
    assert len(lines(path)) < 14
    assert len({id(e) for e in found}) == 11, "each has an error of its own"


def test_a_pool_whose_new_workers_are_killed_from_outside_goes_on() -> None:
    """More of them than it would start in vain: they had only nothing to do."""
    with safemp.Pool(2) as pool:
        for _ in range(4):
            pids = {process.pid for process in pool._pool}
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            assert until(lambda pids=pids: pids.isdisjoint(p.pid for p in pool._pool))  # type: ignore[misc]

        assert pool.map(jobs.square, range(10)) == [i * i for i in range(10)]


def test_a_worker_that_is_stopped_while_it_reads_is_ended_by_the_time_limit(tmp_path: Path) -> None:
    """What was half written to it is no reason to wait: its call, which had not begun, runs elsewhere."""
    with safemp.SafeExecutor(1) as executor:
        (pid,) = start_all(executor, tmp_path)
        os.kill(pid, signal.SIGSTOP)
        limited = executor.options(task_timeout=1)
        future = limited.submit(engine_jobs.sum_and_return, bytes([1]) * 250_000, 10)  # too small for a block
        (worker,) = engine_of(executor).workers.values()
        assert worker.outbox

        assert future.result(60) == bytes([100]) * 10
        assert not alive(pid)


def test_an_initializer_that_raises_breaks_the_pool_with_its_error() -> None:
    """Every call has it as the cause; none hangs, and none comes to a worker."""
    with safemp.SafeExecutor(2, initializer=jobs.fail_to_start) as executor:
        futures = []
        for i in range(10):
            try:
                futures.append(executor.submit(jobs.square, i))
            except safemp.InitializerError:  # it may be known by now
                break
        found = answers(futures)
        with pytest.raises(safemp.InitializerError):
            executor.submit(jobs.square, 1)

    assert all(isinstance(e, safemp.InitializerError) for e in found)
    assert all(isinstance(e.__cause__, jobs.TwoArguments) for e in found)


def test_a_task_that_closes_all_descriptors_fails_alone() -> None:
    """It can answer nobody; the pool goes on with another worker."""
    with safemp.SafeExecutor(2) as executor:
        futures = [executor.submit(jobs.work, i, 0.02) for i in range(4)]
        closing = executor.submit(engine_jobs.close_everything)
        futures += [executor.submit(jobs.work, i, 0.02) for i in range(4)]
        error = closing.exception(30)

        assert isinstance(error, safemp.WorkerCrashed)
        assert answers(futures) == [0, 10, 20, 30] * 2
        assert executor.submit(jobs.square, 3).result(30) == 9


def test_a_task_may_close_the_standard_descriptors() -> None:
    """The connection is none of them."""
    with safemp.SafeExecutor(1) as executor:
        pid = executor.submit(jobs.pid).result(30)
        assert executor.submit(engine_jobs.close_standard).result(30) == "closed"
        assert executor.submit(jobs.pid).result(30) == pid


@pytest.mark.parametrize("how", ["die", "return"])
def test_a_process_that_a_task_leaves_holds_nothing_up(tmp_path: Path, how: str) -> None:
    """It holds the worker's descriptors, but the worker's end is seen; so is the pool's."""
    noted, release = tmp_path / "noted", tmp_path / "release"
    try:
        with safemp.SafeExecutor(1) as executor:
            future = executor.submit(engine_jobs.leave_child, str(noted), str(release), how)
            (found,) = answers([future])
            assert executor.submit(jobs.square, 3).result(30) == 9
        left = int(lines(noted)[0])
        assert alive(left), "the process is there still: so this shows something"
    finally:
        release.touch()

    assert isinstance(found, safemp.WorkerCrashed if how == "die" else int)
    assert until(lambda: not alive(left))


def test_a_program_that_a_task_starts_gets_ctrl_c_as_usual() -> None:
    """The worker's own deafness to it is not passed on."""
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(engine_jobs.run_program).result(30) == "True"


def test_a_worker_that_dies_between_tasks_costs_nothing() -> None:
    """Its end is nobody's error; what was written to it meanwhile is moved."""
    with safemp.SafeExecutor(2) as executor:
        for _ in range(6):
            executor.submit(engine_jobs.die_later).result(30)
            found = answers([executor.submit(jobs.work, i, 0.001) for i in range(100)])

            crashed = [e for e in found if isinstance(e, BaseException)]
            assert len(crashed) <= 1, "the task that was running when it died, if any"
            assert all(type(e) is safemp.WorkerCrashed and e.exitcode == 3 for e in crashed)


@pytest.mark.parametrize("files", range(8))  # with 8 and 9, multiprocessing itself leaves a pipe open
def test_a_worker_that_cannot_be_started_leaves_nothing_open(files: int) -> None:
    """Wherever the descriptors run out, what was opened before is closed then, not by the collector."""
    resource = pytest.importorskip("resource")
    limits = importlib.import_module("tests.support.limits")
    settings = Settings(max_workers=1, context=get_context("fork"))
    before = limits.open_files()
    worker = None
    with contextlib.suppress(OSError), limits.limited(resource.RLIMIT_NOFILE, limits.room(files)):
        worker = process.start(settings, "safemp-test")
    if worker is not None:
        worker.signal(signal.SIGKILL)
        worker.reap()
        worker.close()

    assert limits.open_files() == before
    gc.collect()  # a ResourceWarning would fail this test


def test_a_page_that_may_not_be_so_large_is_closed() -> None:
    """With ``RLIMIT_FSIZE`` no ledger can be made, which costs no descriptor."""
    resource = pytest.importorskip("resource")
    limits = importlib.import_module("tests.support.limits")
    before = limits.open_files()
    with limits.limited(resource.RLIMIT_FSIZE, 0), pytest.raises(OSError, match="File too large"):
        system.ledger_file()

    assert limits.open_files() == before
