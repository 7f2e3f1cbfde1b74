"""``on_error=``: the first failure, all of them in one error, or each in its place."""

from __future__ import annotations

import pickle
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support import jobs
from tests.support.child import run_python
from tests.support.errors import KeywordOnly
from tests.support.jobs import die_by_sigkill, square


def some_fail(i: int) -> int:
    """Fail for 2, 5, 8, …, by an exception that stock pools break at."""
    if i % 3 == 2:
        raise KeywordOnly(status=i, text="refused")
    return i


def exits(i: int) -> int:
    if i == 1:
        sys.exit(3)
    return i


def dies(i: int) -> int:
    if i == 3:
        die_by_sigkill()
    return i


def note(folder: str, i: int) -> None:
    """Leave a trace of having run; fail for the first item."""
    Path(folder, str(i)).touch()
    if not i:
        raise ValueError("at once")
    time.sleep(0.01)


def late_and_early(i: int) -> None:
    """Fail for item 5 at once, for item 2 later."""
    if i == 2:
        time.sleep(0.3)
    if i in (2, 5):
        raise ValueError(i)


class Overridden(safemp.SafeExecutor):
    """An executor whose ``map`` goes through ``submit``, as some libraries have it."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        return super().submit(*args, **kwargs)


def in_executor(cls: type[safemp.SafeExecutor], **options: Any) -> Callable[..., Any]:
    """Return a function that maps by an executor of its own."""

    def run(fn: Any, items: Any, engine: str, on_error: str) -> list[Any]:
        with cls(2, engine=engine) as executor:
            return list(executor.map(fn, items, on_error=on_error, **options))  # type: ignore[call-overload]

    return run


def in_pool(name: str) -> Callable[..., Any]:
    """Return a function that maps by a method of a pool of its own."""

    def run(fn: Any, items: Any, engine: str, on_error: str) -> list[Any]:
        with safemp.Pool(2, engine=engine) as pool:
            items = [(i,) for i in items] if name == "starmap" else items
            return list(getattr(pool, name)(fn, items, on_error=on_error))

    return run


WAYS: dict[str, Callable[..., Any]] = {
    "Pool.map": in_pool("map"),
    "Pool.starmap": in_pool("starmap"),
    "Pool.imap": in_pool("imap"),
    "SafeExecutor.map": in_executor(safemp.SafeExecutor, chunksize=3),
    "SafeExecutor.map, buffered": in_executor(safemp.SafeExecutor, buffersize=4),
    "a submit of one's own": in_executor(Overridden),
}

SHARED: dict[str, Callable[..., Any]] = {
    "map": lambda fn, items, on_error: safemp.map(fn, items, on_error=on_error),
    "starmap": lambda fn, items, on_error: safemp.starmap(fn, [(i,) for i in items], on_error=on_error),
    "imap": lambda fn, items, on_error: list(safemp.imap(fn, items, on_error=on_error)),
}


def is_returned(found: list[Any]) -> None:
    """Check what ``"return"`` gives for ten items."""
    assert [each if isinstance(each, int) else each.status for each in found] == list(range(10))
    assert {i for i, each in enumerate(found) if isinstance(each, KeywordOnly)} == {2, 5, 8}


def is_collected(error: safemp.MapError) -> None:
    """Check what ``"collect"`` raises for ten items."""
    assert str(error).startswith("3 of 10 failed: items 2, 5, 8")
    assert (error.items, error.total) == ((2, 5, 8), 10)
    assert [(type(each), each.status) for each in error.exceptions] == [(KeywordOnly, i) for i in (2, 5, 8)]  # type: ignore[attr-defined]
    if sys.version_info >= (3, 11):
        assert isinstance(error, ExceptionGroup)
    assert isinstance(error, safemp.SafempError)


@pytest.mark.parametrize("way", WAYS)
def test_each_error_in_its_place(way: str, engine: str) -> None:
    """``"return"``: a list with as many results as there are items, errors among them."""
    is_returned(WAYS[way](some_fail, range(10), engine, "return"))


@pytest.mark.parametrize("way", WAYS)
def test_all_errors_in_one(way: str, engine: str) -> None:
    """``"collect"``: a group that says first how many of how many, and which."""
    with pytest.raises(safemp.MapError) as caught:
        WAYS[way](some_fail, range(10), engine, "collect")

    is_collected(caught.value)
    if "map" in way and way.startswith("Pool") and "imap" not in way:
        is_returned(list(caught.value.results))


@pytest.mark.parametrize("way", WAYS)
def test_nothing_to_collect(way: str, engine: str) -> None:
    """Where nothing fails, each of the three gives the results."""
    for on_error in ("raise", "collect", "return"):
        assert WAYS[way](square, range(5), engine, on_error) == [0, 1, 4, 9, 16]


@pytest.mark.parametrize("way", SHARED)
def test_the_process_wide_pool_does_the_same(way: str) -> None:
    """``safemp.map`` and its kin."""
    is_returned(SHARED[way](some_fail, range(10), "return"))
    with pytest.raises(safemp.MapError) as caught:
        SHARED[way](some_fail, range(10), "collect")
    is_collected(caught.value)
    with pytest.raises(KeywordOnly) as first:
        SHARED[way](some_fail, range(10), "raise")
    assert first.value.status == 2


@pytest.mark.parametrize("way", [*WAYS, *SHARED])
def test_a_misspelt_one_is_refused(way: str) -> None:
    """Before anything is sent."""
    with pytest.raises(ValueError, match=r"^on_error must be 'raise', 'collect' or 'return', not 'ignore'"):
        if way in SHARED:
            SHARED[way](some_fail, range(10), "ignore")
        else:
            WAYS[way](some_fail, range(10), "inline", "ignore")


def test_unordered_results_say_which_item_has_failed() -> None:
    """The indices are those of the iterable, in whatever order they came."""
    results, found = safemp.imap_unordered(some_fail, range(10), on_error="collect"), []
    with pytest.raises(safemp.MapError) as caught:
        for each in results:
            found.append(each)

    assert sorted(found) == [0, 1, 3, 4, 6, 7, 9]
    is_collected(caught.value)
    with pytest.raises(StopIteration):
        next(results)


def test_a_crash_is_a_failure_like_any() -> None:
    """The item that killed its worker is in the group; the others have their results."""
    with safemp.Pool(2) as pool, pytest.raises(safemp.MapError) as caught:
        pool.map(dies, range(6), on_error="collect")

    (error,) = caught.value.exceptions
    assert type(error) is safemp.WorkerCrashed
    assert caught.value.items == (error.item,) == (3,)
    assert [each for each in caught.value.results if each is not error] == [0, 1, 2, 4, 5]


def test_an_exit_is_the_cause_of_a_member(engine: str) -> None:
    """A group of exceptions cannot hold a ``SystemExit``; in its place it is itself."""
    with safemp.Pool(2, engine=engine) as pool:
        with pytest.raises(safemp.MapError) as caught:
            pool.map(exits, range(3), on_error="collect")
        returned = pool.map(exits, range(3), on_error="return")

    (error,) = caught.value.exceptions
    assert str(error) == "the call for items[1] raised SystemExit"
    assert isinstance(error.__cause__, SystemExit)
    assert (type(returned[1]), returned[1].code) == (SystemExit, 3)


# -- the first failure -----------------------------------------------------------------


def test_raise_drops_what_has_not_begun(tmp_path: Path) -> None:
    """By default a pool does all, as the standard library's; with ``"raise"`` not what is left."""
    for folder, options in (("all", {}), ("raise", {"on_error": "raise"})):
        (tmp_path / folder).mkdir()
        with safemp.Pool(1) as pool:
            with pytest.raises(ValueError, match="at once"):
                pool.starmap(note, [(str(tmp_path / folder), i) for i in range(200)], 1, **options)  # type: ignore[arg-type]
            pool.close()
            pool.join()

    assert len(list((tmp_path / "all").iterdir())) == 200
    assert len(list((tmp_path / "raise").iterdir())) < 200


def slow_then_wait(folder: str, i: int) -> int:
    """Take a while for item 0; for item 1 wait until it is known."""
    time.sleep(0.1)
    deadline = time.monotonic() + 20
    while i == 1 and not Path(folder, "known").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    return i


def test_what_took_long_is_told_before_the_next_is_over(tmp_path: Path) -> None:
    """Also in one chunk: or a failure, and a bar, would be late by an item."""
    with safemp.Pool(1) as pool:
        results = pool.imap(partial(slow_then_wait, str(tmp_path)), range(2), 2)
        assert results.next(10) == 0
        (tmp_path / "known").touch()
        assert results.next(10) == 1


def test_raise_raises_what_a_loop_would_have(tmp_path: Path) -> None:
    """The failure of the earliest item, though a later one has failed before it."""
    with safemp.Pool(2) as pool:
        for _ in range(3):
            with pytest.raises(ValueError, match=r"^2$"):
                pool.map(late_and_early, range(200), 1, on_error="raise")


def test_the_pool_goes_on_after_a_failure() -> None:
    """What is left of a map that has failed is in nobody's way."""
    with safemp.Pool(2) as pool:
        for _ in range(20):
            with pytest.raises(KeywordOnly):
                pool.map(some_fail, range(100), 1, on_error="raise")
        assert pool.map(square, range(100)) == [i * i for i in range(100)]


# -- an iterable that fails ------------------------------------------------------------


def breaking() -> Any:
    yield from range(4)
    raise LookupError("no more pages")


@pytest.mark.parametrize("on_error", ["raise", "collect", "return"])
def test_what_the_iterable_raises_is_no_items_failure(on_error: Any) -> None:
    """It is raised in its place; what was collected before comes after it."""
    results, found = safemp.imap(some_fail, breaking(), on_error=on_error), []
    caught: list[BaseException] = []
    while not caught or not isinstance(caught[-1], StopIteration):
        try:
            found.append(next(results))
        except BaseException as error:
            caught.append(error)

    kinds = [type(each) for each in caught]
    assert LookupError in kinds
    if on_error == "collect":
        assert kinds == [LookupError, safemp.MapError, StopIteration]
        assert (caught[1].items, caught[1].total) == ((2,), 4)  # type: ignore[attr-defined]
    elif on_error == "return":
        assert [type(each) for each in found] == [int, int, KeywordOnly, int]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_it_comes_behind_the_results_of_the_items_before_it(chunksize: int) -> None:
    """Also where results come as they are ready: a loop ends there, and has had them all."""
    with safemp.Pool(2) as pool:
        results, found = pool.imap_unordered(jobs.work, breaking(), chunksize), []
        with pytest.raises(LookupError, match="no more pages"):
            for each in results:
                found.append(each)
        assert sorted(found) == [0, 10, 20, 30]
        with pytest.raises(StopIteration):
            next(results)


# -- the error itself ------------------------------------------------------------------


def group(*items: int, total: int) -> safemp.MapError:
    return safemp.MapError.of({i: ValueError(i) for i in items}, total)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (group(17, 204, 9981, total=10_000), "3 of 10 000 failed: items 17, 204, 9 981"),
        (group(4, total=5), "1 of 5 failed: item 4"),
        (group(*range(12), total=12), "12 of 12 failed: items 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_the_message_counts_before_anything_else(made: safemp.MapError, message: str) -> None:
    """How many of how many, and which; a line, however many there are."""
    assert made.message == message
    assert str(made).startswith(message)


def test_a_group_pickles() -> None:
    """With its items and results."""
    error = safemp.MapError.of({1: ValueError(1)}, 2, [0, "results"])
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), copy.items, copy.total, copy.results) == (
        safemp.MapError,
        str(error),
        (1,),
        2,
        [0, "results"],
    )
    assert [str(each) for each in copy.exceptions] == ["1"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.11 has except*")
def test_a_group_can_be_split() -> None:
    """``split``, and so ``except*``: each part knows its items."""
    error = safemp.MapError.of({1: ValueError(1), 2: KeyError(2), 4: ValueError(4)}, 5)
    values, others = error.split(ValueError)

    assert isinstance(values, safemp.MapError)
    assert isinstance(others, safemp.MapError)
    assert (values.items, others.items, others.total) == ((1, 4), (2,), 5)


WITHOUT_BACKPORT = """
import pickle, sys
sys.modules["exceptiongroup"] = None
import safemp
from tests.support import jobs
try:
    safemp.map(divmod, [1, 2], [0, 1], on_error="collect")
except safemp.MapError as error:
    print(error)
    print([type(each).__name__ for each in error.exceptions], pickle.loads(pickle.dumps(error)).items)
"""


@pytest.mark.skipif(sys.version_info >= (3, 11), reason="for Python 3.10")
def test_python_3_10_without_the_backport() -> None:
    """An error of the same name says the same, and what each item raised."""
    ended = run_python("-c", WITHOUT_BACKPORT)

    assert ended.out.splitlines() == [
        "1 of 2 failed: item 0",
        "  items[0]: ZeroDivisionError: integer division or modulo by zero",
        "['ZeroDivisionError'] (0,)",
    ], str(ended)
