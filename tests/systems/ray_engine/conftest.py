"""A Ray of this machine for the tests of a module, in a folder that is gone afterwards."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import _alive, _leaks
from tests.support.child import ROOT

os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}  # read when ray is imported


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two processors, and little memory."""
    import ray

    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: there are sockets in it
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=100_000_000,
            _temp_dir=folder,
            configure_logging=False,
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
        )
        try:
            yield ray
        finally:
            ray.shutdown()


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_by_module() -> Iterator[None]:
    """As of all tests, but for files: Ray keeps its logs and connections open as long as its caller lives."""
    before = _alive()
    yield
    left = [one for one in _leaks(before) if not one.startswith("files: ")]
    assert not left, f"this module has left behind: {left}"


@pytest.fixture(scope="module")
def nodes() -> Iterator[Any]:
    """A cluster of two nodes with a processor each."""
    import ray
    from ray.cluster_utils import Cluster

    memory = 80_000_000
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        head = {"num_cpus": 1, "object_store_memory": memory, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            cluster.add_node(num_cpus=1, object_store_memory=memory)
            ray.init(
                cluster.address,
                configure_logging=False,
                log_to_driver=False,
                runtime_env={"env_vars": {"PYTHONPATH": str(ROOT)}},
            )
            yield cluster
        finally:
            ray.shutdown()
            cluster.shutdown()
