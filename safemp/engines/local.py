"""The local engine: worker processes on this machine, and one thread that serves them.

    submit ──(a worker is idle)──────────────▶ worker     the submitting thread writes
       └──(none is)──▶ queue ──▶ dispatcher ──▶ worker     what the socket takes, the
                                     ▲             │       dispatcher the rest
                  deliver ◀──────────┴─────────────┘

``dispatch`` has the rules; here are the thread, the sockets and the processes.

Invariants:

1. Workers share nothing with each other: a connection and a ledger each, no common
   lock or queue. So a worker that dies in any instruction harms only its own task.
2. The caller's side never blocks on a worker. So no send can wait for a send, nor for
   a stopped worker. What is written to a busy worker can be taken back.
3. The dispatcher never pickles or unpickles user objects and runs no user code
   (callbacks of futures excepted). ``mend`` runs in a thread of its own.
4. A task is in exactly one place: see ``dispatch``.
5. When the caller dies, its workers are gone within a second (``system.die_with``).

Only the dispatcher's thread starts processes, reads, and removes workers: the kernel
ends a worker when the thread that started it ends, and that thread outlives every
worker. Who makes it fork waits until it has: a forked worker has the locks of its caller
as they were, and a lock that the caller held just then, OpenSSL's say, is held in the
worker for ever.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

from safemp.codec.frames import Frames
from safemp.codec.repairs import ALL, Policy
from safemp.engines import Capabilities, Outcome, Task, blocks, child, process, rows, running, system, wire
from safemp.engines.crash import FORKED
from safemp.engines.dispatch import Dispatcher
from safemp.engines.imports import aside
from safemp.engines.ledger import unpack_results
from safemp.engines.listener import Listener
from safemp.engines.process import Worker
from safemp.engines.settings import SETTINGS, Settings
from safemp.engines.stats import Stats
from safemp.engines.wire import Message
from safemp.errors import FrameError

__all__ = ["LocalEngine"]

_START_GRACE = 5.0
"""Seconds to wait for a worker to be started, when somebody looks for it."""

_ENOUGH = 1 << 16
"""Bytes: when a read gives fewer, that was most likely all there was."""


class LocalEngine:
    """Runs tasks in processes of this machine.

    Args:
        settings: How the processes are kept.
    """

    name = "local"
    capabilities: Capabilities = Capabilities(
        isolates=True, knows_item=True, ends_tasks=True, settings=frozenset(SETTINGS)
    )
    policy: Policy = ALL

    def __init__(self, settings: Settings) -> None:
        self.max_workers: int = settings.max_workers
        self.main_by_name: bool = settings.main_by_name
        self._settings = settings
        self._forks = settings.context.get_start_method() == "fork"
        self._keeper = getattr(settings.context, "keeper", None)
        self._pid = os.getpid()
        self._numbers = count(1)
        self._by_fd: dict[int, Worker] = {}
        with contextlib.ExitStack() as made:  # there may be no descriptor for the next one
            self._poller = system.Poller()
            made.callback(self._poller.close)
            self._wake_r, self._wake_w = map(made.enter_context, wire.streams())
            self._wake_r.setblocking(False)
            self._wake_w.setblocking(False)
            self._poller.add(self._wake_r.fileno())
            self._listener = Listener(settings.forward_logging, settings.capture_output, settings.name)
            made.pop_all()
        self._awake = False
        self._abandoned: list[int | None] = []
        self._dispatcher = Dispatcher(
            settings.max_workers,
            eager=settings.eager,
            initializes=bool(settings.start),
            idle_timeout=settings.idle_timeout,
            clock=time.monotonic,
            wake=self._wake,
            defer=self._in_a_thread,
            trace=settings.trace is not False,
        )
        self.workers: dict[int, Worker] = self._dispatcher.workers
        self._thread = threading.Thread(target=self._run, name=f"{settings.name}-dispatcher", daemon=True)
        running.add(self)
        if self._keeper is not None:
            self._keeper.opened()
        try:
            self._thread.start()
        except RuntimeError:  # the system has no thread left for us
            running.discard(self)
            self._listener.close()
            self._close()
            raise
        if self._forks and settings.eager:
            self._until_grown()

    # -- called by front ends ---------------------------------------------------------

    def submit(self, task: Task) -> None:
        """Take a task: see ``Engine``."""
        if self._pid != os.getpid():  # before any lock: who held one at the fork is not here
            raise RuntimeError(FORKED)
        self._listener.refresh()
        self._dispatcher.submit(task)
        if self._forks and len(self.workers) < self.max_workers:
            self._until_grown()

    def hold(self, frames: Frames) -> Frames:
        """Take a copy: see ``Engine``. A large one is in memory that workers map."""
        return blocks.store.hold(frames)

    def close(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Take no more tasks: see ``Engine``."""
        if self._pid != os.getpid():
            return
        self._dispatcher.close(cancel=cancel)
        if wait and self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def end_task(self, task: Task) -> bool:
        """End one task: see ``Engine``."""
        return self._pid == os.getpid() and self._dispatcher.end_task(task)

    def kill(self, signal: int) -> None:
        """End now: see ``Engine``."""
        if self._pid == os.getpid():
            self._dispatcher.kill(signal)

    def abandon(self, signal: int | None = None) -> None:
        """Close or kill, soon: see ``Engine``."""
        if self._pid == os.getpid():
            self._abandoned = [signal]
            self._wake()

    def processes(self) -> dict[int, Any]:
        """Return the workers' processes by process id, those asked for included.

        For libraries that look for them right after ``submit``, where the standard
        library has started them in the calling thread.
        """
        if self._pid != os.getpid():
            return {}
        self._until_grown()
        return {worker.pid: worker.process for worker in self._dispatcher.staff()}

    def stats(self) -> Stats:
        """Say what has happened until now."""
        return self._dispatcher.stats()

    def _until_grown(self) -> None:
        """Wait, not for ever, until the workers that are asked for have been started."""
        dispatcher = self._dispatcher
        if threading.current_thread() is not self._thread:
            with dispatcher.grown:
                dispatcher.grown.wait_for(lambda: not dispatcher.short() or not self._thread.is_alive(), _START_GRACE)

    # -- what the dispatcher asks for -------------------------------------------------

    def _wake(self) -> None:
        if not self._awake:
            self._awake = True
            with contextlib.suppress(OSError):
                self._wake_w.send(b"x")

    def _in_a_thread(self, function: Callable[[], None]) -> None:
        name = f"{self._settings.name}-mend"
        threading.Thread(target=aside, args=(function,), name=name, daemon=True).start()

    # -- the serving thread -----------------------------------------------------------

    def _run(self) -> None:
        try:
            while self._step():
                pass
        except BaseException as error:
            self._dispatcher.collapse(error)
            raise
        finally:
            self._listener.close()
            self._close()
            blocks.store.trim()
            if self._settings.inherited:
                self._settings.inherited.release()
            if not isinstance(self._settings.trace, bool):
                self._write(self._settings.trace)

    def _write(self, path: str | os.PathLike[str]) -> None:
        """Write down what has happened. The pool has ended."""
        try:
            self.stats().save(path)
        except OSError as error:  # the disk is full
            print(f"safemp: cannot write the trace: {error}", file=sys.stderr)

    def _close(self) -> None:
        if self._keeper is not None:
            self._keeper.closed()
        self._poller.close()
        self._wake_r.close()
        self._wake_w.close()

    def _step(self) -> bool:
        """Serve one round of events.

        Returns:
            Whether there will be another one.
        """
        dispatcher = self._dispatcher
        if self._abandoned:
            signal = self._abandoned.pop()
            if signal is None:
                dispatcher.close()
            else:
                dispatcher.kill(signal)
        if dispatcher.wants_worker():
            self._grow()
        timeout = dispatcher.tick()
        if dispatcher.over():
            return False
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
        with self._dispatcher.lock:
            self._awake = False
            with contextlib.suppress(BlockingIOError):
                self._wake_r.recv(64)
            for worker in self.workers.values():
                if worker.outbox and not worker.deaf:
                    self._poller.watch_writes(worker.stream.fileno(), True)

    def _grow(self) -> None:
        """Start one worker."""
        try:
            worker = process.start(
                self._settings, f"{self._settings.name}-{next(self._numbers)}", self._listener.source()
            )
        except Exception as error:  # no process, no descriptor, no memory to be had
            self._dispatcher.unable(error)
            return
        for fd in (worker.stream.fileno(), worker.fd):
            self._poller.add(fd)
            self._by_fd[fd] = worker
        if worker.outbox:
            self._poller.watch_writes(worker.stream.fileno(), True)
        self._dispatcher.joined(worker)

    def _serve(self, worker: Worker, to_the_end: bool = False) -> None:
        """Read what *worker* says, as far as it goes; write what it has room for."""
        if worker.outbox:
            with self._dispatcher.lock, contextlib.suppress(OSError):
                written = worker.outbox.written
                if worker.outbox.flush(worker.stream):
                    self._poller.watch_writes(worker.stream.fileno(), False)
                if worker.outbox.written > written:
                    self._dispatcher.reads(worker)
        while True:
            try:
                n, messages = wire.read(worker.stream, worker.reader)
            except BlockingIOError:
                return
            except OSError:
                n, messages = 0, []
            except FrameError:
                worker.babbled = True
                n, messages = 0, []
            if not n:  # its end of the stream is closed; the process ends, or has ended
                self._deaf(worker)
                return
            for message in messages:
                self._take(worker, message)
            if messages and n < _ENOUGH and not to_the_end:
                return  # if there is more, the poller says so

    def _deaf(self, worker: Worker) -> None:
        """Stop listening to *worker*; it cannot answer any more, so it must end."""
        if not worker.deaf:
            fd = worker.stream.fileno()
            del self._by_fd[fd]
            self._poller.remove(fd)
            self._dispatcher.gone_deaf(worker)

    def _take(self, worker: Worker, message: Message) -> None:
        kind, dispatcher = message.kind, self._dispatcher
        if kind == child.RESULT:
            outcome: Outcome = message.frames
            if message.lost:
                why = f"no memory, or no file descriptor, for {message.lost:,} bytes"
                outcome = MemoryError(f"the result was not taken: {why}")
            dispatcher.results(worker, [(message.task, message.items, outcome)], message.ref)
        elif kind == child.RESULTS:
            dispatcher.results(worker, unpack_results(message.frames[0]), message.ref)
        elif kind == child.ROW:
            values = rows.unpack(message.frames[0][0], message.frames[1])
            dispatcher.results(worker, [(message.task, message.items, values)], message.ref)
        elif kind == child.NOT_LOADED:
            dispatcher.not_loaded(worker, message.task, message.frames)
        elif kind == child.GIVEN_BACK:
            dispatcher.given_back(worker, message.task, message.items)
        elif kind == child.LOG:
            task = next((each for each in list(worker.tasks) if each.id == message.task), None)
            self._listener.put(worker.source, message, task)
        elif kind == child.READY:
            dispatcher.ready(worker)
        else:
            dispatcher.unusable(message.frames)

    def _bury(self, worker: Worker) -> None:
        """Settle what a worker leaves that has ended."""
        self._serve(worker, to_the_end=True)  # what it said before it died counts
        self._deaf(worker)
        del self._by_fd[worker.fd]
        self._poller.remove(worker.fd)
        self._dispatcher.ended(worker, worker.reap())
        worker.close()
        blocks.store.a_receiver_died()
