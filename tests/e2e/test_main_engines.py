"""Scripts on workers that somebody else keeps: what is defined in ``__main__`` behaves as on ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.child import quiet, run_script

SCRIPT = """
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import loky
import safemp

KIND = sys.argv[1]

class Refused(Exception):
    def __init__(self, *, status):
        super().__init__("refused")
        self.status = status

@dataclass
class Point:
    x: int

counter = 0

def count(n):
    global counter
    counter += n
    return counter

def init(n):
    global counter
    counter = n

def move(point):
    if point.x == 3:
        raise Refused(status=429)
    return Point(point.x + 1)

def make():
    if KIND == "threads":
        return ThreadPoolExecutor(1)
    if KIND == "loky":
        return loky.ProcessPoolExecutor(1)
    return ProcessPoolExecutor(1, get_context(KIND))

if __name__ == "__main__":
    with make() as mine, safemp.SafeExecutor(engine=mine, initializer=init, initargs=(10,)) as executor:
        assert list(executor.map(count, [1, 2, 3])) == [11, 13, 16]
        assert executor.submit(count, 4).result() == 20
        assert counter == (20 if KIND == "threads" else 0)
        assert executor.submit(move, Point(1)).result() == Point(2)
        assert list(executor.map(move, map(Point, range(3)))) == [Point(1), Point(2), Point(3)]
        try:
            executor.submit(move, Point(3)).result()
        except Refused as error:
            assert error.status == 429
    print("ok")
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fork", "spawn", "forkserver", "loky", "threads"])
def test_functions_and_classes_of_a_script_work_on_an_executor(tmp_path: Path, kind: str) -> None:
    """State stays in the worker, and classes are the caller's own, whatever ``__main__`` the worker has."""
    ended = run_script(tmp_path, SCRIPT, kind)

    assert quiet(ended), str(ended)
