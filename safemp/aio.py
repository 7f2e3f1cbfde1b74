"""``aio.Executor``: a ``SafeExecutor`` whose calls can be awaited, and end when they are cancelled.

``loop.run_in_executor(executor, fn)`` works with any ``SafeExecutor``. But asyncio then can
only stop waiting: after ``wait_for`` has timed out the call runs on, and keeps its worker.

Rule 1: when ``run`` has raised, its call runs no more. So what the call was using can be
closed, and the worker is free.
Rule 2: only the cancellation of who awaits is a ``asyncio.CancelledError``. A call that
somebody else has cancelled, or a pool that was ended, is an error like any other.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from safemp.engines.settings import LimitOptions, limits_of
from safemp.executor import SafeExecutor, View

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self, Unpack

__all__ = ["Executor"]

P = ParamSpec("P")
T = TypeVar("T")


class Executor(SafeExecutor):
    """A ``SafeExecutor`` for asyncio: the same arguments, the same methods, and ``run``.

    ``async with`` ends it without holding up the event loop; when its block is cancelled,
    the calls that are left are ended too.
    """

    __module__ = "safemp.aio"

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn(*args, **kwargs)`` in a worker and wait for what it returns.

        When the awaiting task is cancelled (by ``asyncio.wait_for`` or ``timeout``, by a
        ``TaskGroup``, by ``Task.cancel``) the call is ended, as by ``SafeFuture.kill``. An
        engine that cannot end running calls only stops waiting.

        Raises:
            As ``submit`` and ``SafeFuture.result``; ``StopIteration`` as the cause of a
            ``RuntimeError``, as coroutines do.
        """
        future = self.submit(fn, *args, **kwargs)
        try:
            await _done(future)
        except asyncio.CancelledError:
            if future.kill():
                await _whatever_happens(_done(future))
            raise
        return future.result()

    def options(self, **limits: Unpack[LimitOptions]) -> Executor:
        """Return a view of this executor whose calls have other limits: see ``SafeExecutor``."""
        return _View(self, limits_of("options", limits, self._limits))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc_val: Any, exc_tb: Any) -> None:
        if exc_type is not None and not issubclass(exc_type, Exception):
            self.terminate_workers()  # cancelled, Ctrl-C: as in ``SafeExecutor.__exit__``
        ended = asyncio.get_running_loop().run_in_executor(None, self.shutdown)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            self.terminate_workers()
            await _whatever_happens(ended)
            raise


class _View(View, Executor):
    """An executor with other limits."""


def _done(future: Future[Any]) -> asyncio.Future[None]:
    """Return an asyncio future that is done when *future* is, and says no more than that."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    def finished(_: object) -> None:
        try:
            loop.call_soon_threadsafe(wake)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    future.add_done_callback(finished)
    return done


async def _whatever_happens(ended: asyncio.Future[None]) -> None:
    """Wait for what will not take long, however often this task is cancelled meanwhile.

    The caller is about to raise ``CancelledError`` already.
    """
    while not ended.done():
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            pass
