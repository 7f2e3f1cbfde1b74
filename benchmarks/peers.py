"""The pools that are compared, each used the way its own documentation says.

Rule 1: whatever is started here is registered on the ``ExitStack`` it is started with,
so that no worker outlives the run, however that ends.
Rule 2: a pool that forks is started first, while there is one thread; a fork from a
program with threads copies locks that nobody will ever release.
"""

from __future__ import annotations

import multiprocessing
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from typing import Any

from benchmarks import jobs

__all__ = ["OURS", "PingPong", "PoolOfCalls", "PoolOfFutures", "start_all"]

OURS = ("safemp.SafeExecutor", "safemp.Pool")

_PATIENCE = 60.0
"""Seconds that a pool has for its first answers. A peer that cannot load a function may
never answer, so a wait without end would be the end of the run."""

Job = Callable[[int], int]


class PoolOfFutures:
    """A pool with ``submit``."""

    def __init__(self, name: str, executor: Any) -> None:
        self.name = name
        self._executor = executor

    def round_trips(self, fn: Job, n: int) -> None:
        """Make *n* calls, each after the answer to the one before."""
        submit = self._executor.submit
        for i in range(n):
            submit(fn, i).result()

    def storm(self, fn: Job, n: int) -> None:
        """Make *n* calls at once, then read every answer."""
        submit = self._executor.submit
        for future in [submit(fn, i) for i in range(n)]:
            future.result()

    def fill(self, workers: int) -> None:
        """Wait until all workers are there."""
        _fill(self.name, workers, lambda: self._executor.submit(jobs.pause, 0.02).result)

    def refuses(self, fn: Job) -> str | None:
        """Say why *fn* cannot be run; ``None`` if it can."""
        return _refusal(lambda: self._executor.submit(fn, 1).result(_PATIENCE))


class PoolOfCalls:
    """A pool with ``apply_async``, and a ``map`` with chunks of its own choice."""

    def __init__(self, name: str, pool: Any) -> None:
        self.name = name
        self._pool = pool

    def round_trips(self, fn: Job, n: int) -> None:
        """Make *n* calls, each after the answer to the one before."""
        apply_async = self._pool.apply_async
        for i in range(n):
            apply_async(fn, (i,)).get()

    def storm(self, fn: Job, n: int) -> None:
        """Make *n* calls at once, then read every answer."""
        apply_async = self._pool.apply_async
        for result in [apply_async(fn, (i,)) for i in range(n)]:
            result.get()

    def map(self, fn: Job, n: int) -> None:
        """Make *n* calls in one map."""
        self._pool.map(fn, range(n))

    def fill(self, workers: int) -> None:
        """Wait until all workers are there."""
        _fill(self.name, workers, lambda: self._pool.apply_async(jobs.pause, (0.02,)).get)

    def refuses(self, fn: Job) -> str | None:
        """Say why *fn* cannot be run; ``None`` if it can."""
        return _refusal(lambda: self._pool.apply_async(fn, (1,)).get(_PATIENCE))


class PingPong:
    """The floor: one message of 64 bytes to a process and back over a bare socket pair."""

    name = "(bare ping-pong)"

    def __init__(self, stack: ExitStack) -> None:
        self._sock, theirs = socket.socketpair()
        process = multiprocessing.get_context("spawn").Process(target=jobs.echo, args=(theirs,), daemon=True)
        process.start()
        theirs.close()
        stack.callback(process.join, _PATIENCE)
        stack.callback(self._sock.close)

    def round_trips(self, _: Job, n: int) -> None:
        """Send a message and wait for it to come back, *n* times."""
        send, receive, message = self._sock.send, self._sock.recv, bytes(64)
        for _i in range(n):
            send(message)
            receive(64)


def _fill(name: str, workers: int, pause: Callable[[], Callable[[float], int]]) -> None:
    """Keep workers busy until all of them have answered: many pools start them on demand."""
    seen: set[int] = set()
    deadline = time.monotonic() + _PATIENCE
    while len(seen) < workers:
        if time.monotonic() > deadline:
            raise RuntimeError(f"cannot start {name}: {len(seen)} of {workers} workers answered")
        waits = [pause() for _ in range(2 * workers)]
        seen.update(wait(_PATIENCE) for wait in waits)


def _refusal(call: Callable[[], object]) -> str | None:
    try:
        call()
    except Exception as error:  # whatever a peer makes of a function that it cannot send or load
        return f"{type(error).__name__}: {error}"
    return None


def start_all(stack: ExitStack, workers: int) -> list[PoolOfFutures | PoolOfCalls]:
    """Start every pool there is, and all its workers.

    Args:
        stack: Ends them.
        workers: How many each of them gets.
    """
    found: list[PoolOfFutures | PoolOfCalls] = []
    for start in (_multiprocessing, _safemp, _futures, _loky):  # Rule 2
        for pool in start(stack, workers):
            pool.fill(workers)
            found.append(pool)
    return sorted(found, key=lambda pool: pool.name not in OURS)


def _multiprocessing(stack: ExitStack, workers: int) -> Iterator[PoolOfCalls]:
    for method in dict.fromkeys((multiprocessing.get_start_method(), "spawn")):
        pool = multiprocessing.get_context(method).Pool(workers, jobs.settle)
        stack.callback(pool.join)
        stack.callback(pool.terminate)
        yield PoolOfCalls(f"multiprocessing.Pool ({method})", pool)


def _safemp(stack: ExitStack, workers: int) -> Iterator[PoolOfFutures | PoolOfCalls]:
    import safemp

    executor = safemp.SafeExecutor(workers)
    stack.callback(executor.shutdown)
    stack.callback(executor.terminate_workers)
    yield PoolOfFutures(OURS[0], executor)
    pool = safemp.Pool(workers)
    stack.callback(pool.join)
    stack.callback(pool.terminate)
    yield PoolOfCalls(OURS[1], pool)


def _futures(stack: ExitStack, workers: int) -> Iterator[PoolOfFutures]:
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), jobs.settle)
    stack.callback(executor.shutdown, cancel_futures=True)
    yield PoolOfFutures("ProcessPoolExecutor (spawn)", executor)


def _loky(stack: ExitStack, workers: int) -> Iterator[PoolOfFutures]:
    try:
        from loky import ProcessPoolExecutor as LokyExecutor
    except ImportError:  # what is not there is left out of the tables
        return
    executor = LokyExecutor(workers, initializer=jobs.settle)
    stack.callback(executor.shutdown, kill_workers=True)
    yield PoolOfFutures("loky", executor)
