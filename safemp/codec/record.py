"""Tells the log what was repaired in a call: at DEBUG, once for each place.

A place is an attribute of a class, or a variable of a function: a million items with a
lock each are one place. Only where the program has logging at that level is anything
looked at; then a call in which something was repaired is walked once more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safemp.codec.repairs import Policy
    from safemp.codec.table import ByName

__all__ = ["Count", "Tally", "counted", "log_repairs"]

_LOGGER = "safemp.repairs"
_DEBUG = 10


class Count:
    """Counts the repairs of this process, so that a call without any is known at no cost."""

    repairs = 0


class Tally:
    """Counts those of one pickle, which may be made and not sent."""

    def __init__(self) -> None:
        self.repairs: int = 0


def counted(
    reducer: Callable[[Any], Any], plain: Callable[[Any], bool] | None = None, by: Any = Count
) -> Callable[[Any], Any]:
    """Return *reducer*, of a repair, such that it is counted, but for what it leaves as it is.

    Args:
        reducer: The reducer.
        plain: Tells of a reduce value whether plain pickle has the same.
        by: What counts.
    """

    def reduce(obj: Any) -> Any:
        reduced = reducer(obj)
        if plain is None or not plain(reduced):
            by.repairs += 1
        return reduced

    return reduce


_told: set[tuple[str, str, str, str]] = set()


def log_repairs(roots: list[tuple[str, Any]], policy: Policy, found: ByName | None = None) -> None:
    """Log each repair below *roots* that is at a place not logged before.

    Args:
        roots: What was sent.
        policy: Which repairs were made.
        found: Objects that were looked up by name: see ``Table.by_name``.

    Raises:
        KeyboardInterrupt: The user's.
    """
    logging = sys.modules.get("logging")  # who has not imported it has not asked for DEBUG
    if logging is None or not (logger := logging.getLogger(_LOGGER)).isEnabledFor(_DEBUG):
        return
    from safemp.codec import pickling
    from safemp.codec.survey import survey
    from safemp.errors import shortened

    seen = survey(roots, pickling.Semantics(policy=policy, found=found))
    for repaired, trail in zip(seen.repaired, seen.repaired_trails, strict=True):
        attribute = next((step.text for step in reversed(trail) if not step.text[1:2].isdigit()), "")
        place = (repaired.owner, attribute, repaired.type_name, repaired.kind)
        if place not in _told:
            _told.add(place)
            logger.debug(
                "repaired %s, %s: %s: %s", shortened(repaired.path), repaired.type_name, repaired.kind, repaired.why
            )
