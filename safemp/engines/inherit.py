"""What this process was given when it started; see ``handover`` for who gives it."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from safemp.codec import pickling
from safemp.codec.inheritance import NotInheritedError

__all__ = ["AT_ONCE", "NOTHING", "Descriptor", "Received", "Share", "receive", "take"]


class Share(NamedTuple):
    """What one process is given as an argument.

    Attributes:
        fds: The numbers of the descriptors that will come through its socket, in order.
        objects: What it has by memory, by number.
        pickled: The stream of what it has by name, by number.
    """

    fds: tuple[int, ...]
    objects: dict[int, Any]
    pickled: bytes


NOTHING = Share((), {}, b"")

AT_ONCE = 128
"""Descriptors in one message. Linux takes 253 (``SCM_MAX_FD``)."""


class Received:
    """What this process was given."""

    objects: dict[int, Any] = {}  # noqa: RUF012 - one for the process
    fds: dict[int, int] = {}  # noqa: RUF012 - the same; those that nothing has taken yet
    pickled = b""


class Descriptor:
    """Stands for a descriptor in a pickle: what multiprocessing calls a ``DupFd``."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        """Return the descriptor, which then belongs to who asked."""
        return Received.fds.pop(self._number)


def receive(sock: socket.socket, share: Share) -> None:
    """Take what this process is given.

    Args:
        sock: Where the descriptors come in. It blocks.
        share: What came as an argument.

    Raises:
        EOFError: The caller is gone.
    """
    fds: list[int] = []
    while len(fds) < len(share.fds):
        _, some, _, _ = socket.recv_fds(sock, 1, AT_ONCE)
        if not some:
            raise EOFError
        fds += some
    Received.objects = dict(share.objects)
    Received.fds = dict(zip(share.fds, fds, strict=True))
    Received.pickled = share.pickled


def take(number: int) -> Any:
    """Return the object that was handed over under *number*.

    Raises:
        NotInheritedError: This process was not given it.
    """
    pickled, Received.pickled = Received.pickled, b""
    if pickled:
        Received.objects.update(pickling.loads(pickled))
    try:
        return Received.objects[number]
    except KeyError:
        raise NotInheritedError(
            "it was handed to the workers of another pool, in initargs, and not to those of this one"
        ) from None
