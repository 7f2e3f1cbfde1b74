"""Forks while pools work, and threads that submit while another ends the pool: nobody waits for ever."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.programs import run

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")

# -- forks ------------------------------------------------------------------------------

CHILD = {
    "ends": "pass",
    "sys.exit": "sys.exit(0)",
    "os._exit": "os._exit(0)",
    "an own map": "assert safemp.map(lambda n: mine(n).n, [3, 4]) == [9, 16]",
    "an own executor": "with safemp.SafeExecutor(1) as own: assert own.submit(mine, 3).result(30).n == 9",
    "the parent's": "try: e.submit(square, 3)\nexcept RuntimeError as error: assert 'fork' in str(error)\n"
    "else: os._exit(9)",
    "the parent's shutdown": "e.shutdown()\np.terminate()\np.join()",
    "the parent's future": "assert f.result(0) == 4",
    # In a function, with `global`: at the top the names are the script's own, and it needs them.
    "collected": "del e, p\nimport gc\ngc.collect()",
}

WORK = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
e = safemp.SafeExecutor(2)
p = safemp.Pool(2)
f = e.submit(square, 2)
assert f.result() == 4
over = threading.Event()
sums = []
def work():
    done = 0
    while not over.is_set():
        assert e.submit(mine, 3).result(60).n == 9
        assert p.map(square, range(5)) == [0, 1, 4, 9, 16]
        done += 1
    sums.append(done)
threads = [threading.Thread(target=work) for _ in range(3)]
for t in threads: t.start()
"""

AFTER = """
over.set()
for t in threads: t.join()
assert len(sums) == 3 and all(sums)
assert e.submit(square, 3).result() == p.apply(square, (3,)) == 9
print("ok", flush=True)
"""


@pytest.mark.parametrize(
    ("how", "child"),
    [(how, child) for how in ("os.fork", "mp.Process") for child in CHILD if (how, child) != ("os.fork", "collected")],
)
def test_a_fork_while_pools_work_harms_neither(tmp_path: Path, how: str, child: str) -> None:
    """The child ends as it likes, and may have pools of its own; the parent's calls are all answered."""
    indented = "".join(f"        {line}\n" for line in CHILD[child].splitlines())
    if how == "os.fork":
        fork = f"for _ in range(3):\n    pid = os.fork()\n    if not pid:\n{indented}        sys.exit(0)\n"
        fork += "    assert os.waitpid(pid, 0)[1] == 0"
    else:
        fork = (
            f"import multiprocessing\ndef target():\n    global e, p\n    if True:\n{indented}"
            "for _ in range(3):\n    c = multiprocessing.get_context('fork').Process(target=target)\n"
            "    c.start()\n    c.join()\n    assert c.exitcode == 0"
        )
    ended = run(tmp_path, WORK + fork + AFTER)

    assert (ended.returncode, ended.out, ended.err, ended.left) == (0, "ok\n", "", ()), str(ended)


# -- forks of workers ---------------------------------------------------------------------

TAKES_A_LOCK = """
import time
LOCK = threading.Lock()
class Locking:  # as OpenSSL does, which cannot be asked to let go before a fork
    def __reduce__(self):
        with LOCK:
            time.sleep(0.3)
            return take, ()
def take():
    with LOCK:
        return 1
"""


@pytest.mark.parametrize(
    "calls",
    [
        "with safemp.Pool(2, context='fork') as p: print(p.map(abs, [Locking(), Locking()]))",
        "with safemp.SafeExecutor(2, 'fork') as e:\n"
        "    futures = [e.submit(abs, Locking()), e.submit(abs, Locking())]\n"
        "    print([f.result() for f in futures])",
    ],
    ids=["pool", "executor"],
)
def test_workers_are_not_forked_while_their_caller_pickles(tmp_path: Path, calls: str) -> None:
    """As in the standard library: what is held while arguments are pickled is not held for ever in a forked worker."""
    ended = run(tmp_path, f"{TAKES_A_LOCK}{calls}\n")

    assert (ended.returncode, ended.out, ended.err, ended.left) == (0, "[1, 1]\n", "", ()), str(ended)


# -- threads that submit while another ends the pool ------------------------------------

END_BY = {
    "shutdown": "e.shutdown()",
    "shutdown without wait": "e.shutdown(wait=False)",
    "cancel": "e.shutdown(cancel_futures=True)",
    "terminate": "e.terminate_workers()",
    "kill": "e.kill_workers()",
    "with": "e.__exit__(None, None, None)",
}

RACE = """
futures = []
def run():
    try:
        while True: futures.append(e.submit(square, 3))
    except RuntimeError as error:
        assert "shutdown" in str(error) or "ended" in str(error), error
for round in range(3):
    e = safemp.SafeExecutor(2)
    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads: t.start()
    while len(futures) < 50: time.sleep(0.001)
    END
    for t in threads: t.join()
    done, pending = concurrent.futures.wait(futures, 60)
    assert not pending, len(pending)
    for f in done:
        assert f.cancelled() or isinstance(f.exception(), safemp.WorkerCrashed) or f.result() == 9
    futures.clear()
print("ok")
"""


@pytest.mark.parametrize("how", END_BY)
def test_threads_that_submit_while_another_ends_the_pool(tmp_path: Path, how: str) -> None:
    """Each of eight threads gets its error; each future its answer; nobody waits for ever."""
    ended = run(tmp_path, RACE.replace("END", END_BY[how]))

    assert (ended.returncode, ended.out, ended.err, ended.left) == (0, "ok\n", "", ()), str(ended)


@pytest.mark.parametrize("how", ["p.close()", "p.terminate()"])
def test_threads_that_use_a_pool_while_another_ends_it(tmp_path: Path, how: str) -> None:
    """The same of a ``Pool``: every wait ends."""
    body = (
        "def run():\n"
        "    try:\n"
        "        while True:\n"
        "            p.map_async(square, range(9), 1), list(p.imap(square, range(9))), p.apply(square, (3,))\n"
        "    except (ValueError, safemp.WorkerCrashed, concurrent.futures.CancelledError): pass\n"
        "for round in range(20):\n"
        "    p = safemp.Pool(2)\n"
        "    threads = [threading.Thread(target=run) for _ in range(8)]\n"
        "    for t in threads: t.start()\n"
        "    time.sleep(0.01 * (round % 10))\n"
        f"    {how}\n"
        "    for t in threads: t.join()\n"
        "    p.join()\n"
        "print('ok')"
    )
    ended = run(tmp_path, body)

    assert (ended.returncode, ended.out, ended.err, ended.left) == (0, "ok\n", "", ()), str(ended)
