"""The inline engine: the caller's own process is the worker.

For debugging (breakpoints work, nothing is concurrent) and as the honest fake in
tests: every frame is written and read as for a real worker.
"""

from __future__ import annotations

import os
import time
from contextlib import nullcontext
from typing import Any

from safemp import worker
from safemp.codec.frames import Frames, Kind, kind_of
from safemp.codec.repairs import ALL, Policy
from safemp.engines import Capabilities, Function, Outcome, Task, Tasks, failed
from safemp.engines.crash import again, initializer_failed
from safemp.engines.handover import Inheritance
from safemp.engines.stats import Counts, Stats

__all__ = ["InlineEngine"]


class InlineEngine:
    """Runs each task in ``submit``, in the thread that calls it."""

    name = "inline"
    capabilities: Capabilities = Capabilities(processes=False, lenient=True)
    max_workers = 1
    main_by_name = True
    policy: Policy = ALL

    def __init__(self, start: Frames | None = None, inherited: Inheritance | None = None) -> None:
        self._counts = Counts(time.monotonic())
        self._tally = self._counts.joined(os.getpid(), self._counts.made)
        self._closed = False
        self._broken: BaseException | None = None
        if start:
            with inherited.here() if inherited else nullcontext():
                outcome = worker.run(self.hold(start))
            if kind_of(outcome) not in (Kind.VALUE, Kind.UNSENDABLE):
                self._broken = initializer_failed(outcome)

    def submit(self, task: Task) -> None:
        """Run *task* now: see ``Engine``."""
        if self._broken is not None:
            raise again(self._broken)
        if self._closed:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if not task.begin():
            return
        self._counts.encoding += task.encoding
        self._counts.repairs += task.repairs
        pending: list[Task] = [task]
        while pending:
            each = pending.pop(0)
            since = time.monotonic()
            outcomes = _run(each)
            self._tally.busy += time.monotonic() - since
            if isinstance(outcomes[0], list) and kind_of(outcomes[0]) == Kind.NOT_LOADED:
                try:
                    mended = each.mend(outcomes[0])
                except Exception as error:  # user code, in __reduce__
                    mended = error
                if isinstance(mended, Tasks):
                    pending[:0] = mended.tasks
                else:
                    each.deliver_same(mended)
                continue
            each.done = each.count
            self._tally.calls += each.count
            self._tally.failures += sum(map(failed, outcomes))
            each.deliver(0, outcomes)

    def hold(self, frames: Frames) -> Frames:
        """Take a copy, of what is shared as well, since nothing maps it anew: see ``Engine``."""
        return [bytearray(frame) if isinstance(frame, memoryview) else frame for frame in frames]

    def stats(self) -> Stats:
        """Say what has happened until now."""
        return self._counts.told(time.monotonic(), {}, waiting=0, running=0)

    def close(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Take no more tasks: see ``Engine``."""
        self._closed = True

    def end_task(self, task: Task) -> bool:
        """Return ``False``: nothing is ever running."""
        return False

    def abandon(self, signal: int | None = None) -> None:
        """Take no more tasks: see ``Engine``."""
        self._closed = True

    def kill(self, signal: int) -> None:
        """Take no more tasks: nothing is ever running."""
        self._closed = True


def _run(task: Task) -> list[Outcome]:
    return [_copied(outcome) for outcome in _outcomes(task)]


def _copied(frames: Frames) -> Frames:
    """Part a result's buffers from the object that it was made of, as sending would."""
    return [*frames[:2], *map(bytearray, frames[2:])]


def _outcomes(task: Task) -> list[Frames]:
    shared = task.shared
    if not isinstance(shared, Function):
        return [worker.run(task.frames, shared.frames[0] if shared is not None else None)]
    found = worker.Kept(shared.frames).load(task.frames)
    if isinstance(found, list):
        return [found]
    fn, chunk = found
    keep: list[Any] = []
    outcomes = [worker.run_items(fn, chunk, i, i + 1, _no_row, keep)[1] for i in range(len(chunk.items))]
    keep.clear()
    return [outcome for outcome in outcomes if outcome is not None]


def _no_row(cls: type) -> None:
    """Have every outcome made by itself."""
