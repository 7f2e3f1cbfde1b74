"""Decorators of wrapt and pydantic, in a script and in a module."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support.child import run_python

try:
    import pydantic
    import wrapt
    from deprecated import deprecated
except ImportError:
    wrapt = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(wrapt is None, reason="wants the wrapt, pydantic and deprecated packages"),
    pytest.mark.timeout(120),
]


if wrapt is not None:

    @wrapt.decorator
    def double(wrapped, instance, args, kwargs):  # type: ignore[no-untyped-def]
        return 2 * wrapped(*args, **kwargs)

    @double
    def doubled(x: int) -> int:
        return x

    @wrapt.synchronized
    def one_at_a_time(x: int) -> int:
        return x

    @deprecated("use another", action="ignore")
    def old(x: int) -> int:
        return x

    class Holder:
        @double
        def method(self, x: int) -> int:
            return x

        @double
        @classmethod
        def of_class(cls, x: int) -> int:
            return x

        @double
        @staticmethod
        def static(x: int) -> int:
            return x

    class Under(Holder):
        again = double(Holder.__dict__["method"])

        @double
        def method(self, x: int) -> int:
            return 100 * x

        @double
        def __own(self, x: int) -> int:
            return x

        def all_ways(self) -> list[Any]:
            by_hand = doubled.__get__(self, Under)
            return [self.again, self.method, super().method, self.__own, super().of_class, super().static, by_hand]

    class ItsOwnWay(wrapt.FunctionWrapper):  # type: ignore[misc, name-defined]
        def __reduce_ex__(self, protocol: Any) -> Any:
            return its_own_way, (self.__wrapped__,)

    def its_own_way(function: Any) -> Any:
        return ItsOwnWay(function, lambda wrapped, instance, args, kwargs: 100 + wrapped(*args))

    class WithMore(wrapt.FunctionWrapper):  # type: ignore[misc, name-defined]
        def __init__(self, wrapped: object, more: int) -> None:
            super().__init__(wrapped, lambda wrapped, instance, args, kwargs: wrapped(*args) + more)


def test_bare_pickle_refuses_all_of_them() -> None:
    """And with it the standard library's pools."""
    for function in (doubled, old, Holder().method, Holder.static):
        with pytest.raises(NotImplementedError, match="must define __reduce"):
            pickle.dumps(function)


def test_those_of_a_module_are_themselves() -> None:
    """Functions by name; what is bound is looked up on its object or its class."""
    holder = Holder()
    with safemp.Pool(1) as pool:
        for function in (doubled, one_at_a_time, old):
            assert safemp.loads(safemp.dumps(function)) is function
            assert safemp.inspect(function).ok
            assert pool.apply(function, (3,)) == function(3)
        for bound in (holder.method, Holder.of_class, holder.of_class, Holder.static, holder.static):
            assert safemp.inspect(bound).ok
            assert pool.apply(bound, (3,)) == 6


def test_methods_are_bound_as_they_were() -> None:
    """Under another name, under one of two underscores, by ``super()`` and by hand."""
    for at, method in enumerate(Under().all_ways()):
        if at < 6:  # which is a function made a method: it has the object for an argument
            assert safemp.loads(safemp.dumps(method))(3) == method(3), at
        else:
            assert type(safemp.loads(safemp.dumps(method))._self_instance) is Under


def test_what_was_put_on_a_wrapper_and_ways_of_its_own() -> None:
    """State is where wrapt says that it belongs; a class that says how it is pickled is asked first."""
    wrapper = wrapt.FunctionWrapper(abs, lambda wrapped, instance, args, kwargs: wrapped(*args) * wrapper._self_factor)
    wrapper._self_factor = 10
    proxy = wrapt.ObjectProxy([1])
    proxy._self_tag = "tag"
    there = safemp.loads(safemp.dumps([wrapper, proxy, its_own_way(abs)]))
    assert (there[0]._self_factor, there[1]._self_tag, there[2](-3)) == (10, "tag", 103)


def test_one_that_holds_more_is_refused_by_name() -> None:
    """A class of one's own may want more than its function."""
    with pytest.raises(safemp.PreflightError, match="give WithMore a __reduce_ex__"):
        safemp.dumps(WithMore(abs, 3))


def test_what_a_proxy_stands_for_travels() -> None:
    """And what comes is a proxy."""
    there = safemp.loads(safemp.dumps([wrapt.ObjectProxy({"a": 1}), wrapt.CallableObjectProxy(abs)]))
    assert type(there[0]) is wrapt.ObjectProxy
    assert (there[0]["a"], there[1](-3)) == (1, 3)


OF_A_SCRIPT = """
import functools
import sys
import safemp, wrapt
from deprecated import deprecated

@wrapt.decorator
def double(wrapped, instance, args, kwargs):
    return 2 * wrapped(*args, **kwargs)

def like(x: int): ...

@wrapt.decorator(adapter=like)
def triple(wrapped, instance, args, kwargs):
    return 3 * wrapped(*args, **kwargs)

@wrapt.decorator(enabled=lambda: False)
def never(wrapped, instance, args, kwargs):
    return "called"

@double
def doubled(x): return x
@triple
def tripled(x, y=2): return x
@never
def left_alone(x): return x
@deprecated("use another")
def old(x): return x
@double
@double
def stacked(x): return x
@functools.lru_cache
@double
def cached(x): return x
@double
def factorial(n): return 1 if n == 0 else n * factorial(n - 1)
def uses(x): return doubled(x), tripled(x), old(x)
@wrapt.synchronized
def one_at_a_time(x): return x
def local():
    @double
    def factorial(n): return 1 if n == 0 else n * factorial(n - 1)
    return factorial
@double
class Value:
    def __init__(self, x): self.x = x
    def __rmul__(self, by): return by * self.x
class Holder:
    @double
    def method(self, x): return x
    @double
    @classmethod
    def of_class(cls, x): return x
    @double
    @staticmethod
    def static(x): return x
    @wrapt.synchronized
    def locked(self, x): return x

if __name__ == "__main__":
    functions = [
        doubled, tripled, left_alone, old, stacked, cached, factorial, uses, one_at_a_time, local(), Value, double(abs),
        double(functools.partial(pow, 2)), Holder().method, Holder.of_class, Holder().of_class, Holder.static,
        Holder().static, Holder().locked,
    ]
    with safemp.Pool(1, context=sys.argv[1]) as pool:
        for function in functions:
            assert safemp.inspect(function).ok, safemp.inspect(function)
            for _ in range(2):
                assert pool.apply(function, (3,)) == function(3), function
    print("all", len(functions))
"""


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_those_of_a_script_are_wrapped_again(tmp_path: Path, method: str) -> None:
    """Whatever they are around, and though a function calls itself through its decorator."""
    script = tmp_path / "script.py"
    script.write_text(OF_A_SCRIPT)
    ended = run_python("-W", "ignore", str(script), method, timeout=100)
    assert ended.out == "all 19\n", str(ended)


CHECKED = """
{first}
import asyncio
import sys
import typing
import safemp
from pydantic import BaseModel, ValidationError, validate_call

class Point(BaseModel):
    x: int
    others: "typing.Optional[list[Point]]" = None

@validate_call
def number(x: int): return x
@validate_call(validate_return=True)
def wrong(x: int) -> str: return x
@validate_call(config=dict(arbitrary_types_allowed=True))
def of_model(p: Point, q: typing.Optional[Point] = None): return p.x
@validate_call
def factorial(n: int): return 1 if n == 0 else n * factorial(n - 1)
@validate_call
async def later(x: int): return x
server = open(__file__)
@validate_call
def chosen(mode: typing.Literal["server", "number"]): return mode
@validate_call
def total(points: typing.List["Point"]): return sum(point.x for point in points)
def uses(x): return number(x), of_model(Point(x=x)), asyncio.run(later(x))
class Holder:
    @validate_call
    def method(self, x: int): return x
    @staticmethod
    @validate_call
    def static(x: int): return x
    @classmethod
    @validate_call
    def of_class(cls, x: int): return x
def local():
    class Local(BaseModel):
        x: int
    @validate_call
    def of_local(p: Local): return p.x
    return of_local

def come_to(function, argument):
    try:
        return function(argument)
    except ValidationError as error:
        return error.errors()

if __name__ == "__main__":
    pairs = [
        (number, "3"), (number, "three"), (wrong, 3), (of_model, {{"x": "4"}}), (of_model, Point(x=1)), (of_model, 5),
        (factorial, "4"), (uses, "3"), (Holder().method, "2"), (Holder.static, "2"), (Holder.static, "two"),
        (Holder.of_class, "3"), (local(), {{"x": "3"}}), (chosen, "server"), (total, [{{"x": "3"}}]),
    ]
    with safemp.Pool(1, context=sys.argv[1]) as pool:
        for function, argument in pairs:
            assert safemp.inspect(function).ok, safemp.inspect(function)
            assert pool.apply(come_to, (function, argument)) == come_to(function, argument), (function, argument)
    print("all", len(pairs))
"""


@pytest.mark.parametrize("first", ["", "from __future__ import annotations"])
@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_arguments_that_pydantic_checks_are_checked_there(tmp_path: Path, method: str, first: str) -> None:
    """By the same rules, also where annotations are text."""
    assert pydantic.VERSION
    script = tmp_path / "script.py"
    script.write_text(CHECKED.format(first=first))
    ended = run_python(str(script), method, timeout=100)
    assert ended.out == "all 15\n", str(ended)
