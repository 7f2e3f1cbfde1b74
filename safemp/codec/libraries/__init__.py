"""One file for each library whose objects are mended; loaded only when that library is.

Each has one function, ``table() -> {type: Repair}``, called again whenever modules have
come: a type that is not there yet stands as ``None``, and is left out. None of them imports its library.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

__all__ = ["called", "loaded", "says_how"]


def called(function: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
    """Make the reduce value of what ``function(*args, **kwargs)`` gives."""
    return (partial(function, *args, **kwargs), ()) if kwargs else (function, args)


def loaded(module: str, *names: str) -> Any:
    """Return attribute *names* (one after the other) of *module*, ``None`` if it is not there.

    Runs no ``__getattr__`` of a lazy module: nothing is imported by looking.
    """
    found: Any = sys.modules.get(module)
    for name in names:
        space = getattr(found, "__dict__", None)
        found = space.get(name) if space is not None else None
    return found


def says_how(cls: Any) -> bool:
    """Tell whether a class has a way of its own to be pickled."""
    return cls.__reduce_ex__ is not object.__reduce_ex__ or cls.__reduce__ is not object.__reduce__
