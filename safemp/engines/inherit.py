"""What workers are given when they start: the things in ``initargs`` of which there is only one.

A process can have a lock, a queue or a shared value of multiprocessing in two ways.

* *By memory*: a forked worker has what its caller had. The call of the initializer says
  which object is meant (``take``); the objects are arguments of the process.
* *By name*: any other worker opens a semaphore by its name, and is sent descriptors of
  pipes and of shared memory. The call is pickled as it would be for a process that is
  being spawned, with a stand-in for that process which collects the descriptors.

A semaphore made in a ``fork`` context has no name, so it goes by memory only.

Rule 1: all is pickled once, at the caller's line. So user code runs only there, and a
worker that comes later gets what the first one got.
Rule 2: what was handed over lives as long as a worker may still be started; no
descriptor of ours lives longer.
"""

from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from operator import methodcaller
from typing import Any

from safemp.codec import calls
from safemp.codec.frames import Frames
from safemp.codec.inheritance import NotInheritedError, heirloom, in_shared_memory

__all__ = ["NOTHING", "Inheritance", "Share", "encode_start", "receive", "take"]

Share = tuple[tuple[int, ...], dict[int, Any]]
"""What a process is given as an argument: the numbers of the descriptors that will come
through its socket, in order; and, if it is forked, objects by number."""

NOTHING: Share = ((), {})

_AT_ONCE = 128
"""Descriptors in one message. Linux takes 253 (``SCM_MAX_FD``)."""

_BY_MEMORY = ("fork", "inline")

_numbers = count(1)
_arrived: dict[int, Any] = {}
"""What this process was given, by number: objects, and descriptors nobody has taken."""

_default = methodcaller("__reduce_ex__", 5)


# -- the caller's side ----------------------------------------------------------------


class Inheritance:
    """What the workers of one pool are given: a ``codec.inheritance.Heritage``.

    Args:
        method: How they start; ``"inline"``: the caller is the worker; ``None``: that is
            open, so what needs a fork is taken for the time being.

    Attributes:
        wants_fork: Something goes to forked workers only.
    """

    def __init__(self, method: str | None) -> None:
        self._method = method
        self.wants_fork = False
        self._objects: dict[int, Any] = {}
        self._number_of: dict[int, int] = {}
        self._fds: dict[int, int] = {}
        self._ours = False
        self._kept: Any = None

    def begin(self) -> None:
        """Forget what was collected: see ``Heritage``."""
        self._objects.clear()
        self._number_of.clear()
        self._fds.clear()

    def reducer_for(self, cls: type) -> Callable[[Any], Any]:
        """Return the reducer for objects of *cls*: see ``Heritage``."""
        kind = heirloom(cls)
        reduce = self._by_memory if self._method in _BY_MEMORY else self._by_name
        if kind is not None and kind[0] == "_ctypes":
            return lambda obj: reduce(obj) if in_shared_memory(obj) else _default(obj)
        return reduce

    def _by_memory(self, obj: Any) -> Any:
        number = self._number_of.get(id(obj))
        if number is None:
            number = self._number_of[id(obj)] = next(_numbers)
            self._objects[number] = obj
        return take, (number,)

    def _by_name(self, obj: Any) -> Any:
        from multiprocessing.reduction import ForkingPickler

        if _is_nameless(obj):
            if self._method is not None:
                raise NotInheritedError(*_needs_fork(obj, self._method))
            self.wants_fork = True
            return self._by_memory(obj)
        self._kept = True
        registered = ForkingPickler(io.BytesIO()).dispatch_table
        return registered.get(type(obj), _default)(obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Note descriptor *fd*: what a process of multiprocessing does while it is spawned."""
        number = next(_numbers)
        self._fds[number] = fd
        return number

    def DupFd(self, number: int) -> Descriptor:
        """Make what is pickled in a descriptor's place, as multiprocessing names it."""
        return Descriptor(number)

    def seal(self, start: Any) -> None:
        """Take copies of the descriptors; keep *start* alive, if something in it must be."""
        fds, self._fds = self._fds, {}
        self._ours = True
        for number, fd in fds.items():
            self._fds[number] = os.dup(fd)
        self._kept = start if self._kept else None

    def share(self) -> Share:
        """Return what to give to a process as an argument."""
        return tuple(self._fds), self._objects

    def send(self, sock: socket.socket) -> None:
        """Send the descriptors. *sock* blocks."""
        fds = list(self._fds.values())
        for i in range(0, len(fds), _AT_ONCE):
            socket.send_fds(sock, [b"F"], fds[i : i + _AT_ONCE])

    @contextmanager
    def here(self) -> Iterator[None]:
        """Let this process be the worker."""
        _arrived.update(self._objects)
        _arrived.update((number, os.dup(fd)) for number, fd in self._fds.items())
        try:
            yield
        finally:
            for number in (*self._objects, *self._fds):
                _arrived.pop(number, None)

    def release(self) -> None:
        """Give everything back: no worker will be started any more."""
        fds, self._fds = self._fds, {}
        self._objects = {}
        self._kept = None
        for fd in fds.values() if self._ours else ():
            os.close(fd)

    def __del__(self) -> None:
        self.release()


def encode_start(
    fn: Callable[..., Any], args: tuple[Any, ...], *, method: str | None, by_name: bool
) -> tuple[Frames, Inheritance]:
    """Encode the call of an initializer, as for a process that is being spawned.

    Args:
        fn: The initializer.
        args: Its arguments.
        method: As for ``Inheritance``.
        by_name: As for ``encode_call``.

    Raises:
        PreflightError: It cannot be pickled.
    """
    from multiprocessing.context import get_spawning_popen, set_spawning_popen

    inherited = Inheritance(method)
    outer = get_spawning_popen()
    set_spawning_popen(inherited)  # type: ignore[arg-type]  # it has what a Popen is asked for
    try:
        frames = calls.encode_call(fn, args, {}, by_name=by_name, root="init", heritage=inherited)
    finally:
        set_spawning_popen(outer)
    inherited.seal((fn, args))
    return frames, inherited


def _is_nameless(obj: Any) -> bool:
    """Tell whether *obj* is, or is made of, semaphores that no other process can open."""
    space = getattr(obj, "__dict__", {})
    if "_semlock" in space:
        return sys.platform != "win32" and space["_semlock"].name is None
    return any(_is_nameless(part) for part in space.values() if heirloom(type(part)) is not None)


_FACTORIES = {"Synchronized": "Value", "SynchronizedArray": "Array", "SynchronizedString": "Array"}


def _needs_fork(obj: Any, method: str) -> tuple[str, str]:
    """Say that *obj* cannot go to workers started by *method*, and what to type."""
    name = next(base.__name__ for base in type(obj).__mro__ if base.__module__.startswith("multiprocessing."))
    factory = _FACTORIES.get(name, name)
    context = method if method in ("spawn", "forkserver") else "spawn"
    return (
        f"it was made in a fork context, so only forked processes can have it, and these workers start by {method!r}",
        f'make it with multiprocessing.get_context("{context}").{factory}(...), '
        'or have the workers forked: mp_context="fork" (context="fork" of a Pool)',
    )


# -- both sides -----------------------------------------------------------------------


class Descriptor:
    """Stands for a descriptor in a pickle, as what multiprocessing calls a ``DupFd``."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        """Return the descriptor, which then belongs to who asked."""
        fd: int = _arrived.pop(self._number)
        return fd


# -- the worker's side ----------------------------------------------------------------


def receive(sock: socket.socket, share: Share) -> None:
    """Take what this process is given.

    Args:
        sock: Where the descriptors come in. It blocks.
        share: What came as an argument.

    Raises:
        EOFError: The caller is gone.
    """
    numbers, objects = share
    _arrived.clear()
    _arrived.update(objects)
    fds: list[int] = []
    while len(fds) < len(numbers):
        _, some, _, _ = socket.recv_fds(sock, 1, _AT_ONCE)
        if not some:
            raise EOFError
        fds += some
    _arrived.update(zip(numbers, fds, strict=True))


def take(number: int) -> Any:
    """Return the object that was inherited under *number*."""
    return _arrived[number]
