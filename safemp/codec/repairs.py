"""What can honestly be mended on the way to another process: one rule for each type.

A lock protects the memory of one process; the copy of the object that holds it needs
its own, unlocked. A logger or a module is looked up by its name. A client of a service
carries its own recipe, and makes fresh connections. Each rule gives calls into the
standard library, or the library in question, wherever it can, so that what it wrote
loads in a process that has never heard of safemp.

The rules stand in ``libraries``, one file for each library, which is loaded only when
that library is.

Rule 1: matched by type identity, never by a class's name.
Rule 2: what is not honest is refused, also when something lower would copy it
(cloudpickle sends an open text file as a ``StringIO``).
Rule 3: asked for once per type and pickle, so the fast rung never waits for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from io import StringIO, TextIOWrapper
from types import BuiltinFunctionType, FunctionType
from typing import Any, TypeAlias

from safemp.codec import frozen, rebuild
from safemp.codec.statics import type_name

__all__ = [
    "ALL",
    "BY_NAME",
    "EXCEPTION",
    "NONE",
    "REBUILD",
    "RECONSTRUCT",
    "REFUSED",
    "REOPEN",
    "STANDARD_STREAM",
    "Policy",
    "RefusedError",
    "Repair",
    "Spec",
    "importable",
    "made_by",
    "may_be_standard",
    "policy_of",
    "refuse",
    "register",
    "reopening",
    "repair_for",
    "repair_of",
    "standard_stream",
]

REBUILD = "rebuild"
BY_NAME = "by name"
RECONSTRUCT = "reconstruct"
REOPEN = "reopen"

KINDS = (REBUILD, BY_NAME, RECONSTRUCT, REOPEN)


@dataclass(frozen=True, slots=True)
class Repair:
    """How objects of one type travel, though pickle refuses them or copies them wrongly.

    Attributes:
        kind: ``rebuild``, ``by name``, ``reconstruct`` or ``reopen``.
        why: One sentence: why the copy is honest.
        reduce: Gives a reduce value, or raises ``RefusedError`` for an object for which
            it would not be.
        needs_safemp: The stream loads only where safemp is.
        family: It is for classes derived from this one, too.
        named: An object that is an attribute of an importable module is looked up there.
        talks: It is there to talk to others, so a copy is refused where the user hands
            over the thing itself.
        weak: It refers to others which must travel on their own.
        holds: In a global of the script it may hold what it refers to: ``reduce`` takes also the ids of what nothing
            else does that is written.
        note: Says more of one object (that a lock is held, say), in one sentence.
        otherwise: Why the copy is honest of one that has no name and is made anew.
        plain: Tells whether a reduce value is what plain pickle has, too: ``len``'s, say.
    """

    kind: str
    why: str
    reduce: Callable[..., Any]
    needs_safemp: bool = False
    family: bool = False
    named: bool = False
    talks: bool = False
    weak: bool = False
    holds: bool = False
    note: Callable[[Any], str | None] | None = None
    otherwise: str = ""
    plain: Callable[[Any], bool] | None = None


class RefusedError(TypeError):
    """An object could be copied, and the copy would not be what it seems.

    Attributes:
        fix: What to type instead; empty: the usual.
    """

    def __init__(self, text: str, fix: str = "") -> None:
        super().__init__(text)
        self.fix = fix


_FROZEN = Repair(REBUILD, frozen.WHY, frozen.reduce, needs_safemp=True, plain=lambda reduced: len(reduced) < 6)

_LIBRARIES = (
    ("builtins", "names"),
    ("threading", "threads"),
    ("logging", "logs"),
    ("concurrent.futures._base", "futures"),
    ("weakref", "weak"),
    ("re", "values"),
    ("_io", "files"),
    ("ssl", "tls"),
    ("ctypes", "ctypes"),
    ("argparse", "argparse"),
    ("asyncio.locks", "aio"),
    ("httpcore", "httpx"),
    ("httpcore2", "httpx"),
    ("truststore", "httpx"),
    ("urllib3", "urllib3"),
    ("botocore.client", "botocore"),
    ("sqlalchemy", "sqlalchemy"),
    ("redis", "redis"),
    ("pymongo", "pymongo"),
    ("jinja2", "jinja2"),
    ("tqdm", "tqdm"),
    ("lxml.etree", "lxml"),
    ("lmdb", "lmdb"),
    ("h5py", "h5py"),
    ("torch", "torch"),
    ("annoy", "annoy"),
    ("hamilton.driver", "hamilton"),
    ("loguru", "loguru"),
    ("elasticsearch", "elasticsearch"),
    ("starlette.datastructures", "starlette"),
    ("rtree.index", "rtree"),
    ("wrapt", "wrapt"),
    ("multidict", "multidict"),
    ("frozenlist", "multidict"),
    ("pydantic._internal._validate_call", "pydantic"),
)
"""A module, and the file of ``libraries`` to load once that module is."""

_Table: TypeAlias = dict[type, Repair]


class _Known:
    """The rules for what is loaded, found again when modules come."""

    seen: tuple[int, str] = (0, "")
    exact: _Table = {}  # noqa: RUF012 - replaced whole, never changed
    families: _Table = {}  # noqa: RUF012


_registered: _Table = {}


def _refresh() -> None:
    modules = sys.modules
    seen = len(modules), next(reversed(modules), "")
    if seen == _Known.seen:
        return
    exact: dict[Any, Repair] = {}
    for file in dict.fromkeys(file for module, file in _LIBRARIES if module in modules):
        exact.update(import_module(f"safemp.codec.libraries.{file}").table())
    exact.pop(None, None)  # what is not loaded
    _Known.families = {cls: repair for cls, repair in exact.items() if repair.family}
    _Known.exact = exact
    _Known.seen = len(modules), next(reversed(modules), "")


def _builtin_rule(cls: type) -> Repair | None:
    _refresh()
    repair = _Known.exact.get(cls)
    if repair is None:
        for base in cls.__mro__[1:]:
            repair = _Known.families.get(base)
            if repair is not None:
                return repair
        if frozen.refuses_its_slots(cls):
            return _FROZEN
    return repair


def repair_for(cls: type, policy: Policy | None = None) -> Repair | None:
    """Return the rule for objects of *cls*, if there is one and *policy* has it.

    A rule may still refuse one object or another.
    """
    return (policy or ALL).find(cls)


def reopening(cls: type) -> Repair | None:
    """Return the rule by which objects of *cls* itself are opened again. Runs no code of theirs, no ``__hash__``."""
    _refresh()
    return next((rule for known, rule in _Known.exact.items() if known is cls and rule.kind == REOPEN), None)


def repair_of(obj: Any, reduced: Any, policy: Policy | None = None) -> Repair | None:
    """Tell by which repair *obj* has the reduce value *reduced*; ``None``: by none.

    For reports. Runs no code of the user's.
    """
    return made_by(repair_for(type(obj), policy), obj, reduced)


def made_by(rule: Repair | None, obj: Any, reduced: Any) -> Repair | None:
    """Tell what *rule* did when *obj* got the reduce value *reduced*; ``None``: what plain pickle does.

    For reports. Runs no code of the user's.

    Args:
        rule: The rule for objects of its type, if there is one.
        obj: The object.
        reduced: Its reduce value.
    """
    calls = reduced[0] if type(reduced) is tuple and reduced else None
    if calls is rebuild.look_up:
        return _OF_A_MODULE
    if rule is None or (rule.plain is not None and rule.plain(reduced)):
        return None
    if calls is getattr and may_be_standard(type(obj)):
        return STANDARD_STREAM
    if rule.otherwise and calls is not getattr:
        return replace(rule, kind=REBUILD, why=rule.otherwise)
    if rule.named and calls in (getattr, rebuild.look_up_or_make):
        return _OF_A_MODULE
    note = rule.note(obj) if rule.note is not None else None
    return rule if note is None else replace(rule, why=f"{note}; {rule.why}")


# -- which are used -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Policy:
    """Which repairs are made.

    Attributes:
        kinds: Kinds of which all are made.
        types: Types for which they are made whatever their kind.
        own: Rules beside those of this package.
    """

    kinds: frozenset[str]
    types: frozenset[type] = frozenset()
    own: Mapping[type, Repair] | None = None

    def given(self, cls: type) -> Repair | None:
        """Return the rule that the user has given for *cls*."""
        repair = self.own.get(cls) if self.own else None
        return _registered.get(cls) if repair is None and self.kinds else repair

    def find(self, cls: type) -> Repair | None:
        """Return the rule for *cls*, if this policy has one."""
        repair = self.given(cls)
        if repair is not None:
            return repair
        if not self.kinds and not self.types:
            return None
        repair = _builtin_rule(cls)
        if repair is None or repair.kind in self.kinds or not self.types.isdisjoint(cls.__mro__):
            return repair
        return None


ALL = Policy(frozenset((REBUILD, BY_NAME, RECONSTRUCT)))
"""Every repair that touches nothing outside the process."""

NONE = Policy(frozenset())

Reduce: TypeAlias = Callable[[Any], Any]
Spec: TypeAlias = "str | Iterable[str | type] | Mapping[type, Reduce] | Policy"
"""What ``repairs=`` takes."""


def policy_of(spec: Spec) -> Policy:
    """Read what a user gave as ``repairs=``.

    Args:
        spec: ``"all"``, ``"none"``, a kind, or a collection of kinds and types; a
            mapping of types to functions as for ``register`` is all of them and these.

    Raises:
        ValueError: There is no such kind.
        TypeError: It is none of these.
    """
    if isinstance(spec, Policy):
        return spec
    if isinstance(spec, Mapping):
        return Policy(ALL.kinds, own={cls: _own(cls, reduce) for cls, reduce in spec.items()})
    if not isinstance(spec, str) and not isinstance(spec, Iterable):
        raise TypeError(f"repairs must be 'all', 'none' or a collection of kinds and types, not {type(spec).__name__}")
    kinds: set[str] = set()
    types: set[type] = set()
    for part in (spec,) if isinstance(spec, str) else spec:
        if isinstance(part, type):
            types.add(part)
        elif part == "all":
            kinds |= ALL.kinds
        elif part in KINDS:
            kinds.add(part)
        elif part != "none":
            raise ValueError(f"cannot find repairs {part!r}: there are 'all', 'none', {', '.join(map(repr, KINDS))}")
    if frozenset(kinds) == ALL.kinds and not types:
        return ALL
    return Policy(frozenset(kinds), frozenset(types))


_NEVER_ASKED = (
    *(type(None), bool, int, float, bytes, str, tuple, list, dict, set, frozenset),
    *(type, FunctionType, BuiltinFunctionType),
)
"""What a pickler saves without a look at any table."""


def _own(cls: type, reduce: Reduce) -> Repair:
    if not isinstance(cls, type):
        raise TypeError(f"cannot register {type(cls).__name__}: a type is wanted")
    if cls in _NEVER_ASKED or issubclass(cls, type):
        raise TypeError(f"cannot register {cls.__qualname__}: pickle has its own way with it")
    if not callable(reduce):
        raise TypeError(f"cannot register {cls.__qualname__}: reduce must be callable, not {type(reduce).__name__}")
    return Repair(RECONSTRUCT, "a rule of this program's own", reduce)


def register(type: type, reduce: Reduce) -> None:
    """Say how objects of *type* travel, in every pool of this process.

    It is for this exact type, not for classes derived from it, and goes before the
    type's own ``__reduce__``, ``copyreg`` and the repairs of safemp. It holds for
    ``safemp.dumps`` and ``safemp.repairing`` too. A second call for the same type
    replaces the first.

    Args:
        type: The type.
        reduce: Called with an object; returns what ``__reduce__`` may return: mostly
            ``(function, args)``, where ``function(*args)`` makes the object there.

    Raises:
        TypeError: *type* is no type, or one that pickle saves in its own way (``int``,
            ``list``, …); *reduce* is not callable.

    Example:
        ``safemp.register(Connection, lambda c: (connect, (c.url,)))``
    """
    _registered[type] = _own(type, reduce)


# -- what can be imported -------------------------------------------------------------


def importable(name: str) -> bool:
    """Tell whether another process can be expected to import module *name*.

    A module that somebody made in memory is only in this process's ``sys.modules``; but one that is an
    attribute of its package is made when that is imported, as pybind11's submodules are, and ``six.moves``.
    """
    module = sys.modules.get(name)
    if module is None:
        return False
    if name in sys.builtin_module_names or getattr(module, "__file__", None):
        return True
    spec = getattr(module, "__spec__", None)
    if spec is not None and getattr(spec, "loader", None) is not None:
        return True
    package, _, last = name.rpartition(".")
    if not package or not importable(package):
        return False
    # ``typing.io`` is there as soon as ``typing`` is
    standard = package.partition(".")[0] in sys.stdlib_module_names
    return standard or sys.modules[package].__dict__.get(last) is module


# -- what is refused ------------------------------------------------------------------


REFUSED = {("subprocess", "Popen"), ("threading", "Thread")}
"""``(module, name)`` of classes whose objects would pickle, but are bound to this process."""


def refuse(obj: Any) -> Any:
    """Reduce nothing.

    Raises:
        TypeError: Always.
    """
    raise TypeError(f"cannot pickle {type(obj).__name__!r} object: it is bound to this process")


def may_be_standard(cls: type) -> bool:
    """Tell whether ``sys.stdout`` or ``sys.stderr`` may be of class *cls*: pytest and Jupyter put their own there."""
    if cls is TextIOWrapper:
        return True
    return issubclass(cls, _TextIOBase) and cls is not StringIO and cls in (type(sys.stdout), type(sys.stderr))


_TextIOBase: type = TextIOWrapper.__mro__[1]


def standard_stream(file: Any) -> Any:
    """Reduce ``sys.stdout`` and ``sys.stderr``: each process has its own.

    Raises:
        TypeError: It is another file.
    """
    for name in ("stdout", "stderr"):
        if file is getattr(sys, name) or file is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    raise TypeError(f"cannot pickle {type_name(type(file))!r} object")


STANDARD_STREAM = Repair(BY_NAME, "it is a standard stream; the other process uses its own", standard_stream)
"""Made whichever repairs are."""

_OF_A_MODULE = Repair(BY_NAME, "it is an attribute of a module, whose own the other process has", refuse)

EXCEPTION = Repair(
    RECONSTRUCT, "class, attributes, cause and traceback travel, without its constructor", refuse, needs_safemp=True
)
"""Every exception that plain pickle would not bring back whole. Made whichever repairs are."""
