"""Outcomes on their way to front ends: gathered under a lock, delivered without it."""

from __future__ import annotations

import sys
import threading

from safemp.engines import Outcome, Task

__all__ = ["Deliveries", "show_error"]


class Deliveries:
    """Outcomes of items, in the order in which they came."""

    __slots__ = ("_runs",)

    def __init__(self) -> None:
        self._runs: list[tuple[Task, int, list[Outcome]]] = []

    def add(self, task: Task, index: int, outcome: Outcome) -> None:
        """Have *outcome* delivered for one item; with those before it, if they are the same task's."""
        self.extend(task, index, [outcome])

    def extend(self, task: Task, index: int, outcomes: list[Outcome]) -> None:
        """Have *outcomes* delivered for the items from *index* on, in the same manner."""
        if self._runs:
            last, first, before = self._runs[-1]
            if last is task and first + len(before) == index:
                before += outcomes
                return
        self._runs.append((task, index, outcomes))

    def settle(self, task: Task, outcome: Outcome) -> None:
        """Have *outcome* delivered for all items of *task* that have had none."""
        first, task.done = task.done, task.count
        if first < task.count:
            self._runs.append((task, first, [outcome] * (task.count - first)))

    def hand_over(self) -> None:
        """Deliver. A callback that raises (``SystemExit``, say) ends nothing but itself."""
        for task, first, outcomes in self._runs:
            try:
                task.deliver(first, outcomes)
            except BaseException:
                show_error()


def show_error() -> None:
    """Show the exception that a callback has raised, as for any thread."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
