"""Engines upon somebody else's workers: what the far side lacks, what theirs does to us, and what is refused."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.codec import calls, namespaces
from safemp.engines import errand
from safemp.engines.errand import FORMAT, HERE, Errand, perform
from tests.support import jobs
from tests.support.child import lines


class Theirs(Executor):
    """Does what a test says with each submitted call, in the thread that submits it.

    Args:
        answer: Takes the call, as a function, and its arguments.
    """

    def __init__(self, answer: Callable[..., Any]) -> None:
        self.answer = answer
        self.calls = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.calls += 1
        future: Future[Any] = Future()
        try:
            future.set_result(self.answer(fn, *args))
        except Exception as error:
            future.set_exception(error)
        return future


def failing(error: Exception) -> Theirs:
    """Make an executor whose every call comes to *error*."""

    def answer(*_: Any) -> None:
        raise error

    return Theirs(answer)


def errand_of(fn: Callable[..., Any], *args: Any) -> Errand:
    """Make what travels for a call."""
    return Errand(
        FORMAT, HERE, "1", "", namespaces.origin("__main__"), None, "", False, 0, 1, calls.encode_call(fn, args, {})
    )


def test_an_executor_of_the_callers_own_thread_is_one_too() -> None:
    """One that runs a call before ``submit`` returns, also when calls make calls."""
    with safemp.SafeExecutor(1, engine=Theirs(lambda fn, *args: fn(*args))) as executor:
        assert list(executor.map(jobs.square, range(5))) == [0, 1, 4, 9, 16]
        assert isinstance(executor.submit(jobs.raise_locked).exception(20), jobs.Locked)


def test_a_call_that_is_just_being_sent_may_have_begun() -> None:
    """So where a running one cannot be ended, ``kill`` does not say that this one will be."""
    begun, release = threading.Event(), threading.Event()

    def run(fn: Callable[..., Any], *args: Any) -> Any:
        begun.set()
        assert release.wait(20)
        return fn(*args)

    with safemp.SafeExecutor(1, engine=Theirs(run)) as executor:
        future = executor.submit(jobs.square, 3)
        assert begun.wait(20)
        assert not future.kill()
        release.set()
        assert future.result(20) == 9


@pytest.mark.parametrize("nested", [False, True])
def test_workers_without_safemp_are_said_to_lack_it(nested: bool) -> None:
    """In one error with what to type, not in somebody's unpickling traceback."""
    error: Exception = ModuleNotFoundError("No module named 'safemp'")
    if nested:
        outer = RuntimeError("Error during deserialization of the task graph")
        outer.__cause__ = error
        error = outer
    with safemp.SafeExecutor(1, engine=failing(error)) as executor:
        raised = executor.submit(jobs.square, 2).exception(20)

    assert isinstance(raised, safemp.EngineError)
    assert "its workers do not have safemp" in str(raised)
    assert "fix:    install the caller's version of safemp" in str(raised)
    assert raised.__cause__ is error


@pytest.mark.parametrize(("written", "says"), [((FORMAT, (3, 1)), "Python 3.1"), (((0, 1), HERE), "format")])
def test_workers_of_another_version_are_refused(written: tuple[Any, Any], says: str) -> None:
    """At the first call, before anything is loaded; later ones are refused at once."""

    def from_afar(fn: Callable[..., Any], errand: tuple[Any, ...], shared: Any) -> Any:
        return fn((*written, *errand[2:]), shared)

    with safemp.SafeExecutor(1, engine=Theirs(from_afar)) as executor:
        raised = executor.submit(jobs.square, 2).exception(20)
        assert isinstance(raised, safemp.EngineError)
        assert says in str(raised)
        with pytest.raises(safemp.EngineError, match=says):
            executor.submit(jobs.square, 2)


def test_frames_of_another_version_are_refused_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by what has no errand around it."""
    todo = errand_of(jobs.square, 2)
    header = bytearray(todo.frames[0])
    header[2] += 1
    kind, outcomes = perform(todo._replace(frames=[bytes(header), *todo.frames[1:]]))
    assert kind == errand.DONE
    good, error = calls.decode_outcome(outcomes[0])
    assert not good
    assert isinstance(error, safemp.FrameError)
    assert "of version 2: this safemp reads version 1" in str(error)

    kind, outcomes = perform(todo)
    answer = bytearray(outcomes[0][0])
    answer[2] += 1
    good, error = calls.decode_outcome([bytes(answer), *outcomes[0][1:]])
    assert not good
    assert isinstance(error, safemp.FrameError)


def test_any_other_error_of_theirs_fails_only_its_call() -> None:
    """It is said whose it was, and is the cause."""
    wrong = OSError("no route to host")
    results: list[Any] = [wrong, None]

    def answer(fn: Callable[..., Any], *args: Any) -> Any:
        if (error := results.pop(0)) is not None:
            raise error
        return fn(*args)

    with safemp.SafeExecutor(1, engine=Theirs(answer)) as executor:
        raised = executor.submit(jobs.square, 2).exception(20)
        assert isinstance(raised, safemp.EngineError)
        assert "Theirs gave no answer for tests.support.jobs.square: OSError: no route to host" in str(raised)
        assert raised.__cause__ is wrong
        assert executor.submit(jobs.square, 3).result(20) == 9


def test_an_executor_that_is_shut_down_takes_no_tasks() -> None:
    """Calls under way and later ones are told so; nobody waits."""
    mine = ThreadPoolExecutor(1)
    with safemp.SafeExecutor(engine=mine) as executor:
        assert executor.submit(jobs.square, 2).result(20) == 4
        mine.shutdown()
        assert isinstance(executor.submit(jobs.square, 3).exception(20), safemp.EngineError)
        with pytest.raises(safemp.EngineError, match="ThreadPoolExecutor takes no tasks"):
            executor.submit(jobs.square, 4)


def test_the_executor_stays_its_makers() -> None:
    """The end of ours does not end it; how many workers it has we ask."""
    with ThreadPoolExecutor(3) as mine:
        with safemp.SafeExecutor(engine=mine) as executor:
            assert executor._max_workers == 3
        with safemp.Pool(engine=mine) as pool:
            assert pool._processes == 3
        assert mine.submit(jobs.square, 2).result(20) == 4


def test_an_executor_that_a_function_makes_is_made_when_the_engine_is() -> None:
    """So what it raises comes at the line that asks for it."""
    with pytest.raises(ZeroDivisionError):
        safemp.SafeExecutor(engine=lambda: 1 / 0)  # type: ignore[arg-type, return-value]


def test_what_is_no_engine_is_refused() -> None:
    """With what may stand there; misspelt names, too."""
    with pytest.raises(TypeError, match="cannot use int as an engine"):
        safemp.SafeExecutor(engine=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot find engine 'locla'"):
        safemp.Pool(engine="locla")


@pytest.mark.parametrize(
    "setting",
    [
        {"task_timeout": 1.0},
        {"max_memory": 1 << 30},
        {"max_tasks_per_child": 3},
        {"idle_timeout": 1.0},
        {"inner_max_num_threads": 1},
        {"capture_output": True},
        {"mp_context": "fork"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_what_an_engine_cannot_keep_is_refused(setting: dict[str, Any]) -> None:
    """At the line that asks for it, by its name; by ``options``, too."""
    (name,) = setting
    with ThreadPoolExecutor(1) as mine:
        with pytest.raises(ValueError, match=f"cannot use {name}= with the engine ThreadPoolExecutor"):
            safemp.SafeExecutor(engine=mine, **setting)
        if name in ("task_timeout", "max_memory"):
            with safemp.SafeExecutor(engine=mine) as executor, pytest.raises(ValueError, match=name):
                executor.options(**setting)


def test_an_engine_that_nobody_uses_has_no_thread() -> None:
    """So one that a front end has refused leaves nothing."""
    before = threading.active_count()
    with ThreadPoolExecutor(1) as mine:
        with pytest.raises(ValueError, match="task_timeout"):
            safemp.SafeExecutor(engine=mine, task_timeout=1)
        assert threading.active_count() == before


def test_buffers_are_the_tasks_own() -> None:
    """Also where the executor hands over the very bytes: a second try finds what the first one got."""
    numpy = pytest.importorskip("numpy", reason="wants numpy")
    array = numpy.zeros(100_000)

    with ThreadPoolExecutor(1) as mine, safemp.SafeExecutor(engine=mine, retries=3, retry_on=ValueError) as executor:
        assert executor.submit(jobs.increment, array).result(20)[0] == 1.0
        assert executor.submit(spoil_until_third, array).result(20) == 1.0
    assert array[0] == 0.0


_tries: list[float] = []


def spoil_until_third(array: Any) -> float:
    """Write to the array, and fail twice."""
    _tries.append(float(array[0]))
    array[0] += 1
    if len(_tries) % 3:
        raise ValueError(len(_tries))
    return float(array[0])


def test_what_had_not_begun_when_an_executor_broke_goes_to_the_next(tmp_path: Path) -> None:
    """If a function makes another; of the chunk that broke it only one item fails."""
    effects = tmp_path / "effects"

    def make() -> Executor:
        return ProcessPoolExecutor(1, get_context("spawn"))

    with safemp.Pool(1, engine=make) as pool:
        results = pool.imap(partial(jobs.note_or_die, str(effects), 7), range(20), chunksize=5)
        assert [next(results) for _ in range(7)] == [n * n for n in range(7)]
        with pytest.raises(safemp.WorkerCrashed) as caught:
            next(results)
        assert (caught.value.item, caught.value.arguments) == (7, "(7)")
        assert [next(results) for _ in range(12)] == [n * n for n in range(8, 20)]
        pool._engine._executor.shutdown()  # type: ignore[attr-defined]
    assert Counter(lines(effects)) == Counter(str(n) for n in range(20) if n != 7)


def test_one_that_has_broken_for_good_says_so(tmp_path: Path) -> None:
    """Calls that are behind the one that broke it fail, too, and are told apart from it."""
    with ProcessPoolExecutor(1, get_context("fork")) as mine, safemp.SafeExecutor(engine=mine) as executor:
        release = tmp_path / "release"
        futures = [executor.submit(jobs.wait_for, str(release)), executor.submit(jobs.die_by_exit)]
        futures += [executor.submit(jobs.square, n) for n in range(3)]
        release.touch()
        assert futures[0].result(20) == str(release)
        errors = [future.exception(20) for future in futures[1:]]
        assert all(isinstance(error, safemp.WorkerCrashed) for error in errors)
        assert "died while it ran tests.support.jobs.die_by_exit" in str(errors[0])
        assert all("cannot use ProcessPoolExecutor any more" in str(error) for error in errors[1:])
        with pytest.raises(safemp.WorkerCrashed, match="cannot use ProcessPoolExecutor any more"):
            executor.submit(jobs.square, 2)
