"""Locks under which no handler of a signal comes in between.

Python runs handlers in the main thread, between any two instructions. What one raises, as
Ctrl-C does, would leave half done what is done under a lock: a call that a worker is said to
have, and that was never sent; or a lock that was taken, and that nobody gives back. And a
handler that ends a pool would wait for ever for the lock which its own thread holds.

So while the main thread holds one of these, handlers wait, and have their turn when it has let
go of the last. Nothing that takes long is done under one, and no code of the user runs.
It costs the main thread a microsecond, and the others next to nothing.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums, which take five times as long
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Any

__all__ = ["SteadyLock", "by_a_handler", "steady_condition", "steady_event"]

_Handler = Callable[[int, Any], Any]

_NUMBERS = tuple(
    int(getattr(signal, name))
    for name in (
        *("SIGINT", "SIGTERM", "SIGALRM", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGBREAK"),
        *("SIGPROF", "SIGVTALRM", "SIGXCPU"),  # by which a program limits its own time
    )
    if hasattr(signal, name)
)
"""The signals for which programs write handlers that raise, or end something."""


_getsignal = _signal.getsignal
_setsignal = _signal.signal
_get_ident = threading.get_ident

# What follows is the main thread's, and only it changes it.

_main: int | None = threading.main_thread().ident

_holds = 0
"""How many of these locks it has."""

_waiting: list[tuple[int, _Handler]] = []
"""The handlers that wait."""

_come: set[int] = set()
"""The signals that have come meanwhile."""

_seen: list[Any] = []
"""The handlers of all signals when that list was made."""


def _later(number: int, frame: Any) -> None:
    """Stand in for a handler that waits."""
    _come.add(number)


def _begin() -> None:
    """Have handlers wait."""
    global _seen, _waiting
    handlers = list(map(_getsignal, _NUMBERS))  # no tuple: Python keeps 2 000 of those whose size was not known before
    if handlers != _seen:
        _waiting = [each for each in zip(_NUMBERS, handlers, strict=True) if callable(each[1])]
        _seen = handlers
    try:
        for number, _ in _waiting:
            _setsignal(number, _later)
    except ValueError:  # the main thread of a subinterpreter, where there are no handlers
        _waiting = []
    except BaseException:  # out of a handler that does not wait yet
        _end()
        raise


def _end(at: int = 0) -> None:
    """Give handlers their turn, from the one at *at* on."""
    try:
        for number, handler in _waiting[at:] if at else _waiting:
            _setsignal(number, handler)
            at += 1
    except BaseException:  # out of one that has it
        _end(at)
        raise
    if _come:
        for number, handler in _waiting:
            if number in _come:
                _come.discard(number)
                handler(number, sys._getframe(1))


class SteadyLock:
    """A lock, as ``threading.RLock``, while the main thread has which handlers of signals wait."""

    __slots__ = ("_is_owned", "_lock")

    def __init__(self) -> None:
        lock: Any = threading.RLock()
        self._lock = lock
        self._is_owned: Callable[[], bool] = lock._is_owned  # as the last two: for ``Condition``

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None or self._is_owned():  # a wait has let go of it, and a handler raises before it has it again
            self.release()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it: see ``threading.RLock.acquire``."""
        global _holds
        if _get_ident() != _main:
            return bool(self._lock.acquire(blocking, timeout))
        if not _holds:
            _begin()
        if self._lock.acquire(blocking, timeout):
            _holds += 1
            return True
        if not _holds:
            _end()
        return False

    __enter__ = acquire

    def release(self) -> None:
        """Let go of it: see ``threading.RLock.release``."""
        global _holds
        self._lock.release()
        if _get_ident() == _main:
            _holds -= 1
            if not _holds:
                _end()

    def locked(self) -> bool:
        """Tell whether somebody has it."""
        if self._is_owned():
            return True
        free = self._lock.acquire(blocking=False)
        if free:
            self._lock.release()
        return not free

    def _release_save(self) -> Any:
        global _holds
        state = self._lock._release_save()
        if _get_ident() == _main:
            _holds -= state[0]
            if not _holds:
                _end()
        return state

    def _acquire_restore(self, state: Any) -> None:
        global _holds
        main = _get_ident() == _main
        if main and not _holds:
            _begin()
        self._lock._acquire_restore(state)
        if main:
            _holds += state[0]


def steady_condition() -> threading.Condition:
    """Make a condition whose lock is such a one."""
    return threading.Condition(SteadyLock())  # type: ignore[arg-type]


def steady_event() -> threading.Event:
    """Make an event whose condition is such a one."""
    event: Any = threading.Event()
    if hasattr(event, "_cond"):  # gevent's has none
        event._cond = steady_condition()
    return event  # type: ignore[no-any-return]


_traceback_of: Any = BaseException.__dict__["__traceback__"].__get__  # past what a class of the user's may make of it


def by_a_handler(error: BaseException) -> bool:
    """Tell whether *error* comes out of a handler of a signal, and not of what it has interrupted.

    As ``sys.exit()`` on SIGTERM does while a call is pickled: no object is to blame for that.
    """
    if _get_ident() != _main:
        return False
    codes = [_code_of(handler) for number in _NUMBERS if callable(handler := _getsignal(number))]
    trace = _traceback_of(error)
    while trace is not None:
        if any(trace.tb_frame.f_code is code for code in codes):
            return True
        trace = trace.tb_next
    return False


def _code_of(handler: Any) -> Any:
    while type(handler) is partial:
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    return getattr(function, "__code__", None) or getattr(type(handler).__call__, "__code__", None)


def _after_fork() -> None:
    """Be the main thread, whatever the one was at that was it."""
    global _holds, _main
    _main, _holds = threading.get_ident(), 0
    _come.clear()
    for number, handler in _waiting:
        if _getsignal(number) is _later:
            _setsignal(number, handler)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
