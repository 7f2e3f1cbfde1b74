"""A worker that dies says where it was: first that today's pools do not, then that ours does."""

from __future__ import annotations

import copy
import ctypes
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.contract.test_four_bad_jobs import today
from tests.support import crash_jobs, jobs
from tests.support.child import run_script

METHODS = ["template", "loky", "spawn", "forkserver", "fork"]


@pytest.fixture(scope="module")
def executor() -> Iterator[safemp.SafeExecutor]:
    with safemp.SafeExecutor(1) as executor:
        yield executor


def crashed(executor: safemp.SafeExecutor, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Return the ``WorkerCrashed`` of a call."""
    error = executor.submit(function, *args, **kwargs).exception(40)
    assert isinstance(error, safemp.WorkerCrashed)
    return error


# -- that it is needed ----------------------------------------------------------------------


def test_todays_pools_do_not_say_which_call_has_crashed() -> None:
    """The standard library's executor and loky name no function, no process and no place; ``Pool`` says nothing."""
    for kind in ("executor", "loky"):
        told = today(kind, "segfault")["first"]
        assert told["answer"] == "error"
        assert "die_by_segfault" not in told["text"]
        assert "string_at" not in told["text"]
        assert "pid" not in told["text"]
    assert today("pool", "segfault")["first"] == {"answer": "never"}


# -- the stack ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_segfault_is_explained_under_every_start_method(method: str) -> None:
    """Call, arguments, process, signal, stack and the last words are there, however the worker was started."""
    with safemp.SafeExecutor(1, mp_context=method) as executor:
        error = crashed(executor, crash_jobs.say_and_crash, "first", "ünï ☃", end="|")

    assert error.call == "tests.support.crash_jobs.say_and_crash"
    assert error.arguments == "('first', 'ünï ☃', end='|')"
    assert error.item is None
    assert (error.signal, error.exitcode) == ("SIGSEGV", -signal.SIGSEGV)
    assert error.stderr == "first|ünï ☃|"
    assert not error.out_of_memory
    first, *rest = str(error).splitlines()
    assert first == (
        f"worker {error.pid} was killed by signal 11 (SIGSEGV) while it ran tests.support.crash_jobs.say_and_crash"
    )
    frames = [line.split(" in ")[-1] for line in rest if " in " in line and "File" in line]
    assert frames == ["string_at", "crash", "say_and_crash"]
    assert "safemp/worker.py" not in error.stack
    assert "safemp/engines" not in error.stack
    assert len(rest) < 12


@pytest.mark.parametrize(
    ("function", "args", "name", "frame"),
    [
        (crash_jobs.crash_in_thread, (), "SIGSEGV", "crash"),
        (os.abort, (), "SIGABRT", ""),
        (crash_jobs.crash_deep, (300,), "SIGSEGV", "crash_deep"),
        (crash_jobs.crash_with, (crash_jobs.CrashesOnLoad,), "SIGSEGV", "crash_with"),
        (jobs.take, (crash_jobs.CrashesOnLoad(),), "SIGSEGV", "__setstate__"),
        (crash_jobs.CrashesOnDump, (0,), "SIGSEGV", "__reduce__"),
        (ctypes.string_at, (0,), "SIGSEGV", "string_at"),
    ],
    ids=["thread", "abort", "deep", "arguments", "loading", "dumping", "in-c"],
)
def test_the_stack_is_that_of_the_crash(
    executor: safemp.SafeExecutor, function: Callable[..., Any], args: tuple[Any, ...], name: str, frame: str
) -> None:
    """In a thread, deep down, while an argument is loaded or a result dumped: the frames say so."""
    error = crashed(executor, function, *args)

    assert error.signal == name
    assert error.stack.startswith("Current thread 0x")
    assert frame in error.stack.partition("\n\n")[0]
    assert "engines/child.py" not in error.stack or function is os.abort
    assert len(str(error).splitlines()) < 25


def test_a_crash_while_a_module_is_imported_names_its_line(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """The module's frame is there; the message leaves out those of the import machinery."""
    (tmp_path / "crashes_when_imported.py").write_text("import ctypes\n\nctypes.string_at(0)\n")
    error = crashed(executor, crash_jobs.crash_while_importing, str(tmp_path))

    assert 'crashes_when_imported.py", line 3 in <module>' in str(error)
    assert "frozen importlib" in error.stack
    assert "frozen importlib" not in str(error)


def test_deep_recursion_is_told_once(executor: safemp.SafeExecutor) -> None:
    """A hundred equal lines are one line and a number."""
    text = str(crashed(executor, crash_jobs.crash_deep, 300))

    assert text.count(" in crash_deep") == 4
    assert "more times]" in text


@pytest.mark.parametrize(
    ("function", "exitcode"),
    [(jobs.die_by_exit, 1), (jobs.die_by_sigkill, -signal.SIGKILL), (partial(os._exit, 3), 3)],
    ids=["exit", "sigkill", "exit-3"],
)
def test_an_end_without_a_crash_has_no_stack(
    executor: safemp.SafeExecutor, function: Callable[..., Any], exitcode: int
) -> None:
    """Who exits, or is killed, leaves none; and a kill is no lack of memory by itself."""
    error = crashed(executor, function)

    assert (error.exitcode, error.stack, error.out_of_memory) == (exitcode, "", False)
    assert "stack:" not in str(error)
    assert "memory," not in str(error).splitlines()[0]


def test_an_initializer_that_crashes_is_explained() -> None:
    """A pool whose workers all crash at their start says where."""
    with safemp.SafeExecutor(1, initializer=crash_jobs.say_and_crash, initargs=("starting",)) as executor:
        error = crashed(executor, jobs.square, 3)

    assert "SIGSEGV" in str(error).splitlines()[0]
    assert " in crash" in str(error)
    assert error.stderr == "starting\n"


# -- the call -------------------------------------------------------------------------------


def test_arguments_are_shown_without_running_their_code(executor: safemp.SafeExecutor) -> None:
    """An object whose ``repr`` would end the caller is named by its type."""
    error = crashed(executor, crash_jobs.crash_with, crash_jobs.CrashesInRepr(), list(range(100)), key="k" * 99)

    assert error.arguments == "(<tests.support.crash_jobs.CrashesInRepr>, [0, 1, 2, … 97 more], key=<str>)"
    assert f"\n  call:   {error.call}{error.arguments}\n" in str(error)


@pytest.mark.parametrize("chunksize", [1, 4, 100])
def test_a_map_names_the_item_and_shows_it(chunksize: int) -> None:
    """Of all items in a chunk, the one that crashed is shown."""
    with safemp.Pool(2) as pool, pytest.raises(safemp.WorkerCrashed) as caught:
        pool.map_async(crash_jobs.CrashAt(13), range(30), chunksize).get(40)

    assert caught.value.item == 13
    assert caught.value.arguments == "(13)"
    assert " for items[13]" in str(caught.value).splitlines()[0]
    assert " in crash_at" in str(caught.value)


def test_starmap_and_executor_map_show_all_arguments(executor: safemp.SafeExecutor) -> None:
    """An item of several arguments is shown as the call that it was."""
    with safemp.Pool(1) as pool, pytest.raises(safemp.WorkerCrashed) as caught:
        pool.starmap_async(crash_jobs.CrashAt(3), [(i, 10 * i) for i in range(5)], 2).get(40)
    assert (caught.value.item, caught.value.arguments) == (3, "(3, 30)")

    with pytest.raises(safemp.WorkerCrashed) as caught:
        list(executor.map(crash_jobs.CrashAt(3), range(5), "abcde", timeout=40))
    assert (caught.value.item, caught.value.arguments) == (3, "(3, 'd')")


def test_an_item_that_crashes_while_it_is_loaded_is_shown() -> None:
    """Its place, its type, and the frame of its ``__setstate__``."""
    with safemp.Pool(1) as pool:
        results = pool.imap(jobs.take, [1, crash_jobs.CrashesOnLoad(), 3], 3)
        assert results.next(40) == "int"
        with pytest.raises(safemp.WorkerCrashed) as caught:
            results.next(40)
        assert results.next(40) == "int"

    assert (caught.value.item, caught.value.arguments) == (1, "(<tests.support.crash_jobs.CrashesOnLoad>)")
    assert " in __setstate__" in caught.value.stack


# -- stderr and memory ------------------------------------------------------------------------


def test_of_a_flood_on_stderr_the_message_shows_the_last_lines(executor: safemp.SafeExecutor) -> None:
    """The attribute has up to 4 KiB, the message five lines, of a progress bar the last state, nothing in colour."""
    bar = "".join(f"\r{i:3}%|{'#' * i}" for i in range(101))
    flood = "".join(f"line {i}\n" for i in range(5000)) + "\x1b[31mred\x1b[0m \x07bell\n" + bar
    error = crashed(executor, crash_jobs.say_and_be_killed, flood)

    assert flood.endswith(error.stderr)
    assert 3000 < len(error.stderr) <= 4096
    shown = str(error).partition("last lines\n")[2].splitlines()
    assert len(shown) <= 5
    assert shown[-1] == f"    100%|{'#' * 100}"


def test_short_words_are_shown_clean(executor: safemp.SafeExecutor) -> None:
    """Colours and control characters are left out of the message, and kept in the attribute."""
    error = crashed(executor, crash_jobs.say_and_be_killed, "one\r\n\x1b[31mred\x1b[0m \x07bell\n\n  two")

    assert error.stderr == "one\r\n\x1b[31mred\x1b[0m \x07bell\n\n  two"
    assert str(error).partition("last lines\n")[2].splitlines() == ["    one", "    red  bell", "      two"]


@pytest.mark.parametrize("method", ["loky", "fork"])
def test_what_goes_to_the_caller_is_in_the_report_too(method: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Where output is captured, the last lines are told all the same, once."""
    with safemp.SafeExecutor(1, mp_context=method, capture_output=True) as executor:
        error = crashed(executor, crash_jobs.say_and_crash, "one", "two")

    assert error.stderr == "one\ntwo\n"
    assert capsys.readouterr().err == "one\ntwo\n"


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no wait4 on this system")
@pytest.mark.parametrize("method", ["loky", "spawn", "fork"])
def test_the_peak_of_memory_is_that_of_the_worker(method: str, tmp_path: Path) -> None:
    """What the worker had at most is said, in bytes and in words.

    The caller is a fresh process: a peak that is not above the caller's is not known.
    """
    ended = run_script(tmp_path, PEAK, method)

    assert ended.err == ""
    peak, line = ended.out.splitlines()
    assert 700 << 20 <= int(peak) < 1000 << 20
    assert line.startswith("  memory: ")
    assert line.endswith(" MB at its peak")


PEAK = """
import sys
import safemp
from tests.support import crash_jobs

if __name__ == "__main__":
    with safemp.SafeExecutor(1, mp_context=sys.argv[1]) as executor:
        error = executor.submit(crash_jobs.take_and_be_killed, 700).exception(60)
    print(error.peak_memory)
    print(str(error).splitlines()[-1])
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc on this system")
@pytest.mark.parametrize("method", ["template", "loky", "spawn"])
def test_the_callers_peak_is_not_taken_for_the_workers(method: str) -> None:
    """A small worker of a large caller has its own peak; if that cannot be told from the caller's, none."""
    block = bytearray(300 << 20)
    block[::4096] = bytes(len(block[::4096]))
    with safemp.SafeExecutor(1, mp_context=method) as executor:
        error = crashed(executor, jobs.die_by_sigkill)

    if method == "template":
        assert error.peak_memory is not None
        assert 5 << 20 < error.peak_memory < 200 << 20
    else:
        assert error.peak_memory is None


# -- the error --------------------------------------------------------------------------------


def test_a_report_survives_pickle_and_copy(executor: safemp.SafeExecutor) -> None:
    """A crash that is sent on, noted and copied says and has all that it did."""
    error = crashed(executor, crash_jobs.say_and_crash, "words")
    error.__notes__ = ["a note"]

    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is safemp.WorkerCrashed
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)
    assert error.stack


def test_a_crash_in_a_pool_inside_a_worker_arrives_whole(executor: safemp.SafeExecutor) -> None:
    """The error of the inner pool is raised in the worker, and comes to us with its report."""
    error = executor.submit(safemp.map, crash_jobs.CrashAt(1), [0, 1]).exception(40)

    assert isinstance(error, safemp.WorkerCrashed)
    assert (error.item, error.arguments, error.signal) == (1, "(1)", "SIGSEGV")
    assert " in crash_at" in error.stack


@pytest.mark.parametrize("method", METHODS)
def test_a_timeout_carries_the_same_report(method: str, tmp_path: Path) -> None:
    """A worker in a C loop that holds the GIL is asked where it is before it is killed."""
    with safemp.SafeExecutor(1, mp_context=method, task_timeout=1.0) as executor:
        error = executor.submit(crash_jobs.spin, str(tmp_path / "pid")).exception(40)

    assert isinstance(error, safemp.TaskTimeout)
    frames = [line.split(" in ")[-1] for line in str(error).splitlines() if "File" in line]
    assert frames[-2:] == ["note_and_spin", "spin"]
    assert error.arguments == f"({str(tmp_path / 'pid')[:40]!r}… ({len(str(tmp_path / 'pid'))} characters))"
    assert not error.out_of_memory
    assert error.stderr == ""
