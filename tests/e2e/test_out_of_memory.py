"""The kernel itself ends a worker for want of memory, in a control group with a limit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.child import quiet, run_script, until

LIMIT = 300 << 20

ROOT = Path("/sys/fs/cgroup")

SCRIPT = """
import os
import sys

import safemp

with open(sys.argv[1], "w") as group:
    group.write(str(os.getpid()))


def hold(n):
    held = bytearray(n)
    for page in range(0, n, 4096):
        held[page] = 1
    return n


def double(x):
    return 2 * x


if __name__ == "__main__":
    with safemp.SafeExecutor(2) as executor:
        greedy = executor.submit(hold, 2 << 30)
        others = [executor.submit(double, n) for n in range(20)]
        error = greedy.exception(60)
        assert type(error) is safemp.WorkerCrashed, repr(error)
        assert error.signal == "SIGKILL", error
        assert error.out_of_memory, error
        assert "probably out of memory, while it ran __main__.hold" in str(error), error
        assert error.call == "__main__.hold", error
        assert [each.result(60) for each in others] == [2 * n for n in range(20)]
        assert executor.submit(double, 21).result(60) == 42
    print("ok")
"""


def _make(top: Path, limits: dict[str, str]) -> Path | None:
    """Make a control group below *top*; ``None``: we may not."""
    group = top / f"safemp-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError:
        return None
    try:
        for name, value in limits.items():
            (group / name).write_text(value)
    except OSError:
        group.rmdir()
        return None
    return group


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group whose processes may have 300 MiB together, and no swap."""
    made = _make(ROOT / "memory", {"memory.limit_in_bytes": str(LIMIT), "memory.swappiness": "0"})
    made = made or _make(ROOT, {"memory.max": str(LIMIT), "memory.swap.max": "0"})
    if made is None:
        pytest.skip("this user may not make a control group with a limit")
    yield made
    assert until(lambda: not (made / "cgroup.procs").read_text())
    made.rmdir()


def test_a_worker_that_the_kernel_has_killed_for_want_of_memory_is_told_as_that(group: Path, tmp_path: Path) -> None:
    """Its call fails and says so; the other calls are done, and the pool goes on."""
    ended = run_script(tmp_path, SCRIPT, str(group / "cgroup.procs"))

    assert quiet(ended), ended
