"""``safemp.map`` and its kin, on a process-wide executor that stays warm.

It is made at the first use, in a forked child anew, and ends with the interpreter.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, TypeVar

from safemp.batch import default_chunksize
from safemp.engines.settings import LimitOptions, Limits, limits_of
from safemp.executor import SafeExecutor, check_callable
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


def map(
    fn: Callable[..., T],
    *iterables: Iterable[Any],
    chunksize: int | None = None,
    progress: Progress | None = None,
    **limits: Unpack[LimitOptions],
) -> list[T]:
    """Call *fn* for the items of *iterables*, in parallel.

    Args:
        fn: The function.
        iterables: One for each parameter, as for the builtin ``map``.
        chunksize: Items that go to a worker together; default: so that each worker
            gets about four chunks.
        progress: Show how far it is. ``True``: by a bar of tqdm; a text: with that before
            it; or a class of bars (``tqdm.rich.tqdm``), a bar, a ``rich.progress.Progress``
            or its class.
        limits: What each call may use, and how often it is tried: *task_timeout*,
            *retries*, *retry_on*, *max_memory*, as of ``SafeExecutor``.

    Returns:
        The results, in order.

    Raises:
        PreflightError: *fn* or an item cannot be pickled; nothing was sent.
        ModuleNotFoundError: *progress* wants tqdm, and it is not installed.
        BaseException: What the first failed item raised, when all have finished.
    """
    each = limits_of("map", limits)
    if len(iterables) == 1:
        return _gather(fn, iterables[0], chunksize, each, progress, star=False)
    return _gather(fn, zip(*iterables), chunksize, each, progress, star=True)  # noqa: B905 - as the builtin map


def starmap(
    fn: Callable[..., T],
    iterable: Iterable[Iterable[Any]],
    *,
    chunksize: int | None = None,
    progress: Progress | None = None,
    **limits: Unpack[LimitOptions],
) -> list[T]:
    """As ``map``, each item being the positional arguments of a call."""
    return _gather(fn, iterable, chunksize, limits_of("starmap", limits), progress, star=True)


def _gather(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    chunksize: int | None,
    limits: Limits,
    progress: Progress | None,
    *,
    star: bool,
) -> list[T]:
    check_callable(fn)
    meter = meter_of(progress, name_of(fn))
    items = iterable if isinstance(iterable, Sized) else list(iterable)
    executor = shared()
    if chunksize is None:
        chunksize = default_chunksize(len(items), executor._max_workers)
    elif chunksize < 1:
        raise ValueError("chunksize must be >= 1.")
    gather = Gather(executor._engine, fn, items, chunksize, star=star, limits=limits, meter=meter)
    try:
        gather.watch()
    except BaseException:  # Ctrl-C: nobody will read the answers
        executor.terminate_workers()
        raise
    return gather.result()


def imap(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    *,
    chunksize: int = 1,
    buffersize: int | None = None,
    progress: Progress | None = None,
    **limits: Unpack[LimitOptions],
) -> Iterator[T]:
    """Call *fn* for each item; give the results in order, as they come.

    Args:
        fn: Called with one item.
        iterable: The items; may be infinite.
        chunksize: Items that go to a worker together.
        buffersize: Items read ahead of the results taken; default: 8 for each worker.
        progress: Show how many calls have finished, while results are taken: as of ``map``.
        limits: What each call may use, and how often it is tried: *task_timeout*,
            *retries*, *retry_on*, *max_memory*, as of ``SafeExecutor``.

    Raises:
        PreflightError: *fn* cannot be pickled. An item that cannot is named in its place.
        BaseException: From the iterator: what a call raised. The iteration can go on.
    """
    return _iterate(fn, iterable, chunksize, buffersize, limits_of("imap", limits), progress, ordered=True)


def imap_unordered(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    *,
    chunksize: int = 1,
    buffersize: int | None = None,
    progress: Progress | None = None,
    **limits: Unpack[LimitOptions],
) -> Iterator[T]:
    """As ``imap``, giving the results in the order in which they arrive."""
    return _iterate(fn, iterable, chunksize, buffersize, limits_of("imap_unordered", limits), progress, ordered=False)


def _iterate(
    fn: Callable[..., T],
    iterable: Iterable[Any],
    chunksize: int,
    buffersize: int | None,
    limits: Limits,
    progress: Progress | None,
    *,
    ordered: bool,
) -> Iterator[T]:
    check_callable(fn)
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
    return ItemIterator(feed, own=True)


def _after_fork() -> None:
    global _shared, _lock
    _shared, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
