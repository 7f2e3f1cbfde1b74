"""What the caller keeps of each worker from its start, to be able to say how it ended."""

from __future__ import annotations

from typing import Any

from safemp.engines import memory, stacks, system
from safemp.engines.blackbox import FATAL, Box
from safemp.engines.memory import size
from safemp.engines.report import Report

__all__ = ["PostMortem"]

_oom_kills = memory.OomKills()


class PostMortem:
    """The black box of one worker, and how things stood when it was started.

    Args:
        oom_kills: Where the kernel's kills are counted.

    Raises:
        OSError: There is no descriptor or memory to be had.
    """

    def __init__(self, oom_kills: memory.OomKills = _oom_kills) -> None:
        self.box: Box = Box()
        self._oom_kills = oom_kills
        self._killed_before = oom_kills.count()
        self._floor = 0
        self._peak: int | None = None

    def started(self, method: str) -> None:
        """Say that the process has been started, in this or that way.

        A process that replaces its program keeps the peak of the old one, and until then it
        had our memory. So one that is not above ours says nothing. (The kernel counts a
        little inexactly.)
        """
        self._floor = 0 if method in ("fork", "template") else int(1.02 * memory.own_peak())

    def reap(self, process: Any) -> int | None:
        """Return the exit code of the ended process; ``None`` if somebody else took it."""
        code, peak = memory.reap(process)
        self._peak = peak if peak is not None and peak > self._floor else None
        return code

    def report(self, pid: int, exitcode: int | None, *, ours: bool, asked: bool) -> Report:
        """Say what is known of the process. Once it is reaped.

        Args:
            pid: Its id.
            exitcode: What ``reap`` gave.
            ours: Whether we have killed it.
            asked: Whether it was asked for its stack, because of what it is killed for.

        Returns:
            A report without the call.
        """
        stack = self.box.fatal_stack() if exitcode in FATAL else self.box.dump() if asked else ""
        reason = "" if ours or exitcode != -system.KILL else self._want_of_memory()
        return Report(
            pid=pid,
            exitcode=exitcode,
            stack=stacks.clean(stack),
            stderr=self.box.stderr(),
            peak_memory=self._peak,
            out_of_memory=bool(reason),
            reason=reason,
        )

    def _want_of_memory(self) -> str:
        """Return what speaks for it; nothing does: nothing."""
        if self._oom_kills.claim(self._killed_before):
            return "the kernel has killed a process of this control group for want of memory"
        most = memory.limit(self._oom_kills.root)
        if self._peak is not None and most is not None and memory.is_near(self._peak, most):
            return f"it had {size(self._peak)}; the {most.of} has {size(most.bytes)} in all"
        return ""

    def close(self) -> None:
        """Give back what was held."""
        self.box.close()
