"""Orders of events in which the dispatcher once went wrong; the model found them."""

from __future__ import annotations

import signal
import threading

import pytest

from safemp.engines.settings import RETRY_ON, Limits
from tests.support.fake_engine import ERROR, FakeEngine


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
