"""A future whose condition is made late: no wait is missed, whenever it begins."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, CancelledError, Future, as_completed, wait
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import pytest

from safemp.codec import calls
from safemp.codec.exceptions import Where
from safemp.engines import Task
from safemp.future import SafeFuture

VALUE = calls.encode_outcome([1])
ERROR = calls.encode_failure(KeyError("k"), Where("f", None, 1, "here"))
TASK = Task([], "f")


def test_it_has_what_a_future_has() -> None:
    """``Future.__init__`` is not called; what it would set is there."""
    assert set(vars(Future())) - {"_condition"} <= set(vars(SafeFuture()))


def test_nothing_is_made_for_a_future_that_nobody_waits_for() -> None:
    """Until it is asked for what it is not yet."""
    future: SafeFuture[Any] = SafeFuture()
    assert future._begin(TASK)
    future._settle(VALUE)

    assert future.wait()
    assert future.done()
    assert future.result() == [1]
    assert future._made is None
    assert future.exception() is None


WAITS: dict[str, Callable[[SafeFuture[Any]], Any]] = {
    "result": lambda future: future.result(20),
    "exception": lambda future: (future.exception(20), future.result())[1],
    "wait": lambda future: future.wait(20) and future.result(),
    "wait for some": lambda future: (wait([future], 20, FIRST_EXCEPTION), future.result(0))[1],
    "as completed": lambda future: next(as_completed([future], 20)).result(0),
    "asyncio": lambda future: asyncio.run(_awaited(future)),
    "callback": lambda future: _called_back(future),
}


async def _awaited(future: SafeFuture[Any]) -> Any:
    return await asyncio.wait_for(asyncio.wrap_future(future), 20)


def _called_back(future: SafeFuture[Any]) -> Any:
    called = threading.Event()
    future.add_done_callback(lambda _: called.set())
    assert called.wait(20)
    return future.result(0)


@pytest.mark.parametrize("how", WAITS)
def test_whenever_the_wait_begins_it_ends(how: str) -> None:
    """Before the outcome, after it, and at that very moment."""
    for i in range(60):
        future: SafeFuture[Any] = SafeFuture()
        assert future._begin(TASK)
        start = threading.Barrier(2)

        def settle(future: SafeFuture[Any] = future, i: int = i, start: threading.Barrier = start) -> None:
            start.wait(20)
            for _ in range(i % 20 * 30):
                pass
            future._settle(VALUE)

        thread = threading.Thread(target=settle)
        thread.start()
        start.wait(20)
        try:
            assert WAITS[how](future) == [1]
        finally:
            thread.join(20)


def test_a_call_is_cancelled_or_begins() -> None:
    """Whichever comes first; never both, never neither."""
    came = set()
    for i in range(400):
        future: SafeFuture[Any] = SafeFuture()
        start = threading.Barrier(2)
        cancelled: list[bool] = []

        def cancel(
            future: SafeFuture[Any] = future,
            i: int = i,
            start: threading.Barrier = start,
            cancelled: list[bool] = cancelled,
        ) -> None:
            start.wait(20)
            for _ in range(i % 20 * 10):
                pass
            cancelled.append(future.cancel())

        thread = threading.Thread(target=cancel)
        thread.start()
        start.wait(20)
        begun = future._begin(TASK)
        thread.join(20)
        assert [begun] == [not each for each in cancelled]
        came.add(begun)
        if begun:
            future._settle(ERROR)
            assert type(future.exception(0)) is KeyError
        else:
            with pytest.raises(CancelledError):
                future.result(0)
    assert came  # which of both, is the machine's to say


@pytest.mark.skipif(not hasattr(os, "fork"), reason="wants fork")
def test_a_child_can_use_a_future_though_another_thread_was_at_one() -> None:
    """The lock that they share is free there."""
    from safemp import future as module

    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with module._changing:
            held.set()
            go.wait(20)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(20)
    pid = os.fork()
    if not pid:
        future: SafeFuture[Any] = SafeFuture()
        os._exit(7 if future._begin(TASK) and future.running() else 1)
    go.set()
    thread.join(20)
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 7


@pytest.mark.parametrize("end", ["set_result", "set_exception", "cancel", "settle"])
def test_who_waits_for_one_future_is_let_go_before_its_callbacks_run(end: str) -> None:
    """However it ends; and a callback that raises keeps nobody waiting."""
    future: SafeFuture[int] = SafeFuture()
    seen: list[str] = []

    def read() -> None:
        try:
            seen.append(repr(future.result(60)))
        except (ValueError, CancelledError) as error:
            seen.append(type(error).__name__)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()

    def slow(_: object) -> None:
        for reader in readers:
            reader.join(30)
        seen.append("callback")
        raise SystemExit

    future.add_done_callback(slow)
    with contextlib.suppress(SystemExit):
        if end == "settle":
            future._settle(calls.encode_outcome(3))
        elif end == "cancel":
            future.cancel()
        else:
            getattr(future, end)(ValueError() if end == "set_exception" else 3)

    said = {"set_result": "3", "settle": "3", "set_exception": "ValueError", "cancel": "CancelledError"}[end]
    assert seen == [said] * 3 + ["callback"]


def test_a_wait_that_was_too_short_leaves_nothing_behind() -> None:
    """Whoever asks every so often has no list of waits grow."""
    future: SafeFuture[int] = SafeFuture()
    for timeout in (0.001, 0, -1):
        with pytest.raises(FutureTimeoutError):
            future.result(timeout)
        assert not future.wait(timeout)

    assert future._gates == ()
