"""Where the bytes are: the heaviest parts of what would be sent, each with its path.

One walk, as ``walker`` does it. What each object adds to the stream is worked out, not
measured: an opcode and its argument for a number, the text itself for a string, the
buffer for an array, two bytes for what the stream has already. The sum is within a few
percent of the stream where it matters, that is where it is large.

An object's *weight* is itself and everything that is reached through it first, as
the pickler does. To name the heaviest paths without naming each one's parents too, a
heavy object hands what its heavy children weigh over to them: what is listed adds up.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import CodeType, FunctionType
from typing import Any, NamedTuple

from safemp.codec import pickling, statics
from safemp.codec.paths import Edge, Node, expression
from safemp.codec.walker import ATOMS, Semantics, below

__all__ = ["Heavy", "heaviest"]

_FIXED = {type(None): 1, bool: 1, float: 9, complex: 30, range: 30, type(Ellipsis): 12, type(NotImplemented): 18}
_KNOWN_ALREADY = 2
"""Bytes of a reference to what the stream has already."""
_HEAVY_PART = 64
"""A child that weighs a 64th of everything is heavy. Picked, not measured."""
_SMALL = 1024
"""Bytes up to which a text is not told apart from what holds it. Picked, too."""
_CONTAINERS = frozenset({list, tuple, set, frozenset, dict})
_NO_TYPES: frozenset[type] = frozenset()


class Heavy(NamedTuple):
    """One of the heaviest parts.

    Attributes:
        path: An expression that leads to it.
        type_name: Its type.
        size: About how many bytes it is in the stream, without the other parts listed.
    """

    path: str
    type_name: str
    size: int


def heaviest(roots: Sequence[tuple[str, Any]], semantics: Semantics, *, count: int = 10) -> list[Heavy]:
    """List the *count* heaviest parts of what is below *roots*, heaviest first.

    What cannot be pickled weighs nothing. Calls what pickling would call.

    Raises:
        KeyboardInterrupt: The user's.
    """
    nodes, own, parents = _weigh(roots, semantics)
    whole = list(own)
    for i in range(len(nodes) - 1, -1, -1):  # children come after their parents
        if parents[i] >= 0:
            whole[parents[i]] += whole[i]
    total = sum(w for w, parent in zip(whole, parents, strict=True) if parent < 0)
    shares = list(whole)
    heavy = [parent < 0 or w * _HEAVY_PART >= total for w, parent in zip(whole, parents, strict=True)]
    for i in range(len(nodes)):
        if heavy[i] and parents[i] >= 0:
            shares[parents[i]] -= whole[i]
    ranked = sorted((i for i in range(len(nodes)) if heavy[i]), key=lambda i: -shares[i])
    steps: dict[int, Any] = {}
    return [
        Heavy(expression(nodes[i], steps), statics.type_name(type(nodes[i][0])), shares[i])
        for i in ranked[:count]
        if shares[i] * 1000 > total
    ]


def _weigh(roots: Sequence[tuple[str, Any]], semantics: Semantics) -> tuple[list[Node], list[int], list[int]]:
    """Walk, and return the nodes, what each adds by itself, and the position of each one's parent."""
    memo: dict[int, Any] = {}
    nodes: list[Node] = []
    own: list[int] = []
    parents: list[int] = []
    stack: list[tuple[Node, int]] = [((obj, None, Edge.ROOT, name), -1) for name, obj in reversed(roots)]
    while stack:
        node, parent = stack.pop()
        obj = node[0]
        if id(obj) in memo:
            own[parent] += _KNOWN_ALREADY
            continue
        at = len(nodes)
        nodes.append(node)
        parents.append(parent)
        own.append(_itself(obj, semantics))
        memo[id(obj)] = obj
        if type(obj) in ATOMS:
            continue
        before = len(stack)
        if type(obj) in _CONTAINERS:
            own[at] += _elements(node, memo, stack, at)
            continue
        try:
            children = below(node, semantics, {}, _NO_TYPES)
        except KeyboardInterrupt:
            raise
        except BaseException:  # a culprit, or what has no reduce value
            continue
        for child in children:
            atom = _atom(child[0], memo)
            if type(child[0]) is pickling.PickleBuffer:
                own[at] += child[0].raw().nbytes
            elif atom is None or (atom > _SMALL and child[2] is not Edge.REDUCE):
                stack.append((child, at))
            else:
                own[at] += atom
        if not (type(obj) is FunctionType or issubclass(type(obj), type)):
            own[at] += _names(obj, children)
        stack[before:] = stack[before:][::-1]
    return nodes, own, parents


def _elements(node: Node, memo: dict[int, Any], stack: list[tuple[Node, int]], at: int) -> int:
    """Weigh the small atoms in a plain container, and stack the rest: no node for each of a million numbers."""
    obj = node[0]
    total = 0
    found = []
    if type(obj) is dict:
        for i, (key, value) in enumerate(list(obj.items())):
            for part, edge, where in ((key, Edge.NTH, i), (value, Edge.VALUE, (i, key))):
                atom = _atom(part, memo)
                if atom is None or atom > _SMALL:
                    found.append(((part, node, edge, where), at))
                else:
                    total += atom
    else:
        edge = Edge.NTH if type(obj) in (set, frozenset) else Edge.INDEX
        for i, part in enumerate(obj):
            atom = _atom(part, memo)
            if atom is None or atom > _SMALL:
                found.append(((part, node, edge, i), at))
            else:
                total += atom
    stack += reversed(found)
    return total


def _atom(obj: Any, memo: dict[int, Any]) -> int | None:
    """Return what an atom adds to the stream; ``None`` for what is none."""
    cls = type(obj)
    fixed = _FIXED.get(cls)
    if fixed is not None:
        return fixed
    if cls is int:
        bits = obj.bit_length()
        return 2 if bits <= 8 and obj >= 0 else 3 if bits <= 16 and obj >= 0 else 5 if bits <= 31 else 3 + bits // 8
    if cls is str or cls is bytes or cls is bytearray:
        if id(obj) in memo:
            return _KNOWN_ALREADY
        size = _text(obj)
        if size <= _SMALL:
            memo[id(obj)] = obj
        return size
    return None


def _text(obj: Any) -> int:
    size = len(obj) if type(obj) is not str or obj.isascii() else len(obj.encode("utf-8", "surrogatepass"))
    return size + (3 if size < 256 else 6)


def _itself(obj: Any, semantics: Semantics) -> int:
    """Return what an object adds before its parts."""
    cls = type(obj)
    if cls in _CONTAINERS:
        return 4
    if cls is str or cls is bytes or cls is bytearray:
        return _text(obj)
    if cls in ATOMS:
        return _atom(obj, {}) or 0
    if cls is FunctionType or issubclass(type(obj), type):
        try:
            by_value = semantics.by_value(obj)
        except Exception:  # the metaclass's own doing
            return 0
        if not by_value:
            return 40  # two names
        return 120 + (_code(obj.__code__) if cls is FunctionType else 60)
    return 10


def _code(code: CodeType) -> int:
    size = len(code.co_code) + len(code.co_filename) + 16 * len(code.co_names + code.co_varnames) + 120
    for const in code.co_consts:
        size += _code(const) if isinstance(const, CodeType) else _atom(const, {}) or 16
    return size


def _names(obj: Any, children: list[Node]) -> int:
    """Return about what the names of attributes add: two bytes each, since most are known."""
    return 2 * sum(1 for child in children if type(child[3]) is str)
