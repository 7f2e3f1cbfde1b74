"""``safemp.inspect`` on random graphs: what is reported is what was planted, where it was planted."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import safemp
from tests.property.test_walker import MAKERS, PLANTS, atoms, evaluate


class DoesNotLoad:
    """Pickles, and its pickle wants an argument more."""

    def __init__(self, more: Any) -> None:
        self.more = more

    def __reduce__(self) -> Any:
        return DoesNotLoad, ()


KINDS: dict[str, list[Any]] = {
    "does not pickle": PLANTS,
    "repaired": [threading.Lock, threading.RLock, threading.local],
    "does not load": [lambda: DoesNotLoad(1)],
}


def planted(*kinds: str) -> st.SearchStrategy[Any]:
    """Draw graphs in which there are plants of these kinds."""
    plants = st.sampled_from([("plant", kind, i) for kind in kinds for i in range(len(KINDS[kind]))])
    leaves = st.one_of(atoms.map(lambda x: ("atom", x)), plants)
    return st.recursive(
        leaves, lambda below: st.tuples(st.integers(0, len(MAKERS) - 1), below, below, below), max_leaves=25
    )


def build(recipe: Any, plants: dict[str, list[Any]]) -> Any:
    """Make what *recipe* says, and note in *plants* what was planted."""
    if recipe[0] == "atom":
        return recipe[1]
    if recipe[0] == "plant":
        made = KINDS[recipe[1]][recipe[2]]()
        plants[recipe[1]].append(made)
        return made
    return MAKERS[recipe[0]](*(build(part, plants) for part in recipe[1:]))


def no_plants() -> dict[str, list[Any]]:
    """Return a place for each kind."""
    return {kind: [] for kind in KINDS}


@settings(max_examples=300, deadline=None)
@given(planted("does not pickle", "repaired"))
def test_culprits_and_repairs_are_those_planted(recipe: Any) -> None:
    """No more and no less, and every path leads to its object."""
    plants = no_plants()
    root = build(recipe, plants)
    report = safemp.inspect(root, load=False, name="root")
    kinds = {type(make()) for make in KINDS["repaired"]}
    mended = [repair for repair in report.repairs if type(repair.get()) in kinds]  # and views, proxies, modules

    assert {id(c.get()) for c in report.culprits} == {id(plant) for plant in plants["does not pickle"]}
    assert {id(r.get()) for r in mended} == {id(plant) for plant in plants["repaired"]}
    assert len(report.culprits) == len(plants["does not pickle"])
    assert len(mended) == len(plants["repaired"])
    for found in (*report.culprits, *mended):
        assert evaluate(found.path, root) is found.get()


@settings(max_examples=150, deadline=None)
@given(planted("does not load", "repaired"))
def test_what_does_not_load_is_what_was_planted(recipe: Any) -> None:
    """The smallest objects are named, none of those that hold them, at most twenty."""
    plants = no_plants()
    root = build(recipe, plants)
    report = safemp.inspect(root, name="root")
    bad = {id(plant) for plant in plants["does not load"]}

    assert {id(c.get()) for c in report.culprits} == bad or (len(report.culprits) >= 20 and len(bad) > 20)
    for culprit in report.culprits:
        assert culprit.problem == "does not load"
        assert evaluate(culprit.path, root) is culprit.get()


@settings(max_examples=100, deadline=None)
@given(planted("does not pickle", "does not load", "repaired"))
def test_a_report_is_always_had(recipe: Any) -> None:
    """Whatever is planted, there is a report in every form, and its verdict is that of the pickler."""
    plants = no_plants()
    root = build(recipe, plants)
    report = safemp.inspect(root, sizes=True)

    assert report.ok == (not plants["does not pickle"] and not plants["does not load"])
    assert report.to_text()
    assert report._repr_html_()
    assert {id(c.get()) for c in report.culprits} >= {id(plant) for plant in plants["does not pickle"]}


@pytest.mark.parametrize("make", [make for kind in KINDS for make in KINDS[kind] if kind != "does not pickle"])
def test_plants_are_what_they_are_called(make: Any) -> None:
    """What is planted as repairable travels, and what is planted as unloadable does not."""
    assert safemp.inspect(make(), load=False).ok
    assert safemp.inspect(make()).ok == (make in KINDS["repaired"])
