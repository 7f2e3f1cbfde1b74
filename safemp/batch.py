"""One map: its function, which each worker gets once, and the chunks of its items."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from safemp import lifetime
from safemp.codec import calls, homes, pickling
from safemp.codec.describe import describe_call
from safemp.codec.frames import Buffer, Frames
from safemp.codec.record import Count
from safemp.engines import Engine, Function, Outcome, Task, Tasks
from safemp.engines.settings import Limits
from safemp.errors import Culprit, PreflightError
from safemp.worker import name_of

__all__ = ["Batch", "chunked", "default_chunksize"]

Sink = Callable[[int, list[Outcome]], None]
"""Takes outcomes of consecutive items and the index of the first. Called by an engine's
thread."""


def chunked(items: Iterable[Any], size: int) -> Iterator[tuple[Any, ...]]:
    """Cut *items* into tuples of *size*, the last one perhaps shorter."""
    iterator = iter(items)
    while chunk := tuple(islice(iterator, size)):
        yield chunk


def default_chunksize(n: int, workers: int) -> int:
    """Return the standard library's chunk size: about four chunks for each worker."""
    chunksize, extra = divmod(n, workers * 4)
    return max(1, chunksize + bool(extra))


def _ignore(first: int, outcomes: list[Outcome]) -> None:
    """Take outcomes that nobody reads."""


class Batch:
    """Sends chunks of a map to an engine.

    Args:
        engine: Where they go.
        fn: The function.
        sink: Where the outcomes go.
        star: Each item is a tuple of arguments.
        limits: What each call may use; ``None``: what there is.
        divisible: Chunks may be shared out among workers that have nothing to do.

    Raises:
        PreflightError: *fn* cannot be pickled.
    """

    def __init__(
        self,
        engine: Engine,
        fn: Callable[..., Any],
        sink: Sink,
        *,
        star: bool = False,
        limits: Limits | None = None,
        divisible: bool = False,
    ) -> None:
        if lifetime.waiting.broken_off:
            lifetime.waiting.goes_on()
        self._end = float("inf")  # items from there on are dropped
        self._engine = engine
        self._fn = fn
        self._sink: Sink = sink
        self._star = star
        self._limits = limits
        self._divisible = divisible
        self._single = limits is not None and (limits.task_timeout is not None or limits.max_memory is not None)
        self._name = name_of(fn)
        frames = calls.encode_function(fn, by_name=engine.main_by_name, policy=engine.policy)
        self._is_global = homes.is_global(fn)
        if self._is_global and len(frames) == 3 and pickling.refers_apart(frames[1]):
            self._make: Callable[[Frames], Function] = Function.known
            self._function = Function.known(frames)
        else:
            self._make, self._function = Function, Function(engine.hold(frames))
        self._apart = pickling.OfMap()
        self._used: Function | None = None  # the function, with what the chunks have given apart
        self._careful: Function | None = None

    def _function_with(self, table: Buffer | None) -> Function | None:
        """Return the function with what a chunk has given apart.

        One that is no global has a state of its own, and is to be loaded once in a worker: of that there are
        no two. ``None``: so *table* is to go another way.
        """
        if self._used is None or (self._is_global and table is not None and self._used.frames[-1] is not table):
            function = self._function
            self._used = function if table is None else self._make([*function.frames, table])
        return self._used if table is None or self._used.frames[-1] is table else None

    def encode(self, items: Sequence[Any], first: int) -> Task:
        """Make the task for *items*, of which the first has index *first*.

        Raises:
            PreflightError: An item cannot be pickled.
        """
        engine = self._engine
        by_name, policy = engine.main_by_name, engine.policy
        since, repairs = time.monotonic(), Count.repairs
        how: Any = {"star": self._star, "single": self._single, "by_name": by_name, "policy": policy}
        frames = calls.encode_chunk(items, first, apart=self._apart, **how)
        function = self._function_with(self._apart.pop() if self._apart else None)
        if function is None:
            frames = calls.encode_chunk(items, first, **how)
            function = self._function_with(None)
            assert function is not None, "it has been used"
        task = _ChunkTask(self, engine.hold(frames), function, items, first)
        task.encoded(since, repairs)
        return task

    def encode_all(self, chunks: Iterable[Sequence[Any]]) -> tuple[list[Task], int]:
        """Make the tasks for all *chunks*, the first of which begins with item 0.

        Returns:
            The tasks, and the number of items.

        Raises:
            PreflightError: Some items cannot be pickled; it names those of all chunks.
        """
        tasks: list[Task] = []
        culprits: list[Culprit] = []
        first = 0
        for chunk in chunks:
            try:
                tasks.append(self.encode(chunk, first))
            except PreflightError as error:
                culprits.extend(error.culprits)
                if len(culprits) >= calls.MOST_CULPRITS:
                    break
            first += len(chunk)
        if culprits:
            raise PreflightError.of(tuple(culprits))
        return tasks, first

    def send(self, task: Task) -> None:
        """Hand *task* to the engine. Raises what ``Engine.submit`` raises."""
        self._engine.submit(task)

    def cancel(self, end: int = 0) -> None:
        """Drop the chunks that have not begun, but for those with items before *end*."""
        self._end = end

    def close(self) -> None:
        """Say that no more outcomes are wanted, so that nothing keeps the reader alive."""
        self._sink = _ignore

    def describe(self, item: Any) -> str:
        """Show the arguments of the call for *item* in short. Runs no user code."""
        return describe_call(item if self._star else (item,), {})

    def _encode_carefully(self, items: Sequence[Any], first: int) -> _ChunkTask:
        engine, policy = self._engine, self._engine.policy
        if self._careful is None:
            self._careful = Function(engine.hold(calls.encode_function(self._fn, careful=True, policy=policy)))
        frames = calls.encode_chunk(items, first, star=self._star, single=self._single, careful=True, policy=policy)
        return _ChunkTask(self, engine.hold(frames), self._careful, items, first)


class _ChunkTask(Task):
    __slots__ = ("_batch", "_items")

    def __init__(self, batch: Batch, frames: Frames, function: Function, items: Sequence[Any], first: int) -> None:
        super().__init__(frames, batch._name, function, len(items), first, batch._limits)
        self._batch = batch
        self._items = items
        self.divisible = batch._divisible

    def begin(self) -> bool:
        return self.first + self.done < self._batch._end

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        self._batch._sink(self.first + first, outcomes)
        if self.done >= self.count:
            self._items = ()

    def abort(self) -> None:
        from concurrent.futures import CancelledError

        self.deliver_same(CancelledError())

    def describe(self, index: int) -> str:
        if index >= len(self._items):  # all have had their outcome
            return ""
        return self._batch.describe(self._items[index])

    def mend(self, outcome: Frames | None) -> Tasks | Outcome:
        batch, items, first = self._batch, self._items[self.done : self.count], self.first + self.done
        if outcome is None:
            return Tasks([batch._encode_carefully(items[i : i + 1], first + i) for i in range(len(items))])
        reason = calls.read_not_loaded(outcome)
        assert reason is not None
        if self.shared is batch._careful:
            roots = [("fn", batch._fn), *((f"items[{first + i}]", item) for i, item in enumerate(items))]
            return calls.blame_load(reason, roots, batch._engine.policy)
        if reason.module is not None:
            homes.send_by_value(reason.module)
        return Tasks([batch._encode_carefully(items, first)])
