"""A storm over a cluster: its workers are killed at random while short calls run. The books must be right."""

from __future__ import annotations

import os
import random
from collections import Counter
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
            errors = {n: future.exception(200) for n, future in enumerate(futures)}
        finally:
            killer.stop()
        assert executor.submit(jobs.square, 3).result(60) == 9
        for n, future in enumerate(futures):
            # Ray has SIGTERM raise SystemExit in what runs; so that is what the call raised.
            ended = isinstance(errors[n], (safemp.WorkerCrashed, SystemExit))
            assert ended if errors[n] else future.result() == n * n, repr(errors[n])

    began = Counter(line.partition(" ")[0] for line in lines(effects))
    assert set(began.values()) == {1}, [n for n, times in began.items() if times > 1]
    crashed = sum(error is not None for error in errors.values())
    assert crashed <= sum(killer.hits.values())  # each was at one call
    assert len(began) >= CALLS - crashed
    return Counter(answered=CALLS - crashed, crashed=crashed) + killer.hits
