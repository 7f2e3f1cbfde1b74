"""The process of a template: a clean interpreter of which workers are forked, or which becomes one.

It has loaded what a worker needs, and nothing of the user's. It serves one caller, through
one socket; ``template`` is the caller's side.

    request  = sizes of the plan and the process, the two; descriptors come with the first byte
    response = the process id of the worker, from its parent; then 0, or a number of ``errno``

A worker's parent is a process between it and us, which ends at once. The caller is the reaper
of its descendants meanwhile, so it becomes the worker's parent: it can wait for it, the worker
ends with it (``system.die_with``), and nobody cares what becomes of the template.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import struct
import sys
import time
from multiprocessing import process, resource_tracker, spawn
from typing import Any, NamedTuple, NoReturn

from safemp.codec import pickling
from safemp.engines import child

__all__ = ["HEAD", "MOST_FDS", "NUMBER", "STANDARD", "Descriptor", "Plan", "TemplateProcess", "become", "serve"]

HEAD = struct.Struct("<QQ")
"""The sizes of a request's two parts."""

NUMBER = struct.Struct("<q")
"""Each of the numbers that a template says: 0, or a number of ``errno``, when it is ready; then of responses."""

MOST_FDS = 128
"""Descriptors of a request. Linux takes 253 (``SCM_MAX_FD``)."""

STANDARD = (0, 1, 2)
"""The descriptors of the standard streams."""

_PATIENCE = 5.0
"""Seconds until the caller is our parent. It takes as long as the process between us takes to end."""

_REFUSED = 255
"""The exit status of the process between us where there is none for an ``errno``."""


class Plan(NamedTuple):
    """How a worker begins, beside what it was forked of.

    Attributes:
        preparation: See ``multiprocessing.spawn.prepare``.
        umask: That of the caller.
        streams: Which of the standard streams the caller has; their descriptors come first.
        tracker: Whether the descriptor of the caller's resource tracker comes behind them.
    """

    preparation: dict[str, Any]
    umask: int
    streams: tuple[int, ...]
    tracker: bool


class Descriptor:
    """Stands for a descriptor in the pickle of a process: what multiprocessing calls a ``DupFd``."""

    given: dict[int, int] = {}  # noqa: RUF012 - one for the process
    """What has come and not been taken, by its place in the request."""

    def __init__(self, place: int) -> None:
        self._place = place

    def detach(self) -> int:
        """Return the descriptor, which then belongs to who asked."""
        return Descriptor.given.pop(self._place)


class TemplateProcess(process.BaseProcess):
    """A process that is started in this way, to multiprocessing."""

    _start_method = None  # of what it starts: that is said by ``Surroundings``

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from safemp.engines.template import popen  # with which a worker has nothing to do

        return popen(process_obj)


def become(fd: int, caller: int) -> None:
    """Be the worker of the one request that comes.

    Args:
        fd: Of the socket.
        caller: The caller's process id.
    """
    _occupy_standard()
    sock = socket.socket(fileno=fd)
    parts = _receive(sock)
    sock.close()
    _work(os.pidfd_open(caller), *parts)


def serve(fd: int, caller: int) -> None:
    """Fork workers until the caller ends, or has no more need of us; in a worker, be one.

    Args:
        fd: Of the socket.
        caller: The caller's process id.
    """
    _occupy_standard()
    watched = os.pidfd_open(caller)
    if os.getppid() != caller:  # it has ended before
        return
    sock = socket.socket(fileno=fd)
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_DFL) == signal.SIG_IGN  # or nobody's end can be waited for
    # What is forked has one thread, whatever others did; something has been loaded that made more.
    fit = child is not None and len(os.listdir("/proc/self/task")) == 1
    gc.collect()
    gc.freeze()  # or the first collection of each worker would make all of it its own
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    poll.register(watched, select.POLLIN)
    try:
        sock.sendall(NUMBER.pack(not fit))
        while not any(ready == watched for ready, _ in poll.poll()):
            parts = _receive(sock)
            if _fork(sock):
                sock.close()
                if ignored:
                    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as it would be in a child of the caller
                _wait_for(caller, watched)
                _work(watched, *parts)
            for each in Descriptor.given.values():
                os.close(each)
    except (EOFError, ConnectionError):  # nobody needs us any more
        pass
    os._exit(0)


def _occupy_standard() -> None:
    """Have no other descriptor get the numbers of the standard streams."""
    while (fd := os.open(os.devnull, os.O_RDWR)) in STANDARD:
        pass
    os.close(fd)


def _receive(sock: socket.socket) -> tuple[bytes, bytes]:
    """Wait for a request; what comes with it is in ``Descriptor.given`` then.

    Raises:
        EOFError: There is none.
    """
    head, fds, _, _ = socket.recv_fds(sock, HEAD.size, MOST_FDS)
    if len(head) < HEAD.size:  # a caller writes this at once, so it has ended
        raise EOFError
    Descriptor.given = dict(enumerate(fds))
    plan, process_object = HEAD.unpack(head)
    return _exactly(sock, plan), _exactly(sock, process_object)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return bytes(data)


def _fork(sock: socket.socket) -> bool:
    """Make a worker that is not our child; tell whether this process is it."""
    try:
        between = os.fork()
    except OSError as error:
        sock.sendall(NUMBER.pack(0) + NUMBER.pack(error.errno or _REFUSED))
        return False
    if not between:
        try:
            pid = os.fork()
        except OSError as error:
            os._exit(error.errno or _REFUSED)
        if not pid:
            return True
        sock.sendall(NUMBER.pack(pid))
        os._exit(0)
    _, status = os.waitpid(between, 0)
    error_number = os.waitstatus_to_exitcode(status)
    if error_number:
        sock.sendall(NUMBER.pack(0))
    sock.sendall(NUMBER.pack(abs(error_number)))
    return False


def _wait_for(caller: int, watched: int) -> None:
    """Wait until the caller is our parent, or end with it: *watched* becomes readable when it ends."""
    deadline = time.monotonic() + _PATIENCE
    while os.getppid() != caller:
        ended, _, _ = select.select([watched], [], [], 0.0002)
        if ended or time.monotonic() > deadline:
            os._exit(1)


def _work(sentinel: int, plan: bytes, process_object: bytes) -> NoReturn:
    """Be a worker.

    Args:
        sentinel: Becomes readable when the caller ends.
        plan: A pickle of ``Plan``.
        process_object: That of a ``multiprocessing`` process.
    """
    how = Plan(*pickling.plain_loads(plan))
    os.umask(how.umask)
    for stream in STANDARD:
        if stream in how.streams:
            _move(Descriptor.given.pop(how.streams.index(stream)), stream)
        else:
            _close(stream)
    if how.tracker:
        tracker: Any = resource_tracker._resource_tracker
        tracker._fd = Descriptor.given.pop(len(how.streams))
    ours: Any = process.current_process()
    ours._inheriting = True
    try:
        spawn.prepare(how.preparation)
        made = pickling.plain_loads(process_object)
    finally:
        del ours._inheriting
    sys.exit(made._bootstrap(parent_sentinel=sentinel))


def _move(fd: int, to: int) -> None:
    if fd != to:
        os.dup2(fd, to)
        os.close(fd)


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:  # it was closed when the template was started, too
        pass
