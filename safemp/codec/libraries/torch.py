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
    generator = loaded("torch", "Generator")
    if generator is None or generator.__reduce__ is not object.__reduce__:  # later ones pickle by themselves
        return {}
    return {generator: Repair(RECONSTRUCT, "it goes on from the same state", _generator)}
