"""Why a worker is ended in the middle of a task, and how far that is."""

from __future__ import annotations

from dataclasses import dataclass

from safemp.engines.crash import MemoryLimitExceeded, Report, TaskKilled, TaskTimeout
from safemp.engines.ledger import Progress

__all__ = ["ASKED", "KILLED", "STOPPED", "Verdict"]

ASKED, STOPPED, KILLED = range(3)


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
