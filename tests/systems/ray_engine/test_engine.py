"""Ray as an engine: the contract of engines, and workers that die in mid-run."""

from __future__ import annotations

import ctypes
import gc
import os
import pickle
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import safemp
from safemp.testing import EngineContract
from tests.support import cluster_storm, jobs
from tests.support.child import lines, run_python

try:
    import ray

    from safemp.engines import diary
    from safemp.engines import ray as ray_engine
    from safemp.engines.ray import RayEngine
except ImportError:
    ray = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(ray is None, reason="wants the ray package"),
    pytest.mark.timeout(180),
]


class TestContract(EngineContract):
    @pytest.fixture(autouse=True)
    def _start(self, cluster: Any) -> None:
        """Ray is there."""

    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Any]:
        yield RayEngine(max_workers=max_workers)


class KeywordOnly(Exception):
    """Pickles, and does not load."""

    def __init__(self, *, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def refuse() -> None:
    """Raise what Ray cannot bring back."""
    raise KeywordOnly(status=429)


def test_bare_ray_loses_what_a_call_raised(cluster: Any) -> None:
    """Its class is gone; over safemp it is there, with its attributes."""
    with pytest.raises(Exception) as caught:
        ray.get(ray.remote(refuse).remote())
    assert not isinstance(caught.value, KeywordOnly)

    with safemp.SafeExecutor(engine=RayEngine()) as executor:
        error = executor.submit(refuse).exception(60)
    assert isinstance(error, KeywordOnly)
    assert error.status == 429


def test_by_its_name_it_takes_the_ray_that_is_there(cluster: Any) -> None:
    """With as many tasks at a time as have room; and leaves it running."""
    with safemp.SafeExecutor(engine="ray") as executor:
        assert executor._max_workers == 2
        assert executor.submit(jobs.square, 3).result(60) == 9
    with safemp.Pool(engine="ray") as pool:
        assert pool.map(jobs.square, range(10)) == [n * n for n in range(10)]
    assert ray.is_initialized()


class Numbers:
    """Holds a large buffer, which pickle 5 lets travel by itself."""

    def __init__(self, buffer: Any) -> None:
        self.buffer = buffer

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return Numbers, (pickle.PickleBuffer(self.buffer),)


def write_and_look(numbers: Numbers) -> tuple[int, str]:
    """Return the first byte, then write to it; and say of what memory it is."""
    view = memoryview(numbers.buffer)
    first, view[0] = view[0], 7
    address = ctypes.addressof(ctypes.c_ubyte.from_buffer(view))
    for line in Path("/proc/self/maps").read_text().splitlines():
        begin, end = (int(one, 16) for one in line.split()[0].split("-"))
        if begin <= address < end:
            return first, line
    return first, "no memory"


def test_large_data_are_mapped_from_the_object_store(cluster: Any) -> None:
    """Without a copy, privately: each call may write, and none sees it; what is shared is put there once."""
    numbers = Numbers(bytearray(3_000_000))
    with safemp.SafeExecutor(engine=RayEngine()) as executor:
        shared = safemp.share(numbers)
        for argument in (numbers, shared, shared, shared):
            first, memory = executor.submit(write_and_look, argument).result(60)
            assert first == 0
            assert "plasma" in memory
            assert memory.split()[1] == "rw-p"
        (places,) = executor._engine._blocks.values()  # type: ignore[attr-defined]
        assert len(places) == 1
        del shared
        argument = None
        gc.collect()
        assert not executor._engine._blocks  # type: ignore[attr-defined]


def test_workers_that_are_killed_cost_what_they_were_at(cluster: Any, tmp_path: Path) -> None:
    """Three times in the middle of 300 calls: all others have their own answer, and each has run once."""
    effects = tmp_path / "effects"
    fatal = {70, 150, 230}
    with safemp.SafeExecutor(engine=RayEngine()) as executor:
        futures = [executor.submit(note_or_be_killed, str(effects), n, n in fatal) for n in range(300)]
        errors = {n: future.exception(120) for n, future in enumerate(futures)}
        answers = {n: future.result() for n, future in enumerate(futures) if errors[n] is None}

    died = {n: error for n, error in errors.items() if error is not None}
    assert set(died) == fatal
    assert all(isinstance(error, safemp.WorkerCrashed) for error in died.values())
    assert answers == {n: n * n for n in range(300) if n not in fatal}
    assert Counter(lines(effects)) == Counter(map(str, range(300)))


def test_workers_that_are_killed_at_random_cost_one_call_each(cluster: Any, tmp_path: Path, capsys: Any) -> None:
    """In five ways, in mid-run: every future ends, all others have their own answer, nothing runs twice."""
    counts = cluster_storm.blow(RayEngine(), tmp_path, seed=1)
    with capsys.disabled():
        print(f"\nRay: {dict(counts)}")

    assert counts["answered"] > cluster_storm.CALLS / 2
    assert counts["crashed"] > 0


@pytest.mark.parametrize("size", [10, 10_000, 1_000_000])
def test_an_initializer_brings_data_of_any_size(cluster: Any, size: int) -> None:
    """They go once to each worker that says it lacks them; large ones as they are."""
    data = bytearray(b"x") * size
    with safemp.SafeExecutor(engine=RayEngine(), initializer=keep, initargs=(data, memoryview(data))) as executor:
        assert [executor.submit(kept).result(60) for _ in range(4)] == [(size, size)] * 4


_kept: list[int] = []


def keep(*data: Any) -> None:
    _kept[:] = map(len, data)


def kept() -> tuple[int, ...]:
    return tuple(_kept)


def test_answers_come_though_those_that_would_tell_of_them_are_held_up(cluster: Any, tmp_path: Path) -> None:
    """Of short calls that are sent together the last tells of all; here one waits for all others."""
    release = tmp_path / "release"
    with safemp.SafeExecutor(engine=RayEngine(max_workers=2)) as executor:
        assert [*executor.map(jobs.square, range(100))] == [i * i for i in range(100)]
        for before in range(60, 76):
            release.unlink(missing_ok=True)
            futures = [executor.submit(jobs.square, n) for n in range(before)]
            held = executor.submit(jobs.wait_for, str(release))
            futures += [executor.submit(jobs.square, n) for n in range(before, 120)]
            assert [future.result(20) for future in futures] == [n * n for n in range(120)]
            assert not held.done()
            release.touch()
            assert held.result(20) == str(release)


def test_a_worker_that_is_told_to_end_has_died(cluster: Any, tmp_path: Path) -> None:
    """Ray raises ``SystemExit`` in the call that runs then, which is no outcome of its."""
    with safemp.SafeExecutor(engine=RayEngine()) as executor:
        assert type(executor.submit(be_told_to_end).exception(60)) is safemp.WorkerCrashed
        assert type(executor.submit(fail_to_clean_up).exception(60)) is safemp.WorkerCrashed
        assert repr(executor.submit(exit, 5).exception(60)) == "SystemExit(5)"
        moved = executor.options(retries=1).submit(be_told_to_end, str(tmp_path / "once"))
        assert moved.result(60) == "again"
        ended = [*executor.map(be_told_at_three, range(6), chunksize=6, on_error="return")]
    assert [type(each) for each in ended] == [int, int, int, safemp.WorkerCrashed, int, int]


def test_one_that_is_told_to_end_in_its_initializer_breaks_no_pool(cluster: Any, tmp_path: Path) -> None:
    """Another worker begins anew."""
    once = str(tmp_path / "once")
    with safemp.SafeExecutor(engine=RayEngine(), initializer=be_told_to_end, initargs=(once,)) as executor:
        outcomes = [executor.submit(jobs.square, 3).exception(60) for _ in range(4)]
    assert {type(each) for each in outcomes} <= {safemp.WorkerCrashed, type(None)}
    assert outcomes[-1] is None


def test_a_call_may_go_on_though_its_worker_was_told_to_end(cluster: Any) -> None:
    """If it takes that for its own; a handler of its own is nobody else's."""
    with safemp.SafeExecutor(engine=RayEngine(max_workers=1)) as executor:
        assert executor.submit(go_on).result(60) == "went on"
        for _ in range(2):
            assert executor.submit(handle).result(60) == "handled"


def test_a_node_that_is_not_there_any_more_keeps_no_other_from_telling(
    cluster: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a worker has written down is found on its own node: the items before the deadly one are answered."""
    nodes = ray_engine._nodes
    monkeypatch.setattr(ray_engine, "_nodes", lambda: ["ab" * 28, *nodes(), "cd" * 28])
    with safemp.SafeExecutor(engine=RayEngine()) as executor:
        elsewhere = SimpleNamespace(look_up=lambda *_: None, clear=diary.clear)  # as if on another machine
        monkeypatch.setattr(ray_engine, "diary", elsewhere)
        ended = [*executor.map(killed_at_two, range(4), chunksize=4, on_error="return")]
    assert [type(each) for each in ended] == [int, int, safemp.WorkerCrashed, int]


def killed_at_two(n: int) -> int:
    if n == 2:
        jobs.die_by_sigkill()
    return n


def go_on() -> str:
    try:
        be_told_to_end()
    except SystemExit:
        return "went on"
    return "not told"


def handle() -> str:
    def exit_(number: int, frame: Any) -> None:
        raise SystemExit("mine")

    before = signal.signal(signal.SIGTERM, exit_)
    try:
        be_told_to_end()
    except SystemExit as error:
        return "handled" if error.code == "mine" else repr(error)
    finally:
        signal.signal(signal.SIGTERM, before)
    return "not told"


def be_told_to_end(once: str = "") -> str:
    """Do as a machine does that is to be given back."""
    if once and Path(once).exists():
        return "again"
    if once:
        Path(once).touch()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
    return "not told"


def fail_to_clean_up() -> None:
    try:
        be_told_to_end()
    finally:
        raise ConnectionError("not cleaned up")


def be_told_at_three(n: int) -> int:
    if n == 3:
        be_told_to_end()
    return n


def test_a_ray_that_is_shut_down_and_begun_again_leaves_nobody_waiting() -> None:
    """Nor is the program ended by what Ray does to one who lets go of a reference meanwhile."""
    ended = run_python("-c", BEGIN_AGAIN, timeout=150)
    assert ended.returncode == 0, str(ended)
    assert ended.out == "EngineError 4\n" * 3


BEGIN_AGAIN = """
import time
import ray, safemp

for _ in range(3):
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    before = safemp.SafeExecutor(engine="ray")
    assert before.submit(pow, 2, 2).result(60) == 4
    futures = [before.submit(time.sleep, 600) for _ in range(3)]
    shared = safemp.share(bytearray(2_000_000))
    futures.append(before.submit(len, shared))
    time.sleep(0.2)
    ray.shutdown()
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
    del shared
    (kind,) = {type(future.exception(30)) for future in futures} - {safemp.WorkerCrashed}
    try:
        before.submit(len, "ab").result(30)
    except safemp.EngineError as error:
        assert str(error).endswith("ray.shutdown() was called"), error
    with safemp.SafeExecutor(engine="ray") as after:
        print(kind.__name__, after.submit(pow, 2, 2).result(60))
    before.shutdown()
    ray.shutdown()
"""


def test_a_handler_may_end_a_pool_while_ray_is_shut_down() -> None:
    """Its signal comes in the midst of that, when nobody else may use Ray: it does not wait for one who would."""
    ended = run_python("-c", ENDED_WITHIN, timeout=100)
    assert ended.returncode == 0, str(ended)
    assert ended.out == "went on\n"


ENDED_WITHIN = """
import os, signal, threading, time
import ray, safemp

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
executor = safemp.SafeExecutor(engine="ray")
executor.submit(pow, 2, 2).result(60)
futures = [executor.submit(time.sleep, 600) for _ in range(3)]
signal.signal(signal.SIGUSR1, lambda *_: executor.shutdown())
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1)).start()
ray.shutdown()
time.sleep(0.5)
assert all(future.exception(30) for future in futures)
print("went on")
"""


def test_a_ray_that_is_shut_down_in_a_storm_leaves_nobody_waiting() -> None:
    """And no other Ray is started. By itself, since a program's Ray can be shut down but once."""
    ended = run_python("-c", SHUT_DOWN, timeout=100)
    assert ended.returncode == 0, str(ended)
    answered, failed = map(int, ended.out.split())
    assert answered + failed == 400
    assert failed


SHUT_DOWN = """
import threading, time
import ray, safemp
from safemp.engines.ray import RayEngine
from tests.support import jobs

ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=100_000_000)
executor, other = (safemp.SafeExecutor(engine=RayEngine()) for _ in range(2))
assert [*executor.map(jobs.square, range(100))] == [i * i for i in range(100)]
futures = [executor.submit(jobs.work, n, 0.002) for n in range(400)]
futures[50].result(60)
ray.shutdown()
errors = [future.exception(30) for future in futures]
assert all(isinstance(error, safemp.SafempError) for error in errors if error), errors
assert not any("defect" in str(error) for error in errors), errors
for way in (lambda: executor.submit(len, safemp.share(bytearray(2_000_000))), lambda: other.submit(len, "ab"),
            lambda: other.submit(len, safemp.share(bytearray(2_000_000)))):
    try:
        raise way().exception(30)
    except safemp.SafempError as error:
        assert "defect" not in str(error), error
assert not ray.is_initialized()
executor.shutdown()
other.shutdown()
print(errors.count(None), len(errors) - errors.count(None))
"""


def note_or_be_killed(path: str, n: int, fatal: bool) -> int:
    """Leave a line with the number; then take a moment, or be killed."""
    jobs.note(path, n)
    if fatal:
        jobs.die_by_sigkill()
    jobs.work(n, 0.005)
    return n * n
