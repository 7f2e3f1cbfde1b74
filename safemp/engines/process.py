"""One worker process, from the caller's side: its sockets, its ledger, its tasks."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import current_process
from typing import Any

from safemp.engines import Task, child, inherit, system, wire
from safemp.engines.blackbox import Box
from safemp.engines.ledger import Ledger
from safemp.engines.listener import Source
from safemp.engines.postmortem import PostMortem
from safemp.engines.report import Report
from safemp.engines.settings import Settings
from safemp.engines.stats import Tally
from safemp.engines.surroundings import surroundings_of
from safemp.engines.verdict import Verdict
from safemp.engines.wire import Message

__all__ = ["BUSY", "IDLE", "LEAVING", "STARTING", "Worker", "start"]

STARTING, IDLE, BUSY, LEAVING = range(4)

_MOST_SHARED = 64
_MOST_SHARED_BYTES = 1 << 24
"""What a worker keeps of functions and definitions. Picked: more than the functions that
a script alternates, and less than anybody misses; beyond it, the latest is kept alone."""


class Worker:
    """A worker process.

    Attributes:
        state: ``STARTING``, ``IDLE``, ``BUSY`` or ``LEAVING``.
        tasks: What was sent and has not finished, in order. The first runs, or is about
            to; those that were written ahead and have not begun can be taken back.
        tasks_left: Tasks until it is replaced; ``None``: never.
        shared: What of the tasks' ``shared`` it has: sizes by numbers, the oldest first.
        heard: When it last finished something, got work or read some of it (``time.monotonic``).
        deadline: When the next thing is done about it (``time.monotonic``); 0: nothing
            is to be done.
        verdict: Why it is being ended, if it is.
        deaf: It has closed its stream, so it cannot answer any more.
        babbled: It has said what no worker says: a task has written into its stream.
        source: Its log records and output, as they are received; ``None``: unwanted.
        fd: Becomes readable when the process ends.
        box: Its black box.
        killed: Whether we have sent it a signal to end it.
        tally: What is counted of it; there once it has joined.
    """

    tally: Tally

    def __init__(
        self,
        process: Any,
        stream: socket.socket,
        tokens: wire.Tokens,
        ledger: Ledger,
        post_mortem: PostMortem,
        tasks_left: int | None,
        source: Source | None = None,
    ) -> None:
        self.process = process
        self.pid: int = process.pid
        self.stream = stream
        self.ledger = ledger
        self.source = source
        self.box: Box = post_mortem.box
        self.killed: bool = False
        self._post_mortem = post_mortem
        self.reader: wire.Reader = wire.Reader()
        self.outbox: wire.Outbox = wire.Outbox()
        self.state = STARTING
        self.tasks: deque[Task] = deque()
        self.tasks_left = tasks_left
        self.shared: dict[int, int] = {}
        self.heard: float = 0.0
        self.deadline: float = 0.0
        self.verdict: Verdict | None = None
        self._asked_for: Verdict | None = None
        self._is_telling = False
        self.deaf = False
        self.babbled = False
        self._tokens = tokens
        pidfd = system.open_pidfd(self.pid)
        self.fd: int = process.sentinel if pidfd is None else pidfd
        stream.setblocking(False)

    @property
    def takes_ahead(self) -> bool:
        """Whether something can be written to it while it is busy."""
        return not self.outbox

    def send(self, messages: Sequence[Message]) -> None:
        """Write *messages* as far as the socket takes them; the rest is queued.

        A worker that is gone swallows everything; its end is noticed elsewhere. The tokens
        of what it swallowed are there all the same, so that ``recall`` tells the whole of
        what has not begun.
        """
        with contextlib.suppress(OSError):
            self.outbox.send(self.stream, messages)
        ahead = [message.task for message in messages if message.ahead]
        if ahead:
            with contextlib.suppress(OSError):
                self._tokens.give(ahead)

    def forget(self) -> list[Message]:
        """Make the orders to forget what is too much of ``shared``; they go behind what needs it."""
        kept = self.shared
        orders = []
        while len(kept) > _MOST_SHARED or (sum(kept.values()) > _MOST_SHARED_BYTES and len(kept) > 1):
            oldest = next(iter(kept))
            del kept[oldest]
            orders.append(Message(child.FORGET, 0, oldest, 0, []))
        return orders

    def recall(self) -> set[int]:
        """Take back what was written ahead and has not begun.

        Returns:
            The ids of the tasks.
        """
        try:
            return set(self._tokens.take_back())
        except OSError:  # it is gone; what it had not begun is moved then
            return set()

    def signal(self, number: int) -> None:
        """Send a signal; 0: none. The process is not buried yet, so its pid is still its own."""
        self.killed = self.killed or number not in (system.STOP, system.CONTINUE)
        if number:
            with contextlib.suppress(OSError):
                os.kill(self.pid, number)

    def ask_for_stack(self) -> bool:
        """Have the process write down where it is, once for each verdict.

        Returns:
            Whether it is still at it. Ask again a few milliseconds later, but not for ever:
            a stopped process answers when it goes on.
        """
        if self._asked_for is not self.verdict:
            self._asked_for = self.verdict
            self._is_telling = self.box.ask(self.pid)
        elif self._is_telling and self.box.answered():
            self._is_telling = False
        return self._is_telling

    def kill_tree(self, children: Mapping[int, list[int]]) -> None:
        """Kill the process, which is stopped, and all that it has started.

        Args:
            children: What ``system.children`` has found since.
        """
        system.kill_descendants(self.pid, children)
        self.signal(system.KILL)

    def memory(self) -> int:
        """Return the bytes that the process has resident; 0 where that is not known."""
        return system.resident(self.pid)

    def close(self) -> None:
        """Give back everything that was held for the process. It has ended."""
        self.stream.close()
        self.reader.close()
        self._tokens.close()
        self.ledger.close()
        self._post_mortem.close()
        if self.source is not None:
            self.source.close()
        if self.fd != self.process.sentinel:
            os.close(self.fd)
        popen = self.process._popen
        if hasattr(popen, "close"):  # loky's gives its descriptor back when freed
            popen.close()  # not the process: multiprocessing may be about to join that, at exit

    def reap(self) -> int | None:
        """Return the exit code of the ended process; ``None`` if somebody else took it."""
        return self._post_mortem.reap(self.process)

    def report(self, exitcode: int | None) -> Report:
        """Say what is known of the ended process, without the call. Before ``close``."""
        return self._post_mortem.report(self.pid, exitcode, ours=self.killed, asked=self.verdict is not None)


@contextlib.contextmanager
def _daemons_may() -> Iterator[None]:
    """Lift multiprocessing's rule that a daemonic process has no children.

    It is there because a daemon is terminated without a chance to end its children;
    ours end with it (``system.die_with``).
    """
    config: dict[str, Any] = current_process()._config  # type: ignore[attr-defined]
    daemon = config.pop("daemon", None)
    try:
        yield
    finally:
        if daemon is not None:
            config["daemon"] = daemon


def start(settings: Settings, name: str, source: Source | None = None) -> Worker:
    """Start a worker process.

    Args:
        settings: How it is kept.
        name: Of the process.
        source: What takes its log records and output; closed with it.

    Raises:
        OSError: There is no process, descriptor or memory to be had.
    """
    context = settings.context
    with contextlib.ExitStack() as here, contextlib.ExitStack() as unless_it_runs:
        if source is not None:
            unless_it_runs.callback(source.close)
        ours, theirs = wire.streams()
        unless_it_runs.enter_context(ours)
        here.enter_context(theirs)
        tokens = wire.Tokens()
        unless_it_runs.callback(tokens.close)
        ledger_fd = system.ledger_file()
        here.callback(os.close, ledger_fd)
        post_mortem = PostMortem()
        unless_it_runs.callback(post_mortem.close)
        surroundings = surroundings_of(settings)
        process = context.Process(
            target=child.main,
            name=surroundings.name_with(name, context.get_start_method()),
            args=(
                theirs,
                tokens.theirs,
                os.getpid(),
                context.get_start_method() != "forkserver",
                not settings.main_by_name,
                surroundings,
                settings.inherited.share() if settings.inherited else inherit.NOTHING,
            ),
        )
        surroundings.hand_over(process)
        with _daemons_may(), system.interrupts_held(context.get_start_method()):
            process.start()
        post_mortem.started(context.get_start_method())
        board = source.fds if source is not None else []
        socket.send_fds(ours, [b"L"], [ledger_fd, post_mortem.box.fd, *board])
        if settings.inherited:
            settings.inherited.send(ours)
        worker = Worker(process, ours, tokens, Ledger(ledger_fd), post_mortem, settings.max_tasks, source)
        unless_it_runs.pop_all()
    slot, what = (source.slot, source.what) if source is not None else (0, 0)
    worker.send([Message(child.START, slot, what, 0, settings.start or [])])
    return worker
