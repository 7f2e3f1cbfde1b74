"""What the workers of a benchmark run: nothing, in a module that they can import."""

from __future__ import annotations

import os
import signal
import socket
import time
from dataclasses import dataclass

__all__ = ["echo", "noop", "pause", "settle"]


def noop(x: int) -> int:
    return x


def pause(seconds: float) -> int:
    """Keep one worker busy for a moment, so that the next call needs another one."""
    time.sleep(seconds)
    return os.getpid()


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
