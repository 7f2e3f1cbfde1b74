"""Some packages, each in a process of its own, with a deadline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from safemp.audit.look import Audit, look, quiet
from safemp.audit.task import Options, Way
from safemp.executor import SafeExecutor

__all__ = ["audit"]

_MORE = 15.0
"""Seconds that the process of a package has beyond its deadline, to start and to end in. Picked."""


def audit(
    packages: Sequence[Options],
    *,
    deadline: float,
    ways: Mapping[str, Way] | None = None,
    workers: int = 1,
) -> Iterator[tuple[Options, Audit | Exception]]:
    """Audit packages.

    Args:
        packages: What to look at.
        deadline: Seconds for each.
        ways: As for ``look``.
        workers: How many packages are looked at at a time.

    Yields:
        Each package, in order, with what was found, or why nothing was: what importing
        it raised, ``TaskTimeout``, ``WorkerCrashed``.
    """
    with SafeExecutor(
        workers, max_tasks_per_child=1, task_timeout=deadline + _MORE, initializer=quiet, forward_logging=False
    ) as executor:
        futures = [executor.submit(look, options, deadline, ways) for options in packages]
        for options, future in zip(packages, futures, strict=True):
            try:
                yield options, future.result()
            except Exception as error:  # of this package; the others have their own
                yield options, error
