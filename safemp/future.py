"""A future that decodes its outcome in the thread that asks for it, once.

Its condition is made when somebody waits for several, or adds a callback. Most futures of a storm
have finished by then, and a condition costs more than all the rest of a future. Who waits for
one, in ``result``, has a lock that is opened for him (a *gate*), which is all that waiting takes.

Rule: while there is no condition, the state changes under ``_changing`` only; once there is one,
under that, as in ``concurrent.futures``. Gates are opened after it has changed.
"""

from __future__ import annotations

import os
import sys
import threading
from _thread import LockType, allocate_lock
from concurrent.futures import CancelledError, Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures._base import CANCELLED, CANCELLED_AND_NOTIFIED, FINISHED, PENDING, RUNNING
from typing import Any, TypeVar

from safemp import lifetime
from safemp.codec.calls import decode_outcome, failed
from safemp.codec.frames import Frames
from safemp.engines import Engine, Outcome, Task
from safemp.engines.listener import settle
from safemp.errors import SafempError
from safemp.steady import steady_condition

__all__ = ["SafeFuture"]

T = TypeVar("T")

_changing = threading.RLock()  # a finalizer may come in between, and do as it likes with a future


def _after_fork() -> None:
    """Free the lock: a thread that is not in this child may have held it."""
    global _changing
    _changing = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


_UNREAD = SafempError("this outcome has not been decoded yet")
"""In the place of an error that nobody has asked for. Never raised, never shown."""


class SafeFuture(Future[T]):
    """A ``concurrent.futures.Future`` of a call made in a worker.

    What it is asked for (``result``, ``exception``) is decoded in the asking thread,
    so that a user's ``__setstate__`` can neither stall nor break the pool. Waiting,
    callbacks, ``wait``, ``as_completed`` and ``asyncio.wrap_future`` are as usual.

    Args:
        engine: What runs the call, for ``kill``. ``submit`` makes futures; who makes one
            himself, for a test say, leaves it out.
    """

    __module__ = "safemp"

    _spent: Any = None
    """What the call was made of, until the thread lets go of it that has waited."""

    def __init__(self, engine: Engine | None = None) -> None:
        # As ``Future.__init__``, but for the condition, and the lists that are read and changed under it.
        self._made: threading.Condition | None = None
        self._gates: tuple[LockType, ...] = ()
        self._state = PENDING
        self._result: Any = None
        self._exception: Any = None
        self._waiters: Any = ()
        self._done_callbacks: Any = ()
        self._outcome: Any = None
        self._decoding: Any = None
        self._engine = engine
        self._task: Task | None = None

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        if self._made is None:
            made = steady_condition()
            with _changing:
                if self._made is None:
                    self._waiters, self._done_callbacks = [], []
                    self._made = made
        return self._made

    def _begin(self, task: Task) -> bool:
        """Start running as *task*, unless cancelled or settled; running already is as good."""
        with _changing:
            if self._made is None:
                self._state = RUNNING
                self._task = task
                return True
        with self._condition:
            if self._state == PENDING:
                self._state = RUNNING
            if self._state == RUNNING:
                self._task = task
                return True
            if self._state != CANCELLED:
                return False  # the program has settled it by itself
        return self.set_running_or_notify_cancel()

    def kill(self) -> bool:
        """Cancel the call, or end it when it is running.

        A running call's worker is killed, with all that the call has started; other
        calls are undisturbed. ``result`` raises ``TaskKilled`` then, a ``CancelledError``.

        Returns:
            Whether the call will not finish; ``False``: it has, or its engine cannot
            end running calls.
        """
        if self.cancel():
            return True
        task, engine = self._task, self._engine
        return task is not None and engine is not None and engine.end_task(task)

    def _settle(self, outcome: Outcome) -> None:
        """Finish with *outcome*. Called once, by the engine's thread."""
        self._task = self._engine = None
        error: BaseException | None
        if isinstance(outcome, list):
            frames, error = outcome, _UNREAD if failed(outcome) else None
        else:
            assert isinstance(outcome, BaseException), "a call's value comes in frames"
            frames, error = None, outcome
        with _changing:
            alone = self._made is None  # nobody waits for several, and there are no callbacks
            if alone:
                self._outcome, self._exception = frames, error
                self._state = FINISHED
        if alone:
            self._open()
            return
        with self._condition:
            if self.done():
                return  # the program has settled it by itself
            self._outcome, self._exception = frames, error
            self._state = FINISHED
            for waiter in self._waiters:  # as ``Future.set_result`` does
                (waiter.add_result if error is None else waiter.add_exception)(self)
            self._condition.notify_all()
        self._invoke_callbacks()

    def _give(self, outcome: Frames, task: Any) -> bool:
        """Finish with *outcome*, if somebody waits for this future by itself; he lets go of the call, too.

        For any thread, also one that must neither wait nor run a user's code: a destructor of what was sent.
        """
        if not _changing.acquire(blocking=False):
            return False
        try:
            if self._made is not None or not self._gates:
                return False
            self._spent, task._call = task._call, None
            self._task = self._engine = None
            self._outcome = outcome
            self._exception = _UNREAD if failed(outcome) else None
            self._state = FINISHED
        finally:
            _changing.release()
        self._open()
        return True

    def _open(self) -> None:
        """Let go on who waits for this future by itself. Its state has changed."""
        if self._gates:
            with _changing:
                gates, self._gates = self._gates, ()
            for gate in gates:
                gate.release()

    def _invoke_callbacks(self) -> None:  # what sets the state under the condition calls this then
        self._open()
        super()._invoke_callbacks()  # type: ignore[misc]

    def _await(self, timeout: float | None) -> bool:
        """Wait until the call has finished or was cancelled; tell whether it has, in *timeout* seconds."""
        gate = allocate_lock()
        gate.acquire()
        with _changing:
            if self.done():
                return True
            self._gates = (*self._gates, gate)
        with lifetime.waiting:
            opened = gate.acquire(True, -1 if timeout is None else max(0.0, timeout))
        if not opened:
            with _changing:
                self._gates = tuple(each for each in self._gates if each is not gate)
        if self._spent is not None:
            self._spent = None
        return opened or self.done()

    def _decode(self) -> None:
        if self._outcome is None:
            return
        if self._decoding is None:
            made = threading.RLock()
            with _changing:
                self._decoding = self._decoding or made
        with self._decoding:
            if self._outcome is None:
                return
            good, value = decode_outcome(self._outcome)
            self._result = value if good else None
            self._exception = None if good else value
            self._outcome = None

    def _finish(self, timeout: float | None) -> None:
        """Wait until the call has finished.

        Raises:
            TimeoutError: It has not, in *timeout* seconds.
            CancelledError: It was cancelled.
        """
        if self._state != FINISHED:
            if not self._await(timeout):
                raise FutureTimeoutError
            if self._state != FINISHED:
                raise CancelledError

    def _read(self) -> None:
        """Be ready to be read: what the worker had said before is handled first."""
        if self._outcome is not None or self._exception is not None:
            settle()
            self._decode()

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned, or raise what it raised.

        Args:
            timeout: Seconds to wait; ``None``: until it is done.

        Raises:
            TimeoutError: The wait was too short. The call goes on.
            CancelledError: The future was cancelled.
            ResultError: What the call returned could not be sent, or does not load here.
            WorkerCrashed: The worker's process ended during the call.
            BaseException: What the call raised, as its own class.
        """
        try:
            self._finish(timeout)
            self._read()
            if self._exception is not None:
                raise self._exception
            return self._result  # type: ignore[no-any-return]
        finally:
            self = None  # type: ignore[assignment]  # no cycle of error, traceback, future

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, ``None`` if it returned.

        Args:
            timeout: Seconds to wait; ``None``: until it is done.

        Raises:
            TimeoutError: The wait was too short.
            CancelledError: The future was cancelled.
        """
        self._finish(timeout)
        self._read()
        error: BaseException | None = self._exception
        # (isinstance would ask the error's own __class__, which is user code.)
        if issubclass(type(error), StopIteration) and sys._getframe(1).f_globals.get("__name__") == "asyncio.futures":
            # asyncio's futures refuse it, and before Python 3.12 whoever awaits one
            # would wait for ever: https://github.com/python/cpython/issues/112182
            made = RuntimeError("the call raised StopIteration")
            made.__cause__ = error
            return made
        return error

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the call has finished; tell whether it has.

        Args:
            timeout: Seconds; ``None``: until it has.
        """
        return self.done() or self._await(timeout)

    def done(self) -> bool:
        """Tell whether the call has finished or was cancelled."""
        return self._state in (FINISHED, CANCELLED, CANCELLED_AND_NOTIFIED)

    def failed(self) -> bool:
        """Tell, without decoding it, whether the outcome is anything but a value."""
        return self._state != FINISHED or self._exception is not None

    def _get_snapshot(self) -> Any:  # what asyncio reads from Python 3.14 on
        self._decode()
        return super()._get_snapshot()  # type: ignore[misc]

    def __repr__(self) -> str:
        if self._outcome is not None:
            return f"<{type(self).__name__} at {id(self):#x} state=finished>"
        return super().__repr__()
