"""What ``safemp.testing`` calls a difference: every kind of object, its path, and nothing else."""

from __future__ import annotations

import array
import collections
import copy
import datetime
import decimal
import functools
import math
import threading
import types
from collections.abc import Callable
from typing import Any

import pytest

from safemp.testing.comparing import differences


class Plain:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a: Any, b: Any) -> None:
        self.a = a
        self.b = b


class Rude:
    """Raises whatever it is asked."""

    def __eq__(self, other: object) -> bool:
        raise SystemError("no ==")

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise SystemError("no reduce")

    __hash__ = None  # type: ignore[assignment]


class AlwaysAnother(Plain):
    """Says that its copy is another, which it is not."""

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = None  # type: ignore[assignment]


def closure(value: Any) -> Callable[[], Any]:
    def inner(default: Any = [value]) -> Any:  # noqa: B006
        return value, default

    return inner


def cyclic() -> list[Any]:
    made: list[Any] = [1, {"self": None}]
    made[1]["self"] = made
    return made


SAME: dict[str, Callable[[], Any]] = {
    "numbers": lambda: [1, 2.5, True, None, 1j, math.nan, -0.0, b"x", "x", ..., range(3)],
    "containers": lambda: {"a": [(1, {2, 3})], 4: frozenset({5}), (6, 7): [{}]},
    "plain": lambda: Plain(a=Plain(b=[1]), lock=threading.Lock()),
    "slots": lambda: Slotted(1, [threading.RLock()]),
    "says it is another": lambda: AlwaysAnother(a=1),
    "rude": Rude,
    "cycle": cyclic,
    "closure": lambda: closure([1]),
    "partial": lambda: functools.partial(closure(1), 2),
    "method": lambda: Plain(a=1).__init__,  # type: ignore[misc]
    "types": lambda: [int, Plain, math, len, datetime.timezone.utc],
    "library": lambda: [
        decimal.Decimal("1.5"),
        datetime.datetime(2026, 1, 2),
        array.array("i", [1]),
        collections.deque([Plain(a=1)]),
        collections.OrderedDict(a=Plain(b=2)),
        collections.defaultdict(list, {1: [2]}),
        collections.Counter("aab"),
        types.SimpleNamespace(a=1),
        slice(1, 2),
    ],
    "exception": lambda: OSError(2, "no", "file"),
    "objects in a set": lambda: {Plain(a=1), Plain(a=2)},
    "objects as keys": lambda: {Plain(a=1): Plain(b=2)},
}


@pytest.mark.parametrize("name", SAME)
def test_what_is_made_alike_is_the_same(name: str) -> None:
    """Two objects made in the same way, none of which is the other."""
    assert differences(SAME[name](), SAME[name](), "obj") == []


def number_in(exc: Any) -> Any:
    exc.number = 1
    return exc


DIFFERENT: dict[str, tuple[Any, Any, str, str]] = {
    "atom": (1, 2, "obj", "1 became 2"),
    "type": (1, "1", "obj", "1 became '1'"),
    "truth": (1, True, "obj", "1 became True"),
    "not a number": (math.nan, 1.0, "obj", "nan became 1.0"),
    "length": ([1, 2], [1], "obj", "2 items became 1"),
    "item": ({"a": [0, (1, 2)]}, {"a": [0, (1, 3)]}, "obj['a'][1][1]", "2 became 3"),
    "key": ({"a": 1, "b": 2}, {"a": 1, "c": 2}, "obj['b']", "it is gone"),
    "set": ({1, 2}, {1, 3}, "obj", "{1, 2} became {1, 3}"),
    "key that is an object": ({Plain(a=1): 0}, {Plain(a=2): 0}, "list(obj)[0].a", "1 became 2"),
    "value of such": ({Plain(a=1): 3}, {Plain(a=1): 4}, "list(obj.values())[0]", "3 became 4"),
    "attribute": (Plain(a=Plain(b=1)), Plain(a=Plain(b=2)), "obj.a.b", "1 became 2"),
    "attribute that is gone": (Plain(a=1), Plain(), "obj.a", "it is gone"),
    "slot": (Slotted(1, 2), Slotted(1, 3), "obj.b", "2 became 3"),
    "class": (Plain(), Slotted(1, 2), "obj", f"a {__name__}.Plain became a {__name__}.Slotted"),
    "variable": (closure(1), closure(2), "obj.__defaults__[0][0]", "1 became 2"),
    "function": (closure, cyclic, "obj", f"function {__name__}.closure became {__name__}.cyclic"),
    "argument": (functools.partial(len, 1), functools.partial(len, 2), "obj.__reduce_ex__(4)[2][1][0]", "1 became 2"),
    "a class itself": ([int], [str], "obj[0]", "class int became class str"),
    "module": (math, types, "obj", "math became types"),
    "deque": (collections.deque([1]), collections.deque([2]), "obj[0]", "1 became 2"),
    "decimal": (decimal.Decimal(1), decimal.Decimal(2), "obj.__reduce_ex__(4)[1][0]", "'1' became '2'"),
    "text of an exception": (ValueError("a"), ValueError("b"), "str(obj)", "'a' became 'b'"),
    "exception's attribute": (number_in(ValueError()), ValueError(), "obj.number", "it is gone"),
    "errno": (IsADirectoryError(21, "x"), IsADirectoryError(), "str(obj)", "'[Errno 21] x' became ''"),
    "long": ("x" * 1000, "y", "obj", f"'{'x' * 12}...{'x' * 13}' became 'y'"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_is_named_by_its_path(name: str) -> None:
    """The first difference, and what has become of it."""
    one, other, path, what = DIFFERENT[name]
    first = differences(one, other, "obj")[0]

    assert (first.path, first.what) == (path, what)


def test_what_is_skipped_is_not_looked_at() -> None:
    """With all that is below it."""
    one, other = Plain(a=Plain(b=1), c=1, d=1), Plain(a=Plain(b=2), c=2)

    assert [d.path for d in differences(one, other, "obj", skip={"obj.a", "obj.d"})] == ["obj.c"]


def test_causes_are_compared_unless_links_are_left_out() -> None:
    """Both of them, and theirs."""
    one = ValueError("x")
    one.__cause__ = TypeError("y")
    one.__cause__.__context__ = KeyError("z")
    other = copy.copy(one)
    other.__cause__ = TypeError("y")

    assert [(d.path, d.what) for d in differences(one, other, "exc")] == [
        ("exc.__cause__.__context__", "a KeyError became None")
    ]
    assert differences(one, other, "exc", links=False) == []


def test_the_search_has_an_end() -> None:
    """Twenty differences are enough, and a large object is not compared for ever."""
    assert len(differences(list(range(1000)), [-1] * 1000, "obj")) == 20
    deep: list[list[Any]] = [[], []]
    for i in range(2):
        for _ in range(5_000):
            deep[i] = [deep[i]]
    assert differences(*deep, "obj") == []
    for one in deep:  # taken apart from outside: the interpreter's way of doing it is recursive
        while one:
            one = one.pop()
