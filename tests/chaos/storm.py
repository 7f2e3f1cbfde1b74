"""A storm: jobs of every size and fate through every way there is, while workers are killed.

What it shows: each job's future ends exactly once; each job that did not die, and
whose worker was not killed, has its own right answer; nothing runs twice; one death
costs one job at most.
"""

from __future__ import annotations

import faulthandler
import random
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from multiprocessing import TimeoutError as PoolTimeoutError
from pathlib import Path
from typing import Any

import safemp
from tests.chaos import tasks
from tests.chaos.books import Books
from tests.chaos.killer import Killer
from tests.chaos.tasks import Job
from tests.chaos.weather import HUGE, POOL_WAYS, SIZES, Weather

DEADLINE = 90.0
"""Seconds after which an outcome counts as lost. Far above what any of them needs."""


def blow(weather: Weather, folder: Path) -> Books:
    """Run a storm to its end, in *folder*; return its books, checked."""
    return _Storm(weather, folder).blow()


class _Storm:
    def __init__(self, weather: Weather, folder: Path) -> None:
        self.weather = weather
        self.books = Books(folder, weather.retries)
        limits: Any = {"retries": weather.retries, "task_timeout": weather.task_timeout}
        self.executor = safemp.SafeExecutor(
            weather.workers, mp_context=weather.mp_context, max_tasks_per_child=weather.recycle, **limits
        )
        self.pool = safemp.Pool(weather.workers, context=weather.mp_context, maxtasksperchild=weather.recycle, **limits)
        self.until = time.monotonic() + weather.seconds
        self.ended = threading.Event()
        self.first = list(weather.fates)  # so that each is met at least once

    def blow(self) -> Books:
        weather, books = self.weather, self.books
        killers = [
            self._killer(lambda: self.executor._processes, ("submit", "Executor.map")),
            self._killer(lambda: [process.pid for process in self.pool._pool], POOL_WAYS),
        ]
        threads = [
            threading.Thread(target=self._use, args=(way, k), name=way, daemon=True)
            for k, way in enumerate(weather.ways)
        ]
        for killer in killers:
            killer.start()
        for thread in threads:
            thread.start()
        if weather.ending == "kill":
            while not self._over():
                self.ended.wait(0.01)
            self.ended.set()
            self.executor.kill_workers()
            self.pool.terminate()
        for thread in threads:
            thread.join(weather.seconds + 3 * DEADLINE)
            if thread.is_alive():
                books.complain(f"{thread.name} does not end")
                faulthandler.dump_traceback(sys.__stderr__)
        for killer in killers:
            killer.calm()
        if not books.wrong or weather.ending == "kill":
            self.executor.shutdown()
            self.pool.close()
            self.pool.join()
        else:  # it may hang, and has something to tell
            self.executor.kill_workers()
            self.pool.terminate()
        for killer in killers:
            killer.stop()
        books.check(set().union(*(killer.pids for killer in killers)), ended_early=weather.ending == "kill")
        for killer in killers:
            books.counts.update({f"killed by {way}": hits for way, hits in killer.hits.items()})
        return books

    def _killer(self, workers: Callable[[], Iterable[int]], ways: tuple[str, ...]) -> Killer:
        killer = Killer(
            random.Random(f"{self.weather.seed}.{ways}"),
            workers,
            lambda: self.books.begun(ways),
            self.weather.every,
            spare_stopped=self.weather.task_timeout is not None,
        )
        if not self.weather.every:
            killer.calm()
        return killer

    def _use(self, way: str, k: int) -> None:
        draw = random.Random(f"{self.weather.seed}.{k}")
        try:
            use: Callable[[random.Random], None] = getattr(self, "_" + way.replace("Executor.", "executor_"))
            while not self.ended.is_set() and not self._over():
                use(draw)
        except BaseException as error:
            if not self.ended.is_set():
                self.books.complain(f"{way}: {type(error).__name__}: {error}")

    def _over(self) -> bool:
        late = time.monotonic() - self.until
        weather, books = self.weather, self.books
        enough = (
            books.count("answered") >= weather.answers
            and books.innocent() >= weather.hits
            and books.count("timed out") >= weather.timeouts
        )
        return late > (0 if enough else DEADLINE)

    def _job(self, draw: random.Random, *, harmless: bool = False) -> Job:
        weather = self.weather
        fate = "answer"
        if not harmless and self.first:
            fate = self.first.pop()
        elif not harmless:
            chance = draw.random()
            for name, odds in weather.fates.items():
                if (chance := chance - odds) < 0:
                    fate = name
                    break
        sizes = [HUGE if draw.random() < weather.huge else draw.choice(SIZES) for _ in range(2)]
        shape = draw.choices(("bytes", "numpy", "many"), (8, 1, 1))[0]
        seconds = draw.choices((0.0, 0.001, 0.03), (20, 4, 1))[0]
        tries = draw.randrange(1, 4) if weather.retries else 1_000_000
        way = threading.current_thread().name
        path = str(self.books.path_of(way))
        return self.books.open(lambda number: Job(number, way, path, fate, *sizes, shape, seconds, tries))

    def _pairs(self, jobs: list[Job]) -> Iterator[tuple[Job, Any]]:
        for job in jobs:
            yield job, tasks.argument(job)

    # -- the ways -----------------------------------------------------------------------

    def _submit(self, draw: random.Random) -> None:
        """Keep many calls under way; ask for the outcomes in order; cancel a few."""
        open_calls: deque[tuple[Job, Any, bool]] = deque()
        for _ in range(draw.randrange(1, 300)):
            job = self._job(draw)
            try:
                future = self.executor.submit(tasks.run_two, job, tasks.argument(job))
            except RuntimeError:
                if not self.ended.is_set():
                    raise
                self.books.unseen([job])
                break
            future.add_done_callback(lambda _, job=job: self.books.called_back(job))  # type: ignore[misc]
            cancelled = draw.random() < self.weather.cancel and future.cancel()
            if draw.random() < self.weather.kill:
                self.books.killed.add(job.number)
                timer = threading.Timer(draw.uniform(0, 0.2), future.kill)
                timer.daemon = True
                timer.start()
            open_calls.append((job, future, cancelled))
            if job.takes == HUGE or job.gives == HUGE:  # a queue of these would fill the memory
                self._read(open_calls)
        self._read(open_calls)

    def _read(self, open_calls: deque[tuple[Job, Any, bool]]) -> None:
        while open_calls:
            job, future, cancelled = open_calls.popleft()
            if not future.wait(DEADLINE):
                raise TimeoutError(f"{job} has no outcome: {future!r}")
            asked = cancelled or job.number in self.books.killed
            if future.cancelled() and not asked and not self.ended.is_set():
                self.books.complain(f"{job}: nobody has cancelled it")
            self.books.settle(job, future.result)

    def _apply_async(self, draw: random.Random) -> None:
        """Keep some calls under way; each has a callback."""
        calls = []
        for _ in range(draw.randrange(1, 60)):
            job = self._job(draw)

            def called(_: object, job: Job = job) -> None:
                self.books.called_back(job)

            try:
                result = self.pool.apply_async(
                    tasks.run, ((job, tasks.argument(job)),), callback=called, error_callback=called
                )
            except ValueError:
                if not self.ended.is_set():
                    raise
                self.books.unseen([job])
                break
            calls.append((job, result))
            if job.takes == HUGE or job.gives == HUGE:
                break
        for job, result in calls:
            result.wait(DEADLINE)
            if not result.ready():
                raise PoolTimeoutError(f"{job} has no outcome")
            self.books.settle(job, result.get)

    def _map_async(self, draw: random.Random) -> None:
        """One list; when an item fails, the others' values are not to be had, but their runs are."""
        jobs = [self._job(draw, harmless=draw.random() < 0.9) for _ in range(draw.randrange(1, 60))]
        try:
            result = self.pool.map_async(tasks.run, list(self._pairs(jobs)), draw.choice((None, 1, 3, 8)))
        except (ValueError, RuntimeError):
            if not self.ended.is_set():
                raise
            self.books.unseen(jobs)
            return
        result.wait(DEADLINE)
        if not result.ready():
            raise PoolTimeoutError(f"a map of {jobs[0]} and {len(jobs) - 1} more has no outcome")
        try:
            values = result.get()
        except (safemp.SafempError, tasks.JobFailed, CancelledError):
            self.books.unseen(jobs)
            return
        for job, value in zip(jobs, values, strict=True):
            self.books.settle(job, lambda value=value: value)  # type: ignore[misc]

    def _executor_map(self, draw: random.Random) -> None:
        """Results in order, up to the first that fails."""
        jobs = [self._job(draw, harmless=draw.random() < 0.9) for _ in range(draw.randrange(1, 60))]
        values = [tasks.argument(job) for job in jobs]
        try:
            results = self.executor.map(tasks.run_two, jobs, values, chunksize=draw.choice((1, 3, 8)), timeout=DEADLINE)
        except RuntimeError:
            if not self.ended.is_set():
                raise
            self.books.unseen(jobs)
            return
        for i, job in enumerate(jobs):
            failed = False

            def get() -> Any:
                nonlocal failed
                try:
                    return next(results)
                except BaseException:
                    failed = True
                    raise

            self.books.settle(job, get)
            if failed:
                self.books.unseen(jobs[i + 1 :])
                return

    def _imap(self, draw: random.Random) -> None:
        """Each item's own outcome, in order."""
        jobs = [self._job(draw) for _ in range(draw.randrange(1, 120))]
        results = self._iterate(draw, "imap", jobs)
        for job in jobs:
            if (get := self._next(results)) is None:
                self.books.unseen(jobs[jobs.index(job) :])
                return
            self.books.settle(job, get)

    def _imap_unordered(self, draw: random.Random) -> None:
        """Each item's own outcome, as they come; they say themselves whose they are."""
        jobs = [self._job(draw) for _ in range(draw.randrange(1, 120))]
        results = self._iterate(draw, "imap_unordered", jobs)
        left = {job.number: job for job in jobs}
        while left:
            get = self._next(results)
            job = None if get is None else self._whose(get, left, jobs)
            if get is None or job is None:
                self.books.unseen(left.values())
                return
            self.books.settle(left.pop(job.number), get)

    def _iterate(self, draw: random.Random, how: str, jobs: list[Job]) -> Any:
        try:
            return getattr(self.pool, how)(tasks.run, self._pairs(jobs), draw.choice((1, 1, 4, 16)))
        except ValueError:
            if not self.ended.is_set():
                raise
            return iter(())

    def _next(self, results: Any) -> Callable[[], Any] | None:
        """Return a function that gives or raises the next outcome; ``None``: the pool has ended."""
        try:
            value = next(results, self) if isinstance(results, type(iter(()))) else results.next(DEADLINE)
        except (StopIteration, PoolTimeoutError):
            if not self.ended.is_set():
                raise
            return None
        except BaseException as error:
            found = error

            def fail() -> Any:
                raise found

            return fail
        return None if value is self else lambda: value

    def _whose(self, get: Callable[[], Any], left: dict[int, Job], jobs: list[Job]) -> Job | None:
        try:
            value = get()
        except safemp.WorkerCrashed as error:
            return None if error.item is None else jobs[error.item]
        except tasks.JobFailed as error:
            return left[error.number]
        except CancelledError:
            return None
        found = [job for job in left.values() if tasks.is_answer(value, job)]
        if not found:
            raise AssertionError("an answer that belongs to no job")
        return found[0]
