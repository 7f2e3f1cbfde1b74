"""Jobs that try the local engine: they die, stop, block, spoil their own process."""

from __future__ import annotations

import atexit
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import Any, ClassVar

from tests.support import jobs


def note_pid(path: str, i: int) -> int:
    """Leave a line, and say who did."""
    jobs.note(path, i)
    return os.getpid()


def sum_and_return(block: bytes, n: int) -> bytes:
    """Take much, give much."""
    return bytes([sum(block[:: len(block) // 100 or 1]) % 256]) * n


class NoteAndReturn:
    """Leaves a line and returns *size* bytes; dies of the *fatal* item instead. Item 0 is for warming up."""

    def __init__(self, path: str, size: int, fatal: int) -> None:
        self.path = path
        self.size = size
        self.fatal = fatal

    def __call__(self, i: int) -> bytes:
        if not i:
            return b""
        jobs.note(self.path, i)
        if i == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return bytes([i]) * self.size


def note_and_wait(path: str, release: str) -> int:
    """Leave our pid in a file, then wait for another file."""
    jobs.note(path, os.getpid())
    jobs.wait_for(release)
    return os.getpid()


def note_and_sleep(path: str, seconds: float) -> None:
    """Leave our pid in a file, then sleep."""
    jobs.note(path, os.getpid())
    time.sleep(seconds)


def note_and_spin(path: str) -> None:
    """Leave our pid in a file, then stay in C, with the GIL, for ever."""
    jobs.note(path, os.getpid())
    re.match(r"(a+)+$", "a" * 60 + "b")


def note_and_nest(path: str) -> None:
    """Use a pool in a worker, whose tasks stay, and leave all pids in a file."""
    import safemp

    jobs.note(path, os.getpid())
    safemp.map(_note_and_sleep, [path, path])


def _note_and_sleep(path: str) -> None:
    note_and_sleep(path, 600)


def stubborn(path: str, release: str) -> None:
    """Ignore SIGTERM, then wait."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note_and_wait(path, release)


def close_everything() -> str:
    """Close every descriptor but the standard ones: the connection among them."""
    os.closerange(3, 256)
    return "closed"


def close_standard() -> str:
    """Close the standard descriptors, and print."""
    for fd in (0, 1, 2):
        os.close(fd)
    try:
        print("nobody reads this", flush=True)
    except OSError:
        pass
    return "closed"


def leave_child(path: str, release: str, how: str) -> int:
    """Start a process that outlives us and holds every descriptor; then die, or return."""
    child = os.fork()
    if child == 0:
        try:
            jobs.wait_for(release)
        finally:
            os._exit(0)
    jobs.note(path, child)
    if how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return child


def run_program() -> str:
    """Start a program and read what it says."""
    return subprocess.run(
        [sys.executable, "-c", "import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


def hang_at_exit(release: str) -> int:
    """Have this process hang when it is told to leave."""
    atexit.register(jobs.wait_for, release)
    return os.getpid()


def note_at_exit(path: str) -> None:
    """Have this process write a file when it leaves."""
    atexit.register(jobs.note, path, "left")


def leave_thread(release: str) -> int:
    """Leave a thread that keeps the process from ending."""
    threading.Thread(target=jobs.wait_for, args=(release,)).start()
    return os.getpid()


def die_later() -> int:
    """Return, and die a moment after."""
    threading.Timer(0.05, os._exit, (3,)).start()
    return os.getpid()


def maybe_die(path: str, odds: float, i: int) -> int:
    """Leave a line, then die by chance: before, or after it."""
    import random

    draw = random.Random(f"{i}.{os.getpid()}").random()
    if draw < odds / 2:
        os._exit(9)
    jobs.note(path, i)
    if draw < odds:
        os.kill(os.getpid(), signal.SIGKILL)
    return i


class MaybeDie:
    """``maybe_die`` of one argument."""

    def __init__(self, path: str, odds: float) -> None:
        self.path = path
        self.odds = odds

    def __call__(self, i: int) -> int:
        return maybe_die(self.path, self.odds, i)


def die_at_start(path: str) -> None:
    """An initializer that ends its worker."""
    jobs.note(path, os.getpid())
    os._exit(7)


class Recorded:
    """Remembers the threads in which it was pickled and loaded."""

    threads: ClassVar[list[str]] = []

    def __init__(self, n: int = 0) -> None:
        self.n = n

    def __reduce__(self) -> tuple[Any, ...]:
        Recorded.threads.append(threading.current_thread().name)
        return _load_recorded, (self.n,)


def _load_recorded(n: int) -> Recorded:
    Recorded.threads.append(threading.current_thread().name)
    return Recorded(n)


class RecordedError(Exception):
    """The same of an exception."""

    def __reduce__(self) -> tuple[Any, ...]:
        Recorded.threads.append(threading.current_thread().name)
        return _load_recorded_error, self.args


def _load_recorded_error(*args: Any) -> RecordedError:
    Recorded.threads.append(threading.current_thread().name)
    return RecordedError(*args)


def raise_recorded(value: Recorded) -> None:
    raise RecordedError(value.n)


class LoadsAtSecondTry:
    """Pickles into what does not load, then into what does."""

    dumps = 0

    def __reduce__(self) -> tuple[Any, ...]:
        Recorded.threads.append(threading.current_thread().name)
        LoadsAtSecondTry.dumps += 1
        return (jobs._refuse_to_load, ()) if LoadsAtSecondTry.dumps == 1 else (int, (5,))


class WaitsAtSecondTry:
    """Pickles into what does not load; the second time, waits until it is told to go on."""

    def __init__(self, mended: tuple[Any, ...] = (int, (5,))) -> None:
        self.dumps = 0
        self.mended = mended
        self.asked = threading.Event()
        self.go_on = threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        self.dumps += 1
        if self.dumps == 1:
            return jobs._refuse_to_load, ()
        self.asked.set()
        self.go_on.wait(30)
        return self.mended
