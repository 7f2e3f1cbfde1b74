"""What a type checker makes of the public interface. Checked by mypy, never run."""

from __future__ import annotations

from collections.abc import Iterator

from typing_extensions import assert_type

import safemp
import safemp.aio
from safemp.testing import assert_survives, assert_travels


def area(width: int, *, height: float = 1.0) -> float:
    """Stand in for a user's function."""
    return width * height


def executor(pool: safemp.SafeExecutor) -> None:
    """``submit`` gives a future of what the function returns, and knows its parameters."""
    assert_type(pool.submit(area, 1, height=2.0), safemp.SafeFuture[float])
    assert_type(pool.submit(area, 1).result(), float)
    pool.submit(area, "1")  # type: ignore[arg-type] # the wrong type of an argument is seen
    assert_type(pool.map(area, [1]), Iterator[float])


def one_line() -> None:
    """The functions of the module are typed as the built-in ones are."""
    assert_type(safemp.map(area, [1, 2]), list[float])
    assert_type(safemp.starmap(area, [(1,), (2,)]), list[float])
    assert_type(safemp.imap(area, [1]), Iterator[float])
    assert_type(safemp.imap_unordered(area, [1]), Iterator[float])


def progress(pool: safemp.Pool, bar: Bar) -> None:
    """What shows progress: whether, a description, what makes a bar, a bar."""
    assert_type(safemp.map(area, [1], progress=True), list[float])
    safemp.starmap(area, [(1,)], progress="areas")
    safemp.imap(area, [1], progress=Bar)
    pool.imap_unordered(area, [1], progress=bar)
    pool.map(area, [1], progress=1.5)  # type: ignore[arg-type] # no bar


def on_error(pool: safemp.SafeExecutor, error: safemp.MapError) -> None:
    """With ``"return"`` an error may be among the results, and is seen there."""
    assert_type(safemp.map(area, [1], on_error="collect"), list[float])
    assert_type(safemp.map(area, [1], on_error="return"), list[float | BaseException])
    assert_type(safemp.starmap(area, [(1,)], on_error="return"), list[float | BaseException])
    assert_type(safemp.imap(area, [1], on_error="return"), Iterator[float | BaseException])
    assert_type(safemp.imap_unordered(area, [1], on_error="return"), Iterator[float | BaseException])
    assert_type(pool.map(area, [1], on_error="return"), Iterator[float | BaseException])
    safemp.map(area, [1], on_error="ignore")  # type: ignore[call-overload] # there is no such way
    assert_type(error.items, tuple[int, ...])
    assert_type(error.message, str)


def stats(pool: safemp.Pool) -> None:
    """What has happened is in numbers."""
    assert_type(pool.stats(), safemp.Stats)
    assert_type(pool.stats().workers[0], safemp.WorkerStats)
    assert_type(pool.stats().workers[0].utilisation, float)
    safemp.Pool(trace="run.json")
    safemp.SafeExecutor(trace=1)  # type: ignore[arg-type] # neither a path nor whether


class Bar:
    """Stand in for a bar of tqdm."""

    def __init__(self, total: int | None) -> None:
        """Take the number of items."""

    def update(self, n: float | None = 1) -> bool | None:
        """Move on."""

    def close(self) -> None:
        """Draw no more."""


def errors(error: safemp.PreflightError, crash: safemp.WorkerCrashed) -> None:
    """The errors' attributes are typed."""
    assert_type(error.culprits, tuple[safemp.Culprit, ...])
    assert_type(error.culprits[0].path, str)
    assert_type(crash.pid, int | None)
    assert_type(crash.item, int | None)


async def awaited(pool: safemp.aio.Executor) -> None:
    """``run`` is typed as ``submit`` is, by a view too."""
    assert_type(await pool.run(area, 1, height=2.0), float)
    assert_type(await pool.options(retries=1).run(area, 1), float)
    await pool.run(area, "1")  # type: ignore[arg-type] # the wrong type of an argument is seen
    async for each in pool.imap(area, [1]):
        assert_type(each, float)
    async for one in pool.imap_unordered(area, [1], on_error="return"):
        assert_type(one, float | BaseException)
    async with pool as entered:
        assert_type(entered, safemp.aio.Executor)


def assertions(error: safemp.PreflightError) -> None:
    """A copy that came back is what was sent."""
    assert_type(assert_survives(error, by="pickle", may_lose=["culprits"]), safemp.PreflightError)
    assert_type(assert_travels([1]), list[int])
    assert_survives(1)  # type: ignore[type-var] # no exception
    assert_survives(error, by="dill")  # type: ignore[arg-type] # there is no such way


def contexts() -> None:
    """A context has what those of multiprocessing have, and its pool is ours."""
    context = safemp.get_context("spawn")
    assert_type(context.Pool(2), safemp.Pool)
    context.Process(target=area, args=(1,)).start()
    context.Queue().put(1)
    safemp.Process(target=area, kwargs={"width": 1}).start()
    with safemp.patched():
        pass
