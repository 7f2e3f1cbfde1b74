"""``safemp.testing``: what survives a pool passes, and what does not is named, with what to do."""

from __future__ import annotations

import logging
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib.util import find_spec
from typing import Any

import pytest

import safemp
from safemp.testing import assert_survives, assert_travels, journeys
from tests.support import real_objects, tested
from tests.support.errors import raise_given
from tests.unit import exceptions_zoo

BOTH = ["safemp", "pickle"]


@pytest.fixture
def live() -> Iterator[socket.socket]:
    """A socket, which nothing can copy."""
    with socket.socket() as made:
        yield made


def failure_of(assertion: Callable[..., Any], *args: Any, **settings: Any) -> str:
    """Return what *assertion* says when it fails."""
    with pytest.raises(AssertionError) as caught:
        assertion(*args, **settings)
    return str(caught.value)


# -- exceptions ------------------------------------------------------------------------


@pytest.mark.parametrize("by", BOTH)
@pytest.mark.parametrize(
    "error", [tested.Good("slow down", 429), tested.Mended(status=429)], ids=lambda e: type(e).__name__
)
def test_a_good_exception_survives_both(error: Any, by: Any) -> None:
    """The copy is returned: another object of the class, with its attributes."""
    copy = assert_survives(error, by=by)

    assert copy is not error
    assert type(copy) is type(error)
    assert (copy.status, str(copy)) == (429, str(error))


def test_one_that_pickle_cannot_make_again_survives_safemp_only() -> None:
    """It breaks the standard library's executor; the text says so, why, and what to do."""
    error = tested.KeywordOnly(status=429)
    with ProcessPoolExecutor(1) as stock, pytest.raises(BrokenProcessPool):
        stock.submit(raise_given, error).result(60)

    assert assert_survives(error).status == 429
    assert failure_of(assert_survives, error, by="pickle") == (
        "exc (tests.support.tested.KeywordOnly) does not survive a pool of the standard library: "
        "exc: tests.support.tested.KeywordOnly does not load\n"
        "  reason: KeywordOnly.__init__() takes 1 positional argument but 2 were given\n"
        "  fix:    let its __init__ take exactly what it gives to super().__init__(), or define its __reduce__\n"
        "  (a multiprocessing.Pool whose task raises it never answers, and a ProcessPoolExecutor breaks)"
    )


def test_cause_context_and_members_are_compared() -> None:
    """They come with safemp; pickle loses them, which is not held against a class."""
    error = tested.Good("outer", 1)
    error.__cause__ = tested.KeywordOnly(status=2)
    error.__context__ = tested.KeywordOnly(status=3)
    copy = assert_survives(error)

    assert copy.__cause__.status == 2
    assert copy.__context__.status == 3
    assert assert_survives(error, by="pickle").__cause__ is None
    error.__cause__ = tested.Forgetful("inner")
    assert "exc.__cause__.detail: it is gone" in failure_of(assert_survives, error)
    if sys.version_info >= (3, 11):
        group = ExceptionGroup("two", [ValueError(1), tested.Forgetful("inner")])
        assert "exc.exceptions[1].detail: it is gone" in failure_of(assert_survives, group)


@pytest.mark.parametrize("by", BOTH)
def test_what_its_own_reduce_leaves_out_is_named(by: Any) -> None:
    """An attribute, and where Python has them the notes, unless they may be lost."""
    error = tested.Forgetful("text")
    if sys.version_info >= (3, 11):
        error.add_note("a note")
    said = failure_of(assert_survives, error, by=by)

    assert "exc.detail: it is gone\n  fix:    __reduce__ of tests.support.tested.Forgetful leaves it out" in said
    assert ("exc.__notes__: they are gone" in said) is (by == "pickle" and sys.version_info >= (3, 11))
    assert assert_survives(error, by=by, may_lose=["detail", "__notes__"]).args == ("text",)


def test_another_class_or_text_is_named() -> None:
    """Where pickle changes what is raised, and safemp does not."""
    assert "exc: a tests.support.tested.Other became a Exception" in failure_of(
        assert_survives, tested.Other("x"), by="pickle"
    )
    assert "str(exc): 'x' became 'again: again: x'" in failure_of(assert_survives, tested.Changed("x"), by="pickle")
    assert str(assert_survives(tested.Other("x"))) == str(assert_survives(tested.Changed("x"))) == "x"


def test_what_became_lost_is_told(live: socket.socket) -> None:
    """In the arguments and in public; a lock is made anew, and what is private is not asked for."""
    error = tested.Holding(live)
    said = failure_of(assert_survives, error)
    copy = assert_survives(error, may_lose=["thing", "args[1]"])

    assert said.splitlines()[0] == (
        "exc (tests.support.tested.Holding) does not survive a pool of safemp: "
        "exc.args[1]: the socket.socket did not travel (cannot pickle 'socket' object)"
    )
    assert "and exc.thing: the socket.socket did not travel" in said
    assert said.endswith("(where readers can do without: may_lose=['args[1]', 'thing'])")
    assert isinstance(copy, tested.Holding)
    assert (copy.number, type(copy.lock)) == (7, type(threading.Lock()))
    assert isinstance(copy.thing, safemp.Lost)
    assert "exc.lock: _thread.lock does not pickle" in failure_of(assert_survives, error, by="pickle")


def test_any_exception_of_python_survives() -> None:
    """Those too that end programs, or iterations."""
    for error in (
        KeyboardInterrupt(),
        SystemExit(3),
        StopIteration(4),
        GeneratorExit(),
        CancelledError(),
        OSError(2, "a"),
    ):
        assert type(assert_survives(error)) is type(error)
    assert assert_survives(FileNotFoundError(2, "no", "file")).filename == "file"


def test_hostile_exceptions_survive_safemp() -> None:
    """All that other tests have thought of, with every property, ``__reduce__`` and metaclass that raises."""
    for make in (*exceptions_zoo.ZOO.values(), *exceptions_zoo.HONOURED.values()):
        exc = exceptions_zoo.caught(make)
        assert type(assert_survives(exc)) is type(exc)


def test_hostile_exceptions_fail_politely_by_pickle() -> None:
    """Nothing but an ``AssertionError`` comes out, except for what may be the user's Ctrl-C."""
    failed = 0
    for name, make in exceptions_zoo.ZOO.items():
        try:
            assert_survives(exceptions_zoo.caught(make), by="pickle")
        except AssertionError:
            failed += 1
        except KeyboardInterrupt:
            assert name == "reduce raises"
    assert failed > 30


def test_a_class_made_in_a_function_survives_safemp() -> None:
    """As the same class; pickle cannot name it."""

    class Local(Exception):
        pass

    assert type(assert_survives(Local("x"))) is Local
    assert "type(exc): type does not pickle" in failure_of(assert_survives, Local("x"), by="pickle")


def test_safemps_own_errors_survive_both() -> None:
    """Rule 1 of ``safemp.errors``."""
    culprit = safemp.Culprit("args[0]", "socket.socket", "it is open", "close it")
    for by in BOTH:
        assert assert_survives(safemp.PreflightError((culprit,)), by=by).culprits == (culprit,)  # type: ignore[arg-type]


def test_wrong_arguments_say_what_is_right() -> None:
    """A class is no exception, and there are two ways."""
    with pytest.raises(TypeError, match=r"not KeywordOnly\n  fix:    make one: KeywordOnly\(\.\.\.\)"):
        assert_survives(tested.KeywordOnly)  # type: ignore[type-var]
    for assertion in (assert_survives, assert_travels):
        with pytest.raises(ValueError, match="by must be 'safemp' or 'pickle', not 'dill'"):
            assertion(ValueError(), by="dill")  # type: ignore[operator]


# -- other objects ---------------------------------------------------------------------


def test_an_object_travels() -> None:
    """What safemp mends need only come back as what it was; the copy is returned."""
    sent = {"lock": threading.Lock(), "log": logging.getLogger("x"), "double": lambda x: 2 * x, "nan": float("nan")}
    copy = assert_travels(sent)

    assert copy["lock"] is not sent["lock"]
    assert copy["log"] is sent["log"]
    assert copy["double"](4) == 8


def test_every_culprit_is_named(live: socket.socket) -> None:
    """Those of safemp, and the more of plain pickle, each by its path."""
    sent = {"a": [live], "b": threading.Lock(), "c": lambda: 1, "d": [tested.KeywordOnly(status=1)]}
    safe, plain = failure_of(assert_travels, sent), failure_of(assert_travels, sent, by="pickle")

    assert safe.splitlines()[0] == "obj (dict) does not travel by safemp: obj['a'][0]: socket.socket does not pickle"
    assert "obj['b']" not in safe
    assert "obj['a'][0]: socket.socket does not pickle" in plain
    assert "and obj['b']: _thread.lock does not pickle" in plain
    assert "and obj['c']: function does not pickle" in plain
    del sent["a"], sent["b"], sent["c"]
    assert "obj['d'][0]: tests.support.tested.KeywordOnly does not load" in failure_of(
        assert_travels, sent, by="pickle"
    )


@pytest.mark.parametrize("by", BOTH)
def test_where_the_copy_differs_is_named(by: Any) -> None:
    """What is lost by an object that says so, and what has become another thing."""
    assert "obj[0].lost: it is gone" in failure_of(assert_travels, [tested.Lossy()], by=by)
    assert "obj.of['loads'][0][0]: 0 became 2" in failure_of(assert_travels, tested.Grows(), by=by)


@pytest.mark.parametrize("by", BOTH)
def test_what_only_this_process_has_does_not_travel(by: Any) -> None:
    """A copy made here passes, so there is a process."""
    sent = [tested.ByRegistry(1)]
    assert pickle.loads(pickle.dumps(sent)) == sent
    said = failure_of(assert_travels, sent, by=by)

    assert said.splitlines()[0] == f"obj (list) does not travel by {by}: obj: list does not load in the worker"
    assert "reason: KeyError: 1" in said


def test_a_worker_that_dies_is_told_as_such() -> None:
    """With all that safemp knows of it."""
    with pytest.raises(safemp.WorkerCrashed, match="exit"):
        assert_travels(tested.Quits())


def test_what_hangs_in_the_worker_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the author's test run goes on."""
    monkeypatch.setattr(journeys, "_DEADLINE", 1.0)
    with pytest.raises(safemp.TaskTimeout):
        assert_travels(tested.Hangs())


def test_a_deep_object_is_no_crash_here() -> None:
    """One that is too deep for pickle is said to be, one that is not is compared to its end."""
    deep: list[Any] = []
    for _ in range(100):
        deep = [deep]
    assert assert_travels(deep) == deep
    for _ in range(100_000):
        deep = [deep]
    assert "too deep" in (said := failure_of(assert_travels, deep)) or "recursion" in said


DIFFER = {
    "dict iterator": "a list_iterator",  # pickle's own way with it
    "read-only map": "does not pickle on the way back",  # the copy may be written to
}
"""Those of the real objects that arrive and work, and do not come back as they were: how."""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_real_objects_come_back_as_they_were() -> None:
    """Of some 180 clients, engines, models and the like, nothing is said to differ that does not."""
    said = {}
    for name, entry in real_objects.ARRIVES.items():
        if entry.needs and find_spec(entry.needs) is None:
            continue
        try:
            assert_travels(entry.make())
        except AssertionError as failure:
            said[name] = str(failure)

    assert said.keys() == DIFFER.keys(), said
    assert [name for name in said if DIFFER[name] not in said[name]] == []
