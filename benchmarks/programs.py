"""Whole programs whose start is measured: what a user would type for each peer."""

from __future__ import annotations

from benchmarks.peers import EXECUTOR, LIMIT, POOL

__all__ = ["program"]

_EXECUTOR = "from concurrent.futures import ProcessPoolExecutor\nimport multiprocessing"

_LINES: dict[str, tuple[str, str, str]] = {
    EXECUTOR: ("import safemp", "safemp.SafeExecutor(2)", "pool.submit(work, 1).result()"),
    POOL: ("import safemp", "safemp.Pool(2)", "pool.apply(work, (1,))"),
    **{
        f"multiprocessing.Pool ({method})": (
            "import multiprocessing",
            f"multiprocessing.get_context({method!r}).Pool(2)",
            "pool.apply(work, (1,))",
        )
        for method in ("fork", "forkserver", "spawn")
    },
    **{
        f"ProcessPoolExecutor ({method})": (
            _EXECUTOR,
            f"ProcessPoolExecutor(2, multiprocessing.get_context({method!r}))",
            "pool.submit(work, 1).result()",
        )
        for method in ("fork", "forkserver", "spawn")
    },
    "loky": ("import loky", "loky.ProcessPoolExecutor(2)", "pool.submit(work, 1).result()"),
    "joblib": ("import joblib", "joblib.Parallel(n_jobs=2)", "pool([joblib.delayed(work)(1)])"),
    "mpire": ("import mpire", "mpire.WorkerPool(2)", "pool.apply(work, (1,))"),
    "pebble": ("import pebble", "pebble.ProcessPool(2)", "pool.schedule(work, args=(1,)).result()"),
    "ray": (
        "import os, ray",
        "ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False,"
        " logging_level='ERROR', _temp_dir=os.environ['TMPDIR'])",
        "ray.get(ray.remote(work).remote(1))",
    ),
    "dask": (
        "import distributed",
        "distributed.Client(n_workers=2, threads_per_worker=1, dashboard_address=None)",
        "pool.submit(work, 1).result()",
    ),
    LIMIT: ("", "None", "None"),
}


def program(peer: str, *, heavy: bool) -> str:
    """Return a script which makes one call of a function of its own, and prints when it had the result.

    Args:
        peer: One of ``benchmarks.peers.PACKAGES``, or ``LIMIT``: no pool at all.
        heavy: It imports numpy and pandas first.
    """
    imports, make, call = _LINES[peer]
    return f"""{"import numpy, pandas" if heavy else ""}
{imports}

def work(x):
    return x

if __name__ == "__main__":
    pool = {make}
    {call}
    import time
    print("first-result", time.monotonic(), flush=True)
    import os
    os._exit(0)
"""
