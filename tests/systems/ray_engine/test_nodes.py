"""A Ray cluster of several nodes on one machine, of which one is removed in mid-run."""

from __future__ import annotations

import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import cluster_storm, jobs
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

CALLS = 200

KILLS = 3

MEMORY = 80_000_000
"""Bytes of each node's object store: little."""


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


def test_nodes_that_are_killed_at_random_cost_one_call_each(nodes: Any, tmp_path: Path, capsys: Any) -> None:
    """Others take their places: every future ends, what lived has its own answer, and nothing has run twice."""
    chance = random.Random(1)
    effects = tmp_path / "effects"
    while len(nodes.worker_nodes) < 2:
        nodes.add_node(num_cpus=1, object_store_memory=MEMORY)

    def at_work() -> list[Any]:
        recent = {line.partition(" ")[0] for line in lines(effects)[-6:]}
        return [each for each in nodes.worker_nodes if each.node_id in recent]

    with safemp.SafeExecutor(engine=RayEngine()) as executor:
        futures = [executor.submit(note_node, str(effects), n) for n in range(CALLS)]
        for _ in range(KILLS):
            assert until(at_work, timeout=100)
            time.sleep(chance.random() / 2)
            nodes.remove_node(chance.choice(at_work()), allow_graceful=False)
            nodes.add_node(num_cpus=1, object_store_memory=MEMORY)
        for future in futures:
            future.exception(200)
        assert executor.submit(jobs.square, 3).result(100) == 9

    crashed = cluster_storm.crashes(futures, Counter(int(line.partition(" ")[2]) for line in lines(effects)))
    with capsys.disabled():
        print(f"\nRay: {CALLS - len(crashed)} answered, {len(crashed)} crashed, {KILLS} nodes killed")
    assert len(crashed) <= KILLS  # what has finished before its worker noticed is answered


def node(_: int) -> str:
    """Return the node that this runs on; take a moment."""
    jobs.work(0, 0.1)
    return str(ray.get_runtime_context().get_node_id())


def note_node(path: str, n: int) -> int:
    """Leave a line with the node and the number, and take a moment."""
    jobs.note(path, f"{ray.get_runtime_context().get_node_id()} {n}")
    jobs.work(n, 0.1)
    return n * n
