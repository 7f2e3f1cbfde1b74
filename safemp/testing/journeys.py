"""There and back: to a worker process, by safemp or by stock pickle.

A process of its own finds what a copy in one process does not: an object that is looked up
in a registry which only this process has filled, a class that only it can import. The
worker is one of ``safemp.map``'s, which stay warm.
"""

from __future__ import annotations

import os
from dataclasses import replace
from platform import node
from typing import Any, NoReturn

from safemp import maps
from safemp.codec import calls
from safemp.codec.exceptions import Where
from safemp.codec.frames import Frames
from safemp.codec.statics import type_name
from safemp.codec.walker import reason_of
from safemp.engines.crash import TaskTimeout, WorkerCrashed
from safemp.errors import Culprit, PreflightError
from safemp.executor import SafeExecutor
from safemp.result_error import ResultError
from safemp.testing import stock

__all__ = ["StuckError", "by_pickle", "by_safemp", "raised_by_safemp"]

_IN_WORKER = " in the worker"

_DEADLINE = 60.0
"""Seconds for one way there and back; ``TaskTimeout`` says where it hangs. Picked, not measured."""


class StuckError(Exception):
    """An object that did not come back.

    Attributes:
        culprits: What in it is to blame, and why.
        where: Where it got stuck, as words to append.
    """

    def __init__(self, culprits: tuple[Culprit, ...], where: str = "") -> None:
        super().__init__(culprits, where)
        self.culprits = culprits
        self.where = where


def _worker() -> SafeExecutor:
    return maps.shared().options(task_timeout=_DEADLINE)


def by_safemp(obj: Any, name: str) -> Any:
    """Send *obj* to a worker as an argument, and have it returned.

    Args:
        obj: It.
        name: What paths of culprits begin with.

    Raises:
        StuckError: It did not come back.
        WorkerCrashed: It ended its worker.
        TaskTimeout: It hangs there.
    """
    try:
        return _worker().submit(_same, obj).result()
    except PreflightError as error:
        culprits = error.culprits
        if culprits[0].path == "the call":  # it loads here
            raise StuckError((_there(obj, name, culprits[0].reason),), _IN_WORKER) from None
        raise StuckError(_renamed(culprits, "args[0]", name)) from None
    except ResultError as error:
        raise StuckError(_renamed(error.culprits, "result", name), " on the way back") from None


def raised_by_safemp(exc: BaseException) -> BaseException:
    """Have a task in a worker raise *exc*.

    It goes there as an argument; or, where something in it cannot be sent, as what a task
    raises does, since that always arrives.

    Raises:
        WorkerCrashed: It ended its worker.
        TaskTimeout: It hangs there.
    """
    error: BaseException | None = None
    try:
        error = _worker().submit(_raise, exc).exception()
    except PreflightError:
        pass
    if error is None or _ours(error, exc, PreflightError):
        record = calls.encode_failure(exc, Where("safemp.testing", None, os.getpid(), node()))
        error = _worker().submit(_raise_recorded, record).exception()
    assert error is not None  # neither task does anything else
    if _ours(error, exc, WorkerCrashed) or _ours(error, exc, TaskTimeout):
        raise error
    return error


def _ours(error: BaseException, exc: BaseException, cls: type[BaseException]) -> bool:
    """Tell whether *error* is a *cls* of safemp's making, and not *exc* come back."""
    return issubclass(type(error), cls) and not issubclass(type(exc), cls)  # isinstance asks __class__, the user's


def by_pickle(obj: Any, name: str) -> Any:
    """Send *obj* to a worker and back by plain pickle.

    Raises:
        StuckError: It did not come back.
        WorkerCrashed: It ended its worker.
        TaskTimeout: It hangs there.
    """
    try:
        data = stock.dump(obj)
    except stock.USER_ERRORS as error:  # user code, in __reduce__
        raise StuckError(stock.undumpable(obj, name, error)) from None
    try:
        copy = stock.load(data)
    except stock.USER_ERRORS as error:  # user code, in a constructor or __setstate__
        raise StuckError(stock.unloadable(obj, name, error)) from None
    if b"__main__" in data:  # which is no script in the worker; the standard library's import it
        return copy
    failure, data = _worker().submit(_again, data).result()
    if failure is not None:
        raise StuckError((_there(obj, name, reason_of(failure)),), _IN_WORKER)
    try:
        return stock.load(data)
    except stock.USER_ERRORS as error:  # as above
        raise StuckError(stock.unloadable(obj, name, error), " when it comes back") from None


def _there(obj: Any, name: str, reason: str) -> Culprit:
    fix = "let its class be importable in another process, and make it from nothing that only this process has"
    return Culprit(name, type_name(type(obj)), reason, fix, _obj=obj, problem="does not load")


def _renamed(culprits: tuple[Culprit, ...], root: str, name: str) -> tuple[Culprit, ...]:
    return tuple(replace(culprit, path=culprit.path.replace(root, name, 1)) for culprit in culprits)


# -- in the worker ---------------------------------------------------------------------


def _same(obj: Any) -> Any:
    return obj


def _raise(exc: BaseException) -> NoReturn:
    raise exc


def _raise_recorded(record: Frames) -> NoReturn:
    raise calls.decode_outcome(record)[1]


def _again(data: bytes) -> tuple[BaseException | None, bytes]:
    """Load and dump *data*; return what that raised, and what it gave."""
    try:
        return None, stock.dump(stock.load(data))
    except stock.USER_ERRORS as error:  # user code
        return error, b""
