"""Jobs that end their worker and leave traces: a stack, words on stderr, much memory."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
from typing import Any

from tests.support.jobs import note


class EndsWhenDestroyed:
    """Ends the process whose copy of it is destroyed, but for the one that has made it."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self.home:
            os._exit(9)


class FromWorker(EndsWhenDestroyed):
    """The other way: ends the process that has made it, when it is destroyed there."""

    def __del__(self) -> None:
        if os.getpid() == self.home:
            os._exit(9)


def note_and_take(path: str, value: object) -> str:
    """Leave a line, and answer."""
    note(path, 1)
    return "done"


def note_and_fail(path: str, value: object) -> None:
    """Leave a line, and raise."""
    note(path, 1)
    raise KeyError("the task's own")


def note_and_give(path: str, value: object) -> FromWorker:
    """Leave a line, and answer with what ends this process when it is destroyed here."""
    note(path, 1)
    return FromWorker()


def scribble(path: str, *over: str) -> None:
    """Write a line to *path*, and nonsense to all descriptors of the process whose names have one of *over* in them."""
    with open(path, "a") as file:
        file.write("ran\n")
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):
            if any(name in os.readlink(f"/proc/self/fd/{fd}") for name in over):
                os.write(fd, b"GARBAGE!" * 64)


def scribble_at(fatal: int, path: str, i: int) -> str:
    """Write a line; the item *fatal* writes nonsense over the ledger, too."""
    if i == fatal:
        scribble(os.devnull, "safemp-ledger")
    with open(path, "a") as file:
        file.write(f"{i}\n")
    return f"done {i}"


def crash() -> None:
    """Read address 0."""
    ctypes.string_at(0)


def say_and_crash(*words: str, end: str = "\n") -> None:
    """Say something on stderr, then crash."""
    for word in words:
        print(word, end=end, file=sys.stderr)
    crash()


def say_and_be_killed(text: str) -> None:
    """Say something, then be ended as the out-of-memory killer would."""
    sys.stderr.write(text)
    os.kill(os.getpid(), signal.SIGKILL)


def crash_in_thread() -> None:
    """Crash in a thread of one's own."""
    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()


def crash_deep(n: int) -> None:
    """Crash *n* calls down."""
    if n:
        crash_deep(n - 1)
    else:
        crash()


def crash_while_importing(folder: str) -> None:
    """Import a module that crashes."""
    sys.path.insert(0, folder)
    __import__("crashes_when_imported")


def crash_at(fatal: int, i: int) -> int:
    """Crash at one item; square the others."""
    if i == fatal:
        crash()
    return i * i


class CrashAt:
    """``crash_at`` of one argument, or of two."""

    def __init__(self, fatal: int) -> None:
        self.fatal = fatal

    def __call__(self, i: int, j: int = 0) -> int:
        return crash_at(self.fatal, i)


class CrashesOnLoad:
    """Crashes any process that loads it, except the one that made it."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        if os.getpid() != state["home"]:
            crash()
        self.__dict__.update(state)


class CrashesOnDump:
    """Crashes the process that pickles it, except the one whose pid it carries."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __reduce__(self) -> tuple[Any, ...]:
        if os.getpid() != self.home:
            crash()
        return CrashesOnDump, (self.home,)


class CrashesInRepr:
    """Ends whoever shows it."""

    def __repr__(self) -> str:
        os._exit(77)


def crash_with(*_: object, **__: object) -> None:
    """Crash, whatever the arguments."""
    crash()


def take_and_be_killed(megabytes: int) -> None:
    """Have so much memory, then be killed."""
    block = bytearray(megabytes << 20)
    block[::4096] = bytes(len(block[::4096]))
    os.kill(os.getpid(), signal.SIGKILL)


def spin(path: str) -> None:
    """Leave our pid, then stay in C for ever, with the GIL."""
    from tests.support import engine_jobs

    engine_jobs.note_and_spin(path)
