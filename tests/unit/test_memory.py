"""How much memory there is and whether it ran out, told from files as they are on many machines."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safemp.engines import memory
from safemp.engines.memory import Limit, OomKills
from tests.support.child import until

MACHINE = "MemTotal:       16000000 kB\nMemFree:  1 kB\n"
TOTAL = 16_000_000 * 1024
NO_LIMIT = "9223372036854771712\n"

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
HYBRID = V1 + "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"


def system(root: Path, cgroup: str, mounts: str, **files: str) -> str:
    """Make a file system that says so. Of *files*, ``__`` in a name is a slash."""
    texts = {"proc/meminfo": MACHINE, "proc/self/cgroup": cgroup, "proc/self/mountinfo": mounts}
    texts |= {f"sys/fs/cgroup/{name.replace('__', '/').replace('_at_', '.')}": text for name, text in files.items()}
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_without_groups_it_is_the_machines(tmp_path: Path) -> None:
    """A process in the root group, which has no limit, may use what the machine has."""
    root = system(tmp_path, "0::/\n", V2)

    assert memory.limit(root) == Limit(TOTAL, "machine")


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        ("max\n", "max\n", Limit(TOTAL, "machine")),
        ("1000000\n", "max\n", Limit(1_000_000, "cgroup")),
        ("max\n", "2000000\n", Limit(2_000_000, "cgroup")),
        ("3000000\n", "2000000\n", Limit(2_000_000, "cgroup")),
        (f"{10 * TOTAL}\n", "max\n", Limit(TOTAL, "machine")),
    ],
)
def test_v2_the_narrowest_of_nested_groups_counts(tmp_path: Path, own: str, parent: str, expected: Limit) -> None:
    """A group may have no more than its parents; ``max`` is no limit."""
    root = system(tmp_path, "0::/a.slice/b\n", V2, a_at_slice__memory_at_max=parent, a_at_slice__b__memory_at_max=own)

    assert memory.limit(root) == expected


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        (NO_LIMIT, NO_LIMIT, Limit(TOTAL, "machine")),
        ("1000000\n", NO_LIMIT, Limit(1_000_000, "cgroup")),
        (NO_LIMIT, "2000000\n", Limit(2_000_000, "cgroup")),
    ],
)
def test_v1_the_narrowest_of_nested_groups_counts(tmp_path: Path, own: str, parent: str, expected: Limit) -> None:
    """The same of the older kind, also where the newer one is mounted beside it."""
    root = system(
        tmp_path,
        "9:name=systemd:/\n4:cpu,memory:/a/b\n0::/x\n",
        HYBRID,
        memory__a__memory_at_limit_in_bytes=parent,
        memory__a__b__memory_at_limit_in_bytes=own,
    )

    assert memory.limit(root) == expected


def test_a_container_that_sees_its_group_as_the_root(tmp_path: Path) -> None:
    """Docker without a name space of groups: the path is the host's, the mount shows the group alone."""
    mounts = V1.replace("0:32 / ", "0:32 /docker/abc ")
    root = system(tmp_path, "4:memory:/docker/abc\n", mounts, memory__memory_at_limit_in_bytes="5000000\n")
    assert memory.limit(root) == Limit(5_000_000, "cgroup")

    below = tmp_path / "below"
    files = {"memory__memory_at_limit_in_bytes": "5000000\n", "memory__job__memory_at_limit_in_bytes": "4000000\n"}
    assert memory.limit(system(below, "4:memory:/docker/abc/job\n", mounts, **files)) == Limit(4_000_000, "cgroup")


@pytest.mark.parametrize("path", ["/../../elsewhere", "/not/there"])
def test_a_group_of_another_name_space(tmp_path: Path, path: str) -> None:
    """A path that leads nowhere: the mount's own group is taken."""
    root = system(tmp_path, f"0::{path}\n", V2, memory_at_max="7000000\n")

    assert memory.limit(root) == Limit(7_000_000, "cgroup")


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    """The kernel writes a space in a path as a backslash and ``040``."""
    mounts = "30 23 0:26 / /sys/fs/cgroup/my\\040groups rw - cgroup2 cgroup2 rw\n"
    root = system(tmp_path, "0::/\n", mounts)
    (tmp_path / "sys/fs/cgroup/my groups").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup/my groups/memory.max").write_text("8000000\n")

    assert memory.limit(root) == Limit(8_000_000, "cgroup")


@pytest.mark.parametrize("mounts", ["", "garbage\n", "1 2 3 - \n", " - cgroup2\n", "a b c d e\n"])
def test_files_that_make_no_sense_are_passed_over(tmp_path: Path, mounts: str) -> None:
    """What cannot be read gives the machine's memory, or what the C library knows of it."""
    assert memory.limit(system(tmp_path, "0::/\n0\n::\n", mounts)) == Limit(TOTAL, "machine")
    nothing = memory.limit(str(tmp_path / "nothing"))
    assert nothing is None or nothing.of == "machine"


def test_here_and_now() -> None:
    """On this machine it is a number that this process is far below, and the kills can be counted."""
    most = memory.limit()

    assert most is not None
    assert memory.own_peak() < most.bytes
    assert most.of in ("machine", "cgroup")
    if sys.platform == "linux":
        assert most.bytes <= int(Path("/proc/meminfo").read_text().split()[1]) * 1024
        assert isinstance(memory.oom_kills(), int)


EVENTS = "low 0\nhigh 3\nmax 5\noom 2\noom_kill {}\noom_group_kill 0\n"


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files"),
    [
        ("0::/a/b\n", V2, {"a__b__memory_at_events": EVENTS.format(3)}),
        ("0::/a/b\n", V2, {"a__memory_at_events": EVENTS.format(3), "a__b__cgroup_at_procs": "1\n"}),
        ("4:memory:/a\n", V1, {"memory__a__memory_at_oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"}),
        ("0::/\n", V2, {"../../../proc/vmstat": "nr_free_pages 1\noom_kill 3\n"}),
    ],
    ids=["v2", "v2-without-controller", "v1", "no-group"],
)
def test_kills_are_counted(tmp_path: Path, cgroup: str, mounts: str, files: dict[str, str]) -> None:
    """The count is that of our group; of a parent if ours has none; of the machine if there is no group."""
    assert memory.oom_kills(system(tmp_path, cgroup, mounts, **files)) == 3


def test_a_kill_explains_one_death(tmp_path: Path) -> None:
    """A death is explained by a kill since the worker began which explains no other death."""
    root = system(tmp_path, "0::/a\n", V2, a__memory_at_events=EVENTS.format(5))
    events = tmp_path / "sys/fs/cgroup/a/memory.events"
    kills = OomKills(root)
    assert kills.count() == 5

    assert not kills.claim(5)
    events.write_text(EVENTS.format(7))
    assert [kills.claim(5), kills.claim(5), kills.claim(5)] == [True, True, False]
    assert not kills.claim(kills.count())
    events.write_text(EVENTS.format(9))
    assert not kills.claim(9)
    assert kills.claim(8)
    assert not kills.claim(None)
    events.unlink()
    assert not kills.claim(0)


def test_near_is_near_the_limit() -> None:
    """Most of what there is counts; half of it does not; nor does what nobody knows."""
    assert memory.is_near(95, Limit(100, "cgroup"))
    assert not memory.is_near(50, Limit(100, "cgroup"))
    assert not memory.is_near(None, Limit(100, "cgroup"))
    assert not memory.is_near(95, None)


@pytest.mark.parametrize(
    ("n", "shown"),
    [
        (0, "0 bytes"), (999, "999 bytes"), (1000, "1 kB"), (1240, "1.2 kB"), (99_400, "99.4 kB"), (99_960, "100 kB"),
        (999_600, "1 MB"), (10**9, "1 GB"), (1_230_000_000, "1.2 GB"), (3 * 10**12, "3 TB"), (5 * 10**15, "5000 TB"),
    ],
)  # fmt: skip
def test_sizes_read_well(n: int, shown: str) -> None:
    """One unit, two or three digits."""
    assert memory.size(n) == shown


# -- how a process has ended ----------------------------------------------------------------


def touch(megabytes: int, code: int) -> None:
    """Have so much, then end so."""
    block = bytearray(megabytes << 20)
    block[::4096] = bytes(len(block[::4096]))
    if code < 0:
        os.kill(os.getpid(), -code)
    os._exit(code)


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no wait4 on this system")
@pytest.mark.parametrize("code", [0, 3, -signal.SIGKILL])
@pytest.mark.parametrize("method", ["loky", "spawn", "fork"])
def test_our_childs_peak_comes_with_its_exit_code(method: str, code: int) -> None:
    """``multiprocessing`` knows the code afterwards, and does not look for the process again."""
    process = started(method, touch, (300, code))

    found, peak = memory.reap(process)
    assert found == code
    assert peak is not None
    assert 300 << 20 <= peak < 2000 << 20
    assert process.exitcode == code
    assert process not in multiprocessing.active_children()


def test_the_child_of_a_fork_server_has_no_peak() -> None:
    """It is not ours, so its use of memory is told to the server."""
    process = started("forkserver", touch, (1, 3))

    assert memory.reap(process) == (3, None)
    process.close()


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="no wait4 on this system")
def test_a_process_that_another_thread_has_reaped_keeps_its_code() -> None:
    """Whoever is first: there is one exit code, and no wait for what is gone."""
    for _ in range(10):
        process = started("fork", touch, (1, 3))
        over = threading.Event()

        def reap_always(over: threading.Event = over) -> None:
            while not over.is_set():
                multiprocessing.active_children()

        thread = threading.Thread(target=reap_always)
        thread.start()
        try:
            assert memory.reap(process)[0] == 3
        finally:
            over.set()
            thread.join()
        process.close()


def started(method: str, target: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """Start a process and wait for a sign of its end."""
    from loky.backend import get_context

    context: Any = get_context("loky") if method == "loky" else multiprocessing.get_context(method)
    process = context.Process(target=target, args=args)
    process.start()
    assert multiprocessing.connection.wait([process.sentinel], 30)
    return process


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc on this system")
def test_the_peak_of_a_new_program_is_hostile() -> None:
    """The kernel keeps the peak of the process that a child was made of: it is no peak of the child."""
    block = bytearray(200 << 20)
    block[::4096] = bytes(len(block[::4096]))
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert until(lambda: memory.high_water(child.pid))
    mark = memory.high_water(child.pid)
    assert child.stdin is not None
    child.stdin.close()
    _, _, usage = os.wait4(child.pid, 0)
    child.returncode = 1

    assert mark is not None
    assert mark < 150 << 20
    assert usage.ru_maxrss >= 200 << 10
    assert memory.own_peak() >= 200 << 20
    assert memory.high_water(child.pid) is None
