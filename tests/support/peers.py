"""What today's pools do with the same jobs: ``python -m tests.support.peers POOL JOB``.

It runs in a child with a deadline, since some of them never answer, and prints one
line of JSON: ``first`` is what came back (the error's class, its text, its class's
bases), ``after`` whether the pool still squares 3.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor
from typing import Any

from tests.support import jobs
from tests.support.child import until

NO_ANSWER = {"answer": "never"}

JOBS: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]] = {
    "two-arguments": (jobs.raise_two_arguments, tuple),
    "locked": (jobs.raise_locked, tuple),
    "return-service": (jobs.return_service, tuple),
    "take-service": (jobs.take, lambda: (jobs.open_service(),)),
    "sigkill": (jobs.die_by_sigkill, tuple),
    "segfault": (jobs.die_by_segfault, tuple),
}


def _told(error: BaseException) -> dict[str, Any]:
    bases = [f"{c.__module__}.{c.__qualname__}" for c in type(error).__mro__]
    return {"answer": "error", "type": type(error).__name__, "text": str(error), "bases": bases}


def _ask(result: Callable[[], Any]) -> dict[str, Any]:
    try:
        return {"answer": "value", "value": repr(result())}
    except BaseException as error:
        return _told(error)


def _with_executor(pool: Executor, job: str) -> dict[str, Any]:
    function, arguments = JOBS[job]
    first = _ask(lambda: pool.submit(function, *arguments()).result())
    return {"first": first, "after": _ask(lambda: pool.submit(jobs.square, 3).result())}


def _with_pool(job: str) -> dict[str, Any]:
    function, arguments = JOBS[job]
    pool: Any = multiprocessing.get_context("spawn").Pool(1)

    def ask(function: Callable[..., Any], arguments: tuple[Any, ...]) -> dict[str, Any]:
        before = [worker.pid for worker in pool._pool]
        answer = pool.apply_async(function, arguments)
        # Two ways of never answering: the thread that reads results has died, or the
        # worker has, and another one has taken its place without its task.
        until(lambda: answer.ready() or not pool._result_handler.is_alive() or [w.pid for w in pool._pool] != before)
        return _ask(lambda: answer.get(0)) if answer.ready() else NO_ANSWER

    return {"first": ask(function, arguments()), "after": ask(jobs.square, (3,))}


def _storm(pool: Executor) -> dict[str, Any]:
    """Run eight good jobs with the four bad ones among them; count the answers."""
    futures = []
    errors = 0
    bad = {2: "two-arguments", 4: "locked", 5: "return-service", 7: "take-service"}
    good: list[Any] = []
    for i in range(12):
        function, arguments = JOBS[bad[i]] if i in bad else (jobs.work, lambda i=i: (i,))
        try:
            future = pool.submit(function, *arguments())
        except BaseException:
            errors += 1
        else:
            (futures if i in bad else good).append(future)
    answered = sum(_ask(future.result)["answer"] == "value" for future in good)
    return {"good": answered, "after": _ask(lambda: pool.submit(jobs.square, 3).result())}


def main(kind: str, job: str) -> None:
    """Print what pool *kind* does with *job*, and end without waiting for anybody."""
    if kind == "pool":
        told = _with_pool(job)
    else:
        if kind == "loky":
            from loky import ProcessPoolExecutor as Loky

            pool: Executor = Loky(2)
        else:
            pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"))
        told = _storm(pool) if job == "storm" else _with_executor(pool, job)
    print(json.dumps(told), flush=True)
    os._exit(0)  # a pool that never answers never ends, either


if __name__ == "__main__":
    main(*sys.argv[1:])
