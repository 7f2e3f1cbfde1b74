"""The demo as a stranger runs it: what it prints, how it ends, what it leaves."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import safemp
from safemp.demo import show
from safemp.demo.client import error_class
from safemp.demo.errors import BY_STATUS, Response
from safemp.demo.prompts import BATCH, CRASH

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


@dataclass
class Marked:
    """A process whose descendants can be told from all others by their environment."""

    process: subprocess.Popen[str]
    mark: str

    def left(self) -> list[str]:
        """Return the command lines of what is still alive of it, itself included."""
        found = []
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and self.mark.encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found


@contextlib.contextmanager
def demo(*arguments: str) -> Iterator[Marked]:
    """Start ``python -m safemp demo`` in a session of its own."""
    mark = uuid.uuid4().hex
    with subprocess.Popen(
        [sys.executable, "-m", "safemp", "demo", *arguments],
        cwd=ROOT,
        env={**os.environ, "SAFEMP_TEST_MARK": mark, "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield Marked(process, mark)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def gone(marked: Marked) -> bool:
    """Wait until nothing of *marked* is alive."""
    deadline = time.monotonic() + 5
    while marked.left() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not marked.left()


@pytest.mark.timeout(180)
@pytest.mark.parametrize("arguments", [(), ("--builtin",)], ids=["openai", "builtin"])
def test_the_promises_are_seen_to_hold(arguments: tuple[str, ...]) -> None:
    """The demo exits with 0, says three times "kept", gives both pools a chance, and leaves no process and no port."""
    if not arguments:
        pytest.importorskip("openai")
    with demo("--deadline", "12", *arguments) as marked:
        printed, noise = marked.process.communicate(timeout=150)

    assert noise == ""
    assert marked.process.returncode == 0, printed
    assert printed.count("  kept    ") == 3
    assert ("built-in" in printed.splitlines()[0]) == bool(arguments)
    assert f"{len(BATCH)} of {len(BATCH)}" in printed
    assert "args[0].session['connection']" in printed
    served = re.search(r"The server answered (\d+) requests", printed)
    assert served is not None
    assert int(served[1]) > 0, "multiprocessing.Pool was not given a chance"
    assert "WorkerCrashed (SIGKILL)" in printed
    assert max(map(len, printed.splitlines())) <= 100
    assert printed.isascii()
    assert "\x1b" not in printed
    assert gone(marked), marked.left()
    port = int(re.search(r"127\.0\.0\.1:(\d+)", printed)[1])  # type: ignore[index]
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def pressed(process: subprocess.Popen[str]) -> str | None:
    """Press Ctrl-C; return what was said on stderr, ``None`` if it goes on."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=40)[1]
    except subprocess.TimeoutExpired:
        return None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("processes", [1, 2, 3, 4])
def test_ctrl_c_ends_it_quietly(processes: int) -> None:
    """Ctrl-C, at whatever stage, ends the demo with one line, status 130 and no process left."""
    with demo("--builtin", "--deadline", "60") as marked:
        assert marked.process.stdout is not None
        assert marked.process.stdout.readline().startswith("safemp")
        deadline = time.monotonic() + 20
        while len(marked.left()) < processes and time.monotonic() < deadline:
            pass  # no sleep: the stage is over in a moment
        noise = pressed(marked.process)
        if noise is None:  # CPython drops an interrupt that comes in a callback of its own, and says so
            noise = (pressed(marked.process) or "").partition("KeyboardInterrupt: \n")[2]

    assert noise == "interrupted\n"
    # An interrupt that passes through exec(), as in the making of a dataclass, makes CPython
    # end by the signal even when it was caught; a shell shows both as 130.
    assert marked.process.returncode in (130, -signal.SIGINT)
    assert gone(marked), marked.left()


def test_a_reader_that_leaves_is_no_traceback() -> None:
    """``python -m safemp demo | head`` ends without a word on stderr."""
    with demo("--builtin", "--deadline", "0.1") as marked:
        assert marked.process.stdout is not None
        marked.process.stdout.close()
        assert marked.process.stderr is not None
        noise = marked.process.stderr.read()

    assert noise == ""
    assert gone(marked), marked.left()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--version"], f"safemp {safemp.__version__}"),
        (["--help"], "usage: python -m safemp"),
        ([], "usage: python -m safemp"),
        (["demo", "--help"], "--deadline SECONDS"),
    ],
    ids=["version", "help", "nothing", "demo-help"],
)
def test_the_command_line_explains_itself(arguments: list[str], says: str) -> None:
    """``--help``, ``--version`` and no argument at all print what is there, and exit with 0."""
    command = [sys.executable, "-m", "safemp", *arguments]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert found.returncode == 0
    assert says in found.stdout


@pytest.mark.parametrize("deadline", ["0", "-1", "nan", "soon"])
def test_a_bad_deadline_is_refused(deadline: str) -> None:
    """A deadline that is no number of seconds ends in a usage error, before anything starts."""
    command = [sys.executable, "-m", "safemp", "demo", f"--deadline={deadline}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50)

    assert found.returncode == 2
    assert "--deadline" in found.stderr


# -- a promise that does not hold is not said to hold ---------------------------


def good_outcomes() -> list[show.Outcome]:
    """Return what a pool that keeps its promises gives for the batch."""
    crash = safemp.WorkerCrashed.__new__(safemp.WorkerCrashed)
    outcomes: list[show.Outcome] = []
    for prompt in BATCH:
        if prompt.text == CRASH:
            outcomes.append(crash)
        elif prompt.status == 200:
            outcomes.append(prompt.reply)
        else:
            body = {"code": prompt.reply}
            response = Response(prompt.status, "", json.dumps({"error": body}))
            outcomes.append(BY_STATUS[prompt.status]("", response=response, body=body))
    return outcomes


def test_the_second_promise_is_broken_by_one_poor_error() -> None:
    """One lost answer, or one error of another class or without its status, breaks the second promise."""
    assert show.what_happened_came_back(good_outcomes(), openai=False).kept
    for index, prompt in enumerate(BATCH):
        if prompt.text == CRASH:
            continue
        for poor in (None, "", RuntimeError("Error code: 429")):
            outcomes = good_outcomes()
            outcomes[index] = poor
            assert not show.what_happened_came_back(outcomes, openai=False).kept


def test_the_third_promise_is_broken_by_one_more_victim() -> None:
    """A crash that takes another task along, or the pool, breaks the third promise."""
    good = good_outcomes()
    assert show.one_fault_stayed_alone(good, BATCH[0].reply).kept
    assert not show.one_fault_stayed_alone(good, None).kept
    for index, prompt in enumerate(BATCH):
        outcomes = good_outcomes()
        outcomes[index] = None if prompt.text == CRASH else safemp.WorkerCrashed.__new__(safemp.WorkerCrashed)
        assert not show.one_fault_stayed_alone(outcomes, BATCH[0].reply).kept


def test_the_builtin_errors_are_as_hostile_as_openai() -> None:
    """The built-in client's errors pickle and do not unpickle, like those that they stand for."""
    for prompt, error in zip(BATCH, good_outcomes(), strict=True):
        if prompt.status not in (0, 200):
            assert type(error) is error_class(prompt.status, openai=False)
            dumped = pickle.dumps(error)
            with pytest.raises(TypeError, match="missing 2 required keyword-only arguments"):
                pickle.loads(dumped)
