"""``aio.Executor``: calls that are awaited, and that end with whoever awaits them."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import trio

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


# -- imap --------------------------------------------------------------------------------


def some_fail(n: int) -> int:
    if n % 3 == 2:
        raise KeywordOnly(status=n, text="refused")
    return n * n


def slow_if_0(n: int) -> int:
    if n == 0:
        time.sleep(0.5)
    return n


def linger(folder: str, n: int) -> int:
    """Write down which process it is; for all but 0 stay in it."""
    Path(folder, f"{n}-{os.getpid()}").touch()
    if n:
        time.sleep(LONG)
    return n


def stayed(folder: Path) -> list[int]:
    """Return the processes in which ``linger`` has stayed."""
    return [int(path.name.partition("-")[2]) for path in folder.iterdir() if not path.name.startswith("0-")]


async def gathered(results: Any) -> list[Any]:
    return [result async for result in results]


def test_results_come_in_order() -> None:
    """From a sync iterable, a generator too; in order, or as they arrive."""

    async def program() -> tuple[list[int], list[int], list[int]]:
        async with safemp.aio.Executor(2) as executor:
            return (
                await gathered(executor.imap(slow_if_0, range(20))),
                await gathered(executor.imap(slow_if_0, (n for n in range(5)), buffersize=1)),
                await gathered(executor.imap_unordered(slow_if_0, range(20))),
            )

    ordered, generated, unordered = asyncio.run(program())
    assert ordered == list(range(20))
    assert generated == list(range(5))
    assert sorted(unordered) == list(range(20))
    assert unordered[0] != 0


def test_only_so_many_items_are_read_ahead() -> None:
    """An iterable may be infinite."""
    read = itertools.count()

    async def program() -> list[int]:
        async with (
            safemp.aio.Executor(1) as executor,
            contextlib.aclosing(executor.imap(abs, read, buffersize=3)) as it,
        ):
            return [await anext(it) for _ in range(4)]

    assert asyncio.run(program()) == [0, 1, 2, 3]
    assert next(read) <= 4 + 3


def test_what_fails_is_raised_returned_or_collected() -> None:
    """``on_error`` as of every map; ``"raise"`` ends the iteration."""

    async def program() -> None:
        async with safemp.aio.Executor(2) as executor:
            found = []
            with pytest.raises(KeywordOnly) as raised:
                async for each in executor.imap(some_fail, range(8)):
                    found.append(each)
            returned = await gathered(executor.imap(some_fail, range(4), on_error="return"))
            found_of_all = []
            with pytest.raises(safemp.MapError) as caught:
                async for each in executor.imap_unordered(some_fail, range(8), on_error="collect"):
                    found_of_all.append(each)

        assert (found, raised.value.status) == ([0, 1], 2)
        assert [getattr(each, "status", each) for each in returned] == [0, 1, 2, 9]
        assert sorted(found_of_all) == [0, 1, 9, 16, 36, 49]
        assert (caught.value.items, caught.value.total) == ((2, 5), 8)

    asyncio.run(program())


def test_an_item_that_cannot_be_sent_fails_in_its_place() -> None:
    """And so does the iterable, when it fails."""

    def items() -> Iterator[Any]:
        yield "abc"
        yield threading.current_thread()
        yield "de"
        raise LookupError("no more")

    async def program() -> list[Any]:
        found: list[Any] = []
        async with safemp.aio.Executor(1) as executor:
            with pytest.raises(LookupError, match="no more"):
                async for each in executor.imap(len, items(), on_error="return"):
                    found.append(each)
        return found

    first, error, third = asyncio.run(program())
    assert (first, third) == (3, 2)
    assert isinstance(error, safemp.PreflightError)


def test_bad_arguments_are_named_at_the_call() -> None:
    """Not when somebody iterates."""

    async def program() -> None:
        async with safemp.aio.Executor(1) as executor:
            with pytest.raises(TypeError, match="not callable"):
                executor.imap(3, [])  # type: ignore[call-overload]
            with pytest.raises(ValueError, match="buffersize"):
                executor.imap(abs, [], buffersize=0)
            with pytest.raises(ValueError, match="on_error"):
                executor.imap_unordered(abs, [], on_error="ignore")  # type: ignore[call-overload]

    asyncio.run(program())


@pytest.mark.parametrize("how", ["cancelled", "closed", "failed"])
def test_the_end_of_an_iteration_ends_its_calls(how: str, tmp_path: Path) -> None:
    """Whoever iterates is cancelled, or has enough, or meets an error: no call runs on."""

    async def iterate(executor: safemp.aio.Executor) -> None:
        async with contextlib.aclosing(executor.imap(partial(linger, str(tmp_path)), range(4))) as results:
            async for _ in results:
                while len(stayed(tmp_path)) < 2:
                    await asyncio.sleep(0.01)
                if how == "closed":
                    return
                if how == "failed":
                    raise KeyError(how)

    async def program() -> list[int]:
        async with safemp.aio.Executor(2) as executor:
            iterating = asyncio.ensure_future(iterate(executor))
            while len(stayed(tmp_path)) < 2:
                await asyncio.sleep(0.01)
            if how == "cancelled":
                await asyncio.sleep(0.05)
                iterating.cancel()
            await asyncio.wait([iterating])
            alive_then = [pid for pid in stayed(tmp_path) if alive(pid)]
            assert await executor.run(abs, -1) == 1  # or the end of the block would end them
            return alive_then

    assert asyncio.run(asyncio.wait_for(program(), 50)) == []


def test_a_bar_is_moved_in_the_loop() -> None:
    """``progress=`` counts what has finished, and what has failed."""

    class Bar:
        moved, threads, closed, postfix = 0, set[int](), 0, ""

        def __init__(self, total: int | None) -> None:
            assert total == 8

        def update(self, n: int) -> None:
            Bar.moved += n
            Bar.threads.add(threading.get_ident())

        def set_postfix_str(self, text: str, refresh: bool) -> None:
            Bar.postfix = text

        def close(self) -> None:
            Bar.closed += 1

    async def program() -> None:
        async with safemp.aio.Executor(2) as executor:
            await gathered(executor.imap(some_fail, range(8), progress=Bar, on_error="return"))

    asyncio.run(program())
    assert (Bar.moved, Bar.threads, Bar.closed, Bar.postfix) == (8, {threading.get_ident()}, 1, "2 failed")


# -- trio, and anyio on both -------------------------------------------------------------


def test_trio_runs_the_same() -> None:
    """Calls, errors, iterations, and the end of the block."""

    async def program() -> list[Any]:
        async with safemp.aio.Executor(2) as executor:
            with pytest.raises(KeywordOnly):
                await executor.run(some_fail, 2)
            first = await executor.run(work, 5, threading.Lock())
            return [first, *[each async for each in executor.imap(some_fail, range(4), on_error="return")]]

    first, *rest = trio.run(program)
    assert first == 25
    assert [getattr(each, "status", each) for each in rest] == [0, 1, 2, 9]


def test_a_scope_of_trio_ends_its_call(tmp_path: Path) -> None:
    """``move_on_after``: when it is over the call runs no more; the pool goes on."""

    async def program() -> tuple[bool, list[int], int]:
        async with safemp.aio.Executor(1) as executor:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(executor.run, linger, str(tmp_path), 1)
                    while not stayed(tmp_path):
                        await trio.sleep(0.01)
                    scope.cancel()
            left = [pid for pid in stayed(tmp_path) if alive(pid)]
            return scope.cancelled_caught, left, await executor.run(abs, -1)

    assert trio.run(program) == (True, [], 1)


def test_a_block_that_trio_cancels_ends_its_calls(tmp_path: Path) -> None:
    """Also those of an iteration, and those that nobody awaits."""

    async def program() -> list[int]:
        with trio.CancelScope() as scope:
            async with safemp.aio.Executor(2) as executor:
                executor.submit(linger, str(tmp_path), 1)
                async for _ in executor.imap(partial(linger, str(tmp_path)), [0, 2]):
                    while len(stayed(tmp_path)) < 2:
                        await trio.sleep(0.01)
                    scope.cancel()
        return [pid for pid in stayed(tmp_path) if alive(pid)]

    assert trio.run(program) == []


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_anyio_runs_on_either(backend: str, tmp_path: Path) -> None:
    """``fail_after`` ends the call."""

    async def program() -> int:
        async with safemp.aio.Executor(1) as executor:
            await executor.run(abs, -1)  # there is a worker
            with pytest.raises(TimeoutError):
                with anyio.fail_after(1):
                    await executor.run(linger, str(tmp_path), 1)
            assert [pid for pid in stayed(tmp_path) if alive(pid)] == []
            return await executor.run(work, 3 + 1, threading.Lock())

    assert anyio.run(program, backend=backend) == 16
