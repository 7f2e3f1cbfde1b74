"""What workers are given when they start: the things in ``initargs`` of which there is only one.

A process can have a lock, a queue or a shared value of multiprocessing in two ways.

* *By memory*: a forked worker has what its caller had; the objects are arguments of the
  process.
* *By name*: any other worker opens a semaphore by its name, and is sent descriptors of
  pipes and of shared memory. The objects are pickled as for a process that is being
  spawned, with a stand-in for that process which collects the descriptors.

Either way the initializer's call says by a number which object is meant (``take``). A
semaphore made in a ``fork`` context has no name, so it goes by memory only.

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from operator import methodcaller
from typing import Any

from safemp.codec import calls, pickling
from safemp.codec.frames import Frames
from safemp.codec.inheritance import PROXY, Given, NotInheritedError, given, heirloom, in_shared_memory, usual
from safemp.codec.repairs import ALL, Policy
from safemp.engines import blocks
from safemp.engines.inherit import AT_ONCE, Descriptor, Received, Share, take

__all__ = ["Inheritance", "encode_start", "is_nameless", "needs_fork", "reducer_while_spawning"]

_ON_WINDOWS = "use that of a multiprocessing.Manager(), whose handle travels"

_BY_MEMORY = ("fork", "inline")

_numbers = count(1)

_default = methodcaller("__reduce_ex__", 5)


class Inheritance:
    """What the workers of one pool are given.

    It is the ``codec.inheritance.Heritage`` of the initializer's call, in which each
    object becomes its number.

    Args:
        method: How the workers start; ``"inline"``: the caller is the worker; ``None``:
            that is open, so what needs a fork is taken for the time being.

    Attributes:
        wants_fork: Something goes to forked workers only.
    """

    registered: Mapping[type, Callable[[Any], Any]] = {}

    def __init__(self, method: str | None) -> None:
        self._method = method
        self.wants_fork: bool = False
        self._objects: dict[int, Any] = {}
        self._fds: dict[int, int] = {}
        self._pickled = b""
        self._start: Any = None

    def begin(self) -> None:
        """Forget what was collected: see ``Heritage``."""
        self.release()

    def reducer_for(self, cls: type) -> Callable[[Any], Any]:
        """Return the reducer for objects of *cls*: see ``Heritage``."""
        return _only_in_shared_memory(self._numbered) if _is_of_ctypes(cls) else self._numbered

    def _numbered(self, obj: Any) -> Any:
        if self._method not in _BY_MEMORY:
            if sys.platform == "win32" and heirloom(type(obj)) != PROXY:
                raise NotInheritedError("it cannot be handed over on Windows yet", _ON_WINDOWS)
            if is_nameless(obj):
                if self._method is not None:
                    raise NotInheritedError(*needs_fork(obj, self._method))
                self.wants_fork = True
        # No lock, which a fork could leave locked: at worst a global that another pool was
        # given, and gives back at this moment, is refused later.
        known = given.setdefault(id(obj), Given(obj, (take, (next(_numbers),)), set()))
        known.pools.add(id(self))
        self._objects[known.reduced[1][0]] = obj
        return known.reduced

    def seal(self, start: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
        """Pickle what goes by name, and keep alive what workers will need.

        Args:
            start: The initializer and its arguments.

        Raises:
            PreflightError: One of the objects cannot be pickled.
            OSError: There are no descriptors to be had.
        """
        if not self._objects or self.wants_fork:
            return
        self._start = start
        if self._method in _BY_MEMORY:
            return
        contents = _Contents()
        try:
            with _spawning(contents):
                self._pickled = pickling.dumps_careful(self._objects, heritage=contents)
        except pickling.USER_ERRORS as error:
            with _spawning(contents):
                raise calls.preflight(error, calls.roots_of(*start, {}, "init"), contents) from error
        for number, fd in contents.fds.items():
            self._fds[number] = os.dup(fd)

    def share(self) -> Share:
        """Return what to give to a process as an argument."""
        if self._method in _BY_MEMORY:
            return Share((), self._objects, b"")
        return Share(tuple(self._fds), {}, self._pickled)

    def send(self, sock: socket.socket) -> None:
        """Send the descriptors. *sock* blocks."""
        fds = list(self._fds.values())
        for i in range(0, len(fds), AT_ONCE):
            socket.send_fds(sock, [b"F"], fds[i : i + AT_ONCE])

    @contextmanager
    def here(self) -> Iterator[None]:
        """Let this process be the worker."""
        before = Received.objects
        Received.objects = {**before, **self._objects}
        try:
            yield
        finally:
            Received.objects = before

    def release(self) -> None:
        """Give everything back: no worker will be started any more."""
        fds, self._fds = self._fds, {}
        objects, self._objects = self._objects, {}
        self._start = None
        for obj in objects.values():
            known = given.get(id(obj))
            if known is not None:
                known.pools.discard(id(self))
                if not known.pools:
                    given.pop(id(obj), None)
        for fd in fds.values():
            os.close(fd)

    def __del__(self) -> None:
        self.release()


class _Contents:
    """The ``Heritage`` of the objects themselves; a ``Popen`` as far as pickling asks for one."""

    registered: Mapping[type, Callable[[Any], Any]] = {}

    def __init__(self) -> None:
        self.fds: dict[int, int] = {}

    def begin(self) -> None:
        self.fds.clear()

    def reducer_for(self, cls: type) -> Callable[[Any], Any]:
        return reducer_while_spawning(cls)

    def duplicate_for_child(self, fd: int) -> int:
        number = next(_numbers)
        self.fds[number] = fd
        return number

    def DupFd(self, number: int) -> Descriptor:
        return Descriptor(number)


def reducer_while_spawning(cls: type) -> Callable[[Any], Any]:
    """Return how multiprocessing itself reduces an heirloom of class *cls* for a process that starts."""
    from multiprocessing.reduction import ForkingPickler

    registered: Callable[[Any], Any] = ForkingPickler(io.BytesIO()).dispatch_table.get(cls, _default)
    return _only_in_shared_memory(registered) if _is_of_ctypes(cls) else registered


@contextmanager
def _spawning(popen: Any) -> Iterator[None]:
    """Let multiprocessing take this for the start of a process, in this thread."""
    from multiprocessing.context import get_spawning_popen, set_spawning_popen

    outer = get_spawning_popen()
    set_spawning_popen(popen)
    try:
        yield
    finally:
        set_spawning_popen(outer)


def encode_start(
    fn: Callable[..., Any], args: tuple[Any, ...], *, method: str | None, by_name: bool, policy: Policy = ALL
) -> tuple[Frames, Inheritance]:
    """Encode the call of an initializer, and collect what workers must be given for it.

    Args:
        fn: The initializer.
        args: Its arguments.
        method: As for ``Inheritance``.
        by_name: As for ``encode_call``.
        policy: As for ``encode_call``.

    Raises:
        PreflightError: It cannot be pickled.
        OSError: There are no descriptors to be had.
    """
    inherited = Inheritance(method)
    try:
        frames = calls.encode_call(fn, args, {}, by_name=by_name, root="init", heritage=inherited, policy=policy)
        inherited.seal((fn, args))
    except BaseException:  # its traceback keeps us alive
        inherited.release()
        raise
    return blocks.own(frames), inherited


def _is_of_ctypes(cls: type) -> bool:
    kind = heirloom(cls)
    return kind is not None and kind[0] == "_ctypes"


def _only_in_shared_memory(reducer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda obj: reducer(obj) if in_shared_memory(obj) else usual(obj)


def is_nameless(obj: Any) -> bool:
    """Tell whether *obj* is, or is made of, semaphores that no other process can open."""
    space = getattr(obj, "__dict__", {})
    if "_semlock" in space:
        return space["_semlock"].name is None
    return any(is_nameless(part) for part in space.values() if heirloom(type(part)) is not None)


_FACTORIES = {"Synchronized": "Value", "SynchronizedArray": "Array", "SynchronizedString": "Array"}


def needs_fork(obj: Any, method: str, *, of_pool: bool = True) -> tuple[str, str]:
    """Say that *obj* cannot go to workers, or to a process, started by *method*, and what to type."""
    name = next(base.__name__ for base in type(obj).__mro__ if base.__module__.startswith("multiprocessing."))
    factory = _FACTORIES.get(name, name)
    context = method if method in ("spawn", "forkserver") else "spawn"
    starts = "these workers start" if of_pool else "this process starts"
    fork = ', or have the workers forked: mp_context="fork" (context="fork" of a Pool)' if of_pool else ""
    return (
        f"A SemLock created in a fork context is for forked processes only, and {starts} by {method!r}",
        f'make it with multiprocessing.get_context("{context}").{factory}(...){fork}',
    )
