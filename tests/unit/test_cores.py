"""How many cores a process may use: by affinity, by what control groups allow, by what a variable says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from safemp.engines import cgroup, nesting
from tests.unit.test_memory import V2, system

V1 = "35 31 0:32 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"


@pytest.mark.parametrize(
    ("own", "parent", "expected"),
    [
        ("max 100000\n", "max 100000\n", None),
        ("200000 100000\n", "max 100000\n", 2),
        ("150000 100000\n", "max 100000\n", 2),
        ("10000 100000\n", "max 100000\n", 1),
        ("400000 100000\n", "300000 100000\n", 3),
        ("nonsense\n", "", None),
        ("0 0\n", "100000 0\n", None),
    ],
)
def test_v2_a_quota_is_so_many_cores(tmp_path: Path, own: str, parent: str, expected: int | None) -> None:
    """Parts of a core count as one; a group has no more than its parents; what makes no sense is no limit."""
    root = system(tmp_path, "0::/a/b\n", V2, a__cpu_at_max=parent, a__b__cpu_at_max=own)

    assert cgroup.cores(root) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1\n", None), ("250000\n", 3), ("1000\n", 1)])
def test_v1_a_quota_is_so_many_cores(tmp_path: Path, quota: str, expected: int | None) -> None:
    """The same of the older kind, whose quota and period are two files; -1 is no limit."""
    files = {"cpu__job__cpu_at_cfs_quota_us": quota, "cpu__job__cpu_at_cfs_period_us": "100000\n"}
    root = system(tmp_path, "4:cpu,cpuacct:/job\n", V1, **files)

    assert cgroup.cores(root) == expected


def test_the_least_of_all_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of loky is heeded, and ours in a worker; neither makes more of what there is."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    monkeypatch.delenv("LOKY_MAX_CPU_COUNT", raising=False)
    monkeypatch.delenv("SAFEMP_CORES", raising=False)
    monkeypatch.setattr(cgroup, "cores", lambda: None)

    assert nesting.cores() == there
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    assert nesting.cores() == 1
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1000")
    monkeypatch.setattr(cgroup, "cores", lambda: 1)
    assert nesting.cores() == 1
