"""Modules that are being imported, as seen by threads that work for the one that imports them.

A pool may be used in the body of a module. The thread that imports the module has its lock, and
waits for the call; the thread that encodes the call again pickles a function of that module, for
which pickle imports the module, and waits for that lock: for ever. Python would see two threads
that wait for each other's locks, and let one have the module as it is; of our waiting it knows nothing.

So in the threads that ``aside`` runs, such a module counts as imported as soon as the thread that
imports it stands still. What the call needs of it has been there when the call was made. Until then,
and in all other threads, an import waits as ever.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from threading import get_ident
from types import CodeType, FrameType
from typing import Any

__all__ = ["aside"]

_GLANCE = 0.05
"""Seconds between two looks at another thread."""

_GLANCES = 4
"""Looks at one place in a row after which it stands still. Picked."""

_aside: dict[int, set[int]] = {}
"""The threads that work for others, each with the modules which count as imported there."""

_Place = tuple[list[str], list[tuple[CodeType, int]]]


class _Importing:
    """What the spec of a module has for ``_initializing``, while its body runs in a thread.

    Args:
        space: The module's globals.
    """

    __slots__ = ("_space",)

    def __init__(self, space: dict[str, Any]) -> None:
        self._space = space

    def __bool__(self) -> bool:
        settled = _aside.get(get_ident())
        if settled is None:
            return True
        if id(self) not in settled and _stands_still(self._space):
            settled.add(id(self))
        return id(self) not in settled


def _bodies(space: dict[str, Any] | None = None) -> list[tuple[FrameType, int, FrameType]]:
    """Return the frames of modules' bodies that run in other threads, with the thread, and what that is at.

    Args:
        space: Only those of the module with these globals.
    """
    here = get_ident()
    found = []
    for thread, top in sys._current_frames().items():
        frame: FrameType | None = top if thread != here else None
        while frame is not None:
            if frame.f_code.co_name == "<module>" and (space is None or frame.f_globals is space):
                found.append((frame, thread, top))
            frame = frame.f_back
    return found


def _place(space: dict[str, Any]) -> _Place | None:
    """Tell where the thread stands that imports a module; ``None``: there is no such thread any more."""
    for _, thread, top in _bodies(space):
        place = []
        frame: FrameType | None = top
        while frame is not None:
            place.append((frame.f_code, frame.f_lasti))
            frame = frame.f_back
        return _ticks(thread), place
    return None


def _ticks(thread: int) -> list[str]:
    """Return what a thread has used of the processor; nothing where that is not known.

    A loop that computes gives way to others at one instruction, and looks as if it stood there.
    """
    native = next((each.native_id for each in threading.enumerate() if each.ident == thread), None)
    try:
        with open(f"/proc/self/task/{native}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[11:13]
    except OSError:
        return []


def _stands_still(space: dict[str, Any]) -> bool:
    """Wait until the body of a module has run, or the thread that runs it stands still; tell which."""
    last: _Place | None = None
    seen = 0
    while (place := _place(space)) is not None:
        at_work = place[1][0][0].co_filename.startswith("<frozen importlib")  # it reads a file, or loads a library
        seen = seen + 1 if place == last and not at_work else 0
        if seen >= _GLANCES:
            return True
        last = place
        time.sleep(_GLANCE)
    return False


def _mark(space: dict[str, Any]) -> None:
    """Have the spec of a module whose body runs say so in our way."""
    spec = space.get("__spec__")
    if spec is None or getattr(spec, "_initializing", False) is not True:
        return
    spec._initializing = _Importing(space)
    if not _bodies(space):  # it has just ended, maybe before we wrote that
        spec._initializing = False


def _mark_all() -> None:
    """Mark the modules whose bodies run now. Apart from what follows, which must keep no frame."""
    for frame, _, _ in _bodies():
        with suppress(Exception):  # another's importer may make specs of its own
            _mark(frame.f_globals)


def aside(function: Callable[[], object]) -> None:
    """Call *function*, in a thread for whose work another may wait while it imports a module."""
    _mark_all()
    here = get_ident()
    _aside[here] = set()
    try:
        function()
    finally:
        del _aside[here]
