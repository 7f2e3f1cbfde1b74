"""Reports of dead workers: what the errors say and have, and when memory is blamed."""

from __future__ import annotations

import copy
import pickle
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.engines.crash import Report
from safemp.engines.memory import OomKills
from safemp.engines.postmortem import PostMortem
from tests.unit.test_memory import EVENTS, MACHINE, V2, started, system, touch

REPORT = Report(
    call="mod.fn",
    arguments="(3, 'x')",
    item=17,
    pid=4242,
    exitcode=-9,
    stack='Current thread 0x01 (most recent call first):\n  File "a.py", line 3 in fn',
    stderr="loading\n",
    peak_memory=1_234_567_890,
    out_of_memory=True,
    reason="it had 1.2 GB; the cgroup has 1.3 GB in all",
)


def test_a_crash_reads_well() -> None:
    """The first line stands alone; what follows is short and indented."""
    assert str(safemp.WorkerCrashed.of(REPORT)) == (
        "worker 4242 was killed by signal 9 (SIGKILL), probably out of memory, while it ran mod.fn for items[17]\n"
        "  call:   mod.fn(3, 'x')\n"
        "  reason: it had 1.2 GB; the cgroup has 1.3 GB in all\n"
        "  fix:    use fewer workers at a time (max_workers), or give each call less to hold\n"
        "  memory: 1.2 GB at its peak\n"
        "  stack:  most recent call first\n"
        '    File "a.py", line 3 in fn\n'
        "  stderr: the worker's last lines\n"
        "    loading"
    )


def test_what_is_not_known_is_not_said() -> None:
    """A report of little is one line."""
    report = Report(call="f", pid=1, exitcode=3)
    assert str(safemp.WorkerCrashed.of(report)) == "worker 1 exited with code 3 while it ran f"
    assert str(safemp.WorkerCrashed("f", None, 1, None)) == "worker 1 ended in an unknown way while it ran f"
    assert str(safemp.WorkerCrashed.of(Report(), "cannot start")) == "cannot start"


def test_limits_have_first_lines_of_their_own() -> None:
    """They say which limit was passed, and carry the same report."""
    report = replace(REPORT, out_of_memory=False, reason="", peak_memory=None, stderr="")
    late = safemp.TaskTimeout.of(report, 5.0)
    large = safemp.MemoryLimitExceeded.of(report, 1_230_000_000, 10**9)

    assert isinstance(late, TimeoutError)
    assert isinstance(large, MemoryError)
    assert str(late).splitlines() == [
        "mod.fn for items[17] ran for more than its task_timeout of 5 s; worker 4242 was ended",
        "  call:   mod.fn(3, 'x')",
        "  stack:  most recent call first",
        '    File "a.py", line 3 in fn',
    ]
    assert str(large).splitlines()[0] == (
        "mod.fn for items[17] used 1.2 GB, more than its max_memory of 1 GB; worker 4242 was ended"
    )


ERRORS: list[Callable[[], BaseException]] = [
    lambda: safemp.WorkerCrashed.of(REPORT),
    lambda: safemp.WorkerCrashed("f", None, None, None, "a text"),
    lambda: safemp.TaskTimeout.of(REPORT, 0.5),
    lambda: safemp.MemoryLimitExceeded.of(REPORT, 2, 1),
]


@pytest.mark.parametrize("make", ERRORS, ids=["crash", "text", "timeout", "memory"])
def test_errors_travel_whole(make: Callable[[], BaseException]) -> None:
    """Pickled or copied, they have the same class, text, attributes and notes."""
    error = make()
    error.__notes__ = ["a note"]  # type: ignore[attr-defined]

    twins: list[Any] = [pickle.loads(pickle.dumps(error, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)]
    for twin in [*twins, copy.copy(error), copy.deepcopy(error)]:
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert twin.args == error.args
        assert vars(twin) == vars(error)


def test_attributes_are_those_of_the_report() -> None:
    """Each fact can be had from the error itself; the signal has its name."""
    error = safemp.WorkerCrashed.of(REPORT)

    for name in Report.__dataclass_fields__:
        if name != "reason":
            assert getattr(error, name) == getattr(REPORT, name)
    assert error.signal == "SIGKILL"
    assert error.report is REPORT
    assert safemp.WorkerCrashed.of(Report(exitcode=3)).signal is None


def test_long_stacks_and_words_are_cut() -> None:
    """Twelve frames, five lines, 160 characters each."""
    frames = "\n".join(f'  File "a.py", line {i} in f{i}' for i in range(40))
    lines = "".join(f"{i} {'x' * 300}\n" for i in range(40))
    report = Report(stack=f"Current thread 0x01 (most recent call first):\n{frames}", stderr=lines)

    text = str(safemp.WorkerCrashed.of(report)).splitlines()
    assert len(text) == 1 + 1 + 13 + 1 + 5
    assert "    … 28 more" in text
    assert max(map(len, text)) == 4 + 160 + 1


# -- out of memory ----------------------------------------------------------------------------


@pytest.fixture
def examine(tmp_path: Path) -> Iterator[Callable[..., Report]]:
    """Give a function that runs a process to its end and reports on it."""
    opened: list[PostMortem] = []

    def examine(*, code: int, kills: int = 0, limit: str = "max\n", ours: bool = False) -> Report:
        files = {"a__memory_at_events": EVENTS.format(5), "a__memory_at_max": limit}
        root = system(tmp_path, "0::/a\n", V2, **files)
        post_mortem = PostMortem(OomKills(root))
        opened.append(post_mortem)
        process = started("fork", touch, (100, code))
        post_mortem.started("fork")
        (tmp_path / "sys/fs/cgroup/a/memory.events").write_text(EVENTS.format(5 + kills))
        assert post_mortem.reap(process) == code
        return post_mortem.report(1, code, ours=ours, asked=False)

    yield examine
    for post_mortem in opened:
        post_mortem.close()


KILLED = -signal.SIGKILL


def test_a_kill_that_the_kernel_has_counted_is_blamed_on_memory(examine: Callable[..., Report]) -> None:
    """SIGKILL, and the counter of our group has grown: probably out of memory."""
    report = examine(code=KILLED, kills=1)

    assert report.out_of_memory
    assert report.reason == "the kernel has killed a process of this control group for want of memory"


def test_a_kill_near_the_limit_is_blamed_on_memory(examine: Callable[..., Report]) -> None:
    """SIGKILL of a process that had nearly all there is: probably out of memory, and how much that is."""
    report = examine(code=KILLED, limit="120000000\n")

    assert report.out_of_memory
    assert "; the cgroup has 120 MB in all" in report.reason


@pytest.mark.parametrize(
    "how",
    [
        {"code": KILLED},
        {"code": KILLED, "limit": "10000000000\n"},
        {"code": KILLED, "kills": 1, "ours": True},
        {"code": -signal.SIGTERM, "kills": 1},
        {"code": 137, "kills": 1, "limit": "120000000\n"},
    ],
    ids=["no-evidence", "far-from-the-limit", "by-us", "another-signal", "an-exit"],
)
def test_nothing_else_is_blamed_on_memory(examine: Callable[..., Report], how: dict[str, Any]) -> None:
    """Without evidence, or when we or another signal ended it, nobody speaks of memory."""
    report = examine(**how)

    assert (report.out_of_memory, report.reason) == (False, "")
    assert "memory," not in str(safemp.WorkerCrashed.of(report)).splitlines()[0]


def test_the_fake_machine_is_large() -> None:
    """The limits above are those of the group: the machine that the files tell of has more."""
    assert int(MACHINE.split()[1]) > 10_000_000
