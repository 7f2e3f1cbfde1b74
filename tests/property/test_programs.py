"""Small programs of submits, crashes, cancels and waits, against a model of what each future must be.

The model knows nothing of workers: it says for each call which outcomes are allowed,
given what the program has done to it.
"""

from __future__ import annotations

import os
from collections import Counter
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import safemp
from tests.support import jobs

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="dies as POSIX does"),
    pytest.mark.timeout(240),
]

TIMEOUT = 30.0


class Bad(Exception):
    """What a call that raises, raises. Does not load by the usual way."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


def do(kind: str, number: int, path: str, size: int) -> Any:
    """Leave a line, then do what *kind* says."""
    jobs.note(path, number)
    if kind == "raise":
        raise Bad(number, "bad")
    if kind == "crash":
        os._exit(3)
    if kind == "kill":
        os.kill(os.getpid(), 9)
    if kind == "stay":
        jobs.wait_for(f"{path}.release")
    return number, bytes(size)


@dataclass
class Call:
    """One call, and what the program has done to it."""

    kind: str
    size: int
    future: Any = None
    cancelled: bool = False
    killed: bool = False


@dataclass
class Run:
    """A program at work."""

    executor: Any
    path: str
    calls: list[Call] = field(default_factory=list)
    shut: bool = False
    killed: bool = False

    def step(self, name: str, which: int, arg: Any) -> None:
        """Do one step of the program."""
        if name == "submit":
            self.submit(*arg)
        elif name == "shutdown":
            self.shut = True
            self.executor.shutdown(wait=False, cancel_futures=arg)
            if arg:
                for call in self.calls:
                    call.cancelled = call.cancelled or call.future.cancelled()
        elif name == "kill_workers":
            self.shut = self.killed = True
            self.executor.kill_workers()
        elif self.calls:
            call = self.calls[which % len(self.calls)]
            if name == "cancel":
                call.cancelled |= call.future.cancel()
            elif name == "kill":
                call.killed |= call.future.kill()
            elif name == "result":
                Path(f"{self.path}.release").touch()  # from here on nobody stays
                self.check(call)

    def submit(self, kind: str, size: int) -> None:
        """Submit a call; after a shutdown, see that it is refused."""
        call = Call(kind, size)
        number = len(self.calls)
        if self.shut:
            with pytest.raises(RuntimeError):
                self.executor.submit(do, kind, number, self.path, size)
            return
        call.future = self.executor.submit(do, kind, number, self.path, size)
        self.calls.append(call)

    def check(self, call: Call) -> None:
        """See that the call has an outcome that it may have."""
        number = self.calls.index(call)
        try:
            value = call.future.result(TIMEOUT)
        except CancelledError:
            outcome = "cancelled"
        except Bad as error:
            outcome = "raise" if error.number == number else f"raise {error.number}"
        except safemp.WorkerCrashed as error:
            outcome = "crashed" if error.exitcode in (3, -9) else f"{error.exitcode}: {error}"
            if error.pid is None:
                outcome = "not run"
        else:
            outcome = "value"
            assert value == (number, bytes(call.size))
        allowed = {"ok": {"value"}, "stay": {"value"}, "raise": {"raise"}}.get(call.kind, {"crashed"})
        if (call.cancelled and not call.killed) or call.killed:
            allowed = {"cancelled"}
        elif self.killed:
            allowed = allowed | {"cancelled", "crashed", "not run"}
        assert outcome in allowed, (call, outcome)


SUBMITS = st.tuples(
    st.just("submit"),
    st.just(0),
    st.tuples(
        st.sampled_from(["ok", "ok", "ok", "raise", "crash", "kill", "stay"]),
        st.sampled_from([0, 10, 40_000, 200_000]),
    ),
)
OTHERS = st.tuples(st.sampled_from(["cancel", "cancel", "result", "kill"]), st.integers(0, 30), st.none()) | st.tuples(
    st.just("shutdown"), st.just(0), st.booleans()
)
ENDS = st.tuples(st.just("kill_workers"), st.just(0), st.none())

PROGRAMS = st.lists(SUBMITS | SUBMITS | SUBMITS | OTHERS, max_size=25)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    program=PROGRAMS,
    last=st.lists(ENDS, max_size=1),
    workers=st.integers(1, 3),
    recycle=st.sampled_from([None, None, 1, 2]),
)
def test_each_call_of_a_random_program_has_the_outcome_it_must_have(
    program: list[Any], last: list[Any], workers: int, recycle: int | None
) -> None:
    """A value, its own error, a crash or a cancellation: one that the model allows; and it ran once, or never."""
    with TemporaryDirectory() as folder:
        path = f"{folder}/runs"
        with safemp.SafeExecutor(workers, mp_context="fork", max_tasks_per_child=recycle) as executor:
            run = Run(executor, path)
            for step in program + last:
                run.step(*step)
            Path(f"{path}.release").touch()
            for call in run.calls:
                run.check(call)
        ran = Counter(Path(path).read_text().split()) if os.path.exists(path) else Counter()
        for number, call in enumerate(run.calls):
            runs = ran[str(number)]
            assert runs <= 1
            if call.cancelled and not call.killed:
                assert runs == 0
            elif not (call.killed or run.killed or call.cancelled):
                assert runs == 1
