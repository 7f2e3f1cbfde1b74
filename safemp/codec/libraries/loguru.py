"""loguru: its logger travels with its sinks; one that writes to a file appends to the same file.

A logger whose sinks were added with ``enqueue=True`` needs no rule: loguru itself sends
those through a queue, where a starting process inherits it.
"""

from __future__ import annotations

import copyreg
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]


def _file_sink(sink: Any) -> Any:
    if sink._rotation_function or sink._retention_function or sink._compression_function:
        raise RefusedError(
            "cannot pickle a file of loguru that is rotated: two processes that rotate one file lose records",
            "logger.add(path, enqueue=True, ...), and the logger in initargs=; or logger.add() in an initializer",
        )
    options = sink._kwargs | {"mode": sink._kwargs["mode"].replace("w", "a")}
    fresh = {"_file": None, "_file_dev": -1, "_file_ino": -1, "_kwargs": options}
    return _newobj, (type(sink),), sink.__dict__ | fresh


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "the copy appends to the same file, which it opens when it first has something to write"
    return {loaded("loguru._file_sink", "FileSink"): Repair(RECONSTRUCT, why, _file_sink)}
