"""What the storm's workers run: jobs that carry, check and return bytes, and some that die.

Each leaves a line in a file when it runs, by one atomic write: so it can be counted
how often it ran, whatever has become of its process.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.support import jobs

DEATHS: dict[str, int] = {
    "sigkill": -signal.SIGKILL,
    "sigsegv": -signal.SIGSEGV,
    "abort": -signal.SIGABRT,
    "exit": 3,
    "stop": -signal.SIGKILL,  # stops itself; the storm kills it
    "exit while dumped": 4,
    "exit while loaded": 5,
}
"""The fates that end a worker, and the exit codes that they give it."""

STRAY = 6
"""The exit code of a worker that ends a moment after a job of it has answered."""

HANGS = ("sleep", "spin", "stand still")
"""The fates that never end by themselves: for time limits."""


@dataclass(frozen=True)
class Job:
    """One thing to do.

    Attributes:
        number: Distinct in its storm.
        way: How it was submitted.
        path: The file that gets a line, the number, for each time it runs.
        fate: "answer", "raise", "stray", or one of ``DEATHS`` or ``HANGS``.
        takes: Bytes of its argument.
        gives: Bytes of its result.
        shape: What these are: "bytes", "numpy" or "many" (arrays in a dict).
        seconds: How long it works.
        tries: How many times its fate befalls it; after that it answers.
    """

    number: int
    way: str
    path: str
    fate: str = "answer"
    takes: int = 0
    gives: int = 0
    shape: str = "bytes"
    seconds: float = 0.0
    tries: int = 1_000_000


class JobFailed(Exception):
    """What a job with the fate "raise" raises. Does not load by the usual way."""

    def __init__(self, number: int, path: str) -> None:
        super().__init__(f"job {number}")
        self.number = number


class WrongBytes(Exception):
    """An argument has not arrived as it was sent."""


def payload(number: int, size: int, shape: str) -> Any:
    """Make *size* bytes that belong to job *number* and to no other."""
    if shape == "bytes":
        return number.to_bytes(8, "little") + bytes([number % 251]) * size + number.to_bytes(8, "big")
    import numpy as np

    if shape == "numpy":
        return np.full(size // 8 + 1, number, dtype=np.int64)
    each = size // 64 + 1
    return {k: np.full(each, number + k, dtype=np.int64) for k in range(8)}


def is_payload(value: Any, number: int, size: int, shape: str) -> bool:
    """Tell whether *value* is what ``payload`` gives, byte for byte."""
    wanted = payload(number, size, shape)
    if type(value) is not type(wanted):
        return False
    if shape == "bytes":
        return bool(value == wanted)
    if shape == "numpy":
        return value.shape == wanted.shape and bool((value == wanted).all())
    return value.keys() == wanted.keys() and all(
        value[k].shape == wanted[k].shape and (value[k] == wanted[k]).all() for k in wanted
    )


class EndsWorker:
    """Ends the worker that pickles it, or that loads it; harmless where it was made."""

    def __init__(self, home: int, code: int, when: str) -> None:
        self.home = home
        self.code = code
        self.when = when

    def __reduce__(self) -> Any:
        if self.when == "dumped" and os.getpid() != self.home:
            os._exit(self.code)
        return _load, (self.home, self.code, self.when)


def _load(home: int, code: int, when: str) -> EndsWorker:
    if when == "loaded" and os.getpid() != home:
        os._exit(code)
    return EndsWorker(home, code, when)


def argument(job: Job) -> Any:
    """Make the argument of *job*."""
    if job.fate == "exit while loaded":
        return EndsWorker(os.getpid(), DEATHS[job.fate], "loaded")
    return payload(job.number, job.takes, job.shape)


def run(pair: tuple[Job, Any]) -> Any:
    """Do a job: leave a line, look at the argument, meet its fate, or answer."""
    job, value = pair
    jobs.note(job.path, job.number)
    if not is_payload(value, job.number, job.takes, job.shape):
        raise WrongBytes(f"job {job.number}: {type(value).__name__}")
    del value, pair
    if job.seconds:
        time.sleep(job.seconds)
    if job.tries < 1_000_000 and _lines_of(job) > job.tries:
        return payload(-1 - job.number & 0xFFFFFF, job.gives, job.shape)
    if job.fate == "raise":
        raise JobFailed(job.number, job.path)
    if job.fate == "stray":
        threading.Timer(0.003, os._exit, (STRAY,)).start()
    elif job.fate == "exit while dumped":
        return EndsWorker(0, DEATHS[job.fate], "dumped")
    elif job.fate != "answer":
        _die(job.fate)
    return payload(-1 - job.number & 0xFFFFFF, job.gives, job.shape)


def run_two(job: Job, value: Any) -> Any:
    """``run`` with two arguments."""
    return run((job, value))


def is_answer(value: Any, job: Job) -> bool:
    """Tell whether *value* is what *job* answers."""
    return is_payload(value, -1 - job.number & 0xFFFFFF, job.gives, job.shape)


def _lines_of(job: Job) -> int:
    with open(job.path, encoding="ascii") as file:
        return file.read().split().count(str(job.number))


def _die(fate: str) -> None:
    if fate == "sigkill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif fate == "sigsegv":
        os.kill(os.getpid(), signal.SIGSEGV)
    elif fate == "abort":
        os.abort()
    elif fate == "exit":
        os._exit(3)
    elif fate in ("stop", "stand still"):
        os.kill(os.getpid(), signal.SIGSTOP)
    elif fate == "sleep":
        time.sleep(600)
    elif fate == "spin":
        re.match(r"(a+)+$", "a" * 60 + "b")
    raise AssertionError(f"{fate} should have ended this process")
