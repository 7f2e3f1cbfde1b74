"""The C fields of exceptions whose class is of an extension, such as a ``cdef class`` of Cython.

Where a field can be written, it is state as any other. One that is read-only is filled by the
constructor of the extension alone, of ``args``, as pickle would: the one thing of a class that
runs when it loads. If that does not give the same, the exception has to arrive as a
stand-in, which has its own attributes over these fields.

Rule 1: a getter is never asked of an object that no constructor has filled, if there is another
way: it may follow a pointer that is not there yet.
Rule 2: ``construct`` loads by name in another process; its name and arguments are a wire format.
"""

from __future__ import annotations

from collections.abc import Callable
from types import WrapperDescriptorType
from typing import Any, NamedTuple

from safemp.codec.exception_state import (
    State,
    args_of,
    fields_of,
    group_of,
    is_builtin,
    make,
    may_have_fields,
    new_args,
    raw_dict,
    same_text,
    write_state,
)
from safemp.codec.lost import Lost
from safemp.codec.statics import class_dict, mro, qualname

__all__ = ["Settled", "construct", "has_fields", "settle", "shadowed"]

_PLAIN = frozenset({str, bytes, int, float, bool, complex, type(None)})
_EMPTY = object()


class Settled(NamedTuple):
    """How to make an exception, and what to write into it then.

    Attributes:
        function: ``make`` or ``construct``.
        args: Its arguments.
        state: For ``write_state``.
        whole: It has the values of all C fields then.
    """

    function: Callable[..., BaseException]
    args: tuple[Any, ...]
    state: State
    whole: bool = True


def construct(cls: type[BaseException], *args: Any) -> BaseException:
    """Make an exception by the C constructor of its extension class, and no ``__init__`` in Python.

    Raises:
        BaseException: It does not take these arguments, or there is none.
    """
    made = make(cls, *args)
    init = _init_of(cls)
    if init is None:
        raise TypeError(f"{qualname(cls)} has no constructor in C")
    init(made, *args)
    return made


def _init_of(cls: type) -> Any:
    """Return the first ``__init__`` in C that *cls* has, unless that is of one of Python's own."""
    for base in mro(cls):
        init = class_dict(base).get("__init__")
        if type(init) is WrapperDescriptorType:
            return None if is_builtin(base) else init
    return None


def settle(exc: BaseException, state: State, *, constructing: bool = True) -> Settled:
    """Find out what gives *exc* its C fields back.

    Args:
        exc: Borrowed. Its getters are called, and its C constructor.
        state: As ``read_state`` returned it; values may have been replaced by what is sent for them.
        constructing: ``construct`` may be chosen.
    """
    cls = type(exc)
    plain = make, (cls, *new_args(exc))
    fields = fields_of(cls) if may_have_fields(state) else {}
    if not fields:
        return Settled(*plain, state)
    values = {key: _read(exc, descriptor) for key, descriptor in fields.items()}
    kept = {key: value for key, value in state["members"].items() if key not in fields}
    before: State = {"args": args_of(exc), "members": kept, "dict": raw_dict(exc)}
    try:
        made = make(*plain[1])
        write_state(made, before)
    except BaseException:  # C code of somebody's, which will not make it there either
        return Settled(*plain, {**state, "members": kept})
    refused = []
    for key, descriptor in fields.items():
        if key not in state["members"]:
            continue
        given = state["members"][key]
        try:
            descriptor.__set__(made, given if type(given) is Lost else values[key])
            kept[key] = given
        except BaseException:  # it is read-only, or takes no other type
            refused.append(key)
    found = Settled(*plain, {**state, "members": kept})

    def same(other: BaseException) -> bool:
        return all(_alike(values[key], _read(other, fields[key])) for key in refused)

    if refused and constructing and _init_of(cls) is not None and group_of(exc) is None:
        try:
            other = construct(cls, *before["args"])
            write_state(other, {**before, "members": kept})
            if same_text(other, exc) and same(other):
                return found._replace(function=construct, args=(cls, *before["args"]))
        except BaseException:  # as above
            pass
    refused = [key for key in refused if _alike(values[key], _read(exc, fields[key]))]  # else it is never the same
    return found._replace(whole=same(made))


def has_fields(exc: BaseException, values: dict[str, Any]) -> bool:
    """Tell whether the C fields of *exc* have these values, which are by their names."""
    fields = [(key.rpartition(".")[2], descriptor) for key, descriptor in fields_of(type(exc)).items()]
    return all(_alike(values[name], _read(exc, descriptor)) for name, descriptor in fields if name in values)


def shadowed(exc: BaseException, state: State) -> State:
    """Return *state* for a stand-in, whose own slots lie over the C fields of the class of *exc*."""
    fields = fields_of(type(exc)) if may_have_fields(state) else {}
    if not fields:
        return state
    own = qualname(type(exc))
    names = {key: f"{own}.{key.rpartition('.')[2]}" if key in fields else key for key in state["members"]}
    return {**state, "members": {names[key]: value for key, value in state["members"].items()}}


def _read(exc: BaseException, descriptor: Any) -> Any:
    try:
        return descriptor.__get__(exc)
    except BaseException:  # a getter of somebody's
        return _EMPTY


def _alike(one: Any, other: Any, depth: int = 4) -> bool:
    """Compare plain values; of others, whose ``__eq__`` is somebody's code, only the types."""
    if one is other or type(one) is not type(other):
        return one is other
    if type(one) in _PLAIN:
        return bool(one == other or one != one)  # the last: NaN
    if not depth or type(one) not in (list, tuple, dict):
        return True
    if len(one) != len(other):
        return False
    if type(one) is dict:
        one, other = ([*pairs.keys(), *pairs.values()] for pairs in (one, other))
    return all(_alike(a, b, depth - 1) for a, b in zip(one, other, strict=True))
