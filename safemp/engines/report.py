"""What is known of a task that ended with its process, and how it is told to people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby

from safemp.engines.memory import size
from safemp.engines.stacks import told
from safemp.engines.system import signal_name

__all__ = ["Report", "how_it_ended"]

_FRAMES = 12
"""Lines of the stack that a message shows. Picked, as are the next three."""

_REPEATS = 3
_LINES = 5
_WIDTH = 160

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|.)")
"""What turns text red on a terminal, and the like (ECMA-48: CSI, OSC and single characters)."""


def how_it_ended(exitcode: int | None) -> str:
    """Say it in words: ``was killed by signal 11 (SIGSEGV)``, ``exited with code 3``."""
    if exitcode is None:
        return "ended in an unknown way"
    if exitcode < 0:
        return f"was killed by signal {-exitcode} ({signal_name(-exitcode)})"
    return f"exited with code {exitcode}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What is known of a task that ended with its process.

    Attributes:
        call: The call: its function's name.
        arguments: Its arguments in short, as they are written in a call; "" if not known.
        item: For a map, the index of the item in the user's iterable; else ``None``.
        pid: The worker's process id; ``None`` when none was started.
        exitcode: As ``multiprocessing.Process.exitcode``: negative for a signal.
        stack: The Python stack of each thread at the end, the thread that crashed first; "" if
            it left none.
        stderr: The last that it wrote to ``sys.stderr``, at most 4 KiB.
        peak_memory: The most bytes that it had resident; ``None`` if not known.
        out_of_memory: Whether it was probably killed for want of memory.
        reason: What speaks for that, in words.
        tries: How often the call has run, this time included.
        poison: It has ended too many workers to be tried again.
    """

    call: str = ""
    arguments: str = ""
    item: int | None = None
    pid: int | None = None
    exitcode: int | None = None
    stack: str = ""
    stderr: str = ""
    peak_memory: int | None = None
    out_of_memory: bool = False
    reason: str = ""
    tries: int = 1
    poison: bool = False

    @property
    def where(self) -> str:
        """The call in words: ``mod.fn for items[3]``."""
        return self.call if self.item is None else f"{self.call} for items[{self.item}]"

    def crash(self) -> str:
        """Return the first line for a process that has ended by itself."""
        probably = ", probably out of memory," if self.out_of_memory else ""
        return f"worker {self.pid} {how_it_ended(self.exitcode)}{probably} while it ran {self.where}"

    def text(self, first: str) -> str:
        """Return all of it for people, below *first*, a line that stands alone."""
        lines = [first]
        if self.arguments:
            lines.append(f"  call:   {self.call}{self.arguments}")
        if self.tries > 1:
            why = "; each has ended a worker, so there is no other" if self.poison else ", of which this was the last"
            lines.append(f"  tries:  {self.tries}{why}")
        if self.reason:
            lines.append(f"  reason: {self.reason}")
        if self.out_of_memory:
            lines.append("  fix:    use fewer workers at a time (max_workers), or give each call less to hold")
        if self.peak_memory is not None:
            lines.append(f"  memory: {size(self.peak_memory)} at its peak")
        title, frames = told(self.stack)
        frames = _counted(frames)
        if frames:
            lines.append(f"  stack:  {title}")
            lines += [f"    {frame}" for frame in frames[:_FRAMES]]
            if len(frames) > _FRAMES:
                lines.append(f"    … {len(frames) - _FRAMES} more")
        said = _on_a_terminal(self.stderr)
        if said:
            lines.append("  stderr: the worker's last lines")
            lines += [f"    {line[:_WIDTH]}{'…' if len(line) > _WIDTH else ''}" for line in said[-_LINES:]]
        return "\n".join(lines)


def _counted(frames: list[str]) -> list[str]:
    """Say once what stands there often, as tracebacks do of a deep recursion."""
    lines = []
    for frame, same in groupby(frames):
        times = len(list(same))
        lines += [frame] * min(times, _REPEATS)
        if times > _REPEATS:
            lines.append(f"[the same {times - _REPEATS} more times]")
    return lines


def _on_a_terminal(text: str) -> list[str]:
    """Return the lines that a reader would have seen: of a progress bar, the last state."""
    seen = []
    for line in _ESCAPES.sub("", text).split("\n"):
        last = line.rstrip("\r").rpartition("\r")[2].rstrip()
        if last:
            seen.append("".join(c if c.isprintable() else " " for c in last))
    return seen
