"""What a user may set: for each task (``Limits``), and for a local pool (``Settings``).

Values are checked where they are given, so that a wrong one is named at the caller's
line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from safemp.codec.frames import Frames
from safemp.engines.crash import MemoryLimitExceeded, TaskTimeout, WorkerCrashed
from safemp.engines.handover import Inheritance

__all__ = ["RETRY_ON", "SETTINGS", "LimitOptions", "Limits", "RetryOn", "Settings", "limits_of"]

SETTINGS = {
    "task_timeout": "end a call whose time is up",
    "max_memory": "end a call that takes too much memory",
    "max_tasks_per_child": "replace its workers",
    "idle_timeout": "end idle workers",
    "inner_max_num_threads": "limit the threads in its workers",
    "capture_output": "hand over what calls print",
    "mp_context": "choose how its workers start",
    "trace": "write down when each call runs",
}
"""The settings that not every engine can keep, and what it cannot do then: see ``Capabilities``."""

RetryOn = type[BaseException] | tuple[type[BaseException], ...]

RETRY_ON: tuple[type[BaseException], ...] = (WorkerCrashed, TaskTimeout, MemoryLimitExceeded)
"""What is tried again unless the user says otherwise: what befell the process, not what
the task itself raised."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one task may use, and how often it is tried.

    Attributes:
        task_timeout: Seconds that a call may run; ``None``: as long as it takes.
        retries: How often a call is tried again.
        retry_on: After which errors.
        max_memory: Bytes of resident memory that a worker may have, its own children
            left out; ``None``: what there is.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A number is out of range.
    """

    task_timeout: float | None = None
    retries: int = 0
    retry_on: RetryOn = RETRY_ON
    max_memory: int | None = None

    def __post_init__(self) -> None:
        _check_seconds("task_timeout", self.task_timeout)
        if not isinstance(self.retries, int):
            raise TypeError(f"retries must be an int, not {type(self.retries).__name__}")
        if self.retries < 0:
            raise ValueError("retries must be >= 0")
        kinds = self.retry_on if isinstance(self.retry_on, tuple) else (self.retry_on,)
        if not all(isinstance(kind, type) and issubclass(kind, BaseException) for kind in kinds):
            raise TypeError("retry_on must be an exception class or a tuple of them")
        if self.max_memory is not None:
            if not isinstance(self.max_memory, int):
                raise TypeError(f"max_memory must be an int (bytes) or None, not {type(self.max_memory).__name__}")
            if self.max_memory <= 0:
                raise ValueError("max_memory must be > 0 (bytes)")


class LimitOptions(TypedDict, total=False):
    """The keywords of ``Limits``, for functions that take them."""

    task_timeout: float | None
    retries: int
    retry_on: RetryOn
    max_memory: int | None


def limits_of(function: str, given: LimitOptions, base: Limits | None = None) -> Limits:
    """Make the limits that a user has given as keywords.

    Args:
        function: The name of what was called, for messages.
        given: The keywords.
        base: What holds for those that are left out; ``None``: the defaults.

    Raises:
        TypeError: There is no such keyword, or a value has the wrong type.
        ValueError: A number is out of range.
    """
    names = LimitOptions.__annotations__
    unknown = next((name for name in given if name not in names), None)
    if unknown is not None:
        raise TypeError(
            f"{function}() got an unexpected keyword argument {unknown!r}\n  fix:    the limits are {', '.join(names)}"
        )
    return replace(base or Limits(), **given)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a pool of local processes is kept.

    Attributes:
        max_workers: The most processes at a time.
        context: A ``multiprocessing`` context; its ``Process`` is used.
        main_by_name: See ``Engine``.
        offer: What workers may be asked for of the caller's ``__main__``: see ``codec.offers``.
        start: The initializer's call, encoded; or no frames.
        inherited: What that call wants the workers to be given.
        max_tasks: Tasks after which a worker is replaced; ``None``: never.
        eager: Start all workers at once, not as tasks arrive.
        name: Names the thread and the processes.
        idle_timeout: Seconds without work after which a worker ends; ``None``: never.
        inner_max_num_threads: Threads that BLAS and OpenMP may use in each worker;
            ``None``: the cores divided by the workers; 0: as many as they like.
        forward_logging: Hand workers' log records and warnings to the caller's.
        capture_output: Hand what tasks write to stdout and stderr to the caller's.
        trace: Write down when each task runs: into that file when the pool has ended, or for
            ``stats`` only.

    Raises:
        OSError: That file cannot be written.
        TypeError: A value has the wrong type.
        ValueError: A number is out of range.
    """

    max_workers: int
    context: Any
    main_by_name: bool = False
    offer: bytes = b""
    start: Frames | None = None
    inherited: Inheritance | None = None
    max_tasks: int | None = None
    eager: bool = False
    name: str = "safemp"
    idle_timeout: float | None = None
    inner_max_num_threads: int | None = None
    forward_logging: bool = True
    capture_output: bool = False
    trace: str | os.PathLike[str] | bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.trace, (str, os.PathLike, bool)):
            raise TypeError(f"trace must be a path or a bool, not {type(self.trace).__name__}")
        if not isinstance(self.trace, bool):
            with open(self.trace, "a"):  # now, and not when all is done and would be lost
                pass
        _check_seconds("idle_timeout", self.idle_timeout)
        threads = self.inner_max_num_threads
        if threads is not None:
            if not isinstance(threads, int):
                raise TypeError(f"inner_max_num_threads must be an int or None, not {type(threads).__name__}")
            if threads < 0:
                raise ValueError("inner_max_num_threads must be >= 0")


def _check_seconds(name: str, value: float | None) -> None:
    if value is None:
        return
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(value).__name__}")
    if not value > 0:  # NaN, too
        raise ValueError(f"{name} must be > 0 (seconds)")
