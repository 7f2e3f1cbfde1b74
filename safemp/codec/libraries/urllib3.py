"""urllib3, and so requests: pools travel without their connections.

``requests.Session`` needs no rule: it pickles itself, and makes its pools again.
"""

from __future__ import annotations

import copyreg
import sys
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]


def _container(container: Any) -> tuple[Any, ...]:
    """What a ``PoolManager`` keeps its pools in; they are made when they are asked for."""
    return type(container), (container._maxsize, container.dispose_func)


def _pool(pool: Any) -> Any:
    """Fill the queue as the constructor does: with places for connections."""
    if pool.pool is None:
        return _newobj, (type(pool),), dict(pool.__dict__)
    empty = sys.modules["queue"].LifoQueue(pool.pool.maxsize)
    empty.queue[:] = [None] * pool.pool.maxsize
    return _newobj, (type(pool),), pool.__dict__ | {"pool": empty, "num_connections": 0}


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "it has the same settings, and connections of its own"
    return {
        loaded("urllib3._collections", "RecentlyUsedContainer"): Repair(RECONSTRUCT, why, _container),
        loaded("urllib3.connectionpool", "HTTPConnectionPool"): Repair(RECONSTRUCT, why, _pool, family=True),
    }
