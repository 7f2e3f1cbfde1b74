"""What has happened in a pool: counted by its dispatcher, told when somebody asks.

``Counts`` and ``Tally`` are what is counted, ``Stats`` and ``WorkerStats`` what is told.
"""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safemp.engines.memory import size

if TYPE_CHECKING:
    from safemp.engines.timeline import Timeline

__all__ = ["Counts", "Stats", "Tally", "WorkerStats"]

_KEPT = 1000
"""Workers that have ended, of which figures are kept. Those before are in the sums only."""


class Tally:
    """What is counted of one worker. Times as the dispatcher's clock gives them.

    Attributes:
        pid: Its process id.
        joined: When it was started.
        ended: When it ended.
        exitcode: Its exit code.
        calls: Calls, or items of maps, that it has finished, or died of.
        failures: Those of them that failed.
        busy: Seconds that it was at them.
    """

    __slots__ = ("busy", "calls", "ended", "exitcode", "failures", "joined", "pid")

    def __init__(self, pid: int, joined: float) -> None:
        self.pid: int = pid
        self.joined: float = joined
        self.ended: float | None = None
        self.exitcode: int | None = None
        self.calls: int = 0
        self.failures: int = 0
        self.busy: float = 0.0


class Counts:
    """What is counted of a pool.

    Args:
        now: When it was made.

    Attributes:
        retries: Calls that were tried again.
        crashes: Calls that ended with their worker.
        repairs: Objects that travelled because they were repaired.
        bytes_sent: Of calls, chunks and functions.
        encoding: Seconds that pickling took, in callers' threads.
        queued: Seconds that calls and chunks waited to be sent, all together.
    """

    def __init__(self, now: float) -> None:
        self.made = now
        self.retries = 0
        self.crashes = 0
        self.repairs = 0
        self.bytes_sent = 0
        self.encoding: float = 0.0
        self.queued: float = 0.0
        self._working: list[Tally] = []
        self._ended: deque[Tally] = deque()
        self._gone = Tally(0, 0.0)  # the sums of those of which nothing else is kept

    def joined(self, pid: int, now: float) -> Tally:
        """Begin to count for a new worker."""
        tally = Tally(pid, now)
        self._working.append(tally)
        return tally

    def ended(self, tally: Tally, exitcode: int | None, now: float) -> None:
        """Count no more for a worker that has ended."""
        tally.ended, tally.exitcode = now, exitcode
        self._working.remove(tally)
        self._ended.append(tally)
        if len(self._ended) > _KEPT:
            oldest, gone = self._ended.popleft(), self._gone
            gone.calls += oldest.calls
            gone.failures += oldest.failures
            gone.busy += oldest.busy

    def told(
        self,
        now: float,
        doing: dict[int, tuple[str, float]],
        *,
        waiting: int,
        running: int,
        timeline: Timeline | None = None,
    ) -> Stats:
        """Say what there is by now.

        Args:
            now: The time.
            doing: What each worker is at, and for how many seconds, by process id.
            waiting: Tasks that no worker has.
            running: Tasks that workers have.
            timeline: When each thing happened, if that was recorded.
        """
        tallies = [*self._ended, *self._working]
        sums = [self._gone, *tallies]
        return Stats(
            seconds=now - self.made,
            calls=sum(each.calls for each in sums),
            failures=sum(each.failures for each in sums),
            retries=self.retries,
            crashes=self.crashes,
            repairs=self.repairs,
            bytes_sent=self.bytes_sent,
            encoding=self.encoding,
            queued=self.queued,
            busy=sum(each.busy for each in sums),
            waiting=waiting,
            running=running,
            workers=tuple(
                WorkerStats(
                    pid=each.pid,
                    seconds=(now if each.ended is None else each.ended) - each.joined,
                    calls=each.calls,
                    failures=each.failures,
                    busy=each.busy,
                    ended=each.ended is not None,
                    exitcode=each.exitcode,
                    doing=doing.get(each.pid, ("", 0.0))[0] if each.ended is None else "",
                    doing_for=doing.get(each.pid, ("", 0.0))[1] if each.ended is None else 0.0,
                )
                for each in tallies
            ),
            timeline=timeline,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStats:
    """What one worker of a pool has done.

    Attributes:
        pid: Its process id.
        seconds: For how long it has been there.
        calls: Calls and items of maps that it has finished, or died of; each try counts.
        failures: Those of them that failed.
        busy: Seconds that it was at them; what it is at now counts when it is through.
        ended: Whether it has ended.
        exitcode: How, as ``multiprocessing.Process.exitcode``; ``None`` if it has not.
        doing: What it is at: a function's name, for a map with the item; "" if nothing.
        doing_for: For how many seconds.
    """

    pid: int
    seconds: float
    calls: int
    failures: int
    busy: float
    ended: bool
    exitcode: int | None
    doing: str
    doing_for: float

    @property
    def utilisation(self) -> float:
        """The part of its time that it was busy, from 0 to 1."""
        return min(1.0, self.busy / self.seconds) if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """What has happened in a pool until now. ``print`` it, or show it in a notebook.

    A *call* is one of ``submit`` or ``apply``, or one item of a map; each try counts.

    Attributes:
        seconds: For how long there has been the pool.
        calls: Calls that workers have finished, or died of.
        failures: Those of them that failed.
        retries: Calls that were tried again.
        crashes: Calls that ended with their worker: crashes, limits, ``kill()``.
        repairs: Objects in calls that travelled because they were repaired.
        bytes_sent: Bytes of calls, chunks of maps and functions that were sent to workers.
        encoding: Seconds that pickling them took, in the threads that made the calls.
        queued: Seconds that calls and chunks waited to be sent to a worker, all together.
        busy: Seconds that workers were at calls, all together.
        waiting: Calls and chunks that wait to be sent to a worker.
        running: Calls and chunks that workers have.
        workers: Each worker, those that have ended first; of those the last thousand.
        timeline: When each thing happened; ``None`` unless the pool was made with ``trace=``.
    """

    seconds: float
    calls: int
    failures: int
    retries: int
    crashes: int
    repairs: int
    bytes_sent: int
    encoding: float
    queued: float
    busy: float
    waiting: int
    running: int
    workers: tuple[WorkerStats, ...]
    timeline: Timeline | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        failed = f", {self.failures} failed" if self.failures else ""
        lines = [f"{self.calls} calls in {self.seconds:.1f} s{failed}"]
        for number, name in (
            (self.retries, "tried again"),
            (self.crashes, "ended with their worker"),
            (self.waiting, "waiting"),
            (self.running, "running"),
        ):
            if number:
                lines[0] += f", {number} {name}"
        repaired = f", {self.repairs} objects repaired" if self.repairs else ""
        lines.append(
            f"  sent {size(self.bytes_sent)}{repaired}; {self.encoding:.2f} s pickling, "
            f"{self.queued:.2f} s in the queue, {self.busy:.2f} s at work"
        )
        for worker in self.workers:
            line = f"  worker {worker.pid}: {worker.utilisation:4.0%} busy, {worker.calls} calls"
            if worker.failures:
                line += f", {worker.failures} failed"
            if worker.ended:
                line += f", ended with {worker.exitcode}"
            if worker.doing:
                line += f", at {worker.doing} for {worker.doing_for:.1f} s"
            lines.append(line)
        return "\n".join(lines)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write ``to_html``, to a path that ends with ``.html``; else the timeline, as JSON.

        That is in Chrome's trace format, which https://ui.perfetto.dev shows.

        Raises:
            ValueError: There is no timeline: the pool was made without ``trace=``.
            OSError: The file cannot be written.
        """
        if os.fspath(path).endswith((".html", ".htm")):
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.to_html())
        elif self.timeline is not None:
            self.timeline.write(path)
        else:
            raise ValueError("cannot write a timeline: none was recorded\n  fix:    make the pool with trace=True")

    def to_html(self) -> str:
        """Return a page that needs nothing else: each worker's use, longest tasks, errors."""
        from safemp.engines import stats_html

        return stats_html.page(self)

    def _repr_html_(self) -> str:
        from safemp.engines import stats_html

        return stats_html.fragment(self)
