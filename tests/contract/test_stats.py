"""``stats()`` and ``trace=``: what has happened in a pool, and when."""

from __future__ import annotations

import itertools
import json
import os
import re
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import safemp
from safemp.engines.timeline import Timeline
from tests.support.jobs import die_by_sigkill, fail_if_odd, square, started_then_wait, take

LONG = 60.0


def dies_at_5(i: int) -> int:
    if i == 5:
        die_by_sigkill()
    return i


def once(path: str) -> int:
    """Fail the first time."""
    if not os.path.exists(path):
        Path(path).touch()
        raise OSError("not yet")
    return 1


def timeline_of(pool: Any) -> Timeline:
    """Return what *pool* has recorded; it must have."""
    found = pool.stats().timeline
    assert isinstance(found, Timeline)
    return found


def test_calls_and_failures_are_counted(engine: str) -> None:
    """Calls of ``submit`` and items of maps, however they were sent."""
    with safemp.SafeExecutor(2, engine=engine) as executor:
        list(executor.map(fail_if_odd, range(10), chunksize=3, on_error="return"))
        list(executor.map(square, range(1000), chunksize=500))
        assert executor.submit(square, 3).result() == 9
    stats = executor.stats()

    assert (stats.calls, stats.failures, stats.retries, stats.crashes) == (1011, 5, 0, 0)
    assert (stats.waiting, stats.running) == (0, 0)
    assert sum(worker.calls for worker in stats.workers) == 1011
    assert sum(worker.failures for worker in stats.workers) == 5
    assert stats.busy == pytest.approx(sum(worker.busy for worker in stats.workers))
    assert 0 < stats.encoding < stats.seconds
    assert all(0 <= worker.utilisation <= 1 for worker in stats.workers)


def test_a_pool_has_them_too(engine: str) -> None:
    """``Pool.stats``, while it runs and when it has ended."""
    with safemp.Pool(1, engine=engine) as pool:
        pool.map(square, range(100))
        assert pool.stats().calls == 100
    assert pool.stats().calls == 100


def test_repairs_and_bytes_are_counted() -> None:
    """What was repaired in calls, and what was sent of them: the function of a map once to each worker."""
    with safemp.SafeExecutor(1) as executor:
        executor.submit(take, b"x").result()
        before = executor.stats()
        executor.submit(take, [threading.Lock(), threading.Lock()]).result()
        executor.submit(take, bytes(50_000)).result()
        after = executor.stats()

    assert (before.repairs, after.repairs) == (0, 2)
    assert 50_000 < after.bytes_sent - before.bytes_sent < 60_000


def test_a_crash_is_counted_where_it_was() -> None:
    """For the worker that died, which is kept with its exit code."""
    with safemp.SafeExecutor(1) as executor:
        list(executor.map(dies_at_5, range(10), on_error="return"))
        stats = executor.stats()

    assert (stats.calls, stats.failures, stats.crashes) == (10, 1, 1)
    (dead,) = [worker for worker in stats.workers if worker.ended]
    assert (dead.exitcode, dead.failures) == (-9, 1)


def test_tries_are_counted(tmp_path: Path) -> None:
    """Each of them is a call; those after the first are retries."""
    with safemp.SafeExecutor(1, retries=2, retry_on=OSError) as executor:
        assert executor.submit(once, str(tmp_path / "there")).result() == 1
        stats = executor.stats()

    assert (stats.calls, stats.failures, stats.retries) == (2, 1, 1)


def test_it_says_what_a_worker_is_at(tmp_path: Path) -> None:
    """And for how long; and what waits."""
    with safemp.SafeExecutor(1) as executor:
        first = executor.submit(started_then_wait, str(tmp_path / "started"), str(tmp_path / "release"))
        executor.submit(square, 2)
        deadline = time.monotonic() + LONG
        while not (tmp_path / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        stats = executor.stats()
        (tmp_path / "release").touch()
        first.result()

    (worker,) = stats.workers
    assert worker.doing == "tests.support.jobs.started_then_wait"
    assert worker.doing_for > 0
    assert stats.running + stats.waiting == 2
    assert f"at {worker.doing} for" in str(stats)


def test_the_text_says_it_in_short() -> None:
    """One line for all, one for each worker."""
    with safemp.SafeExecutor(1) as executor:
        list(executor.map(fail_if_odd, range(10), on_error="return"))
        text = str(executor.stats())

    assert re.match(r"10 calls in \d+\.\d s, 5 failed\n  sent [\d.]+ \w+; .+ pickling, .+ in the queue, ", text)
    assert re.search(r"\n  worker \d+: +\d+% busy, 10 calls, 5 failed", text)


def test_without_a_trace_there_is_no_timeline(engine: str) -> None:
    """``save`` says what to type; a page can be had all the same."""
    with safemp.SafeExecutor(1, engine=engine) as executor:
        executor.submit(square, 2).result()
        stats = executor.stats()

    assert stats.timeline is None
    with pytest.raises(
        ValueError, match=r"cannot write a timeline: none was recorded\n  fix: +make the pool with trace="
    ):
        stats.save("run.json")
    assert "<svg" not in stats.to_html()


# -- trace= ----------------------------------------------------------------------------


def test_a_timeline_has_every_call_once() -> None:
    """Whatever comes in one message; no worker does two things at a time."""
    with safemp.SafeExecutor(2, trace=True) as executor:
        executor.submit(square, 2).result()
        list(executor.map(fail_if_odd, range(40), chunksize=7, on_error="return"))
        list(executor.map(square, range(5000), chunksize=1000))
    stats = executor.stats()
    timeline = timeline_of(executor)

    assert sum(span.calls for span in timeline.spans) == stats.calls == 5041
    assert sum(span.failures for span in timeline.spans) == stats.failures == 20
    odd = [span for span in timeline.spans if span.name.endswith("fail_if_odd")]
    assert sorted(i for span in odd for i in range(span.first or 0, (span.first or 0) + span.calls)) == list(range(40))
    assert all(span.calls == 1 for span in odd if span.failures)
    for pid in {span.pid for span in timeline.spans}:
        mine = [span for span in timeline.spans if span.pid == pid]
        assert all(a.begin + a.seconds <= b.begin + 1e-6 for a, b in itertools.pairwise(mine))
    assert min(span.begin for span in timeline.spans) >= 0
    assert max(span.begin + span.seconds for span in timeline.spans) <= stats.seconds


def test_a_span_is_as_long_as_the_call() -> None:
    """And is where it was: after what ran before it."""
    with safemp.SafeExecutor(1, trace=True) as executor:
        executor.submit(square, 2).result()
        executor.submit(time.sleep, 0.2).result()
        list(executor.map(time.sleep, [0.1, 0.1], chunksize=2))
    first, slept, *chunk = timeline_of(executor).spans

    assert (first.label, slept.label) == ("tests.support.jobs.square", "time.sleep")
    assert slept.seconds >= 0.2 - 0.001
    assert sum(span.seconds for span in chunk) >= 0.2 - 0.001
    assert slept in timeline_of(executor).longest(3)


def test_errors_are_told_without_being_loaded() -> None:
    """By what the worker wrote down of them: their class and text, with the item; a crash with how."""
    with safemp.SafeExecutor(1, trace=True) as executor:
        list(executor.map(dies_at_5, range(6), on_error="return"))
        list(executor.map(fail_if_odd, range(2), on_error="return"))
        errors = timeline_of(executor).errors

    (crash, died), (odd, raised) = errors
    assert crash == "tests.contract.test_stats.dies_at_5, items[5]"
    assert re.match(r"WorkerCrashed: worker \d+ was killed by signal 9", died)
    assert odd == "tests.support.jobs.fail_if_odd, items[1]"
    assert re.match(r"\w+: ", raised)


def test_the_trace_is_written_when_the_pool_ends(tmp_path: Path) -> None:
    """In Chrome's format: complete events in microseconds, named processes, a counter; of ended workers too."""
    path = tmp_path / "run.json"
    with safemp.Pool(2, trace=path) as pool:
        pool.map(dies_at_5, range(8), 2, on_error="return")
        pool.close()
        pool.join()
    written = json.loads(path.read_text())
    events = written["traceEvents"]

    assert {event["ph"] for event in events} == {"M", "X", "C", "i"}
    calls = [event for event in events if event["ph"] == "X" and event["cat"] != "pickling"]
    assert sum(event["args"]["calls"] for event in calls) == 8
    assert {event["name"] for event in calls} == {"tests.contract.test_stats.dies_at_5"}
    assert [event["args"]["failed"] for event in calls if event["cat"] == "failed"] == [1]
    assert all(event["ts"] >= 0 and event["dur"] >= 0 for event in events if event["ph"] == "X")
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names[os.getpid()] == "caller"
    assert {names[event["pid"]] for event in calls} == {"worker"}
    assert any(event["name"].startswith("ended: was killed by signal 9") for event in events)


def test_a_trace_can_be_a_page(tmp_path: Path) -> None:
    """It needs nothing else, and what tasks raised cannot be markup."""
    path = tmp_path / "run.html"
    with safemp.SafeExecutor(1, trace=str(path)) as executor:
        executor.map(markup, range(3), on_error="return")
    page = path.read_text(encoding="utf-8")

    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert "&lt;script&gt;" in page
    assert "<script" not in page
    assert "http" not in page


def markup(i: int) -> int:
    if i == 1:
        raise ValueError("<script>alert(1)</script>")
    return i


def test_a_notebook_shows_a_fragment() -> None:
    """Not a page in a page."""
    with safemp.SafeExecutor(1, trace=True) as executor:
        executor.submit(square, 2).result()
        html = executor.stats()._repr_html_()

    assert "<html" not in html
    assert "tests.support.jobs.square" in html


def test_a_path_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    """Not when all is done."""
    with pytest.raises(FileNotFoundError):
        safemp.SafeExecutor(1, trace=tmp_path / "missing" / "run.json")
    with pytest.raises(TypeError, match=r"^trace must be a path or a bool, not int"):
        safemp.SafeExecutor(1, trace=3)  # type: ignore[arg-type]


def test_a_trace_that_can_no_longer_be_written_ends_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The pool ends as it would; stderr says what is missing."""
    folder = tmp_path / "folder"
    folder.mkdir()
    with safemp.SafeExecutor(1, trace=folder / "run.json") as executor:
        assert executor.submit(square, 3).result() == 9
        (folder / "run.json").unlink()
        folder.rmdir()

    assert "safemp: cannot write the trace: " in capsys.readouterr().err


def test_an_engine_of_somebody_else_may_not_count() -> None:
    """That is said."""

    class Silent:
        name = "silent"
        capabilities = SimpleNamespace(lenient=True)
        max_workers = 1
        main_by_name = True

        def close(self, **_: Any) -> None:
            pass

        def end_task(self, task: Any) -> bool:
            return False

    text = r"^cannot tell what has happened: Silent does not count"
    executor = safemp.SafeExecutor(1, engine=Silent())  # type: ignore[arg-type]
    with executor, pytest.raises(NotImplementedError, match=text):
        executor.stats()
