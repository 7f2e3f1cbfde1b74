"""Tasks that log, warn and print."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.jobs import wait_for

NAME = "tests.forwarded"

log = logging.getLogger(NAME)


class Told(UserWarning):
    """A category of our own."""


class Awkward(UserWarning):
    """Wants two arguments."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def say(i: int = 0) -> tuple[int, str]:
    """Log at two levels; return who we are."""
    log.info("item %d of %s", i, "many", extra={"kept": (i, {"a": [1]}), "not_kept": object()})
    log.debug("too low")
    return os.getpid(), threading.current_thread().name


def say_all(lines: int, width: int = 0) -> int:
    for i in range(lines):
        log.info("%d%s", i, "x" * width)
    return lines


def say_in_a_pool() -> int:
    """Log and print in a pool of this worker."""
    import safemp

    with safemp.SafeExecutor(1, capture_output=True) as executor:
        executor.submit(print, "from within").result()
        return executor.submit(say, 1).result()[0]


class Counted:
    """Leaves a line whenever it is formatted."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __str__(self) -> str:
        with open(self.path, "a") as file:
            file.write("formatted\n")
        return "counted"


def debug_costly(path: str) -> bool:
    log.debug("%s", Counted(path))
    return log.isEnabledFor(logging.DEBUG)


def log_an_error() -> None:
    try:
        raise KeyError("inner")
    except KeyError:
        log.exception("it failed")


class Unformattable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def log_badly() -> str:
    log.info("%d", "text")
    log.info("%s", Unformattable())
    log.info("after")
    return "done"


def log_at_root() -> int:
    logging.info("by the function")
    logging.info("again")
    return len(logging.root.handlers)


def log_in_library() -> None:
    library = logging.getLogger(NAME + ".library")
    library.addHandler(logging.NullHandler())
    library.info("from a library")


def to_file(path: str) -> None:
    """An initializer that configures logging itself."""
    logging.basicConfig(filename=path, level=logging.DEBUG, format="%(levelname)s %(message)s")
    log.setLevel(logging.NOTSET)


def log_then_crash() -> None:
    log.info("last words")
    print("last line")
    os.kill(os.getpid(), signal.SIGKILL)


def log_later(path: str) -> None:
    """Leave a thread that logs when a file is there."""

    def later() -> None:
        wait_for(path)
        log.info("from a thread")

    threading.Thread(target=later, name="later", daemon=True).start()


def log_from_threads(threads: int, lines: int) -> None:
    many = [threading.Thread(target=say_all, args=(lines, 50)) for _ in range(threads)]
    for one in many:
        one.start()
    for one in many:
        one.join()


def fork_and_log() -> str:
    pid = os.fork()
    if pid == 0:
        log.info("from a child")
        print("from a child", flush=True)
        os._exit(0)
    os.waitpid(pid, 0)
    log.info("from the parent")
    return "parent"


class Interrupted(Exception):
    pass


def log_while_interrupted(times: int) -> int:
    """Be interrupted by a signal handler that raises, again and again, while logging."""
    count, logging_now = 0, False

    def interrupt(*_: Any) -> None:
        nonlocal count, logging_now
        count += 1
        if logging_now:
            logging_now = False
            raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.001)  # again and again: formatting may swallow one
    try:
        while count < times:
            try:
                logging_now = True
                while count < times:
                    log.info("%s", "y" * 40_000)
                logging_now = False
            except Interrupted:
                pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    return count


class LogsWhenGone:
    """Logs in its ``__del__``."""

    def __del__(self) -> None:
        log.info("gone")


def log_from_del(times: int) -> int:
    for _ in range(times):
        LogsWhenGone()
        one: Any = LogsWhenGone()
        one.me = one  # for the collector, which may come while something is sent
        log.info("%s", "z" * 1000)
    return times


def warn(category: type[Warning] = Told, text: str = "careful") -> str:
    warnings.warn(text, category, stacklevel=1)
    return "went on"


def warn_awkwardly() -> None:
    warnings.warn(Awkward(1, 2), stacklevel=1)


def print_lines(who: str, lines: int) -> None:
    for i in range(lines):
        print(who, i, who * 50, sep="-")


def print_both() -> None:
    print("one")
    print("two", file=sys.stderr)
    sys.stdout.buffer.write("drei \u00fc\n".encode())
    print("\udc80 lone")
    print("no end", end="")


def print_and_wait(path: str) -> None:
    print("live")
    wait_for(path)


def describe_stdout() -> tuple[bool, str | None, int]:
    return sys.stdout.isatty(), sys.stdout.encoding, sys.stdout.fileno()


class Kept(logging.Handler):
    """Keeps the records that it is given."""

    def __init__(self, then: Callable[[], object] | None = None) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.then = then

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if self.then is not None:
            self.then()

    @property
    def messages(self) -> list[str]:
        return [record.getMessage() for record in self.records]


class ToFile(logging.Handler):
    """Appends to a file, as an inherited handler would."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def emit(self, record: logging.LogRecord) -> None:
        with open(self.path, "a") as file:
            file.write(record.getMessage() + "\n")
