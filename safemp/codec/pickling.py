"""The ladder: plain pickle where it is right, cloudpickle where it is needed.

1. *Fast*: the C pickler with a private dispatch table. Accepted when the stream names
   no module that travels by value, or names only ``__main__`` and the names in
   question can be sent beside it.
2. *Careful*: a ``CloudPickler`` that sees every object: lambdas, closures,
   ``__main__``, by-value modules, exceptions.
3. *Walk*: both failed; ``walker`` names every culprit.

A *stream* is the definitions of by-value globals (see ``definitions``), if any, and
then one pickle.

This is the only file that imports pickle and cloudpickle. cloudpickle's helpers used
here are private; ``tests/unit/test_pickling.py`` holds them to what we expect.
"""

from __future__ import annotations

import builtins
import copyreg
import marshal
import os
import re
import sys
import threading
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import EnumMeta
from functools import lru_cache, singledispatch, wraps
from io import BytesIO, TextIOWrapper
from operator import attrgetter
from pickle import PickleBuffer, Pickler, PicklingError, Unpickler
from pickle import dumps as _dumps
from pickle import load as _load
from pickle import loads as _loads
from pickle import loads as plain_loads
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, ClassVar, NewType, TypeVar
from zlib import crc32

from cloudpickle import cloudpickle as _cp

from safemp.codec import definitions, homes, named, namespaces, parameters, rebuild, statics, structures
from safemp.codec.by_value import annotations_of, closed_over, read_in_class_bodies
from safemp.codec.definitions import ATOMS, OfMap, refers_apart
from safemp.codec.exceptions import reduce_exception
from safemp.codec.frames import Buffer, Frames
from safemp.codec.homes import (
    Home,
    Needs,
    goes_by_value,
    home_of,
    name_elsewhere,
    names_by_value,
    resolve,
    resolve_name,
)
from safemp.codec.inheritance import Heritage, given
from safemp.codec.libraries.names import recached
from safemp.codec.named import find_class
from safemp.codec.record import Tally
from safemp.codec.repairs import (
    ALL,
    EXCEPTION,
    Policy,
    RefusedError,
    Repair,
    importable,
    made_by,
    may_be_standard,
    standard_stream,
)
from safemp.codec.sentinels import may_be_mark, reduce_mark
from safemp.codec.table import ByName, Table, is_plain_exception, portable_exception
from safemp.steady import by_a_handler

homes.registered = _cp._PICKLE_BY_VALUE_MODULES

__all__ = [
    "OfMap",
    "PickleBuffer",
    "PicklingError",
    "Semantics",
    "dumps",
    "dumps_careful",
    "dumps_fast",
    "dumps_offer",
    "loads",
    "plain_loads",
    "refers_apart",
    "take_offer",
]

USER_ERRORS = (Exception, SystemExit, GeneratorExit)
"""What a user's ``__reduce__`` may raise and we answer. Not Ctrl-C: that is for us."""

OUT_OF_BAND = 1 << 16
"""Bytes from which a buffer leaves the pickle stream and travels beside it. Picked so
that smaller ones share the one system call of their message."""

_reduce_code: Callable[[CodeType], tuple[Any, tuple[Any, ...]]] = _cp.Pickler._dispatch_table[CodeType]

_FILENAME = 10
"""Where ``CodeType`` wants the name of the file, on every Python from 3.8 on."""


def _code_with_file(code: CodeType) -> tuple[Any, tuple[Any, ...]]:
    """Reduce *code* with the name of its file, which cloudpickle from 3.1.3 on replaces by ``<dynamic-code>``.

    A traceback, a warning and a crash report are to say where it was. The name is a copy each
    time, as theirs are: whether two equal texts are one object changes the pickle.
    """
    made_by, args = _reduce_code(code)
    return made_by, (*args[:_FILENAME], (code.co_filename + " ")[:-1], *args[_FILENAME + 1 :])


_THEIRS = {
    cls: reducer
    for cls, reducer in _cp.Pickler._dispatch_table.items()
    if cls not in (TextIOWrapper, memoryview, _cp.weakref.WeakSet) and "logger" not in reducer.__name__
}
"""What cloudpickle does, without what is not honest, or not what it was."""

_THEIRS[CodeType] = _code_with_file

_AT_ONCE: dict[type, Callable[[Any], Any]] = {
    cls: _THEIRS[cls] for cls in (CellType, CodeType, MethodType, property, staticmethod, classmethod)
}
"""Of these, what is in functions and classes."""

_AT_ONCE_OURS = {**_AT_ONCE, rebuild.Made: rebuild.Made.__reduce__}
_ORDINARY: set[type] = set(_AT_ONCE_OURS)

_NOTHING: frozenset[tuple[str, str]] = frozenset()

_BUILDERS = frozenset(
    value
    for module in (_cp, rebuild, namespaces)
    for value in vars(module).values()
    if type(value) is FunctionType and value.__module__ == module.__name__
)
"""What streams are made of: functions that are there on the other side, by their names."""


class _ByValuePickler(_cp.Pickler):  # type: ignore[misc]  # cloudpickle is untyped
    """cloudpickle, with what it leaves out of functions."""

    _type_params = False
    """Whether the parameters of a generic function go with it: what it takes to make them is here."""

    def _dynamic_function_reduce(self, function: FunctionType) -> tuple[Any, ...]:
        state = _function_state(function, self._type_params)
        return _cp._make_function, self._function_getnewargs(function), state, None, None, _cp._function_setstate


def _function_state(function: FunctionType, type_params: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    attribute, annotations = annotations_of(function)
    bare = function
    if attribute != "__annotations__":
        bare = FunctionType(function.__code__, function.__globals__, closure=function.__closure__)
        for name in ("__name__", "__qualname__", "__kwdefaults__", "__defaults__", "__module__", "__doc__", "__dict__"):
            setattr(bare, name, getattr(function, name))
    state, slots = _cp._function_getstate(bare)
    if bare is not function:
        del slots["__annotations__"]
        slots[attribute] = annotations
    if names := read_in_class_bodies(function.__code__):
        space = function.__globals__
        slots["__globals__"] |= {name: space[name] for name in names if name in space}
    if type_params and (params := getattr(function, "__type_params__", None)):  # from Python 3.12 on
        slots["__type_params__"] = params
    return state, slots


def _global_names(code: CodeType) -> dict[str, None]:
    names = read_in_class_bodies(code)
    found: dict[str, None] = _cp._extract_code_globals(code)
    return {**found, **dict.fromkeys(names)} if names else found


class _CarefulPickler(_ByValuePickler):
    """cloudpickle with our rules for globals, exceptions and repairs.

    Args:
        file: Takes the bytes.
        needs: Collects the by-value globals that the stream refers to.
        inside: ``(key, name)`` of the definitions being written; they go by value.
        buffer_callback: As for ``pickle.Pickler``.
        by_name: ``__main__`` is the same script on the other side.
        heritage: As for ``Table``.
        policy: As for ``Table``.
        found: Objects to look up by name: see ``Table.by_name``.
    """

    _type_params = True

    def __init__(
        self,
        file: Any,
        needs: Needs,
        inside: frozenset[tuple[str, str]] = _NOTHING,
        buffer_callback: Callable[[PickleBuffer], Any] | None = None,
        by_name: bool = False,
        heritage: Heritage | None = None,
        policy: Policy = ALL,
        found: ByName | None = None,
    ) -> None:
        # Before the C pickler looks for it.
        table = self.dispatch_table = Table(_OURS, heritage, policy, bool(inside), at_once=_AT_ONCE_OURS)
        table.by_name = found
        Pickler.__init__(self, file, 5, buffer_callback=buffer_callback)
        self.globals_ref: dict[int, dict[str, Any]] = {}  # as cloudpickle's __init__ does
        self._by_name = by_name
        self._needs = needs
        self._inside = inside
        self._spaces: dict[int, tuple[Home | str | None, rebuild.Made | None]] = {}
        self._ordinary = _ORDINARY.copy()  # types about whose objects there is nothing to say here
        self._of_marks: set[type] = set()  # those whose objects may be marks
        self._of_names: set[type] = set()  # and those whose objects may pickle as the names of globals
        self.direct: set[tuple[str, str]] = set()

    def reducer_override(self, obj: Any) -> Any:
        cls = type(obj)
        if cls is FunctionType:
            return NotImplemented if obj in _BUILDERS else self._reduce_function(obj)
        if cls in self._ordinary:
            return NotImplemented
        if cls in self._of_marks:
            return reduce_mark(obj)
        if cls in self._of_names:
            return self._reduce_wrapper(obj)
        if issubclass(cls, type):
            return self._reduce_class(obj)
        if issubclass(cls, BaseException):
            return reduce_exception(obj)
        if cls is ModuleType:
            return self._reduce_module(obj)
        if cls in _NAMED or _goes_by_value(cls):
            if cls is TypeVar and goes_by_value(obj.__module__):
                return self._reduce_named(obj, obj.__name__)
            return self._reduce_or_place(obj)
        if (statics.is_heap_type(cls) or cls is object) and self.dispatch_table.has_no_rule(cls):
            if may_be_mark(cls):
                self._of_marks.add(cls)
                return reduce_mark(obj)
            if any(type(statics.lookup(cls, way)) is FunctionType for way in ("__reduce_ex__", "__reduce__")):
                self._of_names.add(cls)
                return self._reduce_wrapper(obj)
        self._ordinary.add(cls)
        return NotImplemented

    def _named(self, home: Home, obj: Any) -> tuple[Any, ...] | None:
        """Refer to a by-value global by its name, if it has one."""
        qualname = getattr(obj, "__qualname__", None)
        if not isinstance(qualname, str):
            return None
        root, _, rest = qualname.partition(".")
        if (home.key, root) in self._inside or not home.has(qualname, obj):
            return None
        if rest and self._inside:
            return None  # a definition depends on globals only, not on what they hold
        self._needs.add(home, root)
        self.direct.add((home.key, root))
        return namespaces.get_global, (home.key, qualname)

    def _reduce_wrapper(self, obj: Any) -> Any:
        """Place an object that a decorator of a library has put under a script's name, and that pickles as it."""
        module = getattr(obj, "__module__", None)
        if not isinstance(module, str) or module == type(obj).__module__ or not goes_by_value(module):
            return NotImplemented
        return self._reduce_or_place(obj)

    def _reduce_or_place(self, obj: Any) -> Any:
        """Reduce *obj* in its own way, and place it if that is the name of a global."""
        reduced = self.dispatch_table[type(obj)](obj)
        return self._reduce_named(obj, reduced) if type(reduced) is str else reduced

    def _reduce_named(self, obj: Any, name: str) -> Any:
        """Place an object that pickles as the name of a global: a sentinel, say."""
        module = sys.modules.get(getattr(obj, "__module__", None) or "")
        home = home_of(module.__dict__, module.__name__, self._by_name) if module is not None else None
        if not isinstance(home, Home):
            if isinstance(obj, _NAMED) and (module is None or resolve_name(module, name) is not obj):
                return _by_parts(obj)  # of a local function, say
            return name
        if not (isinstance(obj, _NAMED) or statics.is_written_in_python(type(obj))):
            raise RefusedError(
                "it pickles as the name of a global of the script, and has state of its own in C",
                "define it in a module, and import that",
            )
        root = name.partition(".")[0]
        if (home.key, root) in self._inside or not home.has(name, obj):
            return _by_parts(obj)
        self._needs.add(home, root)
        self.direct.add((home.key, root))
        return namespaces.get_global, (home.key, name)

    def _reduce_class(self, cls: type) -> Any:
        if structures.is_of_ctypes(cls) and (call := structures.by_call(cls)) is not None:
            return call
        module = getattr(cls, "__module__", None)
        if isinstance(module, str) and module != "builtins":
            found = sys.modules.get(module)
            home = home_of(found.__dict__, module, self._by_name) if isinstance(found, ModuleType) else None
            if home == "__main__" and resolve(found, cls) is cls:
                return NotImplemented
            if isinstance(home, Home):
                named = self._named(home, cls)
                return named if named is not None else _reduce_dynamic_class(cls)
            if type(module) is not str and home is not None and resolve(found, cls) is cls:
                return attrgetter(cls.__qualname__), (found,)  # pickle would write a text of another class
        elif vars(builtins).get(cls.__name__) is cls:
            return NotImplemented
        reduced = _cp._class_reduce(cls)
        return _found(cls, reduced) or (_reduce_dynamic_class(cls) if _is_of_parts(reduced) else reduced)

    def _reduce_function(self, function: FunctionType) -> Any:
        space = function.__globals__
        home, reference = self._place(space)
        if "<locals>" in function.__qualname__:
            pass  # it has no name
        elif isinstance(home, Home):
            named = self._named(home, function)
            if named is not None:
                return named
        elif (not goes_by_value(function.__module__ or "") and _cp._should_pickle_by_reference(function)) or (
            home == "__main__" and resolve(sys.modules.get("__main__"), function) is function
        ):
            return NotImplemented
        if function.__code__ is _DISPATCHER:
            return rebuild.redispatch, (list(function.registry.items()),)  # type: ignore[attr-defined]
        if reference is None:
            return self._dynamic_function_reduce(function)
        state, slots = _function_state(function, self._type_params)
        slots["__globals__"] = {}
        if isinstance(home, Home):
            # Those that are not there, too: in a notebook a helper is often defined after its user.
            for name in _global_names(function.__code__):
                if home.names is None or name in home.names:
                    self._needs.add(home, name)
        cells = function.__closure__
        closure = None if cells is None else tuple([_cp._make_empty_cell() for _ in cells])  # filled with the state
        return (
            _cp._make_function,
            (function.__code__, reference, None, None, closure),
            (state, slots),
            None,
            None,
            _cp._function_setstate,
        )

    def _place(self, space: dict[str, Any]) -> tuple[Home | str | None, rebuild.Made | None]:
        placed = self._spaces.get(id(space))
        if placed is None:
            home = home_of(space, space.get("__name__"), self._by_name)
            reference = None
            if isinstance(home, Home):
                reference = rebuild.Made(namespaces.open_namespace, home.key, home.attrs)
            elif home is not None:
                reference = rebuild.Made(namespaces.module_globals, home)
            placed = self._spaces[id(space)] = (home, reference)
        return placed

    def _reduce_module(self, module: ModuleType) -> Any:
        space = module.__dict__
        home = home_of(space, getattr(module, "__name__", None), self._by_name)
        if not isinstance(home, Home):
            return NotImplemented if home is not None else _cp._module_reduce(module)
        if not namespaces.is_main(module.__name__):
            for name in space if home.names is None else home.names:
                if not (name.startswith("__") and name.endswith("__")):
                    self._needs.add(home, name)
        return namespaces.open_module, (home.key, home.attrs)


def _reduce_dynamic_class(cls: type) -> tuple[Any, ...]:
    make, args, (state, slotstate), _, _, _ = _completed(cls, _cp._dynamic_class_reduce(cls))
    if make is _cp._make_skeleton_class:
        constructor, name, bases, kwargs, *rest = args
        if cls.__qualname__ != name:  # cloudpickle 3.1 leaves it out
            kwargs = {**kwargs, "__qualname__": cls.__qualname__}
        if "__slots__" in cls.__dict__ and not hasattr(cls, "_field_defaults"):
            # The same for these, and it stumbles over ``__private`` ones. (A NamedTuple
            # makes its own.)
            kwargs = {**kwargs, "__slots__": cls.__dict__["__slots__"]}
            state = {k: v for k, v in state.items() if type(v) is not MemberDescriptorType and k != "__slots__"}
        args = (constructor, name, bases, kwargs, *rest)
    if make is _cp._make_skeleton_enum:  # what an __init__ of its own gave to the members
        members = {m.name: {k: v for k, v in vars(m).items() if k not in _ENUM_OWN} for m in cls}  # type: ignore[attr-defined]
        slotstate = {name: attributes for name, attributes in members.items() if attributes}
    return _make_class, (make, *args), (state, slotstate), None, None, _set_class_state


def _is_of_parts(reduced: Any) -> bool:
    """Tell whether cloudpickle makes a class anew from its parts, and does not refer to it."""
    return type(reduced) is tuple and reduced[0] in (_cp._make_skeleton_class, _cp._make_skeleton_enum)


def _found(cls: type, reduced: Any) -> tuple[Any, ...] | None:
    """Refer to a class that is found under another name than its own, where cloudpickle would make it of parts."""
    place = find_class(cls) if _is_of_parts(reduced) else None
    return None if place is None else (getattr, place)


def _completed(cls: type, reduced: Any) -> Any:
    """Give what cloudpickle makes of a class that goes by value what it leaves out, and nothing that cannot travel."""
    if not _is_of_parts(reduced):
        return reduced
    make, args, (state, slotstate), *rest = reduced
    attribute, annotations = annotations_of(cls)
    if attribute:  # from Python 3.14 on
        state[attribute] = annotations
    if structures.is_of_ctypes(cls):
        _, name, bases, kwargs, *more = args
        kwargs, state = structures.ordered(cls, kwargs, state)
        args = (structures.metaclass(cls), name, bases, kwargs, *more)
    return make, args, (state, slotstate), *rest


_ENUM_OWN = frozenset({"_value_", "_name_", "__objclass__", "_sort_order_"})


_PARAMETERS = tuple(
    getattr(typing, name) for name in ("ParamSpec", "TypeVarTuple", "TypeAliasType") if hasattr(typing, name)
)

_NAMED = (type(lru_cache(abs)), NewType, TypeVar, *_PARAMETERS)
"""Types of the standard library whose instances pickle as a name."""

_DISPATCHER = singledispatch(abs).__code__  # type: ignore[attr-defined]
"""The code of every generic function; its cache holds weak references."""


def _goes_by_value(cls: type) -> bool:
    module = cls.__dict__.get("__module__")
    return isinstance(module, str) and goes_by_value(module)


def _cached(function: Any) -> Any:
    """Reduce a function under ``lru_cache`` for a process that has this one's modules, and not its ``__main__``."""
    return name_elsewhere(function) or recached(function)


def _by_parts(obj: Any) -> tuple[Any, ...]:
    """Reduce the one object that has the name under which it pickles."""
    if isinstance(obj, _NAMED[0]):
        return recached(obj)
    if isinstance(obj, (TypeVar, *_PARAMETERS)):
        args, state = parameters.take_apart(obj)
        tracker = _cp._get_or_create_tracker_id(obj) if isinstance(obj, TypeVar) else None
        return _make_parameter, (tracker, *args), state, None, None, None if state is None else parameters.fill
    if isinstance(obj, NewType):
        return rebuild.renew, (obj.__name__, obj.__supertype__, obj.__module__)
    cls = type(obj)
    state = statics.instance_dict(obj) or None
    slots = dict(statics.members(obj))
    return copyreg.__newobj__, (cls,), (state, slots) if slots else state  # type: ignore[attr-defined]


def _make_parameter(tracker: str | None, *args: Any) -> Any:
    return _cp._lookup_class_or_track(tracker, parameters.make(*args))


def _reduce_type_variable(variable: Any) -> tuple[Any, ...]:
    """Reduce as cloudpickle does, but for what it holds, which may not be there."""
    place = _cp._lookup_module_and_qualname(variable, name=variable.__name__)
    by_parts = place is None or _cp._is_registered_pickle_by_value(place[0])
    return _by_parts(variable) if by_parts else (getattr, place)


_OURS = {**_THEIRS, TypeVar: _reduce_type_variable}


_foreign: Any = _cp.weakref.WeakSet()
"""Classes that this process has received. Any other one is its own: what comes back
must not change it."""


def _make_class(make: Callable[..., type], *args: Any) -> type:
    tracker = args[-2]
    found: type | None = _cp._DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker) if tracker is not None else None
    if found is not None:  # ours that comes back, or one that was here before
        return found
    cls = rebuild.make_quietly(*args[:4]) if make is _cp._make_skeleton_class else None
    if cls is None:
        cls = make(*args)
    else:
        _cp._lookup_class_or_track(tracker, cls)
    _foreign.add(cls)
    return cls


def _set_class_state(cls: type, state: Any) -> Any:
    if cls in _foreign:
        attributes, members = state
        _cp._class_setstate(cls, (attributes, {}))
        for name, values in members.items():
            cls.__dict__[name].__dict__.update(values)
    return cls


# -- dump -----------------------------------------------------------------------------


def _prefix(
    needs: Needs,
    heritage: Heritage | None,
    policy: Policy,
    apart: list[Buffer] | None = None,
    writer: _Writer | None = None,
    found: ByName | None = None,
) -> bytes:
    """Pickle the by-value globals in *needs*."""
    # What is inherited by one pool's workers means nothing to another's.
    keep = heritage is None and policy is ALL
    _Writer.named.update(needs.names)
    return definitions.prefix(needs, writer or _Writer(heritage, policy, found), keep=keep, apart=apart)


class _Pickled:
    """One global, or several, as pickled just now; of large buffers there are only views yet.

    Args:
        stream: The pickle.
        buffers: What is not in it.
        refers: It refers to other globals by persistent ids.
        direct: Other by-value globals that it names.
        needs: What it needs.
        repairs: Objects in it that were repaired.
    """

    def __init__(
        self, stream: bytes, buffers: Frames, refers: bool, direct: set[definitions.Name], needs: Needs, repairs: int
    ) -> None:
        self._stream = stream
        self._buffers = buffers
        self._refers = refers
        self._own_trace: Any = None
        self.direct = direct
        self.needs = needs
        self.repairs = repairs

    def trace(self) -> Any:
        """Return what is equal if another one has the same content."""
        if self._own_trace is None:
            self._own_trace = self._trace(self._buffers)
        return self._own_trace

    def blob(self) -> tuple[bytes, Callable[[], Any]]:
        """Return all of it in one, for ``_load_definition``, and what makes the trace of that."""
        if not self._buffers:
            return _REFERS * self._refers + self._stream, self.trace
        sizes = [len(self._stream), *map(len, self._buffers)]
        head = marshal.dumps((self._refers, sizes))
        blob = b"".join([_PARTED, len(head).to_bytes(4, "little"), head, self._stream, *self._buffers])
        return blob, lambda: self._trace(_parts(blob)[2])

    def _trace(self, buffers: Frames) -> Any:
        """Make the trace. Another thread may write into a buffer: that of the copy is the one that counts."""
        stream = self._stream if len(self._stream) <= _LARGE else (len(self._stream), hash(self._stream))
        sums = [crc32(each[at : at + _PIECE]) for each in buffers for at in range(0, len(each), _PIECE)]
        return self._refers, stream, [*map(len, buffers)], sums, [*self.needs.names]


class _Writer:
    """Writes definitions.

    A global that is a part of another one is written as its name: both are to be one object there, too. Those
    count that code names: others (a loop's variable, the last result of a notebook) come and go, and with them
    what is written would change.

    It lives for one stream, and pickles each global once.

    Args:
        heritage: As for ``Table``.
        policy: As for ``Table``.
        found: Objects to look up by name: see ``Table.by_name``.
    """

    named: ClassVar[set[definitions.Name]] = set()
    """Globals that some call has needed so far."""

    def __init__(self, heritage: Heritage | None, policy: Policy, found: ByName | None = None) -> None:
        self._how: dict[str, Any] = {"heritage": heritage, "policy": policy, "found": found}
        self._read: dict[str, set[str]] = {}
        self._ones: dict[definitions.Name, tuple[Any, _Pickled]] = {}

    def __call__(
        self, values: tuple[Any, ...], needs: Needs, inside: frozenset[definitions.Name]
    ) -> tuple[bytes, set[Any]]:
        pickled = self._pickle(values, needs, inside)  # each was counted by itself
        return pickled.blob()[0], pickled.direct

    def one(self, name: definitions.Name, value: Any, home: Home) -> _Pickled:
        """See ``definitions.Write``."""
        known = self._ones.get(name)
        if known is not None and known[0] is value:
            return known[1]
        needs = Needs()
        needs.homes[name[0]] = home
        pickled = self._pickle((value,), needs, frozenset((name,)))
        self._ones[name] = value, pickled
        return pickled

    def trace(self, name: definitions.Name, value: Any, home: Home) -> Any:
        """See ``definitions.Write``."""
        try:
            return self.one(name, value, home).trace()
        except USER_ERRORS as error:  # to be raised when it is pickled for good
            if by_a_handler(error):
                raise
            return None

    def _pickle(self, values: tuple[Any, ...], needs: Needs, inside: frozenset[definitions.Name]) -> _Pickled:
        file = BytesIO()
        buffers: Frames = []
        pickler = _CarefulPickler(file, needs, inside, _split(buffers), **self._how)
        tally = pickler.dispatch_table.count = Tally()
        pickler.dump(values)
        shared = self._shared(pickler, values, file, needs, inside)
        met = pickler.dispatch_table.met
        weak = [obj for repair, obj in met or () if repair.holds]
        orphans = self._orphans(weak, values, shared, inside) if weak else set()
        if shared or orphans:
            file = BytesIO()
            buffers.clear()
            again = _ReferringPickler(file, needs, inside, _split(buffers), **self._how)
            tally = again.dispatch_table.count = Tally()
            again.dispatch_table.orphans = orphans
            again.shared = shared
            again.dump(values)
            pickler = again
        return _Pickled(file.getvalue(), buffers, bool(shared), pickler.direct, needs, tally.repairs)

    def _orphans(
        self,
        containers: list[Any],
        values: tuple[Any, ...],
        shared: Mapping[int, tuple[Home, str]],
        inside: frozenset[definitions.Name],
    ) -> set[int]:
        """Return the ids of what only weak *containers* in *values* refer to."""
        from safemp.codec import watch

        def written() -> set[int]:
            pickler = _ReferringPickler(BytesIO(), Needs(), inside, **self._how)
            pickler.shared = shared
            return _held(pickler, values)

        return {id(referent) for _, referent in watch.unheld(containers, written)} - shared.keys()

    def identity(self, cls: type) -> str:
        """See ``definitions.Write``: that under which cloudpickle knows it again."""
        try:
            return str(_cp._get_or_create_tracker_id(cls))
        except Exception:  # its metaclass does not let it be looked up
            return ""

    def _shared(
        self, pickler: Any, values: tuple[Any, ...], file: BytesIO, needs: Needs, inside: frozenset[definitions.Name]
    ) -> dict[int, tuple[Home, str]]:
        """Find other globals among what was written, if it matters that they are these, and code names them."""
        if file.tell() > _LARGE or not any(map(_may_hold, values)):
            return {}
        found: dict[int, tuple[Home, str]] = {}  # the first name of each, which is another one's or its own
        memo = pickler.memo.copy()
        for key in {key for key, _ in inside}:
            home = needs.homes[key]
            for name, value in list(home.space.items()):
                if id(value) not in memo or id(value) in found or not _has_identity(value):
                    continue
                if (home.names is None or name in home.names) and name in self._names_read(home):
                    found[id(value)] = home, name
        return {each: (home, name) for each, (home, name) in found.items() if (home.key, name) not in inside}

    def _names_read(self, home: Home) -> set[str]:
        if home.key not in self._read:
            read = _names_read(home.space)
            self._read[home.key] = read | {name for key, name in self.named if key == home.key}
        return self._read[home.key]


_LARGE = 1 << 18
"""Bytes of a definition from which nobody looks for other globals in it: there are too many objects. Picked."""

_PIECE = 1 << 20
"""Bytes of a buffer that have a checksum of their own: one of 32 bits is little for all of it. Picked."""

_REFERS, _PARTED = b"\0", b"\1"
"""Ahead of a definition that refers to other globals by persistent ids; of one with buffers beside its stream: what
says whether it refers, too, and how long the parts are, follows. A pickle begins with 0x80."""


def _may_hold(value: Any) -> bool:
    """Tell whether there may be another object in *value* for which it matters that it is this one."""
    if type(value) in (list, set, frozenset):
        return not ATOMS.issuperset(map(type, value))
    if type(value) is dict:
        return not (ATOMS.issuperset(map(type, value)) and ATOMS.issuperset(map(type, value.values())))
    return type(value) not in ATOMS


def _names_read(space: dict[str, Any]) -> set[str]:
    """Return the names that code of a module reads."""
    module = space.get("__name__")
    todo = [value for value in list(space.values()) if type(value) in _HAVE_CODE or issubclass(type(value), type)]
    read: set[str] = set()
    seen: set[int] = set()
    while todo:
        value = todo.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) is FunctionType:
            if value.__globals__ is space:
                read.update(_global_names(value.__code__))
            todo += [part for part in closed_over(value).values() if type(part) in _HAVE_CODE]
        elif type(value) in (staticmethod, classmethod):
            todo.append(value.__func__)
        elif type(value) is property:
            todo += [value.fget, value.fset, value.fdel]
        elif type(value) is _CACHED:
            todo.append(value.__wrapped__)
        elif issubclass(type(value), type) and statics.class_dict(value).get("__module__") == module:
            todo += [part for part in statics.class_dict(value).values() if type(part) in _HAVE_CODE]
    return read


_CACHED = _NAMED[0]
_HAVE_CODE = (FunctionType, staticmethod, classmethod, property, _CACHED)


def _has_identity(value: Any) -> bool:
    """Tell whether it can matter that *value* is this object, and it is not found by its name in any case."""
    cls = type(value)
    return not (cls in _VALUES or issubclass(cls, type) or isinstance(cls, EnumMeta))


_VALUES = ATOMS | {FunctionType, BuiltinFunctionType, ModuleType, tuple, *_NAMED}


class _ReferringPickler(_CarefulPickler):
    """Writes some objects as the names of globals, whatever they are.

    Attributes:
        shared: These, by ``id``.
    """

    shared: Mapping[int, tuple[Home, str]] = {}

    def persistent_id(self, obj: Any) -> tuple[str, str] | None:
        place = self.shared.get(id(obj))
        if place is None:
            return None
        home, name = place
        self._needs.add(home, name)
        self.direct.add((home.key, name))
        return home.key, name


class _ReferringUnpickler(Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        return namespaces.get_global(*pid)


def _parts(blob: bytes) -> tuple[bool, Buffer, Frames]:
    """Take a definition with buffers apart: whether it refers, its stream, the buffers."""
    view = memoryview(blob)
    at = 5 + int.from_bytes(view[1:5], "little")
    refers, sizes = marshal.loads(view[5:at])
    parts: Frames = []
    for size in sizes:
        parts.append(view[at : at + size])
        at += size
    return bool(refers), parts[0], parts[1:]


def _load_definition(blob: bytes) -> Any:
    refers, stream, parts = _parts(blob) if blob[:1] == _PARTED else (blob[:1] == _REFERS, blob, [])
    buffers = [*map(bytearray, parts)]
    if not refers:
        return _loads(stream, buffers=buffers)
    return _ReferringUnpickler(BytesIO(bytes(stream).removeprefix(_REFERS)), buffers=buffers).load()


def dumps_offer(policy: Policy) -> bytes:
    """Pickle what workers may be asked for of ``__main__``: see ``offers``. For ``take_offer``; may be empty."""
    from safemp.codec import offers  # workers do without

    main = sys.modules.get("__main__")
    if main is None:
        return b""
    namespaces.make_what_was_offered(main.__dict__)
    home = home_of(main.__dict__, "__main__")
    if not isinstance(home, Home):
        return b""
    write, keep = _Writer(None, policy), policy is ALL
    try:
        return definitions.prefix(offers.harmless(home, write, keep), write, keep=keep)
    except USER_ERRORS as error:  # two of them are in a cycle, and cannot be pickled together
        if by_a_handler(error):
            raise
        return b""


def take_offer(table: bytes) -> None:
    """Have what *table* defines made when it is asked for."""
    definitions.offer(table, _load_definition)


def _split(buffers: Frames | None) -> Callable[[PickleBuffer], bool] | None:
    """Make a ``buffer_callback`` that takes the large buffers out of the stream.

    Args:
        buffers: Takes them, as they are.
    """
    if buffers is None:
        return None

    def keep(buffer: PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        if raw.nbytes < OUT_OF_BAND:
            return True
        buffers.append(raw)
        return False

    return keep


def dumps_fast(
    obj: Any,
    buffers: Frames | None = None,
    *,
    ship: bool = True,
    by_name: bool = False,
    heritage: Heritage | None = None,
    policy: Policy = ALL,
    apart: list[Buffer] | None = None,
) -> bytes | None:
    """Pickle with the C pickler.

    Args:
        obj: What to pickle.
        buffers: Takes buffers of at least ``OUT_OF_BAND`` bytes; ``None``: all stay in
            the stream.
        ship: Send the definitions of by-value globals along. ``False`` for outcomes,
            which go to where those globals come from.
        by_name: ``__main__`` is the same script on the other side: no need to ship it.
        heritage: Takes what starting workers inherit; ``None``: that is refused.
        policy: Which repairs are made.
        apart: Takes the table of definitions, where it can go apart; ``None``: it goes
            ahead.

    Returns:
        The stream; ``None`` where it would not be right, since it names a module that
        travels by value.

    Raises:
        Exception: Whatever pickling raises.
    """
    payload, pickler = _dump(obj, buffers, ship, heritage, policy)
    return _accept(payload, ship, by_name, heritage, policy, pickler, apart)


def dumps_call(
    fn: Any,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    buffers: Frames,
    *,
    by_name: bool = False,
    heritage: Heritage | None = None,
    policy: Policy = ALL,
    apart: list[Buffer] | None = None,
) -> bytes | None:
    """Pickle ``(fn, args, kwargs)`` as ``dumps_fast`` does, faster if they are plain.

    Atoms and the name of a function hold nothing that a dispatch table is for.
    """
    if type(fn) is FunctionType and "<locals>" in fn.__qualname__:
        return None
    plain = type(fn) in _FUNCTIONS or (type(fn) is BuiltinFunctionType and type(fn.__self__) is ModuleType)
    if plain and ATOMS.issuperset(map(type, args)) and ATOMS.issuperset(map(type, kwargs.values())):
        payload = _dumps((fn, args, kwargs), 5)
        module = fn.__module__  # the only one that the stream names
        if type(module) is str and not goes_by_value(module):
            return payload
        writer = None
        if not by_name and heritage is None and policy is ALL and module == "__main__":
            # Most often it is known what that takes.
            writer = _Writer(heritage, policy)
            known = definitions.known_prefix(fn.__qualname__, sys.modules["__main__"].__dict__, writer, apart)
            if known is not None:
                return known + payload
        return _accept(payload, True, by_name, heritage, policy, None, apart, writer)
    return dumps_fast((fn, args, kwargs), buffers, by_name=by_name, heritage=heritage, policy=policy, apart=apart)


_FUNCTIONS = frozenset({FunctionType, type})


def _dump(
    obj: Any, buffers: Frames | None, ship: bool, heritage: Heritage | None, policy: Policy
) -> tuple[bytes, Pickler]:
    file = BytesIO()
    pickler = Pickler(file, 5, buffer_callback=_split(buffers))
    table = pickler.dispatch_table = Table({}, heritage, policy)
    pickler.dump(obj)
    if table.met:
        _watch(table.met, obj, ship, heritage, policy)
    return file.getvalue(), pickler


def _watch(
    met: list[tuple[Repair, Any]],
    obj: Any,
    ship: bool,
    heritage: Heritage | None = None,
    policy: Policy = ALL,
    found: ByName | None = None,
) -> None:
    """Look at what can be judged only now that *obj* has been written.

    Raises:
        WatchError: Something is not honest where it is.
    """
    from safemp.codec import watch

    refusals: watch.Refusals = {}
    if ship and any(repair.talks for repair, _ in met):
        refusals |= watch.exposed([obj], policy.find)
    weak = [value for repair, value in met if repair.weak]
    if weak:

        def written() -> set[int]:
            return _held(_CarefulPickler(BytesIO(), Needs(), heritage=heritage, policy=policy, found=found), obj)

        refusals |= watch.orphans(weak, written)
    if refusals:
        raise watch.WatchError(refusals)


def _held(pickler: Any, obj: Any) -> set[int]:
    """Return the ids of what is written of *obj* without what weak references refer to."""
    pickler.dispatch_table.no_weak = True
    pickler.dump(obj)
    return set(pickler.memo.copy())


def _texts(pickler: Any, payload: bytes) -> bytes:
    """Return where the names of modules in *payload* are to be found: it, or its texts if these are less."""
    if len(payload) < _MUCH or max(payload.count(_TEXT), payload.count(_MEMO)) * _MUCH_OF_IT > len(payload):
        return payload
    return "\n".join(obj for _, obj in pickler.memo.copy().values() if type(obj) is str).encode("utf-8", "replace")


_MUCH = 1 << 15
"""Bytes of a stream with few texts from which these are looked at instead of all of it.
Picked: looking for a name in 800 kB of numbers takes longer than pickling them."""

_TEXT = b"\x8c"
"""SHORT_BINUNICODE, and every 256th byte of numbers."""

_MEMO = b"\x94"
"""MEMOIZE, once for every object that is not an atom, and every 256th byte of numbers."""

_MUCH_OF_IT = 64
"""Bytes a text, or an object, if there are few."""


def _accept(
    payload: bytes,
    ship: bool,
    by_name: bool,
    heritage: Heritage | None,
    policy: Policy,
    pickler: Pickler | None = None,
    apart: list[Buffer] | None = None,
    writer: _Writer | None = None,
) -> bytes | None:
    """Return what to send for *payload*, a stream of the fast rung, if it is right."""
    by_value, main = _places(payload, pickler)
    if by_value:
        return None
    if main and not by_name:
        return _with_main(payload, ship, heritage, policy, apart, writer)
    return payload


def _places(payload: bytes, pickler: Pickler | None) -> tuple[bool, bool]:
    """Tell whether a stream of the fast rung names a by-value module, and whether ``__main__``.

    Where it only seems to, the next rung is slower, and as right.
    """
    if _GLOBAL not in payload:
        return False, False
    modules = _modules_in(payload) if len(payload) > _SHORT else None
    if modules is None:
        texts = payload if pickler is None else _texts(pickler, payload)
        return any(name in texts for name in names_by_value()), b"_main__" in texts
    main = any(name in (b"__main__", b"__mp_main__") for name in modules)
    return any(name == each or each.startswith(name + b".") for name in names_by_value() for each in modules), main


def _modules_in(payload: bytes) -> set[bytes] | None:
    """Return the modules of the globals in a stream of protocol 5, if these are few and seen at once.

    Quicker than a look for every name in all of a long stream.

    Returns:
        Their names; ``None`` where one is not written out there, or it takes too long.
    """
    found: set[bytes] = set()
    at = payload.find(_GLOBAL)
    for _ in range(len(payload) // _SHORT):
        if at < 0:
            return found
        if payload[at - 1] == _MEMOIZE:
            name = _text_before(payload, at - 1)
            module = _text_before(payload, name - 1) if name > 0 and payload[name - 1] == _MEMOIZE else -1
            if module < 0:
                return None
            found.add(payload[module + 2 : name - 1])
        elif _MEMOIZED.match(payload, at - 2) or _MEMOIZED.match(payload, max(0, at - 5)):
            return None
        at = payload.find(_GLOBAL, at + 1)
    return None


def _text_before(payload: bytes, end: int) -> int:
    """Return where the SHORT_BINUNICODE begins whose text ends at *end*; -1: nowhere."""
    start = payload.rfind(_TEXT, max(0, end - 257), end)
    while start >= 0 and payload[start + 1] != end - start - 2:
        start = payload.rfind(_TEXT, max(0, end - 257), start)
    return start


_SHORT = 1 << 10
"""Bytes in which looking for a name costs as much as looking at one global. Measured."""

_MEMOIZE = 0x94

_GLOBAL = b"\x93"
"""STACK_GLOBAL: without this byte, protocol 5 names nothing. Looking for one byte is fast."""

_NAMED_GLOBAL = b"\x94\x93"
"""MEMOIZE, STACK_GLOBAL: how the name of a global ends in protocol 5."""


_MEMOIZED = re.compile(rb"h.\x93|j....\x93", re.DOTALL)
"""BINGET or LONG_BINGET, STACK_GLOBAL: a name that stands in the stream as a text, too."""


def _globals_in(payload: bytes) -> set[str]:
    """Return the first parts of the names of globals in a stream of protocol 5.

    A name that the stream takes from its memo is missed: see ``_MEMOIZED``. Bytes that
    only look like a name are found.
    """
    found = set()
    at = payload.find(_NAMED_GLOBAL)
    while at >= 0:
        start = _text_before(payload, at)
        if start >= 0:
            found.add(payload[start + 2 : at].decode("utf-8", "replace").partition(".")[0])
        at = payload.find(_NAMED_GLOBAL, at + 2)
    return found


def _with_main(
    payload: bytes,
    ship: bool,
    heritage: Heritage | None,
    policy: Policy,
    apart: list[Buffer] | None,
    writer: _Writer | None,
) -> bytes | None:
    """Complete a stream that names ``__main__`` with what it names."""
    main = sys.modules.get("__main__")
    if main is None:
        return None
    home = home_of(main.__dict__, "__main__")
    if not isinstance(home, Home):
        return None
    needs = Needs()
    names = _globals_in(payload)
    if _MEMOIZED.search(payload):
        for name in list(home.space):
            encoded = name.encode()
            if b"\x8c" + bytes((len(encoded) & 0xFF,)) + encoded in payload:
                names.add(name)
    for name in names:
        value = home.space.get(name)
        if value is None or not namespaces.is_main(getattr(value, "__module__", None)):
            continue  # a name of another module
        if not isinstance(value, (FunctionType, type)) or not home.has(name, value):
            return None  # an object that pickles as a name, or one that has lost its name
        needs.add(home, name)
    if not needs.names:
        return None
    if not ship and home.names is not None:
        return payload
    try:
        return _prefix(needs, heritage, policy, apart, writer) + payload
    except Exception:  # a name that only looks like one in the stream; the next rung is exact
        return None


def dumps_careful(
    obj: Any,
    buffers: Frames | None = None,
    *,
    ship: bool = True,
    by_name: bool = False,
    heritage: Heritage | None = None,
    policy: Policy = ALL,
    found: ByName | None = None,
    apart: list[Buffer] | None = None,
) -> bytes:
    """Pickle with cloudpickle under our rules.

    Args:
        obj: What to pickle.
        buffers: As for ``dumps_fast``.
        ship: As for ``dumps_fast``.
        by_name: As for ``dumps_fast``.
        heritage: As for ``dumps_fast``.
        policy: As for ``dumps_fast``.
        found: Objects to look up by name: see ``Table.by_name``.
        apart: As for ``dumps_fast``.

    Returns:
        The stream.

    Raises:
        Exception: Whatever pickling raises.
    """
    needs = Needs()
    file = BytesIO()
    pickler = _CarefulPickler(file, needs, _NOTHING, _split(buffers), by_name, heritage, policy, found)
    pickler.dump(obj)
    if pickler.dispatch_table.met:
        _watch(pickler.dispatch_table.met, obj, ship, heritage, policy, found)
    if not ship:
        for name in [n for n in needs.names if needs.homes[n[0]].names is not None]:
            del needs.names[name]
    return _prefix(needs, heritage, policy, apart, found=found) + file.getvalue()


def dumps(
    obj: Any,
    buffers: Frames | None = None,
    *,
    ship: bool = True,
    by_name: bool = False,
    heritage: Heritage | None = None,
    policy: Policy = ALL,
    apart: list[Buffer] | None = None,
) -> bytes:
    """Pickle by the first rung of the ladder that works: see ``dumps_fast``.

    Raises:
        Exception: What the careful rung raised.
    """
    if type(obj) in ATOMS:
        return _dumps(obj, 5)
    if not (type(obj) is FunctionType and "<locals>" in obj.__qualname__):
        try:
            stream = dumps_fast(obj, buffers, ship=ship, by_name=by_name, heritage=heritage, policy=policy, apart=apart)
        except USER_ERRORS as error:  # the careful rung says what is wrong, if anything is
            if by_a_handler(error):
                raise
            stream = None
        if stream is not None:
            return stream
        if buffers is not None:
            buffers.clear()
    return dumps_careful(obj, buffers, ship=ship, by_name=by_name, heritage=heritage, policy=policy, apart=apart)


class _PortablePickler(_ByValuePickler):
    """cloudpickle with our repairs: what it writes loads where safemp is not."""

    def __init__(
        self,
        file: Any,
        buffer_callback: Callable[[PickleBuffer], Any] | None = None,
        policy: Policy = ALL,
        found: ByName | None = None,
    ) -> None:
        self.dispatch_table = Table(_THEIRS, None, policy, portable=True, at_once=_AT_ONCE)
        self.dispatch_table.by_name = found
        super().__init__(file, protocol=5, buffer_callback=buffer_callback)

    def reducer_override(self, obj: Any) -> Any:
        cls = type(obj)
        if cls is FunctionType:
            if obj in _BUILDERS:
                return NotImplemented
            return self._dynamic_function_reduce(obj) if _only_here(obj.__module__) else self._function_reduce(obj)
        if isinstance(obj, ModuleType) and cls is ModuleType:
            known = obj is sys.modules.get(obj.__name__) and not _only_here(obj.__name__)
            by_name = known and not _cp._is_registered_pickle_by_value(obj)
            return NotImplemented if by_name else _module_by_value(obj)
        if issubclass(cls, BaseException):
            return portable_exception(obj)
        if isinstance(obj, type):
            call = structures.by_call(obj) if structures.is_of_ctypes(obj) else None
            if call is not None:
                return call
            here = _only_here(obj.__module__)
            reduced = _cp._dynamic_class_reduce(obj) if here else super().reducer_override(obj)
            return _found(obj, reduced) or _completed(obj, reduced)
        if cls is _NAMED[0]:
            return _cached(obj)
        return NotImplemented  # cloudpickle would ask for ``__class__``, of which proxies give another's


def _only_here(module: Any) -> bool:
    """Tell whether a module was made in memory, and so is in no other process."""
    known = isinstance(module, str) and module in sys.modules
    return known and not namespaces.is_main(module) and not importable(module)


def _module_by_value(module: ModuleType) -> tuple[Any, ...]:
    space = {name: value for name, value in module.__dict__.items() if name != "__builtins__"}
    return _cp.dynamic_subimport, (module.__name__, space)


def dumps_portable(
    obj: Any,
    buffer_callback: Callable[[PickleBuffer], Any] | None = None,
    *,
    policy: Policy = ALL,
    found: ByName | None = None,
) -> bytes:
    """Pickle so that plain pickle can load it, in a process without safemp where that can be.

    Args:
        obj: What to pickle.
        buffer_callback: As for ``pickle.dumps``.
        policy: Which repairs are made.
        found: Objects to look up by name: see ``Table.by_name``.

    Raises:
        Exception: Whatever pickling raises.
    """
    if type(obj) in ATOMS:
        return _dumps(obj, 5)
    # The callback must not be called by an attempt that fails; of a local function it is known.
    if buffer_callback is None and found is None and not (type(obj) is FunctionType and "<locals>" in obj.__qualname__):
        file = BytesIO()
        pickler = Pickler(file, 5)
        table = pickler.dispatch_table = Table({}, None, policy, portable=True)
        try:
            pickler.dump(obj)
            payload = file.getvalue()
            if not any(_places(payload, pickler)):
                if table.met:
                    _watch(table.met, obj, True, policy=policy)
                return payload
        except USER_ERRORS as error:  # the next rung says what is wrong, if anything is
            if by_a_handler(error):
                raise
    file = BytesIO()
    careful = _PortablePickler(file, buffer_callback, policy, found)
    careful.dump(obj)
    if careful.dispatch_table.met:
        _watch(careful.dispatch_table.met, obj, True, policy=policy, found=found)
    return file.getvalue()


def loads(stream: Buffer, buffers: Frames | None = None, apart: Buffer | None = None) -> Any:
    """Load what ``dumps`` wrote.

    Args:
        stream: It.
        buffers: What it took out of the stream.
        apart: The definitions, where they are not in the stream.

    Raises:
        FrameError: The definitions are damaged.
        BaseException: Whatever user code raises while it is loaded.
    """
    return _loads(definitions.split(stream, apart, _load_definition), buffers=buffers)


def load(file: Any, buffers: Any = None) -> Any:
    """Load the next pickle of an open file."""
    return _load(file, buffers=buffers)


# -- cloudpickle itself ---------------------------------------------------------------

_COPIES = (
    "cloudpickle.cloudpickle",
    "joblib.externals.cloudpickle.cloudpickle",
    "ray.cloudpickle.cloudpickle",
    "ray.cloudpickle.cloudpickle_fast",
    "pyspark.cloudpickle.cloudpickle",
    "pyspark.cloudpickle.cloudpickle_fast",
)
"""Modules that have cloudpickle's pickler: its own, and what others ship."""


class _Mending:
    """What ``mend_cloudpickle`` has changed. Rule: changed and read under the lock."""

    lock = threading.Lock()
    policies: list[tuple[object, Policy]] = []  # noqa: RUF012 - of the blocks that are open
    undo: list[Callable[[], None]] = []  # noqa: RUF012


def mend_cloudpickle(policy: Policy) -> Callable[[], None]:
    """Let every pickler of cloudpickle ask our rules first.

    Returns:
        Ends it. When all have ended, cloudpickle is as it was found.
    """
    block = object()
    with _Mending.lock:
        _Mending.policies.append((block, policy))
        for name in _COPIES:
            module = sys.modules.get(name)
            pickler = getattr(module, "Pickler", None) or getattr(module, "CloudPickler", None)
            if pickler is not None and not hasattr(pickler, "_safemp_mended"):
                _mend(pickler)

    def end() -> None:
        with _Mending.lock:
            _Mending.policies[:] = [pair for pair in _Mending.policies if pair[0] is not block]
            while not _Mending.policies and _Mending.undo:
                _Mending.undo.pop()()

    return end


def _mend(pickler: Any) -> None:
    own = "reducer_override" in vars(pickler)
    original = pickler.reducer_override

    def reducer_override(self: Any, obj: Any) -> Any:
        cls = type(obj)
        ours = cls is not FunctionType and cls is not ModuleType and not issubclass(cls, type)
        if ours and not isinstance(self, _CarefulPickler):
            policies = _Mending.policies
            rule = policies[-1][1].find(cls) if policies else None
            if rule is not None and cls is _NAMED[0]:
                return _cached(obj)
            if rule is not None:
                found = named.find(obj) if rule.named and cls is not object else None
                return rule.reduce(obj) if found is None else (getattr, found)
            if policies and may_be_standard(cls):
                return standard_stream(obj)
        reduced = original(self, obj)
        return (issubclass(cls, type) and _Mending.policies and _found(obj, reduced)) or reduced

    def undo() -> None:
        del pickler._safemp_mended
        if vars(pickler).get("reducer_override") is reducer_override:
            if own:
                pickler.reducer_override = original
            else:
                del pickler.reducer_override

    pickler.reducer_override = reducer_override
    pickler._safemp_mended = True
    _Mending.undo.append(undo)


# -- the walker's view ----------------------------------------------------------------


class Semantics:
    """What the careful pickler would do with one object, for the walker.

    Args:
        heritage: As for ``dumps_fast``.
        policy: As for ``dumps_fast``.
        roots: What is handed over: some things are refused where they are.
        error: Why it could not be written, if it is known.
        found: Objects to look up by name: see ``Table.by_name``.
    """

    def __init__(
        self,
        heritage: Heritage | None = None,
        policy: Policy = ALL,
        roots: Sequence[Any] = (),
        error: BaseException | None = None,
        found: ByName | None = None,
    ) -> None:
        from safemp.codec import watch

        self._heritage = heritage
        self._policy = policy
        self._found = found
        self._of_class: dict[type, Callable[[Any], Any]] = {}
        self._needs = Needs()
        self._pickler = _CarefulPickler(BytesIO(), self._needs, heritage=heritage, policy=policy, found=found)
        self._refusals = watch.exposed(roots, policy.find)
        if isinstance(error, watch.WatchError):
            self._refusals |= error.refusals

    def _check(self, obj: Any) -> None:
        refused, why = self._refusals.get(id(obj), (None, None))
        if why is not None and refused is obj:
            raise why

    def refuses(self, obj: Any) -> bool:
        """Tell whether *obj* is refused for where it is."""
        return id(obj) in self._refusals

    def by_value(self, obj: Any) -> bool:
        """Tell whether function or class *obj* travels by value."""
        space = obj.__globals__ if type(obj) is FunctionType else None
        if space is None:
            module = sys.modules.get(getattr(obj, "__module__", None) or "")
            space = getattr(module, "__dict__", None)
        if type(space) is dict and isinstance(home_of(space, space.get("__name__")), Home):
            return True
        if _cp._should_pickle_by_reference(obj):
            return False
        return type(obj) is FunctionType or find_class(obj) is None

    def globals_of(self, function: FunctionType) -> Mapping[str, Any]:
        """Return the globals that travel with by-value *function*."""
        space = function.__globals__
        home, _ = self._pickler._place(space)
        if isinstance(home, str):
            return {}
        values = {name: space[name] for name in _global_names(function.__code__) if name in space}
        return {name: value for name, value in values.items() if id(value) not in given}

    def globals_of_module(self, module: ModuleType) -> Mapping[str, Any] | None:
        """Return the globals that travel with by-value *module*; ``None``: it has a reduce value."""
        space = module.__dict__
        home, _ = self._pickler._place(space)
        if not isinstance(home, Home):
            return None
        if namespaces.is_main(module.__name__):
            return {}  # its functions bring along what they need
        names = space if home.names is None else home.names
        return {n: space[n] for n in names if n in space and not (n.startswith("__") and n.endswith("__"))}

    def repair_of(self, obj: Any, reduced: Any) -> Repair | None:
        """Tell by which repair *obj* has the reduce value *reduced*; ``None``: by none."""
        if issubclass(type(obj), BaseException):
            return None if is_plain_exception(obj) else EXCEPTION
        rule = self._pickler.dispatch_table.rules.get(type(obj))
        if rule is None and self._found is None:
            return None
        return made_by(rule, obj, reduced)

    def reduce(self, obj: Any) -> Any:
        """Return the reduce value of *obj*, or raise what pickling would raise."""
        if self._refusals:
            self._check(obj)
        cls = type(obj)
        reducer = self._of_class.get(cls)
        if reducer is not None:
            return reducer(obj)
        reduced = self._pickler.reducer_override(obj)
        if reduced is not NotImplemented:
            return reduced
        reducer = self._pickler.dispatch_table[cls]
        if cls is not FunctionType and not issubclass(cls, type):
            self._of_class[cls] = reducer  # the override goes by the class alone, and has none for it
        return reducer(obj)

    def find_global(self, obj: Any, name: str | None) -> str | None:
        """Return why *obj* is not found under its name; ``None`` if it is."""
        try:
            Pickler(BytesIO(), 5).dump(obj)
        except Exception as error:  # the reason is what we are after
            return None if isinstance(obj, type) and find_class(obj) is not None else str(error)
        return None

    def dump(self, obj: Any) -> None:
        """Pickle *obj* alone, or raise."""
        self._check(obj)
        needs = Needs()
        _CarefulPickler(BytesIO(), needs, heritage=self._heritage, policy=self._policy, found=self._found).dump(obj)
        _prefix(needs, self._heritage, self._policy)


def _with_room(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let *function* raise a ``RecursionError``, if it will, before it takes a lock.

    What gives the lock back is a call like others: at the end of the stack it fails, and all wait for ever.
    """

    @wraps(function)
    def with_room(*args: Any) -> Any:
        _go_deeper(_DEEPER)
        return function(*args)

    return with_room


def _go_deeper(levels: int) -> int:
    return min((levels - 1,), key=_go_deeper) if levels else 0  # a call from C takes of both stacks, Python's and C's


_DEEPER = 8
"""Calls within calls. Picked: what has the lock makes one, from C none."""

_cp._get_or_create_tracker_id = _with_room(_cp._get_or_create_tracker_id)
_cp._lookup_class_or_track = _with_room(_cp._lookup_class_or_track)


def _after_fork() -> None:
    """Free locks, cloudpickle's and ours: a thread that is not in this child may have held them."""
    _cp._DYNAMIC_CLASS_TRACKER_LOCK = threading.Lock()
    _Mending.lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
