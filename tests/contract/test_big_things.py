"""Gigabytes in one call, a million calls in the queue, endless inputs: memory stays bounded."""

from __future__ import annotations

import gc
import itertools
import os
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import jobs
from tests.support.child import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads memory as Linux shows it"),
]

GIB = 1 << 30


def resident() -> int:
    """Return the bytes of memory that this process has resident."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def available() -> int:
    """Return the bytes of memory that are free for use."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))


# -- much in one call ---------------------------------------------------------------------


def ends_of(block: bytes) -> tuple[int, bytes, bytes]:
    """Say how long *block* is, and how it begins and ends."""
    return len(block), bytes(block[:3]), bytes(block[-3:])


def block_of(size: int) -> bytes:
    """Make *size* bytes with something at both ends."""
    return b"abc" + bytes(size - 6) + b"xyz"


@pytest.mark.heavy
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["bytes", "numpy"])
def test_three_gibibytes_go_there_and_come_back(way: str) -> None:
    """An argument and a result larger than 2 and than 4 bytes can count arrive whole; small calls go on meanwhile."""
    if available() < 16 * GIB:
        pytest.skip(f"wants 16 GiB of memory, {available() / GIB:.1f} are free")
    size = 3 * GIB + 17
    with safemp.SafeExecutor(2) as executor:
        if way == "bytes":
            there = executor.submit(ends_of, block_of(size))
            assert executor.submit(jobs.square, 3).result(300) == 9
            assert there.result(300) == (size, b"abc", b"xyz")
            del there
            back = executor.submit(block_of, size)
            assert executor.submit(jobs.square, 3).result(300) == 9
            assert ends_of(back.result(300)) == (size, b"abc", b"xyz")
        else:
            numpy = pytest.importorskip("numpy")
            array = numpy.zeros(3 * GIB // 8 + 1)
            array[0], array[-1] = 1, 2
            found = executor.submit(jobs.increment, array).result(300)
            assert (len(found), found[0], found[1], found[-1]) == (len(array), 2, 0, 2)
            assert array[0] == 1


# -- many calls ---------------------------------------------------------------------------

MOST_PER_CALL = 4_096
"""Bytes that a queued call of a small argument may take. Measured: 1 600 to 2 500; the standard library: 2 050."""


def _queue(n: int, capsys: pytest.CaptureFixture[str]) -> None:
    with safemp.SafeExecutor(1) as executor:
        worker = executor.submit(jobs.pid).result(60)
        os.kill(worker, signal.SIGSTOP)
        try:
            gc.collect()
            before = resident()
            futures = [executor.submit(jobs.same, i) for i in range(n)]
            each = (resident() - before) / n
        finally:
            os.kill(worker, signal.SIGCONT)
        with capsys.disabled():
            print(f"\n{n} calls queued: {each:.0f} bytes each")
        right = all(future.result(300) == i for i, future in enumerate(futures))

    assert right
    assert each < MOST_PER_CALL


def test_a_queue_of_thousands_takes_little(capsys: pytest.CaptureFixture[str]) -> None:
    """Each call that waits costs two or three kibibytes, as in the standard library; all are answered."""
    _queue(20_000, capsys)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_a_queue_of_a_million_takes_little(capsys: pytest.CaptureFixture[str]) -> None:
    """The same of a million calls."""
    _queue(1_000_000, capsys)


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_a_map_of_a_million_takes_little(capsys: pytest.CaptureFixture[str]) -> None:
    """``Pool.map`` of a million items, in chunks, needs a few hundred bytes for each."""
    with safemp.Pool(2) as pool:
        pool.map(jobs.square, range(10))
        gc.collect()
        before = resident()
        found = pool.map_async(jobs.same, range(1_000_000)).get(600)
        each = (resident() - before) / 1_000_000
        with capsys.disabled():
            print(f"\na map of 1000000: {each:.0f} bytes each")

    assert found == list(range(1_000_000))
    assert each < MOST_PER_CALL


# -- inputs without end -------------------------------------------------------------------


class Endless:
    """Numbers without end; knows how many were taken."""

    def __init__(self) -> None:
        self.taken = 0
        self.lock = threading.Lock()

    def __iter__(self) -> Iterator[int]:
        for i in itertools.count():
            self.taken = i + 1
            yield i


WORKERS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1

AHEAD: dict[str, tuple[str, dict[str, Any], int]] = {
    # The way, its options, how many items it may take beyond the results taken: as its docstring says.
    "safemp.imap": ("map", {}, 8 * WORKERS),
    "safemp.imap, chunks": ("map", {"chunksize": 5}, 8 * WORKERS * 5 + 5),
    "safemp.imap, buffersize": ("map", {"buffersize": 3}, 3),
    "safemp.imap_unordered": ("map unordered", {}, 8 * WORKERS),
    "Pool.imap": ("pool", {}, 10_000 + 1),
    "Pool.imap, chunks": ("pool", {"chunksize": 7}, 10_000 + 2 * 7),
    "Pool.imap_unordered": ("pool unordered", {}, 10_000 + 1),
    "SafeExecutor.map": ("executor", {"buffersize": 4}, 4),
    "SafeExecutor.map, chunks": ("executor", {"buffersize": 10, "chunksize": 5}, 10 + 5),
}


@pytest.mark.parametrize("way", AHEAD)
def test_an_endless_input_is_read_a_little_ahead(way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """However slowly the results are taken, no more items are read beyond them than the docstring says."""
    front, options, most = AHEAD[way]
    items = Endless()
    with safemp.SafeExecutor(2) as executor, safemp.Pool(2) as pool:
        iterator: Any = {
            "map": lambda: safemp.imap(jobs.same, items, **options),
            "map unordered": lambda: safemp.imap_unordered(jobs.same, items, **options),
            "pool": lambda: pool.imap(jobs.same, items, **options),
            "pool unordered": lambda: pool.imap_unordered(jobs.same, items, **options),
            "executor": lambda: executor.map(jobs.same, items, timeout=60, **options),
        }[front]()
        found = []
        ahead = 0
        for k in range(3):
            found += [next(iterator) for _ in range(40)]
            seen = -1
            while items.taken != seen:  # until nobody reads any more
                seen = items.taken
                threading.Event().wait(0.3)
            ahead = max(ahead, items.taken - len(found))
            assert ahead <= most, f"round {k}"
        with capsys.disabled():
            print(f"\n{way}: {ahead} items read ahead, {most} allowed")
        if hasattr(iterator, "close"):
            iterator.close()
        del iterator

    assert sorted(found) == found or "unordered" in front
    assert len(set(found)) == 120


def test_an_endless_input_does_not_keep_a_pool_from_ending() -> None:
    """``terminate`` returns, and the input is read no further."""
    items = Endless()
    with safemp.Pool(2) as pool:
        iterator = pool.imap(jobs.same, items)
        assert next(iterator) == 0
    seen = items.taken

    assert not until(lambda: items.taken > seen + 1, timeout=0.3)
