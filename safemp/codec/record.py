"""Tells the log what was repaired in a call: at DEBUG, once for each place.

A place is an attribute of a class, or a variable of a function: a million items with a
lock each are one place. Only where the program has logging at that level is anything
looked at; then a call in which something was repaired is walked once more.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

__all__ = ["Made", "counted", "log_repairs"]

_LOGGER = "safemp.repairs"
_DEBUG = 10


class Made:
    """Counts the repairs of this process, so that a call without any is known at no cost."""

    repairs = 0


def counted(reducer: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return *reducer*, of a repair, such that it is counted."""

    def reduce(obj: Any) -> Any:
        Made.repairs += 1
        return reducer(obj)

    return reduce


_told: set[tuple[str, str, str, str]] = set()


def log_repairs(roots: list[tuple[str, Any]]) -> None:
    """Log each repair below *roots* that is at a place not logged before.

    Raises:
        KeyboardInterrupt: The user's.
    """
    logging = sys.modules.get("logging")  # who has not imported it has not asked for DEBUG
    if logging is None or not (logger := logging.getLogger(_LOGGER)).isEnabledFor(_DEBUG):
        return
    from safemp.codec import pickling
    from safemp.codec.survey import survey
    from safemp.errors import shortened

    found = survey(roots, pickling.Semantics())
    for repaired, trail in zip(found.repaired, found.repaired_trails, strict=True):
        attribute = next((step.text for step in reversed(trail) if not step.text[1:2].isdigit()), "")
        place = (repaired.owner, attribute, repaired.type_name, repaired.kind)
        if place not in _told:
            _told.add(place)
            logger.debug(
                "repaired %s, %s: %s: %s", shortened(repaired.path), repaired.type_name, repaired.kind, repaired.why
            )
