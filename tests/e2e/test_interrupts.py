"""Signals at random moments of a program that submits: no call is lost, and the pool goes on."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.child import run_script

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="wants signals of POSIX")

STORM = """
import random
import signal
import sys
import time
from concurrent.futures import wait
import safemp


class Enough(Exception):
    pass


def square(n):
    return n * n


def interrupted(number, frame):
    HANDLER


def storm(executor, futures):
    for n in range(100_000):
        futures.append(executor.submit(square, n))
        if rng.random() < 0.01:
            futures[-1].result()
        if extra:
            break


if __name__ == "__main__":
    rng = random.Random(5)
    signal.signal(signal.SIGALRM, interrupted)
    came = 0
    extra = []
    with safemp.SafeExecutor(2) as executor:
        wait([executor.submit(square, n) for n in range(10)])
        for _ in range(200):
            futures = []
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.006))
                storm(executor, futures)
            except (KeyboardInterrupt, Enough, SystemExit):
                came += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
            done, lost = wait(futures + extra, timeout=30)
            assert not lost, f"{len(lost)} calls of {len(futures)} were lost"
            assert [future.result() for future in futures] == [n * n for n in range(len(futures))]
            came += len(extra)
            extra.clear()
        assert executor.submit(square, 7).result(30) == 49
        died = [worker for worker in executor.stats().workers if worker.ended]
    print("fine", came > 100, died)
"""

HANDLERS = {
    "ctrl-c": "signal.raise_signal(signal.SIGINT)",
    "raises": "raise Enough",
    "exits": "sys.exit(3)",
    "submits": "extra.append(executor.submit(square, 3))",
}


@pytest.mark.parametrize("handler", HANDLERS)
def test_a_storm_of_submits_survives_signals(tmp_path: Path, handler: str) -> None:
    """Two hundred times: every call whose future there is has its answer, no worker dies, nothing hangs.

    Before there were locks under which handlers wait, one storm of two hundred lost calls, in one of
    twenty a worker died, and a handler that submits waited for ever.
    """
    ended = run_script(tmp_path, STORM.replace("HANDLER", HANDLERS[handler]))

    assert (ended.returncode, ended.out, ended.err, ended.left) == (0, "fine True []\n", "", ()), str(ended)


ENDINGS = """
import random
import signal
from concurrent.futures import CancelledError
import safemp


def interrupted(number, frame):
    ENDING


if __name__ == "__main__":
    rng = random.Random(6)
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
    ended = 0
    for _ in range(25):
        pool = POOL
        signal.setitimer(signal.ITIMER_REAL, rng.uniform(0.0005, 0.02))
        try:
            while True:
                answer = SUBMIT
                if rng.random() < 0.01:
                    WAIT
        except (RuntimeError, ValueError, safemp.SafempError, CancelledError):
            ended += 1
        END
    print("ended", ended)
"""

POOLS = {
    "shutdown": (
        "pool.shutdown(wait=False, cancel_futures=True)",
        "safemp.SafeExecutor(2)",
        "pool.submit(abs, -1)",
        "answer.result()",
        "pool.shutdown()",
    ),
    "terminate": (
        "pool.terminate()",
        "safemp.Pool(2)",
        "pool.apply_async(abs, (-1,))",
        "answer.get()",
        "pool.terminate(); pool.join()",
    ),
}


@pytest.mark.parametrize("way", POOLS)
def test_a_handler_ends_the_pool_that_is_just_being_used(tmp_path: Path, way: str) -> None:
    """As programs do on SIGTERM; in whatever the main thread is at."""
    program = ENDINGS
    for name, text in zip(("ENDING", "POOL", "SUBMIT", "WAIT", "END"), POOLS[way], strict=True):
        program = program.replace(name, text)
    ended = run_script(tmp_path, program)

    assert (ended.returncode, ended.out, ended.err, ended.left) == (0, "ended 25\n", "", ()), str(ended)
