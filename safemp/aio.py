"""``aio.Executor``: a ``SafeExecutor`` whose calls can be awaited, and end when they are cancelled.

``loop.run_in_executor(executor, fn)`` works with any ``SafeExecutor``. But asyncio then can
only stop waiting: after ``wait_for`` has timed out the call runs on, and keeps its worker.

Works under asyncio and under trio, and so under anyio.

Rule 1: when ``run`` has raised, or ``imap`` is closed, its calls run no more. So what they were
using can be closed, and the workers are free.
Rule 2: only the cancellation of who awaits is a ``asyncio.CancelledError``. A call that
somebody else has cancelled, or a pool that was ended, is an error like any other.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from safemp.engines.settings import LimitOptions, limits_of
from safemp.executor import SafeExecutor, View, check_callable
from safemp.failures import MapError, OnError, check_on_error
from safemp.progress import Meter, Progress, length_of, meter_of
from safemp.worker import name_of

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

__all__ = ["Executor"]

P = ParamSpec("P")
T = TypeVar("T")


class Executor(SafeExecutor):
    """A ``SafeExecutor`` for asyncio and trio: the same arguments, the same methods, ``run`` and ``imap``.

    ``async with`` ends it without holding up the event loop; when its block is cancelled,
    the calls that are left are ended too.
    """

    __module__ = "safemp.aio"

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call ``fn(*args, **kwargs)`` in a worker and wait for what it returns.

        When the awaiting task is cancelled (by ``asyncio.wait_for`` or ``timeout``, by a
        ``TaskGroup``, by ``Task.cancel``; by a cancel scope of trio or anyio) the call is
        ended, as by ``SafeFuture.kill``. An engine that cannot end running calls only
        stops waiting.

        Raises:
            As ``submit`` and ``SafeFuture.result``; ``StopIteration`` as the cause of a
            ``RuntimeError``, as coroutines do.
        """
        bell = _Bell()
        future = self.submit(fn, *args, **kwargs)
        future.add_done_callback(bell.ring)
        try:
            await bell.wait(future.done)
        except bell.cancelled:
            if future.kill():
                await bell.wait_whatever_happens(future.done)
            raise
        return future.result()

    @overload
    def imap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        *,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["raise", "collect"] = "raise",
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def imap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        *,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["return"],
    ) -> AsyncGenerator[T | BaseException, None]: ...

    def imap(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        *,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: OnError = "raise",
    ) -> AsyncGenerator[Any, None]:
        """Call *fn* for each item; give the results in order, by ``async for``.

        When who iterates is cancelled, or an error ends the iteration, or the iterator is closed
        (``aclose``), the calls under way are ended. After a ``break``, close it by
        ``contextlib.aclosing``; else that is done some time later.

        Args:
            fn: Called with one item.
            iterable: The items; read in the event loop, *buffersize* ahead. May be infinite.
            buffersize: Calls that may be under way or unread; default: 2 for each worker.
            progress: Show how many calls have finished, while results are awaited: as of
                ``safemp.map``.
            on_error: ``"raise"``: what a call raised is raised in its place, and ends the
                iteration. ``"return"``: it is given in its place. ``"collect"``: failed
                items are left out, and at the end a ``MapError`` has all they raised.

        Raises:
            ValueError: *buffersize* is less than 1, or *on_error* unknown.
            TypeError: *fn* is not callable, or a coroutine function.
            ModuleNotFoundError: *progress* wants tqdm, and it is not installed.
            BaseException: From the iterator: what a call raised.
            MapError: From the iterator, at its end: what calls raised, collected.
        """
        return self._given(fn, iterable, buffersize, progress, on_error, ordered=True)

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        *,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["raise", "collect"] = "raise",
    ) -> AsyncGenerator[T, None]: ...

    @overload
    def imap_unordered(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        *,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["return"],
    ) -> AsyncGenerator[T | BaseException, None]: ...

    def imap_unordered(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        *,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: OnError = "raise",
    ) -> AsyncGenerator[Any, None]:
        """As ``imap``, giving the results as they arrive."""
        return self._given(fn, iterable, buffersize, progress, on_error, ordered=False)

    def _given(
        self,
        fn: Callable[..., T],
        iterable: Iterable[Any],
        buffersize: int | None,
        progress: Progress | None,
        on_error: OnError,
        *,
        ordered: bool,
    ) -> AsyncGenerator[Any, None]:
        check_callable(fn)
        check_on_error(on_error)
        if buffersize is not None and buffersize < 1:
            raise ValueError("buffersize must be None or > 0")
        meter = meter_of(progress, name_of(fn))
        total = None if meter is None else length_of(iterable)
        outcomes = self._outcomes(fn, iter(iterable), buffersize or 2 * self._max_workers, meter, total, ordered)
        return _chosen(outcomes, on_error)

    async def _outcomes(
        self,
        fn: Callable[..., T],
        items: Iterator[Any],
        most: int,
        meter: Meter | None,
        total: int | None,
        ordered: bool,
    ) -> AsyncGenerator[tuple[int, Future[T]], None]:
        """Give the index of each item and the future of its call, which has finished."""
        bell = _Bell()
        pending: dict[int, Future[T]] = {}
        index = 0
        fault: BaseException | None = None
        if meter is not None:
            meter.open(total)

        def ready() -> int | None:
            numbers = list(pending)
            return next((i for i in (numbers[:1] if ordered else numbers) if pending[i].done()), None)

        try:
            while True:
                while fault is None and len(pending) < most:
                    try:
                        item = next(items)
                    except BaseException as error:  # the end, or the user's iterator has failed
                        fault = error
                        break
                    future = self._submitted(fn, item)
                    pending[index] = future
                    index += 1
                    if meter is not None:
                        future.add_done_callback(lambda done: _count(meter, done))
                    future.add_done_callback(bell.ring)
                if not pending:
                    break
                await bell.wait(lambda: ready() is not None)
                if meter is not None:
                    meter.show()
                found = ready()
                assert found is not None
                yield found, pending.pop(found)
            if not isinstance(fault, StopIteration):
                assert fault is not None
                raise fault
        finally:
            if meter is not None:
                meter.close()
            left = [future for future in pending.values() if getattr(future, "kill", future.cancel)()]
            if left:
                await bell.wait_whatever_happens(lambda: all(future.done() for future in left))

    def _submitted(self, fn: Callable[..., T], item: Any) -> Future[T]:
        try:
            return self.submit(fn, item)
        except Exception as error:  # PreflightError: it comes in the item's place
            failed: Future[T] = Future()
            failed.set_exception(error)
            return failed

    def options(self, **limits: Unpack[LimitOptions]) -> Executor:
        """Return a view of this executor whose calls have other limits: see ``SafeExecutor``."""
        return _View(self, limits_of("options", limits, self._limits))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc_val: Any, exc_tb: Any) -> None:
        if exc_type is not None and not issubclass(exc_type, Exception):
            self.terminate_workers()  # cancelled, Ctrl-C
        bell = _Bell()
        ended: Future[None] = Future()
        ended.add_done_callback(bell.ring)
        # Not a thread of the loop's: an executor's threads may all be waiting for this one.
        threading.Thread(target=_settle, args=(ended, self.shutdown), name="safemp-aio-shutdown", daemon=True).start()
        try:
            await bell.wait(ended.done)
        except bell.cancelled:
            self.terminate_workers()
            await bell.wait_whatever_happens(ended.done)
            raise
        ended.result()


class _View(View, Executor):
    """An executor with other limits."""


class _Bell:
    """Wakes a coroutine from any thread. Made in the coroutine that is to wait.

    Attributes:
        cancelled: What its waits raise when who waits is cancelled.
    """

    def __init__(self) -> None:
        self._trio = _running_trio()
        self._soon: Callable[[Callable[[], object]], object]
        if self._trio is not None:
            self._soon = self._trio.lowlevel.current_trio_token().run_sync_soon
            self._make: Callable[[], Any] = self._trio.Event
            self.cancelled: type[BaseException] = self._trio.Cancelled
        else:
            self._soon = asyncio.get_running_loop().call_soon_threadsafe
            self._make = asyncio.Event
            self.cancelled = asyncio.CancelledError
        self._event = self._make()

    def ring(self, _: object = None) -> None:
        """Have who waits look again. From any thread."""
        try:
            self._soon(self._ring)
        except RuntimeError:  # the loop is closed: nobody waits any more
            pass

    def _ring(self) -> None:
        self._event.set()

    async def wait(self, until: Callable[[], bool]) -> None:
        """Wait until *until* says yes; it is asked after each ``ring``."""
        while not until():
            await self._event.wait()
            self._event = self._make()

    async def wait_whatever_happens(self, until: Callable[[], bool]) -> None:
        """Wait for what will not take long, however often this task is cancelled meanwhile.

        The caller is about to raise what has cancelled it already.
        """
        if self._trio is not None:
            with self._trio.CancelScope(shield=True):
                await self.wait(until)
            return
        while not until():
            try:
                await self.wait(until)
            except asyncio.CancelledError:
                pass


def _running_trio() -> Any:
    """Return trio, if that runs who calls; else ``None``."""
    trio: Any = sys.modules.get("trio")
    if trio is None:
        return None
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return None
    return trio


def _settle(future: Future[None], call: Callable[[], None]) -> None:
    try:
        call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(None)


def _count(meter: Meter, future: Future[Any]) -> None:
    meter.count(1, int(future.cancelled() or getattr(future, "failed", lambda: True)()))


async def _chosen(
    outcomes: AsyncGenerator[tuple[int, Future[Any]], None], on_error: OnError
) -> AsyncGenerator[Any, None]:
    """Give the results of futures; of errors, what *on_error* wants."""
    errors: dict[int, BaseException] = {}
    total = 0
    try:
        async for index, future in outcomes:
            total += 1
            error = None if on_error == "raise" else _error_of(future)
            if error is None:
                yield future.result()
            elif on_error == "return":
                yield error
            else:
                errors[index] = error
    finally:
        await outcomes.aclose()
    if errors:
        raise MapError.of(errors, total)


def _error_of(future: Future[Any]) -> BaseException | None:
    try:
        return future.exception()
    except BaseException as error:  # cancelled
        return error
