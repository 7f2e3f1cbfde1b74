"""What becomes of pools that nobody has ended: when the interpreter ends, and in a fork.

The interpreter first has us end them, then waits for threads, then multiprocessing
waits for child processes: in this order nothing waits for something that waits for it.
A ``Pool`` is ended after the threads, which may use it still, and at multiprocessing's
place among the exit functions; as the standard library's.
In a process that multiprocessing started, its own exit functions come first, so we are
among those, too.

What an executor has taken it finishes first, as in the standard library, unless nobody
waits any more: Ctrl-C, or a signal handler's ``sys.exit``, has ended a wait for it, here
or earlier (``waiting``).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from multiprocessing import process, util
from types import TracebackType
from typing import Any, Protocol
from weakref import WeakSet

from safemp.engines import Engine, running

__all__ = ["abandon", "disown", "forget", "track", "waiting"]


class _Front(Protocol):
    _engine: Engine
    _outlives_threads: bool

    def _at_exit(self, now: bool) -> None: ...

    def _forked(self) -> None: ...


_open: WeakSet[_Front] = WeakSet()
_registered_in: int | None = None


def track(front: _Front) -> None:
    """Have *front* ended with the interpreter."""
    global _registered_in
    if _registered_in != os.getpid():
        # multiprocessing clears these in its children, so once for each process.
        util.Finalize(None, _end_all, (False,), exitpriority=100)
        _registered_in = os.getpid()
    _open.add(front)


def forget(front: _Front) -> None:
    """Say that *front* has been ended."""
    _open.discard(front)


def abandon(engine: Engine) -> None:
    """Close *engine*, whose front nobody refers to any more; it finishes what it has taken."""
    running.add(engine)
    engine.abandon()


def disown(engine: Engine) -> None:
    """In a forked child: workers are children of the parent, not to be waited for here.

    Takes no lock: a thread that is not in this child may have held it.
    """
    children: set[Any] = process._children  # type: ignore[attr-defined]
    children.difference_update(worker.process for worker in list(getattr(engine, "workers", {}).values()))


class _Waiting:
    """A context for waits: it remembers whether the last one was broken off.

    In a wait of ours no code of the user runs. So what comes out of it and is no
    ``Exception`` is Ctrl-C, or was raised by the handler of another signal. Handlers run
    in the main thread, so only its waits count.

    Attributes:
        broken_off: Whether it was, and the main thread has not gone on since.
    """

    def __init__(self) -> None:
        self.broken_off: bool = False

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if threading.get_ident() == _main:
            self.broken_off = kind is not None and not issubclass(kind, Exception)

    def goes_on(self) -> None:
        """Say that there is new work, after a wait was broken off."""
        if threading.get_ident() == _main:
            self.broken_off = False


waiting: _Waiting = _Waiting()
_main = threading.main_thread().ident


def _end_all(before_threads: bool) -> None:
    now = waiting.broken_off or isinstance(getattr(sys, "last_value", None), KeyboardInterrupt)
    while True:
        try:
            later = {front for front in _open if before_threads and front._outlives_threads and not now}
            for front in [front for front in _open if front not in later]:
                front._at_exit(now)
            kept = {front._engine for front in later}
            for engine in [engine for engine in running if engine not in kept]:
                # Its front is gone, or never was: Ctrl-C in a constructor.
                if now:
                    engine.kill(signal.SIGTERM)
                engine.close()
            return
        except (KeyboardInterrupt, SystemExit) as error:
            # The program is over, and somebody will not wait for its calls.
            if isinstance(error, KeyboardInterrupt) and not now and sys.stderr is not None:
                print("KeyboardInterrupt: calls that had not finished are given up", file=sys.stderr)
            now = True


def _after_fork() -> None:
    global _main
    _main = threading.get_ident()
    waiting.broken_off = False
    for front in list(_open):
        front._forked()
    _open.clear()
    for engine in list(running):
        disown(engine)
    running.clear()
    # Threads that are not in this child may have held them.
    for name in ("multiprocessing.resource_tracker", "loky.backend.resource_tracker"):
        tracker: Any = getattr(sys.modules.get(name), "_resource_tracker", None)
        if hasattr(tracker, "_lock"):
            tracker._lock = type(tracker)()._lock  # each Python and loky has its own kind


threading._register_atexit(_end_all, True)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
