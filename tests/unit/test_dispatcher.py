"""Orders of events in which the dispatcher once went wrong; found by the model, or while writing it."""

from __future__ import annotations

import signal
import threading
from typing import Any

import pytest

from safemp.engines import Function, Outcome, Task, Values
from safemp.engines.crash import TaskKilled, TaskTimeout, WorkerCrashed
from safemp.engines.deliveries import Deliveries
from safemp.engines.ledger import RUNNING
from safemp.engines.process import STARTING
from safemp.engines.settings import RETRY_ON, Limits
from tests.support.fake_engine import FakeEngine
from tests.support.fake_task import ERROR, HANG, VALUE
from tests.support.fake_worker import FakeWorker


def test_a_callback_that_exits_keeps_no_other_task_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each queued task is given up when a pool is ended, whatever the callback of one raises."""
    shown: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: shown.append(args.exc_type))
    engine = FakeEngine(1)
    for _ in range(2):
        engine.submit(count=1)

    def leave() -> None:
        raise SystemExit

    engine.callbacks.append(leave)
    engine.kill(signal.SIGTERM)

    assert shown == [SystemExit]
    assert not any(record.owed() for record in engine.records)


def test_who_waits_for_a_cancelled_task_is_told_when_the_pool_breaks() -> None:
    """Its ``begin`` is asked, as it would have been; it has no outcome."""
    engine = FakeEngine(1)
    engine.bad_start = 1
    records = [engine.submit() for _ in range(2)]
    assert records[0] is not None
    engine.cancel(records[0])
    engine.drain()

    assert records[0].outcomes == {0: "dropped"}
    assert engine.over


def test_being_encoded_again_gives_no_more_tries() -> None:
    """A call that has failed, and then does not load elsewhere, has as many tries left as before."""
    engine = FakeEngine(1)
    limits = Limits(retries=1, retry_on=(*RETRY_ON, ValueError))
    record = engine.submit(limits=limits, plan=[ERROR], loads=[True, False])
    assert record is not None
    engine.drain()

    assert len(record.runs[0]) == 2


def test_idle_workers_stay_away_in_an_eager_pool() -> None:
    """A worker that was dismissed since there was nothing to do is not replaced until there is."""
    engine = FakeEngine(2, eager=True, idle_timeout=0.5)
    engine.drain()

    assert not engine.workers


def test_a_worker_that_dies_between_two_items_is_blamed_on_neither() -> None:
    """The first one keeps its value, the second one runs elsewhere."""
    engine = FakeEngine(1)
    record = engine.submit(count=2)
    assert record is not None
    while not record.kept:
        engine.serve()
        for worker in engine.workers:
            worker.step()
    engine.workers[0].die(-11, "outside")
    engine.drain()

    assert sorted(record.kept) == [0, 1]
    assert all(isinstance(outcome, list) for outcome in record.outcomes.values())


@pytest.mark.parametrize("how", ["ledger", "stream", "zeros"])
def test_what_a_worker_was_sent_that_cannot_be_believed_is_not_run_again(how: str) -> None:
    """A task has written over the ledger, or into the stream: it counts as begun, and those behind it are moved."""
    engine = FakeEngine(1)
    engine.warm()
    engine.dispatcher._pace.seconds = 1e-5
    guilty, *others = [engine.submit(plan=[plan]) for plan in (HANG, VALUE, VALUE)]
    assert guilty is not None
    (worker,) = engine.workers
    while not guilty.runs:
        worker.step()
    if how == "stream":
        worker.babbled = True
        worker.ledger.rest()  # the outcome was lost in the nonsense
    else:
        worker.ledger._page[:64] = b"GARBAGE!" * 8 if how == "ledger" else bytes(64)
    worker.die(-9, "outside")
    engine.drain()

    assert isinstance(guilty.outcomes[0], WorkerCrashed)
    assert len(guilty.runs[0]) == 1
    assert all(record is not None and isinstance(record.outcomes[0], list) for record in others)


def test_items_whose_outcomes_may_have_been_lost_are_not_run_again() -> None:
    """A worker that has spoken nonsense is at the third item of a chunk: of the first two nothing has come."""
    engine = FakeEngine(1)
    engine.warm()
    task = _Kept(4)
    engine.dispatcher.submit(task)
    (worker,) = engine.workers
    worker.ledger.begin(task.id, 2, RUNNING, engine.now)
    worker.babbled = True
    worker.exitcode, worker.closed = -9, True
    engine._bury(worker)

    assert [(index, type(outcome)) for index, outcome in task.kept] == [(i, WorkerCrashed) for i in range(3)]
    assert [(each.done, each.count) for each in engine.dispatcher._queue] == [(3, 4)]


def test_a_call_that_was_only_just_sent_can_be_ended() -> None:
    """Its worker has not begun it when it is asked, and is killed when it has."""
    engine = FakeEngine(1)
    engine.submit()
    engine.drain()
    record = engine.submit(plan=[HANG])
    assert record is not None

    assert engine.end_task(record)
    engine.drain()
    assert isinstance(record.outcomes[0], TaskKilled)


def test_what_is_yet_to_be_written_to_a_worker_does_not_keep_it_alive() -> None:
    """The time of a task is up while others wait to be written ahead to its worker."""
    engine = FakeEngine(1)
    engine.submit()
    engine.drain()
    record = engine.submit(limits=Limits(task_timeout=1), plan=[HANG])
    assert record is not None
    for _ in range(20):
        engine.workers[0].step()
    engine.dispatcher._pace.seconds = 1e-5
    for _ in range(16 * 8):
        engine.submit(size=15_000)
    assert engine.workers[0].outbox

    engine.drain()
    assert isinstance(record.outcomes[0], TaskTimeout)


def finish_when_stopped(engine: FakeEngine) -> FakeWorker:
    """Have a task finish in the very moment in which its worker is stopped, its time being up."""
    record = engine.submit(limits=Limits(task_timeout=1))
    assert record is not None
    while not record.runs.get(0):
        engine.serve()
        for worker in engine.workers:
            worker.step()
    for seconds in (1.01, 0.06):
        engine.now += seconds
        engine.serve()
    (worker,) = engine.workers
    while not worker.sent:
        worker.step()
    engine.now += 0.0015
    assert worker.stopped
    engine.drain()
    assert isinstance(record.outcomes[0], list)
    return worker


def test_a_worker_is_not_kept_stopped_when_it_is_told_to_leave() -> None:
    """It runs its exit handlers, as others do."""
    worker = finish_when_stopped(FakeEngine(1, max_tasks=1))

    assert worker.why == "leaves"


def test_a_worker_that_was_about_to_be_ended_is_dismissed_when_it_is_idle() -> None:
    """With nothing more to do it leaves, as others do."""
    engine = FakeEngine(1, idle_timeout=0.5)
    finish_when_stopped(engine)

    assert not engine.workers


def test_tasks_that_are_moved_stay_in_order() -> None:
    """Of those that a dead worker had not begun, an idle one gets the first one first."""
    engine = FakeEngine(2)
    engine.warm()
    for _ in range(2):
        engine.submit()
    engine.dispatcher._pace.seconds = 1e-5
    engine.order.clear()
    for _ in range(16):
        engine.submit()
    other, full = sorted(engine.workers, key=lambda worker: len(worker.tasks))
    assert len(full.tasks) > 2
    for record in engine.records:
        engine.cancel(record)  # what has not been sent
    while other.tasks:
        other.step()
        engine.serve()
    full.die(-11, "outside")
    engine.drain()

    ran = [number for number, _ in engine.order]
    assert len(ran) > 2
    assert ran == sorted(ran)


def test_what_is_taken_back_in_a_pool_that_was_ended_waits_for_no_worker() -> None:
    """``kill`` of a call, from one thread, after the end of its pool, from another."""
    engine = FakeEngine(1)
    engine.warm()
    engine.submit(limits=Limits(task_timeout=100), plan=[HANG])
    engine.dispatcher._pace.seconds = 1e-5
    for _ in range(16):
        engine.submit()
    assert len(engine.workers[0].tasks) > 2
    engine.workers[0].ignores_term = True
    engine.kill(signal.SIGTERM)
    engine.end_task(engine.records[3])
    engine.drain()

    assert engine.over
    assert not any(record.owed() for record in engine.records)


class _Kept(Task):
    def __init__(self, count: int) -> None:
        super().__init__([b"", b""], "kept", Function([b""]), count)
        self.kept: list[tuple[int, Any]] = []

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        self.kept += enumerate(outcomes, first)


def test_a_row_that_was_half_seen_is_taken_from_there() -> None:
    """What a worker held was taken while it went on; then it sends all of it, and perhaps again."""
    engine = FakeEngine(1)
    engine.submit()
    engine.drain()
    (worker,) = engine.workers
    task = _Kept(20)
    task.id = 7
    worker.tasks.append(task)
    deliveries = Deliveries()
    for first, n in ((0, 5), (0, 5), (0, 12), (3, 5), (12, 8), (12, 8)):
        row = Values(range(first, first + n))
        engine.dispatcher._take(worker, [(7, first, row)], deliveries)  # type: ignore[arg-type]
    deliveries.hand_over()

    assert task.kept == [(i, i) for i in range(20)]
    assert not worker.tasks


def _die_at_start(engine: FakeEngine, times: int) -> None:
    """Have so many workers, one after the other, end before they are ready."""
    for _ in range(times):
        while not (starting := [each for each in engine.workers if each.state == STARTING]):
            engine.now = max(engine.now, engine.dispatcher._retry_at)
            assert engine.serve()
        starting[0].die(-9, "outside")
        engine.serve()


def test_a_pool_goes_on_after_workers_that_could_not_begin() -> None:
    """Who waits for them is told; who asks later gets his answer, if what ended them has passed."""
    engine = FakeEngine(1, eager=True)
    records = [engine.submit() for _ in range(3)]
    _die_at_start(engine, 5)
    for record in records:
        assert record is not None
        assert isinstance(record.outcomes[0], WorkerCrashed)
        assert "cannot keep workers: 5 in a row" in str(record.outcomes[0])
    later = engine.submit()
    assert later is not None
    engine.drain()

    assert isinstance(later.outcomes[0], list)


@pytest.mark.parametrize("times", [1, 4])
def test_a_worker_that_could_not_be_started_is_tried_again(times: int) -> None:
    """One process that the kernel has ended meanwhile, say, is no call's fault."""
    engine = FakeEngine(2)
    engine.unable = times
    records = [engine.submit() for _ in range(3)]
    engine.drain()

    assert all(record is not None and isinstance(record.outcomes[0], list) for record in records)


def test_a_fault_that_stays_fails_the_calls_within_a_second() -> None:
    """Five workers in a row could not be started; so it is for later calls, until one has been."""
    engine = FakeEngine(1)
    began = engine.now
    engine.unable = 6
    for allowed in (1.0, 2.1):
        records = [engine.submit() for _ in range(3)]
        engine.drain(allowed)
        for record in records:
            assert record is not None
            assert "cannot start a worker: OSError: no process is to be had" in str(record.outcomes[0])
        assert engine.now - began < 2 * allowed
    later = engine.submit()
    assert later is not None
    engine.drain()
    assert isinstance(later.outcomes[0], list)


def test_what_gives_no_answer_is_waited_for_once() -> None:
    """It has had its time."""
    engine = FakeEngine(1)
    record = engine.submit()
    assert record is not None
    engine.most_unable = 5  # it counts for as many
    engine.dispatcher.unable(TimeoutError("timed out"))

    assert "cannot start a worker: TimeoutError" in str(record.outcomes[0])


def test_idle_workers_that_are_killed_from_outside_harm_no_call() -> None:
    """However many they are, and though they never had anything to do."""
    engine = FakeEngine(8, eager=True)
    for _ in range(2):
        engine.drain(0.5)
        for worker in engine.workers:
            worker.die(-9, "outside")
    records = [engine.submit() for _ in range(20)]
    engine.drain()

    assert all(record is not None and isinstance(record.outcomes[0], list) for record in records)


def test_workers_that_cannot_begin_fail_no_call_that_another_can_do() -> None:
    """As long as one is able, calls wait for it."""
    engine = FakeEngine(2)
    engine.submit(plan=[HANG])
    while not engine.records[0].runs:
        engine.serve()
        for worker in engine.workers:
            worker.step()
    waiting = engine.submit()
    assert waiting is not None
    _die_at_start(engine, 12)
    assert not waiting.outcomes
    engine.drain()

    assert isinstance(waiting.outcomes[0], list)


def test_a_call_that_no_worker_lives_to_begin_fails_alone() -> None:
    """It ends each worker that it is sent to, before that has begun it; the others wait behind it, and are done."""
    engine = FakeEngine(1)
    deadly = engine.submit(size=100_000)
    assert deadly is not None
    others = [engine.submit() for _ in range(3)]
    for _ in range(5):
        while not any(worker.tasks for worker in engine.workers):
            engine.now = max(engine.now, engine.dispatcher._retry_at)
            engine.serve()
            for worker in engine.workers:
                worker.step()
        assert not deadly.outcomes
        engine.workers[0].die(-9, "outside")
        engine.serve()
    engine.drain()

    assert isinstance(deadly.outcomes[0], WorkerCrashed)
    assert "5 workers in a row ended before they had begun it" in str(deadly.outcomes[0])
    assert all(record is not None and isinstance(record.outcomes[0], list) for record in others)


def test_a_worker_that_reads_no_more_is_ended_by_the_time_limit() -> None:
    """It was stopped in the middle of its task's message; the task, which is not to blame, is moved."""
    engine = FakeEngine(1)
    engine.submit()
    engine.drain()
    (worker,) = engine.workers
    record = engine.submit(limits=Limits(task_timeout=1), size=500_000)
    assert record is not None
    assert worker.outbox
    worker.stop()
    for _ in range(10):
        engine.now += 1.1
        engine.serve()
    assert worker.exitcode is not None
    engine.drain()

    assert isinstance(record.outcomes[0], list)
