"""A worker's log records, warnings and output, on their way to the caller.

What is sent is made of builtins only, in the task's own thread, and is written to the
stream before the call that logged it returns. So it is there when the task crashes
right after it, and it comes before the task's outcome.

Rule 1: nothing of ours raises into the task. What cannot be formatted is reported by
``logging`` on stderr, as anywhere.
Rule 2: handlers that are there when the worker starts are the caller's own, by fork or
since its main was imported; the caller's own copy of them will be called, so they are set
aside. Those that the initializer or a task adds are obeyed: a record that has a handler
here is not sent.
Rule 3: a task that logs faster than the caller handles it waits for it, as it would in
the caller's own process; but when nothing at all is handled for ``PATIENCE`` seconds, records
are counted instead of sent. No task hangs since a handler does.
"""

from __future__ import annotations

import functools
import logging
import marshal
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from safemp.engines.board import Notice
from safemp.engines.ledger import Ledger
from safemp.engines.levels import Levels
from safemp.engines.speaker import PART, Speaker
from safemp.engines.wire import Message

if TYPE_CHECKING:
    from safemp.engines.output import Captured

__all__ = ["FIRST", "LAST", "LOG", "LOGS", "OUTPUT", "OVERHEAD", "Forwarding", "What"]

LOG = 21
"""The kind of message; ref: what it is, and whether it is the first or last part of it;
items: the item's index; task: 0 when none is running."""

LOGS, OUTPUT = 1, 2
"""What is forwarded; in the message that starts a worker."""


class What:
    """What a message brings."""

    RECORD, WARNING, STDOUT, STDERR, DROPPED = range(5)


FIRST, LAST = 16, 32

WINDOW = 1 << 20
"""Bytes that one worker may have sent and the caller not handled. Picked."""

PATIENCE = 10.0

OVERHEAD = 100
"""Bytes that a message counts for beside what it carries. Picked."""

_SCALARS = (str, int, float, bool, type(None), bytes, complex)
_DEPTH = 8
_NOT_SENT = frozenset({"msg", "args", "exc_info", "relativeCreated", "message"})
"""Attributes of a record that are sent in another form, or that the caller knows better."""


class Forwarding:
    """What one worker forwards. One for each process.

    Args:
        what: ``LOGS``, ``OUTPUT`` or both.
        speaker: Where it goes.
        ledger: Says which task is running.
        notice: What the caller lets pass, and how much it has handled.
    """

    def __init__(self, what: int, speaker: Speaker, ledger: Ledger, notice: Notice) -> None:
        self._speaker = speaker
        self._ledger = ledger
        self._notice = notice
        self._counting = threading.RLock()
        self._sent = 0
        self._dropped = 0
        self._given_up_at = -1
        self._levels = Levels() if what & LOGS else None
        self._captured: list[Captured] = []
        if what & LOGS:
            self._sink = _Sink()
            self._take_over()
        if what & OUTPUT:
            from safemp.engines.output import Captured

            self._captured = [
                Captured("stdout", lambda text: self._post(What.STDOUT, text), speaker),
                Captured("stderr", lambda text: self._post(What.STDERR, text), speaker),
            ]
        self.refresh()

    def refresh(self) -> None:
        """Learn what the caller lets pass now."""
        if self._levels is not None and (text := self._notice.news()) is not None:
            self._levels.set(text)

    def flush(self) -> None:
        """Send what was printed without an end of line, and how much was not sent."""
        for captured in self._captured:
            captured.flush_quietly()
        if self._dropped and self._notice.handled() != self._given_up_at:
            self._say(self._parts_of_dropped())

    def _take_over(self) -> None:
        loggers = [logging.root, *logging.root.manager.loggerDict.values()]
        for logger in loggers:
            if isinstance(logger, logging.Logger):
                _aside.append((logger.handlers[:], logger.filters[:]))
                logger.handlers.clear()
                logger.filters.clear()
                logger.propagate = True
        original = logging.Logger.callHandlers

        def call_handlers(logger: logging.Logger, record: logging.LogRecord) -> None:
            """Call the handlers that were added here; if there are none, the caller's."""
            if _has_handler(logger) or not self._speaker.ours:
                original(logger, record)
            else:
                self._record(record)

        # In the stead of a handler: ``basicConfig`` and its like look for those.
        logging.Logger.callHandlers = call_handlers  # type: ignore[assignment, method-assign]
        configure = logging.basicConfig

        @functools.wraps(configure)
        def basic_config(**kwargs: Any) -> None:
            """Configure, unless it is ``logging.info`` that does it because there is no handler."""
            if sys._getframe(1).f_globals is not logging.__dict__ or not self._speaker.ours:
                configure(**kwargs)

        logging.basicConfig = basic_config
        show = getattr(warnings, "_showwarning_orig", warnings.showwarning)

        def show_warning(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: Any = None,
            line: Any = None,
        ) -> None:
            """Show a warning where the caller shows its own."""
            if file is not None or not self._speaker.ours or not self._warning(message, category, filename, lineno):
                show(message, category, filename, lineno, file, line)

        warnings.showwarning = show_warning

    # -- what is sent -----------------------------------------------------------------

    def _record(self, record: logging.LogRecord) -> None:
        try:
            body = marshal.dumps(_plain_record(record, self._sink.exception), 4)
        except RecursionError:  # as in ``logging``
            raise
        except Exception:  # a format that does not fit its arguments; a __str__ that raises
            self._sink.handleError(record)
        else:
            self._post(What.RECORD, body)

    def _warning(self, message: Warning | str, category: type[Warning], filename: str, lineno: int) -> bool:
        try:
            bases = [base for base in category.__mro__ if issubclass(base, Warning)]
            names = [(_as_at_home(base.__module__), base.__qualname__) for base in bases]
            said = (str(message), names, str(filename), int(lineno), _module_of(filename, lineno))
            body = marshal.dumps(said, 4)
        except Exception:  # user code, in __str__
            return False
        self._post(What.WARNING, body)
        return True

    def _post(self, what: int, body: bytes) -> None:
        parts = self._parts(what, body)
        size = sum(len(part.frames[0]) + OVERHEAD for part in parts)
        if not self._may_send(size):
            self._dropped += 1
            return
        if self._say([*self._parts_of_dropped(), *parts]):
            with self._counting:
                self._sent += size  # after: what an exception has kept from going does not count

    def _say(self, parts: list[Message]) -> bool:
        try:
            self._speaker.say(*parts)
        except OSError:  # the caller is gone; so are we, in a moment
            return False
        return True

    def _parts_of_dropped(self) -> list[Message]:
        dropped, self._dropped = self._dropped, 0
        return self._parts(What.DROPPED, b"%d" % dropped) if dropped else []

    def _parts(self, what: int, body: bytes) -> list[Message]:
        task, item = self._ledger.at()
        parts = [body[i : i + PART] for i in range(0, len(body), PART)]
        messages = []
        for i, part in enumerate(parts):
            ref = what | (FIRST if i == 0 else 0) | (LAST if i == len(parts) - 1 else 0)
            messages.append(Message(LOG, item, ref, task, [part]))
        return messages

    def _may_send(self, size: int) -> bool:
        """Wait until the caller has handled enough (Rule 3); tell whether it has."""
        handled = self._notice.handled()
        if handled is None or self._sent - handled + size <= WINDOW or handled >= self._sent:
            return True
        if handled == self._given_up_at:
            return False
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            time.sleep(0.002)
            now = self._notice.handled()
            assert now is not None
            if self._sent - now + size <= WINDOW or now >= self._sent:
                return True
            if now != handled or self._notice.writing():  # a pager that stands still is no reason to drop
                handled, deadline = now, time.monotonic() + PATIENCE
        self._given_up_at = handled
        return False


_aside: list[tuple[list[Any], list[Any]]] = []
"""Handlers that are the caller's. Kept, since the end of one might close or flush something."""


def _has_handler(logger: logging.Logger) -> bool:
    current: logging.Logger | None = logger
    while current is not None:
        for handler in current.handlers:
            if not isinstance(handler, logging.NullHandler):
                return True
        current = current.parent if current.propagate else None
    return False


class _Sink(logging.Handler):
    """Reports what cannot be logged; formats exceptions."""

    def __init__(self) -> None:
        super().__init__()
        self.exception: Callable[[Any], str] = logging.Formatter().formatException


def _plain_record(record: logging.LogRecord, exception: Callable[[Any], str]) -> dict[str, Any]:
    """Write a record down in builtins. Runs user code: ``__str__`` of its arguments."""
    message = record.getMessage()
    said: dict[str, Any] = {}
    for name, value in record.__dict__.items():
        if name not in _NOT_SENT and type(name) is str and _is_plain(value):
            said[name] = value
    msg, args = record.msg, record.args
    # Handlers group records by their format, or log what a dict holds: sent where it makes the same text.
    if _is_plain(msg) and (not args or _is_plain(args)):
        said["msg"], said["args"] = msg, args
    else:
        said["msg"], said["args"] = message, None
    info = record.exc_info
    if isinstance(info, tuple) and info[0] is not None and not record.exc_text:
        said["exc_text"] = exception(info)
    return said


def _is_plain(value: Any, depth: int = _DEPTH) -> bool:
    """Tell whether *value* is made of builtins and nothing else."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth and kind in (tuple, list, set, frozenset):
        return all(_is_plain(one, depth - 1) for one in value)
    if depth and kind is dict:
        return all(_is_plain(k, 0) and _is_plain(v, depth - 1) for k, v in value.items())
    return False


def _module_of(filename: str, lineno: int) -> str:
    """Name the module that is warned about: that of the frame at this place."""
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_lineno == lineno and frame.f_code.co_filename == filename:
            return _as_at_home(str(frame.f_globals.get("__name__")))
        frame = frame.f_back  # type: ignore[assignment]
    return os.path.splitext(filename)[0]  # as ``warnings`` does


def _as_at_home(module: str) -> str:
    """Name *module* as the caller does: under spawn its script is ``__mp_main__`` here."""
    return "__main__" if module == "__mp_main__" else module
