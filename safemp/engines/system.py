"""What differs from one operating system to the next, in one place.

Each function says what it falls back to where the best way does not exist.
"""

from __future__ import annotations

import os
import select
import selectors
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from safemp.engines.ledger import PAGE

__all__ = [
    "Poller",
    "descendants",
    "die_with",
    "interrupts_held",
    "ledger_file",
    "let_interrupts_in",
    "nameless_file",
    "open_pidfd",
    "resident",
    "signal_name",
]

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
"""Bytes in which ``/proc/<pid>/statm`` counts."""

KILL: int = getattr(signal, "SIGKILL", signal.SIGTERM)
STOP: int = getattr(signal, "SIGSTOP", 0)
CONTINUE: int = getattr(signal, "SIGCONT", 0)
"""Signals; where there is no such thing (Windows) SIGTERM, which cannot be caught there either, and 0."""

_PR_SET_PDEATHSIG = 1
"""prctl(2)."""


@contextmanager
def interrupts_held(method: str) -> Iterator[None]:
    """Have what this thread starts meanwhile not hear of Ctrl-C, until it lets it in.

    An interpreter that is interrupted while it starts dies with a fatal error on stderr.
    A fork server would hand that on to processes that are not ours.

    Args:
        method: The start method.
    """
    if method == "forkserver" or not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def let_interrupts_in() -> None:
    """Hear of Ctrl-C again, also of one that came meanwhile."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def die_with(parent: int, direct: bool) -> None:
    """End this process when its parent ends, also in the middle of a C loop.

    Linux: the kernel sends SIGKILL when the thread that forked us ends. Elsewhere a
    thread looks twice a second, which a task that never releases the GIL can delay.

    Args:
        parent: The caller's process id.
        direct: Whether the caller is our parent, and no fork server between us. If there
            is one, it must end with the caller, and we end with it.
    """
    _let_go_of_fork_server()
    if sys.platform == "linux":
        try:
            import ctypes

            if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) == 0:
                if direct and os.getppid() != parent:
                    os._exit(0)
                return
        except (ImportError, OSError, AttributeError):
            pass

    def watch() -> None:
        ours = os.getppid()
        while os.getppid() == ours:
            time.sleep(0.5)
        os._exit(0)

    threading.Thread(target=watch, name="safemp-parent-watch", daemon=True).start()


def _let_go_of_fork_server() -> None:
    """Do not keep the caller's fork server, be it our parent or a sibling.

    It stays for as long as anybody holds the pipe by which it is told, and its children
    hold that, as do ours by ``fork``. So it would wait for us as we wait for it. A pool
    made here starts a fork server of its own (which multiprocessing refuses in a forked
    process that has inherited one).
    """
    module = sys.modules.get("multiprocessing.forkserver")
    if module is None:
        return
    server: Any = module._forkserver
    fd, server._forkserver_alive_fd = server._forkserver_alive_fd, None
    server._forkserver_pid = server._forkserver_address = None
    if fd is not None:
        os.close(fd)


def open_pidfd(pid: int) -> int | None:
    """Open a descriptor that becomes readable when child *pid* ends.

    Returns:
        ``None`` where there is none (not Linux, or a kernel before 5.3): then the
        process's sentinel must do, which a grandchild can hold open.
    """
    if hasattr(os, "pidfd_open"):
        try:
            return os.pidfd_open(pid)
        except OSError:
            return None
    return None


def ledger_file() -> int:
    """Open a nameless file of ``ledger.PAGE`` bytes. The caller closes it."""
    return nameless_file("safemp-ledger", PAGE)


def nameless_file(label: str, size: int) -> int:
    """Open a file of *size* bytes that is in no directory. The caller closes it.

    Args:
        label: What ``/proc/PID/fd`` shows.
        size: In bytes, all zero.
    """
    if hasattr(os, "memfd_create"):
        try:
            fd = os.memfd_create(label)
        except OSError:
            fd = -1
        if fd >= 0:
            try:
                os.ftruncate(fd, size)
            except OSError:  # larger than files may be: RLIMIT_FSIZE
                os.close(fd)
                raise
            return fd
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


def resident(pid: int) -> int:
    """Return the bytes of memory that process *pid* has resident (Linux; elsewhere 0)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def descendants(pid: int) -> list[int]:
    """Return the process ids of all that *pid* has started, directly or not (Linux; elsewhere none).

    Those that have cut themselves off, as daemons do, cannot be told.
    """
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc") if sys.platform == "linux" else []:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):  # it has ended
                continue
            children.setdefault(parent, []).append(int(entry))
    found: list[int] = []
    todo = [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def signal_name(number: int) -> str:
    """Name a signal: ``SIGSEGV``; ``signal 40`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Poller:
    """Waits for many descriptors: epoll on Linux, else what ``selectors`` has.

    Not for several threads at once.
    """

    def __init__(self) -> None:
        self._epoll: Any = select.epoll() if hasattr(select, "epoll") else None
        self._selector = None if self._epoll is not None else selectors.DefaultSelector()

    def add(self, fd: int) -> None:
        """Wait until *fd* can be read."""
        if self._epoll is not None:
            self._epoll.register(fd, select.EPOLLIN)
        else:
            assert self._selector is not None
            self._selector.register(fd, selectors.EVENT_READ)

    def watch_writes(self, fd: int, on: bool) -> None:
        """Wait until *fd* can be written, too."""
        if self._epoll is not None:
            self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if on else 0))
        else:
            assert self._selector is not None
            self._selector.modify(fd, selectors.EVENT_READ | (selectors.EVENT_WRITE if on else 0))

    def remove(self, fd: int) -> None:
        """Forget *fd*. Before it is closed."""
        if self._epoll is not None:
            self._epoll.unregister(fd)
        else:
            assert self._selector is not None
            self._selector.unregister(fd)

    def wait(self, timeout: float | None) -> list[int]:
        """Return the descriptors that are ready.

        Args:
            timeout: Seconds; ``None``: for ever.
        """
        if self._epoll is not None:
            return [fd for fd, _ in self._epoll.poll(timeout)]
        assert self._selector is not None
        return [key.fd for key, _ in self._selector.select(timeout)]

    def close(self) -> None:
        """Give the descriptors back."""
        poller = self._epoll or self._selector
        assert poller is not None
        poller.close()
