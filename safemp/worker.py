"""What happens in a worker: frames in, frames out.

Rule 1: nothing here raises because of user code, be it the task, or ``__reduce__``,
``__setstate__``, ``__str__`` or ``__getattr__`` of what it takes, returns or raises.
Whatever a task raises comes back, ``SystemExit`` and ``KeyboardInterrupt`` included;
it does not end the worker.
Rule 2: nothing here knows how frames came or where they go.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from platform import node
from typing import Any

from safemp.codec import calls, homes, namespaces
from safemp.codec.calls import Chunk
from safemp.codec.exceptions import Where
from safemp.codec.frames import Buffer, Frames, split
from safemp.codec.statics import type_name
from safemp.errors import FrameError
from safemp.steady import by_a_handler

__all__ = ["Kept", "load_chunk", "load_function", "name_of", "not_loaded", "run", "run_items", "spread"]


def run(frames: Frames, apart: Buffer | None = None, keep: list[Any] | None = None) -> Frames:
    """Make one call.

    Args:
        frames: What ``encode_call`` gave.
        apart: What it gave apart, if it did.
        keep: Takes what was called, and what came of it. Who has sent the outcome clears it, since a destructor may
            take long, or end the process.

    Returns:
        Frames for ``decode_outcome``. Never raises.
    """
    if keep is None:
        keep = []
        outcome = run(frames, apart, keep)
        keep.clear()
        return outcome
    try:
        call = calls.decode_call(frames, apart)
    except BaseException as error:  # user code, in __setstate__ or a constructor
        return not_loaded(error)
    keep.append(call)
    try:
        value = call.fn(*call.args, **call.kwargs)
    except BaseException as error:  # Rule 1
        keep.append(error)
        return _failed(error, call.fn, None)
    keep.append(value)
    return calls.encode_outcome(value)


def load_function(frames: Frames) -> Callable[..., Any] | Frames:
    """Load the function of a map.

    Returns:
        The function; where it does not load, the outcome that says so.
    """
    try:
        return calls.decode_function(frames)
    except BaseException as error:  # user code, as above
        return not_loaded(error)


class Kept:
    """A function that a worker keeps for many chunks.

    One that is a global of the caller's is loaded again when globals have been defined since: other calls may
    have brought what they are now, or older ones what they were.

    Args:
        frames: What ``encode_function`` gave, and what the chunks gave apart, if they did.

    Attributes:
        size: Bytes that it keeps.
    """

    __slots__ = ("_apart", "_changes", "_frames", "_loaded", "size")

    def __init__(self, frames: Frames) -> None:
        frames, rest = split(frames)
        self._apart = bytes(rest[0]) if rest else None
        self._loaded = load_function(frames)
        self._changes = namespaces.changes()
        self._frames = frames if homes.is_received(self._loaded) else None
        self.size: int = len(self._apart or b"") + sum(map(len, self._frames or ()))

    def load(self, chunk: Frames) -> tuple[Callable[..., Any], Chunk] | Frames:
        """Load some items, and the function if that has to be.

        Args:
            chunk: What ``encode_chunk`` gave.

        Returns:
            Both; where one does not load, the outcome that says so.
        """
        if self._frames is not None and (self._changes != namespaces.changes() or not homes.is_received(self._loaded)):
            self._loaded = load_function(self._frames)
        if isinstance(self._loaded, list):
            return self._loaded
        items = load_chunk(chunk, self._apart)
        self._changes = namespaces.changes()  # what the items have brought is as it should be
        return items if isinstance(items, list) else (self._loaded, items)


def load_chunk(frames: Frames, apart: Buffer | None = None) -> Chunk | Frames:
    """Load some items of a map.

    Args:
        frames: What ``encode_chunk`` gave.
        apart: What it gave apart, if it did.

    Returns:
        The chunk; where it does not load, the outcome that says so.
    """
    try:
        return calls.decode_chunk(frames, apart)
    except BaseException as error:  # user code, as above
        return not_loaded(error)


def run_items(
    fn: Callable[..., Any],
    chunk: Chunk,
    first: int,
    stop: int,
    open_row: Callable[[type], memoryview | None],
    keep: list[Any],
) -> tuple[int, Frames | None]:
    """Call *fn* for one item of *chunk*, and for those after it as long as the results make a row.

    In a row nothing is done between two calls but one store, so that they cost little more
    than those of a list comprehension.

    Args:
        fn: The function of the map.
        chunk: The items.
        first: The one to begin with.
        stop: The one behind the last of a row.
        open_row: Gives the cells for values of a type: see ``Ledger.open_row``. ``None``:
            there is to be no row.
        keep: See ``run``.

    Returns:
        How many values are in the row; and the outcome of the item behind them, if that was
        called, too: what it raised, or a value that is not of the row. Never raises.
    """
    call = partial(spread, fn) if chunk.star else fn
    try:
        value = call(chunk.items[first])
    except BaseException as error:  # Rule 1
        keep.append(error)
        return 0, _failed(error, fn, chunk.first + first)
    keep.append(value)
    cls, n = type(value), 0
    cells = open_row(cls)
    if cells is None:
        return 0, calls.encode_outcome(value)
    has_value = value is not None
    try:
        cells[0] = value if has_value else 0
        for n, item in enumerate(chunk.items[first + 1 : stop], 1):
            try:
                value = call(item)
            except BaseException as error:  # Rule 1
                keep.append(error)
                return n, _failed(error, fn, chunk.first + first + n)
            if type(value) is not cls:
                keep.append(value)
                break
            cells[n] = value if has_value else 0
        else:
            return stop - first, None
    except ValueError:  # a number of more bytes; or a child that the task has forked comes back here
        pass
    return n, calls.encode_outcome(value)


def spread(fn: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call *fn* with *arguments*."""
    return fn(*arguments)


def _failed(error: BaseException, fn: Callable[..., Any], index: int | None) -> Frames:
    """Encode what a task raised, without the frames of this file it passed through."""
    # Past the class: a frozen dataclass, say, refuses to have attributes set.
    traceback = BaseException.__dict__["__traceback__"].__get__(error)
    if traceback is not None:
        while traceback is not None and traceback.tb_frame.f_globals is globals():
            traceback = traceback.tb_next
        BaseException.with_traceback(error, traceback)
    return calls.encode_failure(error, Where(name_of(fn), index, os.getpid(), node()))


def not_loaded(error: BaseException) -> Frames:
    """Make the outcome of a task that *error* has kept from being loaded."""
    if isinstance(error, FrameError):
        return calls.encode_failure(error, Where("", None, os.getpid(), node()))
    return calls.encode_not_loaded(error, Where("<load>", None, os.getpid(), node()))


def name_of(fn: Any) -> str:
    """Name a callable for people: ``module.qualname``, else by its type. Never raises."""
    try:
        if type(fn) is partial:
            return f"partial({name_of(fn.func)})"
        name = fn.__qualname__
        module = fn.__module__
        return f"{module}.{name}" if isinstance(module, str) else str(name)
    except BaseException as error:  # user code, in __getattr__
        if by_a_handler(error):
            raise
        return f"an instance of {type_name(type(fn))}"
