"""Ray as an engine: the contract of engines, and workers that die in mid-run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.testing import EngineContract
from tests.support import jobs
from tests.support.child import lines

try:
    import ray

    from safemp.engines.ray import RayEngine
except ImportError:
    ray = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(ray is None, reason="wants the ray package"),
    pytest.mark.timeout(180),
]


class TestContract(EngineContract):
    @pytest.fixture(autouse=True)
    def _start(self, cluster: Any) -> None:
        """Ray is there."""

    @contextmanager
    def engine(self, max_workers: int) -> Iterator[Any]:
        yield RayEngine(max_workers=max_workers)


class KeywordOnly(Exception):
    """Pickles, and does not load."""

    def __init__(self, *, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


def refuse() -> None:
    """Raise what Ray cannot bring back."""
    raise KeywordOnly(status=429)


def test_bare_ray_loses_what_a_call_raised(cluster: Any) -> None:
    """Its class is gone; over safemp it is there, with its attributes."""
    with pytest.raises(Exception) as caught:
        ray.get(ray.remote(refuse).remote())
    assert not isinstance(caught.value, KeywordOnly)

    with safemp.SafeExecutor(engine=RayEngine()) as executor:
        error = executor.submit(refuse).exception(60)
    assert isinstance(error, KeywordOnly)
    assert error.status == 429


def test_by_its_name_it_takes_the_ray_that_is_there(cluster: Any) -> None:
    """With as many tasks at a time as have room; and leaves it running."""
    with safemp.SafeExecutor(engine="ray") as executor:
        assert executor._max_workers == 2
        assert executor.submit(jobs.square, 3).result(60) == 9
    with safemp.Pool(engine="ray") as pool:
        assert pool.map(jobs.square, range(10)) == [n * n for n in range(10)]
    assert ray.is_initialized()


def test_workers_that_are_killed_cost_what_they_were_at(cluster: Any, tmp_path: Path) -> None:
    """Three times in the middle of 300 calls: all others have their own answer, and each has run once."""
    effects = tmp_path / "effects"
    fatal = {70, 150, 230}
    with safemp.SafeExecutor(engine=RayEngine()) as executor:
        futures = [executor.submit(note_or_be_killed, str(effects), n, n in fatal) for n in range(300)]
        errors = {n: future.exception(120) for n, future in enumerate(futures)}
        answers = {n: future.result() for n, future in enumerate(futures) if errors[n] is None}

    died = {n: error for n, error in errors.items() if error is not None}
    assert set(died) == fatal
    assert all(isinstance(error, safemp.WorkerCrashed) for error in died.values())
    assert answers == {n: n * n for n in range(300) if n not in fatal}
    assert Counter(lines(effects)) == Counter(map(str, range(300)))


def note_or_be_killed(path: str, n: int, fatal: bool) -> int:
    """Leave a line with the number; then take a moment, or be killed."""
    jobs.note(path, n)
    if fatal:
        jobs.die_by_sigkill()
    jobs.work(n, 0.005)
    return n * n
