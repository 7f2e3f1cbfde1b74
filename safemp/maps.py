"""``safemp.map`` and its kin, on a process-wide executor that stays warm.

It is made at the first use, in a forked child anew, and ends with the interpreter.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from safemp.batch import default_chunksize
from safemp.engines.settings import LimitOptions, Limits, limits_of
from safemp.executor import SafeExecutor, check_callable
from safemp.failures import OnError, check_on_error
from safemp.progress import Progress, length_of, meter_of
from safemp.results import Feed, Gather, ItemIterator
from safemp.worker import name_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["close_shared", "imap", "imap_unordered", "map", "shared", "starmap"]

T = TypeVar("T")

_lock = threading.Lock()
_shared: SafeExecutor | None = None


def shared() -> SafeExecutor:
    """Return the process-wide executor, made anew if it has been shut down."""
    global _shared
    with _lock:
        if _shared is None or _shared._shut_down:
            _shared = SafeExecutor()
        return _shared


def close_shared() -> None:
    """End the workers of the process-wide executor; the next use makes new ones."""
    global _shared
    with _lock:
        executor, _shared = _shared, None
    if executor is not None:
        executor.shutdown()


@overload
def map(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    chunksize: int | None = None,
    progress: Progress | None = None,
    on_error: Literal["raise", "collect"] = "raise",
    **limits: Unpack[LimitOptions],
) -> list[T]: ...


@overload
def map(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    chunksize: int | None = None,
    progress: Progress | None = None,
    on_error: Literal["return"],
    **limits: Unpack[LimitOptions],
) -> list[T | BaseException]: ...


def map(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    chunksize: int | None = None,
    progress: Progress | None = None,
    on_error: OnError = "raise",
    **limits: Unpack[LimitOptions],
) -> list[Any]:
    """Call *fn* for the items of *iterables*, in parallel.

    Args:
        fn: The function.
        iterables: One for each parameter, as for the builtin ``map``.
        chunksize: Items that go to a worker together; default: so that each worker
            gets about four chunks.
        progress: Show how far it is. ``True``: by a bar of tqdm; a text: with that before
            it; or a class of bars (``tqdm.rich.tqdm``), a bar, a ``rich.progress.Progress``
            or its class.
        on_error: What becomes of failures. ``"raise"``: what has not begun is dropped, and
            the error raised that a loop would have met; items that run meanwhile are
            not waited for. ``"collect"``: all items are done, then a ``MapError`` has
            what the failed ones raised. ``"return"``: it is the result of its item.
        limits: What each call may use, and how often it is tried: *task_timeout*,
            *retries*, *retry_on*, *max_memory*, as of ``SafeExecutor``.

    Returns:
        The results, in order.

    Raises:
        PreflightError: *fn* or an item cannot be pickled; nothing was sent.
        ModuleNotFoundError: *progress* wants tqdm, and it is not installed.
        BaseException: What the first failed item raised.
        MapError: What the failed items raised, if they are collected.
    """
    each = limits_of("map", limits)
    if len(iterables) == 1:
        return _gather(fn, iterables[0], chunksize, each, progress, on_error, star=False)
    return _gather(fn, zip(*iterables), chunksize, each, progress, on_error, star=True)  # noqa: B905 - as the builtin map


@overload
def starmap(
    fn: Callable[..., T],
    iterable: Iterable[Iterable[Any]],
    *,
    chunksize: int | None = None,
    progress: Progress | None = None,
    on_error: Literal["raise", "collect"] = "raise",
    **limits: Unpack[LimitOptions],
) -> list[T]: ...


@overload
def starmap(
    fn: Callable[..., T],
    iterable: Iterable[Iterable[Any]],
    *,
    chunksize: int | None = None,
    progress: Progress | None = None,
    on_error: Literal["return"],
    **limits: Unpack[LimitOptions],
) -> list[T | BaseException]: ...


def starmap(
    fn: Callable[..., T],
    iterable: Iterable[Iterable[Any]],
    *,
    chunksize: int | None = None,
    progress: Progress | None = None,
    on_error: OnError = "raise",
    **limits: Unpack[LimitOptions],
) -> list[Any]:
    """As ``map``, each item being the positional arguments of a call."""
    return _gather(fn, iterable, chunksize, limits_of("starmap", limits), progress, on_error, star=True)


def _gather(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    chunksize: int | None,
    limits: Limits,
    progress: Progress | None,
    on_error: OnError,
    *,
    star: bool,
) -> list[Any]:
    check_callable(fn)
    check_on_error(on_error)
    meter = meter_of(progress, name_of(fn))
    items = iterable if isinstance(iterable, Sized) else list(iterable)
    executor = shared()
    by_default = chunksize is None
    if chunksize is None:
        chunksize = default_chunksize(len(items), executor._max_workers)
    elif chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    gather = Gather(
        executor._engine,
        fn,
        items,
        chunksize,
        star=star,
        limits=limits,
        divisible=by_default,
        meter=meter,
        on_error=on_error,
    )
    try:
        gather.watch()
    except BaseException:  # Ctrl-C: nobody will read the answers
        executor.terminate_workers()
        raise
    return gather.result()


@overload
def imap(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    *,
    chunksize: int = 1,
    buffersize: int | None = None,
    progress: Progress | None = None,
    on_error: Literal["raise", "collect"] = "raise",
    **limits: Unpack[LimitOptions],
) -> Iterator[T]: ...


@overload
def imap(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    *,
    chunksize: int = 1,
    buffersize: int | None = None,
    progress: Progress | None = None,
    on_error: Literal["return"],
    **limits: Unpack[LimitOptions],
) -> Iterator[T | BaseException]: ...


def imap(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    *,
    chunksize: int = 1,
    buffersize: int | None = None,
    progress: Progress | None = None,
    on_error: OnError = "raise",
    **limits: Unpack[LimitOptions],
) -> Iterator[Any]:
    """Call *fn* for each item; give the results in order, as they come.

    Args:
        fn: Called with one item.
        iterable: The items; may be infinite.
        chunksize: Items that go to a worker together.
        buffersize: Items read ahead of the results taken; default: 8 for each worker.
        progress: Show how many calls have finished, while results are taken: as of ``map``.
        on_error: What becomes of failures. ``"raise"``: what a call raised is raised in its
            place, and the iteration can go on. ``"return"``: it is given in its place.
            ``"collect"``: failed items are left out, and at the end a ``MapError`` has all
            they raised.
        limits: What each call may use, and how often it is tried: *task_timeout*,
            *retries*, *retry_on*, *max_memory*, as of ``SafeExecutor``.

    Raises:
        PreflightError: *fn* cannot be pickled. An item that cannot is named in its place.
        BaseException: From the iterator: what a call raised. The iteration can go on.
        MapError: From the iterator, at its end: what calls raised, collected.
    """
    return _iterate(fn, iterable, chunksize, buffersize, limits_of("imap", limits), progress, on_error, ordered=True)


@overload
def imap_unordered(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    *,
    chunksize: int = 1,
    buffersize: int | None = None,
    progress: Progress | None = None,
    on_error: Literal["raise", "collect"] = "raise",
    **limits: Unpack[LimitOptions],
) -> Iterator[T]: ...


@overload
def imap_unordered(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    *,
    chunksize: int = 1,
    buffersize: int | None = None,
    progress: Progress | None = None,
    on_error: Literal["return"],
    **limits: Unpack[LimitOptions],
) -> Iterator[T | BaseException]: ...


def imap_unordered(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    *,
    chunksize: int = 1,
    buffersize: int | None = None,
    progress: Progress | None = None,
    on_error: OnError = "raise",
    **limits: Unpack[LimitOptions],
) -> Iterator[Any]:
    """As ``imap``, giving the results in the order in which they arrive."""
    return _iterate(
        fn, iterable, chunksize, buffersize, limits_of("imap_unordered", limits), progress, on_error, ordered=False
    )


def _iterate(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    chunksize: int,
    buffersize: int | None,
    limits: Limits,
    progress: Progress | None,
    on_error: OnError,
    *,
    ordered: bool,
) -> Iterator[Any]:
    check_callable(fn)
    check_on_error(on_error)
    meter = meter_of(progress, name_of(fn))
    if chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    if buffersize is not None and buffersize < 1:
        raise ValueError("buffersize must be None or > 0")
    executor = shared()
    total = None if meter is None else length_of(iterable)
    window = max(chunksize, buffersize or 8 * executor._max_workers * chunksize)
    feed = Feed(
        executor._engine,
        fn,
        iterable,
        chunksize,
        ordered=ordered,
        window=window,
        unread=window,
        timeout_error=TimeoutError,
        limits=limits,
        meter=meter,
    )
    if meter is not None:
        meter.open(total)
    return ItemIterator(feed, own=True, on_error=on_error)


def _after_fork() -> None:
    global _shared, _lock
    _shared, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
