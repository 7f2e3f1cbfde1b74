"""Large data: what a call gets is its own, what comes back is the caller's, and neither ever changes by itself."""

from __future__ import annotations

import gc
import hashlib
import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import wait
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp import Pool, SafeExecutor, WorkerCrashed
from safemp.engines import blocks, system
from safemp.engines.blocks import LARGE, Block
from tests.support.child import quiet, run_script

np = pytest.importorskip("numpy")

METHODS = ["template", "fork", "spawn"]


@pytest.fixture(scope="module", params=METHODS)
def executor(request: pytest.FixtureRequest) -> Iterator[SafeExecutor]:
    """Two workers for the module."""
    with SafeExecutor(2, mp_context=request.param) as executor:
        yield executor


def noise(seed: int, size: int = 2 * LARGE) -> Any:
    """Return *size* bytes that only that seed makes."""
    return np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8)


def digest(array: Any) -> str:
    return hashlib.blake2b(array.tobytes()).hexdigest()


def scribble(array: Any) -> str:
    """Tell what is in *array*, and spoil it."""
    before = digest(array)
    array[:] = 0
    return before


kept: list[Any] = []


def keep(seed: int, array: Any) -> bool:
    """Keep *array*, or a part of it, for the life of the worker; look at all that was kept before."""
    kept.append((seed, array, digest(array)))
    return all(digest(each) == was == digest(noise(number, each.nbytes)) for number, each, was in kept)


def both_ways(seed: int, array: Any) -> tuple[str, Any]:
    return digest(array), noise(seed + 1, array.nbytes)


# -- as values -------------------------------------------------------------------------


def test_an_argument_may_be_written_to_and_the_callers_stays(executor: SafeExecutor) -> None:
    """Each of many calls with the same array sees it as it was, and may spoil its own."""
    array = noise(1)
    was = digest(array)

    assert {future.result() for future in [executor.submit(scribble, array) for _ in range(8)]} == {was}
    assert digest(array) == was


def test_what_is_sent_is_the_value_at_the_time_of_the_call(executor: SafeExecutor) -> None:
    """The caller goes on with its array at once."""
    array = noise(2)
    wanted, futures = [], []
    for i in range(20):
        array[:100] = i
        wanted.append(digest(array))
        futures.append(executor.submit(digest, array))

    assert [future.result() for future in futures] == wanted


def test_a_result_is_the_callers_to_write_to(executor: SafeExecutor) -> None:
    """It does not change when others come, and others do not change when it does."""
    futures = [executor.submit(noise, i) for i in range(10)]
    first = futures[0].result()
    first[:] = 7
    later = [executor.submit(noise, i).result() for i in range(10, 20)]

    assert (first == 7).all()
    assert [digest(future.result()) for future in futures[1:]] == [digest(noise(i)) for i in range(1, 10)]
    assert [digest(one) for one in later] == [digest(noise(i)) for i in range(10, 20)]


def test_what_a_worker_keeps_stays_as_it_is(executor: SafeExecutor) -> None:
    """Arrays of earlier calls, while memory is used again and again."""
    for seed in range(24):
        assert executor.submit(keep, seed, noise(seed, LARGE + 1000 * (seed % 5))).result()
        assert executor.submit(digest, noise(99)).result() == digest(noise(99))


def test_nothing_changes_while_all_is_kept_or_dropped_at_random(executor: SafeExecutor) -> None:
    """Both ways, in any order, in all sizes around the threshold; results are dropped now and then, some are kept."""
    rng = random.Random(5)
    having: list[tuple[Any, Any]] = []
    for _ in range(12):
        seeds = [rng.randrange(10**6) for _ in range(8)]
        sizes = [rng.choice([1000, LARGE - 1, LARGE, LARGE + 1, 3 * LARGE]) for _ in seeds]
        sent = [noise(seed, size) for seed, size in zip(seeds, sizes, strict=True)]
        futures = [executor.submit(both_ways, seed, array) for seed, array in zip(seeds, sent, strict=True)]
        for seed, array, future in zip(seeds, sent, futures, strict=True):
            was, back = future.result()
            assert was == digest(array)
            wanted = noise(seed + 1, array.nbytes)
            part = slice(rng.randrange(100) if rng.random() < 0.3 else 0, None)
            having.append((wanted[part], back[part]))
        del futures, future, back
        rng.shuffle(having)
        del having[rng.randrange(len(having)) :]
        assert all((back == wanted).all() for wanted, back in having)


def test_maps_and_functions_with_large_data(executor: SafeExecutor) -> None:
    """Items of a chunk, the array inside the function, and results of a chunk."""
    arrays = [noise(i) for i in range(12)]
    wanted = [digest(array) for array in arrays]
    with_large = partial(_and_digest, noise(50))

    assert list(executor.map(digest, arrays, chunksize=5)) == wanted
    assert list(executor.map(with_large, range(6), chunksize=2)) == [(i, digest(noise(50))) for i in range(6)]
    assert [digest(one) for one in executor.map(noise, range(6), chunksize=3)] == [digest(noise(i)) for i in range(6)]


def _and_digest(array: Any, i: int) -> tuple[int, str]:
    return i, digest(array)


def test_streams_without_buffers_are_large_too(executor: SafeExecutor) -> None:
    """Lists, bytes and texts go the same way."""
    for value in (list(range(200_000)), os.urandom(3 * LARGE), "ä" * LARGE, bytearray(LARGE * 2)):
        assert executor.submit(_same, value).result() == value


def _same(value: Any) -> Any:
    return value


# -- faults ----------------------------------------------------------------------------


def die_with(array: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fork_and_tell(array: Any, file: str) -> None:
    """Leave a process behind that looks at *array* much later."""
    was = digest(array)
    if not os.fork():
        time.sleep(1)
        with open(file, "w") as report:
            report.write("same" if digest(array) == was else "changed")
        os._exit(0)


def test_a_worker_that_dies_with_large_data_leaves_nothing() -> None:
    """Its memory is given back, the others' results are right, and a retry has the same argument."""
    gc.collect()
    before = Block.number
    with SafeExecutor(2) as executor:
        for i in range(6):
            bad = executor.submit(die_with, noise(i, 8 * LARGE))
            good = [executor.submit(digest, noise(j)) for j in range(4)]
            assert [future.result() for future in good] == [digest(noise(j)) for j in range(4)]
            with pytest.raises(WorkerCrashed):
                bad.result()
        del bad, good
        assert Block.number - before <= 6
    assert Block.number <= before


def test_a_process_that_a_call_has_forked_keeps_its_argument(tmp_path: Any) -> None:
    """The memory is not used for others, though the call has returned."""
    file = tmp_path / "report"
    with SafeExecutor(1) as executor:
        executor.submit(fork_and_tell, noise(1), str(file)).result()
        for i in range(2, 20):
            assert executor.submit(digest, noise(i)).result() == digest(noise(i))
        deadline = time.monotonic() + 30
        while not (file.exists() and file.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)

    assert file.read_text() == "same"


def test_a_forked_copy_of_the_caller_keeps_its_results() -> None:
    """The parent drops a result, and gets others; its child has the one that it was forked with."""
    with SafeExecutor(1) as executor:
        mine = executor.submit(noise, 1).result()
        was = digest(mine)
        ready, go = os.pipe()
        pid = os.fork()
        if not pid:
            os.read(ready, 1)
            os._exit(digest(mine) != was)
        del mine
        others = [executor.submit(noise, i).result() for i in range(2, 12)]
        os.write(go, b"x")
        assert os.waitpid(pid, 0)[1] == 0
        os.close(ready)
        os.close(go)
        assert [digest(one) for one in others] == [digest(noise(i)) for i in range(2, 12)]


def test_results_outlive_the_pool() -> None:
    """What was handed out stays when workers and engine are gone."""
    with Pool(2) as pool:
        arrays = pool.map(noise, range(6))
    gc.collect()

    assert [digest(array) for array in arrays] == [digest(noise(i)) for i in range(6)]


def test_a_thousand_results_take_no_descriptors() -> None:
    """A program may keep as many as it likes."""
    with SafeExecutor(1) as executor:
        before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
        having = [executor.submit(noise, i, LARGE).result() for i in range(300)]
        if before:
            assert len(os.listdir("/proc/self/fd")) - before < 10
        assert digest(having[17]) == digest(noise(17, LARGE))


def test_a_queue_of_large_calls_takes_no_more_descriptors_than_allowed() -> None:
    """What is beyond is copied, and goes through the stream."""
    array = noise(3, LARGE)
    with SafeExecutor(1) as executor:
        futures = [executor.submit(digest, array) for _ in range(400)]
        assert Block.number <= 256
        wait(futures)
        assert {future.result() for future in futures} == {digest(array)}


@pytest.mark.skipif(not system.MAPS, reason="wants memfd_create")
def test_memory_is_used_again() -> None:
    """Twenty calls one after another, each with its own large argument and result, take two or three blocks."""
    blocks.store.trim()
    before = Block.number
    with SafeExecutor(1) as executor:
        for i in range(20):
            executor.submit(both_ways, i, noise(i)).result()
        assert Block.number - before <= 3


# -- share ------------------------------------------------------------------------------


def test_a_shared_object_is_the_object_for_each_call(executor: SafeExecutor) -> None:
    """Alone, in a list, in a partial function, by keyword; written to, and by nobody seen."""
    array = noise(8, 4 * LARGE)
    was = digest(array)
    shared = safemp.share(array)
    array[:] = 0
    in_lists = [executor.submit(_first_of, [shared, i]) for i in range(5)]

    assert {future.result() for future in [executor.submit(scribble, shared) for _ in range(50)]} == {was}
    assert {future.result() for future in in_lists} == {was}
    assert executor.submit(scribble, array=shared).result() == was
    assert list(executor.map(partial(_and_digest, shared), range(4))) == [(i, was) for i in range(4)]
    assert executor.submit(lambda: digest(shared)).result() == was
    assert digest(shared.load()) == was


def _first_of(things: list[Any]) -> str:
    return scribble(things[0])


def test_a_shared_object_is_written_once() -> None:
    """However many calls have it."""
    blocks.store.trim()
    before = Block.number
    shared = safemp.share(noise(8, 4 * LARGE))
    with SafeExecutor(2) as executor:
        futures = [executor.submit(scribble, shared) for _ in range(100)]
        assert Block.number - before <= 1
        wait(futures)
        assert shared.nbytes < 5 * LARGE
        del shared, futures
        assert Block.number == before  # at once, and not when the pool ends


class Thing:
    """What a script defines."""

    def __init__(self, array: Any, name: str) -> None:
        self.array = array
        self.name = name


def change(thing: Thing) -> tuple[bool, str, str]:
    """Spoil what is no buffer, too."""
    name, thing.name = thing.name, "changed"
    return type(thing) is Thing, name, scribble(thing.array)


def test_what_is_no_buffer_is_each_calls_own(executor: SafeExecutor) -> None:
    """An instance with an array, a small one, and one that was shared by mistake."""
    shared = safemp.share(Thing(noise(1), "name"))
    small = safemp.share([1, 2])

    for _ in range(3):
        assert executor.submit(change, shared).result() == (True, "name", digest(noise(1)))
    assert executor.submit(_same, small).result() == [1, 2]
    assert repr(small).startswith("<safemp.SharedObject: builtins.list, ")


def test_a_shared_object_travels_by_any_pickler() -> None:
    """The standard library's too, of any protocol; what comes out is the object."""
    import pickle

    shared = safemp.share(noise(1))

    for protocol in range(2, 6):
        assert digest(pickle.loads(pickle.dumps(shared, protocol))) == digest(noise(1))
    assert digest(safemp.loads(safemp.dumps(shared))) == digest(noise(1))


def test_what_cannot_be_shared_is_named_at_once() -> None:
    """Paths begin with the name of the parameter."""
    with pytest.raises(safemp.PreflightError) as caught:
        safemp.share({"frames": [1, (i for i in range(3))]})

    assert caught.value.culprits[0].path == "obj['frames'][1]"


IN_A_CYCLE = """
import gc
from pickle import PickleBuffer

import safemp
from safemp.codec import calls
from safemp.engines.blocks import Block


class Thing:
    def __init__(self, buffer):
        self.buffer = buffer

    def __reduce_ex__(self, protocol):
        return Thing, (PickleBuffer(self.buffer),)


for turn in range(20):
    shared = safemp.share(Thing(bytearray(1_000_000)))
    cycle = [shared, calls.encode_call(len, (shared,), {})]
    if turn % 2:
        cycle.reverse()
    cycle.append(cycle)
    del shared, cycle
    gc.collect()
assert Block.number == 0
print("ok")
"""


def test_a_handle_that_the_garbage_collector_finds_is_given_back(tmp_path: Path) -> None:
    """In a cycle with a call that has it, as the traceback of a failed test makes one."""
    assert quiet(ended := run_script(tmp_path, IN_A_CYCLE)), str(ended)
