"""Dask: our scheduler, and its own with our pools."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support.child import alive, lines, until
from tests.support.errors import KeywordOnly

try:
    import dask
    import dask.bag
except ImportError:
    dask = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(dask is None, reason="wants the dask package"),
    pytest.mark.timeout(120),  # workers import it first
]


@pytest.fixture(scope="module")
def executor() -> Iterator[safemp.SafeExecutor]:
    """Two workers for the module."""
    with safemp.SafeExecutor(2) as executor:
        yield executor


@pytest.fixture
def get() -> Any:
    """Our scheduler."""
    from safemp.integrations.dask import get

    return get


class Scale:
    """Has a lock, and may have what cannot be sent."""

    def __init__(self, by: int, rows: Any = None) -> None:
        self.by = by
        self.lock = threading.Lock()
        self.rows = rows

    def __call__(self, n: int) -> int:
        with self.lock:
            if n == 13:
                raise KeywordOnly(status=429, text="refused")
            return self.by * n


def stay_or_refuse(n: int, folder: str) -> None:
    """The first writes its pid down and stays; the second refuses when it has."""
    if n == 0:
        Path(folder, "pid").write_text(f"{os.getpid()}\n")
        time.sleep(3600)
    assert until(lambda: Path(folder, "pid").exists() and lines(Path(folder, "pid")))
    raise KeywordOnly(status=1, text="refused")


def total(tasks: int, by: Any = None) -> Any:
    """Return a graph: many tasks, and one that adds them up."""
    scale = dask.delayed(by or Scale(3))
    return dask.delayed(sum)([scale(n) for n in range(tasks)])


def test_answers_are_those_of_a_serial_run(executor: safemp.SafeExecutor, get: Any) -> None:
    """With a lock in a task, which Dask's own scheduler refuses."""
    with pytest.raises(TypeError, match=r"cannot pickle '_thread\.lock' object"):
        total(5).compute(scheduler="processes", pool=executor)

    assert total(12).compute(scheduler=get, pool=executor) == total(12).compute(scheduler="sync")


@pytest.mark.parametrize("pool", ["executor", "pool", "shared", "own", "configured"])
def test_every_way_to_say_which_workers(executor: safemp.SafeExecutor, get: Any, pool: str) -> None:
    """``pool=``, ``num_workers=``, Dask's settings, or nothing."""
    if pool == "executor":
        assert total(5).compute(scheduler=get, pool=executor) == 30
    elif pool == "pool":
        with safemp.Pool(2) as ours:
            assert total(5).compute(scheduler=get, pool=ours) == 30
    elif pool == "shared":
        assert total(5).compute(scheduler=get) == 30
    elif pool == "own":
        assert total(5).compute(scheduler=get, num_workers=1) == 30
    else:
        with dask.config.set(scheduler=get, pool=executor):
            assert total(5).compute() == 30


@pytest.mark.parametrize("scheduler", ["processes", "threads"])
@pytest.mark.parametrize("configured", [False, True], ids=["given", "configured"])
def test_its_own_schedulers_take_a_pool_of_a_patched_program(scheduler: str, configured: bool) -> None:
    """They look whether it is the standard library's, by the class that they imported before."""
    tasks = [dask.delayed(abs)(-i) for i in range(4)]  # with "processes" Dask pickles them itself
    with safemp.patched(), multiprocessing.Pool(2) as pool:
        assert isinstance(pool, safemp.Pool)
        given = {} if configured else {"pool": pool}
        with dask.config.set(pool=pool if configured else None):
            assert dask.compute(tasks, scheduler=scheduler, **given) == ([0, 1, 2, 3],)


def test_collections(executor: safemp.SafeExecutor, get: Any) -> None:
    """A bag that is shuffled by text: workers agree on what goes where, whatever their hash seeds."""
    words = [letter + str(n) for n in range(40) for letter in "abcde"]
    groups = dask.bag.from_sequence(words, npartitions=5).groupby(lambda word: word[0], shuffle="tasks")
    counts = groups.map(lambda group: (group[0], len(group[1])))

    assert sorted(counts.compute(scheduler=get, pool=executor)) == [(letter, 40) for letter in "abcde"]


def test_an_error_is_itself(executor: safemp.SafeExecutor, get: Any) -> None:
    """Its class, its attributes, the worker's frames; Dask's own pickles it and cannot load it."""

    def refuse(n: int) -> int:
        raise KeywordOnly(status=429, text="refused")

    with pytest.raises(TypeError, match="takes 1 positional argument but 2 were given"):
        dask.compute(dask.delayed(refuse)(1), scheduler="processes", pool=executor)

    with pytest.raises(KeywordOnly) as caught:
        total(20).compute(scheduler=get, pool=executor)
    assert caught.value.status == 429
    assert caught.traceback[-1].name == "__call__"
    assert caught.traceback[-1].path == Path(__file__)


def test_what_cannot_be_sent_is_named_by_its_key(executor: safemp.SafeExecutor, get: Any) -> None:
    """In the graph, and in a chain of tasks that was made one."""
    bad = dask.delayed(Scale(3, rows=(n for n in range(3))), name="scale")
    with pytest.raises(safemp.PreflightError) as caught:
        dask.compute(dask.delayed(abs)(-1), bad(2, dask_key_name="times"), scheduler=get, pool=executor)
    (culprit,) = caught.value.culprits
    assert culprit.path.startswith(("dsk['times']", "list(dsk['times']"))
    assert culprit.path.endswith(".rows")

    with pytest.raises(safemp.PreflightError, match=r"cannot send dsk\['abs'\]\.args\[0\]"):
        dask.compute(dask.delayed(abs)((n for n in range(3)), dask_key_name="abs"), scheduler=get, pool=executor)


def test_the_others_are_ended(executor: safemp.SafeExecutor, get: Any, tmp_path: Path) -> None:
    """When one task fails, no call goes on for an answer that nobody wants."""
    tasks = [dask.delayed(stay_or_refuse)(n, str(tmp_path)) for n in range(2)]
    with pytest.raises(KeywordOnly):
        dask.compute(*tasks, scheduler=get, pool=executor)

    pid = int(lines(tmp_path / "pid")[0])
    assert until(lambda: not alive(pid))


def test_limits_are_each_tasks(executor: safemp.SafeExecutor, get: Any) -> None:
    """A task goes by itself, unless ``chunksize`` says otherwise."""
    assert total(5).compute(scheduler=get, pool=executor) == 30, "the workers have imported it"
    limited = executor.options(task_timeout=5)
    naps = [dask.delayed(time.sleep)(0.8) for _ in range(8)]
    assert dask.compute(*naps, scheduler=get, pool=limited) == (None,) * 8

    with pytest.raises(safemp.TaskTimeout):
        dask.compute(*naps, scheduler=get, pool=limited, chunksize=8)


def test_dasks_own_schedulers_take_our_executor(executor: safemp.SafeExecutor) -> None:
    """By threads it hands tasks over as they are; by processes it pickles, with ours if it is told to."""
    assert total(5).compute(scheduler="threads", pool=executor) == 30
    ours = {"func_dumps": safemp.dumps, "func_loads": safemp.loads}
    assert total(5).compute(scheduler="processes", pool=executor, **ours) == 30
    with pytest.raises(KeywordOnly):
        total(20).compute(scheduler="processes", pool=executor, **ours)
