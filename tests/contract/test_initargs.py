"""What there is only one of goes to the workers in ``initargs``: multiprocessing's locks, queues, values."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import os
import subprocess
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import loky.backend.context
import pytest

import safemp
from safemp import PreflightError, WorkerCrashed
from tests.support import inherited as jobs
from tests.support import jobs as plain
from tests.support.child import in_session, quiet, run_script, started, until

multiprocessing.RawArray("b", 1 << 16)  # multiprocessing's heap, which lives as long as the process

FORKS = "fork" in multiprocessing.get_all_start_methods()
LOKY = loky.backend.context.get_context("loky")

WAYS = {
    "loky": ("loky", multiprocessing.get_context("spawn")),
    "loky-loky": (None, LOKY),
    "spawn": ("spawn", multiprocessing.get_context("spawn")),
    "forkserver": (multiprocessing.get_context("forkserver"), multiprocessing.get_context("forkserver")),
    "fork": ("fork", multiprocessing.get_context("fork")),
    "default": (None, multiprocessing.get_context()),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """How workers start, and the context that makes what they are given."""
    return WAYS[request.param]


# -- that it is hostile ----------------------------------------------------------------


@pytest.mark.skipif(not FORKS, reason="nothing is made in a fork context here")
def test_todays_pools_break_on_a_lock_of_the_default_context() -> None:
    """With loky no worker can start a worker with a fork context's lock: the pool is broken."""
    lock = multiprocessing.get_context("fork").Lock()
    with (
        loky.ProcessPoolExecutor(1, initializer=jobs.keep_all, initargs=({"lock": lock},)) as executor,
        pytest.raises(RuntimeError),
    ):
        executor.submit(jobs.try_the_lock, 0).result(30)


def test_todays_pools_break_on_a_shared_value() -> None:
    """Nor can loky start one with a ``Value``, whatever the context it was made in."""
    value = multiprocessing.get_context("spawn").Value("i")
    with (
        loky.ProcessPoolExecutor(1, initializer=jobs.keep_all, initargs=({"value": value},)) as executor,
        pytest.raises(TypeError, match=r"mmap\.mmap"),
    ):
        executor.submit(jobs.get, "value").result(30)


# -- everything, everywhere ------------------------------------------------------------


def test_one_of_each_works_on_both_sides(way: tuple[Any, Any]) -> None:
    """Each kind, inside a dict, is the same thing in a worker and in the caller."""
    context, ctx = way
    things = jobs.one_of_each(ctx)
    with safemp.SafeExecutor(1, context, jobs.keep_all, (things,)) as executor:
        seen = executor.submit(jobs.use_each).result(30)
        received = [things[name].get(timeout=20) for name in ("queue", "joinable")] + [things["simple"].get()]
        pid = executor.submit(plain.pid).result(30)

        assert seen == {"lock": True, "rlock": True, "semaphore": True, "bounded": True, "barrier": 2}
        assert received == [("queue", pid), ("joinable", pid), ("simple", pid)]
        assert things["reader"].recv() == "sent"
        assert not things["lock"].acquire(block=False)
        assert things["event"].is_set()
        assert [things["semaphore"].acquire(block=False) for _ in range(3)] == [True, True, False]
        assert [things["bounded"].acquire(block=False) for _ in range(2)] == [True, False]
        assert (things["value"].value, things["raw_value"].value) == (7, 7)
        assert (list(things["array"]), list(things["raw_array"])) == ([0, 9, 0], [0, 9, 0])
        things["joinable"].task_done()
        things["joinable"].join()
    jobs.close_all(things)


def test_sums_under_a_lock_are_exact(way: tuple[Any, Any]) -> None:
    """Several workers, and those that replace them, count under one lock and lose nothing."""
    context, ctx = way
    counter = ctx.RawValue("q", 0)
    given = {"lock": ctx.Lock(), "counter": counter}
    with safemp.Pool(3, jobs.keep_all, (given,), 2, context) as pool:
        pids = pool.map(jobs.add, [200] * 12, chunksize=1)

    assert counter.value == 2400
    assert len(set(pids)) >= 6


def test_a_value_has_its_own_lock(way: tuple[Any, Any]) -> None:
    """``Value`` counts exactly under ``get_lock()``."""
    context, ctx = way
    counter = ctx.Value("q", 0)
    with safemp.SafeExecutor(2, context, jobs.keep_all, ({"counter": counter},)) as executor:
        list(executor.map(jobs.add_to_value, [300] * 8))

    assert counter.value == 2400


def test_a_queue_is_fed_by_workers_and_read_by_the_caller(way: tuple[Any, Any]) -> None:
    """Nothing that a task has put is lost, when its worker ends, too."""
    context, ctx = way
    queue = ctx.Queue()
    with safemp.SafeExecutor(2, context, jobs.keep_all, ({"queue": queue},), max_tasks_per_child=10) as executor:
        list(executor.map(jobs.put, range(60)))
    got = sorted(queue.get(timeout=20) for _ in range(60))
    queue.close()
    queue.join_thread()

    assert got == [i * i for i in range(60)]


def test_an_event_of_the_caller_wakes_tasks(way: tuple[Any, Any]) -> None:
    """Tasks that wait go on when the caller says so."""
    context, ctx = way
    given = {"event": ctx.Event(), "ready": ctx.Semaphore(0)}
    with safemp.SafeExecutor(2, context, jobs.keep_all, (given,)) as executor:
        futures = [executor.submit(jobs.wait_for_event) for _ in range(2)]
        for _ in futures:
            assert given["ready"].acquire(timeout=40)
        given["event"].set()

        assert [future.result(40) for future in futures] == [True, True]


def test_a_barrier_brings_tasks_together(way: tuple[Any, Any]) -> None:
    """As many tasks as the barrier has parties meet at it, and none goes through alone."""
    context, ctx = way
    with safemp.SafeExecutor(2, context, jobs.keep_all, ({"barrier": ctx.Barrier(2)},)) as executor:
        futures = [executor.submit(jobs.meet) for _ in range(2)]

        assert sorted(future.result(60) for future in futures) == [0, 1]


def test_what_is_given_twice_is_one_thing(way: tuple[Any, Any]) -> None:
    """The same lock at three places, two of them deep inside, is one object in a worker."""
    context, ctx = way
    lock = ctx.Lock()
    given = {"first": lock, "second": jobs.Holder(lock), "third": {"deep": [lock]}}
    with safemp.SafeExecutor(1, context, jobs.keep_all, (given,)) as executor:
        assert executor.submit(jobs.same_twice).result(30)


def test_functions_and_lambdas_travel_with_it(way: tuple[Any, Any]) -> None:
    """An initializer may be a closure over a lock, and its arguments may hold lambdas."""
    context, ctx = way
    lock = ctx.Lock()

    def initializer(extra: dict[str, Any]) -> None:
        assert lock.acquire(block=False)
        extra["keep"](number=extra["number"])

    extra = {"keep": lambda number: jobs.keep(number=number), "number": 4}
    with safemp.SafeExecutor(1, context, initializer, (extra,)) as executor:
        assert executor.submit(jobs.get, "number").result(30) == 4
    assert not lock.acquire(block=False)


def test_what_only_the_pool_holds_lives_as_long_as_the_pool(way: tuple[Any, Any]) -> None:
    """Workers that start after the caller has forgotten what it handed over still get it."""
    context, ctx = way
    given = {"lock": ctx.Lock(), "counter": ctx.Value("q", 5)}
    with safemp.SafeExecutor(1, context, jobs.keep_all, (given,), max_tasks_per_child=1) as executor:
        del given
        gc.collect()
        decoys = [ctx.RawValue("q", 0) for _ in range(100)]
        for _ in range(3):
            executor.submit(jobs.add_to_value, 1).result(30)

        assert executor.submit(jobs.get, "counter").exception(30) is not None  # it does not travel back
        assert not any(decoy.value for decoy in decoys)


@pytest.mark.parametrize("name", ["loky", "loky-loky", "spawn", "forkserver"])
def test_a_pipe_that_the_caller_has_closed_is_still_the_workers(name: str) -> None:
    """The caller may close its end once the pool is made; the pipe ends when the pool does.

    (A forked worker has what is open when it starts, as with the standard library.)
    """
    context, ctx = WAYS[name]
    reader, writer = ctx.Pipe(duplex=False)
    executor = safemp.SafeExecutor(1, context, jobs.keep_all, ({"conn": writer},), max_tasks_per_child=1)
    writer.close()
    for text in ("one", "two"):
        executor.submit(jobs.tell, text).result(30)
    executor.shutdown()

    assert [reader.recv(), reader.recv()] == ["one", "two"]
    with pytest.raises(EOFError):  # though the executor is still referred to
        reader.recv()
    reader.close()


def test_shared_memory_and_managed_objects_travel(way: tuple[Any, Any]) -> None:
    """``SharedMemory`` and the proxies of a manager work, also those that only the pool holds."""
    context, _ = way
    memory = shared_memory.SharedMemory(create=True, size=64)
    try:
        memory.buf[:3] = b"abc"
        with multiprocessing.get_context("spawn").Manager() as manager:
            numbers = manager.list()
            given = {"memory": memory, "list": numbers, "other": manager.dict()}
            with safemp.SafeExecutor(1, context, jobs.keep_all, (given,), max_tasks_per_child=2) as executor:
                del given
                gc.collect()
                assert executor.submit(jobs.read_shared).result(40) == b"abc"
                assert [executor.submit(jobs.append, i).result(40) for i in range(3)] == [1, 2, 3]
                assert list(numbers) == [0, 1, 2]
    finally:
        memory.close()
        memory.unlink()


def test_many_pipes_travel(way: tuple[Any, Any]) -> None:
    """More descriptors than one message of the kernel takes."""
    context, ctx = way
    pipes = [ctx.Pipe(duplex=False) for _ in range(150)]
    with safemp.SafeExecutor(1, context, jobs.keep_all, ({"pipes": pipes},)) as executor:
        executor.submit(jobs.tell_each).result(30)
    got = [reader.recv() for reader, _ in pipes]
    for pipe in pipes:
        for end in pipe:
            end.close()

    assert got == list(range(150))


# -- a worker that dies with the lock --------------------------------------------------


def test_a_lock_dies_with_the_worker_that_holds_it_until_the_caller_releases_it(way: tuple[Any, Any]) -> None:
    """As with the standard library nobody else gets it; the task's error says when to release it."""
    context, ctx = way
    lock = ctx.Lock()
    with safemp.SafeExecutor(1, context, jobs.keep_all, ({"lock": lock},)) as executor:
        with pytest.raises(WorkerCrashed):
            executor.submit(jobs.die_with_the_lock).result(30)
        assert executor.submit(jobs.try_the_lock, 0.01).result(30) is False
        lock.release()

        assert executor.submit(jobs.try_the_lock, 20).result(30) is True


# -- what cannot go --------------------------------------------------------------------


@pytest.mark.skipif(not FORKS, reason="nothing is made in a fork context here")
@pytest.mark.parametrize("method", ["loky", "spawn", "forkserver"])
def test_a_lock_for_forked_processes_is_refused_by_others_with_its_place(method: str) -> None:
    """The error names it, says why, and what to type; and it is a ``RuntimeError`` as the standard library's."""
    ctx = multiprocessing.get_context("fork")
    for make in (
        lambda args: safemp.SafeExecutor(1, method, jobs.keep_all, args),
        lambda args: safemp.Pool(1, jobs.keep_all, args, None, method),
    ):
        with pytest.raises(PreflightError) as caught:
            make((jobs.Holder(ctx.Lock()), {"counter": ctx.Value("i"), "q": [ctx.Queue()]}))

        assert isinstance(caught.value, RuntimeError)
        assert [c.path for c in caught.value.culprits] == [
            "initargs[0].lock",
            "initargs[1]['counter']",
            "initargs[1]['q'][0]",
        ]
        start = "forkserver" if method == "forkserver" else "spawn"
        factories = [c.fix.partition("(...)")[0] for c in caught.value.culprits]
        assert factories == [
            f'make it with multiprocessing.get_context("{start}").{name}' for name in ("Lock", "Value", "Queue")
        ]
        assert all('mp_context="fork"' in c.fix for c in caught.value.culprits)
        assert all(f"these workers start by '{method}'" in c.reason for c in caught.value.culprits)


@pytest.mark.parametrize("name", [name for name in jobs.KINDS if name not in ("reader", "writer")])
def test_an_argument_of_a_call_is_refused_and_sent_to_initargs(name: str) -> None:
    """As with the standard library; the error names the whole thing, and says what to type."""
    things = jobs.one_of_each(multiprocessing.get_context("spawn"))
    with safemp.SafeExecutor(1) as executor, safemp.Pool(1) as pool:
        for call, path in (
            (lambda: executor.submit(plain.same, things[name]), "args[0]"),
            (lambda: pool.map(plain.same, [1, jobs.Holder(things[name])]), "items[1].lock"),
        ):
            with pytest.raises(PreflightError) as caught:
                call()

            (culprit,) = caught.value.culprits
            assert (culprit.path, culprit.get() is things[name]) == (path, True)
            assert "should only be shared between processes through inheritance" in culprit.reason
            assert "initargs=(it,)" in culprit.fix
    jobs.close_all(things)


def test_the_advice_works_as_it_is_typed(tmp_path: Path) -> None:
    """What the error tells to type does what was wanted."""
    script = """
import multiprocessing, re, safemp

def work(i):
    with shared:
        return i * i

if __name__ == "__main__":
    lock = multiprocessing.get_context("spawn").Lock()
    try:
        safemp.map(work, [lock])
    except safemp.PreflightError as error:
        advice = str(error)
    exec(re.search("(def keep.*); or use", advice).group(1))
    with safemp.Pool(2, initializer=keep, initargs=(lock,)) as pool:
        print(pool.map(work, range(4)))
"""
    assert quiet(run_script(tmp_path, script), out="[0, 1, 4, 9]\n")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_a_global_of_the_script_may_have_the_name_that_workers_know_it_by(tmp_path: Path, method: str) -> None:
    """``lock`` in the script, ``global lock`` in its initializer, ``with lock`` in its tasks: one lock."""
    script = f"""
import multiprocessing, safemp

class Box:
    pass

def init(it, other):
    global lock, box
    lock, box = it, other

def work(i):
    assert box.lock is lock
    with lock:
        box.count.value += 1
    return i * i

if __name__ == "__main__":
    ctx = multiprocessing.get_context({method!r})
    lock = ctx.Lock()
    box = Box()
    box.lock, box.count = lock, ctx.RawValue("i", 0)
    for _ in range(2):
        with safemp.Pool(2, init, (lock, box), 3) as pool:
            print(pool.map(work, range(9)))
    print(box.count.value)
"""
    squares = str([i * i for i in range(9)])
    assert quiet(run_script(tmp_path, script), out=f"{squares}\n{squares}\n18\n")


def test_two_pools_can_be_given_the_same(tmp_path: Path) -> None:
    """The end of one takes nothing from the other."""
    script = """
import multiprocessing, safemp

def init(it, value):
    global lock, counter
    lock, counter = it, value

def work(i):
    with lock:
        counter.value += 1

if __name__ == "__main__":
    lock = multiprocessing.get_context("spawn").Lock()
    counter = multiprocessing.RawValue("i")
    with safemp.Pool(1, init, (lock, counter)) as first:
        first.map(work, range(10))
        with safemp.SafeExecutor(1, initializer=init, initargs=(lock, counter)) as second:
            first.map(work, range(10))
            list(second.map(work, range(10)))
        first.map(work, range(10))
    print(counter.value)
"""
    assert quiet(run_script(tmp_path, script), out="40\n")


def test_a_global_that_another_pool_was_given_is_named(tmp_path: Path) -> None:
    """A pool whose workers do not have the lock says that it was not handed over to them."""
    script = """
import multiprocessing, safemp

def init(it):
    global lock
    lock = it

def work(i):
    with lock:
        return i

if __name__ == "__main__":
    lock = multiprocessing.get_context("spawn").Lock()
    with safemp.Pool(1, init, (lock,)) as pool, safemp.SafeExecutor(1) as other:
        print(pool.map(work, [1, 2]))
        try:
            print(other.submit(work, 1).result())
        except safemp.PreflightError as error:
            print("not to those of this one" in str(error))
"""
    assert quiet(run_script(tmp_path, script), out="[1, 2]\nTrue\n")


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_plain_multiprocessing_makes_goes_to_clean_interpreters_where_it_has_a_name(
    tmp_path: Path, method: str
) -> None:
    """With another default than ``fork`` (Python 3.14's is ``forkserver``) nobody has to fork."""
    script = f"""
import multiprocessing, safemp

def init(it, value):
    global lock, counter
    lock, counter = it, value

def work(i):
    with lock:
        counter.value += i

def forked(_):
    import sys
    return "parent" in vars(sys.modules["safemp"])

if __name__ == "__main__":
    safemp.parent = True
    multiprocessing.set_start_method({method!r})
    lock, counter = multiprocessing.Lock(), multiprocessing.RawValue("i")
    with safemp.Pool(2, init, (lock, counter)) as pool:
        pool.map(work, range(5))
        print(counter.value, pool.map(forked, range(2)))
"""
    assert quiet(run_script(tmp_path, script), out="10 [False, False]\n")


@pytest.mark.skipif(not FORKS, reason="nothing is made in a fork context here")
def test_the_default_forks_its_workers_only_for_what_needs_it() -> None:
    """A fork context's lock makes workers forks; what has a name, or nothing at all, does not."""
    spawned, forked = (multiprocessing.get_context(method) for method in ("spawn", "fork"))
    jobs.HELD["here"] = True
    try:
        for given, is_fork in (
            ({}, False),
            ({"lock": spawned.Lock()}, False),
            ({"lock": forked.Lock()}, True),
            ({"both": [spawned.Event(), forked.Event()]}, True),
        ):
            with safemp.SafeExecutor(1, None, jobs.keep_all, (given,)) as executor:
                assert executor.submit(jobs.knows, "here").result(30) is is_fork
    finally:
        jobs.HELD.clear()


def test_the_inline_engine_takes_it(way: tuple[Any, Any]) -> None:
    """For debugging the same lock is used, in this process."""
    _, ctx = way
    lock = ctx.Lock()
    with safemp.SafeExecutor(1, None, jobs.keep_all, ({"lock": lock},), engine="inline") as executor:
        lock.acquire()

        assert executor.submit(jobs.try_the_lock, 0.01).result() is False
        lock.release()
        assert executor.submit(jobs.try_the_lock, 20).result() is True
    jobs.HELD.clear()


def test_what_cannot_be_handed_over_is_named_when_the_pool_is_made() -> None:
    """A closed end of a pipe, a barrier's action that cannot travel: at the caller's line, with their place."""
    ctx = multiprocessing.get_context("spawn")
    reader, writer = ctx.Pipe(duplex=False)
    writer.close()
    file = open(os.devnull)  # noqa: SIM115 - closed below
    barrier = ctx.Barrier(2, action=lambda: file)
    with pytest.raises(PreflightError) as caught:
        safemp.SafeExecutor(1, None, jobs.keep_all, ({"end": [writer], "box": jobs.Holder(barrier)},))
    file.close()
    reader.close()

    assert isinstance(caught.value, OSError)
    assert [(c.path, c.reason) for c in caught.value.culprits] == [
        ("initargs[0]['end'][0]", "OSError: handle is closed"),
        ("initargs[0]['box'].lock._action.__closure__['file']", "cannot pickle '_io.TextIOWrapper' object"),
    ]


# -- tqdm ------------------------------------------------------------------------------


def test_tqdms_process_map_runs_on_us(monkeypatch: pytest.MonkeyPatch) -> None:
    """``process_map`` hands tqdm's own lock to the workers' initializer."""
    from tqdm import tqdm
    from tqdm.contrib.concurrent import process_map
    from tqdm.std import TqdmDefaultWriteLock

    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # no thread that stays
    monkeypatch.setattr(concurrent.futures, "ProcessPoolExecutor", safemp.ProcessPoolExecutor)

    found = process_map(plain.square, range(20), max_workers=2, chunksize=3, disable=True)

    assert found == [i * i for i in range(20)]
    # Its semaphore has a name in /dev/shm from Python 3.14 on, as long as it is there.
    for holder, name in ((tqdm, "_lock"), (TqdmDefaultWriteLock, "mp_lock")):
        if name in vars(holder):
            delattr(holder, name)


# -- nothing is left -------------------------------------------------------------------


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_nothing_is_left_and_no_tracker_complains(tmp_path: Path, method: str) -> None:
    """After a script's end, with a crash among its tasks, there is no semaphore, and stderr is empty."""
    prefix = f"mp-{os.getpid()}-{method}"
    script = f"""
import multiprocessing, os, safemp
from concurrent.futures.process import BrokenProcessPool
from tests.support import inherited as jobs

if __name__ == "__main__":
    multiprocessing.current_process()._config["semprefix"] = "/{prefix}"  # not those of a test beside this one
    ctx = multiprocessing.get_context({method!r})
    things = jobs.one_of_each(ctx)
    name = things["lock"]._semlock.name
    print("named" if name is None or name.startswith("/{prefix}") else name)  # one for fork is nameless by now
    with safemp.SafeExecutor(2, initializer=jobs.keep_all, initargs=(things,)) as executor:
        executor.submit(jobs.use_each).result()
        try:
            executor.submit(os._exit, 3).result()
        except BrokenProcessPool:
            pass
        executor.submit(jobs.get, "nothing").exception()
    jobs.close_all(things)
    print("ok")
"""
    ended = run_script(tmp_path, script)

    assert quiet(ended, out="named\nok\n"), ended
    assert not os.path.isdir("/dev/shm") or not [name for name in os.listdir("/dev/shm") if prefix in name]


def test_a_killed_caller_leaves_no_semaphore(tmp_path: Path) -> None:
    """Its workers end, and then the tracker of multiprocessing unlinks what it had made."""
    script = tmp_path / "script.py"
    script.write_text("""
import multiprocessing, os, safemp, sys
from tests.support import inherited as jobs

if __name__ == "__main__":
    things = jobs.one_of_each(multiprocessing.get_context("spawn"))
    executor = safemp.SafeExecutor(2, initializer=jobs.keep_all, initargs=(things,))
    executor.submit(jobs.use_each).result()
    print("sem." + things["lock"]._semlock.name.lstrip("/"), flush=True)
    sys.stdin.read()
""")
    with started(str(script), stdin=subprocess.PIPE) as (child, written):
        assert until(lambda: written()[0].endswith("\n"), timeout=40), written()
        entry = Path("/dev/shm", written()[0].strip())
        existed = entry.exists()
        child.kill()
        child.wait()

        assert until(lambda: not in_session(child.pid), timeout=15), in_session(child.pid)
        assert existed is os.path.isdir("/dev/shm")
        assert not entry.exists()
