"""Progress: ``progress=`` of every map; tqdm's own ``process_map`` on our pools."""

from __future__ import annotations

import gc
import io
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import rich.console
import rich.progress
from tqdm import tqdm
from tqdm.contrib.concurrent import process_map

import safemp
from tests.support import errors
from tests.support.child import quiet, run_python
from tests.support.jobs import square


@pytest.fixture(autouse=True)
def _no_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the monitor of tqdm away: it is a thread that stays."""
    monkeypatch.setattr(tqdm, "monitor_interval", 0)


class Locked:
    """Squares, and holds a lock while it does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, i: int) -> int:
        with self.lock:
            return i * i


def counts(drawn: str) -> list[tuple[int, int]]:
    """Return each ``done/total`` that a bar has shown."""
    return [(int(done), int(total)) for done, total in re.findall(r"(\d+)/(\d+) \[", drawn)]


def test_process_map_moves_its_bar() -> None:
    """A patched ``process_map`` gives the serial answer, takes a lock, and its bar ends at the total."""
    drawn = io.StringIO()
    with safemp.patched():
        found = process_map(Locked(), range(12), max_workers=2, file=drawn, miniters=1, mininterval=0)

    assert found == [i * i for i in range(12)]
    assert counts(drawn.getvalue())[-1] == (12, 12)


def test_an_error_out_of_process_map_is_itself() -> None:
    """Its own class, where ``process_map`` by itself has the whole pool broken."""
    with pytest.raises(errors.KeywordOnly) as caught, safemp.patched():
        process_map(errors.raise_by_name, ["KeywordOnly"] * 3, max_workers=2, disable=True)

    assert caught.value.status == 429


def test_a_bar_around_imap_counts_answers() -> None:
    """``tqdm(safemp.imap(...))`` needs only the total."""
    drawn = io.StringIO()
    found = list(tqdm(safemp.imap(Locked(), range(9)), total=9, file=drawn, mininterval=0))

    assert found == [i * i for i in range(9)]
    assert counts(drawn.getvalue())[-1] == (9, 9)


PROGRAM = """
import threading
from tqdm.contrib.concurrent import process_map


class Refused(Exception):
    def __init__(self, *, status):
        super().__init__("refused")
        self.status = status


def ask(n):
    if n == 3:
        raise Refused(status=429)
    return n


if __name__ == "__main__":
    print(process_map(ask, range(3), max_workers=2, disable=True))
    try:
        process_map(ask, range(5), max_workers=2, disable=True)
    except Exception as error:
        print(type(error).__name__, getattr(error, "status", None))
"""


def test_a_program_with_process_map_runs_unchanged(tmp_path: Path) -> None:
    """Under ``python -m safemp run`` its error arrives; by itself its pool breaks."""
    (tmp_path / "program.py").write_text(PROGRAM)
    stock = run_python("program.py", cwd=tmp_path)
    ours = run_python("-m", "safemp", "run", "program.py", cwd=tmp_path)

    assert "BrokenProcessPool None" in stock.out, str(stock)
    assert quiet(ours, out="[0, 1, 2]\nRefused 429\n"), str(ours)


# -- progress= -------------------------------------------------------------------------


class Bar:
    """A bar that writes down what is done with it, and by which thread."""

    made: ClassVar[list[Bar]] = []

    def __init__(self, total: int | None) -> None:
        self.total = total
        self.moves: list[int] = []
        self.postfix = ""
        self.closed = 0
        self.threads = {threading.get_ident()}
        Bar.made.append(self)

    def update(self, n: int) -> None:
        self.threads.add(threading.get_ident())
        self.moves.append(n)

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.threads.add(threading.get_ident())
        self.postfix = text

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


class Interrupted(Bar):
    """A bar in whose drawing somebody presses Ctrl-C."""

    def update(self, n: int) -> None:
        super().update(n)
        if len(self.moves) == 1:
            raise KeyboardInterrupt


@pytest.fixture
def bars() -> Iterator[list[Bar]]:
    """The bars that the test has had made."""
    Bar.made.clear()
    yield Bar.made
    Bar.made.clear()


def odd_fails(i: int) -> int:
    if i % 2:
        raise ValueError(i)
    return i


class Overridden(safemp.SafeExecutor):
    """An executor whose ``map`` goes through ``submit``, as some libraries have it."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        return super().submit(*args, **kwargs)


def in_executor(cls: type[safemp.SafeExecutor], **options: Any) -> Callable[..., list[int]]:
    """Return a function that maps by an executor of its own."""

    def run(fn: Any, items: Any, progress: Any) -> list[int]:
        with cls(2) as executor:
            return list(executor.map(fn, items, progress=progress, **options))

    return run


def in_pool(name: str) -> Callable[..., list[int]]:
    """Return a function that maps by a method of a pool of its own."""

    def run(fn: Any, items: Any, progress: Any) -> list[int]:
        with safemp.Pool(2) as pool:
            return sorted(getattr(pool, name)(fn, items, progress=progress))

    return run


WAYS: dict[str, Callable[..., list[int]]] = {
    "map": lambda fn, items, progress: safemp.map(fn, items, progress=progress),
    "starmap": lambda fn, items, progress: safemp.starmap(fn, [(i,) for i in items], progress=progress),
    "imap": lambda fn, items, progress: list(safemp.imap(fn, items, progress=progress)),
    "imap_unordered": lambda fn, items, progress: sorted(safemp.imap_unordered(fn, items, progress=progress)),
    "Pool.map": in_pool("map"),
    "Pool.starmap": lambda fn, items, progress: in_pool("starmap")(fn, [(i,) for i in items], progress),
    "Pool.imap": in_pool("imap"),
    "Pool.imap_unordered": in_pool("imap_unordered"),
    "SafeExecutor.map": in_executor(safemp.SafeExecutor, chunksize=3),
    "SafeExecutor.map, buffered": in_executor(safemp.SafeExecutor, buffersize=4),
    "a submit of one's own": in_executor(Overridden, chunksize=3),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_bar_ends_at_its_total(way: str, bars: list[Bar]) -> None:
    """In every way to map: it is made for all items, moved to the last, closed once, in the caller's thread."""
    found = WAYS[way](square, range(20), Bar)

    (bar,) = bars
    assert found == [i * i for i in range(20)]
    assert (bar.total, sum(bar.moves), bar.closed, bar.postfix) == (20, 20, 1, "")
    assert bar.threads == {threading.get_ident()}


def test_failures_are_counted_beside_the_bar(bars: list[Bar]) -> None:
    """All of them, also where only the first is raised."""
    with safemp.Pool(2) as pool, pytest.raises(ValueError, match=r"^1$"):
        pool.map(odd_fails, range(20), progress=Bar)

    assert (sum(bars[0].moves), bars[0].closed, bars[0].postfix) == (20, 1, "10 failed")


def test_failures_of_an_iteration_are_counted_too(bars: list[Bar]) -> None:
    """Each is raised in its place; the bar goes on."""
    results, caught = safemp.imap(odd_fails, range(6), progress=Bar), 0
    while True:
        try:
            next(results)
        except StopIteration:
            break
        except ValueError:
            caught += 1

    assert caught == 3
    assert (sum(bars[0].moves), bars[0].closed, bars[0].postfix) == (6, 1, "3 failed")


def test_nobody_knows_how_many_a_generator_has(bars: list[Bar]) -> None:
    """Its bar has no total where items are read as they are wanted, and one where all are read first."""
    list(safemp.imap(square, (i for i in range(5)), progress=Bar))
    safemp.map(square, (i for i in range(5)), progress=Bar)
    safemp.map(pow, [2, 3, 4], (i for i in range(2)), progress=Bar)

    assert [(bar.total, sum(bar.moves)) for bar in bars] == [(None, 5), (5, 5), (2, 2)]


def test_a_bar_is_moved_now_and_then(bars: list[Bar]) -> None:
    """Not for each item: at most every tenth of a second, and at the end."""
    since = time.monotonic()
    list(safemp.imap(square, range(3000), chunksize=10, progress=Bar))
    took = time.monotonic() - since

    assert sum(bars[0].moves) == 3000
    assert len(bars[0].moves) <= took / 0.1 + 2


@pytest.mark.parametrize("way", ["map", "imap", "Pool.map", "SafeExecutor.map"])
def test_ctrl_c_closes_the_bar(way: str, bars: list[Bar]) -> None:
    """And is raised."""
    with pytest.raises(KeyboardInterrupt):
        WAYS[way](time.sleep, [0.3] * 4, Interrupted)

    assert bars[0].closed == 1


def test_an_iteration_that_is_given_up_closes_its_bar(bars: list[Bar]) -> None:
    """However far it came: by ``break``, or without having begun."""
    with safemp.SafeExecutor(1) as executor:
        for _ in safemp.imap(square, range(10), progress=Bar):
            break
        for _ in executor.map(square, range(10), progress=Bar):
            break
        safemp.imap(square, range(10), progress=Bar)
        executor.map(square, range(10), progress=Bar)
        gc.collect()

        assert [bar.closed for bar in bars] == [1, 1, 1, 1]


def test_what_cannot_be_sent_makes_no_bar(bars: list[Bar]) -> None:
    """Or one that is closed: nothing was sent."""
    with pytest.raises(safemp.PreflightError):
        safemp.map(square, [threading.current_thread()], progress=Bar)
    with safemp.SafeExecutor(1) as executor, pytest.raises(safemp.PreflightError):
        executor.map(square, [threading.current_thread()], progress=Bar)
    with safemp.SafeExecutor(1) as executor, pytest.raises(safemp.PreflightError):
        executor.map(square, [threading.current_thread()], buffersize=1, progress=Bar)

    assert [bar.closed for bar in bars] == [1] * len(bars)


def test_a_bar_of_ones_own_stays_open() -> None:
    """Two maps move one bar of tqdm; who made it closes it."""
    drawn = io.StringIO()
    with tqdm(total=5, file=drawn, mininterval=0) as bar:
        safemp.map(square, [1, 2, 3], progress=bar)
        list(safemp.imap(square, [1, 2], progress=bar))
        assert bar.n == 5
        assert not bar.disable

    assert counts(drawn.getvalue())[-1] == (5, 5)


def test_true_and_a_description_are_bars_of_tqdm(capsys: pytest.CaptureFixture[str]) -> None:
    """On stderr, with what is done, the rate, and what has failed."""
    safemp.map(square, range(7), progress=True)
    safemp.map(odd_fails, range(4), progress="asking", on_error="return")
    out, drawn = capsys.readouterr()

    assert out == ""
    assert counts(drawn)[-1] == (4, 4)
    assert (7, 7) in counts(drawn)
    assert re.search(r"asking: 100%.*it/s, 2 failed\]", drawn)


def test_a_bar_below_another_goes_away(capsys: pytest.CaptureFixture[str]) -> None:
    """Bars keep their order, and only the outer one is left standing."""
    for _ in tqdm(range(2), desc="outer", mininterval=0):
        safemp.map(square, range(3), progress="inner")
    drawn = capsys.readouterr().err

    assert drawn.replace("\r", "").count("\ninner:   0%") == 2
    assert drawn.rstrip().rpartition("\r")[2].startswith("outer: 100%")
    assert not tqdm._instances


def test_rich_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A ``Progress`` that nobody has started runs for as long as the map; its class is one by itself."""
    shown = rich.progress.Progress(console=rich.console.Console(file=io.StringIO()))
    safemp.map(odd_fails, range(6), progress=shown, on_error="return")
    safemp.map(square, range(6), progress=rich.progress.Progress)

    (task,) = shown.tasks
    assert (task.total, task.completed, task.fields["failed"], task.finished) == (6, 6, 3, True)
    assert task.description.endswith("odd_fails (3 failed)")
    assert not shown.live.is_started
    assert re.search(r"square ━+ 100%", capsys.readouterr().out)


def test_rich_that_runs_already_goes_on() -> None:
    """Two maps are two bars of one display."""
    with rich.progress.Progress(console=rich.console.Console(file=io.StringIO())) as shown:
        safemp.map(square, range(6), progress=shown)
        list(safemp.imap(square, range(4), progress=shown))
        assert shown.live.is_started

    assert [(task.total, task.completed) for task in shown.tasks] == [(6, 6), (4, 4)]


def test_what_is_no_bar_is_refused_before_anything_is_sent() -> None:
    """With what would be one."""
    with pytest.raises(TypeError, match=r"cannot show progress with builtins.int\n  fix: +progress=True"):
        safemp.map(square, [threading.current_thread()], progress=3)  # type: ignore[arg-type]


WITHOUT_TQDM = """
import sys
import safemp

safemp.map(abs, [1])
list(safemp.imap(abs, [1], progress=False))
print("tqdm" in sys.modules)
sys.modules["tqdm"] = None
try:
    safemp.map(abs, [1], progress=True)
except ModuleNotFoundError as error:
    print(error)
"""


def test_tqdm_is_wanted_only_when_a_bar_is() -> None:
    """Not loaded without; named, with what to type, where it is missing."""
    ended = run_python("-c", WITHOUT_TQDM)

    assert ended.out.splitlines() == [
        "False",
        "cannot show progress: tqdm is not installed",
        "  fix:    pip install 'safemp[progress]', or hand over progress=rich.progress.Progress",
    ], str(ended)


UNREAD = """
import safemp
results = safemp.imap(abs, range(5), progress=True)
next(results)
"""


def test_an_iteration_that_the_program_ends_with_is_no_error() -> None:
    """Its bar is closed as the interpreter ends, without a word."""
    ended = run_python("-c", UNREAD)

    assert ended.returncode == 0, str(ended)
    assert "Exception" not in ended.err, str(ended)
    assert "Traceback" not in ended.err, str(ended)
