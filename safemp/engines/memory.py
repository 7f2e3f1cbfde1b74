"""How much memory there is, how much an ended worker had, and whether it was killed for want of it.

Linux kills for two reasons: the machine has no memory left, or a control group (a container)
has used what it is allowed. In both cases it counts the kill in the group of the victim,
which is ours too.

Functions that look at the system take the *root* of the file system, for tests.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from functools import lru_cache
from typing import Any, NamedTuple

from safemp.engines import cgroup

__all__ = ["Limit", "OomKills", "high_water", "is_near", "limit", "oom_kills", "own_peak", "reap", "size"]

_NEAR = 0.8
"""The part of what there is that counts as nearly all. Picked: other processes need some too."""

_LIMIT = ("memory.max", "memory.limit_in_bytes")
_EVENTS = ("memory.events", "memory.oom_control")


def size(n: int) -> str:
    """Write *n* bytes for people: ``950 MB``, ``1.2 GB``."""
    if n < 1000:
        return f"{n} bytes"
    value = n / 1000
    units = ["kB", "MB", "GB", "TB"]
    while value >= 999.5 and len(units) > 1:
        value /= 1000
        units.pop(0)
    # One decimal for a small number, unless that is a zero.
    return f"{value:.0f} {units[0]}" if value >= 99.5 or f"{value:.1f}"[-1] == "0" else f"{value:.1f} {units[0]}"


# -- how much there is --------------------------------------------------------------------


class Limit(NamedTuple):
    """The most memory that this process and its children can have together.

    Attributes:
        bytes: How much.
        of: ``machine``, or ``cgroup`` if that allows less.
    """

    bytes: int
    of: str


def limit(root: str = "/") -> Limit | None:
    """Return the least of the machine's memory and of what our control groups allow.

    Returns:
        ``None``: this system does not say.
    """
    found = [Limit(n, "cgroup") for file in cgroup.files(root, "memory", *_LIMIT) if (n := _number(file)) is not None]
    machine = _machine(root)
    if machine is not None:
        found.append(Limit(machine, "machine"))
    # The largest number means that there is no limit; then the machine's is less.
    return min(found, key=lambda each: each.bytes, default=None)


def _machine(root: str) -> int | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", cgroup.read(os.path.join(root, "proc/meminfo")), re.MULTILINE)
    if match:
        return int(match[1]) * 1024
    try:
        pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows; a system without these names
        return None
    return pages * page if pages > 0 and page > 0 else None


def _number(path: str) -> int | None:
    text = cgroup.read(path).strip()
    return int(text) if text.isdigit() else None  # "max"


# -- what has been killed for it ------------------------------------------------------------


@lru_cache(maxsize=8)
def _events(root: str) -> str:
    """Return the file that counts the kills in our control group; failing that, the machine's."""
    for path in cgroup.files(root, "memory", *_EVENTS):
        if _kills_in(path) is not None:
            return path
    return os.path.join(root, "proc/vmstat")


def _kills_in(path: str) -> int | None:
    match = re.search(r"^oom_kill (\d+)", cgroup.read(path), re.MULTILINE)
    return int(match[1]) if match else None


def oom_kills(root: str = "/") -> int | None:
    """Return how many processes of our control group the kernel has killed for want of memory.

    Returns:
        ``None``: this system does not say.
    """
    return _kills_in(_events(root))


class OomKills:
    """The kills of this kind, each of which explains one death.

    Else one that was long ago would explain whatever dies today. Safe to use from any thread.

    Attributes:
        root: Of the file system.
    """

    def __init__(self, root: str = "/") -> None:
        self.root = root
        self._claimed = 0
        self._lock = threading.Lock()

    def count(self) -> int | None:
        """Return how many there have been."""
        return oom_kills(self.root)

    def claim(self, since: int | None) -> bool:
        """Tell whether there was one after the count was *since* that explains no other death."""
        with self._lock:
            now = self.count()
            if now is None or since is None or now <= (known := max(since, self._claimed)):
                return False
            self._claimed = known + 1
            return True


def is_near(peak: int | None, most: Limit | None) -> bool:
    """Tell whether a process that had *peak* bytes had nearly all there is."""
    return peak is not None and most is not None and peak >= _NEAR * most.bytes


# -- how much one process had -----------------------------------------------------------------


def high_water(pid: int, root: str = "/") -> int | None:
    """Return the most bytes that a living process has had resident (Linux; else ``None``)."""
    match = re.search(r"^VmHWM:\s+(\d+) kB", cgroup.read(os.path.join(root, f"proc/{pid}/status")), re.MULTILINE)
    return int(match[1]) * 1024 if match else None


def own_peak() -> int:
    """Return the most bytes that this process has had resident; 0 where nobody knows."""
    found = high_water(os.getpid())
    if found is not None:  # without what the kernel has counted before our program began
        return found
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return _bytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def _bytes(maxrss: int) -> int:
    return maxrss if sys.platform == "darwin" else maxrss * 1024


_GLANCES = 20
"""Looks, 5 ms apart, whether another thread has come to write down an exit code that it has taken. Picked."""

_PATIENCE = 5.0
"""Seconds that a process gets to end of which a sign of its end has come. Picked."""


def reap(process: Any) -> tuple[int | None, int | None]:
    """Take the exit code of a ``multiprocessing`` process, which has ended, and its peak.

    ``wait4`` gives both; ``multiprocessing`` is told, and does not wait for it again. The
    child of a fork server is not ours: no peak. Nor if ``active_children`` was first, in
    another thread.

    Returns:
        The exit code, ``None`` if somebody else took it; bytes, ``None`` if not known.
    """
    popen = process._popen
    deadline = time.monotonic() + _PATIENCE
    while popen.returncode is None and hasattr(os, "wait4") and time.monotonic() < deadline:
        try:
            pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        except ChildProcessError:
            if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
                return None, None  # the system itself has taken it
            break
        if pid:
            popen.returncode = os.waitstatus_to_exitcode(status)
            process.join()  # only forgets it now
            return popen.returncode, _bytes(usage.ru_maxrss)
        time.sleep(0.002)
    for _ in range(_GLANCES):
        process.join(0.05)  # which does not wait if another thread has reaped it,
        code: int | None = process.exitcode
        if code is not None:
            return code, None
        time.sleep(0.005)  # and has not come to writing down the code
    return None, None
