"""A storm over a cluster: its workers are killed at random while short calls run. The books must be right."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import safemp
from tests.chaos.killer import Killer
from tests.support import jobs
from tests.support.child import alive, lines

CALLS = 250

EVERY = 40
"""Calls that begin between two kills, at most."""


def note_and_square(path: str, n: int) -> int:
    """Leave a line with the number and the process; take a moment."""
    jobs.note(path, f"{n} {os.getpid()}")
    jobs.work(n, 0.01)
    return n * n


def blow(engine: Any, folder: Path, seed: int) -> Counter[str]:
    """Make calls, kill workers, and check: every future ends, and what lived has its own answer and has run once.

    Returns:
        How many calls were answered and crashed, and how many workers were killed in which way.
    """
    effects = folder / "effects"

    def workers() -> list[int]:
        seen = {int(line.partition(" ")[2]) for line in lines(effects)[-20:]}
        return [pid for pid in seen if alive(pid)]

    killer = Killer(random.Random(seed), workers, lambda: len(lines(effects)), EVERY)
    with safemp.SafeExecutor(engine=engine) as executor:
        killer.start()
        try:
            futures = [executor.submit(note_and_square, str(effects), n) for n in range(CALLS)]
            for future in futures:
                future.exception(200)
        finally:
            killer.stop()
        assert executor.submit(jobs.square, 3).result(60) == 9
    # Ray has SIGTERM raise SystemExit in what runs; so that is what the call raised.
    began = Counter(int(line.partition(" ")[0]) for line in lines(effects))
    crashed = len(crashes(futures, began, (safemp.WorkerCrashed, SystemExit)))
    assert crashed <= sum(killer.hits.values())  # each was at one call
    return Counter(answered=CALLS - crashed, crashed=crashed) + killer.hits


def crashes(
    futures: Sequence[Future[int]],
    began: Counter[int],
    ended: tuple[type[BaseException], ...] = (safemp.WorkerCrashed,),
) -> set[int]:
    """Check the books of calls that square their number, which have all finished.

    Args:
        futures: The calls'.
        began: How often each has begun.
        ended: What a call may end with.

    Returns:
        Those that have crashed. All others have their own answer, and none has run twice.
    """
    errors = {n: future.exception(0) for n, future in enumerate(futures)}
    crashed = {n for n, error in errors.items() if error is not None}
    assert all(isinstance(errors[n], ended) for n in crashed), errors
    assert all(future.result() == n * n for n, future in enumerate(futures) if n not in crashed)
    assert set(began.values()) == {1}, [n for n, times in began.items() if times > 1]
    assert len(began) >= len(futures) - len(crashed)
    return crashed
