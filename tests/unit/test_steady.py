"""Locks under which no handler of a signal comes in between."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Future, wait
from typing import Any

import pytest

from safemp import SafeFuture
from safemp.steady import SteadyLock, steady_condition, steady_event

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="wants signals of POSIX")


class StopHere(Exception):
    """What the handler raises."""


@pytest.fixture
def come() -> Iterator[list[int]]:
    """The signals whose handler has run; it notes, and raises on SIGUSR2."""
    found: list[int] = []

    def handler(number: int, frame: Any) -> None:
        found.append(number)
        if number == signal.SIGUSR2:
            raise StopHere

    before = {number: signal.signal(number, handler) for number in (signal.SIGUSR1, signal.SIGUSR2)}
    yield found
    for number, old in before.items():
        signal.signal(number, old)


def test_a_handler_waits_until_the_lock_is_let_go(come: list[int]) -> None:
    """And has its turn at once then."""
    lock = SteadyLock()
    with lock:
        signal.raise_signal(signal.SIGUSR1)
        assert come == []
    assert come == [signal.SIGUSR1]


def test_what_a_handler_raises_comes_when_all_is_done(come: list[int]) -> None:
    """Out of the ``with`` statement; the lock is free, and the handler is the one that it was."""
    lock, handler = SteadyLock(), signal.getsignal(signal.SIGUSR2)
    done = False
    with pytest.raises(StopHere), lock:
        signal.raise_signal(signal.SIGUSR2)
        done = True

    assert done
    assert signal.getsignal(signal.SIGUSR2) is handler
    free: list[bool] = []
    other = threading.Thread(target=lambda: free.append(lock.acquire(timeout=5)))
    other.start()
    other.join()
    assert free == [True]


def test_two_signals_both_have_their_turn(come: list[int]) -> None:
    """Also when the handler of the first raises: the other's has its turn at the next lock."""
    lock = SteadyLock()
    with pytest.raises(StopHere), lock:
        signal.raise_signal(signal.SIGUSR2)
        signal.raise_signal(signal.SIGUSR1)
    with lock:
        pass

    assert sorted(come) == sorted([signal.SIGUSR1, signal.SIGUSR2])


@pytest.mark.parametrize("first_out", [0, 1])
def test_with_two_locks_it_waits_for_both(come: list[int], first_out: int) -> None:
    """In whichever order they are let go, as ``concurrent.futures.wait`` does."""
    locks = [SteadyLock(), SteadyLock()]
    for lock in locks:
        lock.acquire()
    signal.raise_signal(signal.SIGUSR1)
    locks.pop(first_out).release()
    assert come == []
    locks.pop().release()

    assert come == [signal.SIGUSR1]


def test_it_may_be_taken_again_by_who_has_it(come: list[int]) -> None:
    """Handlers wait until it is let go for good."""
    lock = SteadyLock()
    with lock:
        with lock:
            signal.raise_signal(signal.SIGUSR1)
        assert come == []
    assert come == [signal.SIGUSR1]


def test_a_wait_is_interrupted(come: list[int]) -> None:
    """A condition lets go of its lock while it waits, and has it again when a handler raises."""
    condition = steady_condition()
    later = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR2))
    with pytest.raises(StopHere), condition:
        later.start()
        condition.wait(60)
    later.join()

    with condition:
        condition.notify_all()


def test_a_handler_that_waited_runs_before_a_wait_begins(come: list[int]) -> None:
    """What came while the lock was held does not wait for the condition, too."""
    condition = steady_condition()
    with pytest.raises(StopHere), condition:
        signal.raise_signal(signal.SIGUSR2)
        condition.wait(60)
    with condition:  # the lock is free
        pass


def test_a_lock_in_another_thread_lets_handlers_through(come: list[int]) -> None:
    """They run in the main thread, and disturb nobody there."""
    lock, held, enough = SteadyLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            enough.wait(60)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(60)
    assert lock.locked()
    signal.raise_signal(signal.SIGUSR1)
    assert come == [signal.SIGUSR1]
    assert not lock.acquire(blocking=False)
    signal.raise_signal(signal.SIGUSR1)
    assert come == [signal.SIGUSR1] * 2
    enough.set()
    other.join()
    assert not lock.locked()
    with lock:
        assert lock.locked()


def test_what_is_ignored_stays_so() -> None:
    """A signal without a handler is left alone."""
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    try:
        with SteadyLock():
            assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork")
def test_a_child_forked_meanwhile_has_its_handlers(come: list[int]) -> None:
    """By another thread, which is the main thread of the child."""
    lock = SteadyLock()
    pids: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if not pid:
            signal.raise_signal(signal.SIGUSR1)
            with SteadyLock():
                signal.raise_signal(signal.SIGUSR1)
            os._exit(len(come))
        pids.append(pid)

    with lock:
        other = threading.Thread(target=fork)
        other.start()
        other.join()
    _, status = os.waitpid(pids[0], 0)

    assert os.waitstatus_to_exitcode(status) == 2
    assert come == []


def test_a_future_is_waited_for_under_them(come: list[int]) -> None:
    """By ``wait``, which takes the locks of all before it gives back the first."""
    futures: list[Future[None]] = [SafeFuture(), SafeFuture()]
    later = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR2))
    later.start()
    with pytest.raises(StopHere):
        wait(futures, 60)
    later.join()
    for future in futures:
        future.set_result(None)

    assert not wait(futures, 60).not_done


def test_an_event_is_waited_for_and_set(come: list[int]) -> None:
    """A handler interrupts the wait; who sets it waits for nobody."""
    event = steady_event()
    later = threading.Timer(0.1, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR2))
    later.start()
    with pytest.raises(StopHere):
        event.wait(60)
    later.join()
    other = threading.Thread(target=event.set)
    other.start()
    other.join(30)

    assert event.wait(0)
    assert not other.is_alive()
