"""Indexes of annoy, of every metric, travel; what cannot be told of one is not guessed."""

from __future__ import annotations

import pickle
import random
from typing import Any

import pytest

import safemp
from tests.systems.nemo.rails import VERSION

try:
    from annoy import AnnoyIndex
except ImportError:
    AnnoyIndex = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION or AnnoyIndex is None, reason="wants the nemoguardrails and annoy packages"),
]

SIZE = 8


def vectors(kind: str) -> list[list[float]]:
    """Make some that one metric alone, or several, cannot tell from each other."""
    chance = random.Random(1)
    found = [[chance.gauss(0, 1) for _ in range(SIZE)] for _ in range(50)]
    if kind == "of length 1":
        return [[x / sum(y * y for y in vector) ** 0.5 for x in vector] for vector in found]
    return [[float(x > -1) for x in vector] for vector in found] if kind == "bits" else found


def filled(metric: str, items: list[list[float]]) -> Any:
    """Make an index of *items*."""
    index = AnnoyIndex(SIZE, metric)
    for i, item in enumerate(items):
        index.add_item(i, item)
    return index


@pytest.mark.parametrize("kind", ["any", "of length 1", "bits"])
@pytest.mark.parametrize("metric", ["angular", "euclidean", "manhattan", "dot", "hamming"])
def test_it_answers_as_the_original(metric: str, kind: str) -> None:
    """Every item is at the same distance; the original does not pickle."""
    items = vectors("bits" if metric == "hamming" else kind)
    index = filled(metric, items)
    index.build(7)
    with pytest.raises(TypeError, match=r"cannot pickle 'annoy\.Annoy' object"):
        pickle.dumps(index)

    copy = pickle.loads(safemp.dumps(index))
    assert copy.get_n_trees() == 7
    for asked in vectors("any")[:10]:
        here, there = (
            dict(zip(*each.get_nns_by_vector(asked, len(items), 10_000, include_distances=True), strict=True))
            for each in (index, copy)
        )
        assert here == there
        assert len(here) == len(items)


@pytest.mark.parametrize("wrong", ["not built", "an item that was not added", "empty"])
def test_what_cannot_be_told_is_refused(wrong: str) -> None:
    """An index that was not built says nothing of its metric; an item that is missing looks like one of zeros."""
    index = filled("angular", [] if wrong == "empty" else vectors("any"))
    if wrong == "an item that was not added":
        index.add_item(60, [1.0] * SIZE)
    if wrong != "not built":
        index.build(2)

    with pytest.raises(safemp.PreflightError, match="metric or items cannot be told") as caught:
        safemp.dumps({"index": index})
    assert caught.value.culprits[0].path == "obj['index']"
    assert "safemp.register(AnnoyIndex" in caught.value.culprits[0].fix
