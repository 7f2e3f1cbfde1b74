"""The rules of the local engine: which task goes to which worker, and what becomes of it.

No thread, no socket, no process and no clock of its own: ``local`` brings these, tests
bring others. What happens comes in as calls (``submit``, ``joined``, ``results``,
``ended``, ``tick``), what is to happen goes out through the workers' methods, ``wake``
and ``defer``.

A task is in exactly one place: queued, waiting to be tried again, on one worker, being
mended, or done. Each of its items has exactly one outcome. What had not begun when a
worker died is moved; the item that had begun fails.

All state is guarded by ``lock``; outcomes are delivered outside it.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from safemp.codec.frames import Frames
from safemp.engines import Outcome, Task, Tasks, Values, child, failed, system
from safemp.engines.ahead import BUNDLE, PATIENCE, Pace, choose
from safemp.engines.crash import (
    FORKED,
    Report,
    TaskKilled,
    WorkerCrashed,
    again,
    ended_in_vain,
    how_it_ended,
    initializer_failed,
    never_begun,
    no_worker,
    not_run,
)
from safemp.engines.deliveries import Deliveries, show_error
from safemp.engines.ledger import IDLE as NOTHING
from safemp.engines.ledger import LOADING, Progress, Result
from safemp.engines.process import BUSY, IDLE, LEAVING, STARTING, Worker
from safemp.engines.retry import Later, is_poison, may_retry, wants_decoding
from safemp.engines.stats import Counts, Stats
from safemp.engines.timeline import Recorder
from safemp.engines.verdict import ASKED, KILLED, STOPPED, Verdict, look
from safemp.engines.wire import Message
from safemp.errors import SafempError
from safemp.steady import SteadyLock

__all__ = ["Dispatcher"]

_MAX_IN_VAIN = 5
"""Workers that end without having begun a task, and no task finishing meanwhile, after
which nobody is kept waiting: something ends them all. And those that end before they
have begun one and the same task: its message ends them."""

_GRACE = 10.0
"""Seconds that a worker which was told to leave may take for its exit handlers."""

_MAX_UNABLE = 5
"""Workers in a row that could not be started, after which nobody is kept waiting: the fault stays."""

_RETRY_START = 1.0
"""Seconds after which the next worker is tried then; sooner the fewer have failed."""

_TERM_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL."""

_STACK_LOOK = 0.02
"""Seconds between looks at whether a worker has written its stack down."""

_STACK_GRACE = 1.0
"""Seconds that it gets for that at most, before it is stopped."""

_STOP_GRACE = 0.002
"""Seconds after which a stopped process has stopped on every processor."""


class Dispatcher:
    """Decides. Safe to call from any thread, except where it says: the serving thread.

    Args:
        max_workers: The most workers at a time.
        eager: Ask for all workers at once, not as tasks arrive.
        initializes: Workers have an initializer to run first.
        idle_timeout: Seconds without work after which a worker is dismissed.
        clock: Gives the time, in seconds.
        wake: Has the serving thread call ``tick`` soon.
        defer: Has a function called in another thread, since it runs user code.
        trace: Write down when each thing happens.
    """

    def __init__(
        self,
        max_workers: int,
        *,
        eager: bool,
        initializes: bool,
        idle_timeout: float | None,
        clock: Callable[[], float],
        wake: Callable[[], None],
        defer: Callable[[Callable[[], None]], None],
        trace: bool = False,
    ) -> None:
        self.max_workers = max_workers
        self.workers: dict[int, Worker] = {}
        self.lock: SteadyLock = SteadyLock()
        self.grown: threading.Condition = threading.Condition(self.lock)  # type: ignore[arg-type]
        self._eager = eager
        self._initializes = initializes
        self._idle_timeout = idle_timeout
        self._clock = clock
        self._wake = wake
        self._defer = defer
        self._pid = os.getpid()
        self._ids = count(1)
        self._queue: deque[Task] = deque()
        self._later = Later()
        self._idle: list[Worker] = []
        self._busy: deque[Worker] = deque()
        self._stacked: dict[Worker, None] = {}  # those with more than one task; a set in order
        self._used: set[Worker] = set()  # those that have finished one
        self._due: dict[Worker, None] = {}  # those with a deadline
        self._divisible: dict[Worker, None] = {}  # those that have a task which is
        self._pace = Pace()
        self._mending: set[Task] = set()
        self._delivering = 0  # threads of ``defer`` that have outcomes to hand over
        self._doomed: set[Task] = set()  # those to be ended that are on a worker or being mended
        self._starting = 0
        self._leaving = 0
        self._in_vain = 0
        self._unable = 0
        self._retry_at = 0.0
        self._closing = False
        self._broken: BaseException | None = None
        self._killed: int | None = None
        self._asleep_until = 0.0
        self._counts = Counts(clock())
        self._recorder = Recorder(self._counts.made) if trace else None

    # -- from front ends --------------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Take a task: see ``Engine``."""
        with self.lock:
            if self._closing or self._pid != os.getpid():
                self._refuse()
            queue = self._queue
            counts = self._counts
            counts.encoding += task.encoding
            counts.repairs += task.repairs
            if self._recorder is not None:
                self._recorder.submitted(task, len(queue))
            task.encoding = 0.0  # it has been counted; a number of its own takes memory
            if self._idle and not queue and (task.limits is None or task.limits.max_memory is None):
                if task.begin():
                    self._assign(self._idle.pop(), [task])
                return
            queue.append(task)
            if self._idle:
                self._feed_idle()
            elif len(self.workers) - self._leaving < self.max_workers:
                self._wake()
            elif not len(queue) % BUNDLE and self._busy:
                self._busy.rotate(-1)
                self._top_up(self._busy[0])

    def _refuse(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(FORKED)
        if self._broken is not None:
            raise again(self._broken)
        raise RuntimeError("cannot schedule new futures after shutdown")

    def close(self, *, cancel: bool = False) -> None:
        """Take no more tasks: see ``Engine``."""
        aborted: list[Task] = []
        with self.lock:
            self._closing = True
            if cancel:
                aborted = self._drop_queued()
            self._wake()
        for task in aborted:
            try:
                task.abort()
            except BaseException:  # out of a callback
                show_error()

    def kill(self, number: int) -> None:
        """End now: see ``Engine``."""
        with self.lock:
            self._killed = number
            if number == system.KILL:
                self._kill_all()
            else:
                for worker in self.workers.values():
                    if worker.state != IDLE:
                        self._end(worker, number)
                self._dismiss_idle(_TERM_GRACE)  # nothing to interrupt, so they may put away what they have
        self.close(cancel=True)

    def end_task(self, task: Task) -> bool:
        """End *task* wherever it is: see ``Engine``."""
        deliveries = Deliveries()
        with self.lock:
            found = self._end_task(task, deliveries)
        deliveries.hand_over()
        return found

    def _end_task(self, task: Task, deliveries: Deliveries) -> bool:
        if task in self._mending:
            self._doomed.add(task)
            return True
        worker = next((each for each in self.workers.values() if task in each.tasks), None)
        if worker is not None:
            if worker.ledger.progress().task != task.id:
                self._recall(worker, deliveries)
            if task in worker.tasks:  # it has begun, or cannot be taken back
                progress = worker.ledger.progress()
                last = progress.task == task.id and progress.item == task.count - 1
                if progress.task > task.id or (last and progress.state == NOTHING):
                    return False  # it has finished; the outcome is on its way
                self._doomed.add(task)
                self._watch(worker)
                return True
        if task in self._queue:
            self._queue.remove(task)
        elif not self._later.remove(task):
            return False
        deliveries.settle(task, _ended(task))
        return True

    def staff(self) -> list[Worker]:
        """Return the workers; not those that leave while others take their place."""
        with self.lock:
            return [worker for worker in self.workers.values() if self._closing or worker.state != LEAVING]

    # -- with the lock held: handing out work -----------------------------------------

    def _assign(self, worker: Worker, tasks: list[Task]) -> None:
        """Send *tasks*, which have begun, to *worker*; all but the first of an idle one ahead."""
        now = self._clock()
        if worker.state != BUSY:
            worker.state = BUSY
            worker.heard = now
            self._busy.append(worker)
            if self._recorder is not None:
                self._recorder.given(worker.pid, len(self._queue), now)
        counts = self._counts
        messages: list[Message] = []
        guarded = brings = False
        for task in tasks:
            task.id = next(self._ids)
            if task.divisible:
                self._divisible[worker] = None
            counts.bytes_sent += sum(map(len, task.frames))
            if task.made:
                counts.queued += now - task.made
            ahead = bool(worker.tasks)
            worker.tasks.append(task)
            shared = task.shared
            if shared is None:
                messages.append(Message(child.CALL, 0, 0, task.id, task.frames, 1, ahead))
            elif shared.number in worker.shared:
                kind = child.CHUNK if task.is_chunk else child.CALL
                messages.append(Message(kind, task.done, shared.number, task.id, task.frames, task.count, ahead))
            else:  # in one message with the first task, so that none goes without the other
                worker.shared[shared.number] = shared.size
                counts.bytes_sent += shared.size
                brings = True
                kind = child.CHUNK_AND_SHARED if task.is_chunk else child.CALL_AND_SHARED
                frames = [*task.frames, *shared.frames]
                messages.append(Message(kind, task.done, shared.number, task.id, frames, task.count))
            limits = task.limits
            if limits is not None and (limits.task_timeout is not None or limits.max_memory is not None):
                guarded = True
        if brings:
            messages += worker.forget()
        worker.send(messages)
        if len(worker.tasks) > 1:
            if not self._stacked:
                self._wake()  # the serving thread may be asleep with no end in sight
            self._stacked[worker] = None
        if guarded:
            self._watch(worker)
        if worker.outbox:
            self._wake()

    def _top_up(self, worker: Worker) -> None:
        """Write short tasks ahead to *worker*, so that it need not wait for us between two.

        It can be told from waiting by nobody: what does not begin soon is taken back.
        """
        queue = self._queue
        if not worker.tasks and self._has_kept_too_much(worker, queue[0]):
            self._dismiss(worker)
            self._wake()
            return
        room = self._pace.room(worker, len(queue), len(self.workers))
        if room > 0 and (tasks := choose(worker, queue, room)):
            self._assign(worker, tasks)

    def _has_kept_too_much(self, worker: Worker, task: Task) -> bool:
        """Tell whether *worker* has more memory than *task* may, from the tasks before it."""
        limits = task.limits
        if limits is None or limits.max_memory is None or worker not in self._used:
            return False
        return worker.memory() > limits.max_memory

    def _next(self, worker: Worker) -> None:
        """Find something to do for *worker*, which has finished a task or is new."""
        if worker.state == LEAVING:
            return
        if worker.tasks:
            if self._queue:
                self._top_up(worker)
            return
        if worker.state == BUSY:
            self._busy.remove(worker)
            self._divisible.pop(worker, None)
            worker.state = IDLE
            worker.heard = self._clock()
        if worker.tasks_left is not None and worker.tasks_left <= 0:
            self._dismiss(worker)
            return
        worker.state = IDLE
        while self._queue and worker.state == IDLE:
            self._top_up(worker)
        if worker.state == IDLE:
            self._idle.append(worker)
            if self._divisible:
                self._ask()
            if worker.verdict is None:
                self._watch_idle(worker)

    def _ask(self) -> None:
        """Ask those that have many items for some, since a worker has nothing to do."""
        for worker in self._divisible:
            task = worker.tasks[0]
            if task.divisible and task.count - task.done > 1 and worker.tasks_left is None:
                worker.ledger.ask(task.id)

    def _feed_idle(self) -> None:
        while self._idle and self._queue:
            self._next(self._idle.pop())

    def _recall(self, worker: Worker, deliveries: Deliveries) -> None:
        """Take back what was written ahead to *worker*, which is at a long task, and what it holds."""
        self._pace.was_wrong()
        self._stacked.pop(worker, None)
        ids = worker.recall()
        self._take(worker, worker.ledger.held(), deliveries)
        back = [task for task in worker.tasks if task.id in ids]
        if back:
            worker.tasks = deque(task for task in worker.tasks if task.id not in ids)
            for task in reversed(back):
                self._requeue(task, deliveries)
            self._feed_idle()
        if len(worker.tasks) > 1:  # answers that are on their way came before those it holds
            worker.heard = self._clock()
            self._stacked[worker] = None
        elif not worker.tasks and worker.state == BUSY:
            self._next(worker)

    def _dismiss_idle(self, grace: float) -> None:
        for worker in self._idle:
            self._dismiss(worker, grace)
        self._idle.clear()

    def _dismiss(self, worker: Worker, grace: float = _GRACE) -> None:
        worker.state = LEAVING
        self._leaving += 1
        if worker.verdict is not None:
            worker.verdict = None
            worker.signal(system.CONTINUE)  # it may have been stopped
        self._at(worker, self._clock() + grace)
        worker.send([Message(child.EXIT, 0, 0, 0, [])])

    # -- with the lock held: time -----------------------------------------------------

    def _at(self, worker: Worker, when: float) -> None:
        """Have something done about *worker* at that time: see ``_due_now``."""
        worker.deadline = when
        self._due[worker] = None

    def _watch_idle(self, worker: Worker) -> None:
        """Set the time at which *worker*, which is idle, has been so for long enough."""
        if self._idle_timeout is not None:
            self._at(worker, worker.heard + self._idle_timeout)

    def _kill_all(self) -> None:
        """Kill all workers, and what they have started."""
        for worker in self.workers.values():
            worker.signal(system.STOP)  # or it could start another process meanwhile
        children = system.children()
        for worker in self.workers.values():
            worker.kill_tree(children)

    def _end(self, worker: Worker, number: int) -> None:
        worker.signal(number)
        if number != system.KILL:
            self._at(worker, self._clock() + _TERM_GRACE)

    def _watch(self, worker: Worker) -> None:
        """Set the time at which the limits of what *worker* does are to be looked at."""
        if worker.verdict is not None:  # then
            return
        when = self._look(worker, self._clock())
        if when is not None and (not worker.deadline or when < worker.deadline):
            self._at(worker, when)
            if when < self._asleep_until:
                self._wake()

    def _look(self, worker: Worker, now: float) -> float | None:
        """Compare what *worker* does with its limits.

        Returns:
            When to look again; ``None``: it has none, or is being ended.
        """
        found = look(worker, now, self._doomed)
        if isinstance(found, Verdict):
            self._condemn(worker, found)
            return None
        return found

    def _condemn(self, worker: Worker, verdict: Verdict) -> None:
        """End *worker* because of what it is at: see ``Verdict``."""
        if worker.verdict is not None or worker.state == LEAVING:
            return
        worker.verdict = verdict
        worker.ask_for_stack()
        now = self._clock()
        verdict.until = now + _STACK_GRACE
        self._at(worker, now + _STACK_LOOK)
        self._wake()

    def _due_now(self, worker: Worker, now: float, deliveries: Deliveries) -> None:
        """Do what is to be done about *worker* by now."""
        worker.deadline = 0.0
        verdict = worker.verdict
        if self._killed is not None or worker.state == LEAVING or worker.deaf:
            self._at(worker, now + _GRACE)
            worker.signal(system.KILL)
        elif verdict is not None:
            if verdict.step == ASKED and now < verdict.until and worker.ask_for_stack():
                self._at(worker, now + _STACK_LOOK)
            elif verdict.step == ASKED:
                self._recall(worker, deliveries)
                verdict.step = STOPPED
                worker.signal(system.STOP)
                self._at(worker, now + _STOP_GRACE)
            elif verdict.step == KILLED or verdict.fits(worker.ledger.progress()):
                verdict.step = KILLED
                worker.kill_tree(system.children())
                self._at(worker, now + _GRACE)
            else:
                worker.verdict = None
                worker.signal(system.CONTINUE)
                self._due.pop(worker, None)
                if worker.state == IDLE:
                    self._watch_idle(worker)
                self._watch(worker)
        elif worker.state == IDLE:
            if self._idle_timeout is not None and worker.heard + self._idle_timeout <= now:
                self._idle.remove(worker)
                self._due.pop(worker, None)
                self._eager = False  # or its successor would be started at once
                self._dismiss(worker)
            else:
                self._due.pop(worker, None)
                self._watch_idle(worker)
        else:
            when = self._look(worker, now)
            if when is not None:
                self._at(worker, when)
            elif not worker.deadline:
                self._due.pop(worker, None)

    # -- from the serving thread ------------------------------------------------------

    def tick(self) -> float | None:
        """Do what is due by now.

        Returns:
            Seconds until something will be; ``None``: until something happens.
        """
        deliveries = Deliveries()
        waits: list[float] = []
        with self.lock:
            if self._is_calm():
                self.grown.notify_all()
                self._asleep_until = float("inf")
                return None
            now = self._clock()
            while (task := self._later.due(now)) is not None:
                self._requeue(task, deliveries)
            self._feed_idle()
            if self._later:
                waits.append(self._later.when - now)
            if self._killed is None and self._broken is None:
                for worker in list(self._stacked):
                    left = worker.heard + PATIENCE - now
                    if left <= 0:
                        self._recall(worker, deliveries)
                        left = PATIENCE
                    if worker in self._stacked:
                        waits.append(left)
            if self._closing and not self._has_more():
                self._dismiss_idle(_GRACE)
            for worker in list(self._due):
                if worker.deadline <= now:
                    self._due_now(worker, now, deliveries)
                if worker.deadline:
                    waits.append(worker.deadline - now)
            if self._retry_at > now:
                waits.append(self._retry_at - now)
            else:
                self._retry_at = 0.0
            if self.short():
                waits.append(0.0)
            else:
                self.grown.notify_all()
            wait = max(0.0, min(waits)) if waits else None
            self._asleep_until = float("inf") if wait is None else now + wait
        deliveries.hand_over()
        return wait

    def _is_calm(self) -> bool:
        """Tell whether nothing is due, now or later: as between two single calls, whose time this is of."""
        return not (
            self._queue
            or self._due
            or self._stacked
            or self._later
            or self._eager
            or self._closing
            or self._retry_at
            or self._killed is not None
        )

    def over(self) -> bool:
        """Tell whether there is nothing left to do, now and ever."""
        if not self._closing:
            return False
        with self.lock:
            return self._closing and not self.workers and not self._has_more()

    def _has_more(self) -> bool:
        """Tell whether there is a task that no worker has, or an outcome that is being delivered."""
        return bool(self._queue or self._mending or self._delivering or self._later)

    def wants_worker(self) -> bool:
        """Tell whether a worker should be started."""
        if not self._queue and not self._eager:
            return False
        with self.lock:
            return self.short()

    def short(self) -> bool:
        """Tell the same, with the lock held."""
        active = len(self.workers) - self._leaving
        if active >= self.max_workers or self._broken is not None or self._killed is not None:
            return False
        if self._retry_at and self._clock() < self._retry_at:
            return False
        return len(self._queue) > self._starting or (self._eager and not self._closing)

    def joined(self, worker: Worker) -> None:
        """Take a worker that has been started."""
        with self.lock:
            self.workers[worker.pid] = worker
            self._unable = 0
            worker.tally = self._counts.joined(worker.pid, self._clock())
            self._record(worker, "started")
            self._starting += 1
            if self._killed is not None:
                self._end(worker, self._killed)

    def unable(self, error: Exception) -> None:
        """Take notice that a worker could not be started.

        It may be no more than one process that the kernel has ended, for want of memory. So it
        is tried again, soon at first; what has not answered in time has had its time.
        """
        with self.lock:
            self._unable = _MAX_UNABLE if isinstance(error, TimeoutError) else min(self._unable + 1, _MAX_UNABLE)
            self._retry_at = self._clock() + _RETRY_START / 2 ** (_MAX_UNABLE - self._unable)
            stays = self._unable == _MAX_UNABLE
            lost = self._drop_queued() if stays and not self.workers else []  # nobody is left to do it
        _fail(lost, no_worker(error))

    def reads(self, worker: Worker) -> None:
        """Take notice that *worker* has made room for more of what waits to be written to it. With the lock held."""
        worker.heard = self._clock()

    def gone_deaf(self, worker: Worker) -> None:
        """Take notice that *worker* cannot answer any more. If it does not end, it is ended."""
        with self.lock:
            worker.deaf = True
            if not worker.deadline or worker.verdict is None:
                self._at(worker, self._clock() + _TERM_GRACE)

    def ready(self, worker: Worker) -> None:
        """Take notice that *worker* can take tasks."""
        with self.lock:
            self._starting -= 1
            self._record(worker, "ready")
            self._next(worker)

    def unusable(self, outcome: Frames) -> None:
        """Take notice that the initializer has failed."""
        error = initializer_failed(outcome)
        with self.lock:
            lost = self._break(error)
        _fail(lost, error)

    def results(self, worker: Worker, results: Sequence[Result], microseconds: int) -> None:
        """Take outcomes; the worker first gets its next task, then they are delivered."""
        deliveries = Deliveries()
        try:
            with self.lock:
                if self._take(worker, results, deliveries, microseconds):
                    if microseconds:
                        self._pace.took(1e-6 * microseconds)
                    self._next(worker)
        finally:
            deliveries.hand_over()

    def _take(self, worker: Worker, results: Sequence[Result], deliveries: Deliveries, microseconds: int = 0) -> int:
        """Match *results* with their tasks, which took so many *microseconds* each, if that is known.

        Returns:
            How many tasks have finished.
        """
        tasks = worker.tasks
        tally, recorder = worker.tally, self._recorder
        finished = 0
        for task_id, index, outcome in results:
            end = index + (len(outcome) if isinstance(outcome, Values) else 1)
            if not tasks or tasks[0].id != task_id or not index <= tasks[0].done < end:
                continue  # seen before, when it was held
            task = tasks[0]
            first, task.done = task.done, end
            tally.calls += end - first
            failure = None if isinstance(outcome, Values) or not failed(outcome) else outcome
            tally.failures += failure is not None
            if recorder is not None:
                recorder.come(task, first, end - first, failure)
            if isinstance(outcome, Values):
                deliveries.extend(task, first, outcome[first - index :])
            elif failure is not None and task.limits is not None and task.limits.retries:
                self._fail_item(task, index, outcome, deliveries)
            else:
                deliveries.add(task, index, outcome)
            if end == task.count:
                self._doomed.discard(task)
                finished += 1
                self._finished(worker)
        busy = 1e-6 * microseconds * finished
        tally.busy += busy
        if recorder is not None:
            recorder.took(worker.pid, busy, len(self._queue), self._clock())
        return finished

    def _finished(self, worker: Worker) -> None:
        """Take the first task off *worker*, which is through with it."""
        task = worker.tasks.popleft()
        worker.heard = self._clock()
        self._in_vain = 0
        if len(worker.tasks) < 2:
            self._stacked.pop(worker, None)
        self._used.add(worker)
        if worker.tasks_left is not None:
            worker.tasks_left -= 1
        if self._has_kept_too_much(worker, task):
            worker.tasks_left = 0
        if worker.tasks and (limits := worker.tasks[0].limits) is not None and limits is not task.limits:
            self._watch(worker)  # what it was written ahead behind may have had more time

    def given_back(self, worker: Worker, task_id: int, index: int) -> None:
        """Take notice that *worker* will not begin the items of a task from *index* on."""
        deliveries = Deliveries()
        with self.lock:
            task = worker.tasks[0]
            assert task.id == task_id, "a worker takes its tasks in order"
            self._requeue(task.cut(index), deliveries)
            self._feed_idle()
            if self._idle:
                self._ask()
        deliveries.hand_over()

    def not_loaded(self, worker: Worker, task_id: int, outcome: Frames) -> None:
        """Take notice that a task did not load: it is encoded again."""
        with self.lock:
            task = worker.tasks[0]
            assert task.id == task_id, "a worker takes its tasks in order"
            self._finished(worker)
            self._next(worker)
            self._mending.add(task)
        self._defer_or(lambda: self._mend(task, outcome), task)

    def ended(self, worker: Worker, exitcode: int | None) -> None:
        """Settle what a worker leaves that has ended, when all that it said has been taken."""
        deliveries = Deliveries()
        progress, held, report = worker.ledger.progress(), worker.ledger.held(), worker.report(exitcode)
        believed = worker.ledger.is_sound() and not worker.babbled
        lost: list[Task] = []
        initializing = False
        with self.lock:
            self._take(worker, held, deliveries)
            self._remove(worker)
            begun = self._take_begun(worker, progress, believed)
            if not begun and worker.tasks:
                self._count_move(worker, report, deliveries)
            for task in reversed(worker.tasks):
                self._requeue(task, deliveries)
            worker.tasks.clear()
            if not progress.task and not begun and worker.state != LEAVING:
                initializing = self._initializes and worker.state == STARTING
                lost = self._ended_in_vain()
            for task, last in reversed(begun):
                self._blame(worker, task, last, report, progress, deliveries)
            self._counts.ended(worker.tally, exitcode, self._clock())
            self._record(worker, f"ended: {how_it_ended(exitcode)}")
            self._feed_idle()
            self._wake()
        if lost:
            text = ended_in_vain(worker.pid, exitcode, _MAX_IN_VAIN, initializing)
            _fail(lost, WorkerCrashed.of(report, text))
        deliveries.hand_over()

    def _take_begun(self, worker: Worker, progress: Progress, believed: bool) -> list[tuple[Task, int]]:
        """Take off *worker*, which is dead, the tasks that it had begun.

        One that is not *believed* has spoken nonsense, or its ledger has been written over. What
        it may have done is not to be done again: so it counts as having begun all but what its
        tokens show that it has not.

        Returns:
            The tasks, each with the last item that had begun.
        """
        if not believed:
            left = worker.recall()
            begun = [task for task in worker.tasks if task.id not in left]
            worker.tasks = deque(task for task in worker.tasks if task.id in left)
        elif worker.tasks and worker.tasks[0].id == progress.task and worker.tasks[0].done <= progress.item:
            begun = [worker.tasks.popleft()]
        else:  # it was between two items, or had not begun
            begun = []
        found = []
        for task in begun:
            task.moves = 0
            last = task.done
            if not believed:  # outcomes before it may have been lost
                last = min(progress.item if task.id == progress.task else task.count, task.count - 1)
            found.append((task, max(last, task.done)))
        return found

    def _count_move(self, worker: Worker, report: Report, deliveries: Deliveries) -> None:
        """Count that *worker* has ended before it had begun the first task it has; fail that if it is one too many."""
        task = worker.tasks[0]
        task.moves += 1
        if task.moves >= _MAX_IN_VAIN and task not in self._doomed and self._killed is None and self._broken is None:
            worker.tasks.popleft()
            self._in_vain = 0  # it was this task, not something that ends them all
            text = never_begun(task.name, _MAX_IN_VAIN, report)
            deliveries.settle(task, WorkerCrashed.of(replace(report, call=task.name, tries=task.tries), text))

    def _ended_in_vain(self) -> list[Task]:
        """Count a worker that has ended without having begun any task.

        What ends them may pass: somebody kills, memory is short. So the pool goes on; but
        it starts no more of them than there are calls for, and the next one not at once.

        Returns:
            The tasks that nobody is left to do, for ``_fail``.
        """
        self._in_vain += 1
        if self._in_vain < _MAX_IN_VAIN or self._killed is not None:
            return []
        self._in_vain = 0
        self._eager = False
        self._retry_at = self._clock() + _RETRY_START
        able = any(each.state in (IDLE, BUSY) for each in self.workers.values())
        return [] if able else self._drop_queued()

    def _remove(self, worker: Worker) -> None:
        del self.workers[worker.pid]
        if worker.state == IDLE:
            self._idle.remove(worker)
        elif worker.state == BUSY:
            self._busy.remove(worker)
        elif worker.state == LEAVING:
            self._leaving -= 1
        else:
            self._starting -= 1
        self._due.pop(worker, None)
        self._divisible.pop(worker, None)
        self._stacked.pop(worker, None)
        self._used.discard(worker)

    def _blame(
        self, worker: Worker, task: Task, last: int, report: Report, progress: Progress, deliveries: Deliveries
    ) -> None:
        """Fail the item that a dead worker was at, *last*, and those before it without an outcome; move the others."""
        verdict = worker.verdict
        condemned = verdict is not None and verdict.step == KILLED and verdict.fits(progress)
        doomed = task in self._doomed
        if (
            not doomed
            and progress.state == LOADING
            and progress.task == task.id
            and task.count - task.done > 1
            and self._killed is None
            and not condemned
        ):
            self._mending.add(task)
            self._defer_or(lambda: self._mend(task, None), task, deliveries)
            return
        report = replace(report, call=task.name, tries=task.tries + 1, poison=is_poison(task))
        more = last + 1 < task.count
        for index in range(task.done, last + 1):
            item = task.first + index if task.is_chunk else None
            report = replace(report, item=item, arguments=task.describe(index))
            at = index == last and progress.task == task.id
            began = progress.began if at and progress.began else self._clock()
            if doomed:
                self._doomed.discard(task)
                killed = TaskKilled.of(report)
                self._count_crash(worker, task, index, killed, began)
                deliveries.settle(task, killed)
                return
            task.done = index + 1
            guilty = condemned and index == last
            error = verdict.error_for(report) if verdict is not None and guilty else WorkerCrashed.of(report)
            self._count_crash(worker, task, index, error, began)
            self._fail_item(task, index, error, deliveries)
        if more:
            self._requeue(task, deliveries)

    def _count_crash(self, worker: Worker, task: Task, index: int, error: Outcome, began: float) -> None:
        """Count a call that ended with its worker."""
        now = self._clock()
        worker.tally.calls += 1
        worker.tally.failures += 1
        worker.tally.busy += max(0.0, now - began)
        self._counts.crashes += 1
        if self._recorder is not None:
            self._recorder.come(task, index, 1, error)
            self._recorder.took(worker.pid, 0.0, len(self._queue), now)

    def _record(self, worker: Worker, what: str) -> None:
        if self._recorder is not None:
            self._recorder.worker(worker.pid, what, self._clock())

    def stats(self) -> Stats:
        """Say what has happened until now."""
        with self.lock:
            now = self._clock()
            doing = {}
            for worker in self.workers.values():
                progress = worker.ledger.progress()
                task = worker.tasks[0] if worker.tasks else None
                if task is not None and task.id == progress.task and progress.state != NOTHING:
                    item = f", items[{task.first + progress.item}]" if task.is_chunk else ""
                    doing[worker.pid] = task.name + item, max(0.0, now - progress.began)
            running = sum(len(worker.tasks) for worker in self.workers.values())
            waiting = len(self._queue) + len(self._later) + len(self._mending)
            timeline = self._recorder.timeline() if self._recorder is not None else None
            return self._counts.told(now, doing, waiting=waiting, running=running, timeline=timeline)

    # -- what goes wrong, with the lock held ------------------------------------------

    def _fail_item(self, task: Task, index: int, outcome: Outcome, deliveries: Deliveries) -> None:
        """Deliver a failure, or see to it that the item is tried again."""
        if self._killed is None and self._broken is None and task not in self._doomed:
            if wants_decoding(task, outcome):
                part = task.part(index)
                self._mending.add(part)
                self._defer_or(lambda: self._judge(part, outcome), part, deliveries, outcome)
                return
            if may_retry(task, outcome):
                self._try_again(task.part(index), outcome)
                return
        deliveries.add(task, index, outcome)

    def _try_again(self, part: Task, outcome: Outcome) -> None:
        self._counts.retries += 1
        self._later.add(part, outcome, self._clock())
        self._wake()

    def _requeue(self, task: Task, deliveries: Deliveries) -> None:
        """Put what is left of a task first in the queue. The caller feeds the idle, when all are there."""
        if task in self._doomed:
            self._doomed.discard(task)
            deliveries.settle(task, _ended(task))
        elif self._killed is None and self._broken is None:
            self._queue.appendleft(task)
            self._wake()
        else:
            deliveries.settle(task, task.last or not_run(task.name))

    def _drop_queued(self) -> list[Task]:
        dropped = [*self._queue, *self._later]
        self._queue.clear()
        self._later.clear()
        return dropped

    def _break(self, error: BaseException) -> list[Task]:
        """Stop taking tasks, for *error*.

        Returns:
            The tasks that were queued, for ``_fail``.
        """
        self._broken = error
        self._closing = True
        return self._drop_queued()

    def _defer_or(
        self,
        function: Callable[[], None],
        task: Task,
        deliveries: Deliveries | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        """Have *function* called; where there is no thread for that, *task* fails."""
        try:
            self._defer(function)
        except RuntimeError as error:  # the system has no thread left for us
            self._mending.discard(task)
            text = f"{task.name} was not run: it was to be pickled again, and {error}"
            made = deliveries or Deliveries()
            made.settle(task, outcome or WorkerCrashed(task.name, None, None, None, text))
            if deliveries is None:
                made.hand_over()

    # -- without the lock -------------------------------------------------------------

    def _mend(self, task: Task, outcome: Frames | None) -> None:
        """Have *task* encoded again. In a thread of its own, since that runs user code."""
        mended: Tasks | Outcome
        try:
            mended = task.context.copy().run(task.mend, outcome)  # so that what it makes has that, too
        except BaseException as error:  # user code, in __reduce__
            mended = error
        deliveries = Deliveries()
        with self.lock:
            self._mending.discard(task)
            if task in self._doomed:
                self._doomed.discard(task)
                mended = _ended(task)
            elif isinstance(mended, Tasks) and (self._killed is not None or self._broken is not None):
                mended = not_run(task.name)
            if isinstance(mended, Tasks):
                for each in mended.tasks:
                    each.tries, each.killed, each.last = task.tries, task.killed, task.last
                self._queue.extendleft(reversed(mended.tasks))
                self._feed_idle()
            else:
                deliveries.settle(task, mended)
            self._delivering += 1
        deliveries.hand_over()
        self._delivered()

    def _judge(self, part: Task, outcome: Outcome) -> None:
        """Find out whether a failure is one to try again after. In a thread of its own, as above."""
        wanted = may_retry(part, outcome, decode=True)
        deliveries = Deliveries()
        with self.lock:
            self._mending.discard(part)
            doomed = part in self._doomed
            self._doomed.discard(part)
            if wanted and not doomed and self._killed is None and self._broken is None:
                self._try_again(part, outcome)
            else:
                deliveries.settle(part, _ended(part) if wanted and doomed else outcome)
            self._delivering += 1
        deliveries.hand_over()
        self._delivered()

    def _delivered(self) -> None:
        """Say that what a thread of ``defer`` had to hand over is delivered: only now may the end come."""
        with self.lock:
            self._delivering -= 1
            self._wake()

    def collapse(self, error: BaseException) -> None:
        """End with a defect of our own: nobody may be left waiting."""
        broken = SafempError(f"the pool has failed, by a defect in safemp: {type(error).__name__}: {error}")
        broken.__cause__ = error
        with self.lock:
            left = self._break(broken)
            deliveries = Deliveries()
            for worker in self.workers.values():
                worker.signal(system.KILL)
                for task in worker.tasks:  # which has begun
                    deliveries.settle(task, again(broken))
        _fail(left, broken)
        deliveries.hand_over()


def _fail(lost: list[Task], error: BaseException) -> None:
    """Deliver *error* for tasks that were queued. Without the lock."""
    deliveries = Deliveries()
    for task in lost:
        if task.begin():  # it tells those that wait for a cancelled one, too
            deliveries.settle(task, again(error))
    deliveries.hand_over()


def _ended(task: Task) -> TaskKilled:
    return TaskKilled(task.name, None, None, None, f"{task.name} was ended before it ran")
