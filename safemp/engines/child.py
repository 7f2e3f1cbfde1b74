"""The loop of a worker process of the local engine.

It takes messages from its caller, has ``worker`` do the work, writes down in the
ledger what it is doing, and answers. It ends when it is told to, or when the caller
is gone.

Ctrl-C reaches every process of a terminal; here it does nothing, since the caller
decides what becomes of the tasks. (A handler, not ``SIG_IGN``: programs that a task
starts must get the default back.)
"""

from __future__ import annotations

import _thread
import contextlib
import os
import signal
import socket
import sys
import time
from collections import deque
from functools import partial
from types import FrameType
from typing import Any

from safemp import worker
from safemp.codec import namespaces, pickling
from safemp.codec.frames import Buffer, Frames, Kind, kind_of, split
from safemp.engines import blackbox, blocks, inherit, rows, system, wire
from safemp.engines.board import Notice
from safemp.engines.forward import LOG, Forwarding
from safemp.engines.ledger import LOADING, RUNNING, SIZE, Ledger, pack_result
from safemp.engines.rows import Width
from safemp.engines.speaker import Speaker
from safemp.engines.surroundings import Surroundings
from safemp.engines.wire import Message

__all__ = [
    "BROKEN",
    "CALL",
    "CALL_AND_SHARED",
    "CHUNK",
    "CHUNK_AND_SHARED",
    "EXIT",
    "FORGET",
    "GIVEN_BACK",
    "LOG",
    "NOT_LOADED",
    "READY",
    "RESULT",
    "RESULTS",
    "ROW",
    "START",
    "main",
]

# To the worker.
START = 1  # frames: the initializer's call, or none; ref: what to forward; items: the slot on the board
CALL = 2  # ref: the number of its definitions; 0: it has none
CHUNK = 3  # items, stop: which of its items; ref: the number of its function
CALL_AND_SHARED = 4  # behind the call's frames come the definitions
CHUNK_AND_SHARED = 5  # behind the chunk's frames come the function's
FORGET = 6  # ref: the number of what is not needed any more
EXIT = 7
# From the worker; ref: microseconds that a task has taken, 0: none has finished.
READY = 16
BROKEN = 17  # the initializer raised; frames: the outcome
NOT_LOADED = 18  # of a call, or of all that is left of a chunk; frames: the outcome
RESULT = 19  # one outcome; items: its index
RESULTS = 20  # any outcomes, one record each
# LOG = 21: see ``forward``
ROW = 22  # outcomes of a row; items: the index of the first; frames: the kind of the row, its cells
GIVEN_BACK = 23  # items: the first one of the task that is not begun here

_FLUSH = 0.02
"""Seconds after which a chunk's outcomes are sent on. Picked: often enough for eyes,
seldom enough to cost nothing."""

_HOLD = 0.001
"""Seconds after which outcomes of tasks are sent on, though more tasks are there."""

_WORTH = 0.002
"""Seconds that the rest of a chunk should take, to be given to another worker. Picked: that costs
a twentieth of it."""

_SHORT = 0.001
"""Seconds that the first item of a row may take. What comes after a long one waits for it."""


_KEEP = 1 << 27
"""Bytes of memory that was used for a result, and is kept for the next one."""


def main(
    stream: socket.socket,
    tokens: socket.socket,
    caller: int,
    direct: bool,
    adopt: bool,
    surroundings: Surroundings,
    share: inherit.Share,
) -> None:
    """Run until told to end.

    Args:
        stream: Where messages come in and answers go out. The first things on it are the
            files of the ledger, the black box and the board, if there is one.
        tokens: Where the tokens come in of what was written ahead.
        caller: The caller's process id.
        direct: Whether the caller is our parent.
        adopt: Let the caller's ``__main__`` become ours; else it is ours already.
        surroundings: What the worker begins with.
        share: What the initializer is given of the caller's.
    """
    system.die_with(caller, direct)
    signal.signal(signal.SIGINT, _interrupted)
    _thread.interrupt_main = _interrupt_main
    system.let_interrupts_in()
    surroundings.enter()
    if adopt:
        namespaces.adopt()
        pickling.take_offer(surroundings.offer)
    else:
        namespaces.share_main()
    _, fds, _, _ = socket.recv_fds(stream, 1, 3)
    if not fds:  # the caller is gone already
        return
    ledger = Ledger(fds[0])
    os.close(fds[0])
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=ledger.release_row)
    blackbox.install(fds[1])
    blocks.store.maps, blocks.store.keep = False, _KEEP
    with contextlib.suppress(EOFError, ConnectionError):
        inherit.receive(stream, share)
        _Child(stream, tokens, ledger, fds[2:]).loop()


_asked: list[int] = []
"""Not empty: a task has asked for a ``KeyboardInterrupt``."""

_interrupts = _thread.interrupt_main


def _interrupt_main(signum: signal.Signals = signal.SIGINT) -> None:
    """Do as ``_thread.interrupt_main``, of a thread that a task has made to limit its own time, say."""
    if signum == signal.SIGINT:
        _asked.append(signum)
    _interrupts(signum)


_CALLS = {function.__code__ for function in (worker.run, worker.run_items, worker.spread)}


def _interrupted(_: int, frame: FrameType | None) -> None:
    """Do nothing on SIGINT, which is the caller's, unless a task has asked for it, and is still at it."""
    if not _asked:
        return
    _asked.clear()
    below = None
    while frame is not None and frame.f_code not in _CALLS:
        below, frame = frame, frame.f_back
    if frame is not None and below is not None and not str(below.f_globals.get("__name__")).startswith("safemp."):
        raise KeyboardInterrupt


class _Child:
    def __init__(self, stream: socket.socket, tokens: socket.socket, ledger: Ledger, boards: list[int]) -> None:
        self._stream = stream
        self._speaker = Speaker(stream)
        self._boards = boards
        self._forwarding: Forwarding | None = None
        self._tokens = tokens
        self._ledger = ledger
        self._pid = os.getpid()
        self._reader = wire.Reader()
        self._messages: deque[Message] = deque()
        self._dropped = 0
        self._functions: dict[int, worker.Kept | Frames] = {}
        self._definitions: dict[int, Buffer | Frames] = {}
        self._since = 0.0  # when the first item began whose outcome is held; 0: none is
        self._finished = 0  # tasks since something was sent
        self._busy = 0.0  # seconds that they have taken

    def loop(self) -> None:
        messages = self._messages
        while True:
            if not messages:
                self._flush()
                messages.extend(wire.receive(self._stream, self._reader))
            message = messages.popleft()
            if message.ahead:
                may, self._dropped = wire.claim(self._tokens, message.task, self._dropped)
                if not may:
                    continue
            kind = message.kind
            if message.lost:
                self._no_memory(message)
                continue
            if self._forwarding is not None:
                self._forwarding.refresh()
            if kind in (CALL, CALL_AND_SHARED):
                self._call(message)
            elif kind in (CHUNK, CHUNK_AND_SHARED):
                self._chunk(message)
            elif kind == FORGET:
                self._functions.pop(message.ref, None)
                self._definitions.pop(message.ref, None)
            elif kind == START:
                if not self._start(message):
                    return
            else:
                self._flush()
                return
            del message

    def _start(self, message: Message) -> bool:
        if self._boards:
            notice = Notice(self._boards.pop(), message.items)
            self._forwarding = Forwarding(message.ref, self._speaker, self._ledger, notice)
        frames = message.frames
        if frames:
            outcome = worker.run(frames)
            if kind_of(outcome) not in (Kind.VALUE, Kind.UNSENDABLE):
                self._send(BROKEN, 0, 0, outcome)
                return False
        self._send(READY, 0, 0, [])
        return True

    def _call(self, message: Message) -> None:
        task, begun = message.task, time.monotonic()
        self._ledger.begin(task, 0, RUNNING, begun)
        if message.kind == CALL_AND_SHARED:
            self._definitions[message.ref] = bytes(message.frames.pop())
        definitions = self._definitions.get(message.ref)
        keep: list[Any] = []  # until the outcome is where nothing can happen to it
        outcome = definitions if isinstance(definitions, list) else worker.run(message.frames, definitions, keep)
        self._only_we()
        if kind_of(outcome) == Kind.NOT_LOADED:
            self._not_loaded(task, outcome)
        else:
            self._finish(task, 0, outcome, begun, True)
        keep.clear()

    def _chunk(self, message: Message) -> None:
        task, begun = message.task, time.monotonic()
        self._ledger.begin(task, message.items, LOADING, begun)
        frames = message.frames
        if message.kind == CHUNK_AND_SHARED:
            frames, function = split(frames)
            self._functions[message.ref] = worker.Kept(function)
        kept = self._functions[message.ref]
        found = kept if isinstance(kept, list) else kept.load(frames)
        del frames
        message.frames.clear()
        if isinstance(found, list):
            self._not_loaded(task, found)
            return
        fn, loaded = found
        index, stop = message.items, message.stop
        width = Width(stop - index, loaded.single)
        first, started = index, begun
        keep: list[Any] = []  # as above
        while index < stop:
            self._ledger.begin(task, index, RUNNING, begun)
            most = width.next(stop - index)
            open_row = partial(self._open_row, index, most, begun)
            n, outcome = worker.run_items(fn, loaded, index, index + most, open_row, keep)
            self._only_we()
            if self._ledger.has_row:
                since, begun = begun, self._finish_row(task, index, n, begun, outcome is not None, index + n == stop)
                width.was(n, begun - since, outcome is not None)
                index += n
            if outcome is not None:
                begun = self._finish(task, index, outcome, begun, index == stop - 1)
                index += 1
            keep.clear()
            left = stop - index
            if left > 1 and self._ledger.asked() == task and left * (begun - started) > _WORTH * (index - first):
                stop -= left // 2
                self._flush()
                self._send(GIVEN_BACK, stop, task, [])
                self._ledger.ask(0)

    def _open_row(self, first: int, width: int, begun: float, cls: type) -> memoryview | None:
        """Begin a row, if one is worth it: see ``worker.run_items``."""
        kind = rows.kind_of(cls)
        if kind is None or width == 1 or time.monotonic() - begun > _SHORT:
            return None
        self._flush()
        return self._ledger.open_row(kind, first, width)

    def _finish_row(self, task: int, first: int, n: int, begun: float, more: bool, whole: bool) -> float:
        """Answer for the items of a row.

        Args:
            task: The id of their task.
            first: The first item.
            n: How many there are.
            begun: When the first one began.
            more: The item behind them has been called, and its outcome follows.
            whole: Whether the last of them is the last one of its task.

        Returns:
            The time now.
        """
        now = time.monotonic()
        if more:
            self._ledger.begin(task, first + n, RUNNING, begun)
        else:
            self._ledger.rest()
        self._busy += now - begun
        self._finished += whole
        self._look_at_seal()
        self._ledger.close_row(n, lambda kind, cells: self._send(ROW, first, task, [bytes((kind,)), cells]))
        return now

    def _finish(self, task: int, index: int, outcome: Frames, begun: float, whole: bool) -> float:
        """Answer for one item, or hold the answer for a moment while there is more to do.

        Args:
            task: The id of its task.
            index: Which one it is.
            outcome: Its outcome.
            begun: When it began.
            whole: Whether it is the last one of its task.

        Returns:
            The time now.
        """
        now = time.monotonic()
        self._ledger.rest()
        self._busy += now - begun
        self._finished += whole
        large = sum(map(len, outcome)) > SIZE // 2
        if large or (whole and not self._since and not self._messages):
            self._flush()
            self._send(RESULT, index, task, blocks.store.hold(outcome) if large else outcome)
        elif not self._ledger.add(record := pack_result(task, index, outcome)):
            self._flush()
            self._ledger.add(record)
            self._since = now
        else:
            self._since = self._since or begun
            if now - self._since > (_HOLD if whole else _FLUSH):
                self._flush()
        return now

    def _no_memory(self, message: Message) -> None:
        """Say that a task is larger than the memory that is to be had here."""
        self._ledger.begin(message.task, message.items, LOADING, time.monotonic())
        why = worker.not_loaded(MemoryError(f"no memory, or no file descriptor, for {message.lost:,} bytes"))
        # What counts on what was to come with it is told the same.
        if message.kind == CHUNK_AND_SHARED:
            self._functions[message.ref] = why
        elif message.kind == CALL_AND_SHARED:
            self._definitions[message.ref] = why
        self._not_loaded(message.task, why)

    def _not_loaded(self, task: int, outcome: Frames) -> None:
        self._flush()
        self._ledger.refuse(task)
        self._finished += 1
        self._send(NOT_LOADED, 0, task, outcome)

    def _only_we(self) -> None:
        """End a child that the task has forked, and which comes back here: the answer is ours."""
        if os.getpid() != self._pid:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(0)

    def _flush(self) -> None:
        if self._since:
            self._since = 0.0
            self._look_at_seal()
            self._ledger.flush(lambda records: self._send(RESULTS, 0, 0, [records]))

    def _look_at_seal(self) -> None:
        """End, if what is held may not be what was written."""
        if not self._ledger.is_sealed():
            sys.exit("a task has written to file descriptors that are not its own: its worker ends")

    def _send(self, kind: int, items: int, task: int, frames: Frames) -> None:
        pace = 0
        if self._finished:
            pace = min(max(1, int(self._busy * 1e6 / self._finished)), 0xFFFFFFFF)
            self._finished, self._busy = 0, 0.0
        if self._forwarding is not None:
            self._forwarding.flush()
        try:
            self._speaker.say(Message(kind, items, pace, task, frames))
        except (BrokenPipeError, ConnectionResetError):  # nobody is left to answer
            sys.exit(0)
