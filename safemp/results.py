"""What a pool hands out while work is under way: results of maps, as list or iterator.

Rule 1: outcomes arrive in an engine's thread, and are decoded in the thread that asks.
Rule 2: whatever a task raised stays with its item. A ``StopIteration`` out of a task
never ends or shortens an iteration.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from functools import partial
from types import NoneType
from typing import Any

from safemp import lifetime
from safemp.batch import Batch, chunked
from safemp.codec import calls
from safemp.engines import Engine, Outcome, failed
from safemp.engines.crash import not_run
from safemp.engines.imports import aside
from safemp.engines.listener import settle
from safemp.engines.settings import Limits
from safemp.failures import MapError, OnError
from safemp.progress import EVERY, Meter
from safemp.steady import steady_condition, steady_event
from safemp.worker import name_of

__all__ = ["Feed", "Gather", "ItemIterator", "failures", "read", "unwrap"]


_VALUES = frozenset({int, float, bool, NoneType})
"""Types of the outcomes that are the values themselves."""


def _others(outcomes: list[Outcome]) -> list[int]:
    """Return the places of the outcomes that are not the values themselves. Does next to nothing for those that are."""
    try:
        if _VALUES.issuperset(map(type, outcomes)):
            return []
    except Exception:  # an error whose metaclass does not hash
        pass
    types = enumerate(map(type, outcomes))
    return [i for i, cls in types if cls is not int and cls is not float and cls is not bool and cls is not NoneType]


def failures(outcomes: list[Outcome]) -> list[int]:
    """Return the places of the outcomes that are anything but values, without decoding them."""
    return [i for i in _others(outcomes) if failed(outcomes[i])]


def read(outcome: Outcome) -> tuple[bool, Any]:
    """Decode *outcome*: return whether it is a value, and it; else the error."""
    settle()
    if isinstance(outcome, list):
        return calls.decode_outcome(outcome)
    return not isinstance(outcome, BaseException), outcome


def unwrap(outcome: Outcome) -> Any:
    """Decode *outcome*: return the value, or raise the error."""
    good, value = read(outcome)
    if good:
        return value
    try:
        raise value
    finally:
        del value, outcome  # no cycle of error, traceback and this frame


_MISSING: Any = object()
"""In the place of an outcome that has not come."""


class Gather:
    """All results of one map, in the order of its items.

    Args:
        engine: Where the items go.
        fn: The function.
        items: All of them.
        chunksize: Items that go to a worker together, at least 1.
        star: Each item is a tuple of arguments.
        limits: What each call may use; ``None``: what there is.
        divisible: Chunks may be shared out among workers that have nothing to do.
        meter: Shows how far it is, while somebody is in ``watch``.
        on_error: What becomes of failures. ``"raise"``: once an item has failed, only those
            before it are waited for, so that the error is the one which a loop would
            have met. ``None``: as that, when all have finished.

    Raises:
        PreflightError: *fn* or an item cannot be pickled; nothing was sent.
    """

    def __init__(
        self,
        engine: Engine,
        fn: Callable[..., Any],
        items: Iterable[Any],
        chunksize: int,
        *,
        star: bool = False,
        limits: Limits | None = None,
        divisible: bool = False,
        meter: Meter | None = None,
        on_error: OnError | None = None,
    ) -> None:
        self._finished = steady_event()
        self._on_error = on_error
        self._meter = meter
        self._done: Callable[[], object] | None = None
        self._lock = threading.Lock()
        self._reading = threading.RLock()
        self._values: list[Any] | None = None
        self._batch = batch = Batch(engine, fn, self._take, star=star, limits=limits, divisible=divisible)
        tasks, first = batch.encode_all(chunked(items, chunksize))
        self._outcomes: list[Outcome] = [_MISSING] * first
        self._left = self._end = first  # items that are missing, of those before that one
        if meter is not None:
            meter.open(first)
        if not first:
            self._finish()
        try:
            for task in tasks:
                batch.send(task)
                if meter is not None:
                    meter.show()
        except BaseException:
            if meter is not None:
                meter.close()
            raise

    def _take(self, first: int, outcomes: list[Outcome]) -> None:
        bad = failures(outcomes) if self._meter is not None or self._on_error == "raise" else ()
        with self._lock:
            if self._meter is not None:
                self._meter.count(len(outcomes), len(bad))
            waiting = self._left
            self._outcomes[first : first + len(outcomes)] = outcomes
            self._left -= max(0, min(first + len(outcomes), self._end) - first)
            if bad and self._on_error == "raise" and first + bad[0] < self._end:
                self._end = first + bad[0]
                self._left = sum(each is _MISSING for each in self._outcomes[: self._end])
                self._batch.cancel(self._end)
            over = waiting and not self._left
        if over:
            self._finish()

    def _finish(self) -> None:
        with self._lock:
            self._finished.set()
            done = self._done
        if done is not None:
            done()

    def when_done(self, call: Callable[[], object]) -> None:
        """Have *call* made when the last outcome is there: in an engine's thread, or now."""
        with self._lock:
            self._done = call
            now = self._finished.is_set()
        if now:
            call()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until every item has had its outcome; tell whether that is so.

        Args:
            timeout: Seconds; ``None``: until it is.
        """
        return self._finished.wait(timeout)

    def watch(self) -> None:
        """Wait until every item has had its outcome, and show meanwhile how far they are."""
        meter = self._meter
        if meter is None:
            self._finished.wait()
            return
        try:
            while not self._finished.wait(EVERY):
                meter.show()
        finally:
            meter.close()

    def failed(self) -> bool:
        """Tell whether any item failed. After ``wait``."""
        return any(map(failed, self._outcomes))

    def done(self) -> bool:
        """Tell whether every item has had its outcome."""
        return self._finished.is_set()

    def result(self) -> list[Any]:
        """Return all results. After ``wait``.

        Raises:
            BaseException: What the first failed item, by its place, raised.
            MapError: The failures, if they are collected.
        """
        with self._reading:
            if self._values is None:
                settle()
                values = self._outcomes
                if self._end < len(values):
                    unwrap(values[self._end])
                encoded = _others(values)
                if self._on_error in ("collect", "return"):
                    return self._with_errors(values, encoded)
                for i in encoded:
                    if failed(values[i]):
                        unwrap(values[i])
                for i, value in zip(encoded, [unwrap(values[i]) for i in encoded], strict=True):
                    values[i] = value
                self._values = values
                self._outcomes = []
            return self._values

    def _with_errors(self, values: list[Any], encoded: list[int]) -> list[Any]:
        """Decode those of *values* that are *encoded*, errors or not."""
        errors: dict[int, BaseException] = {}
        for i in encoded:
            good, values[i] = read(values[i])
            if not good:
                errors[i] = values[i]
        self._values, self._outcomes = values, []
        if errors and self._on_error == "collect":
            raise MapError.of(errors, len(values), values)
        return values


class Feed:
    """Results of a map, one by one, while a thread feeds its items to the workers.

    Args:
        engine: Where the items go.
        fn: The function.
        items: They are read in the feeding thread, as far ahead as *window* says. What
            reading them raises comes in its place, and ends the iteration.
        chunksize: Items that go to a worker together, at least 1.
        ordered: Give results in the order of the items; else as they come.
        window: Items that may be under way.
        unread: Items that may be read ahead of the results taken.
        timeout_error: What ``next(timeout)`` raises.
        limits: What each call may use; ``None``: what there is.
        meter: Shows how far it is, while somebody takes results.

    Attributes:
        fault: The index at which comes what reading *items* has raised, if it has.

    Raises:
        PreflightError: *fn* cannot be pickled.
    """

    def __init__(
        self,
        engine: Engine,
        fn: Callable[..., Any],
        items: Iterable[Any],
        chunksize: int,
        *,
        ordered: bool,
        star: bool = False,
        window: int,
        unread: int,
        timeout_error: type[Exception],
        limits: Limits | None = None,
        meter: Meter | None = None,
    ) -> None:
        self._condition = steady_condition()
        self._meter = meter
        self._batch = Batch(engine, fn, self._take, star=star, limits=limits)
        self._name = name_of(fn)
        self._ordered = ordered
        self._window = window
        self._unread: float = unread
        self._timeout_error = timeout_error
        self._outcomes: dict[int, Outcome] = {}
        self._arrived: deque[int] = deque()
        self._next = 0
        self._sent = 0
        self._received = 0
        self._exhausted = False
        self.fault: int | None = None
        self._stopped = False
        feed = partial(copy_context().run, self._feed, iter(items), chunksize)
        self._thread = threading.Thread(target=aside, args=(feed,), name="safemp-feeder", daemon=True)
        self._thread.start()

    # -- the feeding thread -----------------------------------------------------------

    def _feed(self, items: Iterator[Any], chunksize: int) -> None:
        end: BaseException | None = None
        try:
            chunks = _until_error(items, chunksize)
            while True:
                with self._condition:
                    while not self._stopped and not self._room():
                        self._condition.wait()
                    if self._stopped:
                        end = not_run(self._name)
                        break
                chunk, end = next(chunks)
                if chunk:
                    self._send(chunk)
                if end is not None:
                    break
        except BaseException as error:  # the engine is closed, or broken
            end = not_run(self._name) if self._stopped else error
        finally:
            del items
        with self._condition:
            if end is not None and not isinstance(end, StopIteration):
                self.fault = self._sent
                self._outcomes[self._sent] = end
                self._sent += 1
                self._received += 1
            self._exhausted = True
            self._close_if_over()
            self._condition.notify_all()

    def _room(self) -> bool:
        return self._sent - self._received < self._window and self._sent - self._next < self._unread

    def _send(self, chunk: list[Any]) -> None:
        first = self._sent
        try:
            task = self._batch.encode(chunk, first)
        except Exception as error:  # PreflightError: only the items that cannot be sent fail
            if len(chunk) == 1:
                with self._condition:
                    self._sent += 1
                self._take(first, [error])
                return
            for item in chunk:
                self._send([item])
            return
        with self._condition:
            self._sent += len(chunk)
        try:
            self._batch.send(task)
        except BaseException:  # the engine is closed, or broken: the error comes in this chunk's place
            with self._condition:
                self._sent = first
            raise

    def _take(self, first: int, outcomes: list[Outcome]) -> None:
        with self._condition:
            if self._meter is not None:
                self._meter.count(len(outcomes), len(failures(outcomes)))
            for index, outcome in enumerate(outcomes, first):
                self._outcomes[index] = outcome
                self._arrived.append(index)
            self._received += len(outcomes)
            self._close_if_over()
            self._condition.notify_all()

    def _close_if_over(self) -> None:
        if self._exhausted and self._received == self._sent:
            self._batch.close()

    # -- the reading thread -----------------------------------------------------------

    def next(self, timeout: float | None) -> tuple[int, Outcome]:
        """Return the index of the next item, and its outcome: see ``ItemIterator.next``."""
        meter = self._meter
        try:
            return self._get(timeout, meter)
        except BaseException as error:
            if meter is not None and (isinstance(error, StopIteration) or not isinstance(error, Exception)):
                meter.close()  # the end, or Ctrl-C
            raise

    def _get(self, timeout: float | None, meter: Meter | None) -> tuple[int, Outcome]:
        """Wait for the next outcome; return which item's it is, and it."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if meter is not None:
                meter.show()  # without the lock
            with self._condition:
                index = self._ready()
                if index is not None:
                    self._next += 1
                    self._condition.notify_all()
                    return index, self._outcomes.pop(index)
                if self._exhausted and self._next >= self._sent:
                    raise StopIteration
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise self._timeout_error
                with lifetime.waiting:
                    self._condition.wait(left if meter is None else meter.nap(left))

    def _ready(self) -> int | None:
        if self._ordered:
            return self._next if self._next in self._outcomes else None
        if self._arrived:
            return self._arrived.popleft()
        # What the iterable raised comes behind the results of the items before it.
        return self.fault if self.fault in self._outcomes and self._received == self._sent else None

    @property
    def total(self) -> int:
        """How many items there were, at their end."""
        return self._sent if self.fault is None else self.fault

    def unseen(self) -> None:
        """Show no more how far it is: nobody takes results."""
        if self._meter is not None:
            self._meter.close()

    def unbound(self) -> None:
        """Feed all items, whether anybody reads their results or not."""
        with self._condition:
            self._unread = float("inf")
            self._condition.notify_all()

    def stop(self) -> None:
        """Feed no more items. Those that were sent have their outcomes, for whoever waits for them."""
        with self._condition:
            self._stopped = True
            self._condition.notify_all()

    def drop(self) -> None:
        """Feed no more items, and drop those that have not begun: nobody takes results any more."""
        self._batch.cancel()
        self.stop()

    def alive(self) -> bool:
        """Tell whether items are still being fed."""
        return self._thread.is_alive()

    def join(self) -> None:
        """Wait until no more items will be fed."""
        self._thread.join()


class ItemIterator:
    """Iterates over the results of a map; ``next`` takes a timeout.

    Args:
        feed: Where they come from.
        own: Stop feeding when nobody refers to this iterator any more.
        on_error: What becomes of failures.
        keeps: An object that must not be collected before this iterator is.
    """

    def __init__(self, feed: Feed, *, own: bool, on_error: OnError, keeps: object = None) -> None:
        self._feed = feed
        self._on_error = on_error
        self._errors: dict[int, BaseException] = {}
        self._keeps = keeps
        if own:
            weakref.finalize(self, feed.drop).atexit = False

    def __del__(self) -> None:
        self._feed.unseen()

    def __iter__(self) -> ItemIterator:
        return self

    def __next__(self) -> Any:
        return self.next()

    def next(self, timeout: float | None = None) -> Any:
        """Return the next result.

        Args:
            timeout: Seconds to wait; ``None``: until there is one.

        Raises:
            StopIteration: There is none left.
            MapError: There is none left, and failures are collected.
            TimeoutError: The wait was too short (of a ``Pool``:
                ``multiprocessing.TimeoutError``).
            RuntimeError: The call raised ``StopIteration``; it is the cause.
            BaseException: What the call raised. The iteration can go on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                index, outcome = self._feed.next(timeout)
            except StopIteration:
                if not self._errors:
                    raise
                errors, self._errors = self._errors, {}
                raise MapError.of(errors, self._feed.total) from None
            if self._on_error == "raise" or index == self._feed.fault:
                break
            good, value = read(outcome)
            if good or self._on_error == "return":
                return value
            self._errors[index] = value
            timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return unwrap(outcome)
        except StopIteration as error:
            raise RuntimeError(f"the call for items[{index}] raised StopIteration") from error
        finally:
            del outcome


def _until_error(items: Iterator[Any], size: int) -> Iterator[tuple[list[Any], BaseException | None]]:
    """Cut *items* into lists; with the last one comes what ended them."""
    while True:
        chunk: list[Any] = []
        end: BaseException | None = None
        while len(chunk) < size:
            try:
                chunk.append(next(items))
            except BaseException as error:  # the user's iterator; StopIteration is its end
                end = error
                break
        yield chunk, end
