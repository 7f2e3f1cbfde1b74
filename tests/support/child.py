"""Run Python in a child with a deadline, and see which processes it leaves.

The child gets a session of its own, so that everything it starts can be found by
session and ended by pid. Its output goes to files, not to pipes: a grandchild that
stays would keep a pipe open, and the test would wait for it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

DEADLINE = 45.0
"""Seconds until a child counts as hanging. Far above what any of them needs."""

SETTLE = 8.0
"""Seconds that what a child has started gets to end after it."""


@dataclass(frozen=True)
class Ended:
    """How a child has ended."""

    returncode: int | None
    """``None``: it was still running at the deadline."""
    out: str
    err: str
    left: tuple[str, ...]
    """The processes of its session that were still there a while later."""

    def __str__(self) -> str:
        how = "still running at the deadline" if self.returncode is None else f"exit code {self.returncode}"
        return f"{how}; left: {self.left or 'nothing'}\n--- out\n{self.out}--- err\n{self.err}"


def until(what: Callable[[], object], *, timeout: float = 20.0) -> bool:
    """Ask *what* until it says yes or *timeout* seconds have passed; tell which."""
    deadline = time.monotonic() + timeout
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def alive(pid: int) -> bool:
    """Tell whether *pid* runs; a zombie does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        if os.path.isdir("/proc/self"):
            return False
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        return True
    return stat.rpartition(")")[2].split()[0] not in ("Z", "X")


def in_session(session: int) -> dict[int, str]:
    """Return the running processes of *session* by pid (Linux; elsewhere none)."""
    found = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not entry.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry}/stat").read_text(errors="replace")
            command = Path(f"/proc/{entry}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended while we looked
            continue
        state, _parent, _group, its_session = stat.rpartition(")")[2].split()[:4]
        if int(its_session) == session and state not in "ZX":
            found[int(entry)] = f"pid {entry}: {command[:160]}"
    return found


def end_session(session: int) -> None:
    """End every process of *session* by its pid; resource trackers last, after their work."""
    for spare in ("resource_tracker", None):
        for pid, text in in_session(session).items():
            if spare is None or spare not in text:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:  # it has ended by itself
                    pass
        until(lambda: not in_session(session), timeout=3)


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment in which ``safemp`` and ``tests`` can be imported."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # No site of the user, no option of the outer run: a child is a stranger's shell.
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_", "PYTHON"))}
    return {**clean, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TERM": "dumb", "NO_COLOR": "1", **(extra or {})}


@contextmanager
def started(
    *args: str, cwd: Path | None = None, stdin: int = subprocess.DEVNULL, env: Mapping[str, str] | None = None
) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[], tuple[str, str]]]]:
    """Start ``python *args`` and end its whole session afterwards.

    Yields:
        The process, and a function that returns what it has written so far.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:

        def written() -> tuple[str, str]:
            texts = []
            for file in (out, err):
                texts.append(os.pread(file.fileno(), 10_000_000, 0).decode(errors="replace"))
            return texts[0], texts[1]

        child = subprocess.Popen(
            [sys.executable, *args],
            cwd=cwd,
            stdin=stdin,
            stdout=out,
            stderr=err,
            env=environment(env),
            start_new_session=True,
        )
        try:
            yield child, written
        finally:
            end_session(child.pid)
            if child.stdin is not None:
                try:
                    child.stdin.close()
                except BrokenPipeError:  # it was still to be flushed, and nobody reads any more
                    pass
            child.wait()


def run_python(
    *args: str,
    stdin: str | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = DEADLINE,
    settle: float = SETTLE,
) -> Ended:
    """Run ``python *args`` to its end, or to the deadline; wait *settle* seconds for what it started."""
    with started(*args, cwd=cwd, env=env, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE) as (
        child,
        written,
    ):
        returncode: int | None
        try:
            if child.stdin is not None and stdin is not None:
                child.stdin.write(stdin.encode())
                child.stdin.close()
            returncode = child.wait(timeout)
        except subprocess.TimeoutExpired:
            returncode = None
        if returncode is not None:
            until(lambda: not in_session(child.pid), timeout=settle)
        out, err = written()
        return Ended(returncode, out, err, tuple(in_session(child.pid).values()))


def run_script(folder: Path, source: str, *args: str, name: str = "script.py", timeout: float = DEADLINE) -> Ended:
    """Write *source* into *folder* and run it as a script, as a user does."""
    path = folder / name
    path.write_text(source)
    return run_python(str(path), *args, cwd=folder, timeout=timeout)


def quiet(ended: Ended, *, out: str = "ok\n", returncode: int = 0) -> bool:
    """Tell whether a child said what it should, and nothing else, and left nothing."""
    return (ended.returncode, ended.out, ended.err, ended.left) == (returncode, out, "", ())


def lines(path: Path) -> Sequence[str]:
    """Return the lines of a file that tasks append to; none if it is not there."""
    return path.read_text().splitlines() if path.exists() else []
