"""Hamilton's parallel blocks on safemp's workers: ``SafeMultiProcessingExecutor``."""

from __future__ import annotations

from typing import Any

from hamilton.execution.executors import PoolExecutor

from safemp.executor import SafeExecutor

__all__ = ["SafeMultiProcessingExecutor"]


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

    def finalize(self) -> None:
        """End the workers. What still runs is not waited for: nobody would get its result."""
        if self.initialized:
            for future in self.active_futures:
                future.kill()
        super().finalize()
