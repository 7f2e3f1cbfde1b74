"""Workers' log records, warnings and output, handled in the caller.

    worker ──▶ stream ──▶ dispatcher ──▶ queue ──▶ a thread ──▶ logging, warnings, sys.stdout

Handlers are user code: they may be slow, raise, or wait for a lock that is never given.
So they are called in a thread made for it, when the first record comes.

Rule 1: what one worker said is handled in the order in which it said it.
Rule 2: ``settle``, called before a result is given to who asked for it, waits for what came
before, for at most ``GRACE`` seconds; ``close`` does as long as anything is handled, or
is being written to a file.
Rule 3: the queue holds no more of one worker than it may send ahead (``forward.WINDOW``).
"""

from __future__ import annotations

import codecs
import contextlib
import logging
import marshal
import os
import sys
import threading
import time
from collections import deque
from contextvars import Context

from safemp.engines import Task, levels, relay
from safemp.engines.board import NO_SLOT, Board
from safemp.engines.forward import FIRST, LAST, LOGS, OUTPUT, OVERHEAD, What
from safemp.engines.relay import Printer
from safemp.engines.wire import Message
from safemp.steady import steady_condition

__all__ = ["Listener", "Source", "settle"]

GRACE = 0.1
"""Seconds. Picked: long for a handler, short for who waits for a result."""

PATIENCE = 5.0
"""Seconds without a record being handled after which the end of a pool waits no more."""

_AT_ONCE = 32
"""Messages that are taken out of the queue together, which costs a lock. Picked."""

_WHERE = FIRST | LAST

_busy: set[Listener] = set()
"""Those with something to handle."""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_busy.clear)  # its threads are not in the child


def settle() -> None:
    """Wait, but not long, until what has come so far is handled. Costs nothing if it is."""
    if _busy:
        for listener in list(_busy):
            listener.settle()


class Source:
    """One worker, as its records are received.

    Attributes:
        what: What it is to forward.
        decoders: Of what it prints.
    """

    def __init__(self, board: Board, what: int) -> None:
        self.what = what
        self._board: Board | None = board
        self._slot = -1
        self._handled = 0
        self._parts: list[bytes] = []
        decoder = codecs.getincrementaldecoder("utf-8")
        self.decoders: dict[int, codecs.IncrementalDecoder] = {
            What.STDOUT: decoder("backslashreplace"),
            What.STDERR: decoder("backslashreplace"),
        }

    @property
    def slot(self) -> int:
        """Its place on the board, taken when it is asked for: what does not start needs none."""
        if self._slot < 0:
            self._slot = NO_SLOT if self._board is None else self._board.take_slot()
        return self._slot

    @property
    def fds(self) -> list[int]:
        """The descriptors that the worker needs."""
        return [] if self._board is None else [self._board.fd]

    def assemble(self, message: Message) -> bytes | None:
        """Add a part; return the whole when that was the last one."""
        if message.ref & FIRST:
            self._parts.clear()
        elif not self._parts:  # the first one did not come
            return None
        self._parts.append(bytes(message.frames[0]))
        if not message.ref & LAST:
            return None
        whole = b"".join(self._parts)
        self._parts.clear()
        return whole

    def handled(self, n: int) -> None:
        """Tell the worker that *n* more bytes were handled."""
        self._handled += n
        if (board := self._board) is not None:
            with contextlib.suppress(ValueError):  # closed just now
                board.set_handled(self.slot, self._handled)

    def close(self) -> None:
        """Say that the worker has ended."""
        if self._board is not None:
            if self._slot >= 0:
                self._board.give_slot(self._slot)
            self._board = None


class Listener:
    """Handles what the workers of one engine say.

    Args:
        logs: Their log records and warnings are wanted.
        output: What they print is.
        name: Of the pool.
    """

    def __init__(self, logs: bool, output: bool, name: str) -> None:
        self._what = (LOGS if logs else 0) | (OUTPUT if output else 0)
        self._name = name
        self._board = Board() if self._what else None
        self._generation = 0
        self._changed = steady_condition()
        self._queue: deque[tuple[Source, Message, str, int | None, Context | None]] = deque()
        self._came = 0
        self._went = 0
        self._stuck_at = -1
        self._closing = False
        self._thread: threading.Thread | None = None
        self._feeder = 0
        self._printer = Printer(self._writing)
        self.refresh()

    def refresh(self) -> None:
        """Tell the workers what the caller's logging lets pass, if that has changed. Quick."""
        if self._what & LOGS and (generation := levels.generation()) != self._generation:
            with self._changed:
                self._generation = generation
                if self._board is not None:
                    with contextlib.suppress(OSError):  # no room for it: the last one holds
                        self._board.publish(levels.read())

    def source(self) -> Source | None:
        """Expect another worker; ``None``: nothing is wanted of it."""
        return Source(self._board, self._what) if self._board is not None else None

    def put(self, source: Source | None, message: Message, task: Task | None) -> None:
        """Have *message* handled soon. Never blocks; for the dispatcher.

        Args:
            source: Who has said it.
            message: Of the kind ``forward.LOG``.
            task: What that worker is at.
        """
        if source is None or not message.frames:  # there was no memory for it
            return
        name, item, context = "", None, None
        if task is not None and task.id == message.task:
            name, context = task.name, task.context
            if task.is_chunk:
                item = task.first + message.items
        with self._changed:
            self._queue.append((source, message, name, item, context))
            self._came += 1
            self._feeder = threading.get_ident()
            _busy.add(self)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="safemp-logs", daemon=True)
                try:
                    self._thread.start()
                except RuntimeError:  # there is no thread to be had; perhaps there is for the next one
                    self._thread = None
            self._changed.notify_all()

    def settle(self) -> None:
        """Wait at most ``GRACE`` seconds until what has come so far is handled."""
        if threading.get_ident() == self._feeder or threading.current_thread() is self._thread:
            return  # a callback of a future; a handler
        with self._changed:
            came = self._came
            if self._went == self._stuck_at:  # somebody has waited for it in vain already
                return
            if not self._changed.wait_for(lambda: self._went >= came, GRACE):
                self._stuck_at = self._went

    def close(self) -> None:
        """Handle what has come, then end. For the dispatcher, when its workers have ended."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            went, deadline = -1, 0.0
            while thread.is_alive():
                if self._went != went:
                    went, deadline = self._went, time.monotonic() + PATIENCE
                elif time.monotonic() > deadline and not relay.is_writing(thread):
                    break
                thread.join(0.05)
        if thread is None:  # there was none to be had
            self._run()
        _busy.discard(self)
        with self._changed:
            board, self._board = self._board, None
        if board is not None:
            board.close()

    def _writing(self, yes: bool) -> None:
        if (board := self._board) is not None:
            with contextlib.suppress(ValueError):  # closed just now
                board.set_writing(yes)

    # -- the thread -------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    _busy.discard(self)
                    self._changed.wait_for(lambda: self._queue or self._closing)
                    if not self._queue:
                        return
                some = [self._queue.popleft() for _ in range(min(len(self._queue), _AT_ONCE))]
            for source, message, name, item, context in some:
                try:
                    if context is None:
                        self._take(source, message, name, item)
                    else:
                        context.run(self._take, source, message, name, item)
                except BaseException:  # a handler may raise anything; SystemExit, too
                    with contextlib.suppress(BaseException):
                        threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
                source.handled(len(message.frames[0]) + OVERHEAD)
                self._went += 1
            with self._changed:
                self._changed.notify_all()

    def _take(self, source: Source, message: Message, name: str, item: int | None) -> None:
        body = source.assemble(message)
        if body is None:
            return
        what = message.ref & ~_WHERE
        if what == What.RECORD:
            relay.log(marshal.loads(body), name, item)
        elif what == What.WARNING:
            relay.warn(*marshal.loads(body))
        elif what == What.DROPPED:
            logging.getLogger("safemp").warning(
                "%d messages of a worker were dropped: no handler has taken any for a while", int(body)
            )
        else:
            text = source.decoders[what].decode(body)
            self._printer.print(sys.stdout if what == What.STDOUT else sys.stderr, source, text)
