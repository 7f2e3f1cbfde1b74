"""A pool that is used while its module is being imported answers, whatever that has to do with the module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.child import ROOT, quiet, run_python, run_script

MAIN_ONLY = """
import multiprocessing
import safemp

if multiprocessing.parent_process() is not None:
    raise ImportError("main process only")

def sq(x):
    return x * x

class C:
    def __reduce__(self):
        import at_import
        return at_import.C, ()

def outcome(call):
    try:
        return call()
    except safemp.PreflightError as error:
        return "main process only" in str(error) or error

"""

HERE = """
import multiprocessing
import safemp

class Given:
    pass

class Error(Exception):
    pass

def give(n):
    return Given()

def fail(n):
    raise Error(n)

"""

FAIL = {
    "map": "safemp.map(sq, [1])",
    "imap": "list(safemp.imap(sq, [1]))",
    "submit": "safemp.SafeExecutor(1).submit(sq, 2).result()",
    "submit, of what is imported by a method": "safemp.SafeExecutor(1).submit(str, [C()]).result()",
    "Pool.map": "safemp.Pool(1).map(sq, [1])",
    "Pool.imap": "list(safemp.Pool(1).imap(sq, [1]))",
    "Pool.apply_async": "safemp.Pool(1).apply_async(sq, (1,)).get()",
    "another's workers": "safemp.SafeExecutor(1, engine=OTHERS).submit(sq, 1).result()",
    "map on another's workers": "list(safemp.SafeExecutor(1, engine=OTHERS).map(sq, [1]))",
}

WORK = {
    "items of imap": "[type(each).__name__ for each in safemp.imap(give, [Given()])]",
    "a callback": "safemp.Pool(1).apply_async(give, (1,), callback=got.append).wait(30) or len(got)",
    "retry_on": "type(safemp.map(fail, [1], retries=1, retry_on=(Error,), on_error='return')[0]).__name__",
}


def _imported(folder: Path, source: str) -> str:
    """Import *source* as a module of its own, and return what came out, if that was all."""
    (folder / "at_import.py").write_text(source)
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]; import at_import; print(at_import.R)"
    ended = run_python("-c", code)
    assert quiet(ended, out=ended.out), str(ended)
    return ended.out.strip()


@pytest.mark.parametrize("way", FAIL)
def test_a_call_of_a_module_that_workers_cannot_import_fails(tmp_path: Path, way: str) -> None:
    """It is encoded again in a thread, for which pickle imports the module: that thread waits for nobody."""
    others = "from concurrent.futures import ProcessPoolExecutor\n"
    others += "OTHERS = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context('spawn'))\n"
    source = MAIN_ONLY + (others if "OTHERS" in FAIL[way] else "") + f"R = outcome(lambda: {FAIL[way]})\n"

    assert _imported(tmp_path, source) == "True"


@pytest.mark.parametrize("way", WORK)
def test_what_other_threads_pickle_and_load_for_it_is_there(tmp_path: Path, way: str) -> None:
    """A class of the module is found, in threads too that encode items, call back, or look at errors."""
    source = HERE + f"got, R = [], None\nif multiprocessing.parent_process() is None:\n    R = {WORK[way]}\n"

    assert _imported(tmp_path, source) in {"items of imap": "['Given']", "a callback": "1", "retry_on": "Error"}[way]


LETS_GO = """
import weakref
import safemp

class Big:
    pass

def with_a_callback(pool):
    big, got = Big(), []
    pool.apply_async(abs, (-1,), callback=got.append).get()
    return weakref.ref(big), got

def with_an_iterator():
    big = Big()
    return weakref.ref(big), safemp.imap(abs, iter([-1]))

with safemp.Pool(1) as pool:
    for ref, _ in (with_a_callback(pool), with_an_iterator()):
        print(ref() is None)
"""


def test_threads_that_look_at_others_keep_nothing_of_theirs(tmp_path: Path) -> None:
    """What a function had that made a pool begin such a thread is let go when the function returns."""
    assert quiet(run_script(tmp_path, LETS_GO), out="True\nTrue\n")


WAITS = """
import sys, threading, time
sys.path[:0] = [{folder!r}]
from safemp.engines.imports import aside

done = []

def work():
    global slow
    import slow
    done.append(slow.value)

importer = threading.Thread(target=lambda: __import__("slow"))
importer.start()
while "slow" not in sys.modules:
    time.sleep(0.001)
aside(work)
importer.join()
print(done, slow.__spec__._initializing)
"""


def test_an_import_by_another_that_goes_on_is_waited_for(tmp_path: Path) -> None:
    """Only who stands still is not: a module that another thread just happens to import comes whole."""
    (tmp_path / "slow.py").write_text(
        "import time\nend = time.monotonic() + 1\nn = 0\nwhile time.monotonic() < end:\n    n += 1\n"
        "    sum(range(n % 100))\n    [n for n in range(n % 90)]\nvalue = 7\n"
    )
    code = WAITS.format(folder=str(tmp_path))

    assert quiet(run_python("-c", code), out="[7] False\n")
