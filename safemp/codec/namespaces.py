"""The globals of functions that travel by value.

cloudpickle gives such a function fresh globals in every pickle, so ``global X`` in an
initializer, or a cache at the top of a script, would be forgotten at the next task.
Here a process keeps one namespace per by-value module of each caller, for its life.

Rule 1: what tasks put into a namespace stays there.
Rule 2: a global of the caller is set when it is first needed, and again only when the
caller's value has changed since (its pickle differs from the last one that was set).
Rule 3: in the process a module came from, its namespace is the module's own
``__dict__``, and nothing that comes back is ever set in it.
Rule 4: a function whose module can be imported uses that module's real globals.
Rule 5: what was offered (``offers``) is made when the module is asked for some of it that it
lacks, as pickle does; never in the place of what is there.
"""

from __future__ import annotations

import builtins
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, TypeAlias
from uuid import uuid4

__all__ = [
    "Group",
    "adopt",
    "adopt_that_of",
    "changes",
    "define",
    "get_global",
    "is_main",
    "key_of",
    "known_names",
    "main_is_shared",
    "make_what_was_offered",
    "module_globals",
    "offer",
    "open_module",
    "open_namespace",
    "origin",
    "share_main",
]

ORIGIN_ATTRS = ("__name__", "__package__", "__file__", "__path__")

_TOKEN = uuid4().hex
"""Names this process (and what it forks) as the origin of a namespace."""


class _Namespace:
    """One by-value module of one caller, as this process has it."""

    __slots__ = ("module", "stamps")

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.stamps: dict[str, tuple[int, int, int]] = {}


_received: dict[str, _Namespace] = {}
_keys: dict[int, str] = {}
"""``id(namespace dict) -> key``. The dicts live as long as the process."""
_changes = [0]
_adopting: list[bool] = [False]
_shared_main: list[bool] = [False]


def is_main(name: str | None) -> bool:
    """Tell whether *name* is the script: under spawn it is ``__mp_main__``."""
    return name in ("__main__", "__mp_main__")


def adopt() -> None:
    """Let the caller's ``__main__`` become this process's own ``__main__``.

    For worker processes only. Then ``import __main__``, ``typing.get_type_hints`` and
    a task's own use of pickle find the caller's names, as in a spawned child.
    """
    _adopting[0] = True


def adopt_that_of(key: str) -> None:
    """Let one caller's ``__main__`` be this process's own, until that of another is.

    For worker processes that somebody else keeps, which may have many callers. In the
    caller's own process, and in one that it forked, nothing changes.

    Args:
        key: What ``origin`` gave there for ``__main__``.
    """
    if key.endswith(_TOKEN):
        return
    _adopting[0] = True
    space = _received.get(key)
    if space is not None and sys.modules.get("__main__") is not space.module:
        sys.modules["__main__"] = sys.modules["__mp_main__"] = space.module


def share_main() -> None:
    """Say that ``__main__`` is the same script here and at the caller.

    For worker processes that were forked, or that have imported it (spawn).
    """
    _shared_main[0] = True


def main_is_shared() -> bool:
    """Tell whether ``share_main`` was called."""
    return _shared_main[0]


def origin(module: str) -> str:
    """Return the key under which *module* of this process is known elsewhere."""
    return f"{module}@{_TOKEN}"


def key_of(namespace: Mapping[str, Any]) -> str | None:
    """Return the key of a namespace that was received, or ``None``."""
    return _keys.get(id(namespace))


def known_names(key: str) -> Mapping[str, object]:
    """Return the names that the origin of *key* has defined here."""
    space = _received.get(key)
    return space.stamps if space is not None else {}


def open_module(key: str, attrs: Mapping[str, Any]) -> ModuleType:
    """Return the module of *key*: ours if we are its origin, else the received one."""
    name, _, token = key.rpartition("@")
    if token == _TOKEN:
        module = sys.modules.get(name)
        if module is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return module
    space = _received.get(key)
    if space is None:
        module = ModuleType(name)
        module.__dict__.update(attrs)
        module.__dict__["__builtins__"] = builtins
        space = _received[key] = _Namespace(module)
        _keys[id(module.__dict__)] = key
        if is_main(name):
            if _adopting[0]:
                sys.modules["__main__"] = sys.modules["__mp_main__"] = module
        else:
            # It exists only at its origin; where it can be imported too, the
            # imported one keeps its place.
            sys.modules.setdefault(name, module)
    return space.module


def open_namespace(key: str, attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the globals dict of *key*."""
    return open_module(key, attrs).__dict__


def module_globals(name: str) -> dict[str, Any]:
    """Import *name* and return its globals: the namespace of Rule 4."""
    import_module(name)
    return sys.modules[name].__dict__


def get_global(key: str, qualname: str) -> Any:
    """Return the object of dotted name *qualname* in the module of *key*."""
    found: Any = open_module(key, {})
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def changes() -> int:
    """Return how often a namespace here has been defined into."""
    return _changes[0]


Group: TypeAlias = tuple[str, tuple[str, ...], bytes, int]
"""The key of a namespace, names of globals in it, the pickle of the tuple of their values, and a checksum of
what that refers to."""


def define(attrs: Mapping[str, Any], group: Group, load: Callable[[bytes], Any]) -> None:
    """Set globals that this process does not have yet, or has older.

    Args:
        attrs: ``__name__``, ``__file__`` and the like of the module.
        group: The globals.
        load: Loads one pickle.
    """
    key, names, blob, checksum = group
    if key.endswith(_TOKEN):
        return
    namespace = open_namespace(key, attrs)
    stamps = _received[key].stamps
    stamp = (len(blob), hash(blob), checksum)
    if any(stamps.get(name) != stamp for name in names):
        namespace.update(zip(names, load(blob), strict=True))
        stamps.update(dict.fromkeys(names, stamp))
        _changes[0] += 1


def offer(attrs: Mapping[str, Mapping[str, Any]], groups: list[Group], load: Callable[[bytes], Any]) -> None:
    """Have globals of the caller's ``__main__`` set when that is asked for one which this process does not have.

    Args:
        attrs: As for ``define``, by key.
        groups: The globals, in an order in which they can be loaded.
        load: Loads one pickle.
    """
    mains = [key for key in attrs if is_main(key.rpartition("@")[0]) and not key.endswith(_TOKEN)]
    for key in mains:
        space = open_namespace(key, attrs[key])
        names = {name for each, some, *_ in groups if each == key for name in some}
        space["__getattr__"] = _Offered(space, names, attrs, groups, load)


class _Offered:
    """The ``__getattr__`` of a module (PEP 562) until what was offered has been asked for."""

    def __init__(
        self,
        space: dict[str, Any],
        names: set[str],
        attrs: Mapping[str, Mapping[str, Any]],
        groups: list[Group],
        load: Callable[[bytes], Any],
    ) -> None:
        self._space = space
        self._names = names
        self._attrs = attrs
        self._groups = groups
        self._load = load
        self._at_it: set[int] = set()

    def __call__(self, name: str) -> Any:
        if name in self._names:
            self.make()
            if name in self._space:
                return self._space[name]
        raise AttributeError(f"module {self._space.get('__name__')!r} has no attribute {name!r}")

    def make(self) -> None:
        """Make it all, with no lock held: what is loaded imports modules. Two threads may do so at once."""
        me = threading.get_ident()
        if me in self._at_it:  # what a definition loads asks for others: those before it are there
            return
        self._at_it.add(me)
        try:
            for group in self._groups:
                _define_missing(self._attrs[group[0]], group, self._load)
        finally:
            self._at_it.discard(me)
        if self._space.get("__getattr__") is self:
            self._space.pop("__getattr__", None)


def make_what_was_offered(space: dict[str, Any]) -> None:
    """Make it now, if *space* is of a module of which something was."""
    offered = space.get("__getattr__")
    if type(offered) is _Offered:
        offered.make()


def _define_missing(attrs: Mapping[str, Any], group: Group, load: Callable[[bytes], Any]) -> None:
    """Set those globals of a group that are not there; none, if they do not load."""
    key, names, blob, checksum = group
    namespace = open_namespace(key, attrs)
    if all(name in namespace for name in names):
        return
    try:
        values = load(blob)
    except Exception:  # user code: a metaclass, say. Whoever asked for it hears that it is not there
        return
    stamps, stamp = _received[key].stamps, (len(blob), hash(blob), checksum)
    for name, value in zip(names, values, strict=True):
        if namespace.setdefault(name, value) is value:
            stamps[name] = stamp
    _changes[0] += 1
