"""How much may be written ahead to a busy worker, so that it need not wait between two tasks.

Only what cannot be told from waiting: short tasks, as far as one can know, and such as
can be taken back whole.
"""

from __future__ import annotations

from collections import deque

from safemp.engines import Task
from safemp.engines.process import Worker
from safemp.engines.wire import SMALL

__all__ = ["BUNDLE", "PATIENCE", "Pace", "choose"]

BUNDLE = 16
"""Tasks queued at which the submitting thread writes them ahead, not the dispatcher."""

PATIENCE = 0.005
"""Seconds without an answer after which what was written ahead is taken back."""

_LONG = 0.05
"""The pace, in seconds a task, that we go on with after that."""

_AHEAD = 0.002
"""Seconds of work that may be written ahead."""

_MOST = 64
"""Tasks written ahead to one worker."""

_FEW = 4
"""Tasks that a worker has left at which one more is worth a message of its own."""

_WEIGHT = 0.2
"""Of what was measured last. Picked: a few short tasks in a row count as short tasks."""


class Pace:
    """How long tasks have taken of late.

    Attributes:
        seconds: A task.
    """

    def __init__(self) -> None:
        self.seconds: float = _LONG

    def took(self, seconds: float) -> None:
        """Take notice of what one task has taken."""
        self.seconds += _WEIGHT * (seconds - self.seconds)

    def was_wrong(self) -> None:
        """Take notice that a task takes longer than it was thought to."""
        self.seconds = max(self.seconds, _LONG)

    def room(self, worker: Worker, queued: int, workers: int) -> int:
        """Return how many tasks *worker* may be sent now.

        Args:
            worker: An idle one gets at least one, and one that is not behind it.
            queued: How many tasks wait.
            workers: Among how many they are to be shared.
        """
        have = len(worker.tasks)
        room = min(_MOST, int(_AHEAD / self.seconds)) - have
        if not have:
            room = max(1, min(room + 1, queued // workers))
        elif room <= (have if have > _FEW else 0) or not worker.takes_ahead or worker.verdict is not None:
            return 0
        else:
            room = min(room, queued // workers + 1)
        return room if worker.tasks_left is None else min(room, worker.tasks_left - have)


def choose(worker: Worker, queue: deque[Task], room: int) -> list[Task]:
    """Take up to *room* tasks off *queue* that can go to *worker* in one message, and begin."""
    have = bool(worker.tasks)
    tasks: list[Task] = []
    size = 0
    while queue and len(tasks) < room:
        task = queue[0]
        if have or tasks:
            # What it shares must be there: what brings it could be taken back, and what
            # needs it could not, when the worker has just taken its token.
            size += sum(map(len, task.frames))
            shared = task.shared
            brought = not have and shared is tasks[0].shared
            if size > SMALL or not (shared is None or shared.number in worker.shared or brought):
                break
            if task.limits is not None and task.limits.max_memory is not None:
                break  # the worker may be replaced before it
        queue.popleft()
        if task.begin():
            tasks.append(task)
    return tasks
