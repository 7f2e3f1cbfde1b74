"""A Ray cluster of several nodes on one machine, of which one is removed in mid-run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import jobs
from tests.support.child import lines, until

try:
    import ray

    from safemp.engines.ray import RayEngine
except ImportError:
    ray = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(ray is None, reason="wants the ray package"),
    pytest.mark.timeout(300),
]


def test_a_node_that_is_removed_costs_what_it_was_at(nodes: Any, tmp_path: Path) -> None:
    """Each call that ran there fails and is named; all others have their own answer, and each has run once."""
    effects = tmp_path / "effects"
    (second,) = nodes.worker_nodes
    with safemp.SafeExecutor(engine=RayEngine(max_workers=2)) as executor:
        there = second.node_id
        assert until(lambda: there in set(executor.map(node, range(4))), timeout=100)  # its workers have started
        futures = [executor.submit(note_node, str(effects), n) for n in range(60)]
        assert until(lambda: sum(there in line for line in lines(effects)) > 3, timeout=100)
        nodes.remove_node(second)
        errors = {n: future.exception(120) for n, future in enumerate(futures)}
        answers = {n: future.result() for n, future in enumerate(futures) if errors[n] is None}

    died = {n for n, error in errors.items() if error is not None}
    assert all(isinstance(errors[n], safemp.WorkerCrashed) for n in died), errors
    assert len(died) <= 2
    assert answers == {n: n * n for n in range(60) if n not in died}
    assert max(Counter(line.partition(" ")[2] for line in lines(effects)).values()) == 1


def node(_: int) -> str:
    """Return the node that this runs on; take a moment."""
    jobs.work(0, 0.1)
    return str(ray.get_runtime_context().get_node_id())


def note_node(path: str, n: int) -> int:
    """Leave a line with the node and the number, and take a moment."""
    jobs.note(path, f"{ray.get_runtime_context().get_node_id()} {n}")
    jobs.work(n, 0.1)
    return n * n
