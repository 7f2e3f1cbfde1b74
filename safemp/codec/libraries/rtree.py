"""rtree: an index in memory is filled again. By its own pickle it arrives empty."""

from __future__ import annotations

from typing import Any

from safemp.codec.libraries import called, loaded
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]

_IN_MEMORY = 0
"""``RT_Memory``; an index in a file is opened again by its own pickle."""


def _index(index: Any) -> Any:
    if index.properties.storage != _IN_MEMORY or not len(index):
        return index.__reduce_ex__(5)
    everywhere = index.get_bounds()
    found = index.intersection(everywhere, objects=True)
    items = [(item.id, item.bbox if index.interleaved else item.bounds, item.object) for item in found]
    return called(type(index), items, interleaved=index.interleaved, properties=index.properties)


def _is_plain(reduced: Any) -> bool:
    return len(reduced) > 2


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "the same items are put into a new index"
    return {loaded("rtree.index", "Index"): Repair(RECONSTRUCT, why, _index, plain=_is_plain)}
