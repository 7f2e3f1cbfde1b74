"""What a process can be given only while it starts: multiprocessing's locks, queues, pipes, values.

Of these there is one, and every process has a way to it: a semaphore's name, a
descriptor, a piece of shared memory. Such ways are handed over at a process's start
(the standard library calls it inheritance), so they can be in ``initargs``, and not in
a call to a worker that runs. ``Heritage`` is who hands them over.

A class is recognised by identity, through ``sys.modules``, never by its name alone.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from operator import methodcaller
from typing import Any, Protocol

__all__ = [
    "INHERIT",
    "KINDS",
    "Heritage",
    "NotInheritedError",
    "given",
    "heirloom",
    "in_shared_memory",
    "reducer_outside",
]

KINDS = {
    ("multiprocessing.synchronize", "SemLock"),
    ("multiprocessing.synchronize", "Condition"),
    ("multiprocessing.synchronize", "Event"),
    ("multiprocessing.synchronize", "Barrier"),
    ("multiprocessing.queues", "Queue"),
    ("multiprocessing.queues", "SimpleQueue"),
    ("multiprocessing.sharedctypes", "SynchronizedBase"),
    ("multiprocessing.connection", "_ConnectionBase"),
    ("multiprocessing.heap", "Arena"),
    ("multiprocessing.heap", "BufferWrapper"),
    ("multiprocessing.managers", "BaseProxy"),
    ("loky.backend.synchronize", "SemLock"),
    ("loky.backend.synchronize", "Condition"),
    ("loky.backend.synchronize", "Event"),
    ("loky.backend.queues", "SimpleQueue"),
}
"""``(module, name)`` of the classes, and of those below which they are."""

_IN_MEMORY = {("_ctypes", name) for name in ("_SimpleCData", "Array", "Structure", "Union")}
"""Classes of objects some of which are in shared memory: ``RawValue``, ``RawArray``."""

_PROXY = ("multiprocessing.managers", "BaseProxy")

INHERIT = "hand it over with the pool: initializer=keep, initargs=(it,), where def keep(it): global shared; shared = it"
"""What to type instead of giving such a thing to a call."""

_default = methodcaller("__reduce_ex__", 5)

given: dict[int, tuple[Any, Any]] = {}
"""What open pools have handed over, by ``id``: the object, and its reduce value there.

A script's own global may be one of these: ``def init(it): global lock; lock = it`` in a
script whose lock is called ``lock``, too."""


class NotInheritedError(RuntimeError):
    """Something can be had only by inheritance, and here it cannot be inherited.

    Attributes:
        fix: What to type instead; empty: the usual.
    """

    def __init__(self, text: str, fix: str = "") -> None:
        super().__init__(text)
        self.fix = fix


class Heritage(Protocol):
    """Collects what the workers of one pool are given when they start."""

    def begin(self) -> None:
        """Forget what was collected: the same objects are pickled anew."""

    def reducer_for(self, cls: type) -> Callable[[Any], Any]:
        """Return the reducer for the heirlooms of class *cls*."""


def heirloom(cls: type) -> tuple[str, str] | None:
    """Tell which kind of thing to inherit *cls* may be; ``None``: none.

    Objects of ctypes are of such a kind by class, and only those in shared memory are
    by ``in_shared_memory``.
    """
    for base in cls.__mro__:
        kind = (base.__module__, base.__qualname__)
        if (kind in KINDS or kind in _IN_MEMORY) and getattr(sys.modules.get(kind[0]), kind[1], None) is base:
            return kind
    return None


def in_shared_memory(obj: Any) -> bool:
    """Tell whether *obj*, of ctypes, is a ``RawValue`` or a ``RawArray``."""
    return "_wrapper" in getattr(obj, "__dict__", ())


def reducer_outside(kind: tuple[str, str], of_global: bool) -> Callable[[Any], Any] | None:
    """Return the reducer for heirlooms of *kind* in an ordinary call; ``None``: the usual.

    Args:
        kind: See ``heirloom``.
        of_global: For the globals of a script, which goes by value.
    """
    if kind == _PROXY:
        return None  # a handle, which travels by itself
    if of_global:
        return _of_global
    return _not_in_shared_memory if kind in _IN_MEMORY else _refuse


def _not_in_shared_memory(obj: Any) -> Any:
    return _refuse(obj, INHERIT) if in_shared_memory(obj) else _default(obj)


def _of_global(obj: Any) -> Any:
    known, reduced = given.get(id(obj), (None, None))
    if known is obj:
        return reduced
    kind = heirloom(type(obj))
    return _not_in_shared_memory(obj) if kind in _IN_MEMORY else _refuse(obj)


def _refuse(obj: Any, fix: str = "") -> Any:
    raise NotInheritedError(
        f"{type(obj).__name__} objects should only be shared between processes through inheritance", fix
    )
