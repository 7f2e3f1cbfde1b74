"""Finds everything in a call that cannot travel, each with its exact path.

The walker mirrors the pickler: it asks for the reduce value of each object and goes on
into that, so it sees what would be saved and nothing else. Hence it has no false alarms
and runs no property, ``__getattr__`` or ``__repr__`` which pickling would not run.

An object whose reduce value cannot be had, or a global that is not found under its
name, is a culprit; nothing below it is looked at. When no culprit is found although
pickling has failed, the failure is none of one object's (recursion depth, say).

Rule 1: iterative. The stack is a list, so depth costs memory only.
Rule 2: an ``id`` is in the memo only while the memo keeps its object alive. Many
objects exist only in a reduce value, and ids of the dead are used again.
Rule 3: parents, not paths. What a path needs is one tuple per object; ``paths`` spells
it for culprits only.
Rule 4: what may run user code stands in ``below``, whose errors are caught. Of these
a ``KeyboardInterrupt`` counts only when it can be had again: otherwise it is the user's.
"""

from __future__ import annotations

import copyreg
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import FunctionType, ModuleType, TracebackType
from typing import Any, Protocol, TypeAlias

from safemp.codec import statics
from safemp.codec.by_value import class_parts, dot, function_parts
from safemp.codec.exception_reduce import Ahead
from safemp.codec.fixes import fix_for, library_object
from safemp.codec.inheritance import NotInheritedError
from safemp.codec.paths import Edge, Node, expression, holders_of, owner_of
from safemp.codec.repairs import RefusedError
from safemp.errors import Culprit

__all__ = ["ATOMS", "Semantics", "below", "culprit_of", "find_culprits", "reason_of", "walk"]

_ROOT, _TEXT, _INDEX, _NTH, _VALUE, _STATE, _STATE_DICT, _STATE_SLOT, _REDUCE = Edge  # global names cost half of Edge.X

ATOMS = frozenset(
    {type(None), bool, int, float, complex, str, bytes, bytearray, range, type(Ellipsis), type(NotImplemented)}
)
"""Types whose exact instances always pickle and hold nothing."""

_NEWOBJ: Any = copyreg.__newobj__  # type: ignore[attr-defined]
_MANY = 50
"""Items of a list from which their nodes are made one by one. Picked, not measured."""
_LONGEST_REASON = 300
"""Characters of an error that are shown. Picked, not measured."""

_OTHERS = ATOMS | {list, tuple, dict, set, frozenset, FunctionType, ModuleType}
"""Types whose objects are gone into otherwise than by their reduce value."""

_traceback_of: Any = BaseException.__dict__["__traceback__"].__get__

_Memo: TypeAlias = dict[int, Any]


class Semantics(Protocol):
    """What the careful pickler would do with one object. Every method may raise anything."""

    def reduce(self, obj: Any) -> Any:
        """Return the reduce value (a ``str`` or a tuple of 2 to 6) of *obj*, or raise as pickling would."""

    def by_value(self, obj: Any) -> bool:
        """Tell whether function or class *obj* travels by value."""

    def find_global(self, obj: Any, name: str | None) -> str | None:
        """Return why *obj* is not found as *name* (``None``: its own); ``None`` if it is."""

    def globals_of(self, function: FunctionType, /) -> Mapping[str, Any]:
        """Return the globals that travel with a by-value function."""

    def globals_of_module(self, module: ModuleType, /) -> Mapping[str, Any] | None:
        """Return the globals that travel with a by-value module; ``None``: it has a reduce value."""

    def dump(self, obj: Any) -> None:
        """Pickle *obj* alone, or raise."""


def find_culprits(
    roots: Sequence[tuple[str, Any]], semantics: Semantics, *, limit: int = 100, returned: bool = False
) -> list[Culprit]:
    """Find every object below *roots* that the pickler could not save.

    Calls what pickling would call (``__reduce_ex__``, ``__getstate__``, reducers) once
    per object; keeps no reference but the culprits'. Raises nothing of theirs.

    Args:
        roots: ``(name, object)``; paths begin with the name. What several roots share
            is reported under the first.
        semantics: Answers for the pickler.
        limit: Stop after so many culprits.
        returned: They are what a call has returned, of which less is repaired.

    Returns:
        The culprits in the order in which the pickler would come upon them.

    Raises:
        KeyboardInterrupt: The user's.
    """
    steps: dict[int, Any] = {}
    return [culprit_of(node, error, steps, returned) for node, error in walk(roots, semantics, limit)]


def walk(
    roots: Sequence[tuple[str, Any]],
    semantics: Semantics,
    limit: int,
    passed: Callable[[Node], object] | None = None,
) -> list[tuple[Node, BaseException]]:
    """Do the work of ``find_culprits``: see there.

    Args:
        roots: As there.
        semantics: As there.
        limit: As there.
        passed: Told of each node that is no culprit, when what is below it is known.

    Returns:
        The culprits' nodes, and why each is one.
    """
    memo: _Memo = {}
    stack: list[Iterator[Node]] = [iter([(obj, None, _ROOT, name) for name, obj in roots])]
    found: list[tuple[Node, BaseException]] = []
    atoms = ATOMS
    reduced: set[type] = set()  # classes which ``below`` has found to have a reduce value
    while stack and len(found) < limit:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        obj = node[0]
        if id(obj) in memo:
            continue
        memo[id(obj)] = obj
        cls = type(obj)
        try:
            if cls is list or cls is tuple:
                if len(obj) > _MANY:
                    stack.append(_items(node, memo))
                elif obj:
                    children: list[Node] = [
                        (x, node, _INDEX, i) for i, x in enumerate(obj) if type(x) not in atoms and id(x) not in memo
                    ]
                    stack.append(iter(children))
                continue
            if cls in reduced:
                children = _below_reduced(node, semantics, memo, atoms)
            elif cls is dict and atoms.issuperset(map(type, obj.values())) and atoms.issuperset(map(type, obj)):
                continue
            else:
                children = below(node, semantics, memo)
                if not (cls in _OTHERS or issubclass(cls, type)):
                    reduced.add(cls)
        except BaseException as error:
            traceback = _users_part(_traceback_of(error))  # before the same error is raised again
            if _stands(error, obj, semantics):
                found.append((node, BaseException.with_traceback(error, traceback)))
            continue
        if passed is not None:
            passed(node)
        if children:
            stack.append(iter(children))
    # The errors' tracebacks hold this frame, and so would hold everything that was walked.
    memo.clear()
    stack.clear()
    return found


def _items(node: Node, memo: _Memo) -> Iterator[Node]:
    """Yield the nodes of a list's items when it is their turn: a million nodes at once would keep the collector busy.

    The list is copied, since what runs meanwhile may change it.
    """
    atoms = ATOMS
    known = atoms.issuperset
    for i, x in enumerate(node[0][:]):
        try:
            cls = type(x)
            if cls is dict:
                skip = known(map(type, x.values())) and known(map(type, x))
            else:
                skip = cls in atoms or id(x) in memo
        except KeyboardInterrupt:
            raise
        except BaseException:  # the hash of a class is its metaclass's; what is wrong is found when it is looked at
            skip = False
        if not skip:
            yield x, node, _INDEX, i


class _NotFoundError(Exception):
    """A global that is not found under its name; the reason is its argument."""


def _stands(error: BaseException, obj: Any, semantics: Semantics) -> bool:
    """Confirm *error*: what pickles alone is no culprit (a ``PickleBuffer``, which has no reduce value).

    Raises:
        KeyboardInterrupt: *error* is one, and it does not come again.
    """
    if type(error) is _NotFoundError:
        return True
    interrupted = issubclass(type(error), KeyboardInterrupt)
    try:
        semantics.dump(obj)
    except KeyboardInterrupt:
        if interrupted:
            return True
        raise
    except BaseException:
        if not interrupted:
            return True
    if interrupted:
        raise error
    return False


def culprit_of(node: Node, error: BaseException, steps: dict[int, Any], returned: bool = False) -> Culprit:
    """Make the culprit of one node that ``walk`` has found; *returned* is as for ``find_culprits``."""
    obj = node[0]
    raised = None if type(error) is _NotFoundError else error
    known = error.fix if isinstance(error, (NotInheritedError, RefusedError)) else ""
    return Culprit(
        path=expression(node, steps),
        type_name=statics.type_name(type(obj)),
        reason=reason_of(error),
        fix=known or fix_for(obj, holders_of(node), raised is not None, library_object(node), returned),
        _obj=obj,
        _error=raised,
        owner=owner_of(node),
    )


def _users_part(traceback: TracebackType | None) -> TracebackType | None:
    """Let a traceback begin where the user's code does."""
    while traceback is not None and str(traceback.tb_frame.f_globals.get("__name__")).startswith("safemp."):
        traceback = traceback.tb_next
    return traceback


def reason_of(error: BaseException) -> str:
    """Say in one bounded line what *error* says; its ``__str__`` may be the user's."""
    name = statics.type_name(type(error))
    try:
        text = str.__str__(str(error))
    except BaseException:  # a __str__ that raises, exits or recurses
        return name
    ours = type(error) in (_NotFoundError, NotInheritedError, RefusedError) or name in (
        "TypeError",
        "_pickle.PicklingError",
    )
    if ours and text.startswith("Can't pickle ") and ": " in text:
        text = text.rpartition(": ")[2]  # the rest is the object's repr
    text = " ".join(text[: 4 * _LONGEST_REASON].split())
    if len(text) > _LONGEST_REASON:
        text = text[: _LONGEST_REASON - 1] + "…"
    if not text or ours:
        return text or name
    return f"{name}: {text}"


# -- one object ------------------------------------------------------------------------


def below(node: Node, semantics: Semantics, memo: _Memo, atoms: frozenset[type] = ATOMS) -> list[Node]:
    """List what the pickler saves directly under *node*, in its order, without atoms and known objects."""
    obj = node[0]
    cls = type(obj)
    if cls is list or cls is tuple:
        return [(x, node, _INDEX, i) for i, x in enumerate(obj) if type(x) not in atoms and id(x) not in memo]
    if cls is dict:
        found: list[Node] = []
        _pairs(obj.items(), node, memo, found, atoms)
        return found
    if cls in atoms:
        return []
    if cls is set or cls is frozenset:
        return [(x, node, _NTH, i) for i, x in enumerate(obj) if type(x) not in atoms and id(x) not in memo]
    if cls is FunctionType or issubclass(cls, type):
        return _below_global(node, semantics, memo, atoms)
    if cls is ModuleType:
        space = semantics.globals_of_module(obj)
        if space is not None:
            return [
                (value, node, _TEXT, ("", dot(name)))
                for name, value in space.items()
                if type(value) not in atoms and id(value) not in memo
            ]
    return _below_reduced(node, semantics, memo, atoms)


def _pairs(
    pairs: Iterable[tuple[Any, Any]], node: Node, memo: _Memo, found: list[Node], atoms: frozenset[type]
) -> None:
    for i, (key, value) in enumerate(list(pairs)):
        if type(key) not in atoms and id(key) not in memo:
            found.append((key, node, _NTH, i))
        if type(value) not in atoms and id(value) not in memo:
            found.append((value, node, _VALUE, (i, key)))


def _below_reduced(node: Node, semantics: Semantics, memo: _Memo, atoms: frozenset[type]) -> list[Node]:
    """Go into the reduce value of ``node[0]`` as ``pickle.save_reduce`` does."""
    obj = node[0]
    reduced = semantics.reduce(obj)
    if type(reduced) is tuple and len(reduced) == 5:  # nearly every instance is such a one
        func, args, state, items, pairs = reduced
        if (
            func is _NEWOBJ
            and items is None
            and pairs is None
            and type(state) is dict
            and type(args) is tuple
            and len(args) == 1
            and args[0] is type(obj) is obj.__class__
        ):
            found: list[Node] = [(args[0], node, _REDUCE, "[1][0]")] if id(args[0]) not in memo else []
            if id(state) not in memo:  # but for instances that share their __dict__
                memo[id(state)] = state
                for name, value in list(state.items()):
                    if type(value) not in atoms and id(value) not in memo and type(name) is str:
                        found.append((value, node, _STATE, name))
                    elif type(name) is not str:
                        _odd_name(state, name, value, node, "[2]", found)
            return found
    return _below_any_reduced(node, reduced, semantics, memo, atoms)


def _below_any_reduced(
    node: Node, reduced: Any, semantics: Semantics, memo: _Memo, atoms: frozenset[type]
) -> list[Node]:
    """Go into a reduce value of any form."""
    obj = node[0]
    if not isinstance(reduced, tuple):
        if isinstance(reduced, str):
            _check_global(obj, reduced, semantics)
        else:
            semantics.dump(obj)  # says what is wrong with such a value
        return []
    size = len(reduced)
    if not 2 <= size <= 6:
        semantics.dump(obj)  # likewise
        return []
    found: list[Node] = []
    _constructor(reduced[0], reduced[1], node, semantics, memo, found, atoms)
    if size == 2:
        return found
    if size > 3 and reduced[3] is not None:
        found += [(x, node, _INDEX, i) for i, x in enumerate(reduced[3]) if type(x) not in atoms and id(x) not in memo]
    if size > 4 and reduced[4] is not None:
        _pairs(reduced[4], node, memo, found, atoms)
    if size > 5 and reduced[5] is not None and id(reduced[5]) not in memo:
        found.append((reduced[5], node, _REDUCE, "[5]"))
    state = reduced[2]
    if type(state) is dict:
        if size == 6 and type(state.get("ahead")) is Ahead:  # the links first, for they can be spelled
            state = {**state}
            state["ahead"] = state.pop("ahead")
        _attributes(state, node, _STATE, "[2]", memo, found, atoms)
    elif type(state) is tuple and len(state) == 2 and all(part is None or type(part) is dict for part in state):
        for edge, where, part in ((_STATE_DICT, "[2][0]", state[0]), (_STATE_SLOT, "[2][1]", state[1])):
            if part:
                _attributes(part, node, edge, where, memo, found, atoms)
    elif type(state) not in atoms and id(state) not in memo:
        found.append((state, node, _REDUCE, "[2]"))
    return found


def _attributes(
    state: dict[Any, Any], node: Node, edge: Edge, where: str, memo: _Memo, found: list[Node], atoms: frozenset[type]
) -> None:
    if id(state) in memo:  # instances that share their __dict__
        return
    memo[id(state)] = state
    for name, value in list(state.items()):
        if type(name) is not str:
            _odd_name(state, name, value, node, where, found)
        elif type(value) not in atoms and id(value) not in memo:
            found.append((value, node, edge, name))


def _odd_name(state: dict[Any, Any], name: Any, value: Any, node: Node, where: str, found: list[Node]) -> None:
    at = next(i for i, key in enumerate(state) if key is name)
    found.append((name, node, _TEXT, ("list(", f".__reduce_ex__(5){where})[{at}]")))
    found.append((value, node, _TEXT, ("list(", f".__reduce_ex__(5){where}.values())[{at}]")))


def _constructor(
    func: Any, args: Any, node: Node, semantics: Semantics, memo: _Memo, found: list[Node], atoms: frozenset[type]
) -> None:
    """Go into the function of a reduce value and its arguments."""
    obj = node[0]
    if type(args) is not tuple or not callable(func):
        semantics.dump(obj)  # says what is wrong with such a value
        return
    name = getattr(func, "__name__", "")
    first = 0
    if type(name) is str and name in ("__newobj__", "__newobj_ex__"):
        # Saved as an opcode, not by name; the pickler compares the class with what the object says it is.
        first = 1
        if not args or args[0] is not obj.__class__:
            semantics.dump(obj)
        if args and id(args[0]) not in memo:
            found.append((args[0], node, _REDUCE, "[1][0]"))
    elif id(func) not in memo:
        found.append((func, node, _REDUCE, "[0]"))
    for i in range(first, len(args)):
        arg = args[i]
        if type(arg) not in atoms and id(arg) not in memo:
            found.append((arg, node, _REDUCE, f"[1][{i}]"))


# -- functions and classes -------------------------------------------------------------


def _check_global(obj: Any, name: str | None, semantics: Semantics) -> None:
    reason = semantics.find_global(obj, name)
    if reason is not None:
        raise _NotFoundError(reason)


def _below_global(node: Node, semantics: Semantics, memo: _Memo, atoms: frozenset[type]) -> list[Node]:
    """Go into a by-value function or class; look another one up under its name."""
    obj = node[0]
    if not semantics.by_value(obj):
        _check_global(obj, None, semantics)
        return []
    parts: list[tuple[Any, str, str]] = []
    if type(obj) is FunctionType:
        function_parts(obj, semantics.globals_of(obj), parts.append)
    elif statics.is_heap_type(obj):
        class_parts(obj, parts.append)
    else:  # type(None) and other types of the interpreter have ways of their own
        semantics.dump(obj)
    return [
        (part, node, _TEXT, (before, after))
        for part, before, after in parts
        if type(part) not in atoms and id(part) not in memo
    ]
