"""What a worker of somebody else's has begun and finished, where its death does not reach: in a file of its machine.

    diary  = records
    record = a letter, length, so many bytes
      B      an errand is begun: its key
      L      it is loaded, if it has several items: from now on they run
      O      the outcome of its next item: marshal of the frames; nothing, if it was too large
      A      the process that writes is alive, and may go on (``look_up`` puts it in front)

Each thread of a worker has one file, in a folder that all workers of one engine have on one machine. What is
written there by one ``write`` is there, however the process ends. So when a worker has died its caller asks
any process on that machine (``look_up``), and knows at which item it was, and the outcomes of those before,
also of errands whose answers had not got away yet.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import shutil
import struct
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from safemp.codec.frames import Frames
from safemp.engines import system

__all__ = ["Diary", "Entry", "clear", "is_here", "look_up", "of_this_thread", "parse"]

_HEAD = struct.Struct("<cI")

_TURN = 1 << 18
"""Bytes after which a new page is begun; the one before is kept, and no other. Picked: what answers are on
their way is less."""

_LARGEST = 1 << 16
"""Bytes of an outcome that is kept. Picked: what is larger is seldom lost, and costs more to write."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a diary tells of an errand.

    Attributes:
        loaded: Of several items: whether the frames had been loaded; if not, that is what its worker died of.
        outcomes: Of the items that had finished; ``None``: it was too large to be kept.
        alive: Its worker was at it when somebody looked, and may be still.
    """

    loaded: bool
    outcomes: Sequence[Frames | None]
    alive: bool = False


class Diary:
    """One thread's. Made in that thread.

    Args:
        token: The engine's.

    Raises:
        OSError: Nothing can be written here.
    """

    def __init__(self, token: str) -> None:
        self.token = token
        self._pid = os.getpid()
        folder = _folder(token)
        os.makedirs(folder, 0o700, exist_ok=True)
        self._path = os.path.join(folder, f"{self._pid}-{threading.get_ident()}")
        self._fd = self._size = 0
        self._open()

    def _open(self) -> None:
        self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        self._size = 0

    def _write(self, kind: bytes, payload: bytes = b"") -> None:
        self._size += os.write(self._fd, _HEAD.pack(kind, len(payload)) + payload)

    def begin(self, key: str) -> None:
        """Say that the errand *key* is begun."""
        if self._size > _TURN:
            os.rename(self._path, f"{self._path}-before")
            os.close(self._fd)
            self._open()
        self._write(b"B", key.encode())

    def loaded(self) -> None:
        """Say that it is loaded, if it has several items: from now on it is they that run."""
        self._write(b"L")

    def finished(self, outcome: Frames) -> None:
        """Write down the outcome of its next item."""
        small = sum(map(len, outcome)) <= _LARGEST
        self._write(b"O", marshal.dumps(list(map(bytes, outcome))) if small else b"")

    def __del__(self) -> None:
        # The file stays: a worker that is told to leave ends in order, and what it was at has begun all the same.
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._fd)


class _OfThread(threading.local):
    diary: Diary | None = None


_here = _OfThread()


def of_this_thread(token: str) -> Diary:
    """Return the diary of this thread for the engine *token*. Raises as ``Diary``."""
    diary = _here.diary
    if diary is None or diary.token != token or diary._pid != os.getpid():
        diary = _here.diary = Diary(token)
    return diary


def look_up(token: str, key: str) -> bytes | None:
    """Return what is written on this machine of an errand; ``None``: nothing is.

    Whether its worker is alive is looked at first: what it writes later is read, or it is said to be alive.
    """
    folder, line = _folder(token), _HEAD.pack(b"B", len(key)) + key.encode()
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            alive = system.is_alive(int(name.partition("-")[0]))
            with contextlib.suppress(OSError), open(os.path.join(folder, name), "rb") as file:
                written = file.read()
                for kind, at, end in _records(written):
                    if kind == b"B" and written[at - _HEAD.size : end] == line:
                        return _HEAD.pack(b"A", 0) * alive + written[at - _HEAD.size :]
    return None


def is_here(token: str) -> bool:
    """Tell whether a worker of this machine has written down anything for the engine *token*."""
    return os.path.isdir(_folder(token))


def parse(found: bytes) -> Entry:
    """Read what ``look_up`` has returned: of its first errand."""
    outcomes: list[Frames | None] = []
    begun = loaded = alive = False
    for kind, at, end in _records(found):
        if kind == b"O":
            outcomes.append(marshal.loads(found[at:end]) if end > at else None)
        elif kind == b"L":
            loaded = True
        elif kind == b"A":
            alive = True
        elif begun:
            break
        else:
            begun = True
    return Entry(loaded, outcomes, alive)


def _records(written: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield the kind of each record and where its bytes are. One that is cut short was not finished."""
    at = 0
    while at + _HEAD.size <= len(written):
        kind, length = _HEAD.unpack_from(written, at)
        at += _HEAD.size
        if at + length > len(written):
            return
        yield kind, at, at + length
        at += length


def clear(token: str) -> None:
    """Remove what workers have left on this machine for the engine *token*, which has ended."""
    shutil.rmtree(_folder(token), ignore_errors=True)


def _folder(token: str) -> str:
    return os.path.join(tempfile.gettempdir(), f"safemp-{token}")
