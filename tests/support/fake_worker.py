"""A worker without a process, which does what ``child`` does, in steps as small as one likes.

Between any two of its steps it can die, be stopped, or be looked at. The ledger and the
tokens are the real ones; the streams are lists. Whatever the dispatcher asks of it may
let it make some steps first, as a real one would meanwhile.
"""

from __future__ import annotations

import mmap
import signal
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from typing import Any, Protocol

from safemp.codec.frames import Frames
from safemp.engines import Task, child, wire
from safemp.engines.ledger import _DATA, _SEAL, LOADING, PAGE, RUNNING, SIZE, Ledger, Result, pack_result
from safemp.engines.process import LEAVING, STARTING
from safemp.engines.report import Report
from safemp.engines.verdict import KILLED, Verdict
from safemp.engines.wire import Message

__all__ = ["FakeWorker", "Runs"]

MOST_SHARED = 2
"""What a worker keeps of functions and definitions."""

CAPACITY = 60_000
"""Bytes that a stream takes in before its writer has to wait."""

STOP_DELAY = 0.001
"""Seconds that a process may run on after SIGSTOP."""

Steps = Generator[bool, None, Any]
"""Yields between two steps: whether the next one can be made now."""


class Runs(Protocol):
    """What a worker does for its tasks: see ``Record``."""

    def load(self, first: int) -> Frames | None:
        """Return why what begins with item *first* does not load; ``None``: it does."""

    def begin(self, item: int, worker: FakeWorker) -> None:
        """Take notice that an item begins."""

    def end(self, item: int) -> Frames | None:
        """Return an item's outcome; ``None``: it hangs."""

    def safe(self, item: int) -> None:
        """Take notice that the outcome cannot get lost any more."""

    def died(self, item: int, worker: FakeWorker, elapsed: float) -> None:
        """Take notice that *worker* has died at this item, after so many seconds."""

    def measured(self, item: int, used: int) -> None:
        """Take notice that the caller has seen so many bytes in use, at this item."""


class _Blocked(Exception):
    """A real one would wait here."""


class _Socket:
    """One direction of tokens, for both sides: the caller has a copy of the worker's end."""

    def __init__(self, pause: Callable[[], None]) -> None:
        self.tokens: deque[bytes] = deque()
        self.taken: list[bytes] = []  # by a worker in a call that has not returned
        self.again: list[bytes] = []
        self._pause = pause

    def send(self, packed: bytes) -> None:
        self._pause()
        self.tokens.extend(packed[i : i + 8] for i in range(0, len(packed), 8))

    def recv(self, n: int, flags: int = 0) -> bytes:
        if flags:  # the caller; the kernel lets one of them read at a time, as much as it wants
            self._pause()
            if not self.tokens:
                raise BlockingIOError
            found = b"".join(self.tokens)
            self.tokens.clear()
            assert len(found) <= n
            return found
        if self.again:
            return self.again.pop(0)
        if not self.tokens:
            raise _Blocked
        self.taken.append(self.tokens.popleft())
        return self.taken[-1]

    def claim(self, task: int, dropped: int) -> tuple[bool, int]:
        """Do as ``wire.claim``; what it had read when it had to wait, it reads again."""
        self.again = list(self.taken)
        answer = wire.claim(self, task, dropped)  # type: ignore[arg-type]
        self.taken.clear()
        return answer


class _Tokens(wire.Tokens):
    def __init__(self, both: Any) -> None:
        self._ours = self.theirs = both


class _Page(mmap.mmap):
    """A page whose writer may go on while it is read."""

    pause: Callable[[], None]

    def __getitem__(self, key: Any) -> Any:
        self.pause()
        found = super().__getitem__(key)
        self.pause()
        return found


class _Ledger(Ledger):
    def __init__(self, pause: Callable[[], None]) -> None:
        super().__init__(-1)
        self._page.close()
        self._page = _Page(-1, PAGE)
        self._page[: len(_SEAL)] = _SEAL
        self._page.pause = pause
        self._pause = pause

    def progress(self) -> Any:
        self._pause()
        return super().progress()

    def held(self) -> list[Result]:
        self._pause()
        return super().held()


class _Pipe:
    """The stream to a worker, and what waits on the caller's side to be written to it."""

    def __init__(self) -> None:
        self._messages: deque[tuple[int, Message]] = deque()
        self._end = self.written = self._read = 0
        self.broken = False

    def __bool__(self) -> bool:
        return self.written < self._end

    def send(self, messages: Iterable[Message]) -> None:
        for message in messages:
            self._end += 40 + sum(map(len, message.frames))
            self._messages.append((self._end, message))
        self.flush()

    def has_room(self) -> bool:
        return self.written < min(self._end, self._read + CAPACITY)

    def flush(self) -> bool:
        if not self.broken:
            self.written = min(self._end, self._read + CAPACITY)
        return not self

    def take(self) -> list[Message]:
        """Read everything that is there; return the messages that are whole now."""
        self._read = self.written
        whole = []
        while self._messages and self._messages[0][0] <= self._read:
            whole.append(self._messages.popleft()[1])
        return whole

    def readable(self) -> bool:
        return self._read < self.written


class FakeWorker:
    """One worker: its first part is what ``Dispatcher`` sees of ``process.Worker``.

    Args:
        pid: Any number.
        tasks_left: As ``process.Worker``.
        clock: Gives the time.
        pause: Called where a real one may go on by itself.
        tasks: Finds what a message is about: the runs, and the index of its first item.
        broken: The outcome of an initializer that fails.
    """

    def __init__(
        self,
        pid: int,
        tasks_left: int | None,
        clock: Callable[[], float],
        pause: Callable[[FakeWorker], None],
        tasks: Callable[[bytes], tuple[Runs, int]],
        broken: Frames | None = None,
    ) -> None:
        self.pid = pid
        self.state = STARTING
        self.tasks: deque[Task] = deque()
        self.tasks_left = tasks_left
        self.shared: dict[int, int] = {}
        self.heard = 0.0
        self.deadline = 0.0
        self.verdict: Verdict | None = None
        self.deaf = False
        self.babbled = False
        self.outbox = _Pipe()

        self.sent: deque[Message] = deque()  # what it has said and nobody has read
        self.watched = False  # the caller waits until there is room for the outbox
        self.heard_out = False  # the caller reads no more of it
        self.exitcode: int | None = None
        self.died_at = 0.0
        self.closed = False  # its stream is; it does nothing any more
        self.stopped_at: float | None = None
        self.halted = False  # by the caller, and not let go since
        self.ignores_term = False
        self.slow_stack = False
        self.why = ""  # what ended it: "outside", "signal" or "verdict"
        self.bytes = 0
        self.at: tuple[Runs, int, float] | None = None  # the item whose outcome would be lost
        self.many = False  # it is at several items: it loads a chunk
        self.begun = 0  # tasks
        self._most = tasks_left
        self._clock = clock
        self._find = tasks
        self._broken = broken
        self._stepping = False
        self._pausing = pause
        self._socket = _Socket(self._pause)
        self._tokens = _Tokens(self._socket)
        self.ledger = _Ledger(self._pause)
        self._messages: deque[Message] = deque()
        self._dropped = 0
        self._known: set[int] = set()
        self._since = 0.0
        self._finished = 0
        self._busy = 0.0
        self._life = self._loop()
        self.send([Message(child.START, 0, 0, 0, [])])

    # -- what the dispatcher calls ------------------------------------------------------

    def forget(self) -> list[Message]:
        """Do as ``Worker.forget``, of what a worker keeps less of."""
        oldest = list(self.shared)[:-MOST_SHARED]
        for number in oldest:
            del self.shared[number]
        return [Message(child.FORGET, 0, number, 0, []) for number in oldest]

    @property
    def takes_ahead(self) -> bool:
        return not self.outbox

    def send(self, messages: list[Message]) -> None:
        self._pause()
        if not self.closed or self.outbox or sum(len(f) for m in messages for f in m.frames) > wire.SMALL:
            self.outbox.send(messages)
        self._pause()
        ahead = [message.task for message in messages if message.ahead]
        if ahead:
            self._tokens.give(ahead)
            self._pause()

    def recall(self) -> set[int]:
        return set(self._tokens.take_back())

    def signal(self, number: int) -> None:
        self._pause()
        if number in (signal.SIGSTOP, signal.SIGCONT):
            self.halted = number == signal.SIGSTOP
        if number == signal.SIGKILL:
            assert self.state != LEAVING or not self.halted, "it was told to leave, and kept from it"
            self.die(-number, "signal")
        elif number == signal.SIGSTOP:
            self.stop(STOP_DELAY)
        elif number == signal.SIGCONT:
            self.stopped_at = None
        elif number == signal.SIGTERM:
            if not self.ignores_term and not self.stopped:
                self.die(-number, "signal")
        else:
            raise AssertionError(number)

    def ask_for_stack(self) -> bool:
        self._pause()
        return self.slow_stack

    def kill_tree(self, children: Mapping[int, list[int]]) -> None:
        by_verdict = self.verdict is not None and self.verdict.step == KILLED
        stopped = self.stopped if by_verdict else self.halted  # who kills all does not wait for it
        assert stopped or self.exitcode is not None, "a process that runs can start another one meanwhile"
        self.die(-signal.SIGKILL, "verdict" if by_verdict else "signal")

    def report(self, exitcode: int | None) -> Report:
        return Report(pid=self.pid, exitcode=exitcode)

    def memory(self) -> int:
        self._pause()
        if self.at is not None:
            self.at[0].measured(self.at[1], self.bytes)
        return self.bytes

    # -- what happens to it ---------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        return self.stopped_at is not None and self.stopped_at <= self._clock()

    def stop(self, delay: float = 0.0) -> None:
        if self.stopped_at is None:
            self.stopped_at = self._clock() + delay

    def die(self, exitcode: int, why: str) -> None:
        """End, at once."""
        if self.exitcode is None:
            self.exitcode, self.why = exitcode, why
            self.died_at = self._clock()
            self.deafen()
            if self.at is not None:
                self.at[0].died(self.at[1], self, self.died_at - self.at[2])

    def deafen(self) -> None:
        """Close the stream and do nothing any more."""
        self.closed = self.outbox.broken = True

    def step(self) -> bool:
        """Make one step; tell whether another one could be made at once."""
        if self.closed or self.stopped or self._stepping:
            return False
        self._stepping = True
        try:
            return next(self._life)
        finally:
            self._stepping = False

    def _pause(self) -> None:
        if not self._stepping:
            self._pausing(self)

    # -- what it does by itself: see ``child._Child`` --------------------------------------

    def _loop(self) -> Steps:
        while True:
            if not self._messages:
                yield from self._flush()
                while not self.outbox.readable():
                    yield False
                self._messages.extend(self.outbox.take())
                yield True
                continue
            message = self._messages.popleft()
            if message.ahead:
                while True:
                    try:
                        may, self._dropped = self._socket.claim(message.task, self._dropped)
                    except _Blocked:
                        yield False
                    else:
                        break
                if not may:
                    continue
                yield True
            if message.kind in (child.CALL, child.CHUNK, child.CALL_AND_SHARED, child.CHUNK_AND_SHARED):
                self.begun += 1
                assert self._most is None or self.begun <= self._most, "it should have been replaced"
                is_call = message.kind in (child.CALL, child.CALL_AND_SHARED)
                yield from (self._call if is_call else self._chunk)(message)
            elif message.kind == child.FORGET:
                self._known.remove(message.ref)
            elif message.kind == child.START:
                yield True
                if self._broken is not None:
                    yield from self._send(child.BROKEN, 0, 0, self._broken)
                    break
                yield from self._send(child.READY, 0, 0, [])
            else:
                assert message.kind == child.EXIT
                assert not self._messages
                yield from self._flush()
                break
        yield True
        self.die(0, "leaves")
        while True:
            yield False

    def _call(self, message: Message) -> Steps:
        runs, item = self._find(message.frames[0])
        begun = self._begin(runs, message.task, 0, item, RUNNING)
        yield True
        if message.kind == child.CALL_AND_SHARED:
            self._known.add(message.ref)
            yield True
        assert not message.ref or message.ref in self._known, "it does not have these definitions"
        if (reason := runs.load(item)) is not None:
            yield from self._not_loaded(message.task, reason)
        else:
            runs.begin(item, self)
            yield from self._run(runs, item, message.task, 0, begun, True)

    def _chunk(self, message: Message) -> Steps:
        runs, first = self._find(message.frames[0])
        begun = self._begin(runs, message.task, message.items, first + message.items, LOADING)
        self.many = message.stop - message.items > 1
        yield True
        if message.kind == child.CHUNK_AND_SHARED:
            self._known.add(message.ref)
            yield True
        assert message.ref in self._known, "it does not have that function"
        if (reason := runs.load(first + message.items)) is not None:
            yield from self._not_loaded(message.task, reason)
            return
        index, stop = message.items, message.stop
        while index < stop:
            item = first + index
            self._begin(runs, message.task, index, item, RUNNING, begun)
            runs.begin(item, self)
            begun = yield from self._run(runs, item, message.task, index, begun, index + 1 == stop)
            index += 1
            left = stop - index
            if left > 1 and self.ledger.asked() == message.task:
                stop -= left // 2
                yield from self._flush()
                yield from self._send(child.GIVEN_BACK, stop, message.task, [])
                self.ledger.ask(0)
                yield True

    def _begin(self, runs: Runs, task: int, index: int, item: int, state: int, begun: float = 0.0) -> float:
        begun = begun or self._clock()
        self.ledger.begin(task, index, state, begun)
        self.at, self.many = (runs, item, begun), False
        return begun

    def _run(self, runs: Runs, item: int, task: int, index: int, begun: float, whole: bool) -> Steps:
        yield True
        while (outcome := runs.end(item)) is None:
            yield False
        yield True
        now = self._clock()
        self.ledger.rest()
        yield True
        self._busy += now - begun
        self._finished += whole
        if whole and not self._since and not self._messages:
            yield from self._send(child.RESULT, index, task, outcome)
        elif not self.ledger.add(record := pack_result(task, index, outcome)):
            yield from self._flush()
            if len(record) > SIZE // 2 or not self.ledger.add(record):
                yield from self._send(child.RESULT, index, task, outcome)
            else:
                self._since = now
                self._is_safe()
        else:
            self._is_safe()
            self._since = self._since or begun
            if now - self._since > (child._HOLD if whole else child._FLUSH):
                yield True
                yield from self._flush()
        yield True
        return now

    def _is_safe(self) -> None:
        if self.at is not None:
            self.at[0].safe(self.at[1])
            self.at = None

    def _not_loaded(self, task: int, outcome: Frames) -> Steps:
        yield from self._flush()
        self.ledger.refuse(task)
        yield True
        self._finished += 1
        yield from self._send(child.NOT_LOADED, 0, task, outcome)

    def _flush(self) -> Steps:
        if self._since:
            self._since = 0.0
            yield True
            held = self.ledger._page[_DATA : _DATA + self.ledger._held]
            yield from self._send(child.RESULTS, 0, 0, [held])
            self.ledger.flush(lambda _: None)  # sent above, since one may die in between
            yield True

    def _send(self, kind: int, items: int, task: int, frames: Frames) -> Steps:
        pace = 0
        if self._finished:
            pace = max(1, int(self._busy * 1e6 / self._finished))
            self._finished, self._busy = 0, 0.0
        yield True
        while sum(len(f) for m in self.sent for f in m.frames) > CAPACITY:
            yield False
        self.sent.append(Message(kind, items, pace, task, frames))
        if kind == child.RESULT:
            self._is_safe()
        elif kind == child.NOT_LOADED:
            self.at = None
        yield True
