"""The state of an exception, read and written past all code of its class.

An exception keeps state in four places: ``args``; C members of its bases (``OSError.errno``,
``StopIteration.value``, those of extension classes); slots; ``__dict__``. All are reached
through the descriptors of the class that defines them, so neither a constructor nor a
property, ``__getattr__``, ``__setattr__`` or read-only ``args`` of the user's runs.

Rule 1: ``read_state`` leaves out what a new object has anyway: most states are small.
Rule 2: ``make`` and ``write_state`` load by name in another process. Their names,
their arguments and the keys of a state are a wire format.
"""

from __future__ import annotations

import builtins
import re
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any, TypeAlias

from safemp.codec.statics import class_dict, mro
from safemp.codec.tracebacks import decode_traceback, encode_traceback

__all__ = [
    "State",
    "args_of",
    "can_make",
    "fields_of",
    "group_of",
    "is_builtin",
    "linked",
    "make",
    "may_have_fields",
    "new_args",
    "raw_dict",
    "read_links",
    "read_members",
    "read_state",
    "read_tail",
    "same_text",
    "text_of",
    "write_state",
]

NO_TEXT = "<exception str() failed>"
"""What ``traceback`` prints for an exception whose ``__str__`` raises."""

State: TypeAlias = dict[str, Any]
"""``args``: tuple; ``members``: ``{"Class.name": value}`` of C members and slots;
``dict``; ``cause``, ``context``: exceptions; ``suppress``: bool; ``tb``: a wire value."""

_BUILTIN = frozenset(value for value in vars(builtins).values() if isinstance(value, type))
_GROUP: Any = getattr(builtins, "BaseExceptionGroup", None)  # 3.11

_base_of = type.__dict__["__base__"].__get__
_qualname_of = type.__dict__["__qualname__"].__get__
_space = class_dict(BaseException)
_dict, _args, _tb = (_space[name] for name in ("__dict__", "args", "__traceback__"))
_cause, _context, _suppress = (_space[name] for name in ("__cause__", "__context__", "__suppress_context__"))

_NOT_STATE = frozenset(
    {_suppress, _space.get("__weakref__")}
    | ({class_dict(_GROUP)["message"], class_dict(_GROUP)["exceptions"]} if _GROUP else set())
)
"""Members that travel by themselves (the last two, which are read-only, through ``make``)."""

_NOT_STATE_NAMES = ("__dict__", "__weakref__")
"""The same, in classes whose compiler lists these as members."""

_GETSETS: dict[type, tuple[str, ...]] = {
    OSError: ("characters_written",),
    UnicodeError: ("encoding", "object", "start", "end", "reason"),
}
"""State of builtins behind getters: the first everywhere, the others where a Python has them so."""


def is_builtin(cls: type) -> bool:
    """Tell whether *cls* is one of Python's own, whose state we know."""
    return type(cls) is type and cls in _BUILTIN  # a metaclass may hash and compare as it likes


_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")


def same_text(one: BaseException, other: BaseException) -> bool:
    """Tell whether two exceptions say the same, but for addresses of objects in it."""
    return _ADDRESS.sub("0x", text_of(one)) == _ADDRESS.sub("0x", text_of(other))


def text_of(exc: BaseException) -> str:
    """Return ``str(exc)``, or ``NO_TEXT``. Never raises; runs the user's ``__str__``."""
    try:
        return str.__str__(str(exc))  # an exact str, also of a subclass
    except BaseException:  # user code
        return NO_TEXT


def raw_dict(exc: BaseException) -> dict[str, Any]:
    """Return the true ``__dict__`` of *exc*, made if need be."""
    found: dict[str, Any] = _dict.__get__(exc)
    return found


def group_of(exc: BaseException) -> tuple[str, list[BaseException]] | None:
    """Return message and members if *exc* is a group; past its own properties."""
    if _GROUP is None or not issubclass(type(exc), _GROUP):
        return None
    space = class_dict(_GROUP)
    return space["message"].__get__(exc), list(space["exceptions"].__get__(exc))


def args_of(exc: BaseException) -> tuple[Any, ...]:
    """Return the true ``args`` of *exc*."""
    found: tuple[Any, ...] = _args.__get__(exc)
    return found


def read_links(exc: BaseException) -> tuple[BaseException | None, BaseException | None]:
    """Return ``(__cause__, __context__)``."""
    return _cause.__get__(exc), _context.__get__(exc)


def linked(exc: BaseException) -> list[BaseException]:
    """Return the exceptions that Python itself ties to *exc*: cause, context, members."""
    group = group_of(exc)
    return [other for other in (*read_links(exc), *(group[1] if group else ())) if other is not None]


def _members(cls: type) -> list[tuple[str, Any, type]]:
    """List ``(key, descriptor, owner)`` of every C member and slot of exceptions of *cls*."""
    found: list[tuple[str, Any, type]] = []
    for owner in mro(cls):
        space = class_dict(owner)
        for name, descriptor in list(space.items()):
            kind = type(descriptor)
            if (
                (kind is MemberDescriptorType and descriptor not in _NOT_STATE and name not in _NOT_STATE_NAMES)
                or (
                    kind is GetSetDescriptorType
                    and owner is not BaseException  # it has none; asked first, for speed
                    and descriptor.__name__[:2] != "__"
                    and _is_stored(descriptor, owner, found)
                )
            ):
                found.append((f"{_qualname_of(owner)}.{name}", descriptor, owner))
    return found


def _is_stored(getset: GetSetDescriptorType, owner: type, found: list[tuple[str, Any, type]]) -> bool:
    """Tell whether a getter in C may be one of a field: most of extension classes, few of Python's own."""
    name = getset.__name__
    if is_builtin(owner):
        return name in _GETSETS.get(owner, ())
    hidden = any(other.__name__ == name for _, other, _ in found)  # as by a slot of a stand-in
    return getset.__objclass__ is owner and not hidden


def fields_of(cls: type) -> dict[str, Any]:
    """Return the descriptors, by key, of what extension classes keep in C; of each name the first.

    Slots of classes in Python are not among them.
    """
    found: dict[str, Any] = {}
    names: set[str] = set()
    for key, descriptor, owner in _members(cls):
        name = descriptor.__name__
        if name not in names and not is_builtin(owner):
            names.add(name)
            if type(descriptor) is GetSetDescriptorType or "__slots__" not in class_dict(owner):
                found[key] = descriptor
    return found


_BUILTIN_KEYS = frozenset(key for cls in _BUILTIN if issubclass(cls, BaseException) for key, *_ in _members(cls))


def may_have_fields(state: State) -> bool:
    """Tell whether there can be C fields of an extension class in *state*."""
    return "members" in state and not state["members"].keys() <= _BUILTIN_KEYS


def read_members(exc: BaseException, *, slots: bool = True) -> dict[str, Any]:
    """Return the C members of *exc*; unless *slots* is false, also its slots and what extensions keep."""
    values: dict[str, Any] = {}
    given_none = _errno_given(exc)
    for key, descriptor, owner in _members(type(exc)):
        builtin = is_builtin(owner)
        if key in values or not (slots or builtin):
            continue
        try:
            value = descriptor.__get__(exc)
        except BaseException:  # AttributeError: empty; C getters may raise any other
            continue
        # An empty C member reads as None too, and for some that is not the same:
        # OSError with filename None prints a file called "None".
        if value is not None or not builtin or (given_none and key in _ERRNO):
            values[key] = value
    return values


_ERRNO = ("OSError.errno", "OSError.strerror")


def _errno_given(exc: BaseException) -> bool:
    """Tell ``OSError(None, None)`` from ``OSError()``: only the text shows the difference."""
    if not issubclass(type(exc), OSError):
        return False
    try:
        return OSError.__str__(exc) != BaseException.__str__(exc)
    except BaseException:  # the __str__ of what somebody put into it
        return False


def read_tail(exc: BaseException) -> State:
    """Return what no class looks after itself: links, suppression, traceback."""
    state: State = {}
    cause, context = read_links(exc)
    if cause is not None:
        state["cause"] = cause
    if context is not None:
        state["context"] = context
    if _suppress.__get__(exc):
        state["suppress"] = True
    tb = encode_traceback(_tb.__get__(exc))
    if tb is not None:
        state["tb"] = tb
    return state


def read_state(exc: BaseException) -> State:
    """Return the whole state of *exc*, for ``write_state``. Borrows its values."""
    state = read_tail(exc)
    state["args"] = args_of(exc)
    members = read_members(exc)
    if members:
        state["members"] = members
    space = raw_dict(exc)
    if space:
        state["dict"] = space
    return state


def make(cls: type[BaseException], *args: Any) -> BaseException:
    """Make an exception without its ``__init__`` and any ``__new__`` in Python.

    Args:
        cls: Its class.
        args: As ``new_args`` gave them.
    """
    made: BaseException = _new_of(cls)[0](cls, *args)
    return made


def can_make(cls: type[BaseException]) -> bool:
    """Tell whether ``make`` can make a *cls* without arguments; may run C code of somebody's."""
    try:
        return issubclass(type(make(cls)), BaseException)
    except Exception:
        return False


def new_args(exc: BaseException) -> tuple[Any, ...]:
    """Return what ``make`` wants beside the class.

    That is message and members of a group; for a class whose C code wants arguments, as
    most of those made with PyO3, its ``args``, if it takes them; for all others nothing.
    """
    group = group_of(exc)
    if group is not None:
        return group
    cls = type(exc)
    new, owner = _new_of(cls)
    if is_builtin(owner):
        return ()
    args = args_of(exc)
    try:
        new(cls, *args)
    except Exception:  # C code of somebody's
        return ()
    return args


def _new_of(cls: type) -> tuple[Any, type]:
    """Return the C-level ``__new__`` of *cls* and the class it is of.

    The first along ``__base__`` is the one that CPython calls safe for this layout;
    looking along the MRO finds the wrong one for two builtin bases.
    """
    base: type | None = cls
    while base is not None:
        new = class_dict(base).get("__new__")
        if type(new) is BuiltinFunctionType:
            return new, base
        base = _base_of(base)
    raise TypeError(f"cannot make {cls!r}: not an exception class")


def write_state(exc: BaseException, state: State) -> None:
    """Fill *exc* with what ``read_state`` returned.

    Members that its class does not have here are left out.
    """
    if "args" in state:
        _args.__set__(exc, state["args"])
    if "dict" in state:
        raw_dict(exc).update(state["dict"])
    members = state.get("members")
    if members:
        descriptors = {key: descriptor for key, descriptor, _ in reversed(_members(type(exc)))}
        for key, value in members.items():
            try:
                descriptors[key].__set__(exc, value)
            except Exception:  # another version of the class, or a read-only member
                continue
    if state.get("cause") is not None:
        _cause.__set__(exc, state["cause"])
    if state.get("context") is not None:
        _context.__set__(exc, state["context"])
    _suppress.__set__(exc, bool(state.get("suppress", False)))  # setting a cause has set it
    tb = decode_traceback(state.get("tb"))
    if tb is not None:
        _tb.__set__(exc, tb)
