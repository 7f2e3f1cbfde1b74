"""Looks at one object in every way there is, and makes the report."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from safemp.codec import calls, definitions, homes, pickling, sizes, statics
from safemp.codec.loading import load_culprit, unloadable_nodes
from safemp.codec.paths import Node
from safemp.codec.repairs import REOPEN, Policy, Spec, policy_of
from safemp.codec.survey import Survey, repaired_of, survey, trail_to
from safemp.codec.table import ByName
from safemp.errors import Culprit
from safemp.inspection.modules import whereabouts
from safemp.inspection.report import Report

__all__ = ["inspect"]

_MOST_CULPRITS = 100

_WHY_BY_VALUE = "no other process can import the module {!r}, so what it defines is sent along"


def inspect(obj: Any, sizes: bool = False, *, load: bool = True, name: str = "obj", repairs: Spec = "all") -> Report:
    """Tell what in *obj* cannot travel to another process, where it is, and what to type instead.

    Nothing is sent and no process is started. What pickling calls is called
    (``__reduce_ex__``, ``__getstate__``), and what loading calls, unless ``load=False``;
    no property, ``__getattr__`` or ``__repr__`` besides. Anything may be inspected: an
    instance, a function with its closure and globals, a class, a module.

    Args:
        obj: What to look at. It is not changed.
        sizes: Also name the ten heaviest parts, in bytes.
        load: Also load the pickle again, in this process, and name what does not load. Not
            where a repair would open something again: that is for another process.
        name: What paths begin with.
        repairs: Which repairs are made; as for the pool that is to have it.

    Returns:
        The report. Print it.

    Raises:
        TypeError: *repairs* is not what it can be.
        ValueError: *repairs* names a kind that does not exist.
        KeyboardInterrupt: The user's.
    """
    roots = [(name, obj)]
    policy = policy_of(repairs)
    seen, semantics, found = _survey(roots, policy)
    # What raises KeyboardInterrupt when it is pickled is not asked again: that might be the user.
    again = not any(issubclass(type(c._error), KeyboardInterrupt) for c in seen.culprits)
    # Nor is a file: closing a second lmdb environment, say, takes the locks of the first.
    load = load and again and all(repaired.kind != REOPEN for repaired in seen.repaired)
    sizes = sizes and again
    lost, elsewhere = _doubtful(seen)
    if lost:
        with homes.supposing(lost):
            first = {module: seen.modules[module] for module in lost}
            seen, semantics, found = _survey(roots, policy)
            seen, size = _finish(seen, roots, semantics, load, found, policy)
        _note_by_value(seen, first)
    else:
        seen, size = _finish(seen, roots, semantics, load, found, policy)
    for module, (reason, fix) in elsewhere.items():
        _add_named(seen, seen.modules.get(module), reason, fix)
    return Report(
        name=name,
        type_name=statics.type_name(type(obj)),
        culprits=tuple(seen.culprits),
        repairs=tuple(seen.repaired),
        sizes=_heaviest(roots, semantics) if sizes else (),
        size=size,
        more_repairs=seen.more,
        by_name=bool(seen.modules)
        and (type(obj) is FunctionType or issubclass(type(obj), type))
        and not semantics.by_value(obj),
        complete=len(seen.culprits) < _MOST_CULPRITS,
        _trails=(tuple(map(tuple, seen.trails)), tuple(map(tuple, seen.repaired_trails))),
    )


def _survey(roots: list[tuple[str, Any]], policy: Policy) -> tuple[Survey, pickling.Semantics, ByName | None]:
    """See what a pool would; it looks up what is an attribute of a module, if that mends all of it."""
    semantics = pickling.Semantics(policy=policy, roots=[roots[0][1]])
    seen = survey(roots, semantics, limit=_MOST_CULPRITS)
    found = calls.attributes_of_modules(seen.culprits, policy) if seen.culprits else None
    if found is not None:
        semantics = pickling.Semantics(policy=policy, roots=[roots[0][1]], found=found)
        seen = survey(roots, semantics, limit=_MOST_CULPRITS)
    return seen, semantics, found


def _heaviest(roots: list[tuple[str, Any]], semantics: pickling.Semantics) -> tuple[sizes.Heavy, ...]:
    return tuple(sizes.heaviest(roots, semantics))


def _doubtful(seen: Survey) -> tuple[list[str], dict[str, tuple[str, str]]]:
    """Tell which modules no worker finds, and which it finds in another place: by reason and fix."""
    lost, elsewhere = [], {}
    for name in seen.modules:
        found = whereabouts(name)
        if found is None:
            lost.append(name)
        elif found:
            elsewhere[name] = (
                f"another process that imports {name!r} gets {found}",
                f"give the module a name of its own, or cloudpickle.register_pickle_by_value(sys.modules[{name!r}])",
            )
    return lost, elsewhere


def _finish(
    seen: Survey,
    roots: list[tuple[str, Any]],
    semantics: pickling.Semantics,
    load: bool,
    found: ByName | None,
    policy: Policy,
) -> tuple[Survey, int | None]:
    """Pickle the whole, and load it; return what is seen now, and its size in bytes."""
    frames: list[Any] = []
    size = None
    if not seen.culprits:
        try:
            stream = pickling.dumps_careful(roots[0][1], frames, policy=policy, found=found)
            size = len(stream) + sum(memoryview(frame).nbytes for frame in frames)
        except pickling.USER_ERRORS as error:  # each part pickles, the whole does not
            semantics = pickling.Semantics(policy=policy, roots=[roots[0][1]], error=error, found=found)
            seen = survey(roots, semantics, limit=_MOST_CULPRITS)  # a weak reference to what does not travel, say
            if not seen.culprits:
                seen.culprits.append(calls.whole(roots[0], error))
                seen.trails.append([])
        else:
            if not load or (_loads(stream, frames) and not definitions.are_in(stream)):
                return seen, size  # what a script defines is here already, and was not loaded
    if load and (size is not None or seen.culprits[0].path != roots[0][0]):
        steps: dict[int, Any] = {}
        nodes = unloadable_nodes(roots, semantics, culprits=seen.nodes)  # kept: steps are by the nodes' ids
        for node, why in nodes:
            seen.culprits.append(load_culprit(node, why, steps))
            seen.trails.append(trail_to(node, steps))
    return seen, size


def _loads(stream: bytes, frames: list[Any]) -> bool:
    try:
        pickling.loads(stream, frames)
    except KeyboardInterrupt:
        raise
    except BaseException:  # user code, in __setstate__ or a constructor
        return False
    return True


def _note_by_value(seen: Survey, first: dict[str, Node]) -> None:
    for module, node in first.items():
        steps: dict[int, Any] = {}
        seen.repaired.append(repaired_of(node, "by value", _WHY_BY_VALUE.format(module), steps))
        seen.repaired_trails.append(trail_to(node, steps))


def _add_named(seen: Survey, node: Node | None, reason: str, fix: str) -> None:
    if node is not None:
        steps: dict[int, Any] = {}
        made = repaired_of(node, "", reason, steps)
        seen.culprits.append(
            Culprit(made.path, made.type_name, reason, fix, node[0], None, "does not load", made.owner)
        )
        seen.trails.append(trail_to(node, steps))
