"""The local engine around the real dispatcher, with fake workers and a fake clock.

It serves as ``LocalEngine`` does, and no more often: when it was woken, when a worker
has said something or ended, when the time has come that ``tick`` gave.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from safemp.engines import Definitions, Function, Shared, child, dispatch
from safemp.engines.ahead import PATIENCE
from safemp.engines.crash import InitializerError, WorkerCrashed
from safemp.engines.dispatch import Dispatcher
from safemp.engines.ledger import unpack_results
from safemp.engines.process import LEAVING, STARTING
from safemp.engines.settings import Limits
from safemp.errors import SafempError
from tests.support.fake_task import FAILED, VALUE, Job, Record
from tests.support.fake_worker import FakeWorker

__all__ = ["FakeEngine"]


class FakeEngine:
    """See above. Everything happens in the thread of the test.

    Args:
        max_workers: As of ``Dispatcher``.
        eager: As of ``Dispatcher``.
        idle_timeout: As of ``Dispatcher``.
        max_tasks: Tasks after which a worker is replaced.
    """

    def __init__(
        self, max_workers: int, eager: bool = False, idle_timeout: float | None = None, max_tasks: int | None = None
    ) -> None:
        self.now = 1000.0
        self.records: list[Record] = []
        self.order: list[tuple[int, int]] = []  # in which items ran first
        self.chances: deque[int] = deque()  # what is left open: see ``chance``
        self.callbacks: deque[Callable[[], object]] = deque()  # made out of deliveries
        self.deferred: list[Callable[[], None]] = []
        self.killed = self.cancelled = self.broken = self.closed = self.draining = False
        self.unused = 0  # workers that ended while they were at nothing
        self.unable = 0  # starts that fail, from now on
        self.most_unable = self._unable = 0  # starts that failed in a row
        self.threadless = 0  # threads that do not start, from now on
        self.was_threadless = False
        self.bad_start = 0  # workers whose initializer fails
        self.workers: list[FakeWorker] = []
        self.over = False
        self._max_tasks = max_tasks
        self._shared: dict[tuple[bool, int], Shared] = {}
        self._awake = True
        self._sleeps_until = 0.0
        self.dispatcher = Dispatcher(
            max_workers,
            eager=eager,
            initializes=False,
            idle_timeout=idle_timeout,
            clock=lambda: self.now,
            wake=self._wake,
            defer=self._defer,
            trace=True,
        )

    def chance(self) -> int:
        """Return what a race comes to; 0 when nothing is said about it."""
        return self.chances.popleft() if self.chances else 0

    # -- what users do -----------------------------------------------------------------------

    def shared(self, call: bool, key: int) -> Shared | None:
        """Return the function of a map, or the definitions of a call, the same each time; for a call of key 0 none."""
        if call and not key:
            return None
        found = self._shared.get((call, key))
        if found is None:
            found = self._shared[call, key] = Definitions([b"definitions"]) if call else Function([b"function"])
        return found

    def submit(
        self,
        count: int = 0,
        *,
        key: int = 0,
        size: int = 10,
        limits: Limits | None = None,
        plan: list[str] | None = None,
        loads: list[bool] | None = None,
        mends: list[str] | None = None,
    ) -> Record | None:
        """Submit a call (*count* 0) or a chunk.

        Returns:
            Its record; ``None``: it was refused, as it should.
        """
        record = Record(
            self, len(self.records), count or 1, not count, limits, plan or [VALUE], loads or [], mends or []
        )
        self.records.append(record)
        job = Job(record, 0, count or 1, self.shared(not count, key), size)
        record.job = job
        try:
            self.dispatcher.submit(job)
        except (RuntimeError, WorkerCrashed, InitializerError, SafempError):
            assert self.dispatcher._closing, "refused by an open pool"
            self.records.pop()
            return None
        assert not self.closed, "a closed pool has taken a task"
        return record

    def cancel(self, record: Record) -> None:
        """Cancel a call that has not begun, or what is left of a map."""
        if not (record.call and record.begun) and record.owed():
            record.cancelled = True

    def end_task(self, record: Record) -> bool:
        """Do as ``SafeFuture.kill``; of a call."""
        if not record.owed():
            return False
        if not record.begun:
            record.cancelled = True
            return True
        assert record.job is not None
        before, record.ended = record.ended, True  # the outcome may come within
        found = self.dispatcher.end_task(record.job)
        record.ended = found or before
        if not found and not record.runs.get(0):  # its outcome is there, or on its way
            assert all(job.record is not record for job in self._places()), "it has not begun, and will not be ended"
        return found

    def close(self, cancel: bool = False) -> None:
        """Close the pool."""
        self.closed = True
        self.cancelled |= cancel
        self.dispatcher.close(cancel=cancel)

    def kill(self, number: int) -> None:
        """End the pool."""
        self.closed = self.cancelled = self.killed = True
        self.dispatcher.kill(number)

    def collapse(self) -> None:
        """Have the serving thread end by a defect."""
        self.closed = self.broken = self.over = True
        self.dispatcher.collapse(ZeroDivisionError())
        for worker in self.workers:
            worker.ledger.close()
        self.workers.clear()

    def called_back(self) -> None:
        """Run what a user's callback does, or another thread at that moment."""
        if self.callbacks:
            self.callbacks.popleft()()

    def run_deferred(self, which: int = 0) -> None:
        """Have one of the threads do its work that run user code."""
        if self.deferred:
            self.deferred.pop(which % len(self.deferred))()

    def _defer(self, function: Callable[[], None]) -> None:
        if self.threadless:
            self.threadless -= 1
            self.was_threadless = True
            raise RuntimeError("can't start new thread")
        self.deferred.append(function)

    # -- what workers do ---------------------------------------------------------------------

    def _find(self, key: bytes) -> tuple[Record, int]:
        number, offset = bytes(key).split()
        return self.records[int(number)], int(offset)

    def step(self, worker: FakeWorker) -> bool:
        """Let *worker* make one step, or have something happen to it."""
        chance = self.chance()
        if chance == 13:
            worker.die(-11, "outside")
        elif chance == 8:
            worker.stop()
        return worker.step()

    def warm(self) -> None:
        """Start with all workers started and idle."""
        for _ in range(self.dispatcher.max_workers):
            self.submit()
        for _ in range(40):
            self.serve()
            for worker in self.workers:
                worker.step()

    def _meanwhile(self, worker: FakeWorker) -> None:
        chance = self.chance()
        if chance == 13:
            worker.die(-11, "outside")
        for _ in range(chance):
            worker.step()

    # -- the serving thread: see ``LocalEngine`` ------------------------------------------------

    def _wake(self) -> None:
        assert self.dispatcher.lock._is_owned()
        self._awake = True

    def _events(self) -> list[tuple[str, FakeWorker | None]]:
        found: list[tuple[str, FakeWorker | None]] = [("wake", None)] if self._awake else []
        for each in self.workers:
            writes = each.watched and (each.closed or each.outbox.has_room())
            if not each.heard_out and (each.sent or each.closed or writes):
                found.append(("stream", each))
            if each.exitcode is not None:
                found.append(("exit", each))
        return found

    def has_to_serve(self) -> bool:
        """Tell whether the serving thread has something to do."""
        return not self.over and (self.now >= self._sleeps_until or bool(self._events()))

    def serve(self) -> bool:
        """Do what the serving thread does in one round, if it has to; tell whether it had."""
        if not self.has_to_serve():
            return False
        events = self._events()
        while events:
            kind, worker = events.pop(self.chance() % len(events))
            if kind == "wake":
                self._woken()
            elif worker in self.workers:
                assert worker is not None
                if kind == "exit":
                    self._bury(worker)
                elif not worker.heard_out:
                    self._serve(worker, 1 + self.chance())
        if self.dispatcher.wants_worker():
            self._grow()
        wait = self.dispatcher.tick()
        self._sleeps_until = float("inf") if wait is None else self.now + wait
        self.over = self.dispatcher.over()
        return True

    def _woken(self) -> None:
        self._awake = False
        for worker in self.dispatcher.workers.values():
            if worker.outbox and not worker.deaf:
                worker.watched = True  # type: ignore[attr-defined]

    def _grow(self) -> None:
        if self.unable:
            self.unable -= 1
            self._unable += 1
            self.most_unable = max(self.most_unable, self._unable)
            self.dispatcher.unable(OSError("no process is to be had"))
            return
        self._unable = 0
        broken = FAILED if self.bad_start else None
        self.bad_start -= bool(self.bad_start)
        worker = FakeWorker(
            len(self.workers) + 1000 * len(self.order) + 1,
            self._max_tasks,
            lambda: self.now,
            self._meanwhile,
            self._find,
            broken,
        )
        while worker.pid in self.dispatcher.workers:
            worker.pid += 1
        self.workers.append(worker)
        self.dispatcher.joined(worker)  # type: ignore[arg-type]

    def _serve(self, worker: Any, most: int) -> None:
        if worker.outbox and not worker.closed:
            written = worker.outbox.written
            if worker.outbox.flush():
                worker.watched = False
            if worker.outbox.written > written:
                with self.dispatcher.lock:
                    self.dispatcher.reads(worker)
        if not worker.sent and worker.closed:
            self._deaf(worker)
        while worker.sent and most:
            most -= 1
            message = worker.sent.popleft()
            kind = message.kind
            if kind == child.RESULT:
                self.dispatcher.results(worker, [(message.task, message.items, message.frames)], message.ref)
            elif kind == child.RESULTS:
                self.dispatcher.results(worker, unpack_results(message.frames[0]), message.ref)
            elif kind == child.GIVEN_BACK:
                self.dispatcher.given_back(worker, message.task, message.items)
            elif kind == child.NOT_LOADED:
                self.dispatcher.not_loaded(worker, message.task, message.frames)
            elif kind == child.READY:
                self.dispatcher.ready(worker)
            else:
                self.broken = True
                self.dispatcher.unusable(message.frames)

    def _deaf(self, worker: Any) -> None:
        if not worker.heard_out:
            worker.heard_out = True
            self.dispatcher.gone_deaf(worker)

    def _bury(self, worker: Any) -> None:
        if not worker.heard_out:
            self._serve(worker, -1)
        self._deaf(worker)
        self.workers.remove(worker)
        self.unused += worker.at is None
        self.dispatcher.ended(worker, worker.exitcode)
        worker.ledger.close()

    # -- what always holds -------------------------------------------------------------------

    def check(self) -> None:
        """Look at everything from outside, between two events."""
        dispatcher = self.dispatcher
        assert not dispatcher.lock._is_owned()
        assert len([each for each in dispatcher.workers.values() if each.state != LEAVING]) <= dispatcher.max_workers
        assert not (dispatcher._idle and dispatcher._queue), "a task waits, and so does a worker"
        for worker in dispatcher.workers.values():
            assert (worker in dispatcher._idle) == (worker.state == dispatch.IDLE)
            assert (worker in dispatcher._busy) == (worker.state == dispatch.BUSY)
            assert bool(worker.tasks) == (worker.state == dispatch.BUSY)
        self._check_counts()
        owed = sorted((job.record.number, job.first + i) for job in self._places() for i in range(job.done, job.count))
        assert owed == sorted((record.number, item) for record in self.records for item in record.owed())

    def _check_counts(self) -> None:
        """Look whether what was counted is what was written down, with no worker at two things at a time."""
        counts, recorder = self.dispatcher._counts, self.dispatcher._recorder
        assert recorder is not None
        spans = recorder.timeline().spans
        told = counts.told(self.now, {}, waiting=0, running=0)
        assert sum(span.calls for span in spans) == told.calls
        assert sum(span.failures for span in spans) == told.failures <= told.calls
        ends: dict[int, float] = {}
        for span in spans:
            assert (
                ends.get(span.pid, 0.0) - 1e-6
                <= span.begin
                <= span.begin + span.seconds
                <= self.now - counts.made + 1e-6
            )
            ends[span.pid] = span.begin + span.seconds

    def _places(self) -> list[Any]:
        """Return the tasks that are not done."""
        dispatcher = self.dispatcher
        on_workers = [task for worker in dispatcher.workers.values() for task in worker.tasks]
        return [*dispatcher._queue, *dispatcher._later, *dispatcher._mending, *on_workers]

    def drain(self, seconds: float = float("inf")) -> None:
        """Let time pass and everybody do his work, until nothing is left to do.

        Args:
            seconds: At most so long, and what hangs hangs on; else it goes on, unless
                somebody has said that it must end.
        """
        self.draining = seconds == float("inf")
        until = self.now + seconds
        for _ in range(20_000):
            busy = bool(self.chances and self.workers)
            for worker in self.workers:
                if worker.verdict is None:
                    worker.stopped_at = None
                for _ in range(100):
                    if not self.step(worker):
                        break
                    busy = True
            while self.deferred:
                self.run_deferred()
                busy = True
            busy |= self.serve()
            self.check()
            if self.over or (not busy and self._sleeps_until == float("inf")) or self.now > until:
                return
            if not busy:
                self.now = max(self.now, self._sleeps_until) + 1e-6
        raise AssertionError("it goes on for ever")

    def check_nothing_waits_for_another(self) -> None:
        """Look whether a task waits for a longer one, some time after everything has settled."""
        dispatcher = self.dispatcher
        for _ in range(3):  # what has come due at the last moment
            self.serve()
        if dispatcher._killed is None and dispatcher._broken is None:
            for each in self.workers:
                patient = self.now < each.heard + PATIENCE
                assert patient or len(each.tasks) < 2, "a task waits behind one that hangs"
            if dispatcher._queue and not dispatcher._retry_at > self.now:
                active = [each for each in self.workers if each.state != LEAVING]
                starting = any(each.state == STARTING for each in active)  # it has come due only now
                assert starting or len(active) == dispatcher.max_workers, "a task waits, and there is room for a worker"
