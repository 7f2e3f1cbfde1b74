"""Exceptions to pickle's reduce values: the class's own way, or without its constructor.

pickle rebuilds an exception as ``cls(*args)``, which fails for every class whose
constructor does not take exactly its ``args``. Here:

1. A class of the user that says itself how to be pickled (``__reduce__``,
   ``__reduce_ex__``, ``copyreg``, ``__getstate__``, ``__setstate__``) has its way, if
   trying it here gives the same class and the same text. It may drop a lock on purpose.
2. Otherwise ``exception_state.make`` and ``write_state``: no user code on loading, but for
   an extension class with read-only fields its constructor in C (``exception_fields``).

In both, the object is made first and filled afterwards, so that pickle's memo closes
cycles, and cause, context, traceback and notes travel along.

Rule 1: nothing here decides whether an attribute can travel; the pickler does.
"""

from __future__ import annotations

import copyreg
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet

from safemp.codec.exception_fields import settle, shadowed
from safemp.codec.exception_plain import names_of, stand_in, stand_in_class
from safemp.codec.exception_state import (
    State,
    group_of,
    is_builtin,
    linked,
    make,
    new_args,
    raw_dict,
    read_members,
    read_state,
    read_tail,
    same_text,
    text_of,
    write_state,
)
from safemp.codec.sentinels import by_name
from safemp.codec.statics import class_dict, mro, type_name

__all__ = [
    "Ahead",
    "has_own_way",
    "in_order",
    "marked",
    "own_way",
    "reduce_exception",
    "same_class",
    "without_constructor",
    "write_own",
]


def reduce_exception(exc: BaseException) -> tuple[Any, ...] | str:
    """Return a reduce value for *exc*, for a pickler's ``reducer_override``.

    For any exception: raised, returned, an argument, a member, a cause. Runs the user's
    own ``__reduce__`` and the like, if there are any, and what these call.

    Args:
        exc: Borrowed; the value refers to its parts.

    Returns:
        ``(function, args, state, None, None, setter)``, or a global's name.
    """
    reduced = own_way(exc)
    if reduced is None:
        reduced = without_constructor(exc)
    if isinstance(reduced, str) or (ahead := _ahead_of(exc)) is None:
        return reduced
    function, args, state, *rest = reduced
    return function, args, {"ahead": ahead, **state}, *rest  # it must be written first


def without_constructor(exc: BaseException) -> tuple[Any, ...]:
    """Return the reduce value that runs no code of the class in Python."""
    state = marked(read_state(exc))
    function, args, mine, whole = settle(exc, state)
    if not whole:
        cls, group = type(exc), group_of(exc)
        module, qualname, bases = names_of(cls)
        if issubclass(stand_in_class(module, qualname, (cls, *bases), group is not None), cls):
            made = (module, qualname, (cls, *bases), text_of(exc), group)
            return stand_in, made, shadowed(exc, state), None, None, write_state
    return function, args, mine, None, None, write_state


def marked(state: State) -> State:
    """Return *state* with its marks (see ``sentinels``) by their names."""
    found = {**state, "args": tuple(map(by_name, state["args"]))}
    for part in ("members", "dict"):
        if part in state:
            found[part] = {name: by_name(value) for name, value in state[part].items()}
    return found


# -- the class's own way --------------------------------------------------------------


_WAYS = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__")


def _definer(cls: type, name: str) -> type | None:
    """Return the class that gives *name* to *cls*, unless it is one of Python's own."""
    for base in mro(cls):
        if name in class_dict(base):
            return None if is_builtin(base) else base
    return None


def same_class(one: type, other: type) -> bool:
    """Tell whether two classes are the same, or the same one made anew."""
    return one is other or type_name(one) == type_name(other)


def has_own_way(cls: type) -> bool:
    """Tell whether *cls* says itself how its exceptions are pickled."""
    return _registered(cls) is not None or any(_definer(cls, name) for name in _WAYS)


def _registered(cls: type) -> Any:
    """Return what ``copyreg`` has for *cls*.

    tblib has one reducer for all classes, which dask installs for all that are there; it is
    nobody's own, and loses what builtins keep outside of their ``__dict__``.
    """
    reducer = copyreg.dispatch_table.get(cls)
    module = getattr(reducer, "__module__", None)
    return None if isinstance(module, str) and module.partition(".")[0] == "tblib" else reducer


def own_way(exc: BaseException) -> tuple[Any, ...] | str | None:
    """Return the reduce value which the class of *exc* asks for.

    Returns:
        Something whose third item is a dict of ours that ``write_own`` understands, or
        a global's name; ``None`` if the class asks for nothing, or its way fails here.
    """
    cls = type(exc)
    try:
        reducer = _registered(cls)
        if reducer is not None or _definer(cls, "__reduce_ex__") or _definer(cls, "__reduce__"):
            return _own_reduce(exc, reducer(exc) if reducer is not None else exc.__reduce_ex__(5))
        if _definer(cls, "__getstate__") or _definer(cls, "__setstate__"):
            return _own_state(exc)
    except BaseException:  # user code; the other way needs none of it
        return None
    return None


def _own_reduce(exc: BaseException, reduced: Any) -> tuple[Any, ...] | str | None:
    if isinstance(reduced, str):
        found: Any = sys.modules[type(exc).__module__]
        for name in reduced.split("."):
            found = getattr(found, name)
        return reduced if found is exc else None
    function, args, *rest = reduced
    state, items, pairs, setter = [*rest, None, None, None, None][:4]
    mine: State = {"own": state}
    if items is not None:
        mine["items"] = list(items)
    if pairs is not None:
        mine["pairs"] = list(pairs)
    if setter is not None:
        mine["setter"] = setter
    return _tried(exc, function, args, mine)


def _own_state(exc: BaseException) -> tuple[Any, ...] | None:
    """For a class that defines ``__getstate__`` or ``__setstate__`` only."""
    own = _definer(type(exc), "__getstate__") is not None
    state: Any = exc.__getstate__() if own else raw_dict(exc)  # type: ignore[attr-defined]  # 3.11
    mine: State = {"args": read_state(exc)["args"], "members": read_members(exc, slots=not own), "own": state}
    return _tried(exc, make, (type(exc), *new_args(exc)), mine)


def _tried(
    exc: BaseException, function: Callable[..., Any], args: tuple[Any, ...], mine: State
) -> tuple[Any, ...] | None:
    """Return the reduce value if it gives back an equal exception here, else ``None``."""
    made = function(*args)
    if type(made) is not type(exc) and not same_class(type(made), type(exc)):
        return None
    if made is not exc:
        own = mine["own"]
        # A copy, since a __setstate__ may take its state apart.
        write_own(made, {**mine, "own": dict(own) if type(own) is dict else own})
    if not same_text(made, exc):
        return None
    mine.update(read_tail(exc))
    # What it left out may have been left out on purpose (a lock, a connection). Plain
    # data was more likely put there after its author had written the class.
    there = raw_dict(made)
    kept = {name: value for name, value in raw_dict(exc).items() if name not in there and _is_plain(value)}
    if kept:
        mine["kept"] = kept
    return function, args, mine, None, None, write_own


def write_own(exc: BaseException, state: State) -> None:
    """Fill *exc* the way its class asked for, as pickle would."""
    write_state(exc, {key: state[key] for key in ("args", "members") if key in state})
    own, setter = state["own"], state.get("setter")
    if setter is not None:
        setter(exc, own)
    elif own is not None:
        _set_state(exc, own)
    for item in state.get("items", ()):
        exc.append(item)  # type: ignore[attr-defined]
    for key, value in state.get("pairs", ()):
        exc[key] = value  # type: ignore[index]
    for name, value in state.get("kept", {}).items():
        raw_dict(exc).setdefault(name, value)
    write_state(exc, {key: state[key] for key in ("cause", "context", "suppress", "tb") if key in state})


_PLAIN = (type(None), bool, int, float, complex, str, bytes)


def _is_plain(value: Any, depth: int = 3) -> bool:
    """Tell whether *value* is plain data, to a small depth."""
    cls = type(value)
    if cls in _PLAIN:
        return True
    if not depth or cls not in (list, tuple, set, frozenset, dict):
        return False
    parts = (*value.keys(), *value.values()) if cls is dict else value
    return all(_is_plain(part, depth - 1) for part in parts)


def _set_state(exc: BaseException, own: Any) -> None:
    if _definer(type(exc), "__setstate__") is not None:
        exc.__setstate__(own)
        return
    slots = None
    if isinstance(own, tuple) and len(own) == 2:
        own, slots = own
    if own:
        raw_dict(exc).update(own)
    for name, value in (slots or {}).items():
        setattr(exc, name, value)


# -- long chains ----------------------------------------------------------------------

_LONG = 16
"""Exceptions in a chain from which it is written from its end. pickle's recursion takes
about five levels for each, of the thousand that it has."""


class Ahead:
    """The exceptions behind one, the furthest first; written before its own links.

    Each then finds its cause and context in pickle's memo already, so the recursion
    does not grow with the chain. While one of these is alive its exceptions get none
    of their own. That is only a hint: every state has its links in any case.
    """

    __slots__ = ("__weakref__", "ids", "order")

    def __init__(self, order: list[BaseException]) -> None:
        self.order: list[BaseException] = order
        self.ids: frozenset[int] = frozenset(map(id, order))

    def __reduce__(self) -> tuple[Any, ...]:
        return _nothing, tuple(self.order)


def _nothing(*_: BaseException) -> None:
    """Stand in the stream for an ``Ahead``."""


class _Alive(threading.local):
    def __init__(self) -> None:
        self.aheads: WeakSet[Ahead] = WeakSet()


_alive = _Alive()


def _ahead_of(exc: BaseException) -> Ahead | None:
    if any(id(exc) in ahead.ids for ahead in _alive.aheads):
        return None
    order = in_order(exc)
    if len(order) < _LONG:
        return None
    ahead = Ahead(order[:-1])
    _alive.aheads.add(ahead)
    return ahead


def in_order(exc: BaseException) -> list[BaseException]:
    """List *exc* and all that Python ties to it, each behind what it is tied to.

    Cycles are cut where they come back. *exc* is the last.
    """
    order: list[BaseException] = []
    seen = {id(exc)}
    stack: list[tuple[BaseException, Iterator[BaseException]]] = [(exc, iter(linked(exc)))]
    while stack:
        at, rest = stack[-1]
        for other in rest:
            if id(other) not in seen:
                seen.add(id(other))
                stack.append((other, iter(linked(other))))
                break
        else:
            order.append(at)
            stack.pop()
    return order
