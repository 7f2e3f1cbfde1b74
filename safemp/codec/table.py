"""The dispatch table of one pickle: which type is reduced by what.

Most types it is never asked for: the C pickler knows lists and dicts itself, and asks
once for each other type. So whatever is looked up here costs nothing per object.
"""

from __future__ import annotations

import copyreg
import sys
from collections.abc import Callable, Mapping
from operator import attrgetter, methodcaller
from types import FunctionType, MethodType
from typing import Any, TypeAlias

from safemp.codec import named, rebuild, statics
from safemp.codec.exceptions import reduce_exception
from safemp.codec.inheritance import Heritage, bound_kind, reducer_for
from safemp.codec.record import Count, counted
from safemp.codec.repairs import ALL, STANDARD_STREAM, Policy, Repair, may_be_standard

__all__ = ["ByName", "Table", "is_plain_exception", "portable_exception"]

ByName: TypeAlias = "dict[int, tuple[Any, Any]]"
"""Objects that are attributes of modules, by ``id``, and their reduce values."""

_reduce_default = methodcaller("__reduce_ex__", 5)
_reduce_class = attrgetter("__qualname__")


class Table(dict[type, Callable[[Any], Any]]):
    """A dispatch table that learns: ``__missing__`` runs once per type, then C does.

    It lives for one pickle only, so it keeps no class alive and sees every later
    ``copyreg.pickle`` and ``safemp.register``.

    Args:
        theirs: What is done where this package has no rule: cloudpickle's ways.
        at_once: Those of them about which nobody else has anything to say.
        heritage: Takes what starting workers inherit; ``None``: that is refused.
        policy: Which repairs are made.
        of_globals: For definitions; a global may be what the workers have inherited.
        portable: What is written is to load where safemp is not.
    """

    met: list[tuple[Repair, Any]] | None = None
    """What has been met of which the whole must be seen: see ``watch``."""
    no_weak = False
    """Write weak references without what they refer to."""
    orphans: set[int] | None = None
    """In a definition, the ids of what nothing holds that is written: see ``watch``."""
    count: Any = Count
    """What counts the repairs."""
    by_name: ByName | None = None
    """Objects that were found to be attributes of modules, and their reduce values."""
    _stamp: named.Stamp | None = None

    def __init__(
        self,
        theirs: Mapping[type, Callable[[Any], Any]] = {},
        heritage: Heritage | None = None,
        policy: Policy = ALL,
        of_globals: bool = False,
        portable: bool = False,
        at_once: Mapping[type, Callable[[Any], Any]] = {},
    ) -> None:
        super().__init__(at_once)
        self._theirs = theirs
        self._heritage = heritage
        self._policy = policy
        self._of_globals = of_globals
        self._portable = portable
        self._without_rule: set[type] = set()
        self.rules: dict[type, Repair] = {}
        """The repairs that are in use, for reports."""

    def __missing__(self, cls: type) -> Callable[[Any], Any]:
        reducer = self._find(cls)
        if reducer is _reduce_default:
            self._without_rule.add(cls)
        if self.by_name is not None:
            reducer = self._first_by_name(reducer)
        self[cls] = reducer
        return reducer

    def has_no_rule(self, cls: type) -> bool:
        """Tell whether objects of *cls* pickle in their own way."""
        if cls not in self:
            self.__missing__(cls)
        return cls in self._without_rule

    def _find(self, cls: type) -> Callable[[Any], Any]:
        own = self._policy.given(cls)
        if own is not None:
            return self._repaired(cls, own)
        if self._heritage is not None and cls in self._heritage.registered:
            return self._heritage.registered[cls]
        kind = bound_kind(cls)
        if kind is not None:
            reducer = reducer_for(cls, kind, self._heritage, self._of_globals)
            if reducer is not None:
                return reducer
        if issubclass(cls, BaseException):
            return portable_exception if self._portable else reduce_exception
        if cls in copyreg.dispatch_table:
            return copyreg.dispatch_table[cls]
        repair = self._policy.find(cls)
        if repair is None and may_be_standard(cls):
            repair = STANDARD_STREAM
        if repair is not None:
            return self._repaired(cls, repair)
        if cls in self._theirs:
            return self._theirs[cls]
        if cls is MethodType:
            return _reduce_method_portably if self._portable else _reduce_method
        return _reduce_class if issubclass(cls, type) else _reduce_default

    def _repaired(self, cls: type, repair: Repair) -> Callable[[Any], Any]:
        self.rules[cls] = repair
        return counted(self._reducer(repair), repair.plain, self.count)

    def _reducer(self, repair: Repair) -> Callable[[Any], Any]:
        reduce = repair.reduce
        if self.orphans and repair.holds:
            orphans = self.orphans
            return lambda obj: reduce(obj, orphans)
        if repair.named:
            return self._named(reduce)
        if not repair.talks and not repair.weak:
            return reduce
        if self.no_weak:
            return _nothing if repair.weak else reduce
        if self.met is None:
            self.met = []
        met = self.met

        def noting(obj: Any) -> Any:
            met.append((repair, obj))
            return reduce(obj)

        return noting

    def _named(self, reduce: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Look an object up among the attributes of modules, before it is made anew."""
        if self._stamp is None:
            self._stamp = named.stamp()
        stamp = self._stamp

        def reducer(obj: Any) -> Any:
            found = named.find_indexed(obj, stamp)
            if found is None:
                return reduce(obj)
            if self._portable:
                return getattr, found
            reduced = reduce(obj)
            if isinstance(reduced, tuple) and type(obj) is not object:
                return rebuild.look_up_or_make, (found[0].__name__, found[1], reduced[0])
            return getattr, found

        return reducer

    def _first_by_name(self, reducer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        found = self.by_name
        assert found is not None

        def first(obj: Any) -> Any:
            known = found.get(id(obj))
            if known is None or not self._portable:
                return reducer(obj) if known is None else known[1]
            module, name, _ = known[1][1]
            return getattr, (sys.modules[module], name)

        return first


def _reduce_method(method: MethodType) -> Any:
    """Reduce to the method's name, as Python does, unless that leads to another: of one from ``super()``, say."""
    owner, function = method.__self__, method.__func__
    name = _name_of(owner, function)
    return (MethodType, (function, owner)) if name is None else (getattr, (owner, name))


def _reduce_method_portably(method: MethodType) -> Any:
    """Likewise; ``MethodType`` has no name."""
    reduced = _reduce_method(method)
    if reduced[0] is getattr or not hasattr(type(method.__func__), "__get__"):
        return reduced
    return methodcaller("__get__", method.__self__), (method.__func__,)


def _name_of(owner: Any, function: Any) -> str | None:
    """Return the name under which *owner* has *function* as a method; ``None``: under none that it is sure of."""
    name = getattr(function, "__name__", None)
    if not isinstance(name, str):
        return None
    classes = statics.mro(owner) if isinstance(owner, type) else ()
    bases = *classes, *statics.mro(type(owner))
    own = None if classes else statics.instance_dict(owner)
    if own is not None and name in own:
        return name if type(own[name]) is MethodType and own[name].__func__ is function else None
    for at, base in enumerate(bases):
        here = _mangled(name, base)
        if here not in statics.class_dict(base):
            continue
        found = statics.class_dict(base)[here]
        if _inside(found) is function:
            return here if (type(found) is classmethod) == (at < len(classes)) else None
        overridden = type(found) is FunctionType or any(_has(each, function) for each in bases[at + 1 :])
        return None if overridden else name  # a descriptor of its own kind has made it
    return name if statics.lookup(type(owner), "__getattr__") is not None else None


def _mangled(name: str, cls: type) -> str:
    """Return what *name* is within *cls*: https://docs.python.org/3/reference/expressions.html#private-name-mangling."""
    stem = cls.__name__.lstrip("_")
    return f"_{stem}{name}" if stem and name.startswith("__") and not name.endswith("__") else name


def _inside(attribute: Any) -> Any:
    return attribute.__func__ if type(attribute) is classmethod else attribute


def _has(cls: type, function: Any) -> bool:
    if getattr(function, "__qualname__", None) == f"{statics.qualname(cls)}.{function.__name__}":
        return True
    return any(_inside(each) is function for each in statics.class_dict(cls).values())


def _nothing(_: Any) -> Any:
    return set, ()


def is_plain_exception(exc: BaseException) -> bool:
    """Tell whether plain pickle does well by *exc*: one of Python's own, without a traceback or a cause."""
    plain = type(exc).__module__ == "builtins" and not hasattr(exc, "exceptions")
    return plain and exc.__traceback__ is None and exc.__cause__ is None and exc.__context__ is None


def portable_exception(exc: BaseException) -> Any:
    """Reduce as plain pickle does what plain pickle does well; see ``reduce_exception``."""
    return exc.__reduce__() if is_plain_exception(exc) else reduce_exception(exc)
