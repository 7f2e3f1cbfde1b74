"""When each thing happened in a pool: written down with ``trace=``, and only then.

The dispatcher says what has come, and a worker does its tasks one after another. So what
came first began when the worker got it, or when the one before it was over: no worker has to
tell times. Items of which several came at once share the time since then.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from safemp.codec import calls
from safemp.engines import Outcome, Task

__all__ = ["Recorder", "Span", "Timeline"]

_MOST = 500_000
"""Spans that are kept: some 100 MB. What comes later is counted."""

_MOST_ERRORS = 100


class Span(NamedTuple):
    """What a worker was at for a while.

    Attributes:
        pid: The worker's process id.
        name: The function's name.
        first: For a map, the index of the first item; else ``None``.
        calls: How many items, one after another.
        begin: Seconds since the pool was made.
        seconds: How long it took.
        failures: How many of the items have failed.
    """

    pid: int
    name: str
    first: int | None
    calls: int
    begin: float
    seconds: float
    failures: int

    @property
    def label(self) -> str:
        """The function's name, for a map with its items."""
        if self.first is None:
            return self.name
        items = str(self.first) if self.calls == 1 else f"{self.first}:{self.first + self.calls}"
        return f"{self.name}, items[{items}]"


@dataclass(frozen=True, slots=True)
class Timeline:
    """What was written down until now. Times are seconds since the pool was made.

    Attributes:
        caller: The process id of the pool's owner.
        spans: What workers were at, in the order in which it came to an end.
        encoded: When pickling ended and what it took, with the call's name.
        waiting: How many tasks were waiting, and when that was seen.
        workers: Starts (``"started"``, ``"ready"``) and ends (``"ended"``, and how), by process id.
        errors: What failed calls raised: label and text, the first hundred.
        lost: Spans that were too many to be kept.
    """

    caller: int
    spans: tuple[Span, ...]
    encoded: tuple[tuple[float, float, str], ...]
    waiting: tuple[tuple[float, int], ...]
    workers: tuple[tuple[float, int, str], ...]
    errors: tuple[tuple[str, str], ...]
    lost: int

    def longest(self, most: int = 10) -> list[Span]:
        """Return the spans that took longest for each of their items, the longest first."""
        return sorted(self.spans, key=lambda span: span.seconds / span.calls, reverse=True)[:most]

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what Chrome's trace format wants: for Perfetto, ``chrome://tracing``, speedscope."""
        caller = {"pid": self.caller, "tid": self.caller}
        yield {"ph": "M", "name": "process_name", **caller, "args": {"name": "caller"}}
        yield {"ph": "M", "name": "thread_name", **caller, "args": {"name": "pickling"}}
        for at, seconds, name in self.encoded:
            yield {"ph": "X", "cat": "pickling", "name": name, **caller, **_when(at - seconds, seconds)}
        for at, count in self.waiting:
            yield {"ph": "C", "name": "waiting tasks", **caller, "ts": _micro(at), "args": {"tasks": count}}
        for pid in dict.fromkeys(pid for _, pid, _ in self.workers):
            yield {"ph": "M", "name": "process_name", "pid": pid, "tid": pid, "args": {"name": "worker"}}
            yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": pid, "args": {"name": "tasks"}}
        for at, pid, what in self.workers:
            yield {"ph": "i", "s": "p", "cat": "worker", "name": what, "pid": pid, "tid": pid, "ts": _micro(at)}
        for span in self.spans:
            args: dict[str, Any] = {"calls": span.calls, "failed": span.failures}
            if span.first is not None:
                args["first item"] = span.first
            yield {
                "ph": "X",
                "cat": "failed" if span.failures else "task",
                "name": span.name,
                "pid": span.pid,
                "tid": span.pid,
                **_when(span.begin, span.seconds),
                "args": args,
            }

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the events to a file, as JSON.

        Raises:
            OSError: It cannot be written.
        """
        with open(path, "w", encoding="utf-8") as file:
            file.write('{"displayTimeUnit": "ms", "traceEvents": [\n')
            for i, event in enumerate(self.events()):
                file.write(",\n" * bool(i) + json.dumps(event))
            file.write("\n]}\n")


class Recorder:
    """Writes down what the dispatcher says, under its lock.

    Args:
        now: When the pool was made.
    """

    def __init__(self, now: float) -> None:
        self._made = now
        self._caller = os.getpid()
        self._spans: list[Span] = []
        self._encoded: list[tuple[float, float, str]] = []
        self._waiting: list[tuple[float, int]] = []
        self._workers: list[tuple[float, int, str]] = []
        self._errors: list[tuple[str, Outcome]] = []
        self._free: dict[int, float] = {}  # since when each worker may have been at what comes next
        self._come: list[tuple[Task, int, int, int]] = []
        self._lost = 0

    def worker(self, pid: int, what: str, now: float) -> None:
        """Write down that a worker was started, is ready, or has ended."""
        self._workers.append((now - self._made, pid, what))
        if what.startswith("ended"):
            self._free.pop(pid, None)

    def submitted(self, task: Task, waiting: int) -> None:
        """Write down that a task was pickled and submitted."""
        if task.made and len(self._encoded) < _MOST:
            self._encoded.append((task.made - self._made, task.encoding, task.name))
            self._waiting.append((task.made - self._made, waiting))

    def given(self, pid: int, waiting: int, now: float) -> None:
        """Write down that a worker that was idle has got work."""
        self._free[pid] = now
        self._looked(waiting, now)

    def come(self, task: Task, index: int, n: int, failure: Outcome) -> None:
        """Write down that items of a task are over. Say so of all before ``took``.

        Args:
            task: It.
            index: The first of the items.
            n: How many.
            failure: The outcome, of one that has failed.
        """
        bad = failure is not None
        if bad and len(self._errors) < _MOST_ERRORS:
            self._errors.append((self._span(0, task, index, 1, 0.0, 0.0, 1).label, failure))
        if self._come:
            last, first, count, failures = self._come[-1]
            if last is task and first + count == index and not failures and not bad:
                self._come[-1] = task, first, count + n, 0
                return
        self._come.append((task, index, n, int(bad)))

    def took(self, pid: int, busy: float, waiting: int, now: float) -> None:
        """Write down that what has ``come`` was a worker's, which was at it for *busy* seconds, if known."""
        if not self._come:
            return
        begin = self._free.get(pid, now)
        if busy:
            begin = max(begin, now - busy)
        each = (now - begin) / (sum(count for _, _, count, _ in self._come) or 1)
        for task, first, count, failures in self._come:
            if len(self._spans) < _MOST:
                self._spans.append(self._span(pid, task, first, count, begin, each * count, failures))
            else:
                self._lost += 1
            begin += each * count
        self._come.clear()
        self._free[pid] = now
        self._looked(waiting, now)

    def _span(self, pid: int, task: Task, index: int, n: int, begin: float, seconds: float, failures: int) -> Span:
        first = task.first + index if task.is_chunk else None
        return Span(pid, task.name, first, n, begin - self._made, seconds, failures)

    def _looked(self, waiting: int, now: float) -> None:
        if (not self._waiting or self._waiting[-1][1] != waiting) and len(self._waiting) < _MOST:
            self._waiting.append((now - self._made, waiting))

    def timeline(self) -> Timeline:
        """Return what is there by now."""
        return Timeline(
            self._caller,
            tuple(self._spans),
            tuple(self._encoded),
            tuple(self._waiting),
            tuple(self._workers),
            tuple((label, calls.error_line(outcome)) for label, outcome in self._errors),
            self._lost,
        )


def _micro(seconds: float) -> float:
    return round(1e6 * seconds, 3)


def _when(begin: float, seconds: float) -> dict[str, float]:
    return {"ts": _micro(begin), "dur": _micro(seconds)}
