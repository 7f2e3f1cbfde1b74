"""The simulation of a caller and its workers: what must hold of it whatever the numbers are."""

from __future__ import annotations

import pytest

from benchmarks.simulate import Costs, simulate

COSTS = Costs(submit=15e-6, task=10e-6, turn=20e-6, item=1e-6, overhead=10e-6, way=100e-6)


@pytest.mark.parametrize("workers", [1, 7, 100])
def test_what_costs_nothing_takes_as_long_as_its_tasks(workers: int) -> None:
    """As many rounds as workers need for them."""
    assert simulate(Costs(), workers=workers, tasks=10 * workers, seconds=0.5).seconds == pytest.approx(5.0)
    assert simulate(Costs(), workers=workers, tasks=10 * workers, seconds=0.5, chunk=5).seconds == pytest.approx(5.0)


def test_a_lone_call_pays_for_everything_once() -> None:
    """Two turns, two ways."""
    took = simulate(COSTS, workers=3, tasks=1, seconds=0.01).seconds
    assert took == pytest.approx(15e-6 + 1e-6 + 10e-6 + 2 * 20e-6 + 2 * 100e-6 + 10e-6 + 0.01)


def test_with_enough_workers_the_caller_is_what_is_waited_for() -> None:
    """More of them change nothing; chunks do."""
    a, b = (simulate(COSTS, workers=n, tasks=20_000, seconds=0.01).seconds for n in (2_000, 4_000))
    assert a == pytest.approx(b, rel=0.1)
    assert COSTS.busy < a / 20_000 < COSTS.busy + 2 * COSTS.turn + 1e-6
    assert simulate(COSTS, workers=2_000, tasks=20_000, seconds=0.01, chunk=10).seconds < a / 3


def test_callers_of_a_tree_work_side_by_side() -> None:
    """Twenty of them give more than one does."""
    alone = simulate(COSTS, workers=1_000, tasks=20_000, seconds=0.005).seconds
    tree = simulate(COSTS, workers=1_000, tasks=20_000, seconds=0.005, chunk=100, below=COSTS).seconds
    assert tree < alone / 4


def test_workers_share_the_cores_that_there_are() -> None:
    """Their overhead is computed, the sleep is not; a second message at the worker hides the way."""
    costs = Costs(overhead=1e-3)
    assert simulate(costs, workers=10, tasks=100, seconds=0, cores=2).seconds == pytest.approx(100 * 1e-3 / 2)
    assert simulate(costs, workers=10, tasks=100, seconds=0).seconds == pytest.approx(100 * 1e-3 / 10)
    far = Costs(way=0.1)
    assert simulate(far, workers=1, tasks=10, seconds=0.2).seconds == pytest.approx(10 * 0.4)
    assert simulate(far, workers=1, tasks=10, seconds=0.2, depth=2).seconds == pytest.approx(10 * 0.2 + 0.2)
