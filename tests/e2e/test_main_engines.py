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


CALLER = """
import pickle, sys
from safemp.codec import calls, namespaces
from safemp.engines.errand import FORMAT, HERE, Errand

class Point:
    def __init__(self, x):
        self.x = x

calls_made = 0

def move(point):
    global calls_made
    calls_made += 1
    assert type(point) is Point
    return sys.argv[0].rpartition("/")[2], point.x, calls_made

if __name__ == "__main__":
    name, out = sys.argv[1:]
    Point.__doc__ = move.__doc__ = name
    frames = calls.encode_call(move, (Point(name),), {})
    todo = Errand(FORMAT, HERE, "1", "", namespaces.origin("__main__"), None, "", False, 0, 1, frames)
    with open(out, "wb") as file:
        pickle.dump(tuple(todo), file)
    print("ok")
"""

WORKER = """
import pickle, sys
from safemp.codec.calls import decode_outcome
from safemp.engines.errand import DONE, perform

errands = []
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        errands.append(pickle.load(file))
for i, (errand, name, times) in enumerate([(0, "a", 1), (1, "b", 1), (0, "a", 2), (1, "b", 2)]):
    kind, outcomes = perform(errands[errand])
    assert kind == DONE, outcomes
    good, value = decode_outcome(outcomes[0])
    assert (good, value) == (True, ("worker.py", name, times)), value
print("ok")
"""


@pytest.mark.slow
def test_a_worker_keeps_the_scripts_of_its_callers_apart(tmp_path: Path) -> None:
    """Two scripts that call things by the same names share a worker of a cluster."""
    for name in "ab":
        ended = run_script(tmp_path, CALLER, name, str(tmp_path / name), name=f"{name}.py")
        assert quiet(ended), str(ended)

    ended = run_script(tmp_path, WORKER, str(tmp_path / "a"), str(tmp_path / "b"), name="worker.py")
    assert quiet(ended), str(ended)
