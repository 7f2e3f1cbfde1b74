"""The local engine around the real dispatcher, with fake workers and a fake clock.

It serves as ``LocalEngine`` does, and no more often: when it was woken, when a worker
has said something or ended, when the time has come that ``tick`` gave. What each task
goes through is kept in its ``Record``, which complains at once of what must not happen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import Any

from safemp import worker as real_worker
from safemp.codec import calls
from safemp.codec.frames import Frames
from safemp.engines import Function, Outcome, Task, Tasks, child, dispatch
from safemp.engines.crash import (
    InitializerError,
    MemoryLimitExceeded,
    TaskKilled,
    TaskTimeout,
    WorkerCrashed,
    not_run,
)
from safemp.engines.dispatch import Dispatcher
from safemp.engines.ledger import unpack_results
from safemp.engines.process import LEAVING
from safemp.engines.retry import _POISON
from safemp.engines.settings import Limits
from safemp.errors import SafempError
from tests.support.fake_worker import FakeWorker

__all__ = ["ERROR", "HANG", "LARGE", "MEDIUM", "VALUE", "FakeEngine", "Record"]

VALUE, MEDIUM, LARGE, ERROR, HANG = "value", "medium", "large", "error", "hang"
"""What becomes of a run; the first three are values of that size."""

_SIZES = {VALUE: 0, MEDIUM: 25_000, LARGE: 70_000}


def _raises() -> None:
    raise ValueError("of the task")


_FAILED = real_worker.run(calls.encode_call(_raises, (), {}))
_NOT_LOADED: Frames = [b"\0\0\0\x13", b""]


@dataclass(eq=False)
class Record:
    """One submitted task: what is wanted of it, and what has become of it.

    Attributes:
        engine: Where it was submitted.
        number: Counts submissions.
        count: Its items.
        call: Whether it is a call, not a chunk.
        limits: As of ``Task``.
        plan: What becomes of its runs, in turn.
        loads: For each time that it is loaded whether it does; then it does.
        mends: For each time that it is to be encoded again what comes of it: a task,
            an outcome, an error.
    """

    engine: FakeEngine
    number: int
    count: int
    call: bool
    limits: Limits | None
    plan: list[str]
    loads: list[bool] = field(default_factory=list)
    mends: list[str] = field(default_factory=list)
    outcomes: dict[int, Any] = field(default_factory=dict)
    runs: dict[int, list[Frames | None]] = field(default_factory=dict)
    kept: dict[int, Frames] = field(default_factory=dict)
    failures: dict[int, list[tuple[str, float]]] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)
    cancelled: bool = False
    begun: bool = False
    mended: bool = False
    ended: bool = False
    job: Task | None = None

    def owed(self) -> set[int]:
        """Return the items that have had no outcome and are to have one."""
        return set(range(self.count)) - set(self.outcomes)

    def goes_straight(self) -> bool:
        """Tell whether it is neither encoded nor tried again."""
        return not self.mended and (self.limits is None or not self.limits.retries)

    def retriable(self, item: int) -> bool:
        """Tell whether the last failure of *item* is one to try again after, tries being left."""
        limits, failures = self.limits, self.failures.get(item, [])
        if limits is None or self.ended or len(failures) > limits.retries:
            return False
        if sum(kind != "error" for kind, _ in failures) >= _POISON:
            return False
        kinds = {"error": ValueError, "timeout": TaskTimeout, "memory": MemoryLimitExceeded}
        return issubclass(kinds.get(failures[-1][0], WorkerCrashed), limits.retry_on)

    # -- what the worker says -----------------------------------------------------------

    def load(self, first: int) -> Frames | None:
        return None if not self.loads or self.loads.pop(0) else _NOT_LOADED

    def begin(self, item: int, worker: FakeWorker) -> None:
        runs = self.runs.setdefault(item, [])
        assert item not in self.outcomes, f"{self.number}[{item}] runs though it has had an outcome"
        assert self.begun, f"{self.number} runs, and nobody has asked it"
        if runs:
            assert len(runs) <= len(self.failures.get(item, [])), f"{self.number}[{item}] runs twice"
            assert self.retriable(item), f"{self.number}[{item}] runs again after {self.failures[item]}"
            assert item not in self.kept, f"{self.number}[{item}] runs again though it had finished"
        else:
            self.engine.order.append((self.number, item))
        runs.append(None)

    def end(self, item: int) -> Frames | None:
        runs = self.runs[item]
        kind = self.plan[(item + len(runs) - 1) % len(self.plan)]
        if kind == HANG and not self._let_go():
            return None
        text = b"%d[%d]: %d" % (self.number, item, len(runs))
        runs[-1] = _FAILED if kind == ERROR else [b"\0\0\0\x10", text.ljust(_SIZES.get(kind, 0))]
        return runs[-1]

    def _let_go(self) -> bool:
        """Tell whether what hangs goes on by itself now, since nobody has said that it must end."""
        limited = self.limits is not None and self.limits.task_timeout is not None
        return self.engine.draining and not limited and not self.ended

    def safe(self, item: int) -> None:
        if self.runs.get(item):
            outcome = self.runs[item][-1]
            assert outcome is not None
            if outcome is _FAILED:
                self.failures.setdefault(item, []).append(("error", 0.0))
                if self.retriable(item):
                    return
            self.kept[item] = outcome

    def died(self, item: int, worker: FakeWorker, elapsed: float) -> None:
        failures = self.failures.setdefault(item, [])
        if worker.why == "verdict":
            assert worker.verdict is not None
            kind = {TaskTimeout: "timeout", MemoryLimitExceeded: "memory"}.get(worker.verdict.error, "kill")
            failures.append((kind, elapsed))
        elif not worker.many:
            failures.append(("crash", elapsed))

    def measured(self, item: int, used: int) -> None:
        if self.limits is not None and self.limits.max_memory is not None and used > self.limits.max_memory:
            self.over.add(item)

    # -- what the dispatcher says -----------------------------------------------------------

    def take(self, item: int, outcome: Any) -> None:
        """Judge an outcome."""
        engine = self.engine
        assert item in range(self.count)
        assert item not in self.outcomes, f"{self.number}[{item}] has {self.outcomes[item]!r}, now {outcome!r}"
        assert not self.cancelled or self.begun or outcome == "dropped" or engine.cancelled, "it was cancelled"
        self.outcomes[item] = outcome
        failures = self.failures.get(item, [])
        where = f"{self.number}[{item}], {failures}: {outcome!r}"
        ended = engine.killed or engine.broken or engine.dispatcher._broken is not None
        if isinstance(outcome, list):
            if self.runs.get(item):
                assert outcome == self.runs[item][-1], where
                if outcome == _FAILED and not ended and not engine.was_threadless:
                    assert not self.retriable(item), where
            else:
                assert self.mended, where
        elif isinstance(outcome, TaskKilled):
            assert self.ended, where
        elif isinstance(outcome, TaskTimeout):
            assert failures, where
            assert failures[-1][0] == "timeout", where
            assert self.limits is not None, where
            assert self.limits.task_timeout is not None, where
            assert failures[-1][1] >= self.limits.task_timeout - 1e-6, where
            assert ended or not self.retriable(item), where
        elif isinstance(outcome, MemoryLimitExceeded):
            assert failures, where
            assert failures[-1][0] == "memory", where
            assert item in self.over, where
            assert ended or not self.retriable(item), where
        elif isinstance(outcome, WorkerCrashed):
            text = str(outcome)
            if ended or (engine.cancelled and "was not run: the pool" in text):
                return
            if "cannot start a worker" in text:
                assert engine.was_unable, where
            elif "was not run: it was to be pickled again" in text:
                assert engine.was_threadless, where
            else:
                assert not self.ended, where
                assert failures, where
                assert failures[-1][0] == "crash", where
                assert not self.retriable(item), where
        elif isinstance(outcome, (InitializerError, SafempError)):
            assert ended, where
        elif isinstance(outcome, CancelledError):
            assert engine.cancelled, where
        else:
            assert outcome == "dropped" or (self.mended and isinstance(outcome, ZeroDivisionError)), where


class _Job(Task):
    """What a front end derives: ``CallTask`` and ``_ChunkTask`` in one."""

    record: Record

    def __init__(self, record: Record, offset: int, count: int, function: Function | None, size: int) -> None:
        frames: Frames = [b"%d %d" % (record.number, offset), bytes(size)]
        super().__init__(frames, f"job{record.number}", function, count, offset, record.limits)
        self.record = record

    def begin(self) -> bool:
        record = self.record
        if record.cancelled and not (record.call and record.begun):
            for item in range(self.first + self.done, self.first + self.count):
                record.take(item, "dropped")
            return False
        record.begun = True
        record.job = self
        return True

    def part(self, index: int) -> Task:
        if not self.record.call:
            return super().part(index)
        self.done = 0
        return self

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        record = self.record
        assert outcomes
        assert not record.engine.dispatcher.lock.locked(), "delivered with the lock held"
        for index, outcome in enumerate(outcomes, first):
            record.take(self.first + index, outcome)
        record.engine.called_back()

    def abort(self) -> None:
        assert not self.record.engine.dispatcher.lock.locked(), "aborted with the lock held"
        if self.record.call and not self.record.begun:
            self.record.cancelled = True
            self.record.take(0, "dropped")
        elif self.record.call:
            self.deliver_same(not_run(self.name))
        else:
            self.deliver_same(CancelledError())

    def mend(self, outcome: Frames | None) -> Tasks | Outcome:
        record = self.record
        assert not record.engine.dispatcher.lock.locked(), "mended with the lock held"
        record.mended = True
        function = self.function and record.engine.function(-1)
        first, size = self.first + self.done, len(self.frames[1])
        if outcome is None:
            items = range(first, self.first + self.count)
            return Tasks([_Job(record, item, 1, function, size) for item in items])
        what = record.mends.pop(0) if record.mends else "task"
        if what == "raise":
            raise ZeroDivisionError
        if what == "outcome":
            return _FAILED
        return Tasks([_Job(record, first, self.count - self.done, function, size)])


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
        self.unable = 0  # starts that fail, from now on
        self.was_unable = False
        self.threadless = 0  # threads that do not start, from now on
        self.was_threadless = False
        self.bad_start = 0  # workers whose initializer fails
        self.workers: list[FakeWorker] = []
        self.over = False
        self._max_tasks = max_tasks
        self._functions: dict[int, Function] = {}
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
        )

    def chance(self) -> int:
        """Return what a race comes to; 0 when nothing is said about it."""
        return self.chances.popleft() if self.chances else 0

    # -- what users do -----------------------------------------------------------------------

    def function(self, key: int) -> Function:
        """Return the function of that key, the same each time."""
        if key not in self._functions:
            self._functions[key] = Function([b"function"])
        return self._functions[key]

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
        job = _Job(record, 0, count or 1, self.function(key) if count else None, size)
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
        finished = not record.owed() or bool(record.runs.get(0) and record.runs[0][-1])
        assert found or finished, "it has not finished, and will not be ended"
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
        assert self.dispatcher.lock.locked()
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
        with self.dispatcher.lock:
            short = self.dispatcher.short()
        if short:
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
            self.was_unable = True
            self.dispatcher.unable(OSError("no process is to be had"))
            return
        broken = _FAILED if self.bad_start else None
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
        if worker.outbox and not worker.closed and worker.outbox.flush():
            worker.watched = False
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
        self.dispatcher.ended(worker, worker.exitcode)
        worker.ledger.close()

    # -- what always holds -------------------------------------------------------------------

    def check(self) -> None:
        """Look at everything from outside, between two events."""
        dispatcher = self.dispatcher
        assert not dispatcher.lock.locked()
        assert len([each for each in dispatcher.workers.values() if each.state != LEAVING]) <= dispatcher.max_workers
        assert not (dispatcher._idle and dispatcher._queue), "a task waits, and so does a worker"
        places: list[Any] = [*dispatcher._queue, *dispatcher._later, *dispatcher._mending]
        for worker in dispatcher.workers.values():
            places.extend(worker.tasks)
            assert (worker in dispatcher._idle) == (worker.state == dispatch.IDLE)
            assert (worker in dispatcher._busy) == (worker.state == dispatch.BUSY)
            assert bool(worker.tasks) == (worker.state == dispatch.BUSY)
        owed = sorted((job.record.number, job.first + i) for job in places for i in range(job.done, job.count))
        assert owed == sorted((record.number, item) for record in self.records for item in record.owed())

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
        if dispatcher._killed is None and dispatcher._broken is None:
            assert all(len(each.tasks) < 2 for each in self.workers), "a task waits behind one that hangs"
            if dispatcher._queue and not dispatcher._retry_at > self.now:
                active = [each for each in self.workers if each.state != LEAVING]
                assert len(active) == dispatcher.max_workers, "a task waits, and there is room for a worker"
