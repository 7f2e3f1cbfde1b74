"""The cases at which pools have hung: faults while a call or its result is pickled, loaded, run or freed.

All of CPython's ``test_concurrent_futures/test_deadlock.py`` and of loky's
``test_reusable_executor.py::TestExecutorDeadLock``, as a table: where it happens, what
happens. ``python -m tests.support.deadlocks`` prints what ``multiprocessing.Pool`` does.
"""

from __future__ import annotations

import ctypes
import json
import multiprocessing
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.support.child import until

FAULTS = ("error", "exit", "c_exit", "crash")


class Fault(pickle.PicklingError):
    """What the fault "error" raises."""


def commit(fault: str, home: int = 0) -> None:
    """Have *fault* happen, unless this is the process *home*. "none" is none."""
    if os.getpid() == home:
        return
    if fault == "error":
        raise Fault("the fault")
    if fault == "exit":
        sys.exit(1)
    if fault == "c_exit":
        ctypes.CDLL(None).exit(7)
    if fault == "crash":
        ctypes.string_at(0)


class AtPickle:
    """Commits its fault when it is pickled, in any process but *home*."""

    def __init__(self, fault: str, home: int = 0) -> None:
        self.fault = fault
        self.home = home

    def __reduce__(self) -> Any:
        commit(self.fault, self.home)
        return AtPickle, (self.fault, self.home)


class AtUnpickle:
    """Commits its fault when it is loaded, in any process but *home*."""

    def __init__(self, fault: str, home: int = 0) -> None:
        self.fault = fault
        self.home = home

    def __reduce__(self) -> Any:
        return _load, (self.fault, self.home)


def _load(fault: str, home: int) -> AtUnpickle:
    commit(fault, home)
    return AtUnpickle(fault, home)


class AtFree:
    """Commits its fault when it is freed, in any process but *home*."""

    def __init__(self, fault: str, home: int) -> None:
        self.fault = fault
        self.home = home

    def __del__(self) -> None:
        commit(self.fault, self.home)


class Error(Exception):
    """An exception with something in it."""


def give_at_pickle(fault: str) -> AtPickle:
    return AtPickle(fault)


def give_at_unpickle(fault_and_home: tuple[str, int]) -> AtUnpickle:
    fault, home = fault_and_home
    return AtUnpickle(fault, home)


def raise_at_pickle(fault: str) -> str:
    if fault == "none":
        return fault
    raise Error(AtPickle(fault))


def raise_at_unpickle(fault_and_home: tuple[str, int]) -> str:
    fault, home = fault_and_home
    if fault == "none":
        return fault
    raise Error(AtUnpickle(fault, home))


def run_fault(fault: str) -> None:
    commit(fault)


def take(value: Any) -> str:
    return type(value).__name__


def crash_later(seconds: float) -> None:
    time.sleep(seconds)
    commit("crash")


def crash_with(_: str) -> None:
    """Crash while the caller may still be writing the next argument."""
    commit("crash")


def kill_friend(pid: int) -> None:
    """Kill another worker, which may be at the same."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # somebody else was faster
        pass


Case = tuple[Callable[[Any], Any], Callable[[str], Any], tuple[str, ...]]

CASES: dict[str, Case] = {
    # Where: the function, how to make its argument of the fault, the faults there can be.
    "argument pickled": (take, AtPickle, ("error", "exit")),
    "argument loaded": (take, lambda fault: AtUnpickle(fault, os.getpid()), FAULTS),
    "run": (run_fault, str, FAULTS),
    "argument freed": (take, lambda fault: AtFree(fault, os.getpid()), FAULTS),
    "result pickled": (give_at_pickle, str, FAULTS),
    "result loaded in the worker": (give_at_unpickle, lambda fault: (fault, os.getpid()), FAULTS),
    "result loaded": (give_at_unpickle, lambda fault: (fault, -1), ("error", "exit")),
    "error pickled": (raise_at_pickle, str, FAULTS),
    "error loaded in the worker": (raise_at_unpickle, lambda fault: (fault, os.getpid()), FAULTS),
    "error loaded": (raise_at_unpickle, lambda fault: (fault, -1), ("error", "exit")),
}

ALL = [(where, fault) for where, (_, _, faults) in CASES.items() for fault in faults]


def _today(where: str, fault: str) -> str:
    """Return what ``multiprocessing.Pool`` does: an error's name, "answer" or "never"."""
    function, make, _ = CASES[where]
    pool = multiprocessing.get_context("fork").Pool(1)
    before = [worker.pid for worker in pool._pool]  # type: ignore[attr-defined]
    try:
        result = pool.apply_async(function, (make(fault),))
    except BaseException as error:
        return type(error).__name__

    def lost() -> bool:
        # Two ways of never answering: the thread that reads results has died, or the
        # worker has, and another one has taken its place without its task.
        workers = [worker.pid for worker in pool._pool]  # type: ignore[attr-defined]
        handlers = (pool._task_handler, pool._result_handler)  # type: ignore[attr-defined]
        return workers != before or not all(handler.is_alive() for handler in handlers)

    until(lambda: result.ready() or lost())
    if not result.ready():
        time.sleep(0.2)
    try:
        result.get(0)
    except multiprocessing.TimeoutError:
        return "never"
    except BaseException as error:
        return type(error).__name__
    return "answer"


def main() -> None:
    """Print what today's pool does in each case, and end without waiting for anybody."""
    print(json.dumps({f"{where}: {fault}": _today(where, fault) for where, fault in ALL}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
