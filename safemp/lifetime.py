"""What becomes of pools that nobody has ended: when the interpreter ends, and in a fork.

The interpreter first has us end them, then waits for threads, then multiprocessing
waits for child processes: in this order nothing waits for something that waits for it.
In a process that multiprocessing started, its own exit functions come first, so we are
among those, too.
"""

from __future__ import annotations

import os
import threading
from multiprocessing import process, util
from typing import Any, Protocol
from weakref import WeakSet

from safemp.engines import Engine

__all__ = ["disown", "forget", "track"]


class _Front(Protocol):
    def _at_exit(self) -> None: ...

    def _forked(self) -> None: ...


_open: WeakSet[_Front] = WeakSet()
_registered_in: int | None = None


def track(front: _Front) -> None:
    """Have *front* ended with the interpreter."""
    global _registered_in
    if _registered_in != os.getpid():
        # multiprocessing clears these in its children, so once for each process.
        util.Finalize(None, _end_all, exitpriority=100)
        _registered_in = os.getpid()
    _open.add(front)


def forget(front: _Front) -> None:
    """Say that *front* has been ended."""
    _open.discard(front)


def disown(engine: Engine) -> None:
    """In a forked child: workers are children of the parent, not to be waited for here.

    Takes no lock: a thread that is not in this child may have held it.
    """
    children: set[Any] = process._children  # type: ignore[attr-defined]
    children.difference_update(worker.process for worker in list(getattr(engine, "workers", {}).values()))


def _end_all() -> None:
    for front in list(_open):
        front._at_exit()


def _after_fork() -> None:
    for front in list(_open):
        front._forked()
    _open.clear()


threading._register_atexit(_end_all)  # type: ignore[attr-defined]
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
