"""What storms are like, and the kinds of them that there are."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.chaos import tasks

SIZES = (0, 0, 0, 100, 1_000, 20_000, 30_000, 33_000, 70_000, 250_000, 1_000_000)
HUGE = 20_000_000
POOL_WAYS = ("apply_async", "map_async", "imap", "imap_unordered")
WAYS = ("submit", "Executor.map", *POOL_WAYS)


@dataclass(frozen=True)
class Weather:
    """What a storm is like.

    Attributes:
        seed: Of all choices. (Which instruction a kill hits, it does not say.)
        seconds: How long jobs are submitted, or longer, until there are enough of
            the next three.
        answers: Jobs to be answered, for a storm to have shown anything.
        hits: Jobs to have died by a kill from outside.
        timeouts: Jobs to have been ended by ``task_timeout``.
        workers: How many, of the executor and of the pool.
        ways: Which of ``WAYS``.
        fates: The odds of each fate that is not "answer". Each is met at least once.
        every: Jobs that begin between two kills from outside, at most; 0: none.
        huge: The odds that an argument or a result has ``HUGE`` bytes.
        mp_context: How workers start; ``None``: safemp's own way.
        recycle: Tasks after which a worker is replaced.
        cancel: The odds that a submitted job is cancelled at once.
        kill: The odds that a submitted job's future is killed a moment later.
        ending: "close", or "kill": the workers are killed with jobs in the queue.
        retries: As ``SafeExecutor``'s.
        task_timeout: As ``SafeExecutor``'s.
    """

    seed: int
    seconds: float
    answers: int = 100
    hits: int = 3
    timeouts: int = 0
    workers: int = 2
    ways: tuple[str, ...] = WAYS
    fates: dict[str, float] = field(
        default_factory=lambda: {**dict.fromkeys(tasks.DEATHS, 0.002), "stray": 0.002, "raise": 0.02}
    )
    every: int = 30
    huge: float = 0.002
    mp_context: str | None = None
    recycle: int | None = None
    cancel: float = 0.02
    ending: str = "close"
    kill: float = 0.0
    retries: int = 0
    task_timeout: float | None = None


KINDS: dict[str, Weather] = {
    "all": Weather(0, 10),
    "hail of kills": Weather(0, 10, every=4, huge=0.0005, fates={}),
    "huge": Weather(0, 10, huge=0.05),
    "small": Weather(0, 10, huge=0.0, ways=("submit", "apply_async"), every=60),
    "maps": Weather(0, 10, ways=("map_async", "imap", "imap_unordered", "Executor.map")),
    "one worker": Weather(0, 10, workers=1),
    "five workers": Weather(0, 10, workers=5),
    "recycled": Weather(0, 10, recycle=7),
    "forkserver": Weather(0, 10, mp_context="forkserver"),
    "killed pool": Weather(0, 2, ending="kill", answers=50, hits=1),
}

LIMITED: dict[str, Weather] = {
    # Kills are rare here: those that hang are to be ended by their time, not by a kill.
    "timeouts": Weather(
        0, 10, task_timeout=4, timeouts=3, fates=dict.fromkeys(tasks.HANGS, 0.001), huge=0.0, every=100
    ),
    "retries": Weather(0, 10, retries=2, fates=dict.fromkeys(tasks.DEATHS, 0.01)),
    "killed futures": Weather(0, 10, kill=0.05, fates={}),
}
"""Those that need ``task_timeout``, ``retries`` and ``SafeFuture.kill``."""
