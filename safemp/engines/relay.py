"""What a worker has logged, warned of or printed, said again in the caller.

All of it may run user code: handlers, filters, streams.
"""

from __future__ import annotations

import io
import logging
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

__all__ = ["Printer", "is_writing", "log", "warn"]

_STREAMS = 8
"""Streams of which is remembered who wrote last. There are two at a time."""


def log(said: dict[str, Any], name: str, item: int | None) -> None:
    """Have a record handled by the logger of its name.

    Args:
        said: Its attributes.
        name: Of the task's function; "" if none was running.
        item: The index of its item, for a map.
    """
    record = logging.makeLogRecord({})
    # Since this process began to log: the worker's own count would begin with it.
    record.relativeCreated += (said["created"] - record.created) * 1000
    record.safemp_task, record.safemp_item = name, item
    record.__dict__.update(said)  # of a pool in a worker: with the names that it has given
    if record.levelname == f"Level {record.levelno}":
        record.levelname = logging.getLevelName(record.levelno)  # as this program calls it
    if record.levelno > logging.root.manager.disable:
        logging.getLogger(record.name).handle(record)


_registries: dict[str, dict[Any, Any]] = {}
"""Which warnings were shown, for modules that this process has not imported."""


def warn(text: str, names: list[tuple[str, str]], filename: str, lineno: int, module: str) -> None:
    """Warn as if it had been here: filters, and once for each place, as this process wants it."""
    known = sys.modules.get(module)
    home = _registries.setdefault(module, {}) if known is None else known.__dict__
    registry = home.setdefault("__warningregistry__", {})
    for category in _categories(names):
        try:
            message = category(text)
        except Exception:  # user code: a constructor that wants something else
            continue
        try:
            warnings.warn_explicit(message, category, filename, lineno, module, registry)
        except Warning:  # an error here by now, which it was not where it happened
            warnings.showwarning(message, category, filename, lineno)
        return


def _categories(names: list[tuple[str, str]]) -> list[type[Warning]]:
    """Return the category and its bases as far as this process has them."""
    found: list[type[Warning]] = []
    for module, name in names:
        one: Any = sys.modules.get(module)
        for part in name.split("."):
            one = getattr(one, part, None)
        if isinstance(one, type) and issubclass(one, Warning):
            found.append(one)
    return found


class Printer:
    """Writes what workers print.

    Args:
        writing: Told when we begin and end to write to a file, which may keep us.
    """

    def __init__(self, writing: Callable[[bool], None]) -> None:
        self._writing = writing
        self._failed: Any = None
        self._last: dict[int, tuple[object, bool]] = {}

    def print(self, stream: Any, source: object, text: str) -> None:
        """Write *text*, lines as a rule, to *stream*; two sources never share a line.

        Raises:
            OSError: Nobody reads the stream. Then it is not written to again.
            ValueError: It is closed. The same.
        """
        if not text or stream is None or stream is self._failed:
            return
        if len(self._last) > _STREAMS:
            self._last.clear()
        last, open_line = self._last.get(id(stream), (None, False))
        if open_line and last is not source:
            text = "\n" + text
        self._last[id(stream)] = source, text[-1] not in "\r\n"
        self._writing(type(stream) is io.TextIOWrapper)
        try:
            try:
                stream.write(text)
            except UnicodeEncodeError:
                encoding = getattr(stream, "encoding", None) or "ascii"
                stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            stream.flush()
        except (OSError, ValueError):  # nobody reads it any more, or it is closed: that is said once
            self._failed = stream
            raise
        finally:
            self._writing(False)


def is_writing(thread: threading.Thread) -> bool:
    """Tell whether *thread* is within a write to a file: a pager that stands still loses nothing."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return False
    code = frame.f_code
    return code.co_filename in (logging.__file__, __file__) and code.co_name in ("emit", "flush", "print")
