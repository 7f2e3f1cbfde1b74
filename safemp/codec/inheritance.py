"""What a process can be given only while it starts: multiprocessing's locks, queues, pipes, values.

Of these there is one, and every process has a way to it: a semaphore's name, a
descriptor, a piece of shared memory. Such ways are handed over at a process's start
(the standard library calls it inheritance), so they can be in ``initargs``, and not in
a call to a worker that runs. ``Heritage`` is who hands them over.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Mapping
from operator import methodcaller
from typing import Any, NamedTuple, Protocol

from safemp.codec.known_classes import KnownClasses, Name
from safemp.codec.repairs import REFUSED, refuse

__all__ = [
    "INHERIT",
    "KINDS",
    "PROXY",
    "Given",
    "Heritage",
    "NotInheritedError",
    "bound_kind",
    "given",
    "heirloom",
    "in_shared_memory",
    "reducer_for",
    "usual",
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

_known = KnownClasses([*KINDS, *_IN_MEMORY, *REFUSED])

PROXY = ("multiprocessing.managers", "BaseProxy")
"""A kind whose objects travel by themselves, too."""

INHERIT = "hand it over with the pool: initializer=keep, initargs=(it,), where def keep(it): global shared; shared = it"
"""What to type instead of giving such a thing to a call."""

_default = methodcaller("__reduce_ex__", 5)


class Given(NamedTuple):
    """One thing that open pools have handed over."""

    obj: Any
    reduced: Any
    """Its reduce value there."""
    pools: set[int]
    """Those that have it."""


given: dict[int, Given] = {}
"""By ``id`` of the object, which is kept alive meanwhile.

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
    """Collects what the workers of one pool, or one process, are given when they start.

    Attributes:
        registered: Reducers that come before the repairs, by the exact type.
    """

    registered: Mapping[type, Callable[[Any], Any]]

    def begin(self) -> None:
        """Forget what was collected: the same objects are pickled anew."""

    def reducer_for(self, cls: type) -> Callable[[Any], Any]:
        """Return the reducer for the heirlooms of class *cls*."""


def bound_kind(cls: type) -> Name | None:
    """Tell what binds objects of *cls* to this process: a kind of heirloom, or of ``REFUSED``."""
    return _known.name_of(cls)


def heirloom(cls: type) -> Name | None:
    """Tell which kind of thing to inherit *cls* may be; ``None``: none.

    Of the objects of ctypes those are meant that are ``in_shared_memory``.
    """
    kind = _known.name_of(cls)
    return None if kind in REFUSED else kind


def in_shared_memory(obj: Any) -> bool:
    """Tell whether *obj*, of ctypes, is a ``RawValue`` or a ``RawArray``."""
    wrapper = (getattr(obj, "__dict__", None) or {}).get("_wrapper")
    return wrapper is not None and heirloom(type(wrapper)) == ("multiprocessing.heap", "BufferWrapper")


def reducer_for(cls: type, kind: Name, heritage: Heritage | None, of_global: bool) -> Callable[[Any], Any] | None:
    """Return the reducer for objects of *cls*; ``None``: the usual one.

    Args:
        cls: The class.
        kind: Its ``bound_kind``.
        heritage: Who takes what is to be inherited, if anybody does.
        of_global: For the globals of a script that goes by value.
    """
    if kind in REFUSED:
        return refuse
    if heritage is not None:
        return heritage.reducer_for(cls)
    if kind == PROXY:
        return None
    if of_global:
        return _of_global
    return _not_in_shared_memory if kind in _IN_MEMORY else _refuse


def usual(obj: Any) -> Any:
    """Reduce *obj* as if it were not of any kind to inherit."""
    return copyreg.dispatch_table.get(type(obj), _default)(obj)


def _not_in_shared_memory(obj: Any) -> Any:
    return _refuse(obj, INHERIT) if in_shared_memory(obj) else usual(obj)


def _of_global(obj: Any) -> Any:
    known = given.get(id(obj))
    if known is not None:
        return known.reduced
    kind = heirloom(type(obj))
    return _not_in_shared_memory(obj) if kind in _IN_MEMORY else _refuse(obj)


def _refuse(obj: Any, fix: str = "") -> Any:
    raise NotInheritedError(
        f"{type(obj).__name__} objects should only be shared between processes through inheritance", fix
    )
