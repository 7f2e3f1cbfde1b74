"""Why a worker is ended in the middle of a task, and how far that is."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safemp.engines.crash import MemoryLimitExceeded, Report, TaskKilled, TaskTimeout
from safemp.engines.ledger import IDLE, Progress

if TYPE_CHECKING:
    from safemp.engines import Task
    from safemp.engines.process import Worker

__all__ = ["ASKED", "KILLED", "STOPPED", "Verdict", "look"]

ASKED, STOPPED, KILLED = range(3)

_LOOK = 0.05
"""Seconds between looks at the memory of a worker that has a limit, and at one that has
not begun yet what is to be ended."""


@dataclass(slots=True)
class Verdict:
    """The end of the worker that is at one item of one task.

    It is asked for its stack, then stopped; if it is still at that item it is killed,
    and else, since the item has finished after all, it goes on. So nobody is killed for
    another one's fault.

    Attributes:
        error: The class of the error.
        progress: How far the worker was.
        limit: What was passed, in seconds or bytes.
        found: What it had come to.
        until: When it is no longer waited for the stack (``time.monotonic``).
        step: ``ASKED``, ``STOPPED`` or ``KILLED``.
    """

    error: type[TaskTimeout] | type[MemoryLimitExceeded] | type[TaskKilled]
    progress: Progress
    limit: float = 0.0
    found: float = 0.0
    until: float = 0.0
    step: int = ASKED

    def fits(self, progress: Progress) -> bool:
        """Tell whether a worker that is so far has not moved on since."""
        return progress == self.progress

    def error_for(self, report: Report) -> BaseException:
        """Make the error of the item that the worker was at."""
        if self.error is TaskTimeout:
            return TaskTimeout.of(report, self.limit)
        if self.error is MemoryLimitExceeded:
            return MemoryLimitExceeded.of(report, int(self.found), int(self.limit))
        return TaskKilled.of(report)


def look(worker: Worker, now: float, doomed: Collection[Task]) -> Verdict | float | None:
    """Compare what *worker* does with the limits of its tasks.

    Args:
        worker: It is not being ended yet.
        now: The time.
        doomed: Tasks that are to be ended as soon as they have begun.

    Returns:
        The verdict, when one is passed; else when to look again; ``None``: there are none.
    """
    if not worker.tasks:
        return None
    progress = worker.ledger.progress()
    task = next((each for each in worker.tasks if each.id == progress.task), None)
    if task is None or progress.state == IDLE:
        # It is about to begin something, or still reads it; or it cannot, being stopped: then
        # it is ended, and the task, which is not to blame, is moved.
        task, began = worker.tasks[0], max(worker.heard, progress.began)
    else:
        began = progress.began
    limits = task.limits
    waits: list[float] = []
    if task in doomed:
        if progress.task == task.id and progress.state != IDLE:
            return Verdict(TaskKilled, progress)
        waits.append(now + _LOOK)
    if limits is not None and limits.task_timeout is not None:
        if now - began >= limits.task_timeout:
            return Verdict(TaskTimeout, progress, limits.task_timeout, now - began)
        waits.append(began + limits.task_timeout)
    if limits is not None and limits.max_memory is not None:
        memory = worker.memory()
        if progress.task == task.id and memory > limits.max_memory:
            return Verdict(MemoryLimitExceeded, progress, limits.max_memory, memory)
        waits.append(now + _LOOK)
    if not waits and any(each.limits is not None or each in doomed for each in worker.tasks):
        waits.append(now + _LOOK)
    return min(waits, default=None)
