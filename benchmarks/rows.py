"""What is measured: each row prepares its work, and the lane of a peer takes the time of it.

A row's ``prepare`` makes what is sent; what it returns is called once a turn, and only
that is timed. It looks at what came back, so that an answer that is wrong or missing
is an error and not a record.
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import jobs
from benchmarks.marks import MARK, marked
from benchmarks.peers import EXECUTOR, LIMIT, OURS, POOL, Peer, Unable

__all__ = ["ROWS", "Row", "Target"]

Work = Callable[[], Any]
STDLIB_SPAWN = ("multiprocessing.Pool (spawn)", "ProcessPoolExecutor (spawn)")
STDLIB_POOL = ("multiprocessing.Pool (fork)", "multiprocessing.Pool (forkserver)", "multiprocessing.Pool (spawn)")


@dataclass(frozen=True)
class Target:
    """What a row is to show.

    Attributes:
        bound: The largest ratio that will do; of *against* none, the largest value, in the row's own measure.
        against: The peers of which the best is the other side; ``None``: all of them.
        absolute: It is no ratio.
    """

    bound: float
    against: tuple[str, ...] | None = None
    absolute: bool = False


@dataclass(frozen=True)
class Row:
    """One kind of work.

    Attributes:
        name: What selects it on the command line.
        title: What it is.
        prepare: Makes the work of one turn, given a peer and how many tasks.
        tasks: Tasks in a turn.
        quick: The same with ``--quick``.
        unit: In which a value is shown: ``"us"`` or ``"ms"`` a task, ``"ms a turn"``, ``"KiB"``, ``"MiB"``.
        targets: What safemp is to reach.
        ours: Which of our front ends the targets are about.
        limit: Makes the work of one turn of the machine itself.
        scales: A peer that is slow may have fewer tasks: each costs the same.
        budget: Seconds that a turn may take, if it scales.
        often: It has so many times the rounds of others, since a turn is short.
        rounds: How many at most.
        fresh: Each turn has a new process: the row is about an unused pool, or leaves it unusable.
        large: Only with ``--large``.
        sizes: Numbers of workers, if the row is about them. Then processor time is what counts.
        peers: The only ones that are measured; ``None``: all.
    """

    name: str
    title: str
    prepare: Callable[[Peer, int], Work]
    tasks: int = 1
    quick: int = 1
    unit: str = "us"
    targets: tuple[Target, ...] = ()
    ours: str = EXECUTOR
    limit: Callable[[int], Work] | None = None
    scales: bool = True
    budget: float = 2.0
    often: int = 1
    rounds: int = 999
    fresh: bool = False
    large: bool = False
    sizes: tuple[int, ...] = ()
    peers: tuple[str, ...] | None = None

    @property
    def in_bytes(self) -> bool:
        """Whether its work returns a number of bytes."""
        return self.unit in ("KiB", "MiB")


# -- calls that do nothing -------------------------------------------------------------


def _of_main() -> Callable[[int], int]:
    return sys.modules["__main__"].noop_of_main  # type: ignore[no-any-return,attr-defined]


def _reads_globals() -> Callable[[int], int]:
    return sys.modules["__main__"].reads_globals  # type: ignore[no-any-return,attr-defined]


def _of_module() -> Callable[[int], int]:
    return jobs.noop


def _closure() -> Callable[[int], int]:
    table = {i: str(i) for i in range(20)}

    def local(x: int) -> int:
        return x + len(table) - 20

    return local


def _trips(kind: Callable[[], Callable[[int], int]], peer: Peer, n: int) -> Work:
    fn = kind()

    def work() -> None:
        submit = peer.submit
        for i in range(n):
            submit(fn, i)()

    return work


def _storm(kind: Callable[[], Callable[[int], int]], peer: Peer, n: int) -> Work:
    if not peer.queues:
        raise Unable("takes lists, not calls: see map")
    fn = kind()
    return partial(_whole, n, lambda: peer.storm(fn, zip(range(n))))


def _map(peer: Peer, n: int) -> Work:
    if not peer.chunks:
        raise Unable("its map sends every item by itself: see storm")
    return partial(_whole, n, lambda: peer.map(jobs.noop, range(n)))


def _whole(n: int, work: Callable[[], Sequence[int]]) -> None:
    answers = work()
    if len(answers) != n or answers[-1] != n - 1:
        raise Unable("wrong answers")


def _ping_pong(n: int) -> Work:
    sock, theirs = socket.socketpair()
    child = os.fork()  # this process has one thread
    if not child:
        sock.close()
        jobs.echo(theirs)
        os._exit(0)
    theirs.close()

    def work() -> None:
        message = bytes(64)
        for _ in range(n):
            sock.send(message)
            sock.recv(64)
        sock.close()
        os.waitpid(child, 0)

    return work


# -- durations -------------------------------------------------------------------------


def _naps(seconds: Callable[[int], float], peer: Peer, n: int) -> Work:
    naps = [seconds(i) for i in range(n)]
    return lambda: peer.map(jobs.nap, naps)


def _fair(seconds: Callable[[int], float], n: int) -> Work:
    """As long as two workers take that are never idle before the end."""
    whole = sum(seconds(i) for i in range(n))
    return partial(time.sleep, whole / 2)


def _skewed(i: int) -> float:
    return 0.020 if i < 25 else 0.001


def _growing(i: int) -> float:
    return i * 0.00005


def _one_long(i: int) -> float:
    return 0.1 if i == 100 else 0.001


# -- data ------------------------------------------------------------------------------


def _array(size: int) -> Any:
    if importlib.util.find_spec("numpy") is None:
        raise Unable("numpy is not installed")
    return jobs.kept(size // 8)


def _argument(size: int, peer: Peer, n: int) -> Work:
    array = _array(size)
    pages = jobs.pages(array)
    arrays = [array.copy() for _ in range(n)]  # joblib keeps the file of one that it has sent before

    def work() -> None:
        for one in arrays:
            if peer.submit(jobs.pages, one)() != pages:
                raise Unable("wrong answers")

    return work


def _result(size: int, peer: Peer, n: int) -> Work:
    pages = jobs.pages(_array(size))

    def work() -> None:
        for _ in range(n):
            if jobs.pages(peer.submit(jobs.kept, size // 8)()) != pages:
                raise Unable("wrong answers")

    return work


def _copy(size: int, n: int) -> Work:
    array = _array(size)

    def work() -> None:
        for _ in range(n):
            jobs.pages(array.copy())

    return work


def _same_array(peer: Peer, n: int) -> Work:
    array = _array(10**8).copy()  # not sent before, see _argument

    def work() -> None:
        shared = peer.share(array)
        if peer.storm(jobs.first, [(shared,)] * n) != [float(array[0])] * n:
            raise Unable("wrong answers")

    return work


def _records(n: int) -> list[jobs.Record]:
    return [jobs.Record(i, f"name {i}", i / 3) for i in range(n)]


def _tuples(n: int) -> list[tuple[int, str]]:
    return [(i, "name") for i in range(n)]


def _to_and_fro(make: Callable[[int], Any], peer: Peer, n: int) -> Work:
    data = make(n)

    def work() -> None:
        if len(peer.submit(jobs.back, data)()) != n:
            raise Unable("wrong answers")

    return work


def _there(make: Callable[[int], Any], peer: Peer, n: int) -> Work:
    data = make(n)

    def work() -> None:
        if peer.submit(len, data)() != n:
            raise Unable("wrong answers")

    return work


def _pickled(make: Callable[[int], Any], times: int, n: int) -> Work:
    data = make(n)

    def work() -> None:
        for _ in range(times):
            pickle.loads(pickle.dumps(data, 5))

    return work


# -- errors ----------------------------------------------------------------------------


def _exceptions(peer: Peer, n: int) -> Work:
    if not peer.collects:
        raise Unable("ends at the first exception")

    def work() -> None:
        caught = 0
        for wait in [peer.submit(jobs.refuse, i) for i in range(n)]:
            try:
                wait()
            except ValueError:
                caught += 1
        if caught != n:
            raise Unable("wrong answers")

    return work


# -- memory, in bytes ------------------------------------------------------------------


def _private(pid: int) -> int:
    """Return the bytes that only this process has."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError):  # it has ended
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _worker_memory(peer: Peer, n: int) -> Work:
    def work() -> float:
        return sum(_private(pid) for pid in marked(os.environ[MARK]) if pid != os.getpid()) / peer.workers

    return work


def _own_memory() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


_PATIENCE = 15.0
"""Seconds that a peer has for filling its queue; a slow one has fewer tasks in it."""


def _queued(peer: Peer, n: int) -> Work:
    if not peer.queues:
        raise Unable("queues nothing: it reads its list as workers come free")

    def work() -> float:
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "go on"))
            held = [peer.submit(jobs.hold, path) for _ in range(8)]  # more than its workers
            deadline = time.monotonic() + _PATIENCE
            before = _own_memory()
            waits: list[Any] = []
            for i in range(n):
                waits.append(peer.submit(jobs.noop, i))
                if not i % 1000 and time.monotonic() > deadline:
                    break
            grown = (_own_memory() - before) / len(waits)
            del held
            return grown  # the lane ends now: nobody waits for a million calls

    return work


# -- many workers ----------------------------------------------------------------------


def _sleepers(peer: Peer, n: int) -> Work:
    """Calls that sleep as many milliseconds as there are workers: a thousand calls a second, whatever their number."""
    return lambda: peer.storm(jobs.nap, [(peer.workers / 1000,)] * n)


# -- the start of a program ------------------------------------------------------------


def _unused(peer: Peer, n: int) -> Work:
    raise Unable("is measured from outside")


ROWS = (
    Row(
        "trip",
        "lone round trip, a function of a module",
        partial(_trips, _of_module),
        400,
        100,
        limit=_ping_pong,
        often=5,
        targets=(Target(0.5),),
    ),
    Row(
        "trip-main",
        "lone round trip, a function of __main__",
        partial(_trips, _of_main),
        400,
        100,
        limit=_ping_pong,
        often=5,
    ),
    Row(
        "trip-globals",
        "lone round trip, a function of __main__ that reads a dict, a list of 1 000 tuples and a megabyte",
        partial(_trips, _reads_globals),
        400,
        100,
        often=5,
    ),
    Row(
        "storm",
        "submit storm, a function of a module",
        partial(_storm, _of_module),
        2000,
        500,
        often=5,
        targets=(Target(0.9),),
    ),
    Row("storm-main", "submit storm, a function of __main__", partial(_storm, _of_main), 2000, 500, often=5),
    Row("closures", "submit storm, a closure", partial(_storm, _closure), 1000, 200, often=3),
    Row("exceptions", "submit storm, calls that raise", _exceptions, 1000, 200, often=3),
    Row(
        "map",
        "map of no-ops, default chunks",
        _map,
        1_000_000,
        20_000,
        ours=POOL,
        budget=6.0,
        targets=(Target(1.0),),
    ),
    Row(
        "map-skewed",
        "map of 200 sleeps: 25 of 20 ms, then 1 ms",
        partial(_naps, _skewed),
        200,
        200,
        "ms a turn",
        ours=POOL,
        scales=False,
        limit=partial(_fair, _skewed),
        targets=(Target(0.8, STDLIB_POOL),),
    ),
    Row(
        "map-growing",
        "map of 200 sleeps that grow from 0 to 10 ms",
        partial(_naps, _growing),
        200,
        200,
        "ms a turn",
        ours=POOL,
        scales=False,
        limit=partial(_fair, _growing),
    ),
    Row(
        "map-one-long",
        "map of 200 sleeps of 1 ms, one of them 100 ms",
        partial(_naps, _one_long),
        200,
        200,
        "ms a turn",
        ours=POOL,
        scales=False,
        limit=partial(_fair, _one_long),
    ),
    Row(
        "records",
        "10⁵ dataclass instances in one call, to and fro",
        partial(_to_and_fro, _records),
        100_000,
        10_000,
        "ms a turn",
        scales=False,
        limit=partial(_pickled, _records, 2),
        targets=(Target(0.5, ("loky",)),),
    ),
    Row(
        "tuples",
        "a list of 10⁶ tuples as argument",
        partial(_there, _tuples),
        1_000_000,
        100_000,
        "ms a turn",
        scales=False,
        limit=partial(_pickled, _tuples, 1),
    ),
    *(
        Row(
            f"array-{label.replace(' ', '')}-{way}",
            f"numpy array of {label} as {way}",
            partial(prepare, size),
            tasks,
            quick,
            unit,
            limit=partial(_copy, size),
            often=3 if size == 10**6 else 1,
            large=size > 10**8,
            targets=(Target(0.25), Target(3.0, (LIMIT,))) if size == 10**8 else (),
        )
        for label, size, tasks, quick, unit in (
            ("1 MB", 10**6, 50, 10, "us"),
            ("100 MB", 10**8, 3, 1, "ms"),
            ("1 GB", 10**9, 1, 1, "ms"),
        )
        for way, prepare in (("argument", _argument), ("result", _result))
    ),
    Row(
        "array-shared",
        "the same 100 MB array in each of 1 000 calls",
        _same_array,
        1000,
        20,
        "ms",
        targets=(Target(1.0, ("joblib",)),),
    ),
    Row(
        "start",
        "from the start of the interpreter to the first result",
        _unused,
        unit="ms a turn",
        rounds=5,
        targets=(Target(1.0, STDLIB_SPAWN), Target(0.5, ("loky",))),
    ),
    Row(
        "start-pandas",
        "the same, a script that imports numpy and pandas",
        _unused,
        unit="ms a turn",
        rounds=5,
        targets=(Target(1.0, STDLIB_SPAWN), Target(0.5, ("loky",))),
    ),
    Row(
        "worker-memory",
        "private memory of all that a pool starts, a worker",
        _worker_memory,
        unit="MiB",
        scales=False,
        rounds=2,
        fresh=True,
        targets=(Target(1.0, ("loky",)),),
    ),
    Row(
        "queued-memory",
        "memory of a queued no-op",
        _queued,
        1_000_000,
        10_000,
        "KiB",
        scales=False,
        rounds=1,
        fresh=True,
        targets=(Target(1024.0, absolute=True),),
    ),
    Row(
        "workers",
        "caller's processor time a call that sleeps, by number of workers",
        _sleepers,
        512,
        256,
        sizes=(1, 2, 8, 32, 64),
        scales=False,
        peers=(*OURS, "multiprocessing.Pool (spawn)", "ProcessPoolExecutor (spawn)", "loky"),
        targets=(Target(1.5, absolute=True),),
    ),
)
