"""A task and what it goes through: its record complains at once of what must not happen.

A ``Record`` is what the fake worker asks what becomes of each run, and to which the
dispatcher delivers. So it sees both sides, and knows which outcomes an item may have.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from safemp import worker as real_worker
from safemp.codec import calls
from safemp.codec.frames import Frames
from safemp.engines import Outcome, Shared, Task, Tasks
from safemp.engines.crash import (
    InitializerError,
    MemoryLimitExceeded,
    TaskKilled,
    TaskTimeout,
    WorkerCrashed,
    not_run,
)
from safemp.engines.retry import _POISON
from safemp.engines.settings import Limits
from safemp.errors import SafempError
from tests.support.fake_worker import FakeWorker

if TYPE_CHECKING:
    from tests.support.fake_engine import FakeEngine

__all__ = ["ERROR", "FAILED", "HANG", "LARGE", "MEDIUM", "VALUE", "Job", "Record"]

VALUE, MEDIUM, LARGE, ERROR, HANG = "value", "medium", "large", "error", "hang"
"""What becomes of a run; the first three are values of that size."""

_SIZES = {VALUE: 0, MEDIUM: 25_000, LARGE: 70_000}


def _raises() -> None:
    raise ValueError("of the task")


FAILED = real_worker.run(calls.encode_call(_raises, (), {}))
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
        runs[-1] = FAILED if kind == ERROR else [b"\0\0\0\x10", text.ljust(_SIZES.get(kind, 0))]
        return runs[-1]

    def _let_go(self) -> bool:
        """Tell whether what hangs goes on by itself now, since nobody has said that it must end."""
        limited = self.limits is not None and self.limits.task_timeout is not None
        return self.engine.draining and not limited and not self.ended

    def safe(self, item: int) -> None:
        if self.runs.get(item):
            outcome = self.runs[item][-1]
            assert outcome is not None
            if outcome is FAILED:
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
                if outcome == FAILED and not ended and not engine.was_threadless:
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
                assert engine.most_unable >= 5, where
            elif "was not run: it was to be pickled again" in text:
                assert engine.was_threadless, where
            elif "cannot keep workers" in text or "ended before they had begun it" in text:
                assert engine.unused >= 5, where
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


class Job(Task):
    """What a front end derives: ``CallTask`` and ``_ChunkTask`` in one."""

    record: Record

    def __init__(self, record: Record, offset: int, count: int, shared: Shared | None, size: int) -> None:
        frames: Frames = [b"%d %d" % (record.number, offset), bytes(size)]
        super().__init__(frames, f"job{record.number}", shared, count, offset, record.limits)
        self.record = record
        self.divisible = not record.call and record.number % 4 > 0

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
        assert not record.engine.dispatcher.lock._is_owned(), "delivered with the lock held"
        for index, outcome in enumerate(outcomes, first):
            record.take(self.first + index, outcome)
        record.engine.called_back()

    def abort(self) -> None:
        assert not self.record.engine.dispatcher.lock._is_owned(), "aborted with the lock held"
        if self.record.call and not self.record.begun:
            self.record.cancelled = True
            self.record.take(0, "dropped")
        elif self.record.call:
            self.deliver_same(not_run(self.name))
        else:
            self.deliver_same(CancelledError())

    def mend(self, outcome: Frames | None) -> Tasks | Outcome:
        record = self.record
        assert not record.engine.dispatcher.lock._is_owned(), "mended with the lock held"
        record.mended = True
        function = record.engine.shared(record.call, 0 if record.call else -1)
        first, size = self.first + self.done, len(self.frames[1])
        if outcome is None:
            items = range(first, self.first + self.count)
            return Tasks([Job(record, item, 1, function, size) for item in items])
        what = record.mends.pop(0) if record.mends else "task"
        if what == "raise":
            raise ZeroDivisionError
        if what == "outcome":
            return FAILED
        if record.call:
            return Tasks([self])
        return Tasks([Job(record, first, self.count - self.done, function, size)])
