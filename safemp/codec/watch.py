"""What is seen only when the whole is written: is this queue handed over by itself, is that referent there.

An Event inside an object is part of how the object works. One that is an argument, an
item or a variable of a closure is there to talk to somebody, and a copy would wait for
ever. A weak reference is worth sending when something else that is sent holds what it
refers to. Both are questions about the whole, so their rules note what they have met
(``Repair.talks``, ``Repair.weak``), and these functions answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from safemp.codec.definitions import ATOMS
from safemp.codec.libraries import weak
from safemp.codec.repairs import RefusedError, Repair

__all__ = ["Refusals", "WatchError", "exposed", "orphans", "unheld"]

Refusals: TypeAlias = "dict[int, tuple[Any, RefusedError]]"
"""Objects that are refused where they are, by ``id``, and why."""


_LEADING = frozenset({list, tuple, set, frozenset, dict, FunctionType, partial})
"""Types of what is searched."""


class WatchError(TypeError):
    """Something that was written is refused where it is.

    Attributes:
        refusals: What, and why.
    """

    def __init__(self, refusals: Refusals) -> None:
        super().__init__(str(next(iter(refusals.values()))[1]))
        self.refusals = refusals


def exposed(roots: Iterable[Any], rule_for: Callable[[type], Repair | None]) -> Refusals:
    """Find what is there to talk to others and is handed over by itself.

    Args:
        roots: The call's parts. Searched are lists, tuples, dicts and sets of them,
            and the variables of functions; not the state of objects.
        rule_for: Gives the rule for a type.
    """
    found: Refusals = {}
    seen: dict[int, Any] = {}  # of what leads on
    silent = set(ATOMS)  # types that neither talk nor lead on
    stack = list(roots)
    while stack:
        obj = stack.pop()
        cls = type(obj)
        if cls in silent:
            continue
        if cls not in _LEADING:
            rule = rule_for(cls)
            if rule is not None and rule.talks:
                found[id(obj)] = obj, _wrong(obj)
            else:
                silent.add(cls)
            continue
        if id(obj) in seen:
            continue
        seen[id(obj)] = obj
        if cls is dict:
            if not silent.issuperset(map(type, obj.values())):
                stack.extend(obj.values())
        elif cls is FunctionType:
            stack.extend(obj.__defaults__ or ())
            stack.extend((obj.__kwdefaults__ or {}).values())
            for cell in obj.__closure__ or ():
                try:
                    stack.append(cell.cell_contents)
                except ValueError:  # an empty cell
                    continue
        elif cls is partial:
            stack += [obj.func, obj.args, obj.keywords]
        elif not silent.issuperset(map(type, obj)):
            stack.extend(obj)
    return found


def _wrong(obj: Any) -> RefusedError:
    name = type(obj).__name__
    if type(obj).__module__.startswith("asyncio"):
        return RefusedError(
            f"an asyncio.{name} is there to talk to others, and nobody would hear the copy in another process",
            f"make it in the task: asyncio.{name}(); between processes use multiprocessing.Manager()",
        )
    managed = {"SimpleQueue": "Queue", "LifoQueue": "Queue", "PriorityQueue": "Queue"}.get(name, name)
    return RefusedError(
        f"a threading {name} is there to talk to others, and nobody would hear the copy in another process",
        f"use multiprocessing.Manager().{managed}(), whose handle travels; or "
        f"multiprocessing.{managed}() in initargs= of a pool, or in args= of a Process",
    )


def orphans(objects: Iterable[Any], written: Callable[[], set[int]]) -> Refusals:
    """Find weak references to what nothing else that is sent holds.

    Args:
        objects: What was met: weak references, proxies, containers.
        written: Writes all again, without what weak references refer to; gives the
            ids of what is written then.
    """
    return {
        id(obj): (
            obj,
            RefusedError(
                "what it refers to does not travel on its own, so the copy would be dead when it arrives",
                "send the object itself, and make the weak reference in the task",
            ),
        )
        for obj, _ in unheld(objects, written, (type, FunctionType, ModuleType))
    }


def unheld(
    objects: Iterable[Any], written: Callable[[], set[int]], held: tuple[type, ...] = ()
) -> list[tuple[Any, Any]]:
    """List weak references with what they refer to, and nothing else holds: see ``orphans``.

    Args:
        objects: As there.
        written: As there.
        held: Types of what goes by name, and is held by its module.
    """
    referents = [(obj, referent) for obj in objects for referent in weak.referents(obj) if referent is not None]
    wanted = [pair for pair in referents if not isinstance(pair[1], held)]
    if not wanted:
        return []
    there = written()
    return [(obj, referent) for obj, referent in wanted if id(referent) not in there]
