"""ctypes: a library is loaded again under its name; its functions are found in it.

As it is pickled, a library takes along its handle, an address in this process: its
first call in another one is a segmentation fault.
"""

from __future__ import annotations

import operator
from typing import Any

from safemp.codec.libraries import called, loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import BY_NAME, RefusedError, Repair

__all__ = ["table"]

_USE_ERRNO, _USE_LAST_ERROR = 8, 16
"""ctypes' flags of the functions of a library."""

_OWN = ("_name", "_handle", "_FuncPtr", "_func_flags_", "_func_restype_")


def _library(library: Any) -> Any:
    """What was set of its functions (``argtypes``, ``restype``) travels with them."""
    cls = type(library)
    if cls.__init__ is not loaded("ctypes", "CDLL").__init__:
        raise RefusedError(
            f"cannot pickle a library of ctypes whose class {cls.__name__} makes it in its own way",
            "make it in the task or in an initializer",
        )
    flags = library._FuncPtr._flags_
    options = {"use_errno": bool(flags & _USE_ERRNO), "use_last_error": bool(flags & _USE_LAST_ERROR)}
    made = called(cls, library._name, **{name: value for name, value in options.items() if value})
    return *made, {name: value for name, value in library.__dict__.items() if name not in _OWN} or None


def _function(function: Any) -> Any:
    library = (function._objects or {}).get("0")
    name = getattr(function, "__name__", None)
    if not isinstance(library, loaded("ctypes", "CDLL")) or type(function) is not library._FuncPtr or not name:
        raise RefusedError(
            "cannot pickle a pointer to a C function: it is an address in this process",
            "send the Python function, or the library and the name, and make the pointer in the task",
        )
    found = Made(getattr if library.__dict__.get(name) is function else operator.getitem, library, name)
    usual = {"restype": library._FuncPtr._restype_, "argtypes": None, "errcheck": None}
    settings = [(what, getattr(function, what)) for what in usual if getattr(function, what) is not usual[what]]
    return operator.getitem, ([found, *(Made(setattr, found, *setting) for setting in settings)], 0)


def _address(_: Any) -> Any:
    raise RefusedError(
        "cannot pickle a pointer of ctypes: it is an address in this process",
        "send what it points to, its .contents, and make the pointer in the task",
    )


def table() -> dict[type, Repair]:
    """Return the rules."""
    again = "the other process loads the library of the same name"
    there = f"{again}, and finds the function there"
    return {
        loaded("ctypes", "CDLL"): Repair(BY_NAME, again, _library, family=True),
        loaded("_ctypes", "CFuncPtr"): Repair(BY_NAME, there, _function, family=True),
        loaded("_ctypes", "_Pointer"): Repair(BY_NAME, "", _address, family=True),
    }
