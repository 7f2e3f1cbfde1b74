"""Hamilton's parallel blocks on safemp's workers: ``SafeMultiProcessingExecutor``."""

from __future__ import annotations

from concurrent.futures import wait
from typing import Any

from hamilton.execution.executors import PoolExecutor, TaskFutureWrappingPythonFuture

from safemp.executor import SafeExecutor

__all__ = ["SafeMultiProcessingExecutor"]

_PAUSE = 0.001
"""Seconds. Short beside any task, and long beside one question how a task is. Picked."""


class _Task(TaskFutureWrappingPythonFuture):  # type: ignore[misc]  # as below
    """A task in flight. Hamilton asks how it is as fast as it can, for which a core would be busy."""

    def __init__(self, future: Any, executor: PoolExecutor) -> None:
        super().__init__(future)
        self._executor = executor

    def get_state(self) -> Any:
        """Tell how the task is; the first of all that run takes a moment to say so."""
        running = [future for future in self._executor.active_futures if not future.done()]
        if running and running[0] is self.future:
            wait(running[:1], _PAUSE)
        return super().get_state()


class SafeMultiProcessingExecutor(PoolExecutor):  # type: ignore[misc]  # hamilton is untyped, or not there
    """Takes the place of Hamilton's ``MultiProcessingExecutor``.

        driver.Builder().enable_dynamic_execution(allow_experimental_mode=True)
            .with_remote_executor(SafeMultiProcessingExecutor(max_tasks=8))

    What a task needs travels where that is honest: drivers and adapters that hold modules,
    loggers and locks, functions of a notebook. What a node raises arrives as its own class.

    Args:
        max_tasks: The most tasks at a time, and the number of workers.
        settings: Others of ``SafeExecutor``: *task_timeout*, *retries*, *max_memory*,
            *initializer*, …
    """

    def __init__(self, max_tasks: int, **settings: Any) -> None:
        super().__init__(max_tasks)
        self._settings = settings

    def create_pool(self) -> SafeExecutor:
        """Make the workers of one execution; Hamilton ends them with it."""
        return SafeExecutor(self.max_tasks, **self._settings)

    def submit_task(self, task: Any) -> _Task:
        """Send a task to a worker."""
        return _Task(super().submit_task(task).future, self)

    def finalize(self) -> None:
        """End the workers. What still runs is not waited for: nobody would get its result."""
        if self.initialized:
            for future in self.active_futures:
                future.kill()
        super().finalize()
