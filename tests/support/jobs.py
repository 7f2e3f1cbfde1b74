"""The jobs that break today's pools, and the plain ones that run beside them.

All of it is importable by name in a worker: what breaks here, breaks by what it does.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# -- the four bad jobs ---------------------------------------------------------


class TwoArguments(Exception):
    """Pickles, but does not load: its constructor wants two arguments and pickle has one."""

    def __init__(self, a: object, b: object) -> None:
        super().__init__(f"{a}/{b}")
        self.a = a
        self.b = b


class Locked(Exception):
    """Does not pickle: it holds a lock."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.code = 7


class Service:
    """Reaches an open socket at ``.db["conn"][0]``."""

    def __init__(self, conn: socket.socket) -> None:
        self.name = "service"
        self.db = {"host": "localhost", "conn": [conn, 5]}


_sockets: list[socket.socket] = []


def open_service(*, tls: bool = True) -> Service:
    """Make a service; ``close_services`` closes its socket (for pools without processes).

    A plain socket is no obstacle to today's pools: ``multiprocessing`` registers a
    reducer for exactly ``socket.socket``, which duplicates its descriptor.
    """
    conn = socket.socket()
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        conn = context.wrap_socket(conn, do_handshake_on_connect=False)
    _sockets.append(conn)
    return Service(conn)


def close_services() -> None:
    """Close the sockets that ``open_service`` has opened in this process."""
    while _sockets:
        _sockets.pop().close()


def raise_two_arguments(a: object = "left", b: object = "right") -> None:
    raise TwoArguments(a, b)


def raise_locked() -> None:
    raise Locked("locked")


def return_service(tls: bool = True) -> Service:
    return open_service(tls=tls)


def take(value: object) -> str:
    return type(value).__name__


# -- plain jobs ----------------------------------------------------------------


def square(x: Any) -> Any:
    return x * x


def text_of_last(x: int) -> int | str:
    return x if x % 1000 < 999 else str(x)


def add(x: Any, y: Any) -> Any:
    return x + y


def same(value: Any) -> Any:
    return value


def pid(_: object = None) -> int:
    return os.getpid()


def work(i: int, seconds: float = 0.2) -> int:
    """Take some time, as a real job does."""
    time.sleep(seconds)
    return i * 10


def keywords(**kwargs: Any) -> dict[str, Any]:
    return kwargs


def note(path: str, text: object) -> object:
    """Leave a line in a file: one atomic write, so that no line is lost or torn."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, f"{text}\n".encode())
    finally:
        os.close(fd)
    return text


def wait_for(path: str) -> str:
    """Return when *path* exists; the test that holds the job back makes it."""
    deadline = time.monotonic() + 40
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise TimeoutError(f"nobody has made {path}")
        time.sleep(0.005)
    return path


def started_then_wait(started: str, release: str) -> int:
    """Say by a file that this task runs, then wait for another file."""
    Path(started).touch()
    wait_for(release)
    return os.getpid()


def fail_if_odd(i: int) -> int:
    if i % 2:
        raise ValueError(f"odd: {i}")
    return i


async def coroutine() -> int:
    return 1


# -- deaths --------------------------------------------------------------------


def die_by_exit() -> None:
    os._exit(1)


def die_by_sigkill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_by_segfault() -> None:
    ctypes.string_at(0)


class ExitsOnLoad:
    """Ends any process that loads it, except the one that made it."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __setstate__(self, state: dict[str, Any]) -> None:
        if os.getpid() != state["home"]:
            os._exit(5)
        self.__dict__.update(state)


class ExitsOnDump:
    """Ends any process that pickles it, except the one whose pid it carries."""

    def __init__(self, home: int) -> None:
        self.home = home

    def __reduce__(self) -> tuple[Any, ...]:
        if os.getpid() != self.home:
            os._exit(6)
        return ExitsOnDump, (self.home,)


class ExitsOnDumpError(Exception):
    """An exception that ends the worker which pickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        if os.getpid() != self.args[0]:
            os._exit(8)
        return ExitsOnDumpError, self.args


def return_exits_on_dump(home: int) -> ExitsOnDump:
    return ExitsOnDump(home)


def raise_exits_on_dump(home: int) -> None:
    raise ExitsOnDumpError(home)


def note_or_die(path: str, fatal: int, i: int) -> int:
    """Leave a line, except the *fatal* one, which ends its worker."""
    if i == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    note(path, i)
    return i * i


# -- values that load or dump badly, without ending anything ---------------------


class RaisesOnLoad:
    """Pickles; loading it raises."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _refuse_to_load, ()


def _refuse_to_load() -> None:
    raise ZeroDivisionError("refuses to load")


class RaisesOnDump:
    """Does not pickle: a user's own ``__reduce__`` raises a user's own error."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error if error is not None else LookupError("refuses to dump")

    def __reduce__(self) -> tuple[Any, ...]:
        raise self.error


class ExitsOnDumpPolitely:
    """``__reduce__`` raises ``SystemExit``: user code may do anything while it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        raise SystemExit(9)


class Recurses:
    """Every attribute that it lacks, it looks for in itself."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self, name + "_")


class Mute:
    """Nothing that shows it works."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")

    def __str__(self) -> str:
        raise RuntimeError("no str")


def return_raises_on_load() -> RaisesOnLoad:
    return RaisesOnLoad()


def return_raises_on_dump() -> RaisesOnDump:
    return RaisesOnDump()


def return_exits_politely() -> ExitsOnDumpPolitely:
    return ExitsOnDumpPolitely()


def return_generator() -> Any:
    return (i for i in range(3))


# -- state of a worker ---------------------------------------------------------

_state: dict[str, Any] = {}


def set_state(key: str, value: Any) -> None:
    _state[key] = value


def get_state(key: str) -> Any:
    return _state.get(key)


def fail_to_start() -> None:
    raise TwoArguments("initializer", "failed")


class Ignoring:
    """Calls a function without the item of the map that it is called for."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function

    def __call__(self, _: object) -> Any:
        return self.function()


def by_number(i: int) -> Any:
    """Square *i*; some numbers are bad jobs."""
    if i == 3:
        raise_two_arguments()
    if i == 5:
        raise_locked()
    return return_service() if i == 8 else i * i


def load_in_worker(home: int) -> None:
    """Raise an error that ends the worker which checks that it loads."""
    raise ExitsOnLoadError(home)


class ExitsOnLoadError(Exception):
    """Ends any process that loads it, except the one whose pid it carries."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_exits_on_load, self.args


def _make_exits_on_load(home: int) -> ExitsOnLoadError:
    if os.getpid() != home:
        os._exit(5)
    return ExitsOnLoadError(home)


# -- pools in tasks ------------------------------------------------------------


def nested_executor() -> list[int]:
    import safemp

    with safemp.SafeExecutor(1) as executor:
        return list(executor.map(square, range(3)))


def nested_pool() -> list[int]:
    import safemp

    with safemp.Pool(1) as pool:
        return pool.map(square, range(3))


def nested_map() -> list[int]:
    import safemp

    return safemp.map(square, range(3))


def increment(array: Any) -> Any:
    """Write to what has arrived."""
    array[0] += 1
    return array


def initialize(path: str, value: object) -> None:
    """Leave this worker's pid in a file, and a value in its state."""
    note(path, os.getpid())
    set_state("initialized", value)


class NoteOrFail:
    """Leaves a line for each item but one, for which it raises."""

    def __init__(self, path: str, bad: int) -> None:
        self.path = path
        self.bad = bad

    def __call__(self, i: int) -> object:
        if i == self.bad:
            raise ValueError(f"bad: {i}")
        return note(self.path, i)


class Noting:
    """Leaves a line for each item."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self, i: int) -> object:
        return note(self.path, i)


def note_but_wait_at_1(path: str, release: str, i: int) -> object:
    """Leave a line for each item; the second one waits for a file first."""
    if i == 1:
        wait_for(release)
    return note(path, i)


def fork_and_return() -> str:
    """Fork; the child returns from the task like its parent, which waits for it."""
    pid = os.fork()
    if pid == 0:
        return "child"
    os.waitpid(pid, 0)
    return "parent"


def fork_and_exit() -> str:
    """Fork; the child leaves by ``sys.exit``, as its author thinks; its parent waits for it."""
    pid = os.fork()
    if pid == 0:
        raise SystemExit(0)
    os.waitpid(pid, 0)
    return "parent"
