"""``asyncio``: what no event loop has got hold of yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import REBUILD, RefusedError, Repair

__all__ = ["table"]


def _unbound(obj: Any) -> Any:
    if getattr(obj, "_loop", None) is not None or getattr(obj, "_waiters", None):
        name = type(obj).__name__
        raise RefusedError(
            f"cannot pickle an asyncio.{name} that belongs to an event loop of this process",
            f"make it in the task: asyncio.{name}()",
        )
    return obj


def _lock(lock: Any) -> tuple[Any, ...]:
    return type(_unbound(lock)), ()


def _event(event: Any) -> tuple[Any, ...]:
    return (type(_unbound(event)), (), {"_value": True}) if event.is_set() else (type(event), ())


def _condition(condition: Any) -> tuple[Any, ...]:
    return type(_unbound(condition)), (condition._lock,)


def _semaphore(semaphore: Any) -> tuple[Any, ...]:
    return type(_unbound(semaphore)), (semaphore._value,)


def _bounded(semaphore: Any) -> tuple[Any, ...]:
    return type(_unbound(semaphore)), (semaphore._bound_value,)


def _queue(queue: Any) -> tuple[Any, ...]:
    if queue._getters or queue._putters:
        _unbound(queue)
    items = queue._queue.copy()
    made = (type(_unbound(queue)), (queue._maxsize,))
    return (*made, {"_queue": items, "_unfinished_tasks": len(items)}) if items else made


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "no event loop has it yet; the copy gets its own"

    rules: dict[type, Repair] = {}
    for module, name, reduce, talks in (
        ("asyncio.locks", "Lock", _lock, False),
        ("asyncio.locks", "Event", _event, True),
        ("asyncio.locks", "Condition", _condition, False),
        ("asyncio.locks", "Semaphore", _semaphore, True),
        ("asyncio.locks", "BoundedSemaphore", _bounded, True),
        ("asyncio.queues", "Queue", _queue, True),
        ("asyncio.queues", "LifoQueue", _queue, True),
        ("asyncio.queues", "PriorityQueue", _queue, True),
    ):
        cls = loaded(module, name)
        if cls is not None:
            rule: Callable[[Any], Any] = reduce
            rules[cls] = Repair(REBUILD, why, rule, talks=talks)
    return rules
