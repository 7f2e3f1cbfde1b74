"""Tasks that want too much: time, memory, tries."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.support.jobs import note, wait_for

_kept: list[bytes] = []


def spin(path: str) -> None:
    """Note this process's id, then stay in one C call that never lets go of the GIL."""
    note(path, os.getpid())
    2 ** (10**10)


def sleep_and_note(path: str, seconds: float, i: int) -> int:
    """Note *i*, sleep, give it back."""
    note(path, i)
    time.sleep(seconds)
    return i


def sleep_if(path: str, slow: int, i: int) -> int:
    """Note *i*; the item *slow* never ends."""
    note(path, i)
    if i == slow:
        time.sleep(600)
    return i


def start_a_child_and_wait(path: str) -> None:
    """Start a program that starts another; note all their ids; never end."""
    code = (
        "import subprocess, sys, time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({path!r}, 'a').write(str(p.pid) + '\\n')\n"
        "time.sleep(600)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code])
    note(path, child.pid)
    note(path, os.getpid())
    child.wait()


def fail_times(path: str, times: int, how: str) -> int:
    """Fail the first *times* times, as *how* says; then give the number of tries."""
    note(path, os.getpid())
    tries = len(Path(path).read_text().split())
    if tries <= times:
        if how == "exit":
            os._exit(7)
        if how == "sleep":
            time.sleep(600)
        if how == "memory":
            take(300_000_000, 600)
        raise {"ConnectionError": ConnectionError, "ValueError": ValueError, "TimeoutError": TimeoutError}[how](tries)
    return tries


def fail_item(path: str, bad: int, times: int, how: str, i: int) -> int:
    """As ``fail_times`` for the item *bad*; the others are noted and given back."""
    if i == bad:
        fail_times(path + ".bad", times, how)
    note(path, i)
    return i


def take(size: int, seconds: float) -> int:
    """Use *size* bytes for a while."""
    block = b"x" * size
    time.sleep(seconds)
    return len(block)


def keep(size: int) -> int:
    """Use *size* bytes for as long as the process lives; give its id."""
    _kept.append(b"x" * size)
    return os.getpid()


def pid_then_wait(path: str, release: str) -> int:
    """Note this process's id, wait, give it back."""
    note(path, os.getpid())
    wait_for(release)
    return os.getpid()
