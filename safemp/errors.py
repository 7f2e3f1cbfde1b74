"""What safemp raises, and how it reads.

Every error's first line stands alone: what could not be done, where, which type.
``reason:`` is what the lower layer said, ``fix:`` is what to type. Paths are
expressions to paste into a debugger. A user's value is shown by path and type,
never by its repr.

Rule 1: every class here pickles, also when it is made on the spot to be caught as
a user's own error (see ``PreflightError.of``).
Rule 2: an error that replaces one of the standard library is an instance of that
one too, so that code which caught it still does.
"""

from __future__ import annotations

import re
from _pickle import PicklingError  # what pickle re-exports, without importing pickle in this layer
from dataclasses import dataclass, field
from typing import Any

__all__ = [
    "Culprit",
    "EngineError",
    "FrameError",
    "PreflightError",
    "Repaired",
    "SafempError",
    "message_of",
    "shortened",
]

_SHOWN = 5
"""Culprits that a message lists in full. Picked, not measured."""

_LONGEST_PATH = 240
"""Characters of a path that a message shows. Picked: two lines of a wide terminal."""


class SafempError(Exception):
    """The base of every error that safemp itself raises."""

    __module__ = "safemp"


class FrameError(SafempError, ValueError):
    """Frames are damaged, cut short, or written by another version of safemp."""

    __module__ = "safemp"


class EngineError(SafempError, RuntimeError):
    """An engine upon somebody else's workers cannot run a task, by no fault of the task.

    Its workers lack safemp or have another version of it, or what keeps them has failed.
    ``__cause__`` is what that has raised, if anything.
    """

    __module__ = "safemp"


@dataclass(frozen=True, slots=True)
class Culprit:
    """One object that cannot travel.

    Attributes:
        path: A Python expression where one exists, rooted at the call as the user
            wrote it: ``fn``, ``args[0]``, ``kwargs['x']``, ``items[17]``, ``result``.
        type_name: The object's type, with its module unless that is ``builtins``.
        reason: What the pickler said of it, in one line.
        fix: What to type instead.
        problem: ``does not pickle``, or ``does not load``.
        owner: The class, with its module, whose attribute leads here, or the function
            whose variable does; empty for a root.
    """

    path: str
    type_name: str
    reason: str
    fix: str
    _obj: Any = field(default=None, repr=False, compare=False)
    _error: BaseException | None = field(default=None, repr=False, compare=False)
    problem: str = "does not pickle"
    owner: str = ""

    def get(self) -> Any:
        """Return the object itself.

        Returns:
            The object; ``None`` when this culprit has come from another process.
        """
        return self._obj

    def __reduce__(self) -> tuple[Any, ...]:
        return Culprit, (self.path, self.type_name, self.reason, self.fix, None, None, self.problem, self.owner)


@dataclass(frozen=True, slots=True)
class Repaired:
    """One object that travels because it is repaired.

    Attributes:
        path: As of a ``Culprit``.
        type_name: The object's type, with its module unless that is ``builtins``.
        kind: ``rebuild``, ``by name``, ``by value``, ``reconstruct`` or ``reopen``.
        why: Why the repair is honest, in one sentence.
        needs_safemp: Only a process that has safemp can load it.
        owner: As of a ``Culprit``.
    """

    path: str
    type_name: str
    kind: str
    why: str
    needs_safemp: bool = False
    owner: str = ""
    _obj: Any = field(default=None, repr=False, compare=False)

    def get(self) -> Any:
        """Return the object itself, as it is here."""
        return self._obj

    def __reduce__(self) -> tuple[Any, ...]:
        return Repaired, (self.path, self.type_name, self.kind, self.why, self.needs_safemp, self.owner)


def shortened(path: str, most: int = _LONGEST_PATH) -> str:
    """Leave the middle out of a *path* of more than about *most* characters.

    What is left out is whole steps, and their number is said. ``Culprit.path`` itself is never cut.
    """
    if len(path) <= most:
        return path
    steps = [m.start() for m in re.finditer(r"(?<!^)[.\[)]", path)]
    head = max((at for at in steps if at <= most // 2), default=most // 2)
    tail = min((at for at in steps if at >= len(path) - most // 2), default=len(path) - most // 2)
    return f"{path[:head]} …({len(path) - head - (len(path) - tail)} characters)… {path[tail:]}"


def message_of(verb: str, culprits: tuple[Culprit, ...]) -> str:
    """Lay out *culprits* as one message; the first line stands alone."""
    first = culprits[0]
    lines = [
        f"cannot {verb} {shortened(first.path)}: {first.type_name} {first.problem}",
        f"  reason: {first.reason}",
        f"  fix:    {first.fix}",
    ]
    rest = culprits[1:]
    if rest:
        shown = ", ".join(f"{shortened(c.path, _LONGEST_PATH // 2)} ({c.type_name})" for c in rest[:_SHOWN])
        more = f", and {len(rest) - _SHOWN} more" if len(rest) > _SHOWN else ""
        lines.append(f"(+ {len(rest)} more: {shown}{more})")
    return "\n".join(lines)


def _caught_as(cls: type[PreflightError], original: type[BaseException] | None) -> type[PreflightError]:
    """Return a class that is *cls* and, where layouts allow it, *original* too."""
    if original is None or issubclass(cls, original):
        return cls
    try:
        return type(
            cls.__name__,
            (cls, original),
            {"__module__": cls.__module__, "__init__": cls.__init__, "_caught_as": original},
        )
    except TypeError:  # two builtin bases with different layouts, or a metaclass that objects
        return cls


def _rebuild(
    cls: type[PreflightError], original: type[BaseException] | None, culprits: tuple[Culprit, ...]
) -> PreflightError:
    text = message_of(cls._verb, culprits)
    try:
        error = _bare(_caught_as(cls, original), text)
    except TypeError:  # of a builtin that wants more (ExceptionGroup)
        error = _bare(cls, text)
    error.args = (text,)
    error.culprits = culprits
    return error


def _bare(cls: type[PreflightError], text: str) -> PreflightError:
    """Make an instance by the ``__new__`` of the builtin that gives *cls* its layout."""
    base: Any = cls
    while base.__flags__ & 1 << 9:  # Py_TPFLAGS_HEAPTYPE: made by a class statement
        base = base.__base__
    error: PreflightError = base.__new__(cls, text)
    return error


class PreflightError(SafempError, PicklingError, TypeError):
    """Something in a call cannot be pickled; nothing was sent.

    Raised by the call itself (``submit``, ``map``, …), at the caller's line. When a
    user's own ``__reduce__`` raised, the error is an instance of what it raised, too.

    Attributes:
        culprits: Every object that cannot travel, in the order of the walk.
    """

    __module__ = "safemp"
    _verb = "send"
    _caught_as: type[BaseException] | None = None

    culprits: tuple[Culprit, ...]

    def __init__(self, culprits: tuple[Culprit, ...]) -> None:
        super().__init__(message_of(self._verb, culprits))
        self.culprits = culprits

    @classmethod
    def of(cls, culprits: tuple[Culprit, ...]) -> PreflightError:
        """Make the error for *culprits*, caught also as what the first one raised."""
        raised = culprits[0]._error
        error = _rebuild(cls, type(raised) if isinstance(raised, Exception) else None, culprits)
        error.__cause__ = raised
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        base = next(c for c in type(self).__mro__ if "_verb" in c.__dict__)
        return _rebuild, (base, self._caught_as, self.culprits)

    def __str__(self) -> str:
        return str(self.args[0])
