"""Exceptions of an extension class, as of Cython's ``cdef class``: their constructor fills fields in C.

Made by the C API itself, so that no compiler is wanted.
"""

from __future__ import annotations

import ctypes
from typing import Any

__all__ = ["Doubled", "Gone", "HttpError", "Lengthy", "Longer", "answer"]

_FIRST = BaseException.__basicsize__
"""Where the fields begin: an ``int`` that can be set, one that cannot, and one behind a getter only."""

_INT, _READ_ONLY = 1, 1
_INIT, _MEMBERS, _GETSET = 60, 72, 73  # Py_tp_...
_DEFAULT_AND_BASE = 1 << 18 | 1 << 10

_Init = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.py_object, ctypes.c_void_p)
_Get = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)
_Set = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.py_object, ctypes.c_void_p)


class _Member(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("type", ctypes.c_int),
        ("offset", ctypes.c_ssize_t),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


class _GetSet(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("get", _Get),
        ("set", _Set),
        ("doc", ctypes.c_char_p),
        ("closure", ctypes.c_void_p),
    ]


class _Slot(ctypes.Structure):
    _fields_ = [("slot", ctypes.c_int), ("value", ctypes.c_void_p)]


class _Spec(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("basicsize", ctypes.c_int),
        ("itemsize", ctypes.c_int),
        ("flags", ctypes.c_uint),
        ("slots", ctypes.POINTER(_Slot)),
    ]


_kept: list[Any] = []
"""What the classes point to."""


def _field(exc: object, at: int) -> Any:
    return ctypes.c_int.from_address(id(exc) + _FIRST + 4 * at)


def _make(name: str, init: Any, members: Any, getset: Any) -> Any:
    slots = (_Slot * 4)(
        (_INIT, ctypes.cast(init, ctypes.c_void_p)),
        (_MEMBERS, ctypes.cast(members, ctypes.c_void_p)),
        (_GETSET, ctypes.cast(getset, ctypes.c_void_p)),
    )
    spec = _Spec(f"{__name__}.{name}".encode(), _FIRST + 16, 0, _DEFAULT_AND_BASE, slots)
    make = ctypes.pythonapi.PyType_FromSpecWithBases
    make.argtypes, make.restype = [ctypes.c_void_p, ctypes.py_object], ctypes.py_object
    _kept.append((slots, spec, init, members, getset))
    return make(ctypes.byref(spec), (Exception,))


@_Init
def _fill(exc: Any, args: tuple[Any, ...], _: Any) -> int:
    for at in range(3):
        _field(exc, at).value = len(args[0]) + at
    return 0


_answers: dict[int, object] = {}
"""What the getter gives in the place of a number, by ``id``."""


@_Get
def _get(exc: object, _: Any) -> object:
    return _answers.get(id(exc), _field(exc, 2).value)


def answer(exc: object, value: object) -> None:
    """Let the getter of *exc*, which must live on, give *value*."""
    _answers[id(exc)] = value


@_Set
def _set(exc: object, value: Any, _: Any) -> int:
    _field(exc, 2).value = value
    return 0


_none = (_Member * 1)(), (_GetSet * 1)()
_settable = (_Member * 2)((b"status", _INT, _FIRST, 0, None)), (_GetSet * 2)((b"reason", _get, _set, None, None))
_fixed = (
    (_Member * 2)((b"code", _INT, _FIRST + 4, _READ_ONLY, None)),
    (_GetSet * 2)((b"size", _get, _Set(), None, None)),
)

HttpError: Any = _make("HttpError", _fill, *_settable)
"""``status`` and ``reason``, which can be set."""
Lengthy: Any = _make("Lengthy", _fill, *_fixed)
"""``code`` and ``size``, which cannot."""


class Gone(HttpError):
    """Its constructor in Python wants something else than its ``args``."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.args = (text,)
        self.status = code


class Longer(Lengthy):
    """The same, with fields that its ``args`` give by the constructor in C alone."""

    def __init__(self, text: str, *, more: object) -> None:
        super().__init__(text)
        self.args = (text,)
        self.more = more


class Doubled(Lengthy):
    """With fields that its ``args`` do not give."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.args = (text + text,)
