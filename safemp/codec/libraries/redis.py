"""redis: clients travel as they are, their pools without connections.

A pool notes the process it is in, and begins anew in another: it is made for forks.
"""

from __future__ import annotations

import copyreg
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]


def _pool(pool: Any) -> Any:
    fresh: dict[str, Any] = {"_available_connections": [], "_in_use_connections": set(), "_created_connections": 0}
    state = pool.__dict__ | fresh
    if "_connections" in state:  # a BlockingConnectionPool
        state["_connections"] = []
    return _newobj, (type(pool),), state


def _pubsub(_: Any) -> Any:
    raise RefusedError(
        "cannot pickle a redis PubSub: it listens on a connection", "send the client, and call its pubsub() in the task"
    )


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "it has the same address and settings, and connections of its own"
    return {
        loaded("redis.connection", "ConnectionPool"): Repair(RECONSTRUCT, why, _pool, family=True),
        loaded("redis.asyncio.connection", "ConnectionPool"): Repair(RECONSTRUCT, why, _pool, family=True),
        loaded("redis.client", "PubSub"): Repair(RECONSTRUCT, why, _pubsub, family=True),
    }
