"""starlette, and so FastAPI: the state of an application is a dict, for which its ``__getattr__`` asks too early."""

from __future__ import annotations

from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]


def _state(state: Any) -> tuple[Any, ...]:
    return type(state), (state._state,)


def table() -> dict[type, Repair]:
    """Return the rules."""
    return {loaded("starlette.datastructures", "State"): Repair(RECONSTRUCT, "it is its dict, which travels", _state)}
