"""``on_error=``: what becomes of the items of a map that fail, and the error that names them all."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from safemp.errors import SafempError

__all__ = ["MapError", "OnError", "check_on_error", "given"]

OnError = Literal["raise", "collect", "return"]
"""``"raise"``: the first failure is raised, and what has not begun is dropped. ``"collect"``:
all items are done, then a ``MapError`` has the failures. ``"return"``: an error is the
result of its item."""

_SHOWN = 10
"""Items that a message names. Picked: a line."""


if sys.version_info >= (3, 11):
    _Group = ExceptionGroup[Exception]
else:

    class _Group(Exception):
        """What Python 3.11 has: several errors in one. Its text names them, since no traceback will."""

        items: tuple[int, ...] = ()

        def __init__(self, message: str, exceptions: Sequence[Exception]) -> None:
            super().__init__(message, exceptions)
            self.message = message
            self.exceptions = tuple(exceptions)

        def __str__(self) -> str:
            errors = zip(self.items, self.exceptions, strict=False)
            lines = [f"  items[{item}]: {type(error).__name__}: {error}" for item, error in errors]
            return "\n".join([self.message, *lines[:_SHOWN]])

    if not TYPE_CHECKING:
        try:
            from exceptiongroup import ExceptionGroup as _Group
        except ImportError:
            pass


class MapError(SafempError, _Group):
    """Some items of a map have failed: ``on_error="collect"``.

    An ``ExceptionGroup``, so ``except*`` and ``split`` work. On Python 3.10 it is one of the
    ``exceptiongroup`` package, or, where that is not installed, an error with the same
    ``message`` and ``exceptions``.

    Attributes:
        message: How many of how many have failed, and which.
        exceptions: What the failed items raised, in the order of the items. What is no
            ``Exception`` (``SystemExit``) is the cause of a ``RuntimeError``.
        items: Their indices in the iterable; as long as ``exceptions``.
        total: How many items there were.
        results: Of ``map`` and ``starmap``: all results in order, an error where there is none.
            Else empty: they have been given already.
    """

    __module__ = "safemp"

    items: tuple[int, ...] = ()
    total: int = 0
    results: Sequence[Any] = ()

    @classmethod
    def of(cls, errors: Mapping[int, BaseException], total: int, results: Sequence[Any] = ()) -> MapError:
        """Make the error for those that failed of *total* items, by their indices."""
        items = tuple(sorted(errors))
        made = cls(_message(items, total), [_exception(i, errors[i]) for i in items])
        made.items, made.total, made.results = items, total, results
        return made

    def derive(self, excs: Sequence[Any]) -> MapError:
        """Make the error for *excs*, a part of what this one has: for ``split`` and ``except*``."""
        made = type(self)(self.message, excs)
        numbers = {id(error): item for item, error in zip(self.items, self.exceptions, strict=True)}
        made.items = tuple(numbers[id(error)] for error in excs if id(error) in numbers)
        made.total, made.results = self.total, self.results
        return made


def check_on_error(on_error: str | None) -> None:
    """Refuse what is no ``OnError``.

    Raises:
        ValueError: It is something else.
    """
    if on_error is not None and on_error not in get_args(OnError):
        raise ValueError(f"on_error must be 'raise', 'collect' or 'return', not {on_error!r}")


def given(outcomes: Iterable[tuple[bool, Any]], on_error: OnError) -> Iterator[Any]:
    """Give the values among *outcomes*; of errors, what *on_error* wants.

    Args:
        outcomes: Whether it is a value, and it, for each item in order.
        on_error: What is wanted; for ``"raise"`` there must be no errors.

    Raises:
        MapError: At the end: some were errors, and are to be collected.
    """
    errors: dict[int, BaseException] = {}
    total = 0
    for good, value in outcomes:
        if good or on_error == "return":
            yield value
        else:
            errors[total] = value
        total += 1
    if errors:
        raise MapError.of(errors, total)


def _exception(item: int, error: BaseException) -> Exception:
    """Return *error*, which a group of exceptions must be able to hold."""
    # Not isinstance, which asks the error's own __class__.
    if issubclass(type(error), Exception):
        return error  # type: ignore[return-value]
    made = RuntimeError(f"the call for items[{item}] raised {type(error).__name__}")
    made.__cause__ = error
    return made


def _message(items: Sequence[int], total: int) -> str:
    shown = ", ".join(map(_number, items[:_SHOWN]))
    if len(items) > _SHOWN:
        shown += f" and {_number(len(items) - _SHOWN)} more"
    return f"{_number(len(items))} of {_number(total)} failed: item{'s'[: len(items) > 1]} {shown}"


def _number(n: int) -> str:
    """Write a number so that it can be read: ``10 000``."""
    return f"{n:,}".replace(",", " ")
