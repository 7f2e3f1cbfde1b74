"""The findings of a report as one tree, for the ways of showing it.

Steps that lead to one place only are joined, ``.llm.client``, and of very long ways the
middle is left out: what is shown is for the eye, what is to be pasted is ``path``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from safemp.codec.survey import Step
from safemp.engines.memory import size
from safemp.errors import Culprit, Repaired, shortened
from safemp.inspection.report import Report

__all__ = ["Branch", "Kind", "kinds", "tree_of", "verdict", "where"]

_LONGEST = 24
"""Steps that are shown of one way. Picked, as is the next."""

_MOST_REPAIRS = 30
"""Repairs that the tree shows. All of them are in ``Report.repairs``."""

_MOST_PLACES = 8


@dataclass(slots=True)
class Branch:
    """One place in the tree.

    Attributes:
        text: The steps from the branch above.
        type_name: What is there.
        culprits: What of it cannot travel: itself. Two for what has two problems.
        repairs: How it is repaired.
        below: Branches, in the order in which they were met.
    """

    text: str
    type_name: str
    culprits: list[Culprit] = field(default_factory=list)
    repairs: list[Repaired] = field(default_factory=list)
    below: dict[str, Branch] = field(default_factory=dict)


@dataclass(slots=True)
class Kind:
    """Repairs of one kind, for one reason, in one line."""

    repair: Repaired
    count: int
    places: list[str]


def tree_of(report: Report) -> Branch:
    """Build the tree of all culprits, and of the first repairs."""
    root = Branch(report.name, report.type_name)
    of_culprits, of_repairs = report._trails
    for i, culprit in enumerate(report.culprits):
        trail = of_culprits[i] if i < len(of_culprits) else ()
        _leaf(root, trail, culprit).culprits.append(culprit)
    shown = [(r, t) for r, t in zip(report.repairs, of_repairs, strict=False) if r.type_name != "module"]
    for repair, trail in shown[:_MOST_REPAIRS]:
        _leaf(root, trail, repair).repairs.append(repair)
    return _joined(root)


def _leaf(root: Branch, trail: tuple[Step, ...], found: Culprit | Repaired) -> Branch:
    if not trail and found.path != root.text:
        trail = (Step(root.text, root.type_name), Step(found.path, found.type_name))
    branch = root
    for step in _shortened(trail[1:]):
        branch = branch.below.setdefault(step.text, Branch(step.text, step.type_name))
    return branch


def _shortened(trail: tuple[Step, ...]) -> Iterator[Step]:
    if len(trail) <= _LONGEST:
        yield from trail
        return
    half = _LONGEST // 2
    yield from trail[:half]
    yield Step(f" …({len(trail) - 2 * half} steps)… ", "")
    yield from trail[-half:]


def _joined(branch: Branch) -> Branch:
    """Join each branch with the only one below it, where nothing is to be said of the first."""
    while len(branch.below) == 1 and not branch.culprits and not branch.repairs:
        (only,) = branch.below.values()
        if only.text.startswith(("…", "list(", "type(")):  # goes around what is before
            break
        if not _is_plain(branch.type_name) and not _is_plain(only.type_name):
            break  # the types on the way are what a reader knows
        branch = Branch(branch.text + only.text, only.type_name, only.culprits, only.repairs, only.below)
    branch.below = {text: _joined(below) for text, below in branch.below.items()}
    return branch


def _is_plain(type_name: str) -> bool:
    return type_name in ("dict", "list", "tuple", "")


def kinds(report: Report) -> list[Kind]:
    """Group the repairs by kind, type and reason, in the order in which they were met."""
    found: dict[tuple[str, str, str], Kind] = {}
    for repair in report.repairs:
        key = (repair.kind, repair.type_name, repair.why)
        kind = found.setdefault(key, Kind(repair, 0, []))
        kind.count += 1
        kind.places.append(repair.path)
    return list(found.values())


def where(kind: Kind) -> str:
    """Say which repairs the tree does not show: those of modules, by the names under which they were met."""
    if kind.repair.type_name != "module":
        return ""
    names = list(dict.fromkeys(_last(place) for place in kind.places))
    more = f", and {len(names) - _MOST_PLACES} more" if len(names) > _MOST_PLACES else ""
    return f": {', '.join(names[:_MOST_PLACES])}{more}"


def _last(path: str) -> str:
    """Return the last name in *path*: of a global, a variable, an attribute."""
    found = re.search(r"\['([^']+)'\]$|\.(\w+)$", path)
    return shortened(path, 80) if found is None else found[1] or found[2]


def verdict(report: Report) -> str:
    """Say in one line whether the object can travel."""
    repairs = len(report.repairs) + report.more_repairs
    mended = f"; {repairs} {'repair' if repairs == 1 else 'repairs'}" if repairs else ""
    if report.ok:
        how = " by its name" if report.by_name else ""
        bytes_ = f", {size(report.size)}" if report.size is not None else ""
        return f"{report.name} ({report.type_name}) can travel{how}{bytes_}{mended}"
    count = len(report.culprits)
    more = "" if report.complete else " or more"
    noun = "culprit" if count == 1 and not more else "culprits"
    return f"{report.name} ({report.type_name}) cannot travel: {count}{more} {noun}{mended}"
