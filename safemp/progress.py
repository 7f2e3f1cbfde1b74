"""What ``progress=`` shows: a bar of tqdm or of rich, moved while somebody waits for a map.

Rule 1: a bar is the user's code. It is made, moved and closed in the thread that waits for
the results, never in an engine's; that one only counts.
Rule 2: a map without a bar pays nothing for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Protocol, TypeVar

__all__ = ["EVERY", "Meter", "Progress", "length_of", "meter_of"]

T = TypeVar("T")

EVERY = 0.1
"""Seconds between two looks at how far a map is, as tqdm has it."""


class Moved(Protocol):
    """A bar that somebody else has made, and closes: tqdm's, say."""

    def update(self, n: int, /) -> object:
        """Move on by *n* items."""

    def close(self) -> object:
        """Draw it no more."""


class Tasked(Protocol):
    """A ``rich.progress.Progress``."""

    def add_task(self, description: str, *, total: float | None = ...) -> Any:
        """Add a bar; return its number."""


Progress = bool | str | Callable[..., Any] | Moved | Tasked
"""``True``, a description, a class of bars as ``tqdm.tqdm`` is, a bar, or a ``rich.progress.Progress``."""


class _Shown(Protocol):
    def show(self, done: int, failed: int) -> None: ...

    def close(self) -> None: ...


class _Bar:
    """A bar with the methods of tqdm's."""

    def __init__(self, bar: Any, *, ours: bool) -> None:
        self._bar = bar
        self._ours = ours
        self._done = 0
        self._failed = 0

    def show(self, done: int, failed: int) -> None:
        """Move the bar to *done* items, *failed* of which have failed."""
        if failed > self._failed and hasattr(self._bar, "set_postfix_str"):
            self._failed = failed
            self._bar.set_postfix_str(f"{failed} failed", refresh=False)
        if done > self._done:
            since, self._done = self._done, done
            self._bar.update(done - since)

    def close(self) -> None:
        """Close the bar, if it was made here."""
        if self._ours:
            self._bar.close()


class _Rich:
    """A bar among those of a ``rich.progress.Progress``, which is started if it is not."""

    def __init__(self, progress: Any, name: str, total: int | None) -> None:
        self._progress = progress
        self._name = name
        self._starts = not progress.live.is_started
        if self._starts:
            progress.start()
        self._task = progress.add_task(name, total=total, failed=0)

    def show(self, done: int, failed: int) -> None:
        """Move the bar to *done* items, *failed* of which have failed."""
        name = f"{self._name} ({failed} failed)" if failed else self._name
        self._progress.update(self._task, completed=done, description=name, failed=failed)

    def close(self) -> None:
        """Stop the display, if it was started here."""
        self._progress.stop_task(self._task)
        if self._starts:
            self._progress.stop()


class Meter:
    """Counts the outcomes of one map, and shows how many there are.

    Args:
        make: Makes what shows it, from the number of items (``None``: not known).
    """

    def __init__(self, make: Callable[[int | None], _Shown]) -> None:
        self._make = make
        self._shown: _Shown | None = None
        self._due = 0.0
        self._done = 0
        self._failed = 0

    def open(self, total: int | None) -> None:
        """Show a bar of so many items; ``None``: nobody knows how many."""
        self._shown = self._make(total)

    def count(self, done: int, failed: int) -> None:
        """Count so many outcomes, and those of them that *failed*. In an engine's thread; shows nothing."""
        self._failed += failed
        self._done += done

    def nap(self, left: float | None = None) -> float:
        """Return the seconds for which to wait before the next ``show``, at most *left*."""
        return EVERY if left is None else min(EVERY, left)

    def show(self, *, now: bool = False) -> None:
        """Show how far it is, unless that was done a moment ago."""
        shown = self._shown
        if shown is None:
            return
        at = time.monotonic()
        if now or at >= self._due:
            self._due = at + EVERY
            shown.show(self._done, self._failed)

    def close(self) -> None:
        """Show how far it got, and no more."""
        if self._shown is not None:
            self.show(now=True)
            shown, self._shown = self._shown, None
            shown.close()

    def around(self, results: Iterator[T]) -> Iterator[T]:
        """Give *results*; close the bar at their end, or when nobody wants them any more."""

        def give() -> Iterator[Any]:
            try:
                yield None
                yield from results
            finally:
                self.close()

        given = give()
        next(given)  # or, were it given up before it has begun, it would close nothing
        return given


def meter_of(progress: Progress | None, name: str) -> Meter | None:
    """Make the meter that a user has asked for; ``None``: none.

    Args:
        progress: See ``Progress``.
        name: What the bar is called where it must have a name and was given none.

    Raises:
        ModuleNotFoundError: tqdm is wanted, and not installed.
        TypeError: That is no way to show progress.
    """
    if progress is None or progress is False:
        return None
    if progress is True:
        return Meter(_tqdm())
    if isinstance(progress, str):
        return Meter(_tqdm(progress))
    shows: Any = progress
    if hasattr(shows, "add_task"):
        return Meter(lambda total: _Rich(shows() if isinstance(shows, type) else shows, name, total))
    if callable(shows):
        return Meter(lambda total: _Bar(shows(total=total), ours=True))
    if hasattr(shows, "update") and hasattr(shows, "close"):
        return Meter(lambda total: _Bar(shows, ours=False))
    raise TypeError(
        f"cannot show progress with {type(progress).__module__}.{type(progress).__qualname__}\n"
        "  fix:    progress=True, a description, tqdm.tqdm or a bar of it, or a rich.progress.Progress"
    )


def length_of(*iterables: Iterable[Any]) -> int | None:
    """Return how many items ``zip(*iterables)`` has, if all of them say; else ``None``."""
    lengths = []
    for each in iterables:
        if not isinstance(each, Sized):
            return None
        try:
            lengths.append(len(each))
        except TypeError:  # it could have a length, and has none
            return None
    return min(lengths, default=0)


def _tqdm(description: str | None = None) -> Callable[[int | None], _Shown]:
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "tqdm":
            raise
        raise ModuleNotFoundError(
            "cannot show progress: tqdm is not installed\n"
            "  fix:    pip install 'safemp[progress]', or hand over progress=rich.progress.Progress",
            name="tqdm",
        ) from None

    def make(total: int | None) -> _Shown:
        bar = tqdm(total=total, desc=description, miniters=1)
        if getattr(bar, "pos", 0):  # below another one: tqdm's own advice for such
            bar.leave = False
        return _Bar(bar, ours=True)

    return make
