"""What is called wrongly is refused at the call, with the standard library's type and a text that helps."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import jobs
from tests.support.child import quiet, run_python, run_script


@pytest.mark.parametrize("number", [0, -1])
def test_no_workers_are_refused(engine: str, number: int) -> None:
    """``max_workers=0`` and ``processes=0`` are a ``ValueError`` with the standard library's text."""
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        safemp.SafeExecutor(number, engine=engine)
    for make in (safemp.SafeExecutor, safemp.Pool):
        with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
            make(1.0)
    with pytest.raises(ValueError, match="Number of processes must be at least 1"):
        safemp.Pool(number, engine=engine)


@pytest.mark.parametrize("number", [0, -1])
def test_recycling_after_no_tasks_is_refused(engine: str, number: int) -> None:
    """``max_tasks_per_child=0`` and ``maxtasksperchild=0`` are a ``ValueError``."""
    with pytest.raises(ValueError, match="max_tasks_per_child must be >= 1"):
        safemp.SafeExecutor(1, max_tasks_per_child=number, engine=engine)
    with pytest.raises(ValueError, match="maxtasksperchild must be a positive int or None"):
        safemp.Pool(1, maxtasksperchild=number, engine=engine)
    with pytest.raises(TypeError, match="max_tasks_per_child must be an integer"):
        safemp.SafeExecutor(1, max_tasks_per_child="2", engine=engine)  # type: ignore[arg-type]


def test_an_initializer_that_cannot_be_called_is_refused(engine: str) -> None:
    """The standard library's ``TypeError``."""
    with pytest.raises(TypeError, match="initializer must be a callable"):
        safemp.SafeExecutor(1, initializer=5, engine=engine)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="initializer must be a callable"):
        safemp.Pool(1, initializer=5, engine=engine)  # type: ignore[arg-type]


def test_an_unknown_engine_is_refused() -> None:
    """The error names the engine, and those there are."""
    with pytest.raises(ValueError, match=r"(?s)'nonsense'.*'local'"):
        safemp.SafeExecutor(1, engine="nonsense")


def test_a_chunk_has_a_whole_number_of_items(executor: safemp.SafeExecutor) -> None:
    """As with the standard library, a float is a ``TypeError``."""
    with pytest.raises(TypeError, match="float"):
        executor.map(jobs.square, [1], chunksize=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize("chunksize", [0, -1])
def test_empty_chunks_are_refused(executor: safemp.SafeExecutor, pool: safemp.Pool, chunksize: int) -> None:
    """``chunksize=0`` is a ``ValueError`` at the call, whatever the method."""
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        executor.map(jobs.square, [1], chunksize=chunksize)
    for method in (pool.imap, pool.imap_unordered, pool.map, pool.map_async):
        with pytest.raises(ValueError, match=rf"Chunksize must be 1\+, not {chunksize}"):
            method(jobs.square, [1], chunksize)  # type: ignore[operator]
    for function in (safemp.map, safemp.starmap, safemp.imap, safemp.imap_unordered):
        with pytest.raises(ValueError, match="chunksize must be >= 1"):
            function(jobs.square, [1], chunksize=chunksize)  # type: ignore[operator]


def test_an_empty_buffer_is_refused(executor: safemp.SafeExecutor) -> None:
    """``buffersize=0`` is a ``ValueError``, and what is no number a ``TypeError``."""
    with pytest.raises(ValueError, match="buffersize must be None or > 0"):
        executor.map(jobs.square, [1], buffersize=0)
    with pytest.raises(TypeError, match="buffersize must be an integer or None"):
        executor.map(jobs.square, [1], buffersize="2")  # type: ignore[arg-type]


def _ways(executor: safemp.SafeExecutor, pool: safemp.Pool, function: Any) -> list[Callable[[], object]]:
    return [
        lambda: executor.submit(function),
        lambda: executor.map(function, [1]),
        lambda: pool.apply(function),
        lambda: pool.apply_async(function),
        lambda: pool.map(function, [1]),
        lambda: pool.starmap(function, [(1,)]),
        lambda: pool.imap(function, [1]),
        lambda: pool.imap_unordered(function, [1]),
        lambda: safemp.map(function, [1]),
        lambda: safemp.imap(function, [1]),
    ]


def test_what_cannot_be_called_is_refused(executor: safemp.SafeExecutor, pool: safemp.Pool) -> None:
    """A ``TypeError`` at the call, naming the type."""
    for way in _ways(executor, pool, 5):
        with pytest.raises(TypeError, match=r"int is not callable|'int' object is not callable"):
            way()


def test_a_coroutine_function_is_refused(executor: safemp.SafeExecutor, pool: safemp.Pool) -> None:
    """A ``TypeError`` at the call that says what to do; nobody gets a coroutine that cannot come back."""
    for way in _ways(executor, pool, jobs.coroutine):
        with pytest.raises(TypeError, match=r"(?s)coroutine.*asyncio\.run"):
            way()


def test_a_partial_of_a_coroutine_function_is_refused(executor: safemp.SafeExecutor) -> None:
    """``functools.partial`` does not hide a coroutine function."""
    from functools import partial

    with pytest.raises(TypeError, match=r"(?s)coroutine.*asyncio\.run"):
        executor.submit(partial(jobs.coroutine))


def test_keywords_named_as_our_parameters_are_passed_on(executor: safemp.SafeExecutor, pool: safemp.Pool) -> None:
    """``submit(fn, self=1, fn=2)`` calls ``fn(self=1, fn=2)``."""
    given = {"self": 1, "fn": 2, "func": 3, "args": 4, "kwds": 5, "timeout": 6, "callback": 7}

    assert executor.submit(jobs.keywords, self=1, fn=2).result(30) == {"self": 1, "fn": 2}
    assert executor.submit(jobs.keywords, **given).result(30) == given
    assert pool.apply(jobs.keywords, (), given) == given


def test_use_after_the_end_is_refused_as_by_the_standard_library(engine: str) -> None:
    """``RuntimeError`` and ``ValueError``, with the texts that people search for."""
    stdlib = ProcessPoolExecutor(1)
    stdlib.shutdown()
    with pytest.raises(RuntimeError) as wanted:
        stdlib.submit(jobs.square, 1)
    executor = safemp.SafeExecutor(1, engine=engine)
    executor.shutdown()
    pool = safemp.Pool(1, engine=engine)
    pool.close()

    for way in (lambda: executor.submit(jobs.square, 1), lambda: executor.map(jobs.square, [1])):
        with pytest.raises(RuntimeError, match=f"^{wanted.value}$"):
            way()
    calls: list[Callable[[], object]] = [
        lambda: pool.apply(jobs.square, (1,)),
        lambda: pool.apply_async(jobs.square, (1,)),
        lambda: pool.map(jobs.square, [1]),
        lambda: pool.map_async(jobs.square, [1]),
        lambda: pool.starmap(jobs.add, [(1, 2)]),
        lambda: pool.starmap_async(jobs.add, [(1, 2)]),
        lambda: pool.imap(jobs.square, [1]),
        lambda: pool.imap_unordered(jobs.square, [1]),
        pool.__enter__,
    ]
    for call in calls:
        with pytest.raises(ValueError, match="Pool not running"):
            call()
    pool.join()
    executor.shutdown()


def test_a_pool_cannot_be_sent(executor: safemp.SafeExecutor, pool: safemp.Pool) -> None:
    """An executor or a pool as an argument is refused at the call, with what to do instead."""
    for value in (executor, pool):
        with pytest.raises((safemp.PreflightError, NotImplementedError)) as caught:
            executor.submit(jobs.take, [value])
        assert "args[0][0]" in str(caught.value).splitlines()[0]
        assert "fix:" in str(caught.value)


# -- in a worker, in a forked child ----------------------------------------------------


@pytest.mark.parametrize("task", [jobs.nested_executor, jobs.nested_pool, jobs.nested_map])
def test_a_task_can_have_a_pool_of_its_own(task: Callable[[], list[int]]) -> None:
    """Workers are no daemons: a pool in a task works, and its worker ends by itself, not by being killed."""
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(task).result(40) == [0, 1, 4]
        (worker,) = executor._processes.values()

    assert worker.exitcode == 0


POOL_IN_PROCESS = """
import multiprocessing, os, safemp
from tests.support import jobs

def work():
    assert safemp.map(jobs.square, range(3)) == [0, 1, 4]
    executor = safemp.SafeExecutor(1)
    assert executor.submit(jobs.square, 3).result() == 9

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_a_process_of_multiprocessing_can_use_a_pool_and_ends(tmp_path: Path) -> None:
    """A ``multiprocessing.Process`` that has used a pool and not closed it ends all the same."""
    ended = run_script(tmp_path, POOL_IN_PROCESS, timeout=20)

    assert quiet(ended, out="0\n"), str(ended)


SUBMIT_FROM_TASK = """
import safemp

executor = safemp.SafeExecutor(1)

def inner():
    return 1

def outer():
    return executor.submit(inner).result()

if __name__ == "__main__":
    try:
        print(executor.submit(outer).result())
    except Exception as error:
        print(type(error).__name__, str(error).splitlines()[0])
    executor.shutdown()
"""


def test_submitting_from_a_task_to_its_own_executor_says_what_is_wrong() -> None:
    """A global executor does not travel: named at the call, and nobody waits for ever."""
    ended = run_python("-c", SUBMIT_FROM_TASK)

    assert ended.returncode == 0, str(ended)
    assert ended.out.startswith("PreflightError cannot send fn.__globals__['executor']"), str(ended)


def _in_forked_child(call: Callable[[], object]) -> str:
    """Return what *call* gives in a forked child: the error's type and text, or the value's repr."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                told = repr(call())
            except BaseException as error:
                told = f"{type(error).__name__}: {error}"
            os.write(writer, told.encode()[:4000])
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        told = stream.read().decode()
    os.waitpid(pid, 0)
    return told


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_use_from_a_forked_child_says_what_is_wrong() -> None:
    """The workers belong to the parent: an error that says so, at once; the parent goes on."""
    with safemp.SafeExecutor(1) as executor, safemp.Pool(1) as pool:
        assert executor.submit(jobs.square, 2).result(30) == 4
        told = [
            _in_forked_child(lambda: executor.submit(jobs.square, 3)),
            _in_forked_child(lambda: executor.map(jobs.square, [3])),
            _in_forked_child(lambda: pool.apply_async(jobs.square, (3,))),
            _in_forked_child(lambda: pool.map(jobs.square, [3])),
        ]

        for one in told:
            assert one.startswith(("RuntimeError", "ValueError")), one
            assert "fork" in one
            assert "fix:" in one
        assert executor.submit(jobs.square, 3).result(30) == 9
        assert pool.apply(jobs.square, (3,)) == 9


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_can_shut_down_what_it_inherited() -> None:
    """``shutdown``, ``terminate`` and collection in a forked child do not touch the parent's workers."""
    with safemp.SafeExecutor(1) as executor, safemp.Pool(1) as pool:
        assert executor.submit(jobs.square, 2).result(30) == 4
        assert pool.apply(jobs.square, (2,)) == 4

        assert _in_forked_child(executor.shutdown) == "None"
        assert _in_forked_child(executor.kill_workers) == "None"
        assert _in_forked_child(pool.terminate) == "None"
        assert executor.submit(jobs.square, 3).result(30) == 9
        assert pool.apply(jobs.square, (3,)) == 9


FORKED_MAP = """
import os, sys, safemp
from tests.support import jobs

assert safemp.map(jobs.square, range(3)) == [0, 1, 4]
pid = os.fork()
ours = safemp.map(jobs.square, range(4))
assert ours == [0, 1, 4, 9], ours
if pid:
    assert os.waitpid(pid, 0)[1] == 0
    print("ok")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_the_one_line_functions_work_in_a_forked_child() -> None:
    """The process-wide executor is made anew in the child; both go on."""
    ended = run_python("-W", "ignore::DeprecationWarning", "-c", FORKED_MAP)

    assert (ended.returncode, ended.out, ended.left) == (0, "ok\n", ()), str(ended)


def test_a_frozen_program_spawns(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyInstaller's, say: it is no interpreter, and would start itself again. ``freeze_support`` is for spawn."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)

    with safemp.SafeExecutor(1) as executor:
        assert executor._engine._settings.context.get_start_method() == "spawn"  # type: ignore[attr-defined]
    for method in ("template", "loky"):
        with pytest.raises(ValueError, match=r"in a frozen program.*\n  fix:.*freeze_support"):
            safemp.Pool(1, context=method)
