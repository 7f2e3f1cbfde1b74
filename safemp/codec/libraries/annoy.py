"""annoy: an index is its vectors, its metric and its number of trees.

The metric cannot be read, so the index is asked for a few neighbours: which metric gives
the distances that it gives. The one that does is its metric.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from math import fsum, hypot, isclose, sqrt
from operator import getitem
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_FIX = "safemp.register(AnnoyIndex, ...) with a function that fills a new index and builds it"

_Vector = Sequence[float]


def _angular(a: _Vector, b: _Vector) -> float:
    lengths = hypot(*a) * hypot(*b)
    return sqrt(max(0.0, 2 - 2 * _dot(a, b) / lengths)) if lengths else sqrt(2)


def _manhattan(a: _Vector, b: _Vector) -> float:
    return fsum(abs(x - y) for x, y in zip(a, b, strict=True))


def _dot(a: _Vector, b: _Vector) -> float:
    return fsum(x * y for x, y in zip(a, b, strict=True))


def _hamming(a: _Vector, b: _Vector) -> float:
    return sum((x > 0.5) != (y > 0.5) for x, y in zip(a, b, strict=True))


def _euclidean(a: _Vector, b: _Vector) -> float:
    return hypot(*(x - y for x, y in zip(a, b, strict=True)))


_METRICS = {
    "angular": _angular,
    "euclidean": _euclidean,
    "manhattan": _manhattan,
    "dot": _dot,
    "hamming": _hamming,
}


def _metric(index: Any) -> str | None:
    """Return the only metric by which the distances are what the index says."""
    asked = [1 + (i * 7 % 11) / 4 for i in range(index.f)]  # of no length, and no bits, that items may have
    found = [*zip(*index.get_nns_by_vector(asked, 10, include_distances=True), strict=True)]
    fitting = [
        name
        for name, metric in _METRICS.items()
        if found and all(isclose(said, metric(asked, index.get_item_vector(i)), rel_tol=1e-3) for i, said in found)
    ]
    return fitting[0] if len(fitting) == 1 else None


def _index(index: Any) -> tuple[Any, ...]:
    trees = index.get_n_trees()
    metric = _metric(index) if trees else None
    vectors = [index.get_item_vector(i) for i in range(index.get_n_items())]
    if metric is None or not all(map(any, vectors)):  # an item that was never added is all zeros, too
        raise RefusedError("cannot pickle an annoy index whose metric or items cannot be told", _FIX)
    made = Made(Made(getattr, sys.modules["annoy"], "AnnoyIndex"), index.f, metric)  # by its own name it is not found
    filled = Made(list, Made(map, Made(getattr, made, "add_item"), range(len(vectors)), vectors))
    return getitem, ([made, filled, Made(Made(getattr, made, "build"), trees)], 0)


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "the same vectors are put into a new index, which grows as many trees"
    return {loaded("annoy", "AnnoyIndex"): Repair(RECONSTRUCT, why, _index)}
