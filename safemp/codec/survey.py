"""What becomes of every object of a graph: the walk again, with a record.

``walker`` finds what cannot travel. This notes, on the same walk, what travels only
because it is repaired, and under which modules' names functions and classes will be
looked up on the other side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any, Protocol

from safemp.codec import statics
from safemp.codec.paths import Edge, Node, expression, owner_of, steps_to
from safemp.codec.repairs import Repair
from safemp.codec.walker import Semantics, culprit_of, walk
from safemp.errors import Culprit, Repaired

__all__ = ["RecordingSemantics", "Step", "Survey", "repaired_of", "survey", "trail_to"]

MOST_REPAIRED = 1000
"""Repairs that are told one by one; the rest are counted. Picked, as is the next."""

_MOST_TEXT = 1 << 20
"""Characters of all paths of repairs: in a chain of 100 000 objects with a lock each they are long."""


class RecordingSemantics(Semantics, Protocol):
    """A ``Semantics`` that knows of repairs."""

    def repair_of(self, obj: Any, reduced: Any) -> Repair | None:
        """Tell by which repair *obj* has the reduce value *reduced*; ``None``: by none."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a path: what it adds to the expression, and the type it leads to."""

    text: str
    type_name: str


@dataclass(slots=True)
class Survey:
    """What was seen on one walk.

    Attributes:
        culprits: As from ``find_culprits``.
        nodes: For each culprit, its node.
        trails: For each culprit its steps from the root.
        repaired: Objects that travel because they are repaired.
        repaired_trails: For each of these its steps from the root.
        more: How many repairs there are beside those in *repaired*.
        modules: Modules by whose name something goes, each with the first node that does.
    """

    culprits: list[Culprit] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    trails: list[list[Step]] = field(default_factory=list)
    repaired: list[Repaired] = field(default_factory=list)
    repaired_trails: list[list[Step]] = field(default_factory=list)
    more: int = 0
    modules: dict[str, Node] = field(default_factory=dict)


class _Recorder:
    """Answers as another ``Semantics`` does, and notes what it answered."""

    def __init__(self, semantics: RecordingSemantics) -> None:
        self._semantics = semantics
        self.by_value = semantics.by_value
        self.globals_of = semantics.globals_of
        self.globals_of_module = semantics.globals_of_module
        self.dump = semantics.dump
        self.repaired: dict[int, Repair] = {}
        self.named: dict[str, Any] = {}

    def reduce(self, obj: Any) -> Any:
        reduced = self._semantics.reduce(obj)
        repair = self._semantics.repair_of(obj, reduced)
        if repair is not None:
            self.repaired[id(obj)] = repair
            if type(obj) is ModuleType:
                self.named.setdefault(obj.__name__, obj)
        return reduced

    def find_global(self, obj: Any, name: str | None) -> str | None:
        reason = self._semantics.find_global(obj, name)
        if reason is None:
            if issubclass(type(obj), type):
                module = statics.module_of(obj)
            else:
                module = obj.__module__ if type(obj) is FunctionType else None
            if isinstance(module, str):
                self.named.setdefault(module, obj)
        return reason


def survey(
    roots: Sequence[tuple[str, Any]],
    semantics: RecordingSemantics,
    *,
    limit: int = 100,
    most_repaired: int = MOST_REPAIRED,
) -> Survey:
    """Walk what is below *roots* as ``find_culprits`` does, and record what is met.

    Args:
        roots: As for ``find_culprits``.
        semantics: Answers for the pickler.
        limit: Stop after so many culprits.
        most_repaired: Repairs that are told one by one.

    Raises:
        KeyboardInterrupt: The user's.
    """
    recorder = _Recorder(semantics)
    repaired: list[tuple[Node, Repair]] = []
    made = Survey()

    def passed(node: Node) -> None:
        if recorder.repaired:
            repair = recorder.repaired.pop(id(node[0]), None)
            recorder.repaired.clear()
            if repair is not None and not (node[2] is Edge.REDUCE and type(node[0]) is ModuleType):
                # (A module in a reduce value is where a repair looks something up.)
                if len(repaired) < most_repaired:
                    repaired.append((node, repair))
                else:
                    made.more += 1
        if recorder.named:
            for name, obj in recorder.named.items():
                if obj is node[0]:
                    made.modules.setdefault(name, node)
            recorder.named.clear()

    found = walk(roots, recorder, limit, passed)
    steps: dict[int, Any] = {}
    for node, error in found:
        made.culprits.append(culprit_of(node, error, steps))
        made.nodes.append(node)
        made.trails.append(trail_to(node, steps))
    text = 0
    for node, repair in repaired:
        if text > _MOST_TEXT:
            made.more += 1
            continue
        made.repaired.append(repaired_of(node, repair.kind, repair.why, steps, needs_safemp=repair.needs_safemp))
        made.repaired_trails.append(trail_to(node, steps))
        text += len(made.repaired[-1].path)
    return made


def repaired_of(node: Node, kind: str, why: str, steps: dict[int, Any], needs_safemp: bool = False) -> Repaired:
    """Make the record of one repair."""
    return Repaired(
        path=expression(node, steps),
        type_name=statics.type_name(type(node[0])),
        kind=kind,
        why=why,
        needs_safemp=needs_safemp,
        owner=owner_of(node),
        _obj=node[0],
    )


def trail_to(node: Node, steps: dict[int, Any]) -> list[Step]:
    """List the steps to *node* for people: ``list(…)[0]`` where a step goes around the path so far."""
    trail: list[Step] = []
    for before, after, obj in steps_to(node, steps):
        if before or after or not trail:
            name = statics.type_name(type(obj))
            if issubclass(type(obj), type):
                name = f"class {statics.type_name(obj)}"
            trail.append(Step(f"{before}…{after}" if before else after, name))
    return trail
