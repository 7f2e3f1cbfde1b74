"""Workers that are forked from a template, the caller's side: how safemp starts workers on Linux.

A started interpreter takes a tenth of a second of processor time until it has loaded what a
worker needs, a fork of one that has, a few milliseconds; and what it has loaded is in memory
once for all of them. ``template_main`` is the other side.

1. A template has nothing of the user's, and one thread. So what is forked of it is as clean as
   an interpreter that has just been started, and holds nobody's lock.
2. A worker is a child of this process (see ``template_main``), and ends with it, not with the template.
3. What a process inherits when it starts is that of the template. So there is a new template when
   any of it has changed here (``_Inherited``); what can be set later, is: see ``template_main.Plan``.
4. There is a template as long as a pool is open that has asked for one (``keeper``).
5. Where a template would not do (something in it has started a thread), the interpreter that would be the template
   becomes the worker itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing.context as stdlib
import os
import resource
import socket
import sys
import threading
from io import BytesIO
from multiprocessing import popen_fork, process, reduction, resource_tracker, spawn, util
from typing import Any, ClassVar, NamedTuple

from safemp.engines import system, wire
from safemp.engines.template_main import HEAD, NUMBER, STANDARD, Descriptor, Plan, TemplateProcess

__all__ = ["NAME", "TemplateContext", "keeper", "popen", "template_context"]

NAME = "template"
"""What this way to start a process is called, where others are called ``spawn`` or ``fork``."""

_READY = 20.0
"""Seconds that a template may take to be ready, on a machine that does a lot else."""

_ANSWER = 5.0
"""Seconds that it may take to fork, which takes it milliseconds."""

_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]


class _Inherited(NamedTuple):
    """What a process has from its start, and cannot, or can hardly, be given later."""

    command: tuple[str, ...]
    environment: dict[str, str]
    users: tuple[Any, ...]
    limits: tuple[tuple[int, int], ...]
    niceness: int
    cores: frozenset[int]

    @classmethod
    def now(cls) -> _Inherited:
        """Return what a process that is started now would have."""
        return cls(
            (os.fsdecode(spawn.get_executable()), *util._args_from_interpreter_flags()),  # type: ignore[attr-defined]
            dict(os.environ),
            (os.getresuid(), os.getresgid(), tuple(os.getgroups())),
            tuple(resource.getrlimit(limit) for limit in _LIMITS),
            os.getpriority(os.PRIO_PROCESS, 0),
            frozenset(os.sched_getaffinity(0)),
        )


class _Template:
    """A process that is, or will be, a template; or one that becomes a worker itself.

    Args:
        inherited: What it begins with.
        function: What of ``template_main`` it calls.

    Attributes:
        forks: Workers that have been forked of it.

    Raises:
        OSError: There is no process or descriptor to be had.
    """

    def __init__(self, inherited: _Inherited, function: str) -> None:
        self.inherited = inherited
        self.forks = 0
        self._ready = False
        self._sock, theirs = wire.streams()
        fd = -1
        try:
            with theirs:
                fd = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, max(STANDARD) + 1)
            path = [entry for entry in _path() if isinstance(entry, str)]
            # In a directory that is gone, Python 3.13.0 cannot import socket.
            away = "" if _directory() is not None else "import os; os.chdir('/'); "
            command = (
                f"{away}import sys; sys.path[:] = sys.argv[1:]; del sys.argv[1:]; "
                f"from safemp.engines.template_main import {function}; {function}({fd}, {os.getpid()})"
            )
            # An argument each: one has 128 KiB at most.
            line = [os.fsencode(each) for each in (*inherited.command, "-c", command, *path)]
            with system.interrupts_held(NAME):
                self.pid: int = util.spawnv_passfds(line[0], line, [fd])
        except BaseException:
            self._sock.close()
            raise
        finally:
            if fd >= 0:
                os.close(fd)

    def is_fit(self) -> bool:
        """Wait until it is ready; tell whether it can be forked.

        Raises:
            OSError: It has ended, or is not ready in time.
        """
        if self._ready:
            return True
        self._sock.settimeout(_READY)
        self._ready = not self._number()
        return self._ready

    def fork(self, parts: tuple[bytes, bytes], fds: list[int]) -> int:
        """Have a worker forked.

        Args:
            parts: Of the request.
            fds: The descriptors that it gets.

        Returns:
            Its process id. It is our child.

        Raises:
            OSError: There is no process to be had, or the template has ended.
        """
        self._sock.settimeout(_ANSWER)
        with system.reaping():
            self.ask(parts, fds)
            pid, error = self._number(), self._number()
        if error:
            raise OSError(error, os.strerror(error))
        self.forks += 1
        return pid

    def ask(self, parts: tuple[bytes, bytes], fds: list[int]) -> None:
        """Send a request. Arguments and errors as for ``fork``."""
        socket.send_fds(self._sock, [HEAD.pack(*map(len, parts))], fds)
        self._sock.sendall(b"".join(parts))

    def _number(self) -> int:
        """Read one number of a response."""
        data = b""
        while len(data) < NUMBER.size:
            more = self._sock.recv(NUMBER.size - len(data))
            if not more:
                raise ConnectionResetError("the process that workers are forked from has ended")
            data += more
        number: int = NUMBER.unpack(data)[0]
        return number

    def let_go(self) -> None:
        """Close the connection. What has become a worker goes on."""
        self._sock.close()

    def end(self) -> None:
        """End it. It holds nothing that anybody misses."""
        self._sock.close()
        with contextlib.suppress(OSError):
            os.kill(self.pid, system.KILL)
        with contextlib.suppress(OSError):  # somebody has waited for all children
            os.waitpid(self.pid, 0)


class _Keeper:
    """Has the template of this process, while it is needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users = 0
        self._template: _Template | None = None
        self._unfit = False

    def opened(self) -> None:
        """Take notice that a pool may want workers."""
        with self._lock:
            self._users += 1

    def closed(self) -> None:
        """Take notice that a pool wants no more."""
        with self._lock:
            self._users -= 1
            if not self._users:
                self._end()

    def start(self, parts: tuple[bytes, bytes], fds: list[int]) -> int:
        """Start a worker.

        Args:
            parts: Of the request: see ``template_main``.
            fds: The descriptors that it gets.

        Returns:
            Its process id. It is our child.

        Raises:
            OSError: There is no process or descriptor to be had.
        """
        with self._lock:
            inherited = _Inherited.now()
            while (template := self._fit(inherited)) is not None:
                is_new = not template.forks
                try:
                    return template.fork(parts, fds)
                except OSError as error:
                    if isinstance(error, (ConnectionError, TimeoutError)):
                        self._end()
                        if not is_new:
                            continue  # it has been killed, or stopped, meanwhile
                    raise
                finally:
                    if not self._users:  # a process that is no pool's
                        self._end()
        alone = _Template(inherited, "become")
        try:
            alone.ask(parts, fds)
        except BaseException:
            alone.end()
            raise
        alone.let_go()
        return alone.pid

    def _fit(self, inherited: _Inherited) -> _Template | None:
        """Return a template for what begins with *inherited*; ``None``: there can be none."""
        if self._template is not None and self._template.inherited != inherited:
            self._end()
        if self._template is None and not self._unfit:
            self._template = _Template(inherited, "serve")
        try:
            if self._template is not None and not self._template.is_fit():
                self._unfit = True
                self._end()
        except OSError:
            self._end()
            raise
        return self._template

    def _end(self) -> None:
        template, self._template = self._template, None
        if template is not None:
            template.end()

    def forget(self) -> None:
        """In a forked child: let go of what is its parent's."""
        template, self._template = self._template, None
        self._lock = threading.Lock()  # a thread that is not here may have held it
        self._users = 0
        if template is not None:
            template.let_go()


keeper: _Keeper = _Keeper()
os.register_at_fork(after_in_child=keeper.forget)


class _Popen(popen_fork.Popen):
    """What multiprocessing calls the way in which a process is started."""

    method = NAME
    DupFd = Descriptor

    def __init__(self, process_obj: Any) -> None:
        self._fds: list[int] = []
        super().__init__(process_obj)

    def duplicate_for_child(self, fd: int) -> int:
        """Have *fd* go to the process, and return its place among those that do."""
        self._fds.append(fd)
        return len(self._fds) - 1

    def _launch(self, process_obj: Any) -> None:
        streams = tuple(fd for fd in STANDARD if system.is_open(fd))
        spawning: Any = stdlib
        self._fds += [*streams, resource_tracker.getfd()]  # type: ignore[list-item]  # it is running then
        spawning.set_spawning_popen(self)
        try:
            plan = _pickled(tuple(Plan(_preparation(process_obj.name), _umask(), streams, True)))
            pickled = _pickled(process_obj)
        finally:
            spawning.set_spawning_popen(None)
        self.pid = keeper.start((plan, pickled), self._fds)
        self.sentinel: int = os.pidfd_open(self.pid)
        self.finalizer = util.Finalize(self, os.close, (self.sentinel,))


def popen(process_obj: Any) -> Any:
    """Start a process."""
    return _Popen(process_obj)


def _pickled(obj: Any) -> bytes:
    buffer = BytesIO()
    reduction.dump(obj, buffer)
    return buffer.getvalue()


def _preparation(name: str) -> dict[str, Any]:
    """Return what ``multiprocessing.spawn.prepare`` makes a process out of, without a main module.

    Not its ``get_preparation_data``, which settles this program's start method.
    """
    ours: Any = process
    made: dict[str, Any] = {
        "name": name,
        "authkey": process.current_process().authkey,
        "log_to_stderr": util._log_to_stderr,  # type: ignore[attr-defined]
        "sys_path": _path(),
        "sys_argv": sys.argv,
        "orig_dir": ours.ORIGINAL_DIR,
    }
    if (directory := _directory()) is not None:
        made["dir"] = directory
    if util._logger is not None:  # type: ignore[attr-defined]
        made["log_level"] = util._logger.getEffectiveLevel()  # type: ignore[attr-defined]
    return {**_stowaways(name), **made}


def _stowaways(name: str) -> dict[str, Any]:
    """Return what others have ``get_preparation_data`` add: coverage sends something that measures the process."""
    theirs: Any = spawn.get_preparation_data
    if theirs.__module__ == spawn.__name__:
        return {}
    context: Any = stdlib._default_context
    settled = context._actual_context
    try:
        found: dict[str, Any] = theirs(name)
    finally:
        context._actual_context = settled
    return {key: value for key, value in found.items() if key not in _STANDARD}


_STANDARD = frozenset(
    {"name", "authkey", "log_to_stderr", "log_level", "sys_path", "sys_argv", "orig_dir", "dir", "start_method"}
    | {"init_main_from_name", "init_main_from_path"}
)
"""What the standard library itself puts there."""


def _path() -> list[str]:
    """Return ``sys.path``, with the directory that the program was started in where it says "here"."""
    return [entry or process.ORIGINAL_DIR or "" for entry in sys.path]  # type: ignore[attr-defined]


def _directory() -> str | None:
    """Return that of this process; ``None``: it has been removed, or one may not enter it (but be in it)."""
    try:
        found = os.getcwd()
    except OSError:
        return None
    return found if os.access(found, os.X_OK) else None


def _umask() -> int:
    """Return that of this process, which can only be asked for by setting it (Linux says it in a file)."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        return next((int(line.split()[1], 8) for line in status if line.startswith("Umask:")), 0o022)


class TemplateContext(stdlib.BaseContext):
    """A context of multiprocessing whose processes are.

    Attributes:
        keeper: Wants to know when a pool is opened and closed that takes them.
    """

    _name = NAME
    keeper: ClassVar[_Keeper] = keeper
    Process: ClassVar[Any] = TemplateProcess


template_context: TemplateContext = TemplateContext()
