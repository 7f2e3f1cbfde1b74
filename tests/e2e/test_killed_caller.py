"""The caller is killed with SIGKILL while its tasks run: what goes with it, and what does not."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.child import alive, end_session, in_session, lines, started, until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes as Linux shows them"),
]

CALLER = """
import multiprocessing, sys, time
import safemp
from tests.support import engine_jobs, inner

if __name__ == "__main__":
    pool, kind, path = sys.argv[1:]
    if pool == "loky":
        from loky import ProcessPoolExecutor
        executor = ProcessPoolExecutor(2)
    elif pool == "stdlib":
        from concurrent.futures import ProcessPoolExecutor
        executor = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
    elif pool == "Pool":
        executor = safemp.Pool(2)
        executor.submit = lambda fn, *args: executor.apply_async(fn, args)
    else:
        executor = safemp.SafeExecutor(2, mp_context=None if pool == "safemp" else pool)
    job = getattr(engine_jobs, kind, None) or getattr(inner, kind)
    for _ in range(2):
        executor.submit(job, path, *([600] if kind == "note_and_sleep" else []))
    time.sleep(600)
"""

OURS = ["safemp", "Pool", "loky_init_main", "spawn", "fork", "forkserver"]


def in_shared_memory(pids: list[int]) -> list[str]:
    """Return what these processes have mapped from, or open in, ``/dev/shm``."""
    found = []
    for pid in pids:
        try:
            maps = Path(f"/proc/{pid}/maps").read_text()
            targets = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        except OSError:  # it has ended while we looked
            continue
        found += [line for line in [*maps.splitlines(), *targets] if "/dev/shm/" in line]
    return found


def write(folder: Path) -> tuple[str, Path]:
    script = folder / "caller.py"
    script.write_text(CALLER)
    return str(script), folder / "pids"


@pytest.mark.parametrize("kind", ["note_and_sleep", "note_and_spin"])
@pytest.mark.parametrize("pool", ["loky", "stdlib"])
def test_the_workers_of_others_stay(tmp_path: Path, pool: str, kind: str) -> None:
    """Why this is tested: loky's and the standard library's workers are there when their caller is long gone."""
    script, path = write(tmp_path)
    with started(script, pool, kind, str(path)) as (child, written):
        assert until(lambda: len(lines(path)) == 2, timeout=40), written()
        child.kill()
        child.wait()

        assert not until(lambda: not all(alive(int(pid)) for pid in lines(path)), timeout=2)
        for pid in lines(path):
            os.kill(int(pid), signal.SIGKILL)


@pytest.mark.parametrize("kind", ["note_and_sleep", "note_and_spin", "note_and_nest"])
@pytest.mark.parametrize("pool", OURS)
def test_nothing_stays_of_ours(tmp_path: Path, pool: str, kind: str) -> None:
    """No worker, be it asleep, in a C loop with the GIL, or in a pool in a worker; no fork server, no tracker."""
    script, path = write(tmp_path)
    with started(script, pool, kind, str(path)) as (child, written):
        assert until(lambda: len(lines(path)) >= (4 if kind == "note_and_nest" else 2), timeout=40), written()
        shared_memory = in_shared_memory(list(in_session(child.pid)))
        child.kill()
        child.wait()

        assert until(lambda: not in_session(child.pid), timeout=10), in_session(child.pid)
        assert written() == ("", "")
    assert shared_memory == [], "what is never there cannot stay: no semaphore, no block of memory"


@pytest.mark.parametrize("kind", ["note_program", "note_process"])
def test_what_a_task_has_started_itself_stays(tmp_path: Path, kind: str) -> None:
    """The workers go; a program, or a ``multiprocessing.Process``, that a task has started is its own affair."""
    script, path = write(tmp_path)
    with started(script, "safemp", kind, str(path)) as (child, written):
        assert until(lambda: len(lines(path)) == 4, timeout=40), written()
        child.kill()
        child.wait()
        pids = [line.split() for line in lines(path)]
        workers = [int(pid) for who, pid in pids if who == "worker"]
        theirs = [int(pid) for who, pid in pids if who == "program"]

        assert until(lambda: not any(alive(pid) for pid in workers), timeout=10)
        assert all(alive(pid) for pid in theirs)
        end_session(child.pid)


def test_workers_of_a_pool_in_a_killed_worker_go_with_it(tmp_path: Path) -> None:
    """Only one worker is killed, by SIGKILL: so are those that it had started."""
    script, path = write(tmp_path)
    with started(script, "safemp", "note_and_nest_two", str(path)) as (_, written):
        assert until(lambda: len(lines(path)) == 6, timeout=40), written()
        pids = [line.split() for line in lines(path)]
        outer, other = sorted({int(pid) for pid, _ in pids})
        os.kill(outer, signal.SIGKILL)

        assert until(lambda: not any(alive(int(own)) for pid, own in pids if int(pid) == outer), timeout=10)
        assert all(alive(int(own)) for pid, own in pids if int(pid) == other)
