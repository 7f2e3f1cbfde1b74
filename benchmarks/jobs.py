"""What the workers of a benchmark run: next to nothing, in a module that they can import."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass
from typing import Any

__all__ = ["Record", "back", "echo", "first", "hold", "kept", "nap", "noop", "pages", "pause", "refuse", "settle"]


def noop(x: int) -> int:
    return x


def back(x: Any) -> Any:
    """Send back what came."""
    return x


def nap(seconds: float) -> None:
    time.sleep(seconds)


def refuse(x: int) -> int:
    raise ValueError(x)


def pause(seconds: float) -> int:
    """Keep one worker busy for a moment, so that the next call needs another one."""
    time.sleep(seconds)
    return os.getpid()


def hold(path: str) -> None:
    """Keep one worker busy until there is a file, or nobody who could make it."""
    caller = os.getppid()
    while not os.path.exists(path) and os.getppid() == caller:
        time.sleep(0.05)


def first(array: Any) -> float:
    """Look at one number."""
    return float(array[0])


def pages(array: Any) -> float:
    """Look at one number of each page, so that an array which is only mapped is read, too."""
    return float(array[::512].sum())


_KEPT: dict[int, Any] = {}


def kept(n: int) -> Any:
    """Return an array of *n* random numbers, which nobody can compress, made once in each process."""
    if n not in _KEPT:
        import numpy as np

        _KEPT.clear()
        _KEPT[n] = np.random.default_rng(1).random(n)
    return _KEPT[n]


def settle() -> None:
    """Leave Ctrl-C to the caller. An initializer, for the peers whose workers would die of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a forked worker has the caller's handler


def echo(sock: socket.socket) -> None:
    """Send back what comes, until the other side closes: the floor under every round trip."""
    settle()
    while message := sock.recv(1 << 16):
        sock.sendall(message)


@dataclass
class Record:
    """A record as programs have them by the thousand."""

    id: int
    name: str
    score: float
