"""The contract of engines over mpi4py's executor: ``mpiexec -n 3 python -m mpi4py.futures -m pytest`` runs it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager

from mpi4py import MPI
from mpi4py.futures import MPIPoolExecutor

import safemp
from safemp.testing import EngineContract


class TestContract(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Executor]:
        with MPIPoolExecutor(max_workers) as executor:
            yield executor


def rank() -> int:
    """Say which process of the job this is."""
    number: int = MPI.COMM_WORLD.Get_rank()
    return number


def test_calls_run_in_the_other_ranks_of_the_job() -> None:
    """Of three, in two; as many calls run at a time, since the executor says so."""
    with MPIPoolExecutor() as mine, safemp.SafeExecutor(engine=mine) as executor:
        assert executor._max_workers == 2
        assert {executor.submit(rank).result(60) for _ in range(20)} == {1, 2}
        assert not executor._engine.capabilities.processes
    assert rank() == 0


def crash_at_home() -> str:
    """Have a call crash in a process of this rank's own."""
    with safemp.SafeExecutor(1) as executor:
        return type(executor.submit(os._exit, 3).exception(60)).__name__


def test_a_crash_in_a_ranks_own_process_stays_there() -> None:
    """The job goes on."""
    with MPIPoolExecutor() as mine, safemp.SafeExecutor(engine=mine) as executor:
        assert executor.submit(crash_at_home).result(60) == "WorkerCrashed"
        assert executor.submit(rank).result(60) in (1, 2)
