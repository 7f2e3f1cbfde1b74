"""What in a copy is not as it was, each with its path.

An object is as it was when its own ``==`` says so, or when pickle would save the same of
both: that is gone into, part by part, to name the smallest thing that differs. What
safemp has mended (a lock, a client) is as it was when its type is.

Rule 1: user code may raise anything here, in ``__eq__`` and ``__reduce__``; it ends nothing.
Rule 2: of a user's value only plain data is shown, and cut short.
"""

from __future__ import annotations

import copyreg
import reprlib
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from types import BuiltinFunctionType, CellType, FunctionType, MethodType, ModuleType
from typing import Any

from safemp.codec.exception_reduce import has_own_way, same_class
from safemp.codec.exception_state import group_of, raw_dict, read_links, read_members, read_state, same_text, text_of
from safemp.codec.lost import Lost
from safemp.codec.pickling import USER_ERRORS
from safemp.codec.repairs import ALL, standard_stream
from safemp.codec.statics import class_dict, instance_dict, lookup, members, mro, type_name
from safemp.codec.walker import ATOMS

__all__ = ["Difference", "differences"]

_MOST = 20
"""Differences that are named. Picked, not measured."""
_MOST_PAIRS = 100_000
"""Pairs that are compared; what is beyond is taken for the same, as is what is too deep. Picked, too."""
_LONGEST_PATH = 2000
"""Characters of a path, beyond which it is too deep: each pair has its path. Picked, too."""

_Pair = tuple[Any, Any, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in a copy that is not as it was.

    Attributes:
        path: Where it is, an expression rooted at the object.
        what: What has become of it.
        fix: What to do; empty if that is plain.
    """

    path: str
    what: str
    fix: str = ""


def differences(one: Any, other: Any, name: str, *, links: bool = True, skip: Container[str] = ()) -> list[Difference]:
    """Compare *other*, a copy, with *one*.

    Args:
        one: What was sent.
        other: What came back.
        name: What paths begin with.
        links: Of exceptions, compare cause and context, too.
        skip: Paths that are not looked at.
    """
    found: list[Difference] = []
    stack: list[_Pair] = [(one, other, name)]
    kept: dict[tuple[int, int], _Pair] = {}  # ids are good while their objects are alive
    while stack and len(found) < _MOST and len(kept) < _MOST_PAIRS:
        pair = stack.pop()
        a, b, path = pair
        if a is b or (id(a), id(b)) in kept or path in skip or len(path) > _LONGEST_PATH:
            continue
        kept[id(a), id(b)] = pair
        below: list[_Pair] = []
        try:
            for each in _compared(a, b, path, links):
                if not isinstance(each, Difference):
                    below.append(each)
                elif each.path not in skip:
                    found.append(each)
        except USER_ERRORS:  # rule 1: what cannot be looked at is taken for the same
            pass
        stack += below[::-1]
    return found


def _compared(a: Any, b: Any, path: str, links: bool) -> Iterator[Difference | _Pair]:
    cls = type(a)
    if type(b) is Lost and cls is not Lost:
        yield Difference(
            path,
            f"the {b.type_name} did not travel ({b.reason})",
            "keep what readers need of it in attributes of plain data",
        )
    elif cls not in _WAYS and same_class(cls, type(b)) and ALL.find(cls) is not None:
        return  # mended; clients of boto3 have classes that are made anew
    elif type(b) is not cls and not _stands_for(b, cls):
        if not (_is_standard_stream(a) and _is_standard_stream(b)):  # pytest replaces them here
            yield from _other_class(a, b, path)
    elif cls in ATOMS:
        if a != b and not (a != a and b != b):  # NaN
            yield Difference(path, f"{_shown(a)} became {_shown(b)}")
    elif issubclass(cls, BaseException):
        yield from _exceptions(a, b, path, links)
    elif cls in _WAYS:
        yield from _WAYS[cls](a, b, path)
    elif issubclass(cls, type):
        if not same_class(a, b):
            yield Difference(path, f"class {type_name(a)} became class {type_name(b)}")
    elif not _equal(a, b):
        yield from _objects(a, b, path)


def _stands_for(b: Any, cls: type) -> bool:
    """Tell whether *b* is caught as *cls*: of a class made to keep a text, of which a part was lost."""
    return issubclass(cls, BaseException) and issubclass(type(b), cls) and same_class(type(b), cls)


def _is_standard_stream(obj: Any) -> bool:
    try:
        return bool(standard_stream(obj))
    except TypeError:
        return False


def _other_class(a: Any, b: Any, path: str) -> Iterator[Difference]:
    ours, theirs = type_name(type(a)), type_name(type(b))
    if ours == theirs:
        text = f"it came back as an instance of another class of the name {ours}"
        yield Difference(path, text, f"define {ours} at the top level of an importable module")
    else:
        shown = [_shown(x) if type(x) in ATOMS else f"a {type_name(type(x))}" for x in (a, b)]
        yield Difference(path, " became ".join(shown))


def _shown(value: Any) -> str:
    return reprlib.repr(value)


def _equal(a: Any, b: Any) -> bool:
    """Ask their own ``==``, if they have one that gives a truth value."""
    if lookup(type(a), "__eq__") is object.__eq__:
        return False
    try:
        return (a == b) is True
    except USER_ERRORS:  # rule 1
        return False


# -- builtins --------------------------------------------------------------------------


def _sequences(a: Any, b: Any, path: str) -> Iterator[Difference | _Pair]:
    if len(a) != len(b):
        yield Difference(path, f"{len(a)} items became {len(b)}")
    for i, (x, y) in enumerate(zip(a, b, strict=False)):
        yield x, y, f"{path}[{i}]"


def _dicts(a: Any, b: Any, path: str) -> Iterator[Difference | _Pair]:
    if len(a) != len(b):
        yield Difference(path, f"{len(a)} items became {len(b)}")
    for i, ((key, x), (other, y)) in enumerate(zip(a.items(), b.items(), strict=False)):
        if type(key) in ATOMS:
            if key not in b:
                yield Difference(f"{path}[{key!r}]", "it is gone")
            else:
                yield x, b[key], f"{path}[{key!r}]"
        else:
            yield key, other, f"list({path})[{i}]"
            yield x, y, f"list({path}.values())[{i}]"


def _sets(a: Any, b: Any, path: str) -> Iterator[Difference]:
    if len(a) != len(b):
        yield Difference(path, f"{len(a)} items became {len(b)}")
    elif all(type(x) in ATOMS for x in a) and a != b:
        yield Difference(path, f"{_shown(a)} became {_shown(b)}")


def _functions(a: Any, b: Any, path: str) -> Iterator[Difference | _Pair]:
    if (a.__module__, a.__qualname__, a.__code__.co_code) != (b.__module__, b.__qualname__, b.__code__.co_code):
        yield Difference(path, f"function {a.__module__}.{a.__qualname__} became {b.__module__}.{b.__qualname__}")
        return
    yield a.__defaults__, b.__defaults__, f"{path}.__defaults__"
    yield a.__kwdefaults__, b.__kwdefaults__, f"{path}.__kwdefaults__"
    for name, x, y in zip(a.__code__.co_freevars, a.__closure__ or (), b.__closure__ or (), strict=False):
        yield x, y, f"{path}.__closure__[{name!r}]"


def _cells(a: Any, b: Any, path: str) -> Iterator[Difference | _Pair]:
    try:
        yield a.cell_contents, b.cell_contents, path
    except ValueError:  # an empty cell
        pass


def _methods(a: Any, b: Any, path: str) -> Iterator[_Pair]:
    yield a.__func__, b.__func__, f"{path}.__func__"
    yield a.__self__, b.__self__, f"{path}.__self__"


def _named(a: Any, b: Any, path: str) -> Iterator[Difference]:
    if a.__name__ != b.__name__:
        yield Difference(path, f"{a.__name__} became {b.__name__}")


_WAYS: dict[type, Callable[[Any, Any, str], Iterator[Difference | _Pair]]] = {
    list: _sequences,
    tuple: _sequences,
    dict: _dicts,
    set: _sets,
    frozenset: _sets,
    FunctionType: _functions,
    CellType: _cells,
    MethodType: _methods,
    ModuleType: _named,
    BuiltinFunctionType: _named,
}


# -- objects ---------------------------------------------------------------------------


def _objects(a: Any, b: Any, path: str) -> Iterator[Difference | _Pair]:
    """Compare what pickle would save of both; and if they say that they differ, all attributes."""
    ours, theirs = _reduced(a), _reduced(b)
    if type(ours) is type(theirs) is str:
        if ours != theirs:
            yield Difference(path, f"{ours} became {theirs}")
    elif type(ours) is type(theirs) is tuple:
        yield from _reduce_values((*ours, None, None, None), (*theirs, None, None, None), path)
    if lookup(type(a), "__eq__") is not object.__eq__:
        yield from _attributes(_space(a), _space(b), path)


def _reduced(obj: Any) -> Any:
    """Return the reduce value of *obj*; ``None`` if it has none: what travels all the same is mended."""
    try:
        reducer = copyreg.dispatch_table.get(type(obj))
        return reducer(obj) if reducer is not None else obj.__reduce_ex__(4)
    except USER_ERRORS:  # rule 1
        return None


def _reduce_values(a: tuple[Any, ...], b: tuple[Any, ...], path: str) -> Iterator[Difference | _Pair]:
    if getattr(a[0], "__name__", "") not in ("__newobj__", "__newobj_ex__"):  # their classes are the same
        yield a[0], b[0], f"{path}.__reduce_ex__(4)[0]"
    yield a[1], b[1], f"{path}.__reduce_ex__(4)[1]"
    ours, theirs = _named_state(a[2]), _named_state(b[2])
    if ours is not None and theirs is not None:
        yield from _attributes(ours, theirs, path)
    else:
        yield a[2], b[2], f"{path}.__reduce_ex__(4)[2]"
    yield from _sequences(list(a[3] or ()), list(b[3] or ()), path)
    yield dict(a[4] or ()), dict(b[4] or ()), path


def _named_state(state: Any) -> dict[Any, Any] | None:
    """Return the attributes and slots that a state sets; ``None`` if it is not of that form."""
    parts = state if type(state) is tuple and len(state) == 2 else (state, None)
    if not all(part is None or type(part) is dict for part in parts):
        return None
    return {**(parts[0] or {}), **(parts[1] or {})}


def _space(obj: Any) -> dict[str, Any]:
    return dict(members(obj)) | (instance_dict(obj) or {})


def _attributes(a: dict[Any, Any], b: dict[Any, Any], path: str) -> Iterator[Difference | _Pair]:
    for name, value in a.items():
        if name in b:
            yield value, b[name], f"{path}.{name}"
        else:
            yield Difference(f"{path}.{name}", "it is gone")


# -- exceptions ------------------------------------------------------------------------


def _exceptions(a: BaseException, b: BaseException, path: str, links: bool) -> Iterator[Difference | _Pair]:
    if not same_text(a, b):
        yield Difference(f"str({path})", f"{_shown(text_of(a))} became {_shown(text_of(b))}")
    group, others = group_of(a), group_of(b)
    if group is None or others is None:
        yield read_state(a)["args"], read_state(b)["args"], f"{path}.args"
    else:
        yield tuple(group[1]), tuple(others[1]), f"{path}.exceptions"
    ours, theirs = _public(a), _public(b)
    for name, value in ours.items():
        if name in theirs:
            yield value, theirs[name], f"{path}.{name}"
        else:
            yield Difference(f"{path}.{name}", "it is gone", _who_dropped_it(type(a)))
    notes, theirs_notes = (raw_dict(exc).get("__notes__") for exc in (a, b))
    if notes and not theirs_notes:
        yield Difference(f"{path}.__notes__", "they are gone", _who_dropped_it(type(a)))
    elif notes:
        yield notes, theirs_notes, f"{path}.__notes__"
    if links:
        for name, x, y in zip(("__cause__", "__context__"), read_links(a), read_links(b), strict=True):
            yield x, y, f"{path}.{name}"


def _public(exc: BaseException) -> dict[str, Any]:
    """Return what readers of *exc* may ask for: C members, slots and attributes without an underscore."""
    found = {key.rpartition(".")[2]: value for key, value in read_members(exc).items()} | raw_dict(exc)
    return {name: value for name, value in found.items() if type(name) is str and not name.startswith("_")}


def _who_dropped_it(cls: type) -> str:
    if not has_own_way(cls):
        return ""
    ways = ("__reduce_ex__", "__reduce__", "__getstate__", "__setstate__")
    for base in mro(cls):
        way = next((way for way in ways if way in class_dict(base)), None)
        if way is not None:
            return f"{way} of {type_name(base)} leaves it out: let it take self.__dict__ along"
    return "its reducer in copyreg leaves it out"
