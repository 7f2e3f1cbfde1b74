"""Any ``concurrent.futures.Executor`` as an engine: it carries frames, and never sees a user's object.

So what a call takes, returns or raises cannot break it. What a worker that dies does to it is its
own affair: most of them break for good (``Capabilities.isolates``). One that is made by a function,
such as ``loky.get_reusable_executor``, is then made anew.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from safemp.engines import Capabilities, diary, nesting
from safemp.engines.errand import perform
from safemp.engines.foreign import Done, ForeignEngine, first_line

__all__ = ["ExecutorEngine"]

_DEATHS = {"KilledWorker", "ManagerLost", "WorkerLost", "ExecutorlibSocketError"}
"""Names of the errors by which executors that do not break tell of a death: Dask's, Parsl's, executorlib's."""


class ExecutorEngine(ForeignEngine):
    """Runs tasks on an executor.

    The executor stays its maker's: it is not shut down with this engine. While it is used its
    ``submit`` is called in a thread of the engine's.

    Args:
        executor: It; or a function that makes it, and makes another when it has broken.
        max_workers: The most tasks at a time; default: as many as the executor has workers, if it
            says so, else the cores that this process may use.
    """

    def __init__(self, executor: Executor | Callable[[], Executor], max_workers: int | None = None) -> None:
        self._make: Callable[[], Executor] | None = None
        if isinstance(executor, Executor):
            self._executor: Any = executor
        else:
            self._make, self._executor = executor, executor()
        # A worker of an InterpreterPoolExecutor has modules of its own, and __main__ is not among them.
        threads = isinstance(self._executor, ThreadPoolExecutor) and type(self._executor).__name__ != (
            "InterpreterPoolExecutor"
        )
        self.main_by_name = threads
        # Of others we do not know whether their workers are on this machine.
        self.keeps_diaries: bool = isinstance(self._executor, ProcessPoolExecutor) or _is_of(self._executor, "loky")
        self.capabilities: Capabilities = Capabilities(
            # An MPI job ends with any of its processes, the caller's among them.
            processes=not (isinstance(self._executor, ThreadPoolExecutor) or _is_of(self._executor, "mpi4py")),
            knows_item=self.keeps_diaries,
        )
        workers = _workers_of(self._executor)
        super().__init__(type(self._executor).__name__.lstrip("_"), max_workers or workers or nesting.cores(), workers)

    def send(self, errand: tuple[Any, ...], parts: tuple[Any, ...], done: Done) -> Future[Any]:
        """Submit the errand: see ``ForeignEngine``."""
        try:
            future: Future[Any] = self._executor.submit(perform, errand, *parts)
        except BrokenExecutor:
            if self._make is None:
                raise
            self._executor = self._make()
            future = self._executor.submit(perform, errand, *parts)
        future.add_done_callback(lambda future: done(_answer(future)))
        return future

    def death(self, error: BaseException) -> str | None:
        """Take a broken executor for a death: see ``ForeignEngine``."""
        name = type(error).__name__
        return f"{name}: {first_line(error)}" if isinstance(error, BrokenExecutor) or name in _DEATHS else None

    def look_up(self, token: str, key: str, error: BaseException) -> bytes | None:
        """Read what the worker has written down, on this machine: see ``ForeignEngine``."""
        return diary.look_up(token, key) or b""

    def stop(self, ticket: Future[Any]) -> bool:
        """Cancel what the executor has not begun, if it can: see ``ForeignEngine``."""
        try:
            return bool(ticket.cancel())
        except NotImplementedError:  # Parsl's
            return False


def _is_of(executor: Executor, package: str) -> bool:
    return any(cls.__module__.startswith(f"{package}.") for cls in type(executor).__mro__)


def _workers_of(executor: Any) -> int | None:
    """Return how many workers *executor* has, if it says so: as the standard library does, or as mpi4py."""
    for name in ("_max_workers", "num_workers"):
        number = getattr(executor, name, None)
        if isinstance(number, int) and number > 0:
            return number
    return None


def _answer(future: Future[Any]) -> Any:
    try:
        return future.result()
    except BaseException as error:  # it was cancelled, or its worker has died
        return error
