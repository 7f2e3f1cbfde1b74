"""What becomes of a pool whose initializer fails, ends its process, or hangs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import inherited as jobs
from tests.support import jobs as plain
from tests.support.child import alive, until

METHODS = (None, "spawn", "forkserver", "fork")


@pytest.fixture(params=METHODS, ids=str)
def method(request: pytest.FixtureRequest) -> Any:
    """How the workers start."""
    return request.param


def _pool(kind: str, processes: int, initializer: Callable[..., Any], args: tuple[Any, ...], method: Any) -> Any:
    if kind == "pool":
        return safemp.Pool(processes, initializer, args, None, method)
    return safemp.SafeExecutor(processes, method, initializer, args)


def _call(pool: Any) -> Any:
    return pool.apply(plain.square, (3,)) if isinstance(pool, safemp.Pool) else pool.submit(plain.square, 3).result(40)


@pytest.mark.parametrize("kind", ["pool", "executor"])
@pytest.mark.parametrize(
    ("initializer", "args", "cause", "text"),
    [
        (sys.exit, ("no licence",), SystemExit, "no licence"),
        (jobs.interrupt, (), KeyboardInterrupt, ""),
        (plain.fail_to_start, (), plain.TwoArguments, "initializer/failed"),
        (jobs.raise_with_a_lock, (), jobs.LockedError, "locked"),
    ],
    ids=["sys.exit", "KeyboardInterrupt", "two arguments", "a lock in it"],
)
def test_what_an_initializer_raises_is_the_cause_of_every_error(
    kind: str, method: Any, initializer: Any, args: Any, cause: type[BaseException], text: str
) -> None:
    """Its own class arrives, at the first call and at every later one."""
    with _pool(kind, 2, initializer, args, method) as pool:
        for _ in range(3):
            with pytest.raises(safemp.InitializerError, match=cause.__name__) as caught:
                _call(pool)

            assert type(caught.value.__cause__) is cause
            assert str(caught.value.__cause__) == text


@pytest.mark.parametrize("kind", ["pool", "executor"])
@pytest.mark.parametrize(
    ("initializer", "args", "how"),
    [
        (os._exit, (3,), "exited with code 3"),
        (jobs.end_by_signal, (), r"killed by signal 9 \(SIGKILL\)"),
    ],
    ids=["os._exit", "SIGKILL"],
)
def test_an_initializer_that_ends_its_worker_is_named_as_the_reason(
    kind: str, method: Any, initializer: Any, args: Any, how: str
) -> None:
    """After a few workers every call fails, and the error says when and how they ended."""
    with _pool(kind, 1, initializer, args, method) as pool:
        for _ in range(2):
            with pytest.raises(BrokenProcessPool, match=f"ended before their initializer was done; the last.*{how}"):
                _call(pool)


@pytest.mark.parametrize("kind", ["pool", "executor"])
def test_an_initializer_that_fails_in_a_replacement_breaks_the_pool_then(
    tmp_path: Path, kind: str, method: Any
) -> None:
    """What was done before stays done; what comes after fails with the error itself."""
    path = str(tmp_path / "first")
    limit = {"maxtasksperchild" if kind == "pool" else "max_tasks_per_child": 1}
    front: Any = safemp.Pool if kind == "pool" else safemp.SafeExecutor
    start = {"context" if kind == "pool" else "mp_context": method}
    with front(1, initializer=jobs.fail_after, initargs=(path,), **limit, **start) as pool:
        assert _call(pool) == 9
        for _ in range(2):
            with pytest.raises(safemp.InitializerError) as caught:
                _call(pool)

            assert repr(caught.value.__cause__) == "LookupError('the second time')"


def test_workers_that_hang_in_the_initializer_are_ended(tmp_path: Path, method: Any) -> None:
    """``terminate`` and ``kill_workers`` do not wait for it."""
    started = tmp_path / "started"
    pool = safemp.Pool(1, jobs.hang, (str(started),), None, method)
    result = pool.apply_async(plain.square, (3,))
    assert until(lambda: started.exists() and started.read_text().endswith("\n"), timeout=40)
    pool.terminate()
    pool.join()
    with pytest.raises(Exception):
        result.get(40)
    again = tmp_path / "again"
    executor = safemp.SafeExecutor(1, method, jobs.hang, (str(again),))
    future = executor.submit(plain.square, 3)
    assert until(lambda: again.exists() and again.read_text().endswith("\n"), timeout=40)
    executor.kill_workers()
    executor.shutdown()

    assert future.cancelled() or isinstance(future.exception(40), BrokenProcessPool)
    assert not any(alive(int(path.read_text())) for path in (started, again))


def test_an_initializer_runs_with_no_task(tmp_path: Path) -> None:
    """A pool's workers start at once, as the standard library's, and make themselves ready."""
    path = tmp_path / "pids"
    with safemp.Pool(2, plain.initialize, (str(path), 1)):
        assert until(lambda: path.exists() and len(path.read_text().splitlines()) == 2, timeout=40)
