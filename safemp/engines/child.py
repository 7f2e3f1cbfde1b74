"""The loop of a worker process of the local engine.

It takes messages from its caller, has ``worker`` do the work, writes down in the
ledger what it is doing, and answers. It ends when it is told to, or when the caller
is gone.

Ctrl-C reaches every process of a terminal; here it does nothing, since the caller
decides what becomes of the tasks. (A handler, not ``SIG_IGN``: programs that a task
starts must get the default back.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from safemp import worker
from safemp.codec import namespaces
from safemp.codec.calls import Chunk
from safemp.codec.frames import Frames, Kind, kind_of, split
from safemp.engines import system, wire
from safemp.engines.board import Notice
from safemp.engines.forward import LOG, Forwarding
from safemp.engines.ledger import IDLE, LOADING, RUNNING, Ledger, pack_outcome
from safemp.engines.speaker import Speaker
from safemp.engines.wire import Message

__all__ = ["BROKEN", "CALL", "CHUNK", "DONE", "EXIT", "ITEM", "ITEMS", "LOG", "READY", "START", "TEACH", "main"]

# To the worker.
START = 1  # frames: the initializer's call, or none; ref: what to forward; items: the slot on the board
CALL = 2
CHUNK = 3  # items: to leave out; ref: the function's number
TEACH = 4  # the same; behind the chunk's frames come the function's
EXIT = 5
# From the worker; ref: microseconds that the task has taken.
READY = 16
BROKEN = 17  # the initializer raised; frames: the outcome
DONE = 18  # of a call, or of a chunk that did not load
ITEM = 19  # one outcome of a chunk
ITEMS = 20  # items: outcomes of a chunk, one record each
# LOG = 21: see ``forward``

_FLUSH = 0.02
"""Seconds after which a chunk's outcomes are sent on. Picked: often enough for eyes,
seldom enough to cost nothing."""


def main(packets: socket.socket | None, stream: socket.socket, caller: int, direct: bool, adopt: bool) -> None:
    """Run until told to end.

    Args:
        packets: Where small messages come in; ``None``: all come on *stream*.
        stream: Where bodies come in and answers go out. The first thing on it are the
            files of the ledger and of the board, if there is one.
        caller: The caller's process id.
        direct: Whether the caller is our parent.
        adopt: Let the caller's ``__main__`` become ours; else it is ours already.
    """
    system.die_with(caller, direct)
    signal.signal(signal.SIGINT, _ignore)
    if adopt:
        namespaces.adopt()
    else:
        namespaces.share_main()
    _, fds, _, _ = socket.recv_fds(stream, 1, 2)
    if not fds:  # the caller is gone already
        return
    ledger = Ledger(fds[0])
    os.close(fds[0])
    _Child(packets, stream, ledger, fds[1:]).loop()


def _ignore(*_: object) -> None:
    """Do nothing on SIGINT."""


class _Child:
    def __init__(self, packets: socket.socket | None, stream: socket.socket, ledger: Ledger, boards: list[int]) -> None:
        self._packets = packets
        self._stream = stream
        self._speaker = Speaker(stream)
        self._boards = boards
        self._forwarding: Forwarding | None = None
        self._ledger = ledger
        self._pid = os.getpid()
        self._reader = wire.Reader()
        self._buffer = bytearray(2 * wire.PACKET)
        self._view = memoryview(self._buffer)
        self._functions: dict[int, Callable[..., Any] | Frames] = {}

    def loop(self) -> None:
        while True:
            try:
                messages = self._receive()
            except (EOFError, ConnectionError):
                return
            for message in messages:
                if message.kind == EXIT or not self._do(message):
                    return
            del messages

    def _receive(self) -> list[Message]:
        if self._packets is None:
            return wire.receive(self._stream, self._reader)
        n = self._packets.recv_into(self._buffer)
        if not n:
            raise EOFError
        message = wire.unpacket(self._view[:n])
        return wire.receive(self._stream, self._reader) if message.kind == wire.ON_STREAM else [message]

    def _do(self, message: Message) -> bool:
        kind = message.kind
        if self._forwarding is not None:
            self._forwarding.refresh()
        if kind == CALL:
            self._ledger.begin(message.task, RUNNING)
            begun = time.perf_counter()
            outcome = worker.run(message.frames)
            self._only_we()
            self._send(DONE, message.task, outcome, 1, time.perf_counter() - begun)
            self._ledger.begin(message.task, IDLE)
        elif kind in (CHUNK, TEACH):
            self._chunk(message)
        elif kind == START:
            return self._start(message)
        return True

    def _start(self, message: Message) -> bool:
        if self._boards:
            notice = Notice(self._boards.pop(), message.items)
            self._forwarding = Forwarding(message.ref, self._speaker, self._ledger, notice)
        frames = message.frames
        if frames:
            outcome = worker.run(frames)
            if kind_of(outcome) not in (Kind.VALUE, Kind.UNSENDABLE):
                self._send(BROKEN, 0, outcome)
                return False
        self._send(READY, 0, [])
        return True

    def _chunk(self, message: Message) -> None:
        ledger, task = self._ledger, message.task
        ledger.begin(task, LOADING, message.items)
        frames = message.frames
        if message.kind == TEACH:
            frames, function = split(frames)
            self._functions[message.ref] = worker.load_function(function)
        fn = self._functions[message.ref]
        loaded = worker.load_chunk(frames)
        del frames
        message.frames.clear()
        if isinstance(fn, list) or not isinstance(loaded, Chunk):
            self._send(DONE, task, fn if isinstance(fn, list) else loaded)  # type: ignore[arg-type]
            ledger.begin(task, IDLE)
            return
        ledger.begin(task, RUNNING, message.items)
        flushed = begun = time.perf_counter()

        def flush(count: int, records: bytes) -> None:
            self._send(ITEMS, task, [records], count, time.perf_counter() - begun)

        for index in range(message.items, len(loaded.items)):
            outcome = worker.run_item(fn, loaded, index)
            self._only_we()
            if not ledger.add(record := pack_outcome(outcome)):
                ledger.take(task, RUNNING, flush)
                if not ledger.add(record):
                    self._send(ITEM, task, outcome, 1)
                    ledger.begin(task, RUNNING, index + 1)
            now = time.perf_counter()
            if now - flushed > _FLUSH:
                ledger.take(task, RUNNING, flush)
                flushed = now
        ledger.take(task, IDLE, flush)
        ledger.begin(task, IDLE)

    def _only_we(self) -> None:
        """End a child that the task has forked, and which comes back here: the answer is ours."""
        if os.getpid() != self._pid:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(0)

    def _send(self, kind: int, task: int, frames: Frames, count: int = 1, seconds: float = 0.0) -> None:
        if self._forwarding is not None:
            self._forwarding.flush()
        try:
            self._speaker.say(Message(kind, count, min(int(seconds * 1e6), 0xFFFFFFFF), task, frames))
        except (BrokenPipeError, ConnectionResetError):  # nobody is left to answer
            sys.exit(0)
