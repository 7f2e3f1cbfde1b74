"""The dispatcher keeps the engine's invariants, whatever happens in whatever order.

A model of the local engine: the real dispatcher, ledger and tokens, fake workers, a fake
clock. Each rule is one event. What may not happen is said in ``Record`` and in
``FakeEngine.check``; at the end everybody does his work until nothing is left to do.

``SAFEMP_EXAMPLES=20000 pytest tests/property/test_dispatcher.py`` looks longer.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from safemp.engines import dispatch
from safemp.engines.settings import RETRY_ON, Limits
from tests.support.fake_engine import FakeEngine
from tests.support.fake_task import ERROR, HANG, LARGE, MEDIUM, VALUE
from tests.support.fake_worker import FakeWorker

EXAMPLES = int(os.environ.get("SAFEMP_EXAMPLES", "300"))

BIG = 1_000_000

LIMITS = st.none() | st.builds(
    Limits,
    task_timeout=st.sampled_from([None, 0.03, 1.0]),
    retries=st.sampled_from([0, 0, 1, 5]),
    retry_on=st.sampled_from([RETRY_ON, (*RETRY_ON, ValueError), ValueError]),
    max_memory=st.sampled_from([None, None, BIG]),
)
PLANS = st.lists(st.sampled_from([VALUE, VALUE, ERROR, HANG, MEDIUM, LARGE]), min_size=1, max_size=3)
SIZES = st.sampled_from([10, 10, 15_000, 100_000])
LOADS = st.lists(st.booleans(), max_size=2)
MENDS = st.lists(st.sampled_from(["task", "outcome", "raise"]), max_size=2)
WHICH = st.integers(0, 7)


class Model(RuleBasedStateMachine):
    engine: FakeEngine

    @initialize(
        max_workers=st.integers(1, 3),
        eager=st.booleans(),
        idle_timeout=st.sampled_from([None, None, 0.5]),
        max_tasks=st.sampled_from([None, None, 1, 3]),
        warm=st.booleans(),
        short=st.booleans(),
    )
    def start(
        self, max_workers: int, eager: bool, idle_timeout: float | None, max_tasks: int | None, warm: bool, short: bool
    ) -> None:
        self.engine = FakeEngine(max_workers, eager, idle_timeout, max_tasks)
        self.idle_timeout = idle_timeout
        if warm:
            self.engine.warm()
        if short:
            self.tasks_are_short()

    @invariant()
    def everything_is_in_its_place(self) -> None:
        self.engine.check()

    def _worker(self, which: int) -> FakeWorker:
        return self.engine.workers[which % len(self.engine.workers)]

    # -- what users do -----------------------------------------------------------------------

    @rule(key=st.integers(0, 2), size=SIZES, limits=LIMITS, plan=PLANS, loads=LOADS, mends=MENDS)
    def submit_a_call(self, **how: Any) -> None:
        self.engine.submit(**how)

    @rule(
        count=st.integers(1, 9), key=st.integers(0, 2), size=SIZES, limits=LIMITS, plan=PLANS, loads=LOADS, mends=MENDS
    )
    def submit_a_chunk(self, **how: Any) -> None:
        self.engine.submit(**how)

    @rule(n=st.integers(2, 20), count=st.integers(0, 3), key=st.integers(0, 2), size=SIZES, plan=PLANS)
    def submit_many(self, n: int, **how: Any) -> None:
        for _ in range(n):
            self.engine.submit(**how)

    @precondition(lambda self: self.engine.records)
    @rule(which=WHICH, kill=st.booleans())
    def cancel(self, which: int, kill: bool) -> None:
        record = self.engine.records[-1 - which % len(self.engine.records)]
        if kill and record.call:
            self.engine.end_task(record)
        else:
            self.engine.cancel(record)

    @precondition(lambda self: not self.engine.killed and not self.engine.over)
    @rule(how=st.sampled_from(["close", "cancel", "defect", signal.SIGTERM, signal.SIGKILL]), sure=WHICH)
    def end_the_pool(self, how: Any, sure: int) -> None:
        if sure != 5:
            return
        if how == "defect":
            self.engine.collapse()
        elif isinstance(how, str):
            self.engine.close(how == "cancel")
        else:
            self.engine.kill(how)

    @rule(what=st.sampled_from(["submit", "close", "cancel", "end", "deferred", "raise"]), which=WHICH)
    def will_call_back(self, what: str, which: int) -> None:
        """A callback, or another thread at that moment, does something."""
        self.engine.callbacks.append(lambda: self._call_back(what, which))

    def _call_back(self, what: str, which: int) -> None:
        if what == "submit":
            self.engine.submit(which % 3)
        elif what in ("close", "cancel") and not which:
            self.engine.close(what == "cancel")
        elif what == "end":
            self.cancel(which, True)
        elif what == "deferred":
            self.engine.run_deferred(which)
        elif what == "raise":
            raise SystemExit

    # -- what workers do ---------------------------------------------------------------------

    @precondition(lambda self: self.engine.workers)
    @rule(which=WHICH, steps=st.integers(0, 12), then=st.sampled_from(["", "", "die", "stop", "close"]))
    def a_worker_goes_on(self, which: int, steps: int, then: str) -> None:
        worker = self._worker(which)
        for _ in range(steps):
            self.engine.step(worker)
        if then == "die":
            worker.die(-11, "outside")
        elif then == "stop":
            worker.stop()
        elif then == "close":
            worker.deafen()

    @rule(steps=st.sampled_from([5, 30, 200]))
    def all_workers_go_on(self, steps: int) -> None:
        for worker in self.engine.workers:
            for _ in range(steps):
                if not self.engine.step(worker):
                    break

    @precondition(lambda self: self.engine.workers)
    @rule(which=WHICH, ignores=st.booleans())
    def a_stopped_one_goes_on(self, which: int, ignores: bool) -> None:
        worker = self._worker(which)
        if not worker.halted:
            worker.stopped_at = None
        worker.ignores_term = worker.slow_stack = ignores

    @precondition(lambda self: self.engine.workers)
    @rule(which=WHICH, used=st.sampled_from([BIG // 2, 2 * BIG]))
    def a_worker_uses_memory(self, which: int, used: int) -> None:
        self._worker(which).bytes = used

    @rule(what=st.sampled_from(["worker", "initializer", "thread"]), times=st.sampled_from([0, 1, 2, 5, 7]), sure=WHICH)
    def does_not_start(self, what: str, times: int, sure: int) -> None:
        if what == "worker":
            self.engine.unable = times
        elif what == "thread":
            self.engine.threadless = times
        else:
            self.engine.bad_start = int(sure == 5)

    @precondition(lambda self: len(self.engine.chances) < 20)
    @rule(chances=st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 3, 5, 8, 13]), min_size=1, max_size=30))
    def things_will_happen_meanwhile(self, chances: list[int]) -> None:
        self.engine.chances.extend(chances)

    @precondition(lambda self: len(self.engine.chances) < 60)
    @rule(steps=st.integers(0, 60), how=st.sampled_from([8, 13]))
    def a_worker_will_fall(self, steps: int, how: int) -> None:
        """It is stopped, or dies, after so many steps of all."""
        self.engine.chances.extend([*[0] * steps, how])

    # -- what the engine does ------------------------------------------------------------------

    @rule(rounds=st.integers(1, 3))
    def the_engine_serves(self, rounds: int) -> None:
        while rounds and self.engine.serve():
            rounds -= 1

    @rule(rounds=st.integers(1, 5), steps=st.sampled_from([3, 12]))
    def everybody_goes_on(self, rounds: int, steps: int) -> None:
        for _ in range(rounds):
            self.engine.serve()
            self.all_workers_go_on(steps)

    @rule(seconds=st.sampled_from([0.0005, 0.003, 0.006, 0.03, 0.06, 0.3, 1.1, 11.0]))
    def time_passes(self, seconds: float) -> None:
        self.engine.now += seconds
        self.engine.serve()

    @precondition(lambda self: self.engine.deferred)
    @rule(which=WHICH)
    def a_thread_runs(self, which: int) -> None:
        self.engine.run_deferred(which)

    @precondition(lambda self: self.engine.dispatcher.max_workers > 1)
    @rule()
    def somebody_would_have_more(self) -> None:
        """Workers are asked for items, as they are when another is idle: where there is one, nobody asks it."""
        with self.engine.dispatcher.lock:
            self.engine.dispatcher._ask()

    @rule()
    def tasks_are_short(self) -> None:
        """Tasks have been short lately, so that some are written ahead."""
        self.engine.dispatcher._pace.seconds = 1e-5

    # -- the end -------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "engine") or sys.exc_info()[0] is not None:
            return  # what has failed is not to be hidden by what that has left
        engine = self.engine
        try:
            engine.drain(3.0)
            engine.check_nothing_waits_for_another()
            engine.drain()
            assert not any(record.owed() for record in engine.records), "somebody waits for ever"
            if not engine.closed:
                assert self.idle_timeout is None or not engine.workers, "it has nothing to do, and does not leave"
                engine.close()
                engine.drain()
            assert engine.over, "it does not end"
            assert not engine.workers
            if engine.dispatcher.max_workers == 1:
                plain = [each for each in engine.order if engine.records[each[0]].goes_straight()]
                assert plain == sorted(plain), "out of order"
        finally:
            for worker in engine.workers:
                worker.ledger.close()


def test_what_is_held_behind_answers_on_their_way_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at what a worker holds, while earlier answers are on their way, is not the last one."""
    monkeypatch.setattr(dispatch, "BUNDLE", 3)
    engine = FakeEngine(1)
    engine.warm()
    engine.dispatcher._pace.seconds = 1e-5
    for plan in (VALUE, VALUE, VALUE, HANG):  # one to the idle worker, and three behind it
        engine.submit(plan=[plan])
    (worker,) = engine.workers
    while worker.ledger.progress().task != worker.tasks[-1].id:
        if not worker.sent:
            engine.now += 0.002  # then it sends what it holds, and holds the next
        assert worker.step()
    assert worker.sent
    assert worker.ledger.held()

    engine.now += 0.006
    engine.dispatcher.tick()
    assert len(worker.tasks) == 4, "nobody has read the stream yet"
    engine.drain(1.0)

    assert [record.number for record in engine.records if record.owed()] == [4]
    assert len(worker.tasks) == 1
    worker.ledger.close()


@pytest.mark.timeout(600)  # a failure is made small first
def test_the_invariants_hold_in_any_order_of_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks, workers, deaths, limits, cancels and ends, mixed at random: invariants 1 to 5 hold."""
    monkeypatch.setattr(threading, "excepthook", lambda _: None)  # for callbacks that raise
    monkeypatch.setattr(dispatch, "BUNDLE", 3)
    run_state_machine_as_test(Model, settings=settings(max_examples=EXAMPLES, stateful_step_count=50, deadline=None))
