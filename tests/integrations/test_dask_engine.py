"""Dask as an engine: the contract of engines, and workers that die in mid-run."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.testing import EngineContract
from tests.conftest import _alive, _leaks
from tests.support import cluster_storm, jobs
from tests.support.child import alive, lines, until

try:
    import dask
    import distributed
    from distributed.utils import _offload_executor

    from safemp.engines.dask import DaskEngine

    _offload_executor.submit(int).result()  # has a thread to the end of the process
except ImportError:
    distributed = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(distributed is None, reason="wants the distributed package"),
    pytest.mark.timeout(180),  # workers import it first
]


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_by_module() -> Iterator[None]:
    """As of all tests, but for sockets: Dask closes those of a worker that has died when it comes to it."""
    before = _alive()
    yield
    left = [one for one in _leaks(before) if "socket:" not in one]
    assert not left, f"this module has left behind: {left}"


@contextmanager
def cluster(workers: int = 2, threads: int = 1) -> Iterator[Any]:
    """Start a cluster of processes on this machine; give a client.

    Its workers have no nannies: under load, one of Dask's does not always start its worker again.
    """
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", protocol="tcp") as cluster,
        _kept_up(cluster.scheduler_address, workers, threads),
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        client.wait_for_workers(workers, 60)
        yield client


@contextmanager
def _kept_up(address: str, workers: int, threads: int) -> Iterator[None]:
    """Have so many workers, and another one for each that ends."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
    command += ["--nthreads", str(threads), "--protocol", "tcp"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    processes = [start() for _ in range(workers)]
    over = threading.Event()

    def keep_up() -> None:
        while not over.wait(0.1):
            processes[:] = [each if each.poll() is None else start() for each in processes]

    keeper = threading.Thread(target=keep_up)
    keeper.start()
    try:
        yield
    finally:
        over.set()
        keeper.join()
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers for the module."""
    with cluster() as client:
        yield client


class TestContract(EngineContract):
    @pytest.fixture(autouse=True)
    def _take(self, client: Any) -> None:
        self.client = client

    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Any]:
        yield DaskEngine(self.client, max_workers=max_workers)


class TestThreads(EngineContract):
    """One worker with two threads: they die together."""

    tasks_at_once = 2

    @pytest.fixture(autouse=True)
    def _take(self, two_threads: Any) -> None:
        self.client = two_threads

    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Any]:
        yield DaskEngine(self.client, max_workers=max_workers)


@pytest.fixture(scope="module")
def two_threads() -> Iterator[Any]:
    """A worker with two threads for the module."""
    with cluster(1, threads=2) as client:
        yield client


def test_bare_dask_runs_a_call_four_times_that_ends_its_worker(client: Any, tmp_path: Path) -> None:
    """So a call that begins by writing something down does so four times; ours once."""
    bare, ours = tmp_path / "bare", tmp_path / "ours"
    future = client.submit(note_and_die, str(bare), pure=False)
    assert isinstance(future.exception(60), distributed.KilledWorker)
    assert len(lines(bare)) == 4

    with safemp.SafeExecutor(engine=DaskEngine(client)) as executor:
        error = executor.submit(note_and_die, str(ours)).exception(60)
    assert isinstance(error, safemp.WorkerCrashed)
    assert error.call == f"{__name__}.note_and_die"
    assert len(lines(ours)) == 1


def note_and_die(path: str) -> None:
    """Leave a line, then end the process."""
    jobs.note(path, "begun")
    os._exit(1)


def test_workers_that_are_killed_cost_what_they_were_at(client: Any, tmp_path: Path) -> None:
    """Three times in the middle of 300 calls: all others have their own answer, and each has run once."""
    effects = tmp_path / "effects"
    fatal = {70, 150, 230}
    with safemp.SafeExecutor(2, engine=DaskEngine(client, max_workers=2)) as executor:
        futures = [executor.submit(note_or_be_killed, str(effects), n, n in fatal) for n in range(300)]
        errors = {n: future.exception(120) for n, future in enumerate(futures)}
        answers = {n: future.result() for n, future in enumerate(futures) if errors[n] is None}

    died = {n: error for n, error in errors.items() if error is not None}
    assert set(died) == fatal
    assert all(isinstance(error, safemp.WorkerCrashed) for error in died.values())
    assert answers == {n: n * n for n in range(300) if n not in fatal}
    assert Counter(lines(effects)) == Counter(map(str, range(300)))


def test_workers_that_are_killed_at_random_cost_one_call_each(client: Any, tmp_path: Path, capsys: Any) -> None:
    """In five ways, in mid-run: every future ends, all others have their own answer, nothing runs twice."""
    counts = cluster_storm.blow(DaskEngine(client, max_workers=2), tmp_path, seed=1)
    with capsys.disabled():
        print(f"\nDask: {dict(counts)}")

    assert counts["answered"] > cluster_storm.CALLS / 2
    assert counts["crashed"] > 0


def test_machines_that_die_at_random_cost_one_call_of_each_worker(tmp_path: Path, capsys: Any) -> None:
    """Two of four workers are killed at once, three times; others take their places."""
    chance = random.Random(1)
    effects, kills = tmp_path / "effects", 0

    def at_work() -> set[int]:
        return {pid for line in lines(effects)[-20:] if alive(pid := int(line.partition(" ")[2]))}

    with cluster(4) as client, safemp.SafeExecutor(engine=DaskEngine(client)) as executor:
        futures = [executor.submit(cluster_storm.note_and_square, str(effects), n) for n in range(1000)]
        for _ in range(3):
            seen = len(lines(effects)) + chance.randrange(20, 60)
            assert until(lambda seen=seen: len(lines(effects)) >= seen and len(at_work()) > 1, timeout=100)  # type: ignore[misc]
            for pid in chance.sample(sorted(at_work()), 2):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        for future in futures:
            future.exception(100)
        assert executor.submit(jobs.square, 3).result(60) == 9

    crashed = cluster_storm.crashes(futures, Counter(int(line.partition(" ")[0]) for line in lines(effects)))
    with capsys.disabled():
        print(f"\nDask: {1000 - len(crashed)} answered, {len(crashed)} crashed, {kills} workers killed, two at a time")
    assert len(crashed) <= kills


def note_or_be_killed(path: str, n: int, fatal: bool) -> int:
    """Leave a line with the number; then take a moment, or be killed."""
    jobs.note(path, n)
    if fatal:
        jobs.die_by_sigkill()
    jobs.work(n, 0.005)
    return n * n


def test_by_its_name_it_finds_or_makes_a_cluster(client: Any) -> None:
    """Dask's default client; without one, processes of this machine, which end with the executor."""
    with (
        distributed.Client(client.cluster.scheduler_address) as default,
        safemp.SafeExecutor(engine="dask") as executor,
    ):
        assert executor._engine._client is default  # type: ignore[attr-defined]
        assert executor._max_workers in (1, 2)  # one may be starting again
        assert executor.submit(jobs.square, 3).result(60) == 9
    with safemp.SafeExecutor(1, engine="dask") as executor:
        assert executor.submit(jobs.square, 3).result(60) == 9
    with safemp.Pool(1, engine="dask") as pool:
        assert pool.map(jobs.square, range(5)) == [0, 1, 4, 9, 16]


def test_large_calls_go_to_workers_without_a_warning(client: Any) -> None:
    """Twenty megabytes there and back."""
    data = os.urandom(1 << 20) * 20
    with safemp.SafeExecutor(engine=DaskEngine(client)) as executor:
        assert executor.submit(jobs.same, data).result(60) == data


def test_what_waits_for_data_that_a_worker_took_with_it_is_sent_again(client: Any, tmp_path: Path) -> None:
    """What is shared, and large calls, are scattered to one worker: when that dies, only what it was at fails."""
    effects = tmp_path / "effects"
    data = bytes(2_000_000)
    with safemp.SafeExecutor(2, engine=DaskEngine(client, max_workers=2)) as executor:
        shared = safemp.share(bytearray(data))
        futures = [
            executor.submit(note_and_weigh, str(effects), n, n in (7, 13), shared if n % 2 else data) for n in range(20)
        ]
        errors = {n: error for n, future in enumerate(futures) if (error := future.exception(120)) is not None}
        assert set(errors) == {7, 13}, errors
        assert all(isinstance(error, safemp.WorkerCrashed) for error in errors.values())
        assert {future.result() for n, future in enumerate(futures) if n not in errors} == {2_000_000}
    assert Counter(lines(effects)) == Counter(map(str, range(20)))


def note_and_weigh(path: str, n: int, fatal: bool, data: Any) -> int:
    """Leave a line with the number; then be killed, or return the size of the data."""
    jobs.note(path, n)
    if fatal:
        jobs.die_by_sigkill()
    return len(data)


def test_large_calls_wait_for_a_cluster_without_workers() -> None:
    """As those of a cluster that adapts do at first: it begins to start some when there is a call."""
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0", protocol="tcp") as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
        safemp.SafeExecutor(engine=DaskEngine(client, max_workers=2)) as executor,
    ):
        futures = [executor.submit(len, bytes(2_000_000)) for _ in range(3)]
        futures.append(executor.submit(len, safemp.share(bytearray(2_000_000))))
        with _kept_up(cluster.scheduler_address, 1, 1):
            assert [future.result(90) for future in futures] == [2_000_000] * 4


def test_a_client_that_is_closed_leaves_nobody_waiting(tmp_path: Path) -> None:
    """Calls under way, and those behind them, fail."""
    started, release = tmp_path / "started", tmp_path / "release"
    with cluster(1) as client, safemp.SafeExecutor(engine=DaskEngine(client)) as executor:
        held = executor.submit(jobs.started_then_wait, str(started), str(release))
        queued = [executor.submit(jobs.square, n) for n in range(3)]
        assert until(started.exists)
        client.close()
        assert isinstance(held.exception(60), safemp.SafempError)
        assert all(isinstance(future.exception(60), safemp.SafempError) for future in queued)
        release.touch()


@contextmanager
def in_processes(folder: Path, *worker: str) -> Iterator[tuple[Any, subprocess.Popen[bytes]]]:
    """Start a scheduler and two workers, each a process of its own; give a client, and the scheduler's process."""
    file = folder / "scheduler.json"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    environment |= {"DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s"}

    def start(what: str, *args: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", "--scheduler-file", str(file)]
        command += ["--no-dashboard", "--protocol", "tcp", *args]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    processes = [start("scheduler", "--port", "0")]
    try:
        assert until(lambda: file.exists() and file.read_text(), timeout=60)
        processes += [start("worker", "--nthreads", "1", *worker) for _ in range(2)]
        with (
            dask.config.set({"distributed.comm.timeouts.connect": "5s"}),
            distributed.Client(scheduler_file=str(file), set_as_default=False) as client,
        ):
            client.wait_for_workers(2, 60)
            yield client, processes[0]
        client._loop_runner.stop()  # one that has given up by itself leaves it running
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


def test_a_scheduler_that_is_killed_leaves_nobody_waiting(tmp_path: Path) -> None:
    """When Dask has given up to find it again, what was with it fails, and so does what waits."""
    with (
        in_processes(tmp_path, "--no-nanny") as (client, scheduler),
        safemp.SafeExecutor(engine=DaskEngine(client)) as executor,
    ):
        futures = [executor.submit(jobs.work, n, 0.01) for n in range(300)]
        assert futures[20].result(60) == 200
        scheduler.kill()
        errors = [future.exception(60) for future in futures]
        assert any(errors)
        assert all(isinstance(error, safemp.SafempError) for error in errors if error)
        with pytest.raises(safemp.EngineError):
            executor.submit(jobs.square, 3).result(60)


@pytest.mark.parametrize("chunksize", [1, 20])
def test_a_cluster_that_is_restarted_costs_what_it_had(tmp_path: Path, chunksize: int) -> None:
    """Dask ends all workers then, and forgets all tasks. Those that it has not got yet run on the new ones."""
    effects = tmp_path / "effects"
    with in_processes(tmp_path, "--nanny") as (client, _), safemp.Pool(engine=DaskEngine(client)) as pool:
        results = pool.imap(partial(note_or_be_killed, str(effects), fatal=False), range(600), chunksize)
        for n in range(20):
            assert results.next(60) == n * n
        client.restart(timeout=60)
        died = set()
        for n in range(20, 600):
            try:
                assert results.next(100) == n * n
            except safemp.WorkerCrashed:
                died.add(n)

    assert len(died) <= 2 * DaskEngine.ahead * chunksize
    began = Counter(map(int, lines(effects)))
    assert set(began.values()) == {1}
    assert set(began) >= set(range(600)) - died


@pytest.mark.parametrize("default", [False, True], ids=["no default client", "another default client"])
def test_an_answer_does_not_wait_for_another_call(client: Any, tmp_path: Path, default: bool) -> None:
    """Which was sent together with it; nor for a client that is not the engine's."""
    address = client.scheduler.address
    with contextlib.ExitStack() as stack:
        if default:
            stack.enter_context(distributed.Client(address, set_as_default=True))
        executor = stack.enter_context(safemp.SafeExecutor(engine=DaskEngine(client, max_workers=2)))
        for n in range(10):
            release = tmp_path / f"release{n}"
            held, quick = executor.submit(jobs.wait_for, str(release)), executor.submit(jobs.square, n)
            assert quick.result(20) == n * n
            assert not held.done()
            release.touch()
            assert held.result(20) == str(release)


def test_a_scheduler_in_the_place_of_another_is_told_that_calls_run_once(tmp_path: Path) -> None:
    """Dask's client finds it by its address; the first had been told when the engine was made."""
    effects = tmp_path / "effects"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([*command, "--no-dashboard"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    scheduler = start()
    try:
        with (
            _kept_up(f"tcp://127.0.0.1:{port}", 1, 1),
            distributed.Client(f"tcp://127.0.0.1:{port}", set_as_default=False, timeout=60) as client,
        ):
            client.wait_for_workers(1, 60)
            with safemp.SafeExecutor(engine=DaskEngine(client)) as executor:
                assert executor.submit(jobs.square, 3).result(60) == 9
                scheduler.kill()
                scheduler.wait()
                scheduler = start()
                client.wait_for_workers(1, 60)
                assert isinstance(executor.submit(note_and_die, str(effects)).exception(60), safemp.WorkerCrashed)
                assert lines(effects) == ["begun"]
    finally:
        scheduler.terminate()
        scheduler.wait(30)


def test_dasks_own_executor_is_one_too(client: Any) -> None:
    """It sees bytes only: a result that cannot travel is named, on which it hangs by itself."""
    with safemp.SafeExecutor(engine=client.get_executor()) as executor:
        assert isinstance(executor.submit(jobs.return_generator).exception(60), safemp.ResultError)
        assert executor.submit(jobs.square, 3).result(60) == 9
