"""Processes of a run, told from all others by a variable of their environment.

Peers start daemons that are nobody's children. Whoever was started in this run has its
mark, and only those are looked at or ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

__all__ = ["MARK", "kill_marked", "marked"]

MARK = "SAFEMP_BENCH_LANE"


def marked(mark: str) -> list[int]:
    """Return the processes whose mark begins so, zombies left out."""
    sought = f"{MARK}={mark}".encode()
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has ended, or is somebody else's
            if entry.name.isdigit() and any(
                variable.startswith(sought) for variable in (entry / "environ").read_bytes().split(b"\0")
            ):
                found.append(int(entry.name))
    return found


def kill_marked(mark: str) -> None:
    """End what is left of a run or a lane.

    Those that end by themselves are waited for first. Then resource trackers are waited for: they
    unlink the semaphores of the others, as soon as there are no others.
    """
    for patience, ended in ((0.5, lambda pid: not _tracks(pid)), (10.0, lambda pid: True)):
        deadline = time.monotonic() + patience
        while (left := marked(mark)) and time.monotonic() < deadline:
            time.sleep(0.02)
        while left := [pid for pid in marked(mark) if ended(pid)]:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)


def _tracks(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return b"tracker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
