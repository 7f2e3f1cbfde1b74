"""Pools inside the workers of pools: how deep they may be, and whose cores they use.

A pool in a worker is a pool like any other. It must know two things that only the
outer pool can tell: which part of the machine is its own, and how many pools are
around it. Both are in the worker's environment, so that a program which a task starts
knows them, too.
"""

from __future__ import annotations

import os

__all__ = ["MAX_DEPTH", "check_depth", "cores", "depth", "variables"]

_DEPTH = "SAFEMP_DEPTH"
_CORES = "SAFEMP_CORES"
MAX_DEPTH = "SAFEMP_MAX_DEPTH"
"""The environment variable for the deepest that pools may be nested."""

_DEEPEST = 5
"""Pools inside each other unless the user says otherwise. Picked: a workflow, its steps,
their search, its folds and one to spare. Four workers each are 1 024 processes by then;
loky's 10 would be a million."""


def _number(name: str, default: int) -> int:
    """Read a positive number from the environment; what is none counts as not there."""
    value = os.environ.get(name, "")
    return int(value) if value.isdecimal() and int(value) > 0 else default


def depth() -> int:
    """Return how many pools this process is inside of; 0: none."""
    return _number(_DEPTH, 0)


def cores() -> int:
    """Return the cores for this process: by affinity, by cgroup, and in a worker its part."""
    from safemp.backend import cpu_count

    found = int(cpu_count())
    return min(found, _number(_CORES, found))


def check_depth() -> None:
    """Refuse a pool that would be nested too deep.

    Raises:
        RecursionError: It would.
    """
    deepest = _number(MAX_DEPTH, _DEEPEST)
    if depth() >= deepest:
        raise RecursionError(
            f"cannot start a pool: this process is a worker inside {depth()} pools, and {deepest} is the most\n"
            "  reason: a task that starts a pool whose tasks start a pool would take every process there is\n"
            f"  fix:    call the inner function directly; or set {MAX_DEPTH}={depth() + 1} in the environment, "
            "if this is meant"
        )


def variables(workers: int) -> dict[str, str]:
    """Return what to set in the environment of a worker, one of *workers*."""
    return {_DEPTH: str(depth() + 1), _CORES: str(max(1, cores() // workers))}
