"""The demo: the same batch through two pools, a table, and three promises checked.

What is printed under "kept" was observed in this run. A promise that did not hold is
printed as broken, and the exit status says so.
"""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import Any, NamedTuple

import safemp
from safemp.demo.batch import Outcome, gather
from safemp.demo.client import ChatClient, ask, error_class, has_openai
from safemp.demo.prompts import BATCH, CRASH
from safemp.demo.server import ChatServer

__all__ = ["Outcome", "Promise", "one_fault_stayed_alone", "run", "what_happened_came_back"]

WORKERS = 2

PATIENCE = 120.0
"""Seconds that safemp gets for the batch. It needs about one; picked, not measured."""

START_UP = 60.0
"""Seconds that the other process gets beside its deadline. Picked, not measured."""

_WIDTH = 98

_ROW = "  {:>2}  {:<33} {:>6}  {:<20}  {:<25}"


class Promise(NamedTuple):
    """One promise, and what this run showed of it."""

    text: str
    kept: bool
    seen: list[str]


def run(*, deadline: float = 8.0, builtin: bool = False, engine: str = "local") -> int:
    """Run the demo and print what happened.

    Args:
        deadline: Seconds that ``multiprocessing.Pool`` gets for the batch.
        builtin: Use the built-in client even where ``openai`` is installed.
        engine: That of ``safemp.Pool``, by its name.

    Returns:
        0 when the three promises were seen to hold, else 1.
    """
    openai = has_openai() and not builtin
    with ChatServer() as server:
        _print_heading(server, openai)
        with _today(server.url("today"), deadline, openai) as process:
            named = _send_what_cannot_travel(server, openai, engine)
            outcomes, after = _batch(server.url("safemp"), openai, engine)
            today = _result_of(process, deadline)
        _print_table(today["outcomes"], outcomes)
        _print_today(today, deadline, server.served["today"])
    promises = [
        named,
        what_happened_came_back(outcomes, openai=openai),
        one_fault_stayed_alone(outcomes, after),
    ]
    _print_promises(promises)
    return 0 if all(promise.kept for promise in promises) else 1


# -- safemp --------------------------------------------------------------------


def _send_what_cannot_travel(server: ChatServer, openai: bool, engine: str) -> Promise:
    """Send a client that holds an open socket; see what is said, and that nothing was sent."""
    client = ChatClient(server.url("named"), openai=openai)
    client.connect(server.address)
    connection = client.session["connection"]
    text = "What cannot travel is named before anything is sent."
    try:
        with safemp.Pool(1, engine=engine) as pool:
            pool.apply_async(ask, (client, BATCH[0].text))
        return Promise(text, False, ["the call went through"])
    except safemp.PreflightError as error:
        found = [culprit.path for culprit in error.culprits if culprit.get() is connection]
        kept = found == ["args[0].session['connection']"] and not server.served["named"]
        return Promise(text, kept, [f"{type(error).__name__}: {line}" for line in str(error).splitlines()[:1]])
    finally:
        connection.close()


def _batch(url: str, openai: bool, engine: str) -> tuple[list[Outcome], Outcome]:
    """Return the outcome of each prompt, and that of one more call to the same pool."""
    client = ChatClient(url, openai=openai)
    with safemp.Pool(WORKERS, engine=engine) as pool:
        outcomes = gather(lambda text: pool.apply_async(ask, (client, text)), deadline=PATIENCE)
        after = pool.apply_async(ask, (client, BATCH[0].text)).get(PATIENCE)
    return outcomes, after


def what_happened_came_back(outcomes: list[Outcome], *, openai: bool) -> Promise:
    """Judge the second promise: every answer is there, and every error is whole."""
    refused = [(p, o) for p, o in zip(BATCH, outcomes, strict=True) if p.status not in (0, 200)]
    whole = sum(_is_whole(outcome, p.status, p.reply, openai) for p, outcome in refused)
    answers = [p for p in BATCH if p.status == 200]
    answered = sum(o == p.reply for p, o in zip(BATCH, outcomes, strict=True) if p.status == 200)
    seen = [
        f"{answered} of {len(answers)} answers, and {whole} of {len(refused)} errors, "
        "each as its own class with status_code, body and response.",
    ]
    return Promise("What happened always comes back.", answered == len(answers) and whole == len(refused), seen)


def _is_whole(outcome: Outcome, status: int, code: str, openai: bool) -> bool:
    """Say whether *outcome* is the error that the client raised, with all it held."""
    if type(outcome) is not error_class(status, openai=openai):
        return False
    error: Any = outcome
    return bool(
        error.status_code == error.response.status_code == status
        and error.body["code"] == error.response.json()["error"]["code"] == code
    )


def one_fault_stayed_alone(outcomes: list[Outcome], after: Outcome) -> Promise:
    """Judge the third promise: one task crashed, all others finished, and the pool went on."""
    crashed = {prompt.text: o for prompt, o in zip(BATCH, outcomes, strict=True) if isinstance(o, safemp.WorkerCrashed)}
    error = crashed.get(CRASH)
    kept = list(crashed) == [CRASH] and after == BATCH[0].reply and None not in outcomes
    seen = [f"WorkerCrashed: {line}" for line in str(error).splitlines()[:1]]
    others = len(outcomes) - len(crashed) - outcomes.count(None)
    seen.append(f"The other {others} finished, and the pool took one more call: {_short(after)}.")
    return Promise("One task's fault stays with that task.", kept, seen)


# -- multiprocessing.Pool, in a process of its own -----------------------------


@contextmanager
def _today(url: str, deadline: float, openai: bool) -> Iterator[subprocess.Popen[str]]:
    """Start the batch on ``multiprocessing.Pool``; whatever happens here, leave nothing of it."""
    command = [sys.executable, "-m", "safemp.demo.today", url, str(deadline), "openai" if openai else "builtin"]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,  # closed by our end, whatever that is; then it ends, too
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        lifeline, process.stdin = process.stdin, None  # or communicate() would close it
        try:
            yield process
        finally:
            if process.poll() is None:  # not reaped, so the number is still that of our process and its group
                os.killpg(process.pid, signal.SIGKILL)
            if lifeline is not None:
                lifeline.close()


def _result_of(process: subprocess.Popen[str], deadline: float) -> dict[str, Any]:
    """Return what the process found; ``said`` is what its pool printed about its own end."""
    try:
        found, printed = process.communicate(timeout=deadline + START_UP)
    except subprocess.TimeoutExpired:
        return {"argument": "", "outcomes": [None] * len(BATCH), "said": ""}
    if process.returncode != 0:
        return {"argument": "", "outcomes": [None] * len(BATCH), "said": printed.strip().rpartition("\n")[2]}
    said = re.search(r"^TypeError: .*$", printed, re.MULTILINE)
    return {**json.loads(found), "said": said.group() if said else ""}


# -- what is printed -----------------------------------------------------------


def _print_heading(server: ChatServer, openai: bool) -> None:
    client = f"with openai {version('openai')}" if openai else "with the built-in client"
    print(f"safemp {safemp.__version__} on Python {platform.python_version()}, {client}.")
    print(f"{len(BATCH)} prompts to a chat server on {':'.join(map(str, server.address))}, {WORKERS} workers.")
    print("The client holds an RLock. The constructors of its errors want keyword-only arguments.")
    print(flush=True)


def _print_table(today: list[str | None], outcomes: list[Outcome]) -> None:
    head = ("", "prompt", "server", "multiprocessing.Pool", "safemp.Pool")
    print(_ROW.format(*head).rstrip())
    print("  " + "-" * (len(_ROW.format(*head)) - 2))
    for number, (prompt, then, now) in enumerate(zip(BATCH, today, outcomes, strict=True), 1):
        row = (number, prompt.text, prompt.status or "-", _short(then), _short(now))
        print(_ROW.format(*row).rstrip())
    total = ("", "came back", "", f"{_count(today)} of {len(today)}", f"{_count(outcomes)} of {len(outcomes)}")
    print("  " + "-" * (len(_ROW.format(*head)) - 2))
    print(_ROW.format(*total).rstrip())


def _count(outcomes: list[Any]) -> int:
    return len(outcomes) - outcomes.count(None)


def _short(outcome: Outcome) -> str:
    if outcome is None:
        return "no answer"
    if isinstance(outcome, safemp.WorkerCrashed):
        how = outcome.signal or outcome.exitcode  # neither is known of a cluster's worker
        return "WorkerCrashed" if how is None else f"WorkerCrashed ({how})"
    if isinstance(outcome, BaseException):
        status = getattr(outcome, "status_code", None)
        return f"{type(outcome).__name__}" + (f" ({status})" if status else "")
    return outcome.partition("\n")[0][:25]


def _print_today(today: dict[str, Any], deadline: float, served: int) -> None:
    print("\nmultiprocessing.Pool")
    if today["argument"]:
        print(f"  Sent as an argument, the client gave: {today['argument']}")
        print("  So each worker made a client of its own.")
    print(f"  The server answered {served} requests; {_count(today['outcomes'])} answers came back in {deadline:g} s.")
    if today["said"]:
        print("  The thread that reads the answers had died, and every later call waits for ever:")
        _print_wrapped(today["said"], "    ")


def _print_promises(promises: list[Promise]) -> None:
    print("\nsafemp.Pool: three promises")
    for number, promise in enumerate(promises, 1):
        print(f"  {number}  {'kept' if promise.kept else 'BROKEN':<6}  {promise.text}")
        for line in promise.seen:
            _print_wrapped(line, " " * 8)
    sys.stdout.flush()


def _print_wrapped(text: str, indent: str) -> None:
    print(textwrap.fill(text, _WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False))
