"""What the caller's ``logging`` and ``warnings`` let pass, as plain bytes.

Read in the caller, set in the workers. So a ``debug()`` that is off costs a worker what
it costs the caller, and a warning that the caller ignores is never sent.

Rule 1: nothing is imported for it. A category of warnings goes by its name.
Rule 2: what a task has set itself stays, until the caller changes the same thing.
"""

from __future__ import annotations

import logging
import marshal
import re
import sys
import warnings
from itertools import count
from typing import Any

__all__ = ["Levels", "generation", "read"]

_MARK = "safemp"
_numbers = count(2)
_generation = 1
_filters: list[Any] = []
_get_filters = getattr(warnings, "_get_filters", None)
"""Of Python 3.14, where they can belong to a context."""

_Filter = tuple[str, Any, tuple[str, str], Any, int]


def generation() -> int:
    """Return a number that is another one when levels or filters have changed. Quick."""
    global _generation, _filters
    # Every change of a level clears the caches of all loggers, and a mark that we have
    # left in one of them.
    cache: dict[Any, Any] = getattr(logging.root, "_cache", {_MARK: True})
    filters = _current_filters()
    if _MARK in cache and filters == _filters:
        return _generation
    cache[_MARK] = True  # first: what changes while we read is read again
    _filters = list(filters)
    _generation = next(_numbers)
    return _generation


def _current_filters() -> list[Any]:
    return warnings.filters if _get_filters is None else _get_filters()  # type: ignore[return-value]


def read() -> bytes:
    """Return the levels and filters of this process, for ``Levels``."""
    manager = logging.root.manager
    levels = {"root": logging.root.level}
    for name, logger in manager.loggerDict.copy().items():
        if isinstance(logger, logging.Logger) and logger.level and type(name) is str:
            levels[name] = int(logger.level)
    filters = [plain for item in list(_current_filters()) if (plain := _plain(item)) is not None]
    return marshal.dumps((int(manager.disable), levels, filters), 4)


def _plain(item: Any) -> _Filter | None:
    """Write one filter down; ``None`` if it is none."""
    try:
        action, message, category, module, lineno = item
        return (
            str(action),
            _pattern(message),
            (category.__module__, category.__qualname__),
            _pattern(module),
            int(lineno),
        )
    except (TypeError, ValueError, AttributeError):
        return None


def _pattern(pattern: Any) -> str | tuple[str, int] | None:
    return pattern if pattern is None or type(pattern) is str else (str(pattern.pattern), int(pattern.flags))


class _Named(type):
    """A category of warnings that is known by its name."""

    def __subclasscheck__(cls, sub: type) -> bool:
        return any((base.__module__, base.__qualname__) == cls._names for base in sub.__mro__)  # type: ignore[attr-defined]


def _category(module: str, name: str) -> type:
    if module == "builtins":
        found = getattr(__import__("builtins"), name, None)
        if isinstance(found, type):
            return found
    return _Named(name, (Warning,), {"__module__": module, "_names": (module, name)})


class Levels:
    """Sets in a worker what ``read`` has found in the caller."""

    def __init__(self) -> None:
        self._disable = 0
        self._levels: dict[str, int] = {}
        self._filters: list[_Filter] | None = None

    def set(self, text: bytes) -> None:
        """Set what has changed since the last *text*."""
        disable, levels, filters = marshal.loads(text)
        if disable != self._disable:
            logging.disable(disable)
        for name in self._levels.keys() | levels.keys():
            level = levels.get(name, logging.NOTSET)
            if level != self._levels.get(name, logging.NOTSET):
                _set_level(name, level)
        if filters != self._filters:
            _set_filters(filters)
        self._disable, self._levels, self._filters = disable, levels, filters


class _Loggers(dict[str, Any]):
    """The loggers of this process by name; one that comes gets its level.

    None is made for that before: a library may have a class of its own for its logger.
    """

    def __init__(self, loggers: dict[str, Any]) -> None:
        super().__init__(loggers)
        self.expected: dict[str, int] = {}

    def __setitem__(self, name: str, logger: Any) -> None:
        if name in self.expected and isinstance(logger, logging.Logger):
            logger.level = self.expected.pop(name)
        super().__setitem__(name, logger)


def _set_level(name: str, level: int) -> None:
    manager = logging.root.manager
    logger = logging.root if name == logging.root.name else manager.loggerDict.get(name)
    if isinstance(logger, logging.Logger):
        logger.setLevel(level)
        return
    if not isinstance(manager.loggerDict, _Loggers):
        manager.loggerDict = _Loggers(manager.loggerDict)
    manager.loggerDict.expected[name] = level


def _set_filters(filters: list[_Filter]) -> None:
    made: list[Any] = []
    for action, message, category, module, lineno in filters:
        made.append((action, _compiled(message), _category(*category), _compiled(module), lineno))
        if module == "__main__" and "__mp_main__" in sys.modules:  # the script, as it is called here
            made.append((action, _compiled(message), _category(*category), "__mp_main__", lineno))
    warnings.resetwarnings()
    _current_filters().extend(made)


def _compiled(pattern: str | tuple[str, int] | None) -> Any:
    return re.compile(*pattern) if isinstance(pattern, tuple) else pattern
