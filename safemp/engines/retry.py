"""Whether an item that has failed is tried again, and when."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import count
from typing import Any

from safemp.codec.calls import decode_outcome
from safemp.engines import Outcome, Task
from safemp.engines.crash import TaskKilled
from safemp.engines.settings import RETRY_ON

__all__ = ["Later", "is_poison", "may_retry", "wants_decoding"]

_POISON = 3
"""Workers that one item may end; then it is not tried again, whatever ``retries`` says."""

_FIRST, _MOST = 0.1, 5.0
"""Seconds before the first try again; each further one waits twice as long, up to the most."""


class Later:
    """Tasks that wait to be tried again."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Task]] = []
        self._numbers = count()

    def add(self, task: Task, outcome: Outcome, now: float) -> None:
        """Take *task*, whose one item has failed with *outcome*."""
        task.tries += 1
        task.killed += isinstance(outcome, BaseException)
        task.last = outcome
        when = now + min(_MOST, _FIRST * 2 ** min(task.tries - 1, 10))
        heapq.heappush(self._heap, (when, next(self._numbers), task))

    @property
    def when(self) -> float:
        """The time at which the next one is due. There must be one."""
        return self._heap[0][0]

    def due(self, now: float) -> Task | None:
        """Give up the next one that is due by *now*; ``None``: none is."""
        return heapq.heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now else None

    def remove(self, task: Task) -> bool:
        """Give up *task*; tell whether it was here."""
        rest = [entry for entry in self._heap if entry[2] is not task]
        found = len(rest) < len(self._heap)
        heapq.heapify(rest)
        self._heap = rest
        return found

    def clear(self) -> None:
        """Give up all."""
        self._heap.clear()

    def __len__(self) -> int:
        return len(self._heap)

    def __iter__(self) -> Iterator[Task]:
        """Iterate over the tasks in the order in which they came."""
        return iter([task for _, _, task in sorted(self._heap, key=lambda entry: entry[1])])


def is_poison(task: Task) -> bool:
    """Tell whether one more worker that *task* ends is one too many."""
    return task.limits is not None and task.limits.retries > 0 and task.killed >= _POISON - 1


def wants_decoding(task: Task, outcome: Outcome) -> bool:
    """Tell whether only the decoded *outcome* can say if it is one to try again after."""
    limits = task.limits
    if isinstance(outcome, BaseException) or limits is None or task.tries >= limits.retries:
        return False
    kinds = limits.retry_on if isinstance(limits.retry_on, tuple) else (limits.retry_on,)
    return not all(issubclass(kind, RETRY_ON) for kind in kinds)


def may_retry(task: Task, outcome: Outcome, *, decode: bool = False) -> bool:
    """Tell whether the item that failed with *outcome* is tried again.

    Args:
        task: The task; the item is the only one that counts.
        outcome: The failure.
        decode: What a task raised is decoded, which runs user code; else it is never
            one to try again after.
    """
    limits = task.limits
    if limits is None or task.tries >= limits.retries or is_poison(task):
        return False
    error: Any = outcome
    if isinstance(outcome, list):
        if not decode:
            return False
        _, error = decode_outcome(outcome)
    try:  # not isinstance, which asks the error's own __class__
        return issubclass(type(error), limits.retry_on) and not issubclass(type(error), TaskKilled)
    except BaseException:  # user code, in a metaclass of retry_on
        return False
