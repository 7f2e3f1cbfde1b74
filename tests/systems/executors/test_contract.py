"""executorlib's and Parsl's executors as engines: the contract over each, on this machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.testing import EngineContract
from tests.support.errors import KeywordOnly, raise_by_name
from tests.support.jobs import square

try:
    import executorlib
    import parsl
    from parsl.concurrent import ParslPoolExecutor
    from parsl.executors import HighThroughputExecutor
    from parsl.providers import LocalProvider
except ImportError:
    executorlib = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(executorlib is None, reason="wants the executorlib and parsl packages"),
    pytest.mark.timeout(300),
]


@contextmanager
def one_process_a_call(max_workers: int = 2) -> Iterator[Executor]:
    """Make an executor of executorlib, which starts a process for each call."""
    with executorlib.SingleNodeExecutor(max_workers=max_workers, hostname_localhost=True) as executor:
        yield executor


class TestExecutorlib(EngineContract):
    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Executor]:
        with one_process_a_call(max_workers) as executor:
            yield executor

    def test_the_function_of_a_map_is_loaded_once_in_each_worker(self, tmp_path: Path) -> None:
        """There is nothing to be saved: a worker lives for one chunk."""


def test_executorlib_goes_on_after_a_death() -> None:
    """Each call has a process of its own, so what is under way is undisturbed."""
    with one_process_a_call() as mine, safemp.SafeExecutor(engine=mine) as executor:
        calls = [executor.submit(square, 1), executor.submit(os._exit, 3), executor.submit(square, 2)]
        errors = [call.exception(60) for call in calls]

    assert [type(error) for error in errors] == [type(None), safemp.WorkerCrashed, type(None)]


def kernel(workers: int, folder: Path) -> Any:
    """Start Parsl with so many workers on this machine."""
    pool = HighThroughputExecutor(
        label="here",
        address="127.0.0.1",
        max_workers_per_node=workers,
        cores_per_worker=0.1,
        encrypted=False,
        heartbeat_period=1,  # as often it looks whether a worker has died
        provider=LocalProvider(init_blocks=1, min_blocks=1, max_blocks=1),
    )
    config = parsl.Config(executors=[pool], run_dir=str(folder), initialize_logging=False, strategy="none")
    return parsl.DataFlowKernel(config)


@pytest.fixture(scope="module")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[int, Any]]:
    """Parsl with one worker, and with two: they are started once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)  # it looks for its programs
        made = {workers: kernel(workers, tmp_path_factory.mktemp("parsl")) for workers in (1, 2)}
        for each in made.values():  # it has all its threads then
            assert ParslPoolExecutor(dfk=each).submit(square, 2).result(60) == 4
        yield made
        for each in made.values():
            each.cleanup()


class TestParsl(EngineContract):
    @pytest.fixture(autouse=True)
    def _kernels(self, kernels: dict[int, Any]) -> None:
        self.kernels = kernels

    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Executor]:
        with ParslPoolExecutor(dfk=self.kernels[max_workers]) as executor:
            yield executor


def test_parsl_gives_what_a_call_raises_and_goes_on_after_a_death(kernels: dict[int, Any]) -> None:
    """Its workers are replaced; an exception that wants keywords is itself."""
    with ParslPoolExecutor(dfk=kernels[2]) as mine, safemp.SafeExecutor(engine=mine) as executor:
        with pytest.raises(KeywordOnly):
            executor.submit(raise_by_name, "KeywordOnly").result(60)
        assert isinstance(executor.submit(os._exit, 3).exception(60), safemp.WorkerCrashed)
        assert list(executor.map(square, range(4))) == [0, 1, 4, 9]
