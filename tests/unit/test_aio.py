"""``aio.Executor``: calls that are awaited, and that end with whoever awaits them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safemp
import safemp.aio
from tests.support.child import alive, lines, until
from tests.support.errors import KeywordOnly

LONG = 3600
"""Seconds for which a call sleeps that is to be ended."""


def work(n: int, lock: Any) -> int:
    """Square *n* with *lock* held; refuse 3."""
    with lock:
        if n == 3:
            raise KeywordOnly(status=429, text="refused")
        return n * n


def stay(path: str) -> None:
    """Write this process's pid down, and stay."""
    Path(path).write_text(f"{os.getpid()}\n")
    time.sleep(LONG)


def stop() -> None:
    """Raise what ends an iteration."""
    raise StopIteration(7)


async def begun(path: Path) -> int:
    """Wait until a ``stay`` runs; return its pid."""
    assert await asyncio.to_thread(until, path.exists)
    assert await asyncio.to_thread(until, lambda: lines(path))
    return int(lines(path)[0])


def test_calls_run_and_errors_are_themselves(engine: str) -> None:
    """As with ``submit``: the answers of a serial run, a keyword-only exception, arguments with locks."""

    async def program() -> list[Any]:
        async with safemp.aio.Executor(2, engine=engine) as executor:
            calls = (executor.run(work, n, lock=threading.RLock()) for n in range(6))
            return await asyncio.gather(*calls, return_exceptions=True)

    results = asyncio.run(program())
    assert [type(each) for each in results] == [int, int, int, KeywordOnly, int, int]
    assert results[3].status == 429
    assert [n * n for n in range(6) if n != 3] == [each for each in results if type(each) is int]


def test_what_cannot_be_sent_is_named() -> None:
    """By its path, out of ``run``."""

    async def program() -> None:
        async with safemp.aio.Executor(1) as executor:
            await executor.run(work, 1, lock=(n for n in range(3)))

    with pytest.raises(safemp.PreflightError, match=r"cannot send kwargs\['lock'\]: generator"):
        asyncio.run(program())


def test_a_timeout_alone_leaves_the_call_running(tmp_path: Path) -> None:
    """What ``run`` is for: ``wait_for`` on ``run_in_executor`` gives up, and the worker is still at it."""

    async def program() -> bool:
        loop = asyncio.get_running_loop()
        with safemp.SafeExecutor(1) as executor:
            waiting = loop.run_in_executor(executor, stay, str(tmp_path / "pid"))
            pid = await begun(tmp_path / "pid")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(waiting, 0.01)
            runs_on = alive(pid)
            executor.kill_workers()
            return runs_on

    assert asyncio.run(program())


@pytest.mark.parametrize("way", ["wait_for", "cancel", "view"])
def test_a_cancelled_call_has_ended_when_that_is_heard(tmp_path: Path, way: str) -> None:
    """Its process is gone by then, and the executor goes on."""

    async def program() -> tuple[bool, int]:
        async with safemp.aio.Executor(1) as executor:
            caller = executor.options(retries=5) if way == "view" else executor
            waiting = asyncio.ensure_future(caller.run(stay, str(tmp_path / "pid")))
            pid = await begun(tmp_path / "pid")
            if way == "wait_for":
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(waiting, 0.01)
            else:
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            return alive(pid), await executor.run(work, 4, threading.Lock())

    assert asyncio.run(program()) == (False, 16)


def test_a_call_that_is_cancelled_twice_has_ended_too(tmp_path: Path) -> None:
    """An impatient second ``cancel`` does not make the first one a lie."""

    async def program() -> bool:
        async with safemp.aio.Executor(1) as executor:
            waiting = asyncio.ensure_future(executor.run(stay, str(tmp_path / "pid")))
            pid = await begun(tmp_path / "pid")
            waiting.cancel()
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            return alive(pid)

    assert not asyncio.run(program())


def test_a_call_that_is_cancelled_in_the_queue_never_begins(tmp_path: Path) -> None:
    """And the one before it is undisturbed."""

    async def program() -> tuple[int, bool]:
        async with safemp.aio.Executor(1) as executor:
            first = asyncio.ensure_future(executor.run(stay, str(tmp_path / "first")))
            pid = await begun(tmp_path / "first")
            second = asyncio.ensure_future(executor.run(stay, str(tmp_path / "second")))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            undisturbed = alive(pid)
            first.cancel()
            await asyncio.wait([first])
            return await executor.run(work, 2, threading.Lock()), undisturbed

    assert asyncio.run(program()) == (4, True)
    assert not (tmp_path / "second").exists()


def test_a_call_that_others_cancel_is_an_error_like_any(tmp_path: Path) -> None:
    """Not asyncio's: a ``TaskGroup`` would take that for the cancellation of its own task."""

    async def program() -> list[Any]:
        executor = safemp.aio.Executor(1)
        first = asyncio.ensure_future(executor.run(stay, str(tmp_path / "pid")))
        await begun(tmp_path / "pid")
        second = asyncio.ensure_future(executor.run(abs, -1))
        await asyncio.sleep(0)
        executor.shutdown(wait=False, cancel_futures=True)
        executor.kill_workers()
        return await asyncio.gather(first, second, return_exceptions=True)

    first, second = asyncio.run(program())
    assert type(first) is safemp.WorkerCrashed
    assert type(second) is concurrent.futures.CancelledError


def test_stop_iteration_is_a_runtime_error() -> None:
    """As coroutines have it; and nobody waits for ever."""

    async def program() -> None:
        async with safemp.aio.Executor(1) as executor:
            await executor.run(stop)

    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        asyncio.run(program())
    assert isinstance(caught.value.__cause__, StopIteration)


def test_limits_of_a_view_hold() -> None:
    """``options`` gives an executor that has ``run``."""

    async def program() -> None:
        async with safemp.aio.Executor(1) as executor:
            await executor.options(task_timeout=0.3).run(time.sleep, LONG)

    with pytest.raises(safemp.TaskTimeout):
        asyncio.run(program())


def test_the_end_of_the_block_waits_for_the_calls_and_not_in_the_loop() -> None:
    """Another task goes on meanwhile; the last call's answer is there."""

    async def program() -> tuple[int, int]:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.005)

        ticking = asyncio.ensure_future(tick())
        async with safemp.aio.Executor(1) as executor:
            last = executor.submit(time.sleep, 0.3)
            before = ticks
        assert last.done()
        ticking.cancel()
        return before, ticks

    before, after = asyncio.run(program())
    assert after > before


def test_a_block_that_is_cancelled_ends_its_calls(tmp_path: Path) -> None:
    """Also those that nobody awaits; it is over when they are."""

    async def program() -> bool:
        async def block() -> None:
            async with safemp.aio.Executor(1) as executor:
                executor.submit(stay, str(tmp_path / "pid"))
                await asyncio.sleep(LONG)

        running = asyncio.ensure_future(block())
        pid = await begun(tmp_path / "pid")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return alive(pid)

    assert not asyncio.run(program())


def test_the_end_of_a_block_can_be_cancelled(tmp_path: Path) -> None:
    """While it waits for a call that does not return."""

    async def program() -> bool:
        leaving = asyncio.Event()

        async def block() -> None:
            async with safemp.aio.Executor(1) as executor:
                executor.submit(stay, str(tmp_path / "pid"))
                await begun(tmp_path / "pid")
                leaving.set()

        running = asyncio.ensure_future(block())
        await leaving.wait()
        await asyncio.sleep(0.05)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        return alive(int(lines(tmp_path / "pid")[0]))

    assert not asyncio.run(program())


def test_a_loop_that_is_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A call that outlives its loop has nobody to tell."""
    with safemp.aio.Executor(1) as executor:
        loop = asyncio.new_event_loop()
        waiting = executor.run(time.sleep, 0.3)

        async def begin() -> None:
            task = asyncio.ensure_future(waiting)
            await asyncio.sleep(0)
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what is done here

        loop.run_until_complete(begin())
        loop.close()
        last = executor.submit(abs, -1)

        assert last.result(30) == 1

    assert caplog.records == []


def test_run_in_executor_takes_any() -> None:
    """``SafeExecutor`` and ``aio.Executor``, a partial with keywords, an error as itself."""

    async def program() -> None:
        loop = asyncio.get_running_loop()
        with safemp.SafeExecutor(1) as plain, safemp.aio.Executor(1) as ours:
            for executor in (plain, ours):
                assert await loop.run_in_executor(executor, partial(work, 5, lock=threading.Lock())) == 25
                with pytest.raises(KeywordOnly):
                    await loop.run_in_executor(executor, work, 3, threading.Lock())

    asyncio.run(program())


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 only warns")
def test_asyncio_wants_threads_by_default() -> None:
    """The how-to says so: no pool of processes can be the default executor."""

    async def program() -> None:
        with safemp.SafeExecutor(1) as executor:
            asyncio.get_running_loop().set_default_executor(executor)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="ThreadPoolExecutor"):
        asyncio.run(program())
