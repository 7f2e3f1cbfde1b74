"""Engines of others' workers to which a lone call goes from thread to thread as seldom as can be."""

from __future__ import annotations

import gc
import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

import safemp
from safemp.engines import foreign
from safemp.engines.foreign import Done
from safemp.engines.futures import ExecutorEngine
from safemp.testing import EngineContract
from tests.support import jobs
from tests.support.child import until

WAIT = 30


class AtOnce(ExecutorEngine):
    """Threads, to which who submits may send; *before* is called whenever he does."""

    def __init__(self, threads: int = 1, before: Callable[[], object] = int) -> None:
        self.threads = ThreadPoolExecutor(threads)
        super().__init__(self.threads)
        self.keeps_diaries = False
        self.before = before
        self.senders: list[threading.Thread] = []

    def send(self, errand: tuple[Any, ...], parts: tuple[Any, ...], done: Done) -> Any:
        self.senders.append(threading.current_thread())
        return super().send(errand, parts, done)

    def send_now(self, errand: tuple[Any, ...], parts: tuple[Any, ...], done: Done) -> Any:
        return None if self.before() is None else self.send(errand, parts, done)

    def end(self) -> None:
        self.threads.shutdown()


class TestContract(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[AtOnce]:
        yield AtOnce(max_workers)


class TestContractOfOneThatIsBusy(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[AtOnce]:
        turns = iter(range(1 << 30))
        yield AtOnce(max_workers, lambda: next(turns) % 2 or None)


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is, calls count as short."""
    monkeypatch.setattr(foreign, "_SHORT", 1e9)


@contextmanager
def quick(engine: AtOnce) -> Iterator[safemp.SafeExecutor]:
    """Open an executor on *engine* that has had an answer."""
    with safemp.SafeExecutor(engine=engine) as executor:
        assert executor.submit(jobs.square, 2).result(WAIT) == 4
        yield executor


def test_who_submits_sends_when_a_worker_is_free() -> None:
    """Not the first, of which nobody knows how long it takes; nor one behind another; nor a large one."""
    engine = AtOnce()
    with quick(engine) as executor:
        assert engine.senders.pop() is not threading.current_thread()
        for n in range(5):
            assert executor.submit(jobs.square, n).result(WAIT) == n * n
        assert set(engine.senders) == {threading.current_thread()}

        engine.senders.clear()
        go = threading.Event()
        engine.threads.submit(go.wait)
        futures = [executor.submit(jobs.square, n) for n in range(3)]
        go.set()
        assert [future.result(WAIT) for future in futures] == [0, 1, 4]
        assert engine.senders[0] is threading.current_thread()
        assert threading.current_thread() not in engine.senders[1:]

        engine.senders.clear()
        assert executor.submit(len, bytes(1_000_000)).result(WAIT) == 1_000_000
        assert threading.current_thread() not in engine.senders


def test_what_cannot_be_sent_at_once_is_sent_by_the_engine() -> None:
    """In its turn, and once."""
    engine = AtOnce(before=lambda: None)
    with quick(engine) as executor:
        assert [executor.submit(jobs.square, n).result(WAIT) for n in range(5)] == [0, 1, 4, 9, 16]
    assert len(engine.senders) == 6
    assert threading.current_thread() not in engine.senders


def test_one_that_fails_as_it_is_sent_breaks_the_pool_for_all() -> None:
    """As one does that the engine sends: its future has the error, and later calls are refused."""
    engine = AtOnce(before=lambda: 1 / 0)
    with quick(engine) as executor:
        with pytest.raises(safemp.EngineError, match="takes no tasks: ZeroDivisionError"):
            executor.submit(jobs.square, 3).result(WAIT)
        with pytest.raises(safemp.EngineError, match="takes no tasks: ZeroDivisionError"):
            executor.submit(jobs.square, 3)


def test_ctrl_c_comes_when_the_call_has_been_sent() -> None:
    """It is raised out of ``submit``; the call has run once, others run, and the pool ends in order."""
    ran: list[int] = []
    engine = AtOnce(before=lambda: os.kill(os.getpid(), signal.SIGINT) or 1)
    with quick(engine) as executor:
        with pytest.raises(KeyboardInterrupt):
            executor.submit(ran.append, 1)
        engine.before = int
        executor.submit(jobs.square, 3).result(WAIT)
    assert len(engine.senders) == 3


def test_a_finalizer_may_end_the_pool_while_a_call_is_sent() -> None:
    """It does not wait for who sends, which is itself; the call is finished."""
    engine = AtOnce()
    executor = safemp.SafeExecutor(engine=engine)
    executor.submit(jobs.square, 2).result(WAIT)
    engine.before = lambda: executor.shutdown() or 1  # type: ignore[func-returns-value]
    assert executor.submit(jobs.square, 3).result(WAIT) == 9
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(jobs.square, 3)
    executor.shutdown()
    assert engine.threads._shutdown


class Told:
    """Says in which thread it is let go of."""

    threads: list[threading.Thread] = []  # noqa: RUF012

    def __reduce__(self) -> Any:
        return int, ()

    def __del__(self) -> None:
        self.threads.append(threading.current_thread())


def test_destructors_run_in_no_thread_of_theirs() -> None:
    """In which they tell of an answer: what a destructor may wait for would never come."""
    Told.threads.clear()
    engine = AtOnce()
    with quick(engine) as executor:
        for _ in range(50):
            assert executor.submit(abs, Told()).result(WAIT) == 0
        theirs = set(engine.threads._threads)
    assert len(Told.threads) == 50
    assert theirs.isdisjoint(Told.threads)


def test_an_answer_leaves_no_cycle() -> None:
    """What a call was given, and what theirs keep of it, is let go at once."""
    engine = AtOnce()
    with quick(engine) as executor:
        gc.disable()
        try:
            tickets = []
            for n in range(20):
                future = executor.submit(jobs.square, n)
                tickets += [weakref.ref(sent.ticket) for sent in engine._sent.values() if sent.ticket is not None]
                assert future.result(WAIT) == n * n
            del future
            assert until(lambda: not any(ticket() for ticket in tickets))
        finally:
            gc.enable()


def test_callbacks_run_in_the_engines_thread() -> None:
    """However late they are added, unless the call has finished: then in the one that adds them."""
    engine = AtOnce()
    called: list[str] = []
    with quick(engine) as executor:
        for _ in range(20):
            go = threading.Event()
            engine.threads.submit(go.wait)
            future = executor.submit(jobs.square, 3)
            waiter = threading.Thread(target=future.result, args=(WAIT,))
            waiter.start()
            future.add_done_callback(lambda _: called.append(threading.current_thread().name))
            go.set()
            waiter.join(WAIT)
            assert future.wait(WAIT)
    assert called == ["safemp-ThreadPoolExecutor"] * 20
