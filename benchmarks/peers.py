"""The pools that are compared, each used the way its own documentation says.

Rule 1: whatever is started here is registered on the ``ExitStack`` it is started with,
so that no worker outlives its caller, however that ends.
Rule 2: a peer is imported when it is started, in a process of its own (``lane.py``). So no
peer has another's threads beside it, and a pool that forks does so while there is one thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

from benchmarks import jobs

__all__ = ["EXECUTOR", "LIMIT", "OURS", "PACKAGES", "POOL", "Peer", "Unable", "start"]

EXECUTOR, POOL = "safemp.SafeExecutor", "safemp.Pool"
OURS = (EXECUTOR, POOL)
LIMIT = "(limit)"
"""Not a pool: what the machine allows, as far as a row has such a thing."""

PATIENCE = 60.0
"""Seconds that a pool has for its first answers. A peer that cannot load a function may
never answer, so a wait without end would be the end of the run."""

Wait = Callable[[], Any]


class Unable(Exception):
    """A peer has no way to do what a row asks for. Says why."""


class Peer:
    """A pool that runs.

    Attributes:
        workers: How many it has.
        chunks: Its ``map`` puts many items into a message unless it is told otherwise.
        queues: It takes any number of calls before the first has ended.
        collects: It brings the outcome of every call, also when some of them raise.
    """

    workers = 0
    chunks = False
    queues = True
    collects = True

    def submit(self, fn: Callable[..., Any], *args: Any) -> Wait:
        """Make a call, and return what waits for its answer."""
        raise NotImplementedError

    def storm(self, fn: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Make all calls at once, then read every answer."""
        submit = self.submit
        return [wait() for wait in [submit(fn, *args) for args in arguments]]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Sequence[Any]:
        """Make a call for each item, by the peer's own ``map`` with its defaults."""
        raise Unable("has no map")

    def share(self, obj: Any) -> Any:
        """Return what many calls are given in the place of *obj*, if the peer has something for that."""
        return obj

    def fill(self) -> None:
        """Wait until all workers are there: many pools start them on demand.

        Raises:
            Unable: Some have not answered in time.
        """
        seen: set[int] = set()
        deadline = time.monotonic() + PATIENCE
        while len(seen) < self.workers:
            if time.monotonic() > deadline:
                raise Unable(f"{len(seen)} of {self.workers} workers answered in {PATIENCE:g} s")
            # Longer with many of them: who has answered is not to take another's call.
            seen.update(self.storm(jobs.pause, [(0.01 + 0.004 * self.workers,)] * (2 * self.workers)))


class Executor(Peer):
    """A pool with ``submit`` and ``map``, as in ``concurrent.futures``."""

    def __init__(self, executor: Any) -> None:
        self._executor = executor

    def submit(self, fn: Callable[..., Any], *args: Any) -> Wait:
        """Make a call, and return what waits for its answer."""
        return self._executor.submit(fn, *args).result  # type: ignore[no-any-return]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Sequence[Any]:
        """Make a call for each item."""
        return list(self._executor.map(fn, items))


class Sharing(Executor):
    """The same, of safemp."""

    def share(self, obj: Any) -> Any:
        """Write an object once."""
        import safemp

        return safemp.share(obj)


class PoolOfCalls(Peer):
    """A pool with ``apply_async`` and ``map``, as in ``multiprocessing``."""

    chunks = True

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, fn: Callable[..., Any], *args: Any) -> Wait:
        """Make a call, and return what waits for its answer."""
        return self._pool.apply_async(fn, args).get  # type: ignore[no-any-return]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Sequence[Any]:
        """Make a call for each item."""
        return self._pool.map(fn, items)  # type: ignore[no-any-return]


class Joblib(Peer):
    """``joblib.Parallel``, kept open: a call is a batch of its own, many calls are one list."""

    chunks = True
    queues = False
    collects = False

    def __init__(self, parallel: Any, delayed: Any) -> None:
        self._parallel = parallel
        self._delayed = delayed

    def submit(self, fn: Callable[..., Any], *args: Any) -> Wait:
        """Make a call when its answer is asked for."""
        return lambda: self.storm(fn, [args])[0]

    def storm(self, fn: Callable[..., Any], arguments: Iterable[tuple[Any, ...]]) -> list[Any]:
        """Make all calls."""
        delayed = self._delayed(fn)
        return self._parallel(delayed(*args) for args in arguments)  # type: ignore[no-any-return]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Sequence[Any]:
        """Make a call for each item."""
        return self.storm(fn, zip(items))


class Pebble(Peer):
    """``pebble.ProcessPool``."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    def submit(self, fn: Callable[..., Any], *args: Any) -> Wait:
        """Make a call, and return what waits for its answer."""
        return self._pool.schedule(fn, args=args).result  # type: ignore[no-any-return]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Sequence[Any]:
        """Make a call for each item."""
        return list(self._pool.map(fn, items).result())


class Ray(Peer):
    """Tasks of Ray."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._remote: dict[Any, Any] = {}

    def submit(self, fn: Callable[..., Any], *args: Any) -> Wait:
        """Make a call, and return what waits for its answer."""
        if fn not in self._remote:
            self._remote[fn] = self._ray.remote(fn)
        return partial(self._ray.get, self._remote[fn].remote(*args))

    def share(self, obj: Any) -> Any:
        """Put an object into the store."""
        return self._ray.put(obj)


class Dask(Peer):
    """The client of a local Dask cluster."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def submit(self, fn: Callable[..., Any], *args: Any) -> Wait:
        """Make a call, and return what waits for its answer."""
        return self._client.submit(fn, *args, pure=False).result  # type: ignore[no-any-return]

    def map(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> Sequence[Any]:
        """Make a call for each item."""
        return self._client.gather(self._client.map(fn, items, pure=False))  # type: ignore[no-any-return]

    def share(self, obj: Any) -> Any:
        """Send an object to all workers."""
        return self._client.scatter(obj, broadcast=True)


# -- how each is started ---------------------------------------------------------------


def _safe_executor(stack: ExitStack, workers: int) -> Peer:
    import safemp

    executor = safemp.SafeExecutor(workers)
    stack.callback(executor.shutdown)
    stack.callback(executor.terminate_workers)
    return Sharing(executor)


def _safe_pool(stack: ExitStack, workers: int) -> Peer:
    import safemp

    pool = safemp.Pool(workers)
    stack.callback(pool.join)
    stack.callback(pool.terminate)
    return PoolOfCalls(pool)


def _pool(method: str, stack: ExitStack, workers: int) -> Peer:
    import multiprocessing

    pool = multiprocessing.get_context(method).Pool(workers, jobs.settle)
    stack.callback(pool.join)
    stack.callback(pool.terminate)
    return PoolOfCalls(pool)


def _executor(method: str, stack: ExitStack, workers: int) -> Peer:
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    executor = ProcessPoolExecutor(workers, multiprocessing.get_context(method), jobs.settle)
    stack.callback(executor.shutdown, cancel_futures=True)
    return Executor(executor)


def _loky(stack: ExitStack, workers: int) -> Peer:
    from loky import ProcessPoolExecutor

    executor = ProcessPoolExecutor(workers, initializer=jobs.settle)
    stack.callback(executor.shutdown, kill_workers=True)
    return Executor(executor)


def _joblib(stack: ExitStack, workers: int) -> Peer:
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    stack.callback(lambda: get_reusable_executor().shutdown(kill_workers=True))
    return Joblib(stack.enter_context(Parallel(n_jobs=workers)), delayed)


def _mpire(stack: ExitStack, workers: int) -> Peer:
    from mpire import WorkerPool

    pool = WorkerPool(n_jobs=workers, keep_alive=True)
    stack.callback(pool.terminate)
    return PoolOfCalls(pool)


def _pebble(stack: ExitStack, workers: int) -> Peer:
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=workers, initializer=jobs.settle)
    stack.callback(pool.join)
    stack.callback(pool.stop)
    return Pebble(pool)


def _ray(stack: ExitStack, workers: int) -> Peer:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    stack.callback(ray.shutdown)
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=os.environ.get("TMPDIR"),
    )
    return Ray(ray)


def _dask(stack: ExitStack, workers: int) -> Peer:
    from distributed import Client, LocalCluster

    cluster = stack.enter_context(LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None))
    return Dask(stack.enter_context(Client(cluster)))


_STARTS: dict[str, tuple[str, Callable[[ExitStack, int], Peer]]] = {
    EXECUTOR: ("safemp", _safe_executor),
    POOL: ("safemp", _safe_pool),
    "multiprocessing.Pool (fork)": ("multiprocessing", partial(_pool, "fork")),
    "multiprocessing.Pool (forkserver)": ("multiprocessing", partial(_pool, "forkserver")),
    "multiprocessing.Pool (spawn)": ("multiprocessing", partial(_pool, "spawn")),
    "ProcessPoolExecutor (fork)": ("multiprocessing", partial(_executor, "fork")),
    "ProcessPoolExecutor (forkserver)": ("multiprocessing", partial(_executor, "forkserver")),
    "ProcessPoolExecutor (spawn)": ("multiprocessing", partial(_executor, "spawn")),
    "loky": ("loky", _loky),
    "joblib": ("joblib", _joblib),
    "mpire": ("mpire", _mpire),
    "pebble": ("pebble", _pebble),
    "ray": ("ray", _ray),
    "dask": ("distributed", _dask),
}

PACKAGES = {name: package for name, (package, _) in _STARTS.items()}
"""What has to be installed for each peer, which are in the order of the tables."""


def start(name: str, stack: ExitStack, workers: int) -> Peer:
    """Start a pool and all its workers.

    Args:
        name: One of ``PACKAGES``.
        stack: Ends it.
        workers: How many it gets.

    Raises:
        Unable: Its workers do not answer.
    """
    peer = _STARTS[name][1](stack, workers)
    peer.workers = workers
    peer.fill()
    return peer
