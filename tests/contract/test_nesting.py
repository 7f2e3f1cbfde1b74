"""A pool in a worker is a pool like any other; and a task that starts pools without end is stopped."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any

import pytest

import safemp
from safemp.engines import nesting
from tests.support import inner, jobs

CONTEXTS = [None, "spawn", *(["fork", "forkserver"] if hasattr(os, "fork") else [])]

OTHERS = ["threads", "ThreadPoolExecutor", "subprocess", "script", "loky", "spawn", "fork"]
OTHERS += ["mp.", "mp.spawn", "mp.fork", "mp.forkserver"]

SQUARES = [i * i for i in range(20)]


pytestmark = pytest.mark.slow


@pytest.fixture
def depth(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin outside of every pool."""
    monkeypatch.delenv("SAFEMP_DEPTH", raising=False)
    monkeypatch.delenv(nesting.MAX_DEPTH, raising=False)


@pytest.mark.parametrize("outer", CONTEXTS)
@pytest.mark.parametrize("how", ["map", "Pool", "SafeExecutor", "left"])
def test_a_pool_in_a_worker_works(outer: str | None, how: str) -> None:
    """Both workers use one of their own at the same time; closed, or left to the worker's end."""
    with safemp.SafeExecutor(2, mp_context=outer) as executor:
        futures = [executor.submit(inner.squares_in, None, how) for _ in range(2)]

        assert [future.result(40) for future in futures] == [SQUARES] * 2


@pytest.mark.parametrize("within", CONTEXTS[1:])
def test_a_pool_in_a_worker_may_be_of_any_kind(within: str) -> None:
    """Whatever way its processes are started."""
    with safemp.Pool(2) as pool:
        results = [pool.apply_async(inner.squares_in, (within, "Pool")) for _ in range(2)]

        assert [result.get(40) for result in results] == [SQUARES] * 2


@pytest.mark.parametrize("outer", CONTEXTS)
@pytest.mark.parametrize("how", OTHERS)
def test_a_task_may_use_any_other_pool(outer: str | None, how: str) -> None:
    """Threads, programs, the standard library's pools and loky's work in a worker as in any process."""
    if "fork" in how and not hasattr(os, "fork"):
        pytest.skip("there is no fork")
    with safemp.SafeExecutor(1, mp_context=outer) as executor:
        assert executor.submit(inner.squares_of_other_pools, how).result(40) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("method", [None, "spawn"])
def test_processes_of_a_task_start_as_those_of_the_program(context: str | None, method: str | None) -> None:
    """What ``set_start_method`` has said at home holds in loky's workers; others have their own, as in the stdlib."""
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method(method, force=True)
    try:
        with safemp.SafeExecutor(1, mp_context=context) as executor:
            found = executor.submit(inner.start_method).result()
    finally:
        multiprocessing.set_start_method(before, force=True)

    assert found == (context or method)


def test_a_start_method_that_only_the_program_has_is_not_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some package has made a method of its own the default, as loky can: workers start, with what they know."""
    known: Any = multiprocessing.context._concrete_contexts  # type: ignore[attr-defined]
    monkeypatch.setitem(known, "of a package", multiprocessing.get_context("spawn"))
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("of a package", force=True)
    try:
        with safemp.SafeExecutor(1) as executor:
            assert executor.submit(jobs.square, 3).result() == 9
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_a_pool_in_a_worker_takes_the_workers_part_of_the_cores() -> None:
    """Unless told otherwise: the cores divided by the outer workers, at least one."""
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(inner.default_workers).result() == nesting.cores()
    with safemp.SafeExecutor(max(2, nesting.cores())) as executor:
        assert executor.submit(inner.default_workers).result() == 1


def test_pools_may_be_five_deep(depth: None) -> None:
    """Far more than anybody means."""
    assert inner.nest(5) == 5


def test_one_more_is_refused(depth: None) -> None:
    """The error is that of the innermost task; it says what it is, and what to type."""
    with pytest.raises(RecursionError) as caught:
        inner.nest(6)

    assert str(caught.value) == (
        "cannot start a pool: this process is a worker inside 5 pools, and 5 is the most\n"
        "  reason: a task that starts a pool whose tasks start a pool would take every process there is\n"
        "  fix:    call the inner function directly; or set SAFEMP_MAX_DEPTH=6 in the environment, if this is meant"
    )


def test_pools_without_end_are_refused(depth: None) -> None:
    """A task that maps a function that maps itself ends in an error, not in a machine without processes."""
    with pytest.raises(RecursionError, match="cannot start a pool"):
        inner.nest_without_end()


def test_the_depth_can_be_set(depth: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """``SAFEMP_MAX_DEPTH`` holds for all levels, programs between them included."""
    monkeypatch.setenv(nesting.MAX_DEPTH, "1")
    with safemp.SafeExecutor(1) as executor:
        error = executor.submit(inner.squares_in, None, "Pool").exception()
        script = executor.submit(inner.squares_of_other_pools, "script").exception()

    assert isinstance(error, RecursionError)
    assert "SAFEMP_MAX_DEPTH=2" in str(error)
    assert script is not None
    assert type(script).__name__ == "CalledProcessError"

    monkeypatch.setenv(nesting.MAX_DEPTH, "6")
    assert inner.nest(6) == 6


def test_a_wrong_depth_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no number is read as not set."""
    monkeypatch.setenv("SAFEMP_DEPTH", "deep")
    monkeypatch.setenv(nesting.MAX_DEPTH, "-3")
    monkeypatch.setenv("SAFEMP_CORES", "0")

    assert nesting.depth() == 0
    assert nesting.cores() >= 1
    nesting.check_depth()
    assert jobs.square(3) == 9


def test_no_processes_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The inline engine starts nothing, so it may be nested at any depth."""
    monkeypatch.setenv("SAFEMP_DEPTH", "100")
    with safemp.SafeExecutor(engine="inline") as executor:
        assert executor.submit(jobs.square, 3).result() == 9
