"""What there is only one of goes to the workers in ``initargs``: multiprocessing's locks, queues, values."""

from __future__ import annotations

import concurrent.futures
import gc
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

import loky.backend.context
import pytest

import safemp
from safemp import PreflightError, WorkerCrashed
from tests.support import inherited as jobs
from tests.support import jobs as plain
from tests.support.child import ROOT, quiet, run_script, until

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
    "default-fork": (None, multiprocessing.get_context("fork")),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """How workers start, and the context that makes what they are given."""
    return WAYS[request.param]


# -- that it is hostile ----------------------------------------------------------------


@pytest.mark.skipif(not FORKS, reason="nothing is made in a fork context here")
def test_todays_pools_break_on_a_lock_of_the_default_context() -> None:
    """loky cannot start a worker with a fork context's lock, and calls itself broken."""
    lock = multiprocessing.get_context("fork").Lock()
    with loky.ProcessPoolExecutor(1, initializer=jobs.keep_all, initargs=({"lock": lock},)) as executor:
        with pytest.raises(RuntimeError):
            executor.submit(jobs.try_the_lock, 0).result(30)


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
