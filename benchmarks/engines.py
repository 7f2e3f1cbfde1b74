"""What safemp adds to each task of Dask and Ray: ``python -m benchmarks.engines``.

Bare ``Client.submit`` and ``remote`` against ``SafeExecutor.submit`` on the same cluster of two processes, for
calls that do nothing. Each way in turn, fifteen rounds: the quickest of each way, and the median of its ratios to
the bare one in the same round. Beside Ray stand its own ``Pool`` and its own futures (``remote(...).future()``).
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from concurrent.futures import wait
from importlib.util import find_spec
from typing import Any

import safemp

TASKS = 1000
ROUNDS = 15


def nothing(n: int) -> int:
    return n


def with_safemp(executor: safemp.SafeExecutor) -> None:
    futures = [executor.submit(nothing, n) for n in range(TASKS)]
    wait(futures)
    assert [future.result() for future in futures] == list(range(TASKS))


def dask_ways() -> tuple[dict[str, Callable[[], Any]], Callable[[], Any]]:
    from distributed import Client, LocalCluster

    from safemp.engines.dask import DaskEngine

    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0")
    client = Client(cluster, set_as_default=False)
    executor = safemp.SafeExecutor(engine=DaskEngine(client))

    def bare() -> None:
        assert client.gather([client.submit(nothing, n, pure=False) for n in range(TASKS)]) == list(range(TASKS))

    def one_by_one() -> None:
        for n in range(TASKS // 10):
            assert client.submit(nothing, n, pure=False).result() == n

    def ours_one_by_one() -> None:
        for n in range(TASKS // 10):
            assert executor.submit(nothing, n).result() == n

    def end() -> None:
        executor.shutdown()
        client.close()
        cluster.close()

    return {
        "Dask, a storm": bare,
        "safemp on Dask, a storm": lambda: with_safemp(executor),
        "Dask, one by one": one_by_one,
        "safemp on Dask, one by one": ours_one_by_one,
    }, end


def ray_ways() -> tuple[dict[str, Callable[[], Any]], Callable[[], Any]]:
    import ray
    from ray.util.multiprocessing import Pool

    from safemp.engines.ray import RayEngine

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    pool = Pool(2, ray_remote_args={"num_cpus": 0})  # or its actors would leave no processor for tasks
    pool.apply(nothing, (0,))
    remote = ray.remote(max_retries=0)(nothing)
    executor = safemp.SafeExecutor(engine=RayEngine())

    def bare() -> None:
        assert ray.get([remote.remote(n) for n in range(TASKS)]) == list(range(TASKS))

    def rays_pool() -> None:
        assert [one.get() for one in [pool.apply_async(nothing, (n,)) for n in range(TASKS)]] == list(range(TASKS))

    def rays_futures() -> None:
        assert [one.result() for one in [remote.remote(n).future() for n in range(TASKS)]] == list(range(TASKS))

    def rays_futures_one_by_one() -> None:
        for n in range(TASKS // 10):
            assert remote.remote(n).future().result() == n

    def one_by_one() -> None:
        for n in range(TASKS // 10):
            assert ray.get(remote.remote(n)) == n

    def ours_one_by_one() -> None:
        for n in range(TASKS // 10):
            assert executor.submit(nothing, n).result() == n

    def end() -> None:
        executor.shutdown()
        pool.terminate()
        ray.shutdown()

    return {
        "Ray, a storm": bare,
        "safemp on Ray, a storm": lambda: with_safemp(executor),
        "Ray, one by one": one_by_one,
        "safemp on Ray, one by one": ours_one_by_one,
        "futures of Ray, a storm": rays_futures,
        "futures of Ray, one by one": rays_futures_one_by_one,
        "Pool of Ray, a storm": rays_pool,
    }, end


def main() -> None:
    for package, make in {"distributed": dask_ways, "ray": ray_ways}.items():
        if find_spec(package) is None:
            print(f"left out: {package} is not installed", file=sys.stderr)
            continue
        ways, end = make()
        took: dict[str, list[float]] = {name: [] for name in ways}
        try:
            for _ in range(ROUNDS):
                for name, way in ways.items():
                    begun = time.perf_counter()
                    way()
                    took[name].append((time.perf_counter() - begun) / (TASKS if "storm" in name else TASKS // 10))
        finally:
            end()
        for name, times in took.items():
            bare = took[name.removeprefix("safemp on ").removeprefix("futures of ").removeprefix("Pool of ")]
            ratio = statistics.median(each / other for each, other in zip(times, bare, strict=True))
            print(f"{name:40} {min(times) * 1e6:8.0f} µs a task, {ratio:5.2f} of bare")


if __name__ == "__main__":
    main()
