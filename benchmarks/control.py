"""The side that starts lanes and programs, asks them for turns, and sees that they end."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import IO

from benchmarks.marks import MARK, kill_marked
from benchmarks.peers import PATIENCE
from benchmarks.rows import Row

__all__ = ["Cannot", "Course", "Took", "quietly"]

ROOT = Path(__file__).resolve().parents[1]
DEADLINE = 60.0
"""Seconds for one answer of a lane: a probe, a warm-up and a turn, on a machine with other work."""


@dataclass(frozen=True)
class Took:
    """What a turn took: a value a task (seconds or bytes), processor seconds a task, and how many tasks it had."""

    value: float
    cpu: float
    tasks: int


@dataclass(frozen=True)
class Cannot:
    """Why there was no turn, and whether the lane can go on with another row."""

    reason: str
    usable: bool = False


class Lane:
    """One peer's process, as its caller sees it."""

    def __init__(self, name: str, workers: int, mark: str, folder: str) -> None:
        self._mark = mark
        self._log: IO[bytes] = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # closed by end()
        ours, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.lane", name, str(workers), str(theirs.fileno())],
            cwd=ROOT,
            env=environment(mark, folder),
            pass_fds=[theirs.fileno()],
            start_new_session=True,  # Ctrl-C is ours: who hears of it mid-turn prints pages
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        theirs.close()
        self._lane = Connection(ours.detach())
        self._ready = False

    def ask(self, row: str, n: int, budget: float) -> Took | Cannot:
        """Ask for one turn."""
        if not self._ready:
            answer = self._answer(2 * PATIENCE)
            if isinstance(answer, Cannot):
                return Cannot(f"did not start: {answer.reason}")
            self._ready = True
        with contextlib.suppress(BrokenPipeError):
            self._lane.send((row, n, budget))
        answer = self._answer(DEADLINE)
        return answer if answer is not None else Cannot("was out of step")

    def _answer(self, patience: float) -> Took | Cannot | None:
        deadline = time.monotonic() + patience
        while not self._lane.poll(0.5):
            if self._process.poll() is not None and not self._lane.poll():
                return Cannot(f"its process ended with status {self._process.returncode}: {self._last_line()}")
            if time.monotonic() > deadline:
                return Cannot(f"no answer in {patience:g} s")
        try:
            kind, *rest = self._lane.recv()
        except (EOFError, OSError):
            return Cannot(f"its process ended: {self._last_line()}")
        if kind == "ready":
            return None
        return Took(*rest) if kind == "took" else Cannot(*rest, usable=kind == "unable")

    def _last_line(self) -> str:
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def dismiss(self) -> None:
        """Tell it that no more turns are wanted."""
        self._lane.close()

    def end(self, patience: float) -> None:
        """Wait until it has ended its pool, and see that nothing of it is left."""
        self.dismiss()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its resource trackers see that, and tidy up
            self._process.wait()
        kill_marked(self._mark)
        self._log.close()


class Course:
    """All lanes of a run, and a folder for what they write."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._run = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._lanes: dict[tuple[str, int], Lane] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
        self._patience = 20.0

    def __enter__(self) -> Course:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        # Nobody reads the answers any more: neither a turn nor an orderly end is waited for.
        self.clear(patience=self._patience if kind is None else 0.5)
        kill_marked(self._run)
        self._folder.cleanup()

    def turn(self, peer: str, row: Row, *, quick: bool, workers: int = 0) -> Took | Cannot:
        """Let a peer take a turn; its lane is started when it is first needed."""
        n, budget = (row.quick, row.budget / 4) if quick else (row.tasks, row.budget)
        key = (peer, workers or self._workers)
        if key not in self._lanes:
            self._lanes[key] = Lane(*key, self._mark(), self._folder.name)
        answer = self._lanes[key].ask(row.name, n, budget)
        if row.fresh or (isinstance(answer, Cannot) and not answer.usable):  # what it can do now is anybody's guess
            self._lanes.pop(key).end(0.5)
        return answer

    def clear(self, *, patience: float = 20.0) -> None:
        """End all lanes."""
        for lane in self._lanes.values():
            lane.dismiss()
        while self._lanes:
            self._lanes.popitem()[1].end(patience)

    def first_result(self, script: str) -> Took | Cannot:
        """Run a program that prints the time (``time.monotonic``) of its first result, and say how long that took."""
        path = Path(self._folder.name, "program.py")
        path.write_text(script, encoding="utf-8")
        mark = self._mark()
        with tempfile.TemporaryFile(dir=self._folder.name) as out:
            begin = time.monotonic()
            process = subprocess.Popen(
                [sys.executable, str(path)],
                env=environment(mark, self._folder.name),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                return Cannot(f"no answer in {PATIENCE:g} s")
            finally:
                process.kill()
                process.wait()
                kill_marked(mark)
            out.seek(0)
            lines = out.read().decode(errors="replace").split("\n")
        for line in lines:
            word, _, value = line.partition(" ")
            if word == "first-result":
                return Took(float(value) - begin, 0.0, 1)
        return Cannot(next((line for line in reversed(lines) if line.strip()), f"exit status {process.returncode}"))

    def _mark(self) -> str:
        return f"{self._run}-{next(self._numbers)}-"


def environment(mark: str, folder: str) -> dict[str, str]:
    """Return what a process of the run has in its environment."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, MARK: mark, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": folder}


def quietly() -> None:
    """Let SIGTERM end a run as Ctrl-C does, so that ``timeout`` and CI leave no workers behind either."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
