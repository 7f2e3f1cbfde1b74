"""``threading`` and ``queue``: every process has its own threads, so every copy its own locks.

An Event or a Queue *inside* an object is part of how the object works, and is made
anew. One that is handed over by itself is there to talk to somebody, who will not hear.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from safemp.codec.libraries import called, loaded, says_how
from safemp.codec.repairs import REBUILD, RefusedError, Repair

__all__ = ["table"]

_MANAGED = "use multiprocessing.Manager().Queue(), whose handle travels"


def _bare(obj: Any) -> tuple[Any, ...]:
    return type(obj), ()


def _local(local: Any) -> Any:
    """Make it as it is for a thread that has put nothing there: by its constructor.

    Raises:
        TypeError: That wants arguments. Nobody has them any more, unless it is a dataclass.
    """
    cls: Any = type(local)
    if says_how(cls):
        return local.__reduce_ex__(5)
    fields = getattr(cls, "__dataclass_fields__", {})
    state = vars(local)
    given = {name: state[name] for name, field in fields.items() if field.init and name in state}
    if cls.__init__ is not object.__init__:
        from inspect import signature

        try:
            signature(cls).bind(**given)
        except (TypeError, ValueError) as error:
            raise TypeError(f"cannot pickle {cls.__name__!r} object: its constructor: {error}") from None
    return called(cls, **given)


def _lock(_: Any) -> tuple[Any, ...]:
    return threading.Lock, ()


def _rlock(_: Any) -> tuple[Any, ...]:
    return threading.RLock, ()


def _condition(condition: Any) -> tuple[Any, ...]:
    """Leave out who waits: a copy would wake those in place of its own."""
    return threading.Condition, (condition._lock,)


def _event(event: Any) -> tuple[Any, ...]:
    return (threading.Event, (), {"_flag": True}) if event.is_set() else (threading.Event, ())


def _semaphore(semaphore: Any) -> tuple[Any, ...]:
    return threading.Semaphore, (semaphore._value,)


def _bounded(semaphore: Any) -> tuple[Any, ...]:
    """Give back what threads of this process have taken: no thread there will."""
    return threading.BoundedSemaphore, (semaphore._initial_value,)


def _barrier(barrier: Any) -> tuple[Any, ...]:
    return threading.Barrier, (barrier._parties, barrier._action, barrier._timeout)


def _queue(queue: Any) -> tuple[Any, ...]:
    items = queue.queue.copy()
    state = {"queue": items, "unfinished_tasks": len(items)} if items else None
    return (type(queue), (queue.maxsize,), state) if state else (type(queue), (queue.maxsize,))


def _simple_queue(queue: Any) -> tuple[Any, ...]:
    if queue.empty():
        return type(queue), ()
    raise RefusedError("cannot pickle a SimpleQueue with items: they can be had only by taking them out", _MANAGED)


def _held(lock: Any) -> str | None:
    return (
        "it is held here"
        if "<locked" in repr(lock) or ("owner=" in repr(lock) and "owner=0" not in repr(lock))
        else None
    )


_OWN = "a lock protects the memory of one process; the copy gets its own, unlocked"
_PART = "inside an object it serves the threads of one process; the copy gets its own"


def table() -> dict[type, Repair]:
    """Return the rules."""

    def part(reduce: Callable[[Any], Any]) -> Repair:
        return Repair(REBUILD, _PART, reduce, talks=True)

    rules = {
        type(threading.Lock()): Repair(REBUILD, _OWN, _lock, named=True, note=_held),
        type(threading.RLock()): Repair(REBUILD, _OWN, _rlock, named=True, note=_held),
        threading._RLock: Repair(REBUILD, _OWN, _bare),  # the one in Python
        threading.local: Repair(
            REBUILD,
            "what a thread has put there is the thread's; the copy is as for a new one",
            _local,
            family=True,
        ),
        threading.Condition: Repair(
            REBUILD, "who waits is a thread of this process; the copy gets its own", _condition
        ),
        threading.Event: part(_event),
        threading.Semaphore: part(_semaphore),
        threading.BoundedSemaphore: part(_bounded),
        threading.Barrier: part(_barrier),
    }
    for name, module, reduce in (
        ("Queue", "queue", _queue),
        ("LifoQueue", "queue", _queue),
        ("PriorityQueue", "queue", _queue),
        ("SimpleQueue", "_queue", _simple_queue),
        ("_PySimpleQueue", "queue", _simple_queue),
    ):
        cls = loaded(module, name)
        if cls is not None:
            rules[cls] = part(reduce)
    return rules
