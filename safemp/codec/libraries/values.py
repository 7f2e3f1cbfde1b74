"""Values of the standard library that pickle has no way with, and that are their parts."""

from __future__ import annotations

import copyreg
import re
import sys
import types
from collections import OrderedDict
from gc import get_referents
from typing import Any

from safemp.codec.libraries import called, loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import REBUILD, RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]


def _mapping_proxy(proxy: Any) -> tuple[Any, ...]:
    """Keep it a view: of the same mapping, if that travels too."""
    below = [part for part in get_referents(proxy) if isinstance(part, dict)]
    mapping = below[0] if len(below) == 1 and "__dict__" not in below[0] else dict(proxy)
    return Made(getattr, types, "MappingProxyType"), (mapping,)  # by its own name it is not found


def _keys(view: Any) -> tuple[Any, ...]:
    return (OrderedDict if "odict" in type(view).__name__ else dict).fromkeys(view).keys, ()


def _values(view: Any) -> tuple[Any, ...]:
    kind: Any = OrderedDict if "odict" in type(view).__name__ else dict
    return kind(enumerate(view)).values, ()


def _items(view: Any) -> tuple[Any, ...]:
    kind: Any = OrderedDict if "odict" in type(view).__name__ else dict
    return kind(view).items, ()


def _match(match: Any) -> tuple[Any, ...]:
    """Match again; that it gives the same is seen here, not hoped there."""
    pattern, string, pos, end = match.re, match.string, match.pos, match.endpos
    for way, start, stop in (
        (pattern.search, pos, end),
        (pattern.fullmatch, pos, end),
        (pattern.match, match.start(), end),
        (pattern.fullmatch, *match.span()),
    ):
        again = way(string, start, stop)
        if again is not None and again.regs == match.regs and again.lastindex == match.lastindex:
            return way, (string, start, stop)
    raise RefusedError("cannot pickle a re.Match that matching again does not give", "send match.groups()")


def _memoryview(view: memoryview) -> tuple[Any, ...]:
    kind = bytes if view.readonly else bytearray
    plain = Made(memoryview, kind(view.tobytes()))
    if view.format == "B" and view.ndim == 1:
        return memoryview, (kind(view.tobytes()),)
    cast = Made(getattr, plain, "cast")
    return (cast, (view.format, view.shape)) if view.ndim != 1 else (cast, (view.format,))


def _mmap(mapped: Any) -> tuple[Any, ...]:
    """What is read-only has a value; what is written to is shared with the file."""
    with memoryview(mapped) as view:
        if not view.readonly:
            raise RefusedError("cannot pickle a mmap that writes to its file")
        content = view.tobytes()
    return type(mapped), (-1, len(content)), None, None, iter([(slice(0, len(content)), content)])


def _struct(struct: Any) -> tuple[Any, ...]:
    return type(struct), (struct.format,)


def _iterator(iterator: Any) -> tuple[Any, ...]:
    """Python 3.14 has taken the copying of ``count`` and ``repeat`` away; their state is what they show."""
    found = re.fullmatch(r"(?:count|repeat)\((-?\d+)(?:, (-?\d+))?\)", repr(iterator))
    if found is None:
        raise RefusedError("cannot pickle an iterator whose state cannot be read", "send list(...) of it")
    return type(iterator), tuple(int(part) for part in found.groups() if part is not None)


def _partial_method(method: Any) -> tuple[Any, ...]:
    """Python 3.14 asks for the function before there is a copy to put it in."""
    return called(type(method), method.func, *method.args, **method.keywords)


def _forward_ref(ref: Any) -> Any:
    """Leave out the globals, and the class's namespace: those of what it stands in are there, too."""
    owner, space, cells = ref.__owner__, ref.__globals__, ref.__cell__
    if space is None and cells is None:
        return ref.__reduce_ex__(5)
    module = ref.__forward_module__
    if module is None and owner is None and space is not None:
        module = space.get("__name__")
    if isinstance(cells, dict):
        cells = {name: cell for name, cell in cells.items() if name != "__classdict__"}
    named = {"module": module, "owner": owner, "is_class": ref.__forward_is_class__}
    made, args = called(type(ref), ref.__forward_arg__, is_argument=ref.__forward_is_argument__, **named)
    state = {"__cell__": cells or None, "__extra_names__": ref.__extra_names__}
    return made, args, (None, state)


def _is_whole(reduced: Any) -> bool:
    return reduced[0] is copyreg.__newobj__  # type: ignore[attr-defined]


def table() -> dict[type, Repair]:
    """Return the rules."""
    view = "it is a view, and gets a dict of its own to look at"
    odict: OrderedDict[Any, Any] = OrderedDict()
    rules = {
        types.MappingProxyType: Repair(REBUILD, "it is a read-only view of a mapping, which travels", _mapping_proxy),
        type({}.keys()): Repair(REBUILD, view, _keys),
        type({}.values()): Repair(REBUILD, view, _values),
        type({}.items()): Repair(REBUILD, view, _items),
        type(odict.keys()): Repair(REBUILD, view, _keys),
        type(odict.values()): Repair(REBUILD, view, _values),
        type(odict.items()): Repair(REBUILD, view, _items),
        re.Match: Repair(REBUILD, "the pattern and the text travel, and matching again gives the same", _match),
        memoryview: Repair(REBUILD, "its bytes travel, and the copy looks at those", _memoryview),
        loaded("mmap", "mmap"): Repair(REBUILD, "it is read-only, so it is its bytes", _mmap),
        loaded("_struct", "Struct"): Repair(REBUILD, "it is its format", _struct),
    }
    if sys.version_info >= (3, 14):
        for name in ("count", "repeat"):
            cls = loaded("itertools", name)
            rules[cls] = Repair(REBUILD, "all its state is two numbers", _iterator)
        partial = loaded("functools", "partialmethod")
        rules[partial] = Repair(REBUILD, "it is its function and its arguments", _partial_method)
        ref = loaded("annotationlib", "ForwardRef")
        why = "it is its text, and is looked up where it stands"
        rules[ref] = Repair(RECONSTRUCT, why, _forward_ref, plain=_is_whole)
    return {cls: rule for cls, rule in rules.items() if cls is not None}
