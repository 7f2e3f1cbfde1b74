"""What pickles but does not load: the smallest objects whose pickle fails to load.

A class that wants two arguments in its constructor and gives pickle one, a
``__getattr__`` that recurses on the empty copy, a ``__setstate__`` that opens a file which
is not there: all of these pickle. So the pickle of the whole is loaded, here; if that
fails, so are those of its parts, by halves, down to the objects none of whose parts fails.

Loading runs what it runs in a worker: constructors, ``__setstate__``, ``__reduce__``'s calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from types import CellType, FunctionType, MethodType
from typing import Any

from safemp.codec import pickling, statics
from safemp.codec.fixes import fix_for_load, library_object
from safemp.codec.homes import goes_by_value
from safemp.codec.paths import Edge, Node, expression, owner_of
from safemp.codec.repairs import ALL, Policy
from safemp.codec.walker import ATOMS, Semantics, below, reason_of
from safemp.errors import Culprit

__all__ = ["find_unloadable", "load_culprit", "unloadable_nodes"]

_MOST = 20
"""Objects after which the search for more ends. Picked, not measured."""

_MOST_PICKLES = 1000
"""Pickles that are made to find them. Where culprits of another kind are all over, more
would take long and tell little. Picked, too."""

_MOST_BYTES = 1 << 25
"""Bytes of all these pickles: each part of a compiler's state, say, leads to all of it. Picked."""

_OF_ONE_THAT_FAILS = 1 << 17
"""Bytes that a pickle counts for which ends in an error, somewhere. Picked."""


def find_unloadable(
    roots: Sequence[tuple[str, Any]], semantics: Semantics, *, limit: int = _MOST, policy: Policy = ALL
) -> list[Culprit]:
    """Name the smallest objects below *roots* that pickle and whose pickle does not load.

    Args:
        roots: As for ``find_culprits``.
        semantics: Answers for the pickler.
        limit: Stop after so many.
        policy: Which repairs are made.

    Returns:
        Culprits whose problem is ``does not load``; none, if all that pickles loads.

    Raises:
        KeyboardInterrupt: The user's.
    """
    steps: dict[int, Any] = {}
    found = unloadable_nodes(roots, semantics, limit, policy=policy)
    return [load_culprit(node, error, steps) for node, error in found]


def load_culprit(node: Node, error: BaseException, steps: dict[int, Any]) -> Culprit:
    """Make the culprit of one node that ``unloadable_nodes`` has found."""
    return Culprit(
        path=expression(node, steps),
        type_name=statics.type_name(type(node[0])),
        reason=reason_of(error),
        fix=fix_for_load(node[0], error, library_object(node)),
        _obj=node[0],
        _error=error,
        problem="does not load",
        owner=owner_of(node),
    )


def unloadable_nodes(
    roots: Sequence[tuple[str, Any]],
    semantics: Semantics,
    limit: int = _MOST,
    culprits: Sequence[Node] = (),
    policy: Policy = ALL,
) -> list[tuple[Node, BaseException]]:
    """Do the work of ``find_unloadable``: see there.

    Args:
        roots: As there.
        semantics: As there.
        limit: As there.
        culprits: What is known not to pickle: what is on the way there is not tried.
        policy: As there.
    """
    doomed: set[int] = set()
    for culprit in culprits:
        above: Node | None = culprit
        while above is not None and id(above[0]) not in doomed:
            doomed.add(id(above[0]))
            above = above[1]
    found: list[tuple[Node, BaseException]] = []
    suspects: list[tuple[Node, BaseException]] = []
    memo: dict[int, Any] = {}
    budget = [_MOST_PICKLES, _MOST_BYTES]
    nodes: list[Node] = [(obj, None, Edge.ROOT, name) for name, obj in roots]
    # Here the names that a pickle has of what the script defines lead to what there is already: that always loads.
    stack = (_failing(nodes, doomed, budget, policy) or _definitions(nodes))[::-1]
    while stack and len(found) < limit:
        node, error = stack.pop()
        if id(node[0]) in memo:
            continue
        memo[id(node[0])] = node[0]
        try:
            children = below(node, semantics, {})
        except KeyboardInterrupt:
            raise
        except BaseException:  # a culprit of another kind; or a PickleBuffer, which has no reduce value
            children = []
        # What leads back to where we were fails with everything in that circle, and tells nothing of this object.
        ahead = [child for child in children if id(child[0]) not in memo]
        failing = _failing(ahead, doomed, budget, policy) or _definitions(ahead)
        # What does not pickle is looked into, and is not to be named here.
        if any(why is not None for _, why in failing) or error is None:
            stack += failing[::-1]
        elif len(ahead) == len(children) or _raised_in(error, type(node[0])):
            found.append((node, error))
        else:
            suspects.append((node, error))
    return found or suspects[-1:]


def _definitions(nodes: list[Node]) -> list[tuple[Node, BaseException | None]]:
    """Return those of *nodes* that may define, or be made of, what a script has defined."""
    return [
        (node, None)
        for node in nodes
        if issubclass(type(node[0]), _DEFINE) or goes_by_value(statics.module_of(type(node[0])) or "")
    ]


_DEFINE = (FunctionType, MethodType, CellType, partial, type)
"""Types of such objects."""

_FRAMES = 20
"""Calls of a traceback that are looked at; one of a recursion has a thousand. Picked."""


def _raised_in(error: BaseException, cls: type) -> bool:
    """Tell whether *error* was raised in a method of *cls*, whose first argument is an instance, or the class.

    Or in calling one: Python says so in the text.
    """
    if type(error) is TypeError and f"{statics.qualname(cls)}.__" in str(error):
        return True
    traceback = error.__traceback__
    for _ in range(_FRAMES):
        if traceback is None:
            return False
        frame = traceback.tb_frame
        ours = str(frame.f_globals.get("__name__")).startswith("safemp.")
        first = frame.f_locals.get(frame.f_code.co_varnames[0]) if frame.f_code.co_argcount and not ours else None
        if first is cls or type(first) is cls:
            return True
        traceback = traceback.tb_next
    return False


def _failing(
    nodes: list[Node], doomed: set[int], budget: list[int], policy: Policy
) -> list[tuple[Node, BaseException | None]]:
    """Return those of *nodes* that do not load, by halves: few of many do not.

    Returns:
        Each with the error; ``None`` for one that does not even pickle.
    """
    found: list[tuple[Node, BaseException | None]] = [(node, None) for node in nodes if id(node[0]) in doomed]
    groups = [[node for node in nodes if type(node[0]) not in ATOMS and id(node[0]) not in doomed]]
    while groups and min(budget) > 0:
        group = groups.pop()
        if not group:
            continue
        budget[0] -= 1
        loads, error, size = _try([node[0] for node in group], policy)
        budget[1] -= size
        if loads:
            continue
        if len(group) == 1:
            found.append((group[0], error))
            continue
        middle = len(group) // 2
        groups += [group[middle:], group[:middle]]
    return found


def _try(objects: list[Any], policy: Policy) -> tuple[bool, BaseException | None, int]:
    """Tell whether the pickle of *objects* loads, what loading raises (``None``: it does not pickle), and its size."""
    whole = objects[0] if len(objects) == 1 else objects
    error = None
    size = 0
    for dump in (pickling.dumps, pickling.dumps_careful):  # what a pool tries, in its order
        try:
            stream = dump(whole, policy=policy)
        except KeyboardInterrupt:
            raise
        except BaseException:  # user code, in __reduce__
            return False, None, size + _OF_ONE_THAT_FAILS
        size += len(stream)
        try:
            pickling.loads(stream)
        except KeyboardInterrupt:
            raise
        except BaseException as why:  # user code, in __setstate__ or a constructor
            error = why
        else:
            return True, None, size
    return False, error, size
