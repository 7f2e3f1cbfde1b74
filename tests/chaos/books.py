"""The books of a storm: which jobs there were, what became of each, and what is wrong with it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import safemp
from tests.chaos.tasks import DEATHS, HANGS, STRAY, Job, JobFailed, is_answer

UNSEEN = "in a map that failed"
"""What became of a job whose outcome the front end does not show."""


class Books:
    """Takes every outcome, once, and says in ``wrong`` what is not as promised.

    Args:
        folder: For the files to which each job writes when it runs, one for each way.
        retries: How often a job may be tried again.
    """

    def __init__(self, folder: Path, retries: int = 0) -> None:
        self.folder = folder
        self.wrong: list[str] = []
        self.counts: Counter[str] = Counter()
        self.killed: set[int] = set()
        """Numbers of jobs whose futures were killed."""
        self._retries = retries
        self._jobs: dict[int, Job] = {}
        self._ended: dict[int, str] = {}
        self._calls: Counter[int] = Counter()
        self._crashes: list[safemp.WorkerCrashed] = []
        self._innocent: list[safemp.WorkerCrashed] = []
        self._lock = threading.Lock()

    def path_of(self, way: str) -> Path:
        """Return the file to which jobs submitted in this *way* write."""
        return self.folder / f"runs of {way}"

    def begun(self, ways: Iterable[str]) -> int:
        """Return how often a job submitted in one of these *ways* has begun."""
        return sum(path.read_bytes().count(b"\n") for way in ways if (path := self.path_of(way)).exists())

    def count(self, how: str) -> int:
        """Return how many jobs have ended so: "answered", "timed out", …."""
        with self._lock:
            return self.counts[how]

    def innocent(self) -> int:
        """Return how many jobs have died by no fault of their own."""
        with self._lock:
            return len(self._innocent)

    def open(self, make: Callable[[int], Job]) -> Job:
        """Make the next job."""
        with self._lock:
            job = make(len(self._jobs))
            self._jobs[job.number] = job
        return job

    def called_back(self, job: Job) -> None:
        """Note that a callback of *job*'s future was called."""
        with self._lock:
            self._calls[job.number] += 1

    def settle(self, job: Job, get: Callable[[], Any]) -> None:
        """Take the outcome of *job*: what *get* returns or raises."""
        try:
            value = get()
        except CancelledError:
            self._end(job, "killed" if job.number in self.killed else "cancelled")
        except safemp.TaskTimeout as error:
            self._end(job, "timed out", None if job.fate in HANGS else f"timed out: {error}")
        except safemp.WorkerCrashed as error:
            self._crashed(job, error)
        except JobFailed as error:
            good = job.fate == "raise" and error.number == job.number
            self._end(job, "raised", None if good else f"raised {error!r}")
        except BaseException as error:
            self._end(job, "wrong", f"raised {type(error).__name__}: {error}")
        else:
            good = is_answer(value, job) and (job.fate in ("answer", "stray") or job.tries <= self._retries)
            self._end(job, "answered", None if good else "answered wrongly")

    def unseen(self, jobs: Iterable[Job]) -> None:
        """Note that the outcomes of *jobs* are not to be had."""
        for job in jobs:
            self._end(job, UNSEEN)

    def complain(self, text: str) -> None:
        """Note something that is wrong."""
        with self._lock:
            self.wrong.append(text)

    def _end(self, job: Job, how: str, wrong: str | None = None) -> None:
        with self._lock:
            if job.number in self._ended:
                wrong = f"has ended twice, was {self._ended[job.number]}"
            self._ended[job.number] = how
            self.counts[how] += 1
            if wrong:
                self.wrong.append(f"{job}: {wrong}")

    def _crashed(self, job: Job, error: safemp.WorkerCrashed) -> None:
        with self._lock:
            self._crashes.append(error)
            if job.number in self.killed:
                pass
            elif job.fate in DEATHS and error.exitcode == DEATHS[job.fate]:
                self.counts["died by themselves"] += 1
            else:
                self._innocent.append(error)
        self._end(job, "crashed")

    def check(self, killed: set[int], *, ended_early: bool = False) -> None:
        """Look at everything when all is over; add to ``wrong`` and ``counts``.

        Args:
            killed: The pids of the workers that were killed from outside.
            ended_early: The pool was ended with jobs in it: these need not have run.
        """
        self.counts["jobs"] = len(self._jobs)
        for number in self._jobs.keys() - self._ended.keys():
            self.wrong.append(f"{self._jobs[number]}: has no outcome")
        for number, calls in self._calls.items():
            if calls != 1:
                self.wrong.append(f"{self._jobs[number]}: {calls} callbacks")
        self._check_runs(ended_early)
        strays = 0
        for error in self._innocent:
            if error.pid in killed:
                self.counts["hit by a kill from outside"] += 1
            elif error.exitcode == STRAY:
                strays += 1
            elif not ended_early:
                self.wrong.append(f"nobody has killed that worker: {error}")
        self.counts["hit by the exit of another job"] = strays
        pids = Counter(error.pid for error in self._crashes if error.pid is not None)
        for pid, times in pids.items():
            if times > 1 and not ended_early:
                self.wrong.append(f"the death of {pid} has cost {times} jobs")

    def _check_runs(self, ended_early: bool) -> None:
        texts = [path.read_text(encoding="ascii") for path in self.folder.iterdir()]
        ran = Counter(map(int, " ".join(texts).split()))
        self.counts["runs"] = sum(ran.values())
        self.counts["tried again"] = sum(runs - 1 for runs in ran.values() if runs > 1)
        once = {"answered", "raised", "timed out"}
        never = {"cancelled"}
        for number, job in self._jobs.items():
            how, runs = self._ended.get(number), ran[number]
            least = 1 if how in once else 0
            most = 0 if how in never and not ended_early else 1 + self._retries
            if not least <= runs <= most:
                self.wrong.append(f"{job}: {how}, but has run {runs} times")

    def __str__(self) -> str:
        counts = "\n".join(f"  {count:8} {what}" for what, count in sorted(self.counts.items()) if count)
        wrong = "".join(f"\nwrong: {text}" for text in self.wrong[:5])
        return f"{counts}\n  {len(self.wrong):8} wrong{wrong}"
