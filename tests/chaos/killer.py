"""Kills workers from outside, at random moments, and remembers whom it has hit."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

WAYS = ("SIGKILL", "SIGSEGV", "SIGABRT", "SIGTERM", "SIGSTOP and SIGKILL")


class Killer:
    """A thread that kills workers while they work. Workers that have stopped themselves are killed, too.

    Args:
        draw: Where the choices come from.
        workers: Returns the pids of all workers there are.
        progress: Returns a number that grows with each job that begins.
        every: Jobs that begin between two kills, at most. So that however slow the
            machine is, most of what it does is not starting workers.
        spare_stopped: Let those lie that have stopped themselves.
    """

    def __init__(
        self,
        draw: random.Random,
        workers: Callable[[], Iterable[int]],
        progress: Callable[[], int],
        every: int,
        *,
        spare_stopped: bool = False,
    ) -> None:
        self.hits: Counter[str] = Counter()
        self.pids: set[int] = set()
        self._draw = draw
        self._workers = workers
        self._progress = progress
        self._every = every
        self._spare_stopped = spare_stopped
        self._stop = threading.Event()
        self._calm = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def calm(self) -> None:
        """Kill only what has stopped itself."""
        self._calm.set()

    def stop(self) -> None:
        """End; return when nobody will be killed any more."""
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = 0
        while not self._stop.wait(0.002):
            pids = list(self._workers())
            if not self._spare_stopped:
                for pid in pids:
                    if _state(pid) == "T":
                        self._hit(pid, signal.SIGKILL)
            if self._calm.is_set() or self._progress() < due or not pids:
                continue
            self._kill(self._draw.choice(pids), self._draw.choice(WAYS))
            due = self._progress() + self._draw.randint(1, self._every)

    def _kill(self, pid: int, way: str) -> None:
        if way != "SIGSTOP and SIGKILL":
            hit = self._hit(pid, signal.Signals[way])
        elif hit := self._hit(pid, signal.SIGSTOP):
            self._stop.wait(self._draw.uniform(0, 0.05))
            hit = self._hit(pid, signal.SIGKILL)
        self.hits[way] += hit

    def _hit(self, pid: int, number: signal.Signals) -> bool:
        """Send a signal to *pid*, if that is a child of ours that runs: pids are used again."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return False
        try:
            if _parent(pid) != os.getpid() and not _descends(pid):
                return False
            signal.pidfd_send_signal(fd, number)
        except OSError:
            return False
        finally:
            os.close(fd)
        self.pids.add(pid)
        return True


def _stat(pid: int) -> list[str] | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _state(pid: int) -> str | None:
    stat = _stat(pid)
    return stat[0] if stat else None


def _parent(pid: int) -> int | None:
    stat = _stat(pid)
    return int(stat[1]) if stat and stat[0] not in "ZX" else None


def _descends(pid: int) -> bool:
    """Tell whether *pid* is a grandchild of ours: of a fork server."""
    parent = _parent(pid)
    return parent is not None and _parent(parent) == os.getpid()
