"""A task's way through workers that somebody else keeps: what is called there, and what it answers.

All that travels is made of tuples, lists, numbers, text and bytes, so that any pickler can carry
it, and none has to load an object of the user's. What many tasks share a worker keeps, and says
when it lacks it; large data that they share may be kept by who brings the workers.

Rule 1: ``perform`` never raises, unless the process cannot go on: its disk is full, or it was told to end.
Rule 2: it first looks whether it was written for this Python and this safemp; nothing of the user's is
loaded before.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from platform import node
from typing import Any, NamedTuple

from safemp import worker
from safemp.codec import namespaces
from safemp.codec.calls import Chunk
from safemp.codec.exception_state import read_links
from safemp.codec.frames import VERSION, Buffer, Frames, Kind, kind_of
from safemp.engines.diary import Diary, of_this_thread
from safemp.engines.lent import writable

__all__ = [
    "BROKEN",
    "DONE",
    "FORMAT",
    "HERE",
    "LACKS",
    "NOT_LOADED",
    "REFUSED",
    "Answer",
    "Errand",
    "ends",
    "parted",
    "perform",
]

FORMAT = (1, VERSION)
"""Of errands, and of the frames in them. Raised with what they mean."""

HERE = sys.version_info[:2]

DONE, LACKS, NOT_LOADED, BROKEN, REFUSED = range(5)
"""What an answer is: the outcomes; nothing, since what the task shares with others is not here; the
outcome that says why it does not load; what the initializer raised; why nothing was done, as text."""

Answer = tuple[int, Any]

_KEPT = 64
"""Functions and definitions that a worker keeps; then the one that was used longest ago goes. Picked."""

_MOST_BYTES = 1 << 24
"""Bytes of definitions among them, but for the latest, likewise. Picked."""


class Errand(NamedTuple):
    """What a worker is to do.

    Attributes:
        format: ``FORMAT`` of who has written it.
        python: ``HERE``, likewise.
        key: Of this errand, in diaries.
        diary: The token of the engine's diaries; "": none is to be kept.
        main: The key of the caller's ``__main__``.
        start: The key of the initializer's call, and its frames, if they come with it; ``None``: there is none.
        shared: The key of what the task shares with others; "": nothing.
        is_chunk: Whether that is a function, and the frames are of a chunk.
        first: The first item to run.
        stop: The one behind the last.
        frames: The task's; ``None`` in the place of each that comes by itself.
    """

    format: tuple[int, int]
    python: tuple[int, int]
    key: str
    diary: str
    main: str
    start: tuple[str, Frames | None] | None
    shared: str
    is_chunk: bool
    first: int
    stop: int
    frames: list[Buffer | None]


ends: list[BaseException] = []
"""What was raised in this worker to end it, by who brings it, if anything was. It is no call's outcome, unless the
call takes it for its own and goes on."""

_lock = threading.Lock()
_started: dict[str, Frames | None] = {}
"""What the initializers have raised that have run here, or ``None``, by key."""

_shared: OrderedDict[str, worker.Kept | bytes] = OrderedDict()
"""Functions and definitions by key."""


def perform(errand: tuple[Any, ...], shared: Frames | None = None, *apart: Frames) -> Answer:
    """Do what *errand* says.

    Args:
        errand: An ``Errand``, as a plain tuple.
        shared: What it shares with others, if that comes with it.
        apart: Those of its frames that come by themselves, in order, a list each.
    """
    if errand[:2] != (FORMAT, HERE):
        return REFUSED, _refusal(*errand[:2])
    todo = Errand(*errand)
    namespaces.adopt_that_of(todo.main)
    diary = of_this_thread(todo.diary) if todo.diary else None
    if diary is not None:
        diary.begin(todo.key)
    if todo.start is not None:
        if not _is_started(*todo.start):
            return LACKS, None
        broken = _started[todo.start[0]]
        if broken is not None:
            return BROKEN, broken
    common = None
    if todo.shared:
        common = _find(todo.shared, todo.is_chunk, shared)
        if common is None:
            return LACKS, None
    rest = iter(apart)
    outcomes = _run(todo, [next(rest)[0] if frame is None else frame for frame in todo.frames], common, diary)
    if kind_of(outcomes[0]) == Kind.NOT_LOADED:
        return NOT_LOADED, outcomes[0]
    return DONE, outcomes


def _refusal(format: tuple[int, int], python: tuple[int, int]) -> str:
    """Say why nothing can be done for a caller of another *format* or *python*."""
    here = f"worker {os.getpid()} on {node()}"
    if python != HERE:
        theirs, ours = (".".join(map(str, one)) for one in (python, HERE))
        return (
            f"{here} has Python {ours}, and the caller Python {theirs}: functions do not travel between the two\n"
            f"  fix:    run the workers with Python {theirs}"
        )
    from safemp import __version__

    return (
        f"{here} has safemp {__version__}, whose format is {FORMAT}, and the caller's is {format}\n"
        "  fix:    install the same version of safemp on both sides"
    )


def _is_started(key: str, frames: Frames | None) -> bool:
    """Run the initializer of *key*, if it has not run here; ``False``: it has not come."""
    with _lock:
        if key not in _started:
            if frames is None:
                return False
            keep = _Keep()
            outcome = worker.run(_own(frames), None, keep)
            _end_if_told(keep)
            _started[key] = None if kind_of(outcome) in (Kind.VALUE, Kind.UNSENDABLE) else outcome
        return True


def _find(key: str, is_function: bool, frames: Frames | None) -> worker.Kept | bytes | None:
    """Return what is shared under *key*, of *frames* if it is not here yet."""
    with _lock:
        found = _shared.get(key)
        if found is not None:
            _shared.move_to_end(key)
    if found is None and frames is not None:
        found = worker.Kept(_own(frames)) if is_function else bytes(frames[0])
        _end_if_told()
        with _lock:
            found = _shared.setdefault(key, found)  # another thread may have been faster
            while len(_shared) > _KEPT or (len(_shared) > 1 and _size_of_definitions() > _MOST_BYTES):
                _shared.popitem(last=False)
    return found


def _size_of_definitions() -> int:
    return sum(each.size if isinstance(each, worker.Kept) else len(each) for each in _shared.values())


def _run(todo: Errand, frames: Frames, common: worker.Kept | bytes | None, diary: Diary | None) -> list[Frames]:
    """Run the items, and write down how far it has come."""
    frames = _own(frames)
    keep = _Keep()
    if isinstance(common, worker.Kept):
        found = common.load(frames)
        _end_if_told()
        if isinstance(found, list):
            return [found]
        call = partial(_run_item, *found, keep)
    else:
        call = partial(_run_call, frames, common, keep)
    if diary is not None and todo.stop - todo.first > 1:
        diary.loaded()
    outcomes = []
    for i in range(todo.first, todo.stop):
        outcome = call(i)
        _end_if_told(keep)
        assert outcome is not None, "there are no rows"
        outcomes.append(parted(outcome))
        if diary is not None:
            diary.finished(outcomes[-1])
        keep.clear()
    return outcomes


class _Keep(list[Any]):
    """Takes what a call has come to, and how often this worker had been told to end by then."""

    told = 0

    def append(self, each: Any) -> None:
        super().append(each)
        self.told = len(ends)


def _end_if_told(keep: _Keep | None = None) -> None:
    """Raise what is to end this worker, unless the call that it was raised in went on: *keep* is what that came to."""
    if not ends:
        return
    if not keep or len(ends) > keep.told or _comes_of(keep[-1], ends):
        raise ends[-1]
    ends.clear()


def _comes_of(error: Any, others: Sequence[BaseException]) -> bool:
    """Tell whether *error* is one of *others*, or was raised while that was on its way."""
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        if any(error is each for each in others):
            return True
        seen.add(id(error))
        _, error = read_links(error)
    return False


def _run_item(fn: Callable[..., Any], chunk: Chunk, keep: list[Any], index: int) -> Frames | None:
    return worker.run_items(fn, chunk, index, index + 1, _no_row, keep)[1]


def _run_call(frames: Frames, definitions: bytes | None, keep: list[Any], _: int) -> Frames | None:
    return worker.run(frames, definitions, keep)


def _no_row(cls: type) -> None:
    """Have every outcome made by itself."""


def _own(frames: Frames) -> Frames:
    """Make buffers the task's own: what brought them may share them, or lend them to be read only."""
    return [*map(_plain, frames[:2]), *map(writable, frames[2:])]


def _plain(frame: Buffer) -> Buffer:
    return frame if isinstance(frame, bytes) else bytes(frame)


def parted(frames: Frames) -> Frames:
    """Part an outcome from the object that it was made of, and from memory that is not its own."""
    return [bytes(frames[0]), bytes(frames[1]), *map(bytearray, frames[2:])]
