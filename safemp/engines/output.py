"""``sys.stdout`` and ``sys.stderr`` of a worker whose output goes to its caller.

What Python code writes to them is sent a line at a time. What C code and child
processes write to descriptors 1 and 2 goes where it always went.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

from safemp.engines import blackbox
from safemp.engines.speaker import Speaker

__all__ = ["Captured"]

_MOST = 1 << 16
"""Bytes of a line that are kept until its end comes."""


class Captured(io.BufferedIOBase):
    """The bytes below one text stream of ``sys``, which it replaces.

    Args:
        name: ``stdout`` or ``stderr``.
        send: Takes some bytes, whole lines as a rule.
        speaker: Says whether this is still the process that may send.
    """

    def __init__(self, name: str, send: Callable[[bytes], None], speaker: Speaker) -> None:
        self.name: str = f"<{name}>"
        self.mode = "wb"
        self._send = send
        self._speaker = speaker
        self._original: Any = getattr(sys, name)
        self._pending = bytearray()
        self._text = io.TextIOWrapper(self, "utf-8", "backslashreplace", newline="", line_buffering=True)
        if name == "stderr":
            blackbox.hear(self._text)
        setattr(sys, name, self._text)

    def writable(self) -> bool:
        """Return ``True``."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the stream that was replaced, for child processes."""
        if self._original is None:
            raise io.UnsupportedOperation("fileno")
        return int(self._original.fileno())

    def write(self, data: Any) -> int:
        """Take *data*; send it when somebody flushes, or when it is much."""
        view = memoryview(data)
        self._pending += view
        if len(self._pending) > _MOST:
            self.flush()
        return view.nbytes

    def flush(self) -> None:
        """Send what was written."""
        pending = getattr(self, "_pending", None)
        if not pending:
            return
        data = bytes(pending)
        del pending[: len(data)]
        if self._speaker.ours:
            self._send(data)
        elif self._original is not None:  # in a process that a task has forked
            self._original.write(data.decode("utf-8", "backslashreplace"))
            self._original.flush()

    def flush_quietly(self) -> None:
        """Send what was written, also to the text stream above us."""
        try:
            self._text.flush()
        except ValueError:  # the task has closed it
            pass
