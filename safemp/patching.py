"""``patch``: safemp in the place of multiprocessing's pools, for a program that has not heard of it.

What is replaced, and how the rest follows:

* ``multiprocessing.pool.Pool``. ``multiprocessing.Pool`` and each context's ``Pool`` look it
  up there when they are called, so they are replaced with it, however they were imported.
* ``ProcessPoolExecutor`` in ``concurrent.futures`` and in ``concurrent.futures.process``.
* The ``__init__`` of both classes, for the modules that have imported them before: it makes
  the object one of ours. (``__new__`` would be the place to choose a class, but a class that
  has had one does not take arguments any more when it is removed.)
* The ``_Popen`` of the classes of spawned and forkserver processes: see ``engines.launch``.
* What the fork server imports before it forks. Each of its processes would import this file,
  which takes thirty times as long as the fork.

Rule 1: what stands there is a class of safemp *and* of the standard library, under the
name of the latter, so ``isinstance`` and ``issubclass`` say what they said.
Rule 2: a program sees what it would have seen. Its start method is kept, and its logging
is left alone.
Rule 3: what was replaced is put back by the last who asked for it, if it is still ours.
"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import functools
import multiprocessing
import multiprocessing.pool
import os
import threading
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from safemp.engines import launch
from safemp.executor import SafeExecutor
from safemp.pool import Pool

__all__ = ["patch", "patched", "unpatch"]

_StdlibPool: Any = multiprocessing.pool.Pool
_StdlibExecutor: Any = concurrent.futures.process.ProcessPoolExecutor


class _InTheirPlace(ABCMeta):  # so that a subclass can have an abstract base, too
    """Makes the standard library's own objects instances of what stands in their place."""

    def __instancecheck__(cls, instance: Any) -> bool:
        stands_for = cls.__dict__.get("_stands_for")  # not inherited: a subclass is only itself
        return isinstance(instance, stands_for) if stands_for else super().__instancecheck__(instance)

    def __subclasscheck__(cls, subclass: type) -> bool:
        stands_for = cls.__dict__.get("_stands_for")
        return issubclass(subclass, stands_for) if stands_for else super().__subclasscheck__(subclass)


class _PatchedPool(Pool, _StdlibPool, metaclass=_InTheirPlace):  # type: ignore[misc]  # see Rule 1
    __doc__ = Pool.__doc__
    __module__ = "multiprocessing.pool"
    __qualname__ = "Pool"
    _stands_for = _StdlibPool

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
    ) -> None:
        if _PatchedPool not in type(self).__mro__:  # ThreadPool, which was derived from what was here
            _StdlibPool.__init__(self, processes, initializer, initargs, maxtasksperchild, context)
            return
        super().__init__(
            processes,
            initializer,
            initargs,
            maxtasksperchild,
            context or multiprocessing.get_context(),
            inner_max_num_threads=0,
            forward_logging=False,
            # joblib's pools put their own queues in place of ours, whose pickler has these reducers:
            # an np.memmap is opened again by its file's name, since workers write results into it.
            repairs=getattr(self, "_forward_reducers", None) or "all",
        )


class _PatchedExecutor(SafeExecutor, _StdlibExecutor, metaclass=_InTheirPlace):  # type: ignore[misc]  # the same
    __doc__ = SafeExecutor.__doc__
    __module__ = "concurrent.futures.process"
    __qualname__ = "ProcessPoolExecutor"
    _stands_for = _StdlibExecutor

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
    ) -> None:
        if _PatchedExecutor not in type(self).__mro__:  # derived before, and calls this by its name
            newer = {} if max_tasks_per_child is None else {"max_tasks_per_child": max_tasks_per_child}
            _StdlibExecutor.__init__(self, max_workers, mp_context, initializer, initargs, **newer)
            return
        if mp_context is None:  # as there: replacing workers by forks, from a process with threads, is asking for it
            mp_context = multiprocessing.get_context("spawn" if max_tasks_per_child is not None else None)
        super().__init__(
            max_workers,
            mp_context,
            initializer,
            initargs,
            max_tasks_per_child=max_tasks_per_child,
            inner_max_num_threads=0,
            forward_logging=False,
        )


_PAIRS = ((_StdlibPool, _PatchedPool), (_StdlibExecutor, _PatchedExecutor))

for _pair in _PAIRS:
    _pair[1].__name__ = _pair[1].__qualname__


class _Patch:
    """What is patched. Rule: changed under the lock."""

    lock = threading.Lock()
    askers: set[object] = set()  # noqa: RUF012 - one for the process
    undo: list[Callable[[], None]] = []  # noqa: RUF012


_PATCH = object()
"""Who asks by ``patch``, however often."""


def patch() -> None:
    """Put safemp in the place of multiprocessing's pools, until ``unpatch``.

    ``multiprocessing.Pool``, ``multiprocessing.pool.Pool``, every context's ``Pool`` and
    ``concurrent.futures.ProcessPoolExecutor`` make pools of safemp, and every start of a
    spawned or forkserver ``Process`` is checked and repaired as ``safemp.Process`` is. The
    pools keep the start method that the program has chosen, or would have by default. Such
    processes patch themselves when they have imported their main module; a fork server that
    is started from now on has what they want in its memory.

    ``isinstance`` and ``issubclass`` against the standard library's classes go on as before,
    and they can be derived from. ``ThreadPool`` remains what it is.

    It does not matter how and when a module has imported these classes. Call it before
    modules that derive classes from them: a subclass of the standard library's own pool or
    executor, and a pool that has been made already, remain what they are.
    """
    _ask(_PATCH)


def unpatch() -> None:
    """Undo ``patch``. What a ``patched`` block that is still open asks for stays until its end."""
    _leave(_PATCH)


@contextmanager
def patched() -> Iterator[None]:
    """As ``patch``, while this lasts.

    It is for the whole process. Blocks may nest and overlap in any number of threads; the
    last one to end puts everything back, exactly as it was.
    """
    asker = object()
    _ask(asker)
    try:
        yield
    finally:
        _leave(asker)


def _ask(asker: object) -> None:
    with _Patch.lock:
        if not _Patch.askers:
            _put(multiprocessing.pool, "Pool", _PatchedPool)
            for module in (concurrent.futures.process, concurrent.futures):
                _put(module, "ProcessPoolExecutor", _PatchedExecutor)
            for theirs, ours in _PAIRS:
                _put(theirs, "__init__", _becoming(ours, theirs))
            for cls in launch.spawning_classes():
                _put(cls, "_Popen", staticmethod(_checking(cls._Popen)))
            for server in launch.fork_servers():
                _put(server, "_preload_modules", [*server._preload_modules, __name__])
        _Patch.askers.add(asker)


def _leave(asker: object) -> None:
    with _Patch.lock:
        _Patch.askers.discard(asker)
        while not _Patch.askers and _Patch.undo:
            _Patch.undo.pop()()


def _put(where: Any, name: str, value: Any) -> None:
    """Replace what *where* has itself under *name*, and note how to undo it."""
    had = name in vars(where)  # concurrent.futures has its names when they are first asked for
    before = vars(where).get(name)

    def undo() -> None:
        if vars(where).get(name) is not value:
            return  # somebody has put something else there, or taken it away
        if had:
            setattr(where, name, before)
        else:
            delattr(where, name)

    setattr(where, name, value)
    _Patch.undo.append(undo)


def _becoming(ours: Any, theirs: Any) -> Callable[..., None]:
    """Return the ``__init__`` of a class of theirs whose objects, but not its subclasses', become ours."""
    init = theirs.__init__

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if type(self) is theirs:
            self.__class__ = ours
            ours.__init__(self, *args, **kwargs)
        else:
            init(self, *args, **kwargs)

    return __init__


def _checking(popen: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def start(process_obj: Any) -> Any:
        return launch.launch(process_obj, popen, unpack)

    return start


def unpack(stream: bytes, main_by_name: bool, offer: bytes) -> Any:
    """Load a process object in a new process, which is patched first, as its parent is."""
    patch()
    return launch.unpack(stream, main_by_name, offer)


def _after_fork() -> None:
    _Patch.lock = threading.Lock()  # a thread that is not in this child may have held it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
