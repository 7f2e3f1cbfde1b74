"""Classes that are known by name, found as soon as their modules are loaded.

Recognised by identity, through ``sys.modules``: a class may lie about its name. A module
that is not loaded has no instances, so none is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable

__all__ = ["KnownClasses", "Name"]

Name = tuple[str, str]


class KnownClasses:
    """A set of classes, and all that are derived from them.

    Asked once per type and pickle, so it looks the names up only when modules came or
    went.

    Args:
        names: ``(module, name)`` of each.
    """

    def __init__(self, names: Iterable[Name]) -> None:
        self._names = tuple(names)
        self._seen = (0, "")
        self._classes: dict[object, Name] = {}

    def name_of(self, cls: type) -> Name | None:
        """Return the name of the nearest base of *cls* that is known; ``None``: there is none."""
        modules = sys.modules
        seen = len(modules), next(reversed(modules), "")
        if seen != self._seen:
            self._look_up(seen)
        if self._classes.keys().isdisjoint(cls.__mro__):
            return None
        return next(self._classes[base] for base in cls.__mro__ if base in self._classes)

    def _look_up(self, seen: tuple[int, str]) -> None:
        loaded = [name for name in self._names if name[0] in sys.modules]
        found = {getattr(sys.modules.get(module), name, None): (module, name) for module, name in loaded}
        if found.pop(None, None) is None:
            self._seen = seen
        # else a module is being imported at this moment, or has been mutilated: look again
        self._classes = found
