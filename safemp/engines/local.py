"""The local engine: worker processes on this machine, and one thread that serves them.

    submit ──(a worker is idle)──────────────▶ worker     the submitting thread writes
       └──(none is)──▶ queue ──▶ dispatcher ──▶ worker     packets, and bodies as there
                                     ▲             │       is room
                  deliver ◀──────────┴─────────────┘

Invariants:

1. Workers share nothing with each other: a connection and a ledger each, no common
   lock or queue. So a worker that dies in any instruction harms only its own task.
2. The caller's side writes only to a worker that waits to read, and never blocks on
   it. So no send can wait for a send, nor for a stopped worker.
3. The dispatcher never pickles or unpickles user objects and runs no user code
   (callbacks of futures excepted). ``mend`` runs in a thread of its own.
4. A task is in exactly one place: queued, on one worker, being mended, or done. Each
   of its items has exactly one outcome. What had not begun when a worker died is
   moved; the item that had begun fails.
5. When the caller dies, its workers are gone within a second (``system.die_with``).

All state is guarded by ``_lock``; outcomes are delivered outside it. Only the
dispatcher starts processes, reads, and removes workers: the kernel ends a worker when
the thread that started it ends, and that thread outlives every worker.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections import deque
from itertools import count
from typing import Any

from safemp.codec.frames import Frames, Kind, kind_of
from safemp.engines import Outcome, Task, Tasks, child, process, system, wire
from safemp.engines.crash import FORKED, WorkerCrashed, again, ended_in_vain, initializer_failed, no_worker, not_run
from safemp.engines.ledger import LOADING, Progress, unpack_outcomes
from safemp.engines.listener import Listener
from safemp.engines.process import BUSY, IDLE, LEAVING, Worker
from safemp.engines.settings import Settings
from safemp.engines.wire import Message
from safemp.errors import SafempError

__all__ = ["LocalEngine"]

_MAX_IN_VAIN = 5
"""Workers that end without having begun a task, and no task finishing meanwhile, after
which we stop trying: something ends them all."""

_GRACE = 10.0
"""Seconds that a worker which was told to leave may take for its exit handlers."""

_RETRY = 1.0
"""Seconds after which a worker that could not be started is tried again."""

_START_GRACE = 5.0
"""Seconds to wait for a worker to be started, when somebody looks for it."""

_TERM_GRACE = 1.0
"""Seconds between SIGTERM and SIGKILL."""

_AHEAD = 0.002
"""Seconds of work that may be written ahead to a busy worker."""

_MOST_AHEAD = 64
"""Tasks written ahead to one worker. Their packets fit its socket's buffer."""

_PATIENCE = 0.005
"""Seconds without an answer after which what was written ahead is taken back."""

_LONG = 0.05
"""The pace, in seconds a task, that we go on with after that."""


class LocalEngine:
    """Runs tasks in processes of this machine.

    Args:
        settings: How the processes are kept.
    """

    def __init__(self, settings: Settings) -> None:
        self.max_workers = settings.max_workers
        self.main_by_name = settings.main_by_name
        self.workers: dict[int, Worker] = {}
        self._settings = settings
        self._eager = settings.eager
        self._name = settings.name
        self._lock = threading.Lock()
        self._grown = threading.Condition(self._lock)
        self._queue: deque[Task] = deque()
        self._idle: list[Worker] = []
        self._busy: deque[Worker] = deque()
        self._stacked: set[Worker] = set()  # those with tasks written ahead
        self._pace = _LONG
        self._by_fd: dict[int, Worker] = {}
        self._ids = count(1)
        self._numbers = count(1)
        self._mending = 0
        self._starting = 0
        self._leaving = 0
        self._limited: set[Worker] = set()
        self._in_vain = 0
        self._retry_at = 0.0
        self._closing = False
        self._broken: BaseException | None = None
        self._killed: int | None = None
        self._pid = os.getpid()
        self._listener = Listener(settings.forward_logging, settings.capture_output, settings.name)
        self._poller = system.Poller()
        self._wake_r, self._wake_w = wire.streams()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._poller.add(self._wake_r.fileno())
        self._awake = False
        self._thread = threading.Thread(target=self._run, name=f"{self._name}-dispatcher", daemon=True)
        self._thread.start()

    # -- called by front ends ---------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Take a task: see ``Engine``."""
        self._listener.refresh()
        with self._lock:
            self._check_open()
            task.id = next(self._ids)
            if not self._queue:
                if self._idle:
                    if task.begin():
                        self._assign(self._idle.pop(), task)
                    return
                if self._write_ahead(task):
                    return
            self._queue.append(task)
            if len(self.workers) - self._leaving < self.max_workers:
                self._wake()

    def _check_open(self) -> None:
        if self._pid != os.getpid():
            raise RuntimeError(FORKED)
        if self._broken is not None:
            raise again(self._broken)
        if self._closing:
            raise RuntimeError("cannot schedule new futures after shutdown")

    def close(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Take no more tasks: see ``Engine``."""
        if self._pid != os.getpid():
            return
        aborted: list[Task] = []
        with self._lock:
            self._closing = True
            if cancel:
                aborted.extend(self._queue)
                self._queue.clear()
            self._wake()
        for task in aborted:
            task.abort()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join()

    def kill(self, signal: int) -> None:
        """End now: see ``Engine``."""
        if self._pid != os.getpid():
            return
        with self._lock:
            self._killed = signal
            for worker in list(self.workers.values()):
                self._signal(worker, signal)
        self.close(wait=False, cancel=True)

    def processes(self) -> dict[int, Any]:
        """Return the workers' processes by process id, those asked for included.

        For libraries that look for them right after ``submit``, where the standard
        library has started them in the calling thread.
        """
        with self._grown:
            if threading.current_thread() is not self._thread:
                self._grown.wait_for(lambda: not self._short() or not self._thread.is_alive(), _START_GRACE)
            return {pid: worker.process for pid, worker in self.workers.items()}

    # -- with the lock held -----------------------------------------------------------

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            with contextlib.suppress(OSError):
                self._wake_w.send(b"x")

    def _assign(self, worker: Worker, task: Task) -> bool:
        """Send *task*, which has begun, to *worker*.

        Returns:
            ``False``: it has no room for a task written ahead; nothing was sent.
        """
        function = task.function
        if function is None:
            message = Message(child.CALL, 0, 0, task.id, task.frames)
        else:
            kind, frames = child.CHUNK, task.frames
            if function.number not in worker.functions:
                # In one message with its first chunk, so that none goes without the other.
                kind, frames = child.TEACH, [*frames, *function.frames]
            message = Message(kind, task.done, function.number, task.id, frames)
        worker.tasks.append(task)  # first, since the answer may come before we go on
        if not worker.send(message):
            worker.tasks.pop()
            return False
        if worker.state != BUSY:
            worker.state = BUSY
            worker.heard = time.monotonic()
            self._busy.append(worker)
        else:
            if not self._stacked:
                self._wake()  # the dispatcher may be asleep with no end in sight
            self._stacked.add(worker)
        if worker.outbox:
            self._wake()
        return True

    def _write_ahead(self, task: Task) -> bool:
        """Send *task* to a busy worker, if tasks are short and it can be taken back.

        Then the worker need not wait for us between two tasks. It can be told from
        waiting by nobody: a task that does not begin soon is taken back and moved.
        """
        if not self._busy:
            return False
        worker = self._busy[0]
        self._busy.rotate(-1)
        return self._may_precede(worker, task) and task.begin() and self._assign(worker, task)

    def _may_precede(self, worker: Worker, task: Task) -> bool:
        """Tell whether *task* may be written to *worker* while that is busy.

        Its function must be there: what brings it could be taken back, and what needs
        it could not, since the worker has just read it.
        """
        left = worker.tasks_left
        return (
            len(worker.tasks) <= min(_MOST_AHEAD, _AHEAD // self._pace)
            and worker.takes_ahead
            and (left is None or len(worker.tasks) < left)
            and (task.function is None or task.function.number in worker.functions)
            and sum(map(len, task.frames)) <= wire.PACKET // 8
        )

    def _next(self, worker: Worker) -> None:
        """Find something to do for *worker*, which has finished a task or is new."""
        queue = self._queue
        if worker.tasks:
            while queue and self._may_precede(worker, queue[0]):
                task = queue.popleft()
                if task.begin() and not self._assign(worker, task):
                    queue.appendleft(task)
                    break
            return
        if worker.state == BUSY:
            self._busy.remove(worker)
            worker.state = IDLE
        if worker.tasks_left is not None and worker.tasks_left <= 0:
            self._dismiss(worker)
            return
        while queue:
            task = queue.popleft()
            if task.begin():
                self._assign(worker, task)
                return
        worker.state = IDLE
        self._idle.append(worker)

    def _recall(self, worker: Worker) -> None:
        """Take back what was written ahead to *worker*, which is at a long task."""
        self._pace = max(self._pace, _LONG)
        ids = set(worker.recall())
        self._stacked.discard(worker)
        back = [task for task in worker.tasks if task.id in ids]
        if not back:
            return
        worker.tasks = deque(task for task in worker.tasks if task.id not in ids)
        self._queue.extendleft(reversed(back))
        if not worker.tasks:
            self._next(worker)
        while self._idle and self._queue:
            self._next(self._idle.pop())

    def _dismiss(self, worker: Worker) -> None:
        worker.state = LEAVING
        self._leaving += 1
        self._limit(worker, _GRACE)
        worker.send(Message(child.EXIT, 0, 0, 0, []))

    def _limit(self, worker: Worker, seconds: float) -> None:
        """Have *worker* killed unless it has ended in *seconds*."""
        worker.deadline = time.monotonic() + seconds
        self._limited.add(worker)

    def _signal(self, worker: Worker, number: int) -> None:
        """Send a signal to a worker that is not buried: so its pid is still its own."""
        with contextlib.suppress(OSError):
            os.kill(worker.pid, number)
        if number != signal.SIGKILL:
            self._limit(worker, _TERM_GRACE)

    # -- the dispatcher ---------------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as error:
            self._collapse(error)
            raise
        finally:
            self._listener.close()
            self._poller.close()
            self._wake_r.close()
            self._wake_w.close()

    def _step(self) -> bool:
        """Serve one round of events.

        Returns:
            Whether there will be another one.
        """
        with self._lock:
            failed = self._grow()
            if self._closing and not self._queue and not self._mending:
                for worker in self._idle:
                    self._dismiss(worker)
                self._idle.clear()
                if not self.workers:
                    return False
            timeout = self._timeout()
            if self._short():  # also for what was taken back just now
                timeout = 0.0
            error = self._broken
        for task in failed:
            assert error is not None
            _give_up(task, again(error))
        for fd in self._poller.wait(timeout):
            found = self._by_fd.get(fd)
            if found is None:
                if fd == self._wake_r.fileno():
                    self._woken()
            elif fd == found.fd:
                self._bury(found)
            else:
                self._serve(found)
        return True

    def _woken(self) -> None:
        with self._lock:
            self._awake = False
            with contextlib.suppress(BlockingIOError):
                self._wake_r.recv(64)
            for worker in self.workers.values():
                if worker.outbox and worker.stream.fileno() in self._by_fd:  # it listens still
                    self._poller.watch_writes(worker.stream.fileno(), True)

    def _timeout(self) -> float | None:
        """Do what is due by now; return the seconds until something will be."""
        waits = []
        now = time.monotonic()
        for worker in list(self._stacked) if self._killed is None and self._broken is None else ():
            left = worker.heard + _PATIENCE - now
            if left <= 0:
                self._recall(worker)
            else:
                waits.append(left)
        for worker in self._limited:
            if worker.deadline <= now:
                self._signal(worker, signal.SIGKILL)
                worker.deadline = now + _GRACE
            waits.append(worker.deadline - now)
        if self._retry_at > now:
            waits.append(self._retry_at - now)
        return min(waits, default=None)

    def _grow(self) -> list[Task]:
        """Start one worker, if the queue or the caller asks for it. With the lock held.

        Returns:
            The tasks that fail since no worker can be started.
        """
        if not self._short():
            return []
        self._lock.release()
        try:
            worker = self._spawn()
        except Exception as error:  # no process, no descriptor, no memory to be had
            self._lock.acquire()
            self._retry_at = time.monotonic() + _RETRY
            return [] if self.workers else self._break(no_worker(error))
        except BaseException:
            self._lock.acquire()
            raise
        self._lock.acquire()
        self.workers[worker.pid] = worker
        self._starting += 1
        self._grown.notify_all()
        if self._killed is not None:
            self._signal(worker, self._killed)
        return []

    def _short(self) -> bool:
        """Tell whether a worker should be started."""
        active = len(self.workers) - self._leaving
        if active >= self.max_workers or self._broken is not None or self._killed is not None:
            return False
        if self._retry_at and time.monotonic() < self._retry_at:
            return False
        return len(self._queue) > self._starting or (self._eager and not self._closing)

    def _spawn(self) -> Worker:
        name = f"{self._name}-{next(self._numbers)}"
        worker = process.start(self._settings, name, self._listener.source())
        for fd in (worker.stream.fileno(), worker.fd):
            self._poller.add(fd)
            self._by_fd[fd] = worker
        if worker.outbox:
            self._poller.watch_writes(worker.stream.fileno(), True)
        return worker

    def _serve(self, worker: Worker, to_the_end: bool = False) -> None:
        """Read what *worker* says, as far as it goes; write what it has room for."""
        if worker.outbox:
            with self._lock, contextlib.suppress(OSError):
                if worker.outbox.flush(worker.stream):
                    self._poller.watch_writes(worker.stream.fileno(), False)
        while True:
            try:
                n = worker.stream.recv_into(worker.reader.target())
            except BlockingIOError:
                return
            except OSError:
                n = 0
            if not n:  # its end of the stream is closed; the process ends, or has ended
                self._deaf(worker)
                return
            messages = worker.reader.took(n)
            for message in messages:
                self._take(worker, message)
            if messages and n < wire.PACKET and not to_the_end:
                return  # most likely that was all; if not, the poller says so

    def _deaf(self, worker: Worker) -> None:
        """Stop listening to *worker*; it cannot answer any more, so it must end."""
        fd = worker.stream.fileno()
        if self._by_fd.pop(fd, None) is not None:
            self._poller.remove(fd)
            with self._lock:
                if not worker.deadline:
                    self._limit(worker, _TERM_GRACE)

    def _take(self, worker: Worker, message: Message) -> None:
        """Act on one message: the worker first gets its next task, then we deliver."""
        kind = message.kind
        if kind == child.LOG:
            self._listener.put(worker.source, message, worker.tasks[0] if worker.tasks else None)
            return
        if kind == child.READY:
            with self._lock:
                self._starting -= 1
                self._next(worker)
            return
        if kind == child.BROKEN:
            self._initializer_failed(message.frames)
            return
        task = worker.tasks[0]
        assert task.id == message.task, "a worker takes its tasks in order"
        if task.function is not None:
            worker.functions.add(task.function.number)
        first = task.done
        outcomes: list[Outcome]
        if kind == child.DONE:
            if kind_of(message.frames) == Kind.NOT_LOADED:
                self._finish(worker, message.ref)
                self._mend(task, message.frames)
                return
            outcomes = [message.frames] * (task.count - first)
        elif kind == child.ITEM:
            outcomes = [message.frames]
        else:
            outcomes = list(unpack_outcomes(message.frames[0]))
        task.done += len(outcomes)
        if task.done >= task.count:
            self._finish(worker, message.ref)
        _hand_over(task, first, outcomes)

    def _finish(self, worker: Worker, microseconds: int) -> None:
        with self._lock:
            worker.tasks.popleft()
            if len(worker.tasks) < 2:
                self._stacked.discard(worker)
            self._in_vain = 0
            worker.heard = time.monotonic()
            self._pace += 0.2 * (1e-6 * microseconds - self._pace)
            if worker.tasks_left is not None:
                worker.tasks_left -= 1
            self._next(worker)

    def _initializer_failed(self, frames: Frames) -> None:
        error = initializer_failed(frames)
        with self._lock:
            queued = self._break(error)
        for task in queued:
            _give_up(task, again(error))

    def _break(self, error: BaseException) -> list[Task]:
        """Stop taking tasks, for *error*. With the lock held.

        Returns:
            The tasks that were queued; the caller delivers *error* to them.
        """
        self._broken = error
        queued = list(self._queue)
        self._queue.clear()
        self._closing = True
        return queued

    # -- what goes wrong --------------------------------------------------------------

    def _mend(self, task: Task, outcome: Frames | None) -> None:
        """Have *task* encoded again, in a thread, since that runs user code."""
        with self._lock:
            self._mending += 1
        threading.Thread(target=self._mend_now, args=(task, outcome), name=f"{self._name}-mend", daemon=True).start()

    def _mend_now(self, task: Task, outcome: Frames | None) -> None:
        mended: Tasks | Outcome
        try:
            mended = task.mend(outcome)
        except BaseException as error:  # user code, in __reduce__
            mended = error
        if isinstance(mended, Tasks):
            with self._lock:
                ended = self._killed is not None or self._broken is not None
                if not ended:
                    for each in reversed(mended.tasks):
                        each.id = next(self._ids)
                        self._queue.appendleft(each)
                    while self._idle and self._queue:
                        self._next(self._idle.pop())
            if ended:
                mended = not_run(task.name)
        if not isinstance(mended, Tasks):
            _give_up(task, mended)
        with self._lock:
            self._mending -= 1
            self._wake()

    def _bury(self, worker: Worker) -> None:
        """Settle what a worker leaves that has ended."""
        self._serve(worker, to_the_end=True)  # what it said before it died counts
        self._deaf(worker)
        exitcode = worker.reap()
        progress = worker.ledger.read()
        failed: list[Task] = []
        begun: Task | None = None
        with self._lock:
            del self.workers[worker.pid]
            if worker.state == IDLE:
                self._idle.remove(worker)
            elif worker.state == BUSY:
                self._busy.remove(worker)
            elif worker.state == LEAVING:
                self._leaving -= 1
            else:
                self._starting -= 1
            self._limited.discard(worker)
            self._stacked.discard(worker)
            if worker.tasks and worker.tasks[0].id == progress.task:
                begun = worker.tasks.popleft()
            if not progress.task and worker.state != LEAVING:
                self._in_vain += 1
                if self._in_vain >= _MAX_IN_VAIN and self._broken is None and self._killed is None:
                    failed = self._break(
                        WorkerCrashed("", None, worker.pid, exitcode, ended_in_vain(worker.pid, exitcode, _MAX_IN_VAIN))
                    )
            unbegun = list(worker.tasks)
            worker.tasks.clear()
            del self._by_fd[worker.fd]
            self._poller.remove(worker.fd)
            error = self._broken
        worker.close()
        for each in failed:
            assert error is not None
            _give_up(each, again(error))
        for task in reversed(unbegun):
            self._requeue(task)
        if begun is not None:
            self._blame(begun, worker.pid, exitcode, progress)

    def _blame(self, task: Task, pid: int, exitcode: int | None, progress: Progress) -> None:
        """Fail the item that a dead worker was at; move the others."""
        first = task.done
        fresh: list[Outcome] = list(progress.outcomes[max(0, first - progress.base) :])
        if fresh:
            task.done += len(fresh)
            _hand_over(task, first, fresh)
        if task.done >= task.count:
            return
        if progress.state == LOADING and task.count - task.done > 1 and self._killed is None:
            self._mend(task, None)
            return
        index = task.done
        item = None if task.function is None else task.first + index
        task.done += 1
        self._requeue(task)
        _hand_over(task, index, [WorkerCrashed(task.name, item, pid, exitcode)])

    def _collapse(self, error: BaseException) -> None:
        """End with a defect of our own: nobody may be left waiting."""
        broken = SafempError(f"the pool has failed, by a defect in safemp: {type(error).__name__}: {error}")
        broken.__cause__ = error
        with self._lock:
            left = self._break(broken)
            for worker in self.workers.values():
                self._signal(worker, signal.SIGKILL)
                left.extend(worker.tasks)
        for task in left:
            _give_up(task, again(broken))

    def _requeue(self, task: Task) -> None:
        """Put what is left of a begun task first in the queue."""
        if task.done >= task.count:
            return
        with self._lock:
            if self._killed is None and self._broken is None:
                self._queue.appendleft(task)
                if self._idle:
                    self._next(self._idle.pop())
                self._wake()
                return
        _give_up(task, not_run(task.name))


def _give_up(task: Task, outcome: Outcome) -> None:
    """Deliver one outcome for all items of *task* that have had none."""
    first, task.done = task.done, task.count
    _hand_over(task, first, [outcome] * (task.count - first))


def _hand_over(task: Task, first: int, outcomes: list[Outcome]) -> None:
    """Deliver; a callback that raises (``SystemExit``, say) ends nothing but itself."""
    try:
        task.deliver(first, outcomes)
    except BaseException:
        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
