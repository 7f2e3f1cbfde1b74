"""What a stream calls when it is loaded, to make again what pickle cannot."""

from __future__ import annotations

import types
from _abc import _abc_init  # type: ignore[import-not-found]
from abc import ABCMeta
from collections.abc import Callable
from functools import singledispatch
from importlib import import_module
from typing import Any, Generic, NewType, Protocol, get_origin, is_typeddict

from safemp.codec.frames import Buffer
from safemp.codec.statics import type_name

__all__ = [
    "Made",
    "look_up",
    "look_up_or_make",
    "make_quietly",
    "redispatch",
    "reference",
    "renew",
    "set_attributes",
    "unshare",
]


class Made:
    """Stands in a reduce value for what a call gives there.

    So a rule can put calls into calls, and what is loaded needs none of this package.
    """

    __slots__ = ("_reduced",)

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self._reduced = (function, args)

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced

    def __call__(self, *_: Any) -> Any:
        """Do nothing: pickle wants a function to be callable here already."""
        raise TypeError("a Made is a stand-in: only the pickler may use it")


def look_up(module: str, name: str, kind: str) -> Any:
    """Return attribute *name* of *module*, which is of type *kind* at the caller.

    Raises:
        LookupError: It is of another type here.
    """
    found = getattr(import_module(module), name, None)
    if type_name(type(found)) != kind:
        raise LookupError(
            f"{module}.{name} is a {kind} at the caller and a {type_name(type(found))} here: "
            "it is set when the program runs, so set it here too, in an initializer"
        )
    return found


def reference(obj: Any, module: str, name: str) -> tuple[Callable[..., Any], tuple[str, str, str]]:
    """Return the reduce value of *obj*, which is attribute *name* of *module*: see ``look_up``."""
    return look_up, (module, name, type_name(type(obj)))


def look_up_or_make(module: str, name: str, make: Callable[[], Any]) -> Any:
    """Return the lock that is attribute *name* of *module*; where it is none, a new one."""
    made = make()
    found = getattr(import_module(module), name, None)
    return found if type(found) is type(made) else made


def unshare(stream: Buffer, *buffers: Buffer) -> Any:
    """Load what ``calls.encode_shared`` has written."""
    from safemp.codec import pickling  # which imports this file

    return pickling.loads(stream, list(buffers))


def renew(name: str, supertype: Any, module: str) -> Any:
    """Make a ``NewType``."""
    made = NewType(name, supertype)  # type: ignore[misc]
    made.__module__ = module
    return made


def set_attributes(obj: Any, attributes: dict[str, Any]) -> None:
    """Give *obj* these attributes, whatever its ``__setstate__`` would do with them."""
    vars(obj).update(attributes)


def set_state(obj: Any, state: tuple[dict[str, Any] | None, dict[str, Any]]) -> None:
    """Give *obj* the attributes and slots of a default state, past the ``__setattr__`` of its class."""
    attributes, slots = state
    if attributes:
        vars(obj).update(attributes)
    for name, value in slots.items():
        object.__setattr__(obj, name, value)


def redispatch(registry: list[tuple[type, Callable[..., Any]]]) -> Any:
    """Make a ``singledispatch`` function with these implementations."""
    functions = dict(registry)
    made = singledispatch(functions.pop(object))
    for cls, function in functions.items():
        made.register(cls, function)
    return made


class _WholeError(RuntimeError):
    """The class is whole. Up to Python 3.11 this is the cause of a ``RuntimeError``."""


class _Catch:
    """The first name in a class: holds the class when it is whole, and its hooks are about to run.

    Python calls ``__set_name__`` before ``__init_subclass__``:
    https://docs.python.org/3/reference/datamodel.html#creating-the-class-object.
    (A base in front of the others would keep the hooks away, too; but it cannot always be taken out again.)
    """

    NAME = "_safemp_catch"

    def __init__(self) -> None:
        self.caught: type | None = None

    def __set_name__(self, owner: type, name: str) -> None:
        self.caught = owner
        raise _WholeError


def make_quietly(meta: type, name: str, bases: tuple[Any, ...], space: dict[str, Any]) -> type | None:
    """Make a class without the hooks of its bases and metaclass.

    What the hooks did (a registry, say) has been done where the class statement ran,
    and travels with the objects that it was done to.

    Returns:
        ``None``: there are no such hooks, or Python does not let us.
    """
    parts = meta.__mro__[: meta.__mro__.index(type)]  # what is behind it makes no classes
    makers = [vars(part).get(maker) for part in parts for maker in ("__new__", "__init__")]
    if not all(maker is None or isinstance(maker, (types.FunctionType, staticmethod)) for maker in makers):
        return None  # it makes its classes in C, as those of ctypes do, and must be let
    resolved = types.resolve_bases(bases)
    if any(is_typeddict(base) or not issubclass(meta, type(base)) for base in resolved):
        return None  # a TypedDict or NamedTuple: their makers put other bases in the place of these
    above = [part for base in resolved for part in base.__mro__[:-1]]  # some do not let themselves be compared
    # What the hook of Generic does it may do again; but below, it would call the others.
    hooked = any("__init_subclass__" in vars(part) for part in above if part is not Generic)
    if not hooked and (meta is type or meta is ABCMeta):
        return None
    if any(part is Generic for part in above):
        space = {**space, "__parameters__": _parameters(bases)}  # Sub(Base[int]) may be made before Base has its state
    if resolved is not bases:
        space = {**space, "__orig_bases__": bases}
    catch = _Catch()
    try:
        type.__new__(meta, name, resolved, {_Catch.NAME: catch, **space})
    except (RuntimeError, TypeError):  # a TypeError: not with these bases, says Python
        pass
    cls = catch.caught
    if cls is None:
        return None
    type.__delattr__(cls, _Catch.NAME)
    if issubclass(meta, ABCMeta):
        _abc_init(cls)
    return cls


def _parameters(bases: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the type variables of a class: those of ``Generic[...]``, where it is among *bases*, are all."""
    aliases = [base for base in bases if get_origin(base) is not None]
    whole = [alias for alias in aliases if alias.__origin__ is Generic or alias.__origin__ is Protocol]
    return tuple(
        dict.fromkeys(variable for alias in whole or aliases for variable in getattr(alias, "__parameters__", ()))
    )
