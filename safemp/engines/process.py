"""One worker process, from the caller's side: its sockets, its ledger, its tasks."""

from __future__ import annotations

import contextlib
import os
import socket
from collections import deque
from collections.abc import Iterator
from multiprocessing import current_process
from typing import Any

from safemp.engines import Task, child, system, wire
from safemp.engines.ledger import Ledger
from safemp.engines.listener import Source
from safemp.engines.settings import Settings
from safemp.engines.wire import Message

__all__ = ["BUSY", "IDLE", "LEAVING", "STARTING", "Worker", "start"]

STARTING, IDLE, BUSY, LEAVING = range(4)


class Worker:
    """A worker process.

    Attributes:
        state: ``STARTING``, ``IDLE``, ``BUSY`` or ``LEAVING``.
        tasks: What was sent and has not finished, in order. The first runs, or is about
            to; the others were written ahead and can be taken back.
        tasks_left: Tasks until it is replaced; ``None``: never.
        functions: The functions of maps that it has.
        deadline: When it is killed, unless it has ended (``time.monotonic``); 0: never.
        heard: When it last finished something or got work (``time.monotonic``).
        source: Its log records and output, as they are received; ``None``: unwanted.
        fd: Becomes readable when the process ends.
    """

    def __init__(
        self,
        process: Any,
        packets: tuple[socket.socket, socket.socket] | None,
        stream: socket.socket,
        ledger: Ledger,
        tasks_left: int | None,
        source: Source | None = None,
    ) -> None:
        self.process = process
        self.pid: int = process.pid
        self.stream = stream
        self.ledger = ledger
        self.source = source
        self.reader = wire.Reader()
        self.outbox = wire.Outbox()
        self.state = STARTING
        self.tasks: deque[Task] = deque()
        self.tasks_left = tasks_left
        self.functions: set[int] = set()
        self.deadline = 0.0
        self.heard = 0.0
        pidfd = system.open_pidfd(self.pid)
        self.fd: int = process.sentinel if pidfd is None else pidfd
        # The other end stays open here, so that packets can be taken back. It is not
        # made non-blocking: that belongs to the open file, which the worker shares.
        self._packets: socket.socket | None = packets[0] if packets is not None else None
        self._theirs: socket.socket | None = packets[1] if packets is not None else None
        stream.setblocking(False)
        if self._packets is not None:
            self._packets.setblocking(False)

    @property
    def takes_ahead(self) -> bool:
        """Whether a small message can wait in its socket, and be taken back."""
        return self._packets is not None and not self.outbox

    def send(self, message: Message) -> bool:
        """Write *message* as far as the sockets take it; the rest is queued.

        A worker that is gone swallows everything; its end is noticed elsewhere.

        Returns:
            ``False``: nothing was written, there is no room behind what is waiting.
        """
        try:
            if self._packets is not None:
                if sum(map(len, message.frames)) + 8 * len(message.frames) <= wire.PACKET:
                    self._packets.send(b"".join((wire.head(message), *message.frames)))
                    return True
                self._packets.send(wire.head(Message(wire.ON_STREAM, 0, 0, 0, [])))
            self.outbox.add(message)
            self.outbox.flush(self.stream)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    def recall(self) -> list[int]:
        """Take back every packet that the worker has not read yet.

        Returns:
            The ids of the tasks that were in them.
        """
        ids: list[int] = []
        assert self._theirs is not None
        while True:
            try:
                packet = self._theirs.recv(2 * wire.PACKET, socket.MSG_DONTWAIT)
            except OSError:  # none left
                return ids
            message = wire.unpacket(memoryview(packet))
            if message.task:
                ids.append(message.task)

    def close(self) -> None:
        """Give back everything that was held for the process. It has ended."""
        for sock in (self._packets, self._theirs, self.stream):
            if sock is not None:
                sock.close()
        self.ledger.close()
        if self.source is not None:
            self.source.close()
        if self.fd != self.process.sentinel:
            os.close(self.fd)
        if hasattr(self.process._popen, "close"):  # loky's gives its descriptor back when freed
            with contextlib.suppress(ValueError):
                self.process.close()

    def reap(self) -> int | None:
        """Return the exit code of the ended process; ``None`` if somebody else took it."""
        for _ in range(100):  # multiprocessing may be reaping it in another thread
            self.process.join(0.05)
            code: int | None = self.process.exitcode
            if code is not None:
                return code
        return None


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
    ours, theirs = wire.streams()
    packets = wire.packets()
    ledger_fd = system.ledger_file()
    try:
        process = context.Process(
            target=child.main,
            name=name,
            args=(
                packets[1] if packets else None,
                theirs,
                os.getpid(),
                context.get_start_method() != "forkserver",
                not settings.main_by_name,
            ),
        )
        with _daemons_may():
            process.start()
        socket.send_fds(ours, [b"L"], [ledger_fd, *(source.fds if source is not None else [])])
        worker = Worker(process, packets, ours, Ledger(ledger_fd), settings.max_tasks, source)
    except BaseException:
        if source is not None:
            source.close()
        ours.close()
        for sock in packets or ():
            sock.close()
        raise
    finally:
        theirs.close()
        os.close(ledger_fd)
    slot, what = (source.slot, source.what) if source is not None else (0, 0)
    worker.send(Message(child.START, slot, what, 0, settings.start or []))
    return worker
