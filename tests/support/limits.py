"""What a pool does when the machine has no more to give: ``python -m tests.support.limits CASE``.

Each case runs in a process of its own, since limits cannot be raised again by everybody,
and prints ``ok`` when all is as promised.
"""

from __future__ import annotations

import errno
import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from typing import Any

import safemp
from safemp.engines.template import keeper
from tests.support import jobs
from tests.support.child import until

TIMEOUT = 30.0
"""Seconds for what takes milliseconds."""


@contextmanager
def limited(which: int, soft: int) -> Iterator[None]:
    """Lower a soft limit of this process, and of the processes it starts meanwhile."""
    before, hard = resource.getrlimit(which)
    resource.setrlimit(which, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (before, hard))


def answers(futures: list[Any]) -> list[Any]:
    """Return each one's result or error."""
    _, pending = wait(futures, TIMEOUT)
    assert not pending, f"{len(pending)} of {len(futures)} have no answer"
    return [future.exception() or future.result() for future in futures]


def works(executor: safemp.SafeExecutor) -> None:
    """See that the pool works as if nothing had been."""
    assert answers([executor.submit(jobs.square, i) for i in range(20)]) == [i * i for i in range(20)]


def open_files() -> set[int]:
    """Return the descriptors in use."""
    with os.scandir("/proc/self/fd") as entries:
        own = {int(entry.name) for entry in entries}
    return {fd for fd in own if os.path.exists(f"/proc/self/fd/{fd}") or os.path.islink(f"/proc/self/fd/{fd}")}


def room(n: int) -> int:
    """Return the limit under which *n* more descriptors can be opened."""
    used = open_files()
    limit = 0
    while sum(fd not in used for fd in range(limit)) < n:
        limit += 1
    return limit


# -- descriptors ------------------------------------------------------------------------


def files_run_out_while_growing() -> None:
    """The workers that there are do all the work; those that can be had later come later."""
    with safemp.SafeExecutor(5) as executor:
        assert executor.submit(jobs.square, 3).result(TIMEOUT) == 9
        with limited(resource.RLIMIT_NOFILE, room(16)):
            assert answers([executor.submit(jobs.work, i, 0.05) for i in range(20)]) == [10 * i for i in range(20)]
            few = len(executor._processes)
        assert 1 <= few < 5, few
        futures = [executor.submit(jobs.work, i, 0.3) for i in range(12)]
        assert until(lambda: len(executor._processes) > few), "it does not grow again"
        assert answers(futures) == [10 * i for i in range(12)]


def _none_to_begin_with(which: int, soft: Callable[[], int], name: str) -> None:
    """No worker can be started at all: the error says so; afterwards the pool works."""
    with safemp.SafeExecutor(2) as warm, safemp.SafeExecutor(2) as executor:
        works(warm)
        with limited(which, soft()):
            (error,) = answers([executor.submit(jobs.square, 3)])
        assert isinstance(error, safemp.WorkerCrashed), error
        assert name in str(error).splitlines()[0], error
        works(warm)
        works(executor)


def no_files_at_all() -> None:
    """No descriptor is left for a first worker."""
    _none_to_begin_with(resource.RLIMIT_NOFILE, lambda: room(1), os.strerror(errno.EMFILE))


def no_files_for_a_replacement() -> None:
    """The only worker dies and cannot be replaced: its call and those that wait fail; then the pool works."""
    with safemp.SafeExecutor(1) as executor:
        works(executor)
        with limited(resource.RLIMIT_NOFILE, room(1)):
            futures = [executor.submit(jobs.die_by_sigkill), *(executor.submit(jobs.work, i, 0.05) for i in range(5))]
            found = answers(futures)
        assert all(isinstance(error, safemp.WorkerCrashed) for error in found), found
        works(executor)


def files_run_out_in_a_pool() -> None:
    """``Pool`` starts all its workers at once; those that cannot be had are missed by nobody."""
    with limited(resource.RLIMIT_NOFILE, room(24)), safemp.Pool(30) as pool:
        assert pool.map_async(jobs.square, range(100), 1).get(TIMEOUT) == [i * i for i in range(100)]


# -- processes and threads ----------------------------------------------------------------


@contextmanager
def processes_run_out() -> Iterator[None]:
    """Have every attempt to start a process or a thread fail.

    Root is above ``RLIMIT_NPROC``, so for root it is played: what all ways of starting
    have in common is one function of C, and ``os.fork``.
    """
    if os.getuid():
        with limited(resource.RLIMIT_NPROC, 1):
            yield
        return
    import _posixsubprocess

    def fork(*args: Any) -> int:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    real, os_fork, start = _posixsubprocess.fork_exec, os.fork, keeper.start
    users = [module for module in list(sys.modules.values()) if getattr(module, "fork_exec", None) is real]
    for module in users:
        module.fork_exec = fork  # type: ignore[attr-defined]
    os.fork = fork
    keeper.start = fork  # type: ignore[method-assign]  # the template's forks fail as ours do
    try:
        yield
    finally:
        keeper.start = start  # type: ignore[method-assign]
        for module in users:
            module.fork_exec = real  # type: ignore[attr-defined]
        os.fork = os_fork


def processes_run_out_while_growing() -> None:
    """The workers that there are do all the work; the pool grows when there are processes again."""
    with safemp.SafeExecutor(5) as executor:
        assert executor.submit(jobs.square, 3).result(TIMEOUT) == 9
        before = len(executor._processes)
        with processes_run_out():
            assert answers([executor.submit(jobs.work, i, 0.05) for i in range(20)]) == [10 * i for i in range(20)]
            assert len(executor._processes) == before
        futures = [executor.submit(jobs.work, i, 0.3) for i in range(12)]
        assert until(lambda: len(executor._processes) > before), "it does not grow again"
        assert answers(futures) == [10 * i for i in range(12)]


def no_processes_at_all() -> None:
    """The error says why; afterwards the pool works."""
    with safemp.SafeExecutor(2) as executor:
        with processes_run_out():
            (error,) = answers([executor.submit(jobs.square, 3)])
        assert isinstance(error, safemp.WorkerCrashed), error
        assert os.strerror(errno.EAGAIN) in str(error).splitlines()[0], error
        works(executor)


@contextmanager
def no_threads() -> Iterator[None]:
    """Have every attempt to start a thread fail as a limit on processes or memory has it fail."""

    def start(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    real = threading.Thread.start
    threading.Thread.start = start  # type: ignore[method-assign]
    try:
        yield
    finally:
        threading.Thread.start = real  # type: ignore[method-assign]


def _error_of(call: Callable[[], object]) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return "no error"


def no_threads_for_mending() -> None:
    """A call that does not load needs a thread to be encoded again; without one, it fails alone."""
    with safemp.SafeExecutor(2) as executor:
        works(executor)
        with no_threads():
            found = answers([executor.submit(jobs.take, jobs.RaisesOnLoad()), executor.submit(jobs.square, 3)])
        assert isinstance(found[0], BaseException), found
        assert found[1] == 9
        works(executor)


def no_threads_for_callbacks() -> None:
    """``Pool`` calls back in a thread of its own; without one, the results are there all the same."""
    with safemp.Pool(2) as pool:
        assert pool.apply(jobs.square, (3,)) == 9
        with no_threads():
            results = [pool.apply_async(jobs.square, (i,), callback=str) for i in range(3)]
            assert [result.get(TIMEOUT) for result in results] == [0, 1, 4]
        assert pool.apply(jobs.square, (3,)) == 9


def no_threads_for_imap() -> None:
    """``imap`` reads its items in a thread: without one, the call itself fails; nothing is left waiting."""
    with safemp.Pool(2) as pool:
        assert pool.apply(jobs.square, (3,)) == 9
        with no_threads():
            assert "thread" in _error_of(lambda: pool.imap(jobs.square, range(3)))
        assert list(pool.imap(jobs.square, range(3))) == [0, 1, 4]


def no_threads_for_a_pool() -> None:
    """A pool that cannot start its thread says so, and leaves nothing."""
    with safemp.SafeExecutor(1) as executor:
        works(executor)
    before = open_files()
    for make in (safemp.SafeExecutor, safemp.Pool):
        with no_threads():
            assert "thread" in _error_of(lambda: make(2))  # noqa: B023 - called at once
    gc.collect()
    assert open_files() <= before, "descriptors are left"


# -- memory -----------------------------------------------------------------------------

MIB = 1 << 20


def _address_space() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def a_result_larger_than_memory() -> None:
    """It fails alone, and says that it is memory."""
    with safemp.SafeExecutor(2) as executor:
        works(executor)
        slow = [executor.submit(jobs.work, i, 0.2) for i in range(6)]
        with limited(resource.RLIMIT_AS, _address_space() + 150 * MIB):
            big = executor.submit(bytes, 600 * MIB)
            (error,) = answers([big])
            assert answers(slow) == [10 * i for i in range(6)]
        assert isinstance(error, BaseException), type(error)
        assert "memory" in f"{type(error).__name__}: {error}".lower(), error
        works(executor)


def an_argument_larger_than_memory() -> None:
    """The call itself raises ``MemoryError``: the argument cannot be encoded."""
    big = bytes(200 * MIB)
    with safemp.SafeExecutor(2) as executor:
        works(executor)
        with limited(resource.RLIMIT_AS, _address_space() + 150 * MIB):
            try:
                future = executor.submit(len, bytearray(big))
            except (MemoryError, safemp.PreflightError):
                pass
            else:
                (found,) = answers([future])
                assert found == 200 * MIB or isinstance(found, BaseException), found
            works(executor)
        works(executor)


def limit_worker(extra: int) -> None:
    """An initializer: have this worker run out of memory soon."""
    space = _address_space()
    resource.setrlimit(resource.RLIMIT_AS, (space + extra, space + extra))


def an_argument_larger_than_a_worker() -> None:
    """A call that no worker can take in fails alone; the pool goes on."""
    with safemp.SafeExecutor(2, initializer=limit_worker, initargs=(150 * MIB,)) as executor:
        works(executor)
        big = executor.submit(len, bytes(400 * MIB))
        small = [executor.submit(jobs.work, i, 0.05) for i in range(10)]
        (error,) = answers([big])
        assert isinstance(error, BaseException), error
        assert answers(small) == [10 * i for i in range(10)]
        works(executor)


def a_result_larger_than_a_worker() -> None:
    """A result that the worker cannot hold is a ``MemoryError`` of that call."""
    with safemp.SafeExecutor(2, initializer=limit_worker, initargs=(150 * MIB,)) as executor:
        works(executor)
        found = answers([executor.submit(bytes, 400 * MIB), executor.submit(jobs.square, 3)])
        assert isinstance(found[0], MemoryError), found[0]
        assert found[1] == 9


def a_result_that_a_worker_cannot_send() -> None:
    """A result that the worker can hold, but not pickle, fails that call alone."""
    with safemp.SafeExecutor(2, initializer=limit_worker, initargs=(150 * MIB,)) as executor:
        works(executor)
        found = answers([executor.submit(many_bytes, 100), executor.submit(jobs.square, 3)])
        assert isinstance(found[0], BaseException), type(found[0])
        assert found[1] == 9
        works(executor)


def many_bytes(mib: int) -> list[bytes]:
    """Return much, in pieces that stay in the pickle's stream."""
    return [bytes(60_000) for _ in range(mib * MIB // 60_000)]


# -- disks ------------------------------------------------------------------------------


def files_must_be_empty() -> None:
    """A limit on the size of files is in the way of a worker's ledger; the error says so."""
    _none_to_begin_with(resource.RLIMIT_FSIZE, lambda: 0, os.strerror(errno.EFBIG))


def a_full_disk() -> None:
    """With TMPDIR and /dev/shm full, calls, crashes and large arguments are as always."""
    for folder in (os.environ["TMPDIR"], "/dev/shm"):
        with open(os.path.join(folder, "filler"), "wb", buffering=0) as file:
            try:
                for _ in range(4096):  # 16 MiB: the test has made them smaller
                    file.write(bytes(4096))
            except OSError:
                continue
            raise AssertionError(f"{folder} is not full")
    with safemp.SafeExecutor(2) as executor, safemp.Pool(2) as pool:
        works(executor)
        assert executor.submit(len, bytes(30 * MIB)).result(TIMEOUT) == 30 * MIB
        assert len(executor.submit(bytes, 30 * MIB).result(TIMEOUT)) == 30 * MIB
        for die in (jobs.die_by_sigkill, jobs.die_by_segfault, jobs.die_by_exit):
            assert isinstance(executor.submit(die).exception(TIMEOUT), safemp.WorkerCrashed)
        assert pool.map(jobs.square, range(20)) == [i * i for i in range(20)]
        works(executor)


CASES: dict[str, Callable[[], None]] = {
    case.__name__: case
    for case in (
        files_run_out_while_growing,
        files_run_out_in_a_pool,
        no_files_at_all,
        no_files_for_a_replacement,
        processes_run_out_while_growing,
        no_processes_at_all,
        no_threads_for_mending,
        no_threads_for_callbacks,
        no_threads_for_imap,
        no_threads_for_a_pool,
        a_result_larger_than_memory,
        an_argument_larger_than_memory,
        an_argument_larger_than_a_worker,
        a_result_larger_than_a_worker,
        a_result_that_a_worker_cannot_send,
        files_must_be_empty,
        a_full_disk,
    )
}


def main(case: str) -> None:
    """Run one case."""
    started = time.monotonic()
    CASES[case]()
    print("ok")
    print(f"{time.monotonic() - started:.1f} s", file=sys.stderr)


if __name__ == "__main__":
    main(*sys.argv[1:])
