"""BLAS and OpenMP in a worker take its part of the cores, and no more."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import safemp
from safemp.engines import nesting, threads
from safemp.engines.surroundings import Surroundings
from tests.support import inner
from tests.support.child import run_script

NAMES = list(threads._VARIABLES)
OF_CALLER = [None, "loky_init_main", "spawn", *(["fork"] if hasattr(os, "fork") else [])]
"""Contexts whose workers have the caller's environment of now; a fork server keeps that of its own start."""

CONTEXTS = [*OF_CALLER, *(["forkserver"] if hasattr(os, "fork") else [])]


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Begin as a user who has set nothing; see that the caller's environment stays as it is."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.undo()


def test_the_libraries_take_every_core_of_themselves() -> None:
    """Why this is needed: numpy's BLAS in a fresh process has a thread for each core."""
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
        found = executor.submit(inner.blas_threads).result()

    assert found == {len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()}


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("workers", [1, 2, 50])
def test_a_worker_has_its_part_of_the_cores(context: str | None, workers: int) -> None:
    """The cores divided by the workers, at least one; however the worker is started."""
    before = dict(os.environ)
    expected = max(1, nesting.cores() // workers)
    with safemp.SafeExecutor(workers, mp_context=context) as executor:
        found = executor.submit(inner.blas_threads).result()
        variables = executor.submit(inner.variables, *NAMES).result()

    assert found == {expected}
    assert variables == [str(expected)] * len(NAMES)
    assert dict(os.environ) == before


@pytest.mark.parametrize("context", CONTEXTS)
def test_a_number_is_obeyed(context: str | None) -> None:
    """``inner_max_num_threads=n`` is what the libraries are told, also above an environment variable."""
    os.environ["OMP_NUM_THREADS"] = "7"
    with safemp.SafeExecutor(2, mp_context=context, inner_max_num_threads=1) as executor:
        assert executor.submit(inner.blas_threads).result() == {1}
        assert executor.submit(inner.variables, *NAMES).result() == ["1"] * len(NAMES)
    with safemp.Pool(2, context=context, inner_max_num_threads=3) as pool:
        assert pool.apply(inner.variables, NAMES) == ["3"] * len(NAMES)


@pytest.mark.parametrize("context", OF_CALLER)
def test_zero_leaves_everything_alone(context: str | None) -> None:
    """``inner_max_num_threads=0``: a worker has what the caller has."""
    os.environ["OMP_NUM_THREADS"] = "7"
    expected = [os.environ.get(name) for name in NAMES]
    with safemp.SafeExecutor(2, mp_context=context, inner_max_num_threads=0) as executor:
        assert executor.submit(inner.variables, *NAMES).result() == expected


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set is left alone, and so are those that count only in its absence."""
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("NUMBA_NUM_THREADS", "")

    assert threads.variables(5) == {"VECLIB_MAXIMUM_THREADS": "5"}

    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("MKL_NUM_THREADS", "2")

    found = threads.variables(5)
    assert found == {name: "5" for name in NAMES if name not in ("MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    assert threads.variables(5, insist=True) == dict.fromkeys(NAMES, "5")
    assert threads.variables(0, insist=True) == {}


@pytest.mark.parametrize("context", OF_CALLER)
def test_what_the_user_has_set_reaches_the_worker(context: str | None) -> None:
    """However the worker is started."""
    os.environ["OMP_NUM_THREADS"] = "7"
    with safemp.SafeExecutor(2, mp_context=context) as executor:
        assert executor.submit(inner.variables, "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS").result() == ["7", None]


def test_what_an_outer_pool_has_set_is_not_the_users_will() -> None:
    """A pool in a worker divides the worker's part again, whatever the worker was told."""
    with safemp.SafeExecutor(1) as executor:
        outer, within = (
            executor.submit(inner.variables, "OMP_NUM_THREADS").result(),
            executor.submit(inner.variables_within, 2, "OMP_NUM_THREADS").result(),
        )

    assert outer == [str(nesting.cores())]
    assert within == [str(max(1, nesting.cores() // 2))]


def test_a_task_may_decide_otherwise() -> None:
    """An initializer's word, before the library is loaded, counts; programs that a task starts have the limit."""
    with safemp.SafeExecutor(2, initializer=inner.set_variable, initargs=("OPENBLAS_NUM_THREADS", "2")) as executor:
        assert executor.submit(inner.variables, "OPENBLAS_NUM_THREADS").result() == ["2"]
        assert executor.submit(inner.variables_of_program, "OPENBLAS_NUM_THREADS").result() == "2"
        assert executor.submit(inner.variables_of_program, "OMP_NUM_THREADS").result() == str(
            max(1, nesting.cores() // 2)
        )


SCRIPT = """
import sys
sys.modules["threadpoolctl"] = None  # as if it were not installed
import numpy
import safemp
from tests.support import inner

if __name__ == "__main__":
    with safemp.SafeExecutor(50, mp_context=sys.argv[1]) as executor:
        print(*executor.submit(inner.blas_threads).result())
"""


@pytest.mark.parametrize("context", ["loky_init_main", "spawn"])
def test_a_script_that_imports_numpy_first_is_limited_too(tmp_path: Path, context: str) -> None:
    """The variables are there before a worker imports the caller's main, so no other library is needed."""
    ended = run_script(tmp_path, SCRIPT, context)

    assert (ended.returncode, ended.out, ended.err, ended.left) == (0, "1\n", "", ()), str(ended)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_worker_does_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its libraries are loaded already: without threadpoolctl they stay as they are, and all else works."""
    here = inner.blas_threads()
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    with safemp.SafeExecutor(50, mp_context="fork") as executor:
        assert executor.submit(inner.blas_threads).result() == here


def test_a_name_carries_variables_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``spawn`` and ``forkserver`` send first loads without safemp, as the plain name."""
    import pickle
    import pickletools

    monkeypatch.setattr(os, "environ", {"A": "0"})
    name = Surroundings({"A": "1", "B": "2"}, None).name_with("n", "spawn")
    pickled = pickle.dumps(name)
    loaded = pickle.loads(pickled)

    assert name == loaded == "n"
    assert type(loaded) is str
    assert os.environ == {"A": "1", "B": "2"}
    assert not any("safemp" in str(argument) for _, argument, _ in pickletools.genops(pickled))
    assert type(Surroundings({"A": "1"}, None).name_with("n", "fork")) is str
