"""Dask as an engine: the contract of engines, and workers that die in mid-run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from safemp.testing import EngineContract

try:
    import distributed
    from distributed.utils import _offload_executor

    _offload_executor.submit(int).result()  # has a thread to the end of the process
except ImportError:
    distributed = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(distributed is None, reason="wants the distributed package"),
    pytest.mark.timeout(180),  # workers import it first
]


@contextmanager
def cluster(workers: int = 2, threads: int = 1) -> Iterator[Any]:
    """Start a cluster of processes on this machine; give a client."""
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=threads, dashboard_address=None, protocol="tcp"
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    """Two workers for the module."""
    with cluster() as client:
        yield client


class TestContract(EngineContract):
    @pytest.fixture(autouse=True)
    def _take(self, client: Any) -> None:
        self.client = client

    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Any]:
        from safemp.engines.dask import DaskEngine

        yield DaskEngine(self.client, max_workers=max_workers)
