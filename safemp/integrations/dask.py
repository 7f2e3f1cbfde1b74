"""Dask on safemp's workers: ``dask.compute(..., scheduler=safemp.integrations.dask.get)``.

Dask's own schedulers take an executor as ``pool=``, too. With ``"processes"`` they pickle
themselves, by cloudpickle, and hand bytes to the pool: what is then refused is refused by
Dask. This one hands over the tasks as they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from dask import config
from dask.local import MultiprocessingPoolExecutor, get_async
from dask.optimization import cull, fuse
from dask.utils import ensure_dict

from safemp.errors import PreflightError
from safemp.executor import SafeExecutor
from safemp.future import SafeFuture
from safemp.maps import shared

__all__ = ["get"]


def get(
    dsk: Any,
    keys: Any,
    *,
    pool: Any = None,
    num_workers: int | None = None,
    chunksize: int | None = None,
    optimize_graph: bool = True,
    **options: Any,
) -> Any:
    """Compute *keys* of a graph: a scheduler for Dask.

    Args:
        dsk: The graph.
        keys: What is wanted of it.
        pool: A ``SafeExecutor`` or ``Pool``; default: Dask's setting of that name, else the
            executor of ``safemp.map``.
        num_workers: Make that many workers for this; default: Dask's setting. Not with a
            *pool*.
        chunksize: Tasks that go to a worker together, and have their limits together;
            default: Dask's setting, else 1.
        optimize_graph: Leave out what is not needed, and make one task of a chain of tasks.
        options: Others of ``dask.local.get_async``.

    Returns:
        The results.

    Raises:
        PreflightError: A task cannot be pickled; ``dsk['key'].args[0]`` says which, and where.
        BaseException: What a task raised. What still runs is ended then.
    """
    dsk = ensure_dict(dsk.__dask_graph__() if hasattr(dsk, "__dask_graph__") else dsk)
    dsk, dependencies = cull(dsk, keys)
    if optimize_graph:
        dsk, _ = fuse(dsk, keys, dependencies)
    with ExitStack() as stack:
        if pool is None:
            pool = config.get("pool", None)
        if pool is None:
            num_workers = num_workers or config.get("num_workers", None)
            pool = shared() if num_workers is None else stack.enter_context(SafeExecutor(num_workers))
        elif not hasattr(pool, "submit"):
            pool = MultiprocessingPoolExecutor(pool)
        tasks = _Tasks(pool)
        stack.callback(tasks.end)
        return get_async(
            tasks.submit,
            pool._max_workers,
            dsk,
            keys,
            get_id=os.getpid,
            chunksize=chunksize or config.get("chunksize", 1),
            **options,
        )


class _Tasks:
    """What was submitted for one graph."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._futures: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], tasks: Sequence[Any]) -> Future[Any]:
        """Submit some tasks together; each begins with its key."""
        try:
            future: Future[Any] = self._pool.submit(fn, tasks)
        except PreflightError as error:
            keys = [task[0] for task in tasks]
            culprits = tuple(replace(each, path=_in_graph(each.path, keys)) for each in error.culprits)
            raise PreflightError.of(culprits) from error.__cause__
        self._futures.add(future)
        future.add_done_callback(self._futures.discard)
        return future

    def end(self) -> None:
        """End what has not finished, since something else has failed."""
        for future in list(self._futures):
            if isinstance(future, SafeFuture):
                future.kill()


def _in_graph(path: str, keys: list[Any]) -> str:
    """Spell the path of a culprit by the key of its task."""
    return re.sub(r"\bargs\[0\]\[(\d+)\]\[1\]\[0\]", lambda found: f"dsk[{keys[int(found[1])]!r}]", path, count=1)
