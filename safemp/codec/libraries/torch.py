"""torch: a random generator is its device and its state."""

from __future__ import annotations

from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]


def _generator(generator: Any) -> Any:
    """``set_state`` takes the place of a state: see the sixth element of a reduce value."""
    cls = type(generator)
    return cls, (str(generator.device),), generator.get_state(), None, None, cls.set_state


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "it goes on from the same state"
    rules: dict[Any, Repair] = {loaded("torch", "Generator"): Repair(RECONSTRUCT, why, _generator)}
    rules.pop(None, None)
    return rules
