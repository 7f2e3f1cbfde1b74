"""Jobs that look at their worker from inside: its threads, its environment, pools in it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from typing import Any

import safemp
from tests.support import jobs


def blas_threads() -> set[int]:
    """Return how many threads the BLAS of numpy would use, as threadpoolctl sees it."""
    import numpy  # noqa: F401 - loads it

    sys.modules.pop("threadpoolctl", None)  # a test may have put None there
    import threadpoolctl

    return {each["num_threads"] for each in threadpoolctl.threadpool_info() if each["user_api"] == "blas"}


def variables(*names: str) -> list[str | None]:
    """Return environment variables."""
    return [os.environ.get(name) for name in names]


def variables_of_program(name: str) -> str:
    """Return an environment variable of a program that we start."""
    code = f"import os; print(os.environ.get({name!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def set_variable(name: str, value: str) -> None:
    """Set an environment variable: an initializer."""
    os.environ[name] = value


def variables_within(workers: int, *names: str) -> list[str | None]:
    """Return environment variables of a worker of a pool in this worker."""
    with safemp.SafeExecutor(workers) as executor:
        return executor.submit(variables, *names).result()


def start_method() -> str | None:
    """Return how processes start here."""
    import multiprocessing

    return multiprocessing.get_start_method(allow_none=True)


def default_workers() -> int:
    """Return how many workers a pool has here, unless told otherwise."""
    with safemp.SafeExecutor() as executor:
        return executor._max_workers


def squares_in(context: str | None, how: str) -> list[int]:
    """Map over a pool in this worker; the pool is closed, or left to the worker's end."""
    if how == "map":
        return safemp.map(jobs.square, range(20))
    if how == "Pool":
        with safemp.Pool(2, context=context) as pool:
            return pool.map(jobs.square, range(20))
    executor = safemp.SafeExecutor(2, mp_context=context)
    found = list(executor.map(jobs.square, range(20)))
    if how == "SafeExecutor":
        executor.shutdown()
    else:
        _left.append(executor)
    return found


_left: list[Any] = []


def nest(levels: int) -> int:
    """Start a pool in a worker in a pool ...; return how deep we came."""
    if not levels:
        return 0
    with safemp.Pool(1) as pool:
        return 1 + int(pool.apply(nest, (levels - 1,)))


def nest_without_end() -> None:
    """Start a pool whose task starts a pool."""
    safemp.map(_nest_without_end, [None])


def _nest_without_end(_: None) -> None:
    nest_without_end()


def squares_of_other_pools(how: str) -> list[int]:
    """Use what else there is for many things at a time, in a worker."""
    if how == "threads":
        found: dict[int, int] = {}
        threads = [threading.Thread(target=lambda i=i: found.update({i: i * i})) for i in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [found[i] for i in range(5)]
    if how == "subprocess":
        code = "print(*[i * i for i in range(5)])"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return [int(each) for each in run.stdout.split()]
    if how == "script":
        code = "import safemp; from tests.support import jobs; print(*safemp.map(jobs.square, range(5)))"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return [int(each) for each in run.stdout.split()]
    if how.startswith("mp."):
        import multiprocessing

        with multiprocessing.get_context(how[3:] or None).Pool(2) as pool:
            return pool.map(jobs.square, range(5))
    if how == "ThreadPoolExecutor":
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(2) as inner:
            return list(inner.map(jobs.square, range(5)))
    if how == "loky":
        from loky import ProcessPoolExecutor as Loky

        with Loky(2) as loky:
            return list(loky.map(jobs.square, range(5)))
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(2, mp_context=get_context(how)) as executor:
        return list(executor.map(jobs.square, range(5)))


def note_program(path: str) -> None:
    """Start a program that stays; leave both pids in a file."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _note_both(path, program.pid)


def note_process(path: str) -> None:
    """Start a ``multiprocessing.Process`` that stays; leave both pids in a file."""
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(600,))
    process.start()
    assert process.pid is not None
    _note_both(path, process.pid)


def _note_both(path: str, pid: int) -> None:
    jobs.note(path, f"worker {os.getpid()}")
    jobs.note(path, f"program {pid}")
    time.sleep(600)


def note_and_nest_two(path: str) -> None:
    """Have a pool of two here whose tasks stay; leave each process's pid behind ours in a file."""
    jobs.note(path, f"{os.getpid()} {os.getpid()}")
    with safemp.Pool(2) as pool:
        pool.starmap(_note_within, [(path, os.getpid())] * 2, 1)


def _note_within(path: str, outer: int) -> None:
    jobs.note(path, f"{outer} {os.getpid()}")
    time.sleep(600)
