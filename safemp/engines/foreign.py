"""What engines have in common whose workers somebody else keeps: an executor, Dask, Ray.

    submit ──(a worker is free)──send_now───────▶ theirs: errand.perform, in a worker
       └──▶ queue ──▶ serving thread ──send──────▶     │
                              ▲                        │
              deliver ◀───────┴──────── inbox ◀────────┤ done(answer or error)
       result() ◀──(a thread waits for just this)──────┘

They bring the workers and choose among them. The promises of ``safemp.engines`` are kept here,
once for all of them: order, ``begin``, cancel, one outcome for each item, retries, what does not
load, what dies. An adapter derives from ``ForeignEngine`` and says how to ``send``, what an
error of theirs means (``death``), and, where it can, how to ``stop`` what runs.

Rule 1: only who has the desk sends: the serving thread, or who submits when there is nothing else to send and
theirs can ``send_now``. ``done`` may be called in any thread. It puts what it was given into the inbox, or
gives it to a thread that waits for it: no user's code runs by either, and neither waits. Where it costs much
that they call it, ``ask`` looks.
Rule 2: nothing of theirs that may wait is called with the lock held.
Rule 3: a task is in exactly one place: queued, waiting to be tried again, with them, being mended,
or done.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4
from weakref import WeakKeyDictionary

from safemp.codec import namespaces
from safemp.codec.frames import Frames
from safemp.codec.repairs import ALL, Policy
from safemp.engines import Capabilities, Outcome, Shared, Task, Tasks, blocks, errand, failed, running
from safemp.engines.crash import (
    FORKED,
    Report,
    TaskKilled,
    WorkerCrashed,
    again,
    initializer_failed,
    not_run,
)
from safemp.engines.deliveries import Deliveries, show_error
from safemp.engines.diary import Entry, clear, parse
from safemp.engines.imports import aside
from safemp.engines.retry import Later, is_poison, may_retry, wants_decoding
from safemp.errors import EngineError, SafempError
from safemp.steady import SteadyLock

__all__ = ["Done", "ForeignEngine", "first_line"]

Done = Callable[[Any], None]
"""Takes what ``perform`` has answered, or the exception that came in its place."""

_SMALL = 4096
"""Bytes of what tasks share that go with each of them; more goes once to each worker. Picked."""

_LIGHT = 1 << 14
"""Bytes of a task that may be sent by who submits it. Picked: sending more takes longer than to wake a thread."""

_SHORT = 0.01
"""Seconds: when each task takes a worker less, more are sent than there are workers. Picked: that hides the
way there and back, and what waits there is not long where nobody can take it back."""

_BEAT = 1.0
"""Seconds between two questions whether answers may still come. Picked."""

_AFTERLIFE = 10.0
"""Seconds that a worker gets to end which is given up by its cluster: until then it goes on. Picked."""

_GLANCE = 0.1
"""Seconds between two looks whether it has. Picked."""

_MOST_MOVES = 20
"""Times that a task goes to another worker since its own died before it began. Picked."""


@dataclass(eq=False, slots=True)
class _Sent:
    """A task that is with them.

    Attributes:
        task: It.
        key: The errand's, in diaries.
        since: When it was sent.
        depth: How many were with them then, for each that they run at a time.
        brings: It must bring what it shares, since a worker lacked that.
        stores: How often what tasks share had been stored anew then.
        ticket: What ``send`` gave; ``None``: it is just being sent, or is there no more.
    """

    task: Task
    key: str
    since: float
    depth: float
    brings: bool = False
    stores: int = 0
    ticket: Any = None


class ForeignEngine:
    """An engine upon workers that somebody else keeps. Adapters derive from it.

    Args:
        name: For messages.
        max_workers: The most tasks at a time.
        workers: The number of workers that there are, as far as is known; when it is not more than
            *max_workers*, short tasks are sent ahead.
    """

    capabilities: Capabilities = Capabilities()
    main_by_name = False
    policy: Policy = ALL

    stores = False
    """Whether ``store`` puts what tasks share where all workers find it; that of ``safemp.share``, too."""

    ahead = 2
    """How many short tasks may be with them for each that they run at a time."""

    may_be_lost = False
    """Whether answers may fail to come without a word; then ``lost`` is asked."""

    keeps_diaries = False
    """Whether workers are to write down what they do, for ``look_up``."""

    def __init__(self, name: str, max_workers: int, workers: int | None = None) -> None:
        self.name = name
        self.max_workers = max_workers
        self._may_send_ahead = workers is not None and workers <= max_workers
        self._start: tuple[str, Frames] | None = None
        self._start_size = 0
        self._pid = os.getpid()
        self._token = uuid4().hex
        self._lock = SteadyLock()
        self._desk = SteadyLock()  # never waited for with the lock
        self._inbox: SimpleQueue[Callable[[Deliveries], None] | None] = SimpleQueue()
        self._queue: deque[Task] = deque()
        self._later = Later()
        self._keys = count(1)
        self._moved: dict[Task, int] = {}  # how often a task has gone to another worker
        self._sent: dict[Task, _Sent] = {}
        self._lacking: list[_Sent] = []  # those of them to be sent again
        self._mending: set[Task] = set()
        self._doomed: set[Task] = set()
        self._stored: WeakKeyDictionary[Shared, Any] = WeakKeyDictionary()
        self._stores = 0  # how often that has been stored anew
        self._blocks: WeakKeyDictionary[blocks.Block, dict[tuple[int, int], Any]] = WeakKeyDictionary()
        self._quick = False
        self._closing = False
        self._killed = False
        self._broken: BaseException | None = None
        self._thread: threading.Thread | None = None  # from the first task on

    # -- what an adapter says. In the serving thread; ``death`` and ``lost``, which ask nobody, with the lock -----

    def send(self, errand: tuple[Any, ...], parts: tuple[Any, ...], done: Done) -> Any:
        """Have ``errand.perform(errand, *parts)`` called in a worker.

        Args:
            errand: To be handed over as it is.
            parts: Each is frames, ``None``, or what ``store`` gave: then the worker is to get its frames.
            done: To be called once, with what ``perform`` returned, or with the exception that came
                instead. In any thread, also at once.

        Returns:
            What ``stop`` takes.

        Raises:
            Exception: Nothing more can be sent, now or ever.
        """
        raise NotImplementedError

    def send_now(self, errand: tuple[Any, ...], parts: tuple[Any, ...], done: Done) -> Any:
        """Do as ``send``, in the thread of who submits, if that takes no longer than to wake another.

        *errand* and *parts* are plain and small, and something has been sent and answered before.

        Returns:
            What ``stop`` takes; ``None``: it would take longer, and nothing was sent.
        """
        return None

    def ask(self) -> float | None:
        """Look whether answers are there that nobody calls ``done`` for, and call it for these.

        Called whenever what was ready has been sent, and whatever has come was taken.

        Returns:
            The seconds after which to look again; ``None``: ``done`` will be called for all that was sent.
        """
        return None

    def store(self, frames: Frames) -> Any:
        """Put what many tasks share where all workers find it, until nobody refers to what this returns."""
        raise NotImplementedError

    def carry(self, frames: Frames) -> Frames:
        """Return *frames* as theirs carry them. By default as bytes, which every pickler can."""
        return [bytes(one) if isinstance(one, memoryview) else one for one in frames]

    def death(self, error: BaseException) -> str | None:
        """Say in words what *error*, which came for a task, tells of its worker's death.

        Returns:
            ``None``: it tells of something else.
        """
        return None

    def look_up(self, token: str, key: str, error: BaseException) -> bytes | None:
        """Ask what the worker has written down that has died with the errand *key*.

        In a thread of its own; it may take a while.

        Args:
            token: For ``diary.look_up``, to be called on that worker's machine.
            key: Likewise.
            error: What came in the place of its answer.

        Returns:
            What ``diary.look_up`` has returned, or b"" if that is ``None``: it had not begun. ``None``: there is
            nobody to ask.
        """
        return None

    def stop(self, ticket: Any) -> bool:
        """End a task that was sent; ``done`` is called for it as for any.

        Unlike the others this may be called in any thread.

        Returns:
            Whether it will end; ``False``: it cannot be ended.
        """
        return False

    def lost(self) -> BaseException | None:
        """Say why no answer will come any more, if that is so. Asked each second, if ``may_be_lost``."""
        return None

    def forget(self, ticket: Any) -> None:
        """Take notice that nobody waits for a task any more that was sent. In a thread of its own."""
        self.stop(ticket)

    def may_wait(self) -> bool:
        """Tell whether this thread may wait for the serving thread, which may want what it holds, or holds of theirs.

        A finalizer that ends the engine may come in between anything.
        """
        return not (self._lock._is_owned() or self._desk._is_owned())

    def end(self) -> None:
        """Give back what the engine has of theirs: there will be no more tasks."""

    # -- from front ends: see ``Engine`` ------------------------------------------------------

    def initialize(self, frames: Frames) -> None:
        """Have a call made in each worker before its first task of this engine.

        Args:
            frames: What ``encode_call`` gave.
        """
        self._start = self._token, self.carry(frames)
        self._start_size = sum(map(len, frames))

    def hold(self, frames: Frames) -> Frames:
        """Take a copy: see ``Engine``."""
        return blocks.own(frames)

    def submit(self, task: Task) -> None:
        """Take a task: see ``Engine``."""
        if self._pid != os.getpid():
            raise RuntimeError(FORKED)
        with self._lock:
            if self._broken is not None:
                raise again(self._broken)
            if self._closing:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._thread is None:
                self._begin()
            if not self._is_next(task) or not self._desk.acquire(blocking=False):
                self._queue.append(task)
                if len(self._sent) < self._room():  # or the next answer makes room
                    self._inbox.put(None)
                return
            if not task.begin():
                self._desk.release()
                return
            sent = self._note(task)
        deliveries = Deliveries()
        try:
            try:
                self._hand_out(sent, deliveries, self.send_now)
            finally:
                self._desk.release()
        finally:
            deliveries.hand_over()

    def _is_next(self, task: Task) -> bool:
        """Tell whether who submits *task* may send it: a worker is free, and it is small. With the lock held."""
        if not self._quick or self._queue or len(self._sent) >= self.max_workers or self._desk._is_owned():
            return False
        shared = 0 if task.shared is None else task.shared.size
        if self._start_size > _SMALL or shared > _SMALL:
            return False
        return all(type(one) is bytes for one in task.frames) and sum(map(len, task.frames)) <= _LIGHT

    def _begin(self) -> None:
        """Start the serving thread. An engine that nobody uses has none."""
        self._thread = threading.Thread(target=self._run, name=f"safemp-{self.name}", daemon=True)
        running.add(self)
        try:
            self._thread.start()
        except RuntimeError:  # the system has no thread left for us
            running.discard(self)
            self._thread = None
            raise

    def close(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Take no more tasks: see ``Engine``."""
        if self._pid != os.getpid():
            return
        aborted: list[Task] = []
        with self._lock:
            unused = self._thread is None and not self._closing
            self._closing = True
            if cancel:
                aborted = self._drop_queued()
        for task in aborted:
            try:
                task.abort()
            except BaseException:  # out of a callback
                show_error()
        if unused:
            self.end()
        self._inbox.put(None)
        if wait and self._thread is not None and threading.current_thread() is not self._thread and self.may_wait():
            self._thread.join()

    def kill(self, signal: int) -> None:
        """End now: see ``Engine``. The workers are not ours to end; what runs there is stopped where that can be."""
        if self._pid == os.getpid():
            self._inbox.put(self._give_up)
            self.close(wait=False, cancel=True)

    def abandon(self, signal: int | None = None) -> None:
        """Close or kill, soon: see ``Engine``."""
        if self._pid == os.getpid():
            self._inbox.put(self._leave if signal is None else self._give_up)

    def end_task(self, task: Task) -> bool:
        """End one task: see ``Engine``."""
        if self._pid != os.getpid():
            return False
        deliveries = Deliveries()
        with self._lock:
            sent = self._sent.get(task)
            if sent is not None and sent.ticket is None and not self.capabilities.ends_tasks:
                return False  # it may have begun
            if task in self._mending or (sent is not None and sent.ticket is None):
                self._doomed.add(task)
                return True
            if sent is None:
                if task in self._queue:
                    self._queue.remove(task)
                elif not self._later.remove(task):
                    return False
                deliveries.settle(task, _ended(task))
            else:
                self._doomed.add(task)
            ticket = None if sent is None else sent.ticket
        deliveries.hand_over()
        if sent is None or self.stop(ticket):
            return True
        with self._lock:
            self._doomed.discard(task)
        return False

    # -- the serving thread -------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._over():
                self._step()
        except BaseException as error:
            self._collapse(error)
            raise
        finally:
            self._stored.clear()
            self._blocks.clear()
            if self.keeps_diaries:
                clear(self._token)
            self.end()

    def _over(self) -> bool:
        with self._lock:
            return self._closing and not (self._queue or self._sent or self._mending or self._later)

    def _step(self) -> None:
        """Take what has come; send what there is room for; deliver."""
        soon = self.ask()
        try:
            event = self._inbox.get(timeout=self._patience() if soon is None else soon)
        except Empty:
            event = self._give_up_if_lost if soon is None else None
        deliveries = Deliveries()
        with self._desk:
            with self._lock:
                while True:
                    if event is not None:
                        event(deliveries)
                    if self._inbox.empty():  # nobody else takes
                        break
                    event = self._inbox.get()
                while (task := self._later.due(time.monotonic())) is not None:
                    self._queue.appendleft(task)
                ready = self._ready(deliveries)
            for sent in ready:
                self._hand_out(sent, deliveries, self.send)
        deliveries.hand_over()

    def _patience(self) -> float | None:
        """Return the seconds until something is to be done whether or not anything comes."""
        with self._lock:
            until = max(0.0, self._later.when - time.monotonic()) if self._later else None
            if self.may_be_lost and self._sent:
                return _BEAT if until is None else min(until, _BEAT)
            return until

    def _give_up_if_lost(self, deliveries: Deliveries) -> None:
        """Have what is with them fail, if no answer will come any more. With the lock held."""
        error = self.lost() if self.may_be_lost and self._sent else None
        if error is not None:
            for sent in list(self._sent.values()):
                self._take(sent, error, deliveries)

    def _ready(self, deliveries: Deliveries) -> list[_Sent]:
        """Take what may be sent now off the queue. With the lock held."""
        if self._broken is not None or self._killed:
            for task in self._drop_queued():
                if task.begin():  # it tells those that wait for a cancelled one, too
                    deliveries.settle(task, again(self._broken) if self._broken else task.last or not_run(task.name))
        room = least = self._room()
        if room > self.max_workers:
            least = room * 3 // 4  # a few at a time: that is cheaper than one whenever one has come
        ready, self._lacking = self._lacking, []
        if len(self._sent) > least:
            return ready
        while self._queue and len(self._sent) < room:
            task = self._queue.popleft()
            if task.begin():
                ready.append(self._note(task))
        return ready

    def _room(self) -> int:
        """Return how many may be with them now. With the lock held."""
        return self.max_workers * (self.ahead if self._quick and self._may_send_ahead else 1)

    def _note(self, task: Task) -> _Sent:
        """Count *task* among those that are with them. With the lock held."""
        depth = max(1.0, len(self._sent) / self.max_workers)
        sent = self._sent[task] = _Sent(task, str(next(self._keys)), time.monotonic(), depth)
        return sent

    def _hand_out(self, sent: _Sent, deliveries: Deliveries, send: Callable[..., Any]) -> None:
        """Send one task. With the desk held."""
        task, shared = sent.task, sent.task.shared
        with self._lock:
            if self._sent.get(task) is not sent or self._is_ended(task, deliveries):
                self._sent.pop(task, None)
                return
        sent.stores = self._stores
        start: tuple[str, Frames | None] | None = self._start
        if start is not None and self._start_size > _SMALL and not sent.brings:
            start = start[0], None
        try:
            frames, apart = self._apart(task.frames)
            todo = errand.Errand(
                errand.FORMAT,
                errand.HERE,
                sent.key,
                self._token if self.keeps_diaries else "",
                namespaces.origin("__main__"),
                start,
                f"{self._token}-{shared.number}" if shared is not None else "",
                task.is_chunk,
                task.done,
                task.count,
                frames,
            )
            parts = self._brought(sent), *apart
            ticket = send(tuple(todo), parts, partial(self._answered, sent))
        except Exception as error:
            with self._lock:
                del self._sent[task]
                self._break(self._cannot_send(error))
                assert self._broken is not None
                deliveries.settle(task, again(self._broken))
            self._inbox.put(None)
            return
        with self._lock:
            if ticket is None and send != self.send:
                del self._sent[task]
                self._queue.appendleft(task)
                self._inbox.put(None)
                return
            if self._sent.get(task) is sent:  # or it has been answered already
                sent.ticket = ticket
            doomed = task in self._doomed
        if doomed:
            self.stop(ticket)

    def _brought(self, sent: _Sent) -> Any:
        """Return what goes with a task of what it shares with others."""
        shared = sent.task.shared
        if shared is None:
            return None
        if sent.brings or shared.size <= _SMALL:
            return self.carry(shared.frames)
        if not self.stores:
            return None  # a worker that lacks it says so
        stored = self._stored.get(shared)
        if stored is None:
            stored = self._stored[shared] = self.store(self.carry(shared.frames))
        return stored

    def _apart(self, frames: Frames) -> tuple[list[Any], list[Any]]:
        """Return *frames* without those that many tasks have, and what is stored of these."""
        if not self.stores:
            return [*self.carry(frames)], []
        rest: list[Any] = []
        apart = []
        for frame in frames:
            block, at = blocks.place_of(frame) or (None, 0)
            if block is None or not block.shared:
                rest += self.carry([frame])
                continue
            places = self._blocks.setdefault(block, {})
            if (at, len(frame)) not in places:
                places[at, len(frame)] = self.store(self.carry([frame]))
            apart.append(places[at, len(frame)])
            rest.append(None)
        return rest, apart

    def _answered(self, sent: _Sent, answer: Any) -> None:
        """Take notice of an answer, in any thread: it never waits."""
        task = sent.task
        is_last = isinstance(answer, tuple) and answer[0] == errand.DONE and not (task.limits and task.limits.retries)
        if is_last and not self._queue and self._lock.acquire(blocking=False):
            try:
                if not (self._queue or self._closing) and self._sent.get(task) is sent and task.hand_over(answer[1]):
                    self._finish(sent)
                    return
            finally:
                self._lock.release()
        self._inbox.put(partial(self._take, sent, answer))

    # -- what comes of a task, with the lock held ----------------------------------------------

    def _take(self, sent: _Sent, answer: Any, deliveries: Deliveries) -> None:
        """Take the answer for a task, or the error in its place."""
        task = sent.task
        if self._sent.get(task) is not sent:  # it was given up
            return
        sent.ticket = None  # which leads back here by what it calls when it is done
        if isinstance(answer, BaseException):
            del self._sent[task]
            self._lost(sent, answer, deliveries)
            return
        kind, content = answer
        if kind == errand.LACKS:
            sent.key, sent.brings = str(next(self._keys)), True
            self._lacking.append(sent)
            return
        self._finish(sent)
        if kind == errand.DONE:
            self._doomed.discard(task)
            first, task.done = task.done, task.count
            for index, outcome in enumerate(content, first):
                self._deliver(task, index, outcome, deliveries)
        elif kind == errand.NOT_LOADED:
            self._defer(task, partial(self._mend, task, content), deliveries)
        else:
            if kind == errand.BROKEN:
                self._break(initializer_failed(content))
            else:
                self._break(EngineError(f"cannot run tasks on {self.name}: {content}"))
            assert self._broken is not None
            deliveries.settle(task, again(self._broken))

    def _finish(self, sent: _Sent) -> None:
        """Take notice that a task is not with them any more, since there is an answer."""
        sent.ticket = None
        del self._sent[sent.task]
        if self._moved:
            self._moved.pop(sent.task, None)
        self._quick = time.monotonic() - sent.since < _SHORT * sent.depth

    def _lost(self, sent: _Sent, error: BaseException, deliveries: Deliveries) -> None:
        """Take notice that *error* came in the place of an answer."""
        task, died = sent.task, self.death(error)
        if died is not None and sent.stores == self._stores:
            self._stores += 1  # it may have had what is stored
            self._stored.clear()
            self._blocks.clear()
        if died is None:
            if not self._is_ended(task, deliveries):
                deliveries.settle(task, self._explained(task, error))
        elif self.keeps_diaries:
            self._defer(task, partial(self._investigate, sent, error, died), deliveries)
        else:
            self._bury(task, None, error, died, deliveries)

    def _bury(self, task: Task, found: bytes | None, error: BaseException, died: str, deliveries: Deliveries) -> None:
        """Settle what a worker leaves that has died; *found* is what it has written down of *task*."""
        self._mending.discard(task)
        if self._is_ended(task, deliveries):
            return
        if found == b"" and self._moved.get(task, 0) < _MOST_MOVES:
            self._moved[task] = self._moved.get(task, 0) + 1
            self._queue.appendleft(task)  # it had not begun
            return
        self._moved.pop(task, None)
        entry = Entry(True, ()) if not found else parse(found)
        several = task.count - task.done > 1
        if found and several and not entry.loaded and not entry.alive and not self._killed:
            self._defer(task, partial(self._mend, task, None), deliveries)  # each item by itself
            return
        for each in entry.outcomes:
            index, task.done = task.done, task.done + 1
            lost = f"it had finished, and its result was lost: {died}"
            outcome = self._crashed(task, index, lost) if each is None else each
            self._deliver(task, index, outcome, deliveries)
        first = task.done
        if first == task.count:
            return
        task.done = first + 1 if found and not entry.alive else task.count  # or it may get at the others itself
        among = ""
        if several and (not found or entry.alive):
            among = f", or another of items[{task.first + first}:{task.first + task.count}]"
        more = task.done < task.count
        for index in range(first, task.done):
            crash = self._crashed(task, index, died, among)
            crash.__cause__ = error
            self._deliver(task, index, crash, deliveries)
        if more:
            self._queue.appendleft(task)

    def _crashed(self, task: Task, index: int, died: str, among: str = "") -> WorkerCrashed:
        """Make the error for an item of *task* whose worker died at it, or *among* others."""
        report = Report(
            call=task.name,
            item=task.first + index if task.is_chunk else None,
            arguments=task.describe(index),
            tries=task.tries + 1,
            poison=is_poison(task),
        )
        return WorkerCrashed.of(report, f"a worker of {self.name} died while it ran {report.where}{among}: {died}")

    def _given_up(self, task: Task) -> WorkerCrashed:
        """Make the error for a task that nobody waits for any more."""
        return WorkerCrashed(task.name, None, None, None, f"{task.name} was given up: its pool was ended")

    def _explained(self, task: Task, error: BaseException) -> BaseException:
        """Make the error for a task that came to nothing by no fault of its own."""
        lacks = _lacks_safemp(error)
        if lacks:
            made = EngineError(
                f"cannot run {task.name} on {self.name}: its workers do not have safemp\n"
                f"  reason: {lacks}\n"
                "  fix:    install the caller's version of safemp where the workers run"
            )
        else:
            made = EngineError(f"{self.name} gave no answer for {task.name}: {type(error).__name__}: {error}")
        made.__cause__ = error
        return made

    def _cannot_send(self, error: Exception) -> BaseException:
        died = self.death(error)
        made: BaseException
        if died is not None:
            made = WorkerCrashed("", None, None, None, f"cannot use {self.name} any more: {died}")
        else:
            made = EngineError(f"{self.name} takes no tasks: {type(error).__name__}: {error}")
        made.__cause__ = error
        return made

    def _deliver(self, task: Task, index: int, outcome: Outcome, deliveries: Deliveries) -> None:
        """Deliver the outcome of one item, unless it is one to try again after."""
        if task.limits is not None and task.limits.retries and failed(outcome):
            self._fail_item(task, index, outcome, deliveries)
        else:
            deliveries.add(task, index, outcome)

    def _fail_item(self, task: Task, index: int, outcome: Outcome, deliveries: Deliveries) -> None:
        """Deliver a failure, or see to it that the item is tried again."""
        if not self._killed and self._broken is None and task not in self._doomed:
            if wants_decoding(task, outcome):
                part = task.part(index)
                self._defer(part, partial(self._judge, part, outcome), deliveries, outcome)
                return
            if may_retry(task, outcome):
                self._later.add(task.part(index), outcome, time.monotonic())
                return
        deliveries.add(task, index, outcome)

    def _is_ended(self, task: Task, deliveries: Deliveries) -> bool:
        """Settle *task* if it was to be ended; tell whether it was."""
        if task not in self._doomed:
            return False
        self._doomed.discard(task)
        deliveries.settle(task, TaskKilled(task.name, None, None, None, f"{task.name} was ended by kill()"))
        return True

    def _drop_queued(self) -> list[Task]:
        dropped = [*self._queue, *self._later]
        self._queue.clear()
        self._later.clear()
        return dropped

    def _break(self, error: BaseException) -> None:
        """Take no more tasks, for *error*; those that are queued have it as their outcome."""
        self._broken = self._broken or error
        self._closing = True

    def _leave(self, deliveries: Deliveries) -> None:
        self._closing = True

    def _give_up(self, deliveries: Deliveries) -> None:
        """Wait for nothing any more."""
        self._closing = self._killed = True
        for sent in list(self._sent.values()):
            del self._sent[sent.task]
            self._doomed.discard(sent.task)
            deliveries.settle(sent.task, self._given_up(sent.task))
            ticket, sent.ticket = sent.ticket, None
            if ticket is not None:
                self._in_a_thread(partial(self.forget, ticket))

    # -- what runs user code, in threads made for it -------------------------------------------

    def _in_a_thread(self, function: Callable[[], object]) -> None:
        threading.Thread(target=aside, args=(function,), name=f"safemp-{self.name}-mend", daemon=True).start()

    def _defer(
        self, task: Task, function: Callable[[], None], deliveries: Deliveries, outcome: Outcome | None = None
    ) -> None:
        """Have *function* called in a thread; where there is none for that, *task* fails."""
        self._mending.add(task)
        try:
            self._in_a_thread(function)
        except RuntimeError as error:  # the system has no thread left for us
            self._mending.discard(task)
            text = f"{task.name} was not run: it was to be pickled again, and {error}"
            deliveries.settle(task, outcome or WorkerCrashed(task.name, None, None, None, text))

    def _investigate(self, sent: _Sent, error: BaseException, died: str) -> None:
        found: bytes | None
        deadline = time.monotonic() + _AFTERLIFE
        try:
            found = self.look_up(self._token, sent.key, error)
            while found and _goes_on(parse(found), sent.task) and time.monotonic() < deadline and not self._killed:
                time.sleep(_GLANCE)
                found = self.look_up(self._token, sent.key, error)
        except Exception:  # theirs: there is nobody left to ask
            found = None
        self._inbox.put(partial(self._bury, sent.task, found, error, died))

    def _mend(self, task: Task, outcome: Frames | None) -> None:
        mended: Tasks | Outcome
        try:
            mended = task.context.copy().run(task.mend, outcome)
        except BaseException as error:  # user code, in __reduce__
            mended = error
        self._inbox.put(partial(self._mended, task, mended))

    def _mended(self, task: Task, mended: Tasks | Outcome, deliveries: Deliveries) -> None:
        self._mending.discard(task)
        if self._is_ended(task, deliveries):
            return
        if isinstance(mended, Tasks):
            for each in mended.tasks:
                each.tries, each.killed, each.last = task.tries, task.killed, task.last
            self._queue.extendleft(reversed(mended.tasks))
        else:
            deliveries.settle(task, mended)

    def _judge(self, part: Task, outcome: Outcome) -> None:
        self._inbox.put(partial(self._judged, part, outcome, may_retry(part, outcome, decode=True)))

    def _judged(self, part: Task, outcome: Outcome, wanted: bool, deliveries: Deliveries) -> None:
        self._mending.discard(part)
        if not wanted or self._killed or self._broken is not None:
            self._doomed.discard(part)
            deliveries.settle(part, outcome)
        elif not self._is_ended(part, deliveries):
            self._later.add(part, outcome, time.monotonic())

    def _collapse(self, error: BaseException) -> None:
        """End with a defect of our own: nobody may be left waiting."""
        broken = SafempError(f"the engine has failed, by a defect in safemp: {type(error).__name__}: {error}")
        broken.__cause__ = error
        deliveries = Deliveries()
        with self._lock:
            self._break(broken)
            self._ready(deliveries)
            for task in [*self._sent, *self._mending]:
                deliveries.settle(task, again(broken))
            self._sent.clear()
            self._mending.clear()
        deliveries.hand_over()


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text that says anything. Not of a user's error."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _goes_on(entry: Entry, task: Task) -> bool:
    """Tell whether a worker may run more items of *task*, which would otherwise be run by another."""
    return entry.alive and task.count - task.done > 1 and len(entry.outcomes) < task.count - task.done


def _ended(task: Task) -> TaskKilled:
    return TaskKilled(task.name, None, None, None, f"{task.name} was ended before it ran")


def _lacks_safemp(error: BaseException | None) -> str:
    """Return what *error*, or what it came of, says of safemp's not being there; "" if nothing."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        for line in str(error).splitlines():
            if "No module named 'safemp" in line:
                return line.strip()
        error = error.__cause__ or error.__context__
    return ""
