"""The second try for an exception that does not travel whole: part by part.

Each part is tried by itself. What cannot travel becomes a ``Lost``, what an exception
is tied to (cause, context, members of a group) is taken apart in the same way, and a
class that does not load becomes a stand-in. So one socket in one attribute of one
member of a group costs that attribute only.

The exceptions are written side by side, with their ties as positions in that list:
nothing here recurses with the length of a chain, and cycles need no care.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from safemp.codec.exception_fields import construct, settle, shadowed
from safemp.codec.exception_plain import names_of, stand_in, stand_in_class
from safemp.codec.exception_reduce import in_order, marked, own_way, same_class, write_own
from safemp.codec.exception_state import (
    State,
    can_make,
    group_of,
    make,
    new_args,
    read_links,
    read_state,
    same_text,
    text_of,
    write_state,
)
from safemp.codec.lost import Lost
from safemp.codec.sentinels import attribute_of_a_module
from safemp.codec.statics import type_name

__all__ = ["ATOMS", "Dump", "Load", "rescue"]

Dump: TypeAlias = Callable[[object], bytes]
Load: TypeAlias = Callable[[bytes], object]

_TRIES = 2000
"""Parts that are tried by themselves; all later ones are lost. Picked, not measured."""
_LEVELS = 3
"""Containers that are taken apart, one in the other. Picked, not measured."""
_MOST_NODES = 10_000
"""Exceptions that are taken along. Picked, not measured."""
_SHOWN = 200
"""Characters of a reason. Picked, not measured."""

ATOMS = frozenset({str, bytes, int, float, bool, complex, type(None)})
"""Types whose values always travel, and compare without running user code."""
_TIES = ("cause", "context")


class _Ref:
    """The exception at a position of the list."""

    __slots__ = ("at",)

    def __init__(self, at: int) -> None:
        self.at = at

    def __reduce__(self) -> tuple[Any, ...]:
        return _Ref, (self.at,)


class _Container:
    """A list, tuple or dict whose items were taken apart."""

    __slots__ = ("items", "kind")

    def __init__(self, kind: str, items: list[Any]) -> None:
        self.kind = kind
        self.items = items

    def __reduce__(self) -> tuple[Any, ...]:
        return _Container, (self.kind, self.items)


class _SideBySide:
    """The list of exceptions; loads as its last one."""

    __slots__ = ("nodes",)

    def __init__(self, nodes: list[Any]) -> None:
        self.nodes = nodes

    def __reduce__(self) -> tuple[Any, ...]:
        return _join, (self.nodes,)


def rescue(exc: BaseException, dump: Dump, load: Load) -> bytes:
    """Pickle what can travel of *exc* and of all that it is tied to.

    Args:
        exc: The exception.
        dump: The careful pickler's.
        load: Its counterpart, to see whether each part loads.

    Returns:
        A pickle that has been seen to load.

    Raises:
        BaseException: Even so it does not travel.
    """
    rescued = _Rescue(dump, load)
    stream = rescued.write(exc)
    made = load(stream)
    if not isinstance(made, BaseException):
        raise TypeError(f"{type(made).__name__} came back")
    texts = _texts(exc, made)
    if texts is not None:
        # Its __str__ wants an attribute which is lost: keep the text itself.
        rescued.keep_text.update(texts)
        stream = rescued.write(exc)
        load(stream)
    return stream


def _texts(exc: BaseException, made: BaseException) -> set[int] | None:
    pairs = list(zip(in_order(exc), in_order(made), strict=False))
    changed = {id(one) for one, other in pairs if not same_text(one, other)}
    return changed or None


class _Rescue:
    def __init__(self, dump: Dump, load: Load) -> None:
        self._dump = dump
        self._load = load
        self._classes: dict[int, bool] = {}
        self.keep_text: set[int] = set()

    def write(self, exc: BaseException) -> bytes:
        self._tries = _TRIES
        self._positions: dict[int, int] = {}
        self._all: list[BaseException] = []
        order = in_order(exc)
        for other in order[-_MOST_NODES:]:
            self._add(other)
        head = self._positions[id(exc)]
        nodes: list[Any] = []
        while len(nodes) < len(self._all):  # _mend finds more exceptions in attributes
            nodes.append(self._node(self._all[len(nodes)]))
        return self._dump(_SideBySide([head, *nodes]))

    def _add(self, exc: BaseException) -> int:
        at = self._positions.setdefault(id(exc), len(self._all))
        if at == len(self._all):
            self._all.append(exc)
        return at

    # -- one exception ----------------------------------------------------------------

    def _node(self, exc: BaseException) -> tuple[Any, ...]:
        ties = [self._positions.get(id(other)) for other in read_links(exc)]
        own = own_way(exc)
        if isinstance(own, tuple) and id(exc) not in self.keep_text:
            function, args, state, *_ = own
            for tie in _TIES:
                state.pop(tie, None)
            if self._travels((function, args, state)):
                return "own", function, args, state, ties
        state = marked(read_state(exc))
        for tie in _TIES:
            state.pop(tie, None)
        state["args"] = self._mend(state["args"], "exc.args", _LEVELS + 1)
        for part in ("members", "dict"):
            for name, value in list(state.get(part, {}).items()):
                attribute = name.rpartition(".")[2] if part == "members" else name
                state[part] = {**state[part], name: self._mend(value, f"exc.{attribute}", _LEVELS)}
        group = group_of(exc)
        if group is not None:
            # Not followed into here: in_order has every member in the list already.
            group = group[0], [self._positions.get(id(member)) for member in group[1]]  # type: ignore[misc]
        cls = type(exc)
        settled = settle(exc, state)
        if settled.function is construct and self._class_travels(cls):
            if id(exc) not in self.keep_text and self._travels(settled.args):
                return "made", construct, settled.args, settled.state, ties
            settled = settle(exc, state, constructing=False)
        state, shadows = settled.state, shadowed(exc, state)
        if id(exc) not in self.keep_text and self._class_travels(cls) and settled.whole:
            args = () if group is not None else new_args(exc)
            if args and self._travels(args):
                return "made", make, (cls, *args), state, ties
            if group is not None or can_make(cls):
                return "class", cls, group, state, ties
        module, qualname, bases = names_of(cls)
        first: Any = cls if self._class_travels(cls) else (module, qualname)
        if first is cls and not issubclass(stand_in_class(module, qualname, (cls, *bases), group is not None), cls):
            # Nothing derives from it. One that is caught as what it is comes first, and its text second.
            if isinstance(own, tuple):  # only its own way makes one: pydantic's ValidationError
                args = self._mend(own[1], "exc.__reduce__()[1]", _LEVELS + 1)
                if _makes(own[0], args, cls):
                    kept = {part: value for part, value in own[2].items() if self._travels(value)}
                    return "mended", own[0], args, {"own": None, **kept}, ties
            if group is not None:
                return "class", cls, group, state, ties
            given = state["args"].items if type(state["args"]) is _Container else state["args"]
            args = _Container("tuple", [cls, *(given if new_args(exc) else ())])
            if _makes(make, args, cls):
                return "made", make, args, state, ties
        return "stand-in", (module, qualname, (first, *bases), text_of(exc)), group, shadows, ties

    def _class_travels(self, cls: type) -> bool:
        key = id(cls)  # not the class: a metaclass may refuse to hash it
        if key not in self._classes:
            try:
                loaded: Any = self._load(self._dump(cls))
                self._classes[key] = isinstance(loaded, type) and same_class(loaded, cls)
            except BaseException:  # user code: a metaclass, a class body's values
                self._classes[key] = False
        return self._classes[key]

    # -- one value --------------------------------------------------------------------

    def _travels(self, value: Any) -> bool:
        return self._reason(value) is None

    def _reason(self, value: Any) -> str | None:
        """Return why *value* cannot travel, in one line; ``None`` if it can."""
        self._tries -= 1
        if self._tries < 0:
            return "too much of this exception cannot travel"
        try:
            self._load(self._dump(value))
        except BaseException as error:  # user code may raise anything
            text = text_of(error).partition("\n")[0][:_SHOWN]
            return text or type(error).__name__
        return None

    def _mend(self, value: Any, path: str, levels: int) -> Any:
        if type(value) in ATOMS:
            return value
        if issubclass(type(value), BaseException):
            if id(value) in self._positions or (len(self._all) < _MOST_NODES and self._tries > 0):
                for other in in_order(value):
                    self._add(other)
                return _Ref(self._positions[id(value)])
            return Lost(type_name(type(value)), "too many exceptions in one", path)
        reason = self._reason(value)
        if reason is None:
            return value
        kind = type(value)
        if levels and kind in (list, tuple):
            mended = [self._mend(item, f"{path}[{i}]", levels - 1) for i, item in enumerate(value)]
            return _Container(kind.__name__, mended)
        if levels and kind is dict and all(type(key) in ATOMS for key in value):
            pairs = [(key, self._mend(item, f"{path}[{key!r}]", levels - 1)) for key, item in value.items()]
            return _Container("dict", pairs)
        return attribute_of_a_module(value) or Lost(type_name(kind), reason, path)


def _makes(function: Callable[..., Any], args: Any, cls: type) -> bool:
    """Tell whether *function* makes a *cls* of these arguments, which may have been taken apart."""
    try:
        return same_class(type(function(*_resolved(args, [], []))), cls)
    except BaseException:  # user code; or an exception in the arguments, for which there is no place yet
        return False


# -- loading --------------------------------------------------------------------------


def _join(nodes: list[Any]) -> BaseException:
    """Make the exceptions, then fill them, then tie them. Its name is in the stream."""
    head, *specs = nodes
    made: list[BaseException | None] = [None] * len(specs)
    for at, (kind, _, _, state, ties) in enumerate(specs):
        exc = _make_node(specs, made, at)
        for tie, position in zip(_TIES, ties, strict=True):
            if position is not None:
                state[tie] = _make_node(specs, made, position)
        if kind in ("own", "mended"):
            write_own(exc, state)
        else:
            write_state(exc, _resolve(state, specs, made))
    return _make_node(specs, made, head)


def _make_node(specs: list[Any], made: list[BaseException | None], at: int) -> BaseException:
    done = made[at]
    if done is not None:
        return done
    kind, what, group, _, _ = specs[at]
    if kind == "own":
        exc: BaseException = what(*group)
    elif kind in ("made", "mended"):
        exc = what(*_resolved(group, specs, made))
    else:
        if group is not None:
            # Members come before their group in the list; a member found in an
            # attribute first may not.
            group = group[0], [_make_node(specs, made, member) for member in group[1] if member is not None]
        exc = make(what, *(group or ())) if kind == "class" else stand_in(*(*what, group))
    made[at] = exc
    return exc


def _resolve(state: State, specs: list[Any], made: list[BaseException | None]) -> State:
    for part in ("members", "dict"):
        if part in state:
            state[part] = {name: _resolved(value, specs, made) for name, value in state[part].items()}
    state["args"] = tuple(_resolved(state["args"], specs, made))
    return state


def _resolved(value: Any, specs: list[Any], made: list[BaseException | None]) -> Any:
    if type(value) is _Ref:
        return _make_node(specs, made, value.at)
    if type(value) is not _Container:
        return value
    if value.kind == "dict":
        return {key: _resolved(item, specs, made) for key, item in value.items}
    items = [_resolved(item, specs, made) for item in value.items]
    return items if value.kind == "list" else tuple(items)
