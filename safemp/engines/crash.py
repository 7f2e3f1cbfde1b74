"""How a worker ended, for programs and for people."""

from __future__ import annotations

import copy
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from safemp.codec.calls import decode_outcome
from safemp.codec.frames import Frames
from safemp.engines.system import signal_name
from safemp.errors import SafempError

__all__ = [
    "FORKED",
    "InitializerError",
    "MemoryLimitExceeded",
    "TaskTimeout",
    "WorkerCrashed",
    "again",
    "ended_in_vain",
    "how_it_ended",
    "initializer_failed",
    "no_worker",
    "not_run",
]


FORKED = (
    "cannot use a pool of the parent process in a forked child\n"
    "  fix:    make a pool of its own in the child, or use safemp.map, which does"
)


def how_it_ended(exitcode: int | None) -> str:
    """Say it in words: ``killed by signal 11 (SIGSEGV)``, ``exited with code 3``."""
    if exitcode is None:
        return "ended in an unknown way"
    if exitcode < 0:
        return f"was killed by signal {-exitcode} ({signal_name(-exitcode)})"
    return f"exited with code {exitcode}"


class _TaskEnded(SafempError):
    """A task was ended with its process. What the errors for that have in common."""

    def __init__(
        self, call: str, item: int | None, pid: int | None, exitcode: int | None, text: str | None = None
    ) -> None:
        self.call = call
        self.item = item
        self.pid = pid
        self.exitcode = exitcode
        self.signal = signal_name(-exitcode) if exitcode is not None and exitcode < 0 else None
        where = call if item is None else f"{call} for items[{item}]"
        super().__init__(text or f"worker {pid} {how_it_ended(exitcode)} while it ran {where}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.call, self.item, self.pid, self.exitcode, str(self.args[0]))


class WorkerCrashed(_TaskEnded, BrokenProcessPool):
    """The process that ran a task ended before the task did.

    Only this task failed. The pool goes on: the worker has been replaced, every other
    task finishes once.

    Attributes:
        call: The call: its function's name.
        item: For a map, the index of the item in the user's iterable; else ``None``.
        pid: The worker's process id; ``None`` when none was started.
        exitcode: As ``multiprocessing.Process.exitcode``: negative for a signal.
        signal: The signal's name, or ``None``.
    """

    __module__ = "safemp"


class TaskTimeout(_TaskEnded, TimeoutError):
    """A task ran for longer than its ``task_timeout``; its process was ended.

    Attributes as of ``WorkerCrashed``.
    """

    __module__ = "safemp"


class MemoryLimitExceeded(_TaskEnded, MemoryError):
    """A task had its process use more than its ``max_memory``; the process was ended.

    Attributes as of ``WorkerCrashed``.
    """

    __module__ = "safemp"


def not_run(call: str) -> WorkerCrashed:
    """Make the error for a call that no worker got to before the pool ended."""
    return WorkerCrashed(call, None, None, None, f"{call} was not run: the pool was ended")


class InitializerError(SafempError, BrokenProcessPool):
    """A worker's initializer failed, so no worker can take tasks.

    ``__cause__`` is what the initializer raised.
    """

    __module__ = "safemp"


def again(error: BaseException) -> BaseException:
    """Copy *error* for one more raiser, so that tracebacks do not pile up on one."""
    made = copy.copy(error)
    made.__cause__ = error.__cause__
    return made


def no_worker(error: Exception) -> WorkerCrashed:
    """Make the error for calls that wait for a worker, and none can be started."""
    made = WorkerCrashed("", None, None, None, f"cannot start a worker: {type(error).__name__}: {error}")
    made.__cause__ = error
    return made


def ended_in_vain(pid: int, exitcode: int | None, times: int, initializing: bool = False) -> str:
    """Say that *times* workers in a row have ended without having begun a task.

    Args:
        pid: Of the last.
        exitcode: Of the last.
        times: How many.
        initializing: The last had an initializer to run, and had not finished it.
    """
    before = "their initializer was done" if initializing else "they had begun a task"
    return f"cannot keep workers: {times} in a row ended before {before}; the last, {pid}, {how_it_ended(exitcode)}"


def initializer_failed(outcome: Frames) -> InitializerError:
    """Make the error for every call of a pool whose initializer gave *outcome*."""
    _, cause = decode_outcome(outcome)
    error = InitializerError(f"cannot use the pool: its initializer failed: {type(cause).__name__}")
    error.__cause__ = cause
    return error
