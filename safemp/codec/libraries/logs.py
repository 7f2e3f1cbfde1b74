"""``logging``: loggers go by name, handlers without what they have open."""

from __future__ import annotations

import copyreg
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]
_FORWARDED = "send the logger, which goes by name: a pool hands its workers' records to this process's logging"


def _logger(logger: Any) -> Any:
    """One that logging does not know (made by ``Logger()``) has no name to go by."""
    cls: Any = type(logger)
    known = logger.manager.loggerDict.get(logger.name)
    own = cls.__reduce_ex__ is not object.__reduce_ex__ or cls.__reduce__ is not loaded("logging", "Logger").__reduce__
    if known is logger or logger is logger.manager.root or own:
        return logger.__reduce_ex__(5)
    return _newobj, (cls,), {k: v for k, v in logger.__dict__.items() if k != "_cache"} | {"_cache": {}}


def _by_name(reduced: Any) -> bool:
    return reduced[0] is not _newobj


def _file_handler(handler: Any) -> Any:
    state = handler.__dict__ | {"stream": None, "delay": True, "mode": handler.mode.replace("w", "a")}
    state.pop("dev", None), state.pop("ino", None)
    if "dev" in handler.__dict__:
        state |= {"dev": -1, "ino": -1}
    return _newobj, (type(handler),), state


def _rotating(handler: Any) -> Any:
    raise RefusedError("cannot pickle a rotating handler: two processes that rotate one file lose records", _FORWARDED)


def _queue_handler(handler: Any) -> Any:
    raise RefusedError("cannot pickle a QueueHandler: nobody would read the copy of its queue", _FORWARDED)


def _listener(listener: Any) -> Any:
    raise RefusedError("cannot pickle a QueueListener: it has a thread of this process", _FORWARDED)


def _socket_handler(handler: Any) -> Any:
    return _newobj, (type(handler),), handler.__dict__ | {"sock": None, "retryTime": None}


def table() -> dict[type, Repair]:
    """Return the rules."""
    again = "the copy appends to the same file, which it opens when it first has something to write"
    rules = {
        loaded("logging", "Logger"): Repair(
            RECONSTRUCT,
            "logging does not know it under its name, so its level, handlers and filters travel",
            _logger,
            family=True,
            plain=_by_name,
        ),
        loaded("logging", "FileHandler"): Repair(RECONSTRUCT, again, _file_handler, family=True),
        loaded("logging.handlers", "BaseRotatingHandler"): Repair(RECONSTRUCT, "", _rotating, family=True),
        loaded("logging.handlers", "QueueHandler"): Repair(RECONSTRUCT, "", _queue_handler, family=True),
        loaded("logging.handlers", "QueueListener"): Repair(RECONSTRUCT, "", _listener, family=True),
        loaded("logging.handlers", "SocketHandler"): Repair(
            RECONSTRUCT, "the copy connects when it first has something to send", _socket_handler, family=True
        ),
    }
    return {cls: rule for cls, rule in rules.items() if cls is not None}
