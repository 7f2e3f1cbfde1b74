"""Workers are forked of a template, and are as clean as if each had been started by itself."""

from __future__ import annotations

import multiprocessing
import operator
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.engines import system, template
from safemp.engines.template import keeper, template_context
from tests.support import jobs

pytestmark = pytest.mark.skipif(not system.has_templates(), reason="there are templates on Linux only")


def template_pid() -> int | None:
    return keeper._template.pid if keeper._template is not None else None


def parent() -> int:
    return os.getppid()


def variable(name: str) -> str | None:
    return os.environ.get(name)


def surroundings() -> tuple[str, int, tuple[int, int]]:
    mask = os.umask(0o077)
    os.umask(mask)
    return os.getcwd(), mask, resource.getrlimit(resource.RLIMIT_CORE)


def write_to(fd: int, text: str) -> None:
    os.write(fd, text.encode())


def hash_of(text: str) -> int:
    return hash(text)


def is_open(fd: int) -> bool:
    return system.is_open(fd)


@pytest.fixture
def executor() -> Iterator[safemp.SafeExecutor]:
    with safemp.SafeExecutor(1) as executor:
        yield executor


def test_there_is_one_as_long_as_a_pool_is_open() -> None:
    """All pools of a process have the same template, and with the last of them it ends."""
    with safemp.SafeExecutor(1) as first:
        first.submit(jobs.pid).result()
        pid = template_pid()
        with safemp.Pool(2) as second:
            second.map(jobs.square, range(4))
            assert template_pid() == pid
        first.submit(jobs.pid).result()

        assert template_pid() == pid is not None
    assert template_pid() is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_pool_without_a_task_starts_none() -> None:
    """Who only makes an executor pays for no process."""
    with safemp.SafeExecutor(2):
        assert template_pid() is None


def test_a_worker_is_our_own_child(executor: safemp.SafeExecutor) -> None:
    """Not the template's: so it can be waited for, and it ends with us."""
    assert executor.submit(parent).result() == os.getpid()
    (process,) = executor._processes.values()

    assert process in multiprocessing.active_children()
    assert isinstance(executor.submit(jobs.die_by_sigkill).exception(30), safemp.WorkerCrashed)
    assert process not in multiprocessing.active_children()


def test_what_the_caller_has_loaded_is_not_in_it(executor: safemp.SafeExecutor) -> None:
    """A worker has what safemp needs; neither pytest nor numpy, nor loky, which starts no process here."""
    import numpy

    assert numpy is not None
    found = executor.submit(eval, "{name.partition('.')[0] for name in __import__('sys').modules}").result()

    assert not found & {"pytest", "numpy", "loky", "_pytest"}


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_what_becomes_of_it_concerns_nobody(how: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is killed, or stopped: calls that run go on, and there is a new one for new workers."""
    monkeypatch.setattr(template, "_ANSWER", 0.5)
    started, release = str(tmp_path / "started"), str(tmp_path / "release")
    with safemp.SafeExecutor(2) as executor:
        running = executor.submit(jobs.started_then_wait, started, release)
        jobs.wait_for(started)
        old = template_pid()
        assert old is not None
        os.kill(old, how)
        if how == signal.SIGKILL:
            os.waitid(os.P_PID, old, os.WEXITED | os.WNOWAIT)

        assert executor.submit(jobs.square, 3).result(30) == 9
        assert template_pid() not in (old, None)
        Path(release).touch()
        assert running.result(30)


@pytest.mark.parametrize("value", ["1", "2"])
def test_variables_that_are_read_at_the_start_of_an_interpreter_count(
    monkeypatch: pytest.MonkeyPatch, executor: safemp.SafeExecutor, value: str
) -> None:
    """What has changed in the environment since the template was started makes a new one."""
    executor.submit(jobs.pid).result()
    monkeypatch.setenv("PYTHONHASHSEED", value)
    monkeypatch.setenv("SAFEMP_A_VARIABLE", value)
    with safemp.SafeExecutor(1) as late, safemp.SafeExecutor(1, mp_context="spawn") as spawned:
        assert late.submit(variable, "SAFEMP_A_VARIABLE").result() == value
        assert late.submit(hash_of, "text").result() == spawned.submit(hash_of, "text").result()


def test_what_a_process_is_surrounded_by_is_that_of_now(
    monkeypatch: pytest.MonkeyPatch, executor: safemp.SafeExecutor, tmp_path: Path
) -> None:
    """Directory, umask and limits are the caller's as a worker starts, not as the template did."""
    executor.submit(jobs.pid).result()
    monkeypatch.chdir(tmp_path)
    mask = os.umask(0o027)
    limits = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0 if limits[0] else 4096, limits[1]))
        now = resource.getrlimit(resource.RLIMIT_CORE)
        with safemp.SafeExecutor(1) as late:
            found = late.submit(surroundings).result()
    finally:
        os.umask(mask)
        resource.setrlimit(resource.RLIMIT_CORE, limits)

    assert found == (str(tmp_path), 0o027, now)


def test_a_directory_that_is_gone_keeps_nobody_from_working(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A worker starts somewhere else then."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(jobs.square, 3).result() == 9


def test_a_directory_that_may_not_be_entered_is_not_entered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A program can be in one: ``cd /root; sudo -u nobody python ...``. ``chdir`` to it would fail."""
    monkeypatch.chdir(tmp_path)
    assert template._preparation("n")["dir"] == str(tmp_path)
    monkeypatch.setattr(os, "access", lambda path, mode: (path, mode) != (str(tmp_path), os.X_OK))

    assert "dir" not in template._preparation("n")
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(abs, -1).result() == 1


def test_the_standard_streams_are_those_of_now(executor: safemp.SafeExecutor, tmp_path: Path) -> None:
    """Who has redirected descriptor 2, or closed 0, finds that in workers that start then."""
    executor.submit(jobs.pid).result()
    kept = {fd: os.dup(fd) for fd in (0, 2)}
    with open(tmp_path / "heard", "w") as heard:
        try:
            os.dup2(heard.fileno(), 2)
            os.close(0)
            with safemp.SafeExecutor(1) as late:
                late.submit(write_to, 2, "to the file").result()
        finally:
            for fd, copy in kept.items():
                os.dup2(copy, fd)
                os.close(copy)

    assert (tmp_path / "heard").read_text() == "to the file"


def test_nothing_of_ours_is_left_open_in_a_worker(executor: safemp.SafeExecutor) -> None:
    """Beyond what it was given, a worker has no descriptor of the template's connection or of other workers."""
    few = executor.submit(_descriptors).result()
    with safemp.SafeExecutor(3) as more:
        found = set(more.map(_descriptors_of, range(12)))

    assert found == {few}


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def _descriptors_of(_: int) -> int:
    time.sleep(0.01)
    return _descriptors()


def test_a_template_that_has_threads_is_not_forked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Something starts a thread in every interpreter (a tracer, say): each worker is then started by itself."""
    (tmp_path / "sitecustomize.py").write_text(
        "import threading, time\nthreading.Thread(target=time.sleep, args=(600,), daemon=True).start()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(keeper, "_unfit", False)
    with safemp.SafeExecutor(2) as executor:
        assert list(executor.map(jobs.square, range(4))) == [0, 1, 4, 9]
        assert executor.submit(parent).result() == os.getpid()
        assert executor.submit(threading.active_count).result() > 1

        assert template_pid() is None


def test_a_template_that_does_not_start_is_told_about(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An interpreter that ends at once, each time: the call fails within seconds, and says so."""
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", b"/bin/false")
    with safemp.SafeExecutor(1) as executor, pytest.raises(safemp.WorkerCrashed, match="cannot start a worker"):
        executor.submit(jobs.square, 3).result(10)


@pytest.mark.parametrize("max_tasks", [None, 1])
def test_one_that_is_killed_while_it_starts_fails_no_call(
    monkeypatch: pytest.MonkeyPatch, max_tasks: int | None
) -> None:
    """The kernel ends it for want of memory, say: there is another one."""
    made: list[int] = []

    class Killed(template._Template):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self.pid)
            if len(made) == 1:
                os.kill(self.pid, signal.SIGKILL)

    monkeypatch.setattr(template, "_Template", Killed)
    with safemp.SafeExecutor(2, max_tasks_per_child=max_tasks) as executor:
        assert list(executor.map(jobs.square, range(6))) == [0, 1, 4, 9, 16, 25]
    assert len(made) == 2


def test_one_that_is_killed_as_it_is_asked_fails_no_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was ready, and had forked nothing."""
    ask, asked = template._Template.ask, []

    def kill(self: Any, parts: tuple[bytes, bytes], fds: list[int]) -> None:
        asked.append(self.pid)
        if len(asked) == 1:
            os.kill(self.pid, signal.SIGKILL)
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        ask(self, parts, fds)

    monkeypatch.setattr(template._Template, "ask", kill)
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(jobs.square, 3).result(30) == 9
    assert len(set(asked)) == 2


_WAITS = """
import os, sys
from safemp.engines.template_main import _wait_for
caller = int(sys.argv[1])
watched = os.pidfd_open(caller)
print("waits", flush=True)
_wait_for(caller, watched)
"""


def test_a_worker_that_was_only_just_forked_ends_with_the_caller() -> None:
    """Before the caller is its parent, when the kernel would not end it yet."""
    with (
        subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as caller,
        subprocess.Popen(
            [sys.executable, "-c", _WAITS, str(caller.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as worker,
    ):
        assert worker.stdout is not None
        assert worker.stderr is not None
        try:
            assert worker.stdout.readline() == b"waits\n"
            caller.kill()
            began = time.monotonic()
            assert worker.wait(30) == 1
            assert time.monotonic() - began < 1
            assert worker.stderr.read() == b""
        finally:
            caller.kill()
            worker.kill()


def test_a_process_of_the_context_works_like_any_other() -> None:
    """It can be started without a pool, be waited for, and tell its exit code; and leaves no template."""
    process = template_context.Process(target=sys.exit, args=(3,))
    process.start()
    process.join(30)

    assert process.exitcode == 3
    assert template_pid() is None


def test_a_forked_child_has_a_template_of_its_own(executor: safemp.SafeExecutor) -> None:
    """A pool in a process that was forked while ours was open does not ask our template."""
    executor.submit(jobs.pid).result()
    ours = template_pid()
    context: Any = multiprocessing.get_context("fork")
    with context.Pool(1) as pool:
        theirs = pool.apply(_pid_of_template)

    assert theirs not in (None, ours)
    assert template_pid() == ours


def _pid_of_template() -> int | None:
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(parent).result() == os.getpid()
        return template_pid()


class Stowaway:
    """What coverage sends along: it measures the process in which it is loaded."""

    def __getstate__(self) -> dict[str, str]:
        return {"STOWAWAY": "here"}

    def __setstate__(self, state: dict[str, str]) -> None:
        os.environ.update(state)


def test_what_others_send_along_comes_along(monkeypatch: pytest.MonkeyPatch) -> None:
    """They replace ``multiprocessing.spawn.get_preparation_data``; that settles no start method for the program."""
    theirs = spawn.get_preparation_data
    monkeypatch.setattr(spawn, "get_preparation_data", lambda name: {**theirs(name), "stowaway": Stowaway()})
    before = multiprocessing.get_start_method(allow_none=True)
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(variable, "STOWAWAY").result(60) == "here"

    assert multiprocessing.get_start_method(allow_none=True) == before


def test_the_path_of_modules_may_be_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than one argument of a program may be, which is 128 KiB on Linux."""
    monkeypatch.setattr(sys, "path", [*sys.path, *(f"/nowhere/{'x' * 200}/{n}" for n in range(1000))])
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(operator.attrgetter("path"), sys).result(60)[-1] == sys.path[-1]
