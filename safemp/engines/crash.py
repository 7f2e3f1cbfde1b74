"""How a worker ended, for programs and for people."""

from __future__ import annotations

import copy
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from safemp.codec.calls import decode_outcome
from safemp.codec.frames import Frames
from safemp.engines.memory import size
from safemp.engines.report import Report, how_it_ended
from safemp.engines.system import signal_name
from safemp.errors import SafempError

__all__ = [
    "FORKED",
    "InitializerError",
    "MemoryLimitExceeded",
    "Report",
    "TaskKilled",
    "TaskTimeout",
    "WorkerCrashed",
    "again",
    "ended_in_vain",
    "how_it_ended",
    "initializer_failed",
    "never_begun",
    "no_worker",
    "not_run",
]


FORKED = (
    "cannot use a pool of the parent process in a forked child\n"
    "  fix:    make a pool of its own in the child, or use safemp.map, which does"
)


class _TaskEnded(SafempError):
    """A task was ended with its process. What the errors for that have in common.

    Args:
        call: The call: its function's name.
        item: For a map, the index of its item.
        pid: The worker's process id.
        exitcode: Its exit code.
        text: The first line of the message.
        report: All that is known, instead of the four.
    """

    def __init__(
        self,
        call: str,
        item: int | None = None,
        pid: int | None = None,
        exitcode: int | None = None,
        text: str | None = None,
        *,
        report: Report | None = None,
    ) -> None:
        report = report or Report(call=call, item=item, pid=pid, exitcode=exitcode)
        super().__init__(report.text(text or report.crash()))
        self.report = report
        self.call: str = report.call
        self.arguments: str = report.arguments
        self.item: int | None = report.item
        self.pid: int | None = report.pid
        code = report.exitcode
        self.exitcode: int | None = code
        self.signal: str | None = signal_name(-code) if code is not None and code < 0 else None
        self.stack: str = report.stack
        self.stderr: str = report.stderr
        self.peak_memory: int | None = report.peak_memory
        self.out_of_memory: bool = report.out_of_memory
        self.tries: int = report.tries
        self.poison: bool = report.poison

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.report, self.args), self.__dict__


def _remade(cls: type[_TaskEnded], report: Report, args: tuple[Any, ...]) -> _TaskEnded:
    """Make the error anew; notes and the like follow as its state."""
    error = cls("", report=report)
    error.args = args
    return error


class WorkerCrashed(_TaskEnded, BrokenProcessPool):
    """The process that ran a task ended before the task did.

    Only this task failed. The pool goes on: the worker has been replaced, every other
    task finishes once.

    Attributes:
        call: The call: its function's name.
        arguments: Its arguments in short, as they are written in a call. Objects are named by
            their type, since a ``repr`` is user code.
        item: For a map, the index of the item in the user's iterable; else ``None``.
        pid: The worker's process id; ``None`` when none was started.
        exitcode: As ``multiprocessing.Process.exitcode``: negative for a signal.
        signal: The signal's name, or ``None``.
        stack: The Python stack at the crash, as ``faulthandler`` writes it, the thread that
            crashed first; "" if the process left none: only SIGSEGV, SIGABRT, SIGBUS, SIGFPE
            and SIGILL do.
        stderr: The last that the process wrote to ``sys.stderr``, at most 4 KiB.
        peak_memory: The most bytes that it had resident; ``None`` if not known.
        out_of_memory: Whether it was probably killed for want of memory.
        tries: How often the call has run, this time included.
        poison: Whether it has ended too many workers to be tried again.
        report: All of this in one object.
    """

    __module__ = "safemp"

    @classmethod
    def of(cls, report: Report, text: str | None = None) -> WorkerCrashed:
        """Make the error from all that is known.

        Args:
            report: That.
            text: The first line of the message; default: how it ended and what it ran.
        """
        return cls("", text=text, report=report)


class TaskTimeout(_TaskEnded, TimeoutError):
    """A task ran for longer than its ``task_timeout``; its process was ended.

    Attributes as of ``WorkerCrashed``; ``stack`` is where it was when its time was up.
    """

    __module__ = "safemp"

    @classmethod
    def of(cls, report: Report, seconds: float) -> TaskTimeout:
        """Make the error from all that is known, and the *seconds* that were allowed."""
        text = f"{report.where} ran for more than its task_timeout of {seconds:g} s"
        return cls("", text=f"{text}; worker {report.pid} was ended", report=report)


class MemoryLimitExceeded(_TaskEnded, MemoryError):
    """A task had its process use more than its ``max_memory``; the process was ended.

    Attributes as of ``WorkerCrashed``; ``stack`` is where it was when that was seen.
    """

    __module__ = "safemp"

    @classmethod
    def of(cls, report: Report, used: int, allowed: int) -> MemoryLimitExceeded:
        """Make the error from all that is known, and the bytes *used* and *allowed*."""
        text = f"{report.where} used {size(used)}, more than its max_memory of {size(allowed)}"
        return cls("", text=f"{text}; worker {report.pid} was ended", report=report)


class TaskKilled(_TaskEnded, CancelledError):
    """A task was ended by ``SafeFuture.kill``.

    Attributes as of ``WorkerCrashed``; ``stack`` is where it was then.
    """

    __module__ = "safemp"

    @classmethod
    def of(cls, report: Report) -> TaskKilled:
        """Make the error from all that is known."""
        return cls("", text=f"{report.where} was ended by kill(); worker {report.pid} was ended", report=report)


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


def never_begun(call: str, times: int, report: Report) -> str:
    """Say that *times* workers in a row have ended that had *call* to run, and had not begun it.

    Args:
        call: The call: its function's name.
        times: How many.
        report: Of the last.
    """
    last = f"the last, {report.pid}, {how_it_ended(report.exitcode)}"
    return f"{call} was not run: {times} workers in a row ended before they had begun it; {last}"


def initializer_failed(outcome: Frames) -> InitializerError:
    """Make the error for every call of a pool whose initializer gave *outcome*."""
    _, cause = decode_outcome(outcome)
    error = InitializerError(f"cannot use the pool: its initializer failed: {type(cause).__name__}")
    error.__cause__ = cause
    return error
