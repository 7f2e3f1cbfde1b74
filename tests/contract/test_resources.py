"""What a pool takes, it gives back; what it cannot get, it does without, or says so."""

from __future__ import annotations

import gc
import os
import random
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import safemp
from tests.support import jobs
from tests.support.child import ROOT, environment, run_python, until
from tests.support.limits import CASES, MIB

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors and sets limits as Linux does"),
    pytest.mark.timeout(150),
]

POOLS = 200
WARM = 20
"""Pools after which memory is looked at for the first time: by then all is imported and cached."""


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _counts() -> dict[str, int]:
    """Return how many there are of what a pool could leave behind."""
    with os.scandir("/proc/self/fd") as entries:
        files = sum(1 for _ in entries)
    children = Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text().split()
    return {
        "files": files,
        "threads": threading.active_count(),
        "children": len(children),
        "shm": sum(str(os.getpid()) in name for name in os.listdir("/dev/shm")),
        "maps": Path("/proc/self/maps").read_text().count("/memfd:"),
    }


def _use(k: int) -> None:
    """Open a pool, have something done, perhaps have a worker die, close it in some way."""
    draw = random.Random(k)
    method = draw.choice((None, "fork", "fork", "forkserver"))
    crashes, kind, end = draw.random() < 0.3, draw.choice(("executor", "pool")), draw.choice(("close", "kill"))
    if kind == "executor":
        with safemp.SafeExecutor(1, mp_context=method) as executor:
            futures = [executor.submit(jobs.square, i) for i in range(5)]
            if crashes:
                assert isinstance(executor.submit(jobs.die_by_sigkill).exception(40), safemp.WorkerCrashed)
            assert [future.result(40) for future in futures] == [0, 1, 4, 9, 16]
            if end == "kill":
                executor.submit(jobs.work, 1, 60)
                executor.kill_workers()
    else:
        pool = safemp.Pool(1, context=method)
        assert pool.map_async(jobs.square, range(5), 2).get(40) == [0, 1, 4, 9, 16]
        if crashes:
            with pytest.raises(safemp.WorkerCrashed):
                pool.apply_async(jobs.die_by_exit).get(40)
        if end == "kill":
            pool.terminate()
        else:
            pool.close()
        pool.join()


def test_pools_opened_and_closed_leave_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """After 200 pools, with crashes among them, files, threads, processes and memory are what they were."""
    for k in range(WARM):
        _use(k)
    gc.collect()
    before, memory = _counts(), _resident()
    for k in range(WARM, POOLS):
        _use(k)

    def settled() -> bool:
        gc.collect()
        return all(_counts()[kind] <= n for kind, n in before.items())

    until(settled, timeout=5)
    grown = _resident() - memory
    with capsys.disabled():
        print(f"\n{POOLS} pools: {_counts()}, were {before}; memory has grown by {grown / MIB:.1f} MiB")

    assert settled(), "\n".join(f"{kind}: {_counts()[kind]}, was {n}" for kind, n in before.items())
    assert grown < 16 * MIB


@pytest.fixture
def small_disks(tmp_path: Path) -> list[str]:
    """Return a command that runs another with a tiny TMPDIR and a tiny ``/dev/shm``."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = f"mount -t tmpfs -o size=64k none /dev/shm && mount -t tmpfs -o size=64k none {folder}"
    command = ["unshare", "-m", "sh", "-c", f'{mount} && export TMPDIR={folder} && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*command, "true"], capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    return command


@pytest.mark.parametrize("case", [case for case in CASES if case != "a_full_disk"])
def test_want_costs_the_calls_that_want_and_no_more(case: str) -> None:
    """Without descriptors, processes, threads or memory: a clear error or none, and the pool works afterwards."""
    ended = run_python("-m", "tests.support.limits", case, timeout=100)

    assert (ended.returncode, ended.out, ended.left) == (0, "ok\n", ()), str(ended)


def test_a_full_disk_is_in_nobodys_way(small_disks: list[str]) -> None:
    """With TMPDIR and ``/dev/shm`` full, calls, crashes and large arguments are as always."""
    ended = subprocess.run(
        [*small_disks, sys.executable, "-m", "tests.support.limits", "a_full_disk"],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )

    assert (ended.returncode, ended.stdout) == (0, "ok\n"), ended.stderr
