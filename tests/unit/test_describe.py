"""A call in one line: builtins are shown in short, the rest is named by type, no user code runs."""

from __future__ import annotations

import sys
from collections import OrderedDict
from typing import Any

import pytest

from safemp.codec.describe import describe, describe_call


class HostileMeta(type):
    """Nor may its class be asked."""

    def __eq__(self, other: object) -> bool:
        sys.exit("user code has run")

    __hash__ = __repr__ = __eq__  # type: ignore[assignment]


class Hostile(metaclass=HostileMeta):
    """Every question to it ends the process that asks."""

    def _die(self, *_: Any) -> Any:
        sys.exit("user code has run")

    __repr__ = __str__ = __len__ = __iter__ = __eq__ = __hash__ = __getattribute__ = __getitem__ = _die  # type: ignore
    __class__ = property(_die)  # type: ignore[assignment]


class HostileText(str):
    """A str that is none."""

    __slots__ = ()
    __repr__ = __str__ = __len__ = __getitem__ = __format__ = Hostile._die  # type: ignore[assignment]


class HostileList(list[Any]):
    """A list that is none."""

    __repr__ = __len__ = __iter__ = __getitem__ = Hostile._die  # type: ignore[assignment]


SHOWN: list[tuple[object, str]] = [
    (None, "None"),
    (True, "True"),
    (-17, "-17"),
    (1 << 128, "<int of 129 bits>"),
    (10**100_000, "<int of 332193 bits>"),
    (1.5, "1.5"),
    ("abc", "'abc'"),
    ("x" * 50, f"'{'x' * 40}'… (50 characters)"),
    (b"x" * 50, f"b'{'x' * 40}'… (50 bytes)"),
    ([], "[]"),
    ((), "()"),
    ((1,), "(1,)"),
    ((1, 2), "(1, 2)"),
    (set(), "set()"),
    (frozenset(), "frozenset()"),
    (frozenset({1}), "frozenset({1})"),
    ({7}, "{7}"),
    (list(range(1000)), "[0, 1, 2, … 997 more]"),
    ([[1, [2]]], "[[1, <list of 1>]]"),
    ({}, "{}"),
    ({"a": 1, 2: {"b": {"c": 3}}}, "{'a': 1, 2: {'b': <dict of 1>}}"),
    ({i: i for i in range(5)}, "{0: 0, 1: 1, 2: 2, … 2 more}"),
    ({"api_key": "sk-123", "name": "x"}, "{'api_key': <str>, 'name': 'x'}"),
    (OrderedDict(a=1), "<collections.OrderedDict>"),
    (len, "<function len>"),
    (describe, "<function describe>"),
    (ValueError("secret"), "<ValueError>"),
    (int, "<type>"),
]


@pytest.mark.parametrize(("value", "shown"), SHOWN, ids=[shown for _, shown in SHOWN])
def test_builtins_are_shown_in_short(value: object, shown: str) -> None:
    """What is plain is shown, cut where it is long; what is not is named by its type."""
    assert describe(value) == shown


def test_no_user_code_runs() -> None:
    """Objects that end whoever touches them are named by their type, in containers too."""
    with pytest.raises(SystemExit):
        repr(Hostile())

    name = f"<{__name__}.Hostile"
    assert describe(Hostile()) == f"{name}>"
    assert describe([Hostile(), HostileText("x"), HostileList()]) == f"[{name}>, {name}Text>, {name}List>]"
    assert describe_call((Hostile(),), {"x": Hostile()}) == f"({name}>, x={name}>)"
    assert describe_call(HostileList(), {}) == f"(*{name}List>)"
    assert describe_call((), {HostileText("x"): 1}) == "(x=1)"


def test_a_call_is_written_as_it_was_made() -> None:
    """Positional arguments, then keywords; many are counted; a secret's name hides it."""
    assert describe_call((), {}) == "()"
    assert describe_call((3, "a"), {"size": None}) == "(3, 'a', size=None)"
    assert describe_call(tuple(range(20)), {}) == "(0, 1, 2, 3, 4, 5, 6, 7, … 12 more)"
    assert describe_call((), {"password": "p", "user_token": "t"}) == "(password=<str>, user_token=<str>)"


def test_a_cycle_ends() -> None:
    """A list that holds itself is shown as far as any other."""
    cycle: list[Any] = []
    cycle.append(cycle)

    assert describe(cycle) == "[[<list of 1>]]"
