"""What differs from one operating system to the next, in one place.

Each function says what it falls back to where the best way does not exist.
"""

from __future__ import annotations

import errno
import functools
import mmap
import os
import select
import selectors
import signal
import socket
import sys
import threading
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from safemp.engines.ledger import PAGE

__all__ = [
    "MAPS",
    "Poller",
    "children",
    "die_with",
    "has_templates",
    "interrupts_held",
    "is_alive",
    "is_mapped",
    "is_open",
    "kill_descendants",
    "ledger_file",
    "let_interrupts_in",
    "map_memory",
    "nameless_file",
    "offset_of",
    "open_pidfd",
    "part_of",
    "reaping",
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
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
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


@functools.cache
def has_templates() -> bool:
    """Tell whether workers can be forked of a template: it takes Linux 5.3, ``/proc``, a ``prctl`` that is allowed."""
    if sys.platform != "linux" or not os.path.isdir("/proc/self/task") or (fd := open_pidfd(os.getpid())) is None:
        return False
    os.close(fd)
    try:
        with reaping():
            return True
    except OSError:
        return False


@contextmanager
def reaping() -> Iterator[None]:
    """Be the parent of descendants that lose theirs meanwhile (Linux).

    Raises:
        OSError: That is not allowed.
    """
    import ctypes

    libc, before = _libc(), ctypes.c_int()
    asked = libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    if asked or libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


def is_open(fd: int) -> bool:
    """Tell whether there is a descriptor of that number."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


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
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            fd = -1
        if fd >= 0:
            try:
                os.ftruncate(fd, size)
            except OSError:  # larger than files may be: RLIMIT_FSIZE
                os.close(fd)
                raise
            return fd
    import tempfile  # which brings a lot along that is not needed here

    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        return os.dup(file.fileno())


MAPS = hasattr(os, "memfd_create") and hasattr(socket, "CMSG_LEN")
"""Whether memory can be shared that has no name, and its descriptor be sent (Linux)."""

_arrays: Any = None
"""``ctypes.Array``, when something has been mapped: who sends nothing large does without ctypes."""


def map_memory(fd: int, size: int, *, private: bool, offset: int = 0) -> Any:
    """Map a file, and keep no descriptor open, which ``mmap.mmap`` does.

    Args:
        fd: Its descriptor; may be closed afterwards.
        size: Bytes, at least 1.
        private: What is written goes into copies of its pages.
        offset: A multiple of ``mmap.ALLOCATIONGRANULARITY``.

    Returns:
        An array of ctypes; the memory is unmapped with it.

    Raises:
        OSError: It cannot be mapped.
    """
    global _arrays
    import ctypes

    _arrays = ctypes.Array
    libc = _libc()
    flags = mmap.MAP_PRIVATE if private else mmap.MAP_SHARED
    address = libc.mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, flags, fd, offset)
    if address in (None, ctypes.c_void_p(-1).value):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    array = (ctypes.c_ubyte * size).from_address(address)
    weakref.finalize(array, libc.munmap, address, size).atexit = False
    return array


@functools.cache
def _libc() -> Any:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *3 * [ctypes.c_int], ctypes.c_long]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    return libc


def part_of(array: Any, offset: int, size: int) -> Any:
    """Return another array for some bytes of what ``map_memory`` gave. It does not keep them mapped."""
    import ctypes

    return (ctypes.c_ubyte * size).from_address(ctypes.addressof(array) + offset)


def offset_of(array: Any, part: memoryview) -> int:
    """Return where in *array* a part of it begins."""
    import ctypes

    return ctypes.addressof(ctypes.c_ubyte.from_buffer(part)) - ctypes.addressof(array)


def address_of(frame: Any) -> int:
    """Return where the memory of *frame* begins, which may be lent to be read only.

    Raises:
        ValueError: Its bytes are not all in one place.
    """
    import ctypes

    class Buffer(ctypes.Structure):  # Py_buffer, of which we want the first
        _fields_ = [("address", ctypes.c_void_p), ("rest", ctypes.c_char * 256)]

    held = Buffer()
    get, release = ctypes.pythonapi.PyObject_GetBuffer, ctypes.pythonapi.PyBuffer_Release
    try:
        get(ctypes.py_object(frame), ctypes.byref(held), 0)  # PyBUF_SIMPLE
    except BufferError as error:
        raise ValueError(str(error)) from error
    address = held.address
    release(ctypes.byref(held))
    return int(address or 0)


def is_mapped(obj: object) -> bool:
    """Tell whether *obj* may be an array of ``map_memory`` or ``part_of``."""
    return _arrays is not None and _arrays in type(obj).__mro__


def resident(pid: int) -> int:
    """Return the bytes of memory that process *pid* has resident (Linux; elsewhere 0)."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as statm:
            return int(statm.read().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def is_alive(pid: int) -> bool:
    """Tell whether a process of this machine runs; a zombie does not (Windows: never)."""
    if sys.platform == "win32":
        return False  # signal 0 is Ctrl-C there
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):
            return False
    except OSError:
        return False
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True


def children() -> dict[int, list[int]]:
    """Return the processes that there are, by the id of who has started them; none, where that cannot be seen.

    It can on Linux, while there is a descriptor to be had.
    """
    found: dict[int, list[int]] = {}
    try:
        entries = os.listdir("/proc") if sys.platform == "linux" else []
    except OSError:
        return found
    for entry in entries:
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", "rb") as stat:
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError, ValueError):  # it has ended
                continue
            found.setdefault(parent, []).append(int(entry))
    return found


def kill_descendants(pid: int, children: Mapping[int, list[int]]) -> None:
    """Kill all that *pid* has started, directly or not.

    Those that have cut themselves off, as daemons do, cannot be told. Resource trackers are left: they
    remove what their processes leave behind (in ``/dev/shm``, say), and end when these have ended. One that
    has been forked, and has not begun to run its own program, cannot be told.

    Args:
        pid: The process.
        children: What there is, as ``children`` gave it.
    """
    todo = [*children.get(pid, ())]
    while todo:
        each = todo.pop()
        if not _is_tracker(each):
            with suppress(OSError):
                os.kill(each, KILL)
        todo += children.get(each, ())


def _is_tracker(pid: int) -> bool:
    """Tell whether that is a resource tracker, of multiprocessing's or loky's."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as cmdline:
            return b"resource_tracker import main" in cmdline.read()
    except OSError as error:
        return error.errno in (errno.EMFILE, errno.ENFILE)  # it may be one; else it has ended


def signal_name(number: int) -> str:
    """Name a signal: ``SIGSEGV``; ``signal 40`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


_DAY = 86400.0


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
            timeout: Seconds, of which it takes a day at most; ``None``: for ever.
        """
        timeout = timeout if timeout is None else min(timeout, _DAY)  # epoll takes 24 of them
        if self._epoll is not None:
            return [fd for fd, _ in self._epoll.poll(timeout)]
        assert self._selector is not None
        return [key.fd for key, _ in self._selector.select(timeout)]

    def close(self) -> None:
        """Give the descriptors back."""
        poller = self._epoll or self._selector
        assert poller is not None
        poller.close()
