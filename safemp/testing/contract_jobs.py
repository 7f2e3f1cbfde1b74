"""What the tests of ``EngineContract`` have workers do. Importable there under the same name."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

PATIENCE = 60.0
"""Seconds after which a job that waits for a file gives up."""


class Refused(Exception):
    """Pickles, but does not load: its constructor wants a keyword."""

    def __init__(self, *, status: int) -> None:
        super().__init__(f"refused: {status}")
        self.status = status


class Locked:
    """Does not pickle; a repair makes it travel."""

    def __init__(self, value: int) -> None:
        self.value = value
        self.lock: Any = threading.Lock()

    def double(self) -> int:
        """Return twice the value, with the lock held."""
        with self.lock:
            return 2 * self.value


class Stream:
    """Does not travel: it has an open generator."""

    def __init__(self) -> None:
        self.rows: dict[str, Any] = {"first": (row for row in range(3))}


class Counted:
    """A large function of a map, which notes each process that loads it."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.table: bytes = os.urandom(100_000)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        note(self.path, f"{os.getpid()}")

    def __call__(self, n: int) -> int:
        """Say that the table is there."""
        return n + len(self.table)


def square(n: int) -> int:
    """Return the square."""
    return n * n


def same(value: Any) -> Any:
    """Return what it is given."""
    return value


def pid() -> int:
    """Return the process's id."""
    return os.getpid()


def write_to(array: bytearray) -> bytes:
    """Write to what has arrived."""
    array[0] = 255
    return bytes(array[:2])


def zeros(size: int) -> Any:
    """Return an object whose buffer travels by itself."""
    return Block(bytearray(size))


class Block:
    """Holds a large buffer, which pickle 5 lets travel by itself, as numpy's arrays do."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        from pickle import PickleBuffer

        return Block, (PickleBuffer(self.buffer),)


def mark(block: Block) -> Block:
    """Write to a block that has arrived, and send it back."""
    memoryview(block.buffer)[0] = 7
    return block


def read_and_mark(block: Block) -> int:
    """Return the first byte of a block, and write to it."""
    view = memoryview(block.buffer)
    found, view[0] = view[0], 7
    return found


def read_both_and_mark(kept: Block, block: Block) -> tuple[int, int]:
    """Return the first bytes of two blocks, and write to the second."""
    return memoryview(kept.buffer)[0], read_and_mark(block)


def raise_it(error: BaseException) -> None:
    """Raise what it is given."""
    raise error


def refuse(n: int) -> int:
    """Refuse 3; square others."""
    if n == 3:
        raise Refused(status=n)
    return n * n


def stream() -> Stream:
    """Return what cannot be sent back."""
    return Stream()


def note(path: str, text: str) -> str:
    """Append a line to a file, by one atomic write."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)
    return text


def wait_for(path: str) -> None:
    """Return when *path* exists."""
    deadline = time.monotonic() + PATIENCE
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody has made {path}")
        time.sleep(0.005)


def hold(started: str, release: str) -> int:
    """Make a file, then wait for another."""
    Path(started).touch()
    wait_for(release)
    return os.getpid()


def fail_until(path: str, times: int) -> int:
    """Raise ``ValueError`` the first *times* times."""
    note(path, "try")
    tries = len(Path(path).read_text().splitlines())
    if tries <= times:
        raise ValueError(f"try {tries}")
    return tries


def die(path: str = "") -> None:
    """End the process at once, after a line in a file."""
    if path:
        note(path, "died")
    os._exit(3)


def die_once(path: str) -> int:
    """End the process the first time."""
    note(path, "try")
    if len(Path(path).read_text().splitlines()) == 1:
        os._exit(3)
    return os.getpid()


def note_or_die(path: str, fatal: int, n: int) -> int:
    """Leave a line, except for *fatal*, which ends the process."""
    if n == fatal:
        os._exit(3)
    note(path, str(n))
    return n * n


_state: dict[str, Any] = {}

_mark = uuid4().hex
"""Of this copy of the module: interpreters of one process have one each."""


def name_of_worker() -> str:
    """Return what tells this worker from others; threads of one are the same."""
    return f"{os.getpid()}-{_mark}"


def initialize(path: str, value: int) -> None:
    """Note the worker, and keep a value in it."""
    note(path, name_of_worker())
    _state["value"] = value


def keep(block: Block) -> None:
    """Be an initializer that keeps a block."""
    _state["block"] = block


def kept() -> int:
    """Return the size of the block that ``keep`` has kept."""
    return len(memoryview(_state["block"].buffer))


def initialized(n: int) -> tuple[int, str]:
    """Return the value that ``initialize`` has kept, and the worker's name."""
    return _state["value"] + n, name_of_worker()


def fail_to_start() -> None:
    """Be an initializer that fails."""
    raise Refused(status=1)
