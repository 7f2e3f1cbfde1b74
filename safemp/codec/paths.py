"""From a chain of nodes to the expression that a user can paste.

The walker notes on each edge how the pickler came from parent to child. Mostly that
has a natural spelling. Where it has none (the arguments of a reduce tuple, a state made
up by ``__getstate__``) the child is looked for in the parent by identity, so that the
path reads ``.lock`` and not ``.__reduce_ex__(5)[1][0]``; only where it is not to be
found there is the reduce value itself spelled out, which still evaluates.

Paths are built for culprits only; no code of the user's classes runs meanwhile.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from enum import IntEnum
from functools import partial
from keyword import iskeyword
from types import CodeType, FunctionType, MappingProxyType, MemberDescriptorType, ModuleType
from typing import Any, TypeAlias

from safemp.codec import statics
from safemp.codec.exception_state import read_members
from safemp.codec.rebuild import Made

__all__ = ["Edge", "Node", "expression", "holders_of", "key_text", "owner_of", "steps_to"]


class Edge(IntEnum):
    """How the pickler came to an object; says what a node's ``key`` is."""

    ROOT = 0
    """The root's name."""
    TEXT = 1
    """``(before, after)``: the spelling itself."""
    INDEX = 2
    """Position in a list or tuple."""
    NTH = 3
    """Position in a set, or of a key in a dict."""
    VALUE = 4
    """``(position, key)`` of a dict's value."""
    STATE = 5
    """Attribute's name, from a state which is a dict."""
    STATE_DICT = 6
    """Attribute's name, from the dict of a ``(dict, slots)`` state."""
    STATE_SLOT = 7
    """Attribute's name, from the slots of a ``(dict, slots)`` state."""
    REDUCE = 8
    """Positions in the reduce tuple, as text: ``[1][0]``."""


Node: TypeAlias = "tuple[Any, Node | None, Edge, Any]"
"""Object, parent, edge, key. A plain tuple: one is made for each object walked."""

_Step: TypeAlias = tuple[str, str]
"""What goes in front of the expression so far, and what after it."""

_STATES = {Edge.STATE: "[2]", Edge.STATE_DICT: "[2][0]", Edge.STATE_SLOT: "[2][1]"}
_PLAIN = frozenset({list, tuple, dict, set, frozenset})
_CARRIERS = _PLAIN | {partial, Made}
_VIEWS = frozenset({type({}.keys()), type({}.values()), type(OrderedDict().keys()), type(OrderedDict().values())})
_KEYS = (str, int, bytes, bool, type(None))
_LONGEST_KEY = 80
"""Characters of a dict key that a path spells out. Picked, not measured."""
_MOST_HOLDERS = 10
"""Objects above a culprit that a fix may name. Picked, not measured."""
_MOST_SEARCHED = 1000
"""Elements of an attribute that are searched for a culprit. Picked, not measured."""


def key_text(key: Any) -> str | None:
    """Return a short literal for *key*; ``None`` where only its position is safe to show."""
    kind = type(key)
    if kind is tuple:
        parts = [key_text(item) for item in key] if len(key) <= 8 else [None]
        text = "" if None in parts else f"({', '.join(map(str, parts))}{',' * (len(parts) == 1)})"
    elif all(kind is not k for k in _KEYS) or (kind is int and key.bit_length() > 64):  # no hash: it may be the user's
        return None
    else:
        text = repr(key) if kind not in (str, bytes) or len(key) <= _LONGEST_KEY else ""
    return text if 0 < len(text) <= _LONGEST_KEY else None


def expression(node: Node, steps: dict[int, _Step | None]) -> str:
    """Spell the way from the root to *node*.

    Args:
        node: The last node of the chain.
        steps: Remembers edges by ``id`` of their child node, for culprits that share
            a part of their way; the caller keeps the nodes alive.

    Returns:
        A Python expression, except where it leads through ``__closure__['name']``.
    """
    before: list[str] = []
    after: list[str] = []
    for in_front, behind, _ in steps_to(node, steps):
        before.append(in_front)
        after.append(behind)
    return "".join(reversed(before)) + "".join(after)


def steps_to(node: Node, steps: dict[int, _Step | None]) -> list[tuple[str, str, Any]]:
    """List the steps from the root to *node*: what each puts in front and behind, and where it leads.

    Args:
        node: The last node of the chain.
        steps: As for ``expression``.
    """
    chain = _chain(node)
    found = [("", chain[0][3], chain[0][0])]
    at = 0
    while at + 1 < len(chain):
        child = chain[at + 1]
        if id(child) not in steps:
            steps[id(child)] = _step(chain[at][0], child)
        step, arrived = steps[id(child)], at + 1
        if step is None:
            step, arrived = _searched(chain, at)
        at = arrived
        found.append((*step, chain[at][0]))
    return found


def holders_of(node: Node) -> list[type]:
    """List the types of the few nearest objects above *node* whose state leads to it, nearest first."""
    found: list[type] = []
    above = node[1]
    while above is not None and node[2] is not Edge.TEXT and len(found) < _MOST_HOLDERS:
        if node[2] in _STATES or node[2] is Edge.REDUCE:
            found.append(type(above[0]))
        node, above = above, above[1]
    return found


def owner_of(node: Node) -> str:
    """Name the class whose attribute leads to *node*, or the function whose variable does; empty for a root.

    Of an instance's classes it is the one that has the slot, or whose methods set the
    attribute; containers on the way are passed over.
    """
    while node[1] is not None:
        parent, _, edge, key = node[1][0], node[1], node[2], node[3]
        if edge in _STATES:
            return statics.type_name(_setter(type(parent), key))
        if edge is Edge.TEXT and issubclass(type(parent), type):
            return statics.type_name(parent)
        if edge is Edge.TEXT and type(parent) is FunctionType:
            module = parent.__module__
            return f"{module}.{parent.__qualname__}" if type(module) is str else parent.__qualname__
        if edge is Edge.TEXT and type(parent) is ModuleType:
            return str(parent.__dict__.get("__name__"))
        if edge in (Edge.REDUCE, Edge.TEXT):
            return statics.type_name(type(parent))
        node = node[1]
    return ""


def _setter(cls: type, name: Any) -> type:
    """Return the class among those of *cls* that *name* comes from; *cls* if that cannot be told."""
    for base in statics.mro(cls):
        space = statics.class_dict(base)
        if type(space.get(name)) is MemberDescriptorType:
            return base
        for value in space.values():
            if type(value) is FunctionType and name in value.__code__.co_names and _stores(value.__code__, name):
                return base
    return cls


def _stores(code: CodeType, name: str) -> bool:
    """Tell whether *code* sets an attribute *name* of anything."""
    from opcode import opmap  # a millisecond that no worker need pay

    at, store = code.co_names.index(name), opmap["STORE_ATTR"]
    return any(
        op == store and (arg & 0xFF) == (at & 0xFF)
        for op, arg in zip(code.co_code[::2], code.co_code[1::2], strict=True)
    )


def _chain(node: Node | None) -> list[Node]:
    chain = []
    while node is not None:
        chain.append(node)
        node = node[1]
    chain.reverse()
    return chain


def _step(parent: Any, child: Node) -> _Step | None:
    """Spell one edge; ``None`` where the parent must be searched."""
    obj, _, edge, key = child
    if edge is Edge.TEXT:
        step: _Step = key
        return step
    if edge is Edge.INDEX:
        return "", f"[{key}]"
    if edge is Edge.NTH:
        return "list(", f")[{key}]"
    if edge is Edge.VALUE:
        at, name = key
        text = key_text(name)
        return ("", f"[{text}]") if text is not None else ("list(", f".values())[{at}]")
    if edge in _STATES:
        return _attribute(parent, key, obj)
    return None


def _attribute(owner: Any, name: str, value: Any) -> _Step | None:
    """Spell ``owner.name`` if that is *value*."""
    if type(name) is not str:
        return None
    space = statics.instance_dict(owner)
    if space is not None and dict.get(space, name) is value:
        if _is_name(name) and not statics.has_data_descriptor(type(owner), name):
            return "", f".{name}"
        text = key_text(name)
        return None if text is None else ("", f".__dict__[{text}]")
    if _is_name(name) and any(n == name and v is value for n, v in statics.members(owner)):
        return "", f".{name}"
    return None


def _is_name(name: Any) -> bool:
    return type(name) is str and name.isidentifier() and not iskeyword(name)


def _searched(chain: list[Node], at: int) -> tuple[_Step, int]:
    """Find the next object of the chain that is to be found in ``chain[at]`` itself.

    Between the two lie containers, and calls of a repair's, that exist in the reduce value only.

    Returns:
        The step, and the position in *chain* to which it leads.
    """
    parent = chain[at][0]
    for to in range(at + 1, min(at + 9, len(chain))):
        if type(parent) in _WEAK and type(chain[to][0]) is not tuple:
            return ("", _WEAK[type(parent)]), to
        found = _named(parent, chain[to][0]) or _element(parent, chain, at, to)
        if found == ("", ".__dict__") and to + 1 < len(chain) and chain[to + 1][2] is Edge.VALUE:
            attribute = _attribute(parent, chain[to + 1][3][1], chain[to + 1][0])
            if attribute is not None:
                return attribute, to + 1
        if found is not None:
            return found, to
        if type(chain[to][0]) not in _CARRIERS:
            break
    _, _, edge, key = chain[at + 1]
    if edge in _STATES:
        return ("", f"{_state_text(parent, edge)}[{key!a}]"), at + 1
    return ("", f".__reduce_ex__(5){key}"), at + 1


_WEAK = {weakref.ReferenceType: "()", weakref.WeakMethod: "()", weakref.ProxyType: "", weakref.CallableProxyType: ""}
"""How one gets at what is referred to weakly; a proxy passes on what it is asked for, ``__reduce_ex__`` as well."""


def _state_text(parent: Any, edge: Edge) -> str:
    cls = type(parent)
    own = statics.lookup(cls, "__getstate__") is not statics.lookup(object, "__getstate__")
    reduces = any(statics.lookup(cls, m) is not statics.lookup(object, m) for m in ("__reduce_ex__", "__reduce__"))
    return f".__getstate__(){_STATES[edge][3:]}" if own and not reduces else f".__reduce_ex__(5){_STATES[edge]}"


def _named(parent: Any, wanted: Any) -> _Step | None:
    """Spell where *parent* keeps *wanted*, if it does."""
    if wanted is type(parent):
        return "type(", ")"
    space = statics.instance_dict(parent)
    held = statics.members(parent)
    if issubclass(type(parent), BaseException):  # behind getters of an extension class
        held += [(key.rpartition(".")[2], value) for key, value in read_members(parent).items()]
    if space is not None:
        if space is wanted:
            return "", ".__dict__"
        for name, value in list(dict.items(space)):
            if value is wanted:
                return _attribute(parent, name, wanted)
        held += list(dict.items(space))
    for name, value in held:
        if value is wanted and _is_name(name):
            return ("", "") if type(parent) is staticmethod and name == "__func__" else ("", f".{name}")
    for name, value in held:
        inside = _inside(value, wanted)
        if inside is not None and _is_name(name):
            return inside[0], f".{name}{inside[1]}"
    return None


def _inside(container: Any, wanted: Any) -> _Step | None:
    kind = type(container)
    if kind not in (list, tuple, dict) or len(container) > _MOST_SEARCHED:
        return None
    if kind is dict:
        for key, value in list(container.items()):
            text = key_text(key)
            if value is wanted and text is not None:
                return "", f"[{text}]"
        return None
    return next((("", f"[{i}]") for i, value in enumerate(container) if value is wanted), None)


def _element(parent: Any, chain: list[Node], at: int, to: int) -> _Step | None:
    """Spell an element of a container whose reduce value holds a list, tuple or dict of them."""
    wanted, _, edge, key = chain[to]
    cls = type(parent)
    if issubclass(cls, tuple):
        for i, value in enumerate(tuple.__iter__(parent)):
            if value is wanted:
                return _field(parent, i) or ("", f"[{i}]")
    if to != at + 2:
        return None
    if cls is MappingProxyType and edge is Edge.VALUE:
        return _step(parent, chain[to])
    if issubclass(cls, dict) and edge is Edge.VALUE and key_text(key[1]) and dict.get(parent, key[1]) is wanted:
        return _step(parent, chain[to])
    if (issubclass(cls, (set, frozenset)) or cls in _VIEWS) and edge in (Edge.INDEX, Edge.NTH):
        return "list(", f")[{key}]"
    return None


def _field(parent: Any, position: int) -> _Step | None:
    """Spell a named tuple's field by its name."""
    fields = statics.lookup(type(parent), "_fields")
    if type(fields) is not tuple or position >= len(fields) or not _is_name(fields[position]):
        return None
    getter = statics.lookup(type(parent), fields[position])
    return ("", f".{fields[position]}") if type(getter).__name__ == "_tuplegetter" else None
