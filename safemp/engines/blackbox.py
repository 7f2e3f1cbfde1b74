"""The black box of a worker: what it leaves for its caller when it dies.

A file without a name that the worker writes and the caller reads:

    begun, done | ring: the last 4 KiB of stderr   a page, mapped by the worker
    Python stacks, one after the other             written by faulthandler

Rule 1: the worker writes as things happen, so that it may be killed in any
instruction, and asks for nothing while a task runs well.
Rule 2: the caller reads with ``pread``: both sides share the file's position, at
which faulthandler writes, and a file that a task has cut short must not hurt us.
Rule 3: what a task's own forked children do is not in the box.

``sys.stderr`` stays the object it is; only its ``write`` also keeps what it is given. So
handlers that hold it are heard, and ``isatty()``, ``fileno()`` and ``buffer`` are the real
ones. Not kept is what goes round it: ``sys.stderr.buffer.write``, what C code writes to
descriptor 2 (glibc's ``free(): invalid pointer``, ``Fatal Python error: …`` of the interpreter
itself), and what a task writes after it has put another object in its place. All that
goes where it always went. To have it here, too, descriptor 2 would have to be a pipe, and
no program that a task starts would see a terminal any more.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
import sys
from typing import Any

from safemp.engines import system

__all__ = ["DUMP_SIGNAL", "FATAL", "Box", "hear", "install", "note"]

FATAL = frozenset(
    -_number
    for name in ("SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL")
    if (_number := getattr(signal, name, None)) is not None
)
"""The exit codes of workers that have left their stack: the signals that faulthandler knows."""

DUMP_SIGNAL: int = (
    getattr(signal, "SIGRTMIN", 0) + 3 if hasattr(signal, "SIGRTMIN") and hasattr(faulthandler, "register") else 0
)
"""Makes a worker write its stack, also in a C loop that holds the GIL; 0: there is none here.

A real-time signal, which no library of note has a use for. It interrupts no system call.
"""

_PAGE = 4096
"""Bytes before the stacks. The ring is in them, whatever the size of a page is here."""

_RING_AT = 64
_RING = _PAGE - _RING_AT
_COUNTS = struct.Struct("QQ")

_MOST = 1 << 18
"""Bytes of stacks that are read: more than what faulthandler writes of 100 frames in each of 20 threads."""

_FATAL_ERROR = "Fatal Python error: "


# -- the worker's side ------------------------------------------------------------------


class _Ring:
    """The last bytes of a stream, in memory that outlives us.

    *begun* counts the bytes written, those included that are being written, *done* only
    those that are there. So a reader knows which are old, and which are half written.

    There is no lock: a thread may be stopped, and a signal handler may raise, at any place,
    and nobody may ever wait for them. Each writer takes its own stretch first.
    """

    def __init__(self, page: mmap.mmap) -> None:
        view = memoryview(page)
        self._counts = view[: _COUNTS.size].cast("Q")  # each written by one instruction
        self._bytes = view[_RING_AT:]
        self._end = 0

    def add(self, text: str) -> None:
        """Keep *text*, as far as there is room."""
        data = text[-_RING:].encode("utf-8", "backslashreplace")[-_RING:]
        n = len(data)
        # From Python 3.11 on, no thread and no signal handler comes between these two.
        begin = self._end
        self._end = begin + n
        self._counts[0] = self._end
        at = begin % _RING
        if at + n <= _RING:
            self._bytes[at : at + n] = data
        else:
            cut = _RING - at
            self._bytes[at:] = data[:cut]
            self._bytes[: n - cut] = data[cut:]
        self._counts[1] = self._end


_ring: _Ring | None = None
_fd = -1
_heard: list[Any] = []
_was_enabled = False
_watches_forks = False


def install(fd: int) -> None:
    """Write this worker's black box from now on. What fails is left out.

    Args:
        fd: The file of the caller's ``Box``. It is ours; it must stay open.
    """
    global _ring, _fd, _was_enabled, _watches_forks
    _fd = fd
    try:
        os.set_inheritable(fd, False)
        _ring = _Ring(mmap.mmap(fd, _PAGE))
        os.lseek(fd, _PAGE, os.SEEK_SET)
        _was_enabled = faulthandler.is_enabled()
        # No stack of C: to look for it allocates memory, which hangs if malloc has crashed.
        options: dict[str, Any] = {"c_stack": False} if sys.version_info >= (3, 14) else {}
        faulthandler.enable(fd, all_threads=True, **options)
        if DUMP_SIGNAL:
            faulthandler.register(DUMP_SIGNAL, fd, all_threads=True, chain=False)
    except (OSError, ValueError, RuntimeError):
        pass  # a worker without a black box does its work all the same
    hear(sys.stderr)
    if not _watches_forks and hasattr(os, "register_at_fork"):
        _watches_forks = True
        os.register_at_fork(after_in_child=_forked)


def note(text: Any) -> None:
    """Keep *text* as the end of what was written to stderr. Never raises, never waits."""
    ring = _ring
    if ring is None:
        return
    if type(text) is not str:
        if not issubclass(type(text), str):
            return
        text = str.__str__(text)  # past what a subclass makes of itself
    try:
        ring.add(text)
    except (MemoryError, RecursionError):  # all that our own code can raise here;
        pass  # a signal handler's exception is the task's and goes on


def hear(stream: Any) -> None:
    """Have *stream*, which is or becomes ``sys.stderr``, keep what is written to it."""
    if stream is None or any(stream is each for each in _heard):
        return
    try:
        write = stream.write

        def tee(text: Any, *rest: Any) -> Any:
            note(text)
            return write(text, *rest)

        stream.write = tee
    except Exception:  # an object of the user's that forbids it
        return
    _heard.append(stream)


def _forked() -> None:
    """Leave the box to our parent: this is a child that a task has forked."""
    global _ring, _fd
    _ring = None
    if _fd < 0:
        return
    try:
        if DUMP_SIGNAL:
            faulthandler.unregister(DUMP_SIGNAL)
        if _was_enabled:
            faulthandler.enable()
        else:
            faulthandler.disable()
        os.close(_fd)
    except (OSError, ValueError, RuntimeError, AttributeError):
        pass  # no stderr to write to; a descriptor that the task has closed
    _fd = -1


# -- the caller's side ------------------------------------------------------------------


class Box:
    """A worker's black box. Not for several threads at once.

    Attributes:
        fd: The file, to be given to the worker.
    """

    def __init__(self) -> None:
        self.fd: int = system.nameless_file("safemp-blackbox", _PAGE)
        self._asked_at: int | None = None
        self._seen = 0

    def stderr(self) -> str:
        """Return the end of what the worker has written to stderr, from a line's start."""
        page = self._read(_PAGE, 0)
        if len(page) < _PAGE:
            return ""
        begun, done = _COUNTS.unpack_from(page)
        start = max(0, begun - _RING)
        if not 0 < done - start <= _RING or done > begun:
            return ""
        ring, at = page[_RING_AT:], start % _RING
        data = (ring[at:] + ring[:at])[: done - start]
        if start:
            data = data.partition(b"\n")[2] or data.lstrip(bytes(range(0x80, 0xC0)))
        return data.decode("utf-8", "replace")

    def fatal_stack(self) -> str:
        """Return what faulthandler wrote last because of a crash; else nothing.

        Of use only if the worker was ended by such a signal (``FATAL``).
        """
        text = self._stacks(0)
        _, found, stack = text.rpartition(_FATAL_ERROR)
        return stack.partition("\n")[2].strip("\n") if found else ""

    def ask(self, pid: int) -> bool:
        """Have worker *pid* write its stack: see ``dump``. It must have said that it is ready.

        Returns:
            ``False``: it cannot be asked.
        """
        self._asked_at = self._seen = self._size()
        if not DUMP_SIGNAL:
            return False
        try:
            os.kill(pid, DUMP_SIGNAL)
        except OSError:  # it has ended; too many signals wait for it
            return False
        return True

    def answered(self) -> bool:
        """Tell whether the worker has written its stack, and nothing since the last look.

        Look every few milliseconds, and only for so long: a stopped process answers when
        it goes on.
        """
        size, self._seen = self._seen, self._size()
        return self._asked_at is not None and size == self._seen > self._asked_at

    def dump(self) -> str:
        """Return the stack that was asked for; none yet: nothing."""
        if self._asked_at is None:
            return ""
        return self._stacks(self._asked_at).partition(_FATAL_ERROR)[0].strip("\n")

    def close(self) -> None:
        """Give the file back."""
        os.close(self.fd)

    def _size(self) -> int:
        return max(_PAGE, os.fstat(self.fd).st_size)

    def _stacks(self, start: int) -> str:
        return self._read(_MOST, max(_PAGE, start)).decode("ascii", "replace")

    def _read(self, n: int, at: int) -> bytes:
        try:
            return os.pread(self.fd, n, at)
        except OSError:
            return b""
