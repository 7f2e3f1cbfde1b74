"""``worker.run`` answers, whatever user code does."""

from __future__ import annotations

import functools
import gc
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import safemp
from safemp import worker
from safemp.codec import calls
from safemp.codec.calls import Chunk, decode_outcome
from safemp.codec.frames import Frames, Kind
from tests.support import hostile, jobs

# pytest before 8.4 has a hook of its own for each test, which goes over the fixture's.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(autouse=True)
def _deletions_may_raise(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hostile ``__del__`` is Python's to report, and here nobody's business."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "unraisablehook", lambda _: None)
        yield
        gc.collect()


def ask(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> tuple[bool, Any]:
    """Send a call, make it, and read the answer. A call that does not load goes twice, as in an engine."""
    with answering():
        outcome = worker.run(calls.encode_call(fn, args, kwargs))
        if calls.read_not_loaded(outcome) is not None:
            outcome = worker.run(calls.encode_call(fn, args, kwargs, careful=True))
        try:
            return decode_outcome(outcome)
        except KeyboardInterrupt:  # cannot be told from Ctrl-C, which must get through
            return True, None
    raise AssertionError


@contextmanager
def answering() -> Iterator[None]:
    """Fail the test for what escapes; a ``KeyboardInterrupt`` would end the whole run."""
    try:
        yield
    except BaseException as error:
        place = traceback.extract_tb(error.__traceback__)
        inner = [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in place[-12:]]
        raised = type(error).__name__
        del error
        pytest.fail(f"{raised} escaped from " + " > ".join(inner), pytrace=False)


# -- what tasks do -----------------------------------------------------------------------


def test_a_value_comes_back() -> None:
    """Arguments go there, the value comes back."""
    assert ask(jobs.add, 1, 2) == (True, 3)
    assert ask(jobs.keywords, self=1, fn=2, args=3) == (True, {"self": 1, "fn": 2, "args": 3})


@pytest.mark.parametrize("action", hostile.ACTIONS)
def test_whatever_a_task_raises_comes_back(action: str) -> None:
    """``SystemExit``, ``KeyboardInterrupt`` and a ``BaseException`` of the user's included."""
    good, found = ask(hostile.detonate, action)
    if action == "nonsense":
        assert good
        return

    assert not good
    assert type(found).__name__ == {"Exception": "ValueError"}.get(action, action)


@pytest.mark.parametrize("hook", hostile.HOOKS)
@pytest.mark.parametrize("base", ["object", "Exception", "dict", "list"])
def test_hostile_results_are_answered(hook: str, base: str) -> None:
    """What is returned may refuse to be pickled, hashed, compared, shown or deleted."""
    for action in hostile.ACTIONS:
        good, found = ask(hostile.made, hook, action, base)

        if not good:
            assert isinstance(found, safemp.ResultError), action
            assert found.culprits
            assert str(found)


@pytest.mark.parametrize("hook", hostile.HOOKS)
def test_hostile_objects_deep_in_a_result_are_answered(hook: str) -> None:
    """Also in containers, and several of them."""
    for action in hostile.ACTIONS:
        good, found = ask(hostile.nested, hook, action)

        if not good:
            assert isinstance(found, safemp.ResultError), action
            assert all(c.path.startswith("result") for c in found.culprits), action


@pytest.mark.parametrize("hook", hostile.HOOKS)
def test_hostile_exceptions_are_answered(hook: str) -> None:
    """What is raised may do the same, and is still an exception in the caller."""
    for action in hostile.ACTIONS:
        good, found = ask(hostile.raised, hook, action)

        assert not good, action
        assert isinstance(found, BaseException), action


@pytest.mark.parametrize("hook", hostile.HOOKS)
def test_hostile_things_around_an_exception_cost_nothing_else(hook: str) -> None:
    """Its cause, its attributes and its notes may be hostile: its class and text arrive."""
    for action in hostile.ACTIONS:
        good, found = ask(hostile.raised_from, hook, action)

        assert not good, action
        assert type(found) is ValueError, action
        assert found.args == ("plain",), action


# -- what calls do while they are loaded ------------------------------------------------------


@pytest.mark.parametrize("action", hostile.ACTIONS)
@pytest.mark.parametrize("kind", ["Detonator", "SetStateDetonator", "EqualDetonator"])
def test_an_argument_that_raises_while_it_is_loaded_is_answered(kind: str, action: str) -> None:
    """It is ``NOT_LOADED``: the task has not begun, and what was raised is said."""
    value: Any = getattr(hostile, kind)(action)
    if kind == "EqualDetonator":
        value = {value: 1}
    with answering():
        outcome = worker.run(calls.encode_call(jobs.same, (value,), {}))
    reason = calls.read_not_loaded(outcome)
    if action == "nonsense":
        assert reason is None
        return

    assert reason is not None
    assert reason.module is None
    with answering():
        good, error = decode_outcome(outcome)
    assert not good
    assert isinstance(error, safemp.PreflightError)


def test_a_module_that_is_missing_is_named() -> None:
    """So that the caller can send it by value."""
    frames = calls.encode_call(jobs.same, (_Missing(),), {})

    reason = calls.read_not_loaded(worker.run(frames))

    assert reason is not None
    assert reason.module == "there_is_no_such_module"


class _Missing:
    def __reduce__(self) -> Any:
        return __import__, ("there_is_no_such_module",)


@pytest.mark.parametrize("action", hostile.ACTIONS)
def test_a_hostile_map_is_answered(action: str) -> None:
    """A function or an item that raises while it is loaded is an outcome, not the worker's end."""
    detonator: Any = hostile.SetStateDetonator(action)
    with answering():
        function = worker.load_function(calls.encode_function(detonator))
        chunk = worker.load_chunk(calls.encode_chunk([1, detonator], 0))

    if action != "nonsense":
        assert isinstance(function, list)
        assert isinstance(chunk, list)


def run_item(fn: Callable[..., Any], chunk: Chunk, index: int) -> Frames:
    """Run one item, and let its result be in no row."""
    n, outcome = worker.run_items(fn, chunk, index, index + 1, lambda _: None, [])
    assert n == 0
    assert outcome is not None
    return outcome


@pytest.mark.parametrize("action", hostile.ACTIONS)
def test_each_item_has_its_own_answer(action: str) -> None:
    """An item that raises does not cost the others theirs; its traceback says which one it was."""
    chunk = worker.load_chunk(calls.encode_chunk(["nonsense", action, "nonsense"], 10))
    assert isinstance(chunk, Chunk)
    with answering():
        outcomes = [decode_outcome(run_item(hostile.detonate, chunk, i)) for i in range(3)]

    assert outcomes[0][0]
    assert outcomes[2][0]
    assert outcomes[1][0] is (action == "nonsense")
    if not outcomes[1][0]:
        assert "items[11]" in traceback.extract_tb(outcomes[1][1].__traceback__)[0].name


def test_items_of_a_starmap_are_arguments() -> None:
    """A tuple is taken apart; what is none is an error of that item."""
    chunk = worker.load_chunk(calls.encode_chunk([(1, 2), 3], 0, star=True))
    assert isinstance(chunk, Chunk)

    assert decode_outcome(run_item(jobs.add, chunk, 0)) == (True, 3)
    assert type(decode_outcome(run_item(jobs.add, chunk, 1))[1]) is TypeError


# -- names -----------------------------------------------------------------------------------


class _Nameless:
    def __call__(self) -> None: ...

    def __getattr__(self, name: str) -> Any:
        raise SystemExit(name)


@pytest.mark.parametrize(
    ("fn", "expected"),
    [
        (jobs.add, "tests.support.jobs.add"),
        (len, "builtins.len"),
        (dict, "builtins.dict"),
        (functools.partial(functools.partial(jobs.add, 1), 2), "partial(tests.support.jobs.add)"),
        (_Nameless(), "an instance of tests.unit.test_worker._Nameless"),
        (jobs.Mute().__repr__, "tests.support.jobs.Mute.__repr__"),
        (3, "an instance of int"),
    ],
    ids=["function", "builtin", "class", "partial", "nameless", "method", "no callable"],
)
def test_callables_are_named_for_people(fn: Any, expected: str) -> None:
    """By module and name, else by type; whatever their ``__getattr__`` does."""
    assert worker.name_of(fn) == expected


@pytest.mark.parametrize("hook", hostile.HOOKS)
def test_a_hostile_callable_is_named(hook: str) -> None:
    """Naming it raises nothing."""
    for action in hostile.ACTIONS:
        made = hostile.make(hook, action)
        with answering():
            name = worker.name_of(made)

        assert isinstance(name, str), action


@pytest.mark.parametrize("hook", hostile.HOOKS)
def test_a_hostile_callable_that_raises_is_answered(hook: str) -> None:
    """An object that is called, raises and then refuses to be named."""
    for action in hostile.ACTIONS:
        made = hostile.make(hook, action)
        type(made).__call__ = _fail
        with answering():
            good, error = decode_outcome(run_item(made, Chunk([1], 0, False, False), 0))

        assert not good, action
        assert type(error) is LookupError, action


def _fail(self: object, *args: object) -> None:
    raise LookupError("called")


# -- what is left behind ------------------------------------------------------------------------


def test_a_traceback_begins_with_the_worker_and_the_task() -> None:
    """Then the user's own lines: no frame of ours stands between."""
    _, error = ask(jobs.raise_two_arguments)
    where, first, *_ = traceback.extract_tb(error.__traceback__)

    assert str(os.getpid()) in where.filename
    assert where.name == "tests.support.jobs.raise_two_arguments"
    assert first.name == "raise_two_arguments"
    assert first.line == "raise TwoArguments(a, b)"


def test_random_frames_are_answered() -> None:
    """Kinds that a worker does not take, too."""
    for kind in Kind:
        from safemp.codec.frames import pack

        frames: Frames = pack(kind, b"\x80\x05N.")
        good, error = decode_outcome(worker.run(frames))
        assert not good
        assert isinstance(error, Exception)


def no_room() -> None:
    raise MemoryError("no memory for 1,000,000 bytes")


class TooLarge:
    def __reduce__(self) -> Any:
        return no_room, ()


def test_what_finds_no_memory_is_not_said_to_be_written_wrongly() -> None:
    """Neither a result here nor a call there."""
    done, error = calls.decode_outcome(calls.encode_outcome(TooLarge()))
    assert not done
    assert "MemoryError: no memory" in str(error)
    assert "fix:    there is no memory for it" in str(error)
    frames = calls.encode_call(len, (TooLarge(),), {})
    done, error = calls.decode_outcome(worker.run(frames))
    assert not done
    assert "fix:    there is no memory for it" in str(error)
