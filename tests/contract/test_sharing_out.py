"""Maps whose items take unequal time: who has nothing to do takes over from who has much. Only the clock can tell."""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp import Pool


def slow_at_first(folder: Path, slow: int, i: int) -> tuple[int, int]:
    """Take a while, for the first *slow* items, until two workers have been at them; note each that begins."""
    with open(folder / "begun", "a", encoding="ascii") as file:
        file.write(f"{i}\n")
    if i < slow:
        (folder / f"worker-{os.getpid()}").touch()
        if len(list(folder.glob("worker-*"))) < 2:
            time.sleep(0.02)
    return i, os.getpid()


def begun(folder: Path) -> list[int]:
    return sorted(map(int, (folder / "begun").read_text().split()))


@pytest.mark.parametrize("way", ["Pool.map", "Pool.starmap", "safemp.map"])
def test_a_chunk_of_slow_items_is_shared_out(tmp_path: Path, way: str) -> None:
    """Both workers have been at the first chunk; each item has run once, and its result is in its place."""
    fn = partial(slow_at_first, tmp_path, 100)
    if way == "safemp.map":
        found = safemp.map(fn, range(800))
        workers = safemp.maps.shared()._max_workers
        safemp.maps.close_shared()
    else:
        workers = 2
        with Pool(2) as pool:
            found = pool.map(fn, range(800)) if way == "Pool.map" else pool.starmap(fn, [(i,) for i in range(800)])

    assert [i for i, _ in found] == list(range(800))
    assert begun(tmp_path) == list(range(800))
    if workers > 1:
        assert len({pid for i, pid in found if i < 100}) > 1


def test_chunks_of_a_size_that_was_asked_for_stay_whole(tmp_path: Path) -> None:
    """Who says how many go together means it."""
    with Pool(2) as pool:
        found = pool.map(partial(slow_at_first, tmp_path, 20), range(40), chunksize=20)

    assert len({pid for i, pid in found if i < 20}) == 1


def test_what_a_replaced_worker_counts_stays_what_it_was(tmp_path: Path) -> None:
    """A worker that ends after so many chunks has as many as without."""
    with Pool(2, maxtasksperchild=1) as pool:
        found = pool.map(partial(slow_at_first, tmp_path, 20), range(160))

    assert len({pid for _, pid in found}) == 8


def fails_at(folder: Path, bad: dict[int, str], i: int) -> int:
    time.sleep(0.002)
    with open(folder / "begun", "a", encoding="ascii") as file:
        file.write(f"{i}\n")
    if bad.get(i) == "raise":
        raise ValueError(i)
    if bad.get(i) == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return i


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [({30: "raise", 90: "raise"}, ValueError, "30"), ({25: "die"}, safemp.WorkerCrashed, r"items\[25\]")],
)
def test_a_failure_is_of_its_item(tmp_path: Path, bad: Any, error: Any, text: str) -> None:
    """The first by its place is raised; all others have run, each once."""
    with Pool(2) as pool:
        with pytest.raises(error, match=text):
            pool.map(partial(fails_at, tmp_path, bad), range(160))
        assert pool.map(abs, range(10)) == list(range(10))

    assert begun(tmp_path) == list(range(160))


def test_a_worker_may_die_at_any_item_that_it_has_taken_over(tmp_path: Path) -> None:
    """With retries every item is answered."""
    with Pool(3, retries=5) as pool:
        found = pool.map(partial(dies_once, tmp_path), range(120))

    assert found == list(range(120))


def dies_once(folder: Path, i: int) -> int:
    time.sleep(0.02 if i < 30 else 0.0)
    mark = folder / str(i)
    if i % 7 == 0 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return i
