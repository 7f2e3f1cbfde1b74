"""What a worker writes to its caller, from any thread, whole.

Rule 1: the bytes of two messages never mix, also when a signal handler or a ``__del__``
of the same thread speaks while a message is being written: that one goes behind.
Rule 2: a process that a task has forked says nothing here. The stream is its parent's.
Rule 3: a part of at most ``PART`` bytes goes by one ``send``, which an exception out of
a signal handler can prevent and cannot cut (a stream of ``AF_UNIX`` on Linux takes that
much as one piece). So a task that is interrupted while it logs leaves no half message.
"""

from __future__ import annotations

import os
import socket
import threading
from collections import deque
from collections.abc import Sequence

from safemp.engines import wire
from safemp.engines.wire import Message

__all__ = ["PART", "Speaker"]

PART = 24 << 10
"""Bytes of a part of something long."""


class Speaker:
    """The worker's end of the stream, for writing.

    Args:
        stream: Borrowed.
    """

    def __init__(self, stream: socket.socket) -> None:
        self._stream = stream
        self._pid = os.getpid()
        self._lock = threading.RLock()
        self._behind: deque[Sequence[Message]] = deque()

    @property
    def ours(self) -> bool:
        """Whether this is the process that the stream belongs to."""
        return os.getpid() == self._pid

    def say(self, *messages: Message) -> None:
        """Write *messages*, with nothing in between. Blocks until the caller has read most of it.

        Raises:
            OSError: The caller is gone.
        """
        # Asked of the lock, not of a flag of ours: an exception out of a signal handler
        # cannot come between taking or giving a lock and knowing of it.
        if self._lock._is_owned():  # type: ignore[attr-defined]
            self._behind.append(messages)
            return
        with self._lock:
            self._write(messages)
            while self._behind:
                self._write(self._behind.popleft())

    def _write(self, messages: Sequence[Message]) -> None:
        for message in messages:
            wire.send_all(self._stream, message)
