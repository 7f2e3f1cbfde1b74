"""``assert_travels`` and ``assert_survives``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeVar

from safemp.codec.statics import type_name
from safemp.errors import shortened
from safemp.testing.comparing import Difference, differences
from safemp.testing.journeys import StuckError, by_pickle, by_safemp, raised_by_safemp

__all__ = ["By", "assert_survives", "assert_travels"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

By = Literal["safemp", "pickle"]

_POOLS = {
    "does not pickle": "a multiprocessing.Pool or ProcessPoolExecutor gives its caller another exception instead",
    "does not load": "a multiprocessing.Pool whose task raises it never answers, and a ProcessPoolExecutor breaks",
}


def assert_travels(obj: T, *, by: By = "safemp") -> T:
    """Check that *obj* goes to a worker process and back, and is the same then.

    The copy is as *obj* was when its own ``==`` says so, or when pickle would save the same of
    both; what safemp mends (a lock, a logger, a client) need only have its type.

    Args:
        obj: It is not changed.
        by: ``"safemp"``: as an argument and a result of safemp's pools. ``"pickle"``: as of the
            standard library's, for users who have nothing else.

    Returns:
        The copy that came back, for further assertions.

    Raises:
        AssertionError: It did not come back, or not as it was; the text names every culprit by
            its path, with what to do.
        WorkerCrashed: It ended the worker.
        TaskTimeout: It hangs there.
        ValueError: *by* is neither.
    """
    __tracebackhide__ = True
    _check(by)
    head = f"obj ({type_name(type(obj))}) does not"
    try:
        copy: T = by_safemp(obj, "obj") if by == "safemp" else by_pickle(obj, "obj")
    except StuckError as error:
        text = _stuck(f"{head} travel by {by}", error)
    else:
        found = differences(obj, copy, "obj")
        if not found:
            return copy
        text = _changed(f"{head} come back by {by} as it was", found)
    raise AssertionError(text)


def assert_survives(exception: E, *, by: By = "safemp", may_lose: Iterable[str] = ()) -> E:
    """Check that *exception*, raised in a worker, reaches the caller of a pool as it was.

    That is: as its own class, with the same text, ``args``, notes, cause, context, members of
    a group, and public attributes. The exception need not have been raised, and what it holds need not be
    picklable: it is treated as a pool treats what a task raises. So a lock is made anew. What
    cannot travel (a socket) is a ``safemp.Lost`` in the copy; where a reader would miss it, in ``args``
    or a public attribute, that is a failure, unless *may_lose* names it.

    Args:
        exception: It is not changed.
        by: ``"safemp"``: by safemp's pools. ``"pickle"``: by the standard library's, for users who
            have nothing else. Those lose cause and context of every exception, so these are not compared.
        may_lose: What need not arrive: ``"response"``, ``"args[1]"``, ``"__cause__.request"``.

    Returns:
        The copy that came back, for further assertions.

    Raises:
        AssertionError: It does not; the text says what was lost and what to do.
        WorkerCrashed: It ended the worker.
        TaskTimeout: It hangs there.
        TypeError: *exception* is not an exception; a class is none.
        ValueError: *by* is neither.
    """
    __tracebackhide__ = True
    _check(by)
    if not issubclass(type(exception), BaseException):  # isinstance asks its __class__, which is the user's
        name = getattr(exception, "__name__", type(exception).__name__)
        raise TypeError(f"assert_survives takes an exception, not {name}\n  fix:    make one: {name}(...)")
    head = f"exc ({type_name(type(exception))}) does not survive a pool of "
    head += "safemp" if by == "safemp" else "the standard library"
    try:
        copy: Any = raised_by_safemp(exception) if by == "safemp" else by_pickle(exception, "exc")
    except StuckError as error:
        text = f"{_stuck(head, error)}\n  ({_POOLS[error.culprits[0].problem]})"
    else:
        skip = {f"exc.{name}" for name in may_lose}
        found = differences(exception, copy, "exc", links=by == "safemp", skip=skip)
        if not found:
            made: E = copy
            return made
        names = [d.path.removeprefix("exc.") for d in found if d.path.startswith("exc.")]
        allowed = f"\n  (where readers can do without: may_lose={names})" if names else ""
        text = _changed(head, found) + allowed
    raise AssertionError(text)


def _check(by: str) -> None:
    if by not in ("safemp", "pickle"):
        raise ValueError(f"by must be 'safemp' or 'pickle', not {by!r}")


def _stuck(head: str, stuck: StuckError) -> str:
    """Lay out why an object did not come back; the first line stands alone."""
    lines = []
    for i, culprit in enumerate(stuck.culprits):
        what = f"{shortened(culprit.path)}: {culprit.type_name} {culprit.problem}{stuck.where}"
        lines += [f"and {what}" if i else f"{head}: {what}", f"  reason: {culprit.reason}", f"  fix:    {culprit.fix}"]
    return "\n".join(lines)


def _changed(head: str, found: list[Difference]) -> str:
    """Lay out what in a copy differs; the first line stands alone."""
    lines = []
    for i, difference in enumerate(found):
        what = f"{shortened(difference.path)}: {difference.what}"
        lines.append(f"and {what}" if i else f"{head}: {what}")
        if difference.fix:
            lines.append(f"  fix:    {difference.fix}")
    return "\n".join(lines)
