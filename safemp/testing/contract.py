"""The promises of ``safemp.engines``, as tests that any engine can be put to.

Derive a class in a test file of yours, say how to make an engine, and run pytest::

    class TestMine(EngineContract):
        @contextmanager
        def engine(self, max_workers):
            with MyCluster(max_workers) as cluster:
                yield MyEngine(cluster)

What an engine declares that it cannot do is not asked of it; that it is refused is. Jobs leave lines in
files under pytest's ``tmp_path``, so the workers must see the same files as the tests.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, wait
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from safemp.engines import Capabilities
from safemp.engines.crash import InitializerError, TaskKilled, TaskTimeout, WorkerCrashed
from safemp.errors import PreflightError
from safemp.executor import AnyEngine, SafeExecutor
from safemp.pool import Pool
from safemp.result_error import ResultError
from safemp.sharing import share
from safemp.testing import contract_jobs as jobs

__all__ = ["EngineContract"]

_WAIT = 60.0
"""Seconds that a test waits for anything. Picked."""

E = TypeVar("E", bound=BaseException)


def _raised(kind: type[E], call: Callable[[], Any]) -> E:
    """Return the error of that kind which *call* raises."""
    try:
        value = call()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} expected, {value!r} returned")


def _until(condition: Callable[[], bool]) -> bool:
    """Wait until something is so; tell whether it is."""
    deadline = time.monotonic() + _WAIT
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class EngineContract:
    """Tests of an engine. See the module for how to use it.

    Attributes:
        tasks_at_once: How many tasks one of its workers may be at: when it dies, so many may fail.
    """

    tasks_at_once: int = 1

    def engine(self, max_workers: int) -> AbstractContextManager[AnyEngine]:
        """Make an engine for one test, and end it.

        Args:
            max_workers: The most tasks at a time.

        Returns:
            A context manager that gives what ``SafeExecutor(engine=...)`` takes.
        """
        raise NotImplementedError

    @contextmanager
    def executor(self, max_workers: int = 2, **settings: Any) -> Iterator[SafeExecutor]:
        """Open an executor on an engine for one test: *max_workers* and *settings* as of ``SafeExecutor``."""
        with self.engine(max_workers) as engine, SafeExecutor(max_workers, engine=engine, **settings) as executor:
            yield executor

    @contextmanager
    def pool(self, processes: int = 2, **settings: Any) -> Iterator[Pool]:
        """Open a pool on an engine for one test: *processes* and *settings* as of ``Pool``."""
        with self.engine(processes) as engine, Pool(processes, engine=engine, **settings) as pool:
            yield pool

    # -- 1: one outcome each -----------------------------------------------------------------

    def test_every_call_has_its_own_answer(self) -> None:
        """Calls, maps, chunks and iterators give each item its answer, in its place."""
        with self.executor() as executor:
            futures = [executor.submit(jobs.square, n) for n in range(50)]
            assert [future.result(_WAIT) for future in futures] == [n * n for n in range(50)]
            assert list(executor.map(jobs.square, range(20), timeout=_WAIT)) == [n * n for n in range(20)]
            assert list(executor.map(pow, range(20), range(20), chunksize=6)) == [n**n for n in range(20)]
            assert list(executor.map(jobs.square, range(20), buffersize=3)) == [n * n for n in range(20)]
        with self.pool() as pool:
            assert pool.apply(jobs.square, (3,)) == 9
            assert pool.map(jobs.square, range(17)) == [n * n for n in range(17)]
            assert pool.starmap(pow, [(2, n) for n in range(9)], chunksize=4) == [2**n for n in range(9)]
            assert list(pool.imap(jobs.square, range(9))) == [n * n for n in range(9)]
            assert sorted(pool.imap_unordered(jobs.square, range(9), chunksize=2)) == [n * n for n in range(9)]

    def test_each_runs_once(self, tmp_path: Path) -> None:
        """Nothing is run twice, whatever way it goes."""
        effects = tmp_path / "effects"
        with self.executor() as executor:
            futures = [executor.submit(jobs.note, str(effects), f"call {n}") for n in range(20)]
            list(executor.map(partial(jobs.note, str(effects)), map(str, range(20)), chunksize=3))
            wait(futures, _WAIT)

        assert len(_lines(effects)) == 40
        assert set(Counter(_lines(effects)).values()) == {1}

    def test_threads_may_submit_at_once(self) -> None:
        """Each thread gets its own answers."""
        wrong: list[int] = []

        def storm(first: int) -> None:
            futures = [(n, executor.submit(jobs.square, n)) for n in range(first, first + 25)]
            wrong.extend(n for n, future in futures if future.result(_WAIT) != n * n)

        with self.executor() as executor:
            threads = [threading.Thread(target=storm, args=(100 * n,)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert wrong == []

    # -- what travels ------------------------------------------------------------------------

    def test_functions_without_a_name_travel(self) -> None:
        """A lambda, a closure and a function of a module that only the caller has."""
        offset = 10
        module = ModuleType("only_here")
        exec("def double(n):\n    return 2 * n", module.__dict__)
        with self.executor() as executor:
            assert executor.submit(lambda: 7).result(_WAIT) == 7
            assert list(executor.map(lambda n: n + offset, range(5))) == [10, 11, 12, 13, 14]
            assert executor.submit(module.double, 4).result(_WAIT) == 8

    def test_what_cannot_travel_is_named_at_the_line_of_the_call(self) -> None:
        """By its path, before anything is sent; and what can be repaired is."""
        with self.executor() as executor:
            error = _raised(PreflightError, lambda: executor.submit(jobs.same, jobs.Stream()))
            assert "args[0].rows['first']" in str(error)
            assert executor.submit(jobs.Locked(21).double).result(_WAIT) == 42

    def test_a_call_that_pickles_and_does_not_load_is_sent_another_way(self) -> None:
        """An exception that plain pickle cannot load arrives as an argument."""
        with self.executor() as executor:
            back = executor.submit(jobs.same, jobs.Refused(status=429)).result(_WAIT)
            assert isinstance(back, jobs.Refused)
            assert back.status == 429
            assert [e.status for e in executor.map(jobs.same, [jobs.Refused(status=n) for n in range(3)])] == [0, 1, 2]

    def test_what_a_call_raises_arrives_as_its_own_class(self) -> None:
        """With attributes, text, cause and notes; ``SystemExit`` and ``StopIteration``, too."""
        cause: Any = jobs.Refused(status=503)
        cause.extra = {"a": [1]}
        error = ValueError("given")
        error.__cause__ = cause
        with self.executor() as executor:
            arrived = executor.submit(jobs.raise_it, error).exception(_WAIT)
            assert type(arrived) is ValueError
            assert arrived.args == ("given",)
            why: Any = arrived.__cause__
            assert isinstance(why, jobs.Refused)
            assert (why.status, getattr(why, "extra", None)) == (503, {"a": [1]})
            assert arrived.__traceback__ is not None
            for kind in (SystemExit, KeyboardInterrupt, StopIteration):
                assert type(executor.submit(jobs.raise_it, kind(3)).exception(_WAIT)) is kind
            assert executor.submit(jobs.square, 2).result(_WAIT) == 4

    def test_an_item_that_fails_fails_alone(self) -> None:
        """The others of its chunk have their answers."""
        with self.pool() as pool:
            results = pool.imap(jobs.refuse, range(6), chunksize=3)
            assert [next(results) for _ in range(3)] == [0, 1, 4]
            assert _raised(jobs.Refused, lambda: next(results)).status == 3
            assert [next(results) for _ in range(2)] == [16, 25]

    def test_a_result_that_cannot_travel_is_named(self) -> None:
        """By its path, and the worker goes on."""
        with self.executor() as executor:
            error = executor.submit(jobs.stream).exception(_WAIT)
            assert isinstance(error, ResultError)
            assert error.culprits[0].path == "result.rows['first']"
            assert executor.submit(jobs.square, 2).result(_WAIT) == 4

    def test_large_data_travels_and_may_be_written_to(self) -> None:
        """On both sides, without a change to what was sent."""
        block = jobs.Block(bytearray(3_000_000))
        with self.executor() as executor:
            back = executor.submit(jobs.mark, block).result(_WAIT)
            assert (memoryview(back.buffer)[0], block.buffer[0]) == (7, 0)
            assert len(memoryview(back.buffer)) == 3_000_000
            memoryview(back.buffer)[1] = 8
            data = bytes(range(256)) * 10_000
            assert executor.submit(jobs.same, data).result(_WAIT) == data
            assert executor.submit(jobs.write_to, bytearray(200_000)).result(_WAIT) == b"\xff\0"

    def test_what_is_shared_is_each_calls_own(self) -> None:
        """In arguments, in the function of a map and in the initializer's: what a call writes no other sees."""
        shared: Any = share(jobs.Block(bytearray(1_000_000)))
        other: Any = share(jobs.Block(bytearray(1_000_000)))
        with self.executor(initializer=jobs.keep, initargs=(shared,)) as executor:
            futures = [executor.submit(jobs.read_and_mark, shared) for _ in range(6)]
            assert [future.result(_WAIT) for future in futures] == [0] * 6
            assert list(executor.map(partial(jobs.read_both_and_mark, other), [shared] * 4)) == [(0, 0)] * 4
            assert executor.submit(jobs.kept).result(_WAIT) == 1_000_000
        assert memoryview(shared.load().buffer)[0] == 0

    def test_the_function_of_a_map_is_loaded_once_in_each_worker(self, tmp_path: Path) -> None:
        """However many items there are."""
        loads = tmp_path / "loads"
        function = jobs.Counted(str(loads))
        with self.executor() as executor:
            assert list(executor.map(function, range(40))) == [n + 100_000 for n in range(40)]
            if self._is_inline(executor):
                return

        assert _lines(loads)
        # Threads of one worker may load it at the same time.
        assert len(_lines(loads)) <= 4

    # -- 2, 3: order, begin, cancel ------------------------------------------------------------

    def test_calls_are_taken_in_order(self, tmp_path: Path) -> None:
        """One at a time, if that is the most, in the order of their submission."""
        effects = tmp_path / "effects"
        with self.executor(1) as executor:
            futures = [executor.submit(jobs.note, str(effects), str(n)) for n in range(20)]
            wait(futures, _WAIT)

        assert _lines(effects) == [str(n) for n in range(20)]

    def test_what_has_not_begun_can_be_cancelled(self, tmp_path: Path) -> None:
        """And does not run, by a future's ``cancel`` or by the end of the executor."""
        effects, started, release = tmp_path / "effects", tmp_path / "started", tmp_path / "release"
        with self.executor(1) as executor:
            if self._is_inline(executor):
                return
            first = executor.submit(jobs.hold, str(started), str(release))
            assert _until(started.exists)
            second = executor.submit(jobs.note, str(effects), "second")
            third = executor.submit(jobs.note, str(effects), "third")
            assert second.cancel()
            executor.shutdown(wait=False, cancel_futures=True)
            release.touch()
            assert isinstance(first.result(_WAIT), int)
            assert third.cancelled()
        assert _lines(effects) == []

    # -- 4: death ------------------------------------------------------------------------------

    def test_a_worker_that_dies_fails_its_call(self, tmp_path: Path) -> None:
        """Which the error names, and which has run once; what comes later is as the engine declares."""
        effects = tmp_path / "effects"
        with self.executor() as executor:
            can = self._can(executor)
            if not can.processes:
                return
            error = executor.submit(jobs.die, str(effects)).exception(_WAIT)
            assert isinstance(error, WorkerCrashed), error
            assert error.call == f"{jobs.__name__}.die"
            assert "die" in str(error)
            assert error.arguments.startswith("('")
            assert _lines(effects) == ["died"]
            if can.isolates:
                assert executor.submit(jobs.square, 5).result(_WAIT) == 25

    def test_a_death_costs_only_the_call_it_was_at(self, tmp_path: Path) -> None:
        """If the engine declares so: every other item has its answer, and has run once."""
        effects = tmp_path / "effects"
        with self.executor() as executor:
            if not self._can(executor).isolates:
                return
            job = partial(jobs.note_or_die, str(effects), 7)
            futures = [executor.submit(job, n) for n in range(20)]
            errors = {n: future.exception(_WAIT) for n, future in enumerate(futures)}

        failed = {n: error for n, error in errors.items() if error is not None}
        assert 7 in failed, failed
        assert len(failed) <= self.tasks_at_once, failed
        assert all(isinstance(error, WorkerCrashed) for error in failed.values()), failed
        ran = Counter(line for line in _lines(effects) if int(line) not in failed)
        assert ran == Counter(str(n) for n in range(20) if n not in failed)

    def test_of_a_chunk_only_the_item_fails_that_its_worker_died_at(self, tmp_path: Path) -> None:
        """If the engine declares so: those before have their answers, those behind run elsewhere."""
        effects = tmp_path / "effects"
        with self.executor() as executor:
            can = self._can(executor)
            if not (can.isolates and can.knows_item) or self.tasks_at_once > 1:
                return
        with self.pool() as pool:
            results = pool.imap(partial(jobs.note_or_die, str(effects), 7), range(20), chunksize=5)
            assert [next(results) for _ in range(7)] == [n * n for n in range(7)]
            assert _raised(WorkerCrashed, lambda: next(results)).item == 7
            assert [next(results) for _ in range(12)] == [n * n for n in range(8, 20)]
        assert Counter(_lines(effects)) == Counter(str(n) for n in range(20) if n != 7)

    # -- retries -------------------------------------------------------------------------------

    def test_retries_are_made_when_asked_for(self, tmp_path: Path) -> None:
        """So often, and after such errors, and no more."""
        with self.executor() as executor:
            if self._can(executor).lenient:
                return
            again = executor.options(retries=2, retry_on=ValueError)
            assert again.submit(jobs.fail_until, str(tmp_path / "a"), 2).result(_WAIT) == 3
            assert isinstance(again.submit(jobs.fail_until, str(tmp_path / "b"), 3).exception(_WAIT), ValueError)
            assert len(_lines(tmp_path / "b")) == 3
            assert isinstance(executor.submit(jobs.fail_until, str(tmp_path / "c"), 1).exception(_WAIT), ValueError)
            assert len(_lines(tmp_path / "c")) == 1
            if self._can(executor).isolates:
                died = executor.options(retries=1).submit(jobs.die_once, str(tmp_path / "d"))
                assert isinstance(died.result(_WAIT), int)

    # -- initializer, settings -------------------------------------------------------------------

    def test_an_initializer_runs_once_in_each_worker(self, tmp_path: Path) -> None:
        """Before its first task; one that fails fails every call, with what it raised."""
        begun = tmp_path / "begun"
        with self.executor(initializer=jobs.initialize, initargs=(str(begun), 40)) as executor:
            answers = [executor.submit(jobs.initialized, n) for n in range(10)]
            assert [answer.result(_WAIT)[0] for answer in answers] == [40 + n for n in range(10)]
            used = {answer.result(_WAIT)[1] for answer in answers}
        assert set(Counter(_lines(begun)).values()) == {1}
        assert used <= set(_lines(begun))
        with self.executor(initializer=jobs.fail_to_start) as executor:

            def fail() -> None:
                executor.submit(jobs.square, 1).result(_WAIT)

            assert isinstance(_raised(InitializerError, fail).__cause__, jobs.Refused)

    def test_what_the_engine_cannot_keep_is_refused(self, tmp_path: Path) -> None:
        """When the front end is made; what it can keep is kept."""
        with self.executor() as executor:
            can = self._can(executor)
        if can.lenient:
            return
        if "task_timeout" in can.settings:
            with self.executor(task_timeout=0.5) as executor:
                held = executor.submit(jobs.hold, str(tmp_path / "started"), str(tmp_path / "never"))
                assert isinstance(held.exception(_WAIT), TaskTimeout)
        for name, value in {"task_timeout": 1.0, "max_memory": 1 << 30, "max_tasks_per_child": 1}.items():
            if name in can.settings:
                continue

            def use(settings: dict[str, Any]) -> None:
                with self.executor(**settings):
                    pass

            assert name in str(_raised(ValueError, partial(use, {name: value})))

    # -- 5: the end ------------------------------------------------------------------------------

    def test_a_running_call_is_ended_if_that_can_be(self, tmp_path: Path) -> None:
        """``kill`` says whether it will; the others do not notice."""
        started, release = tmp_path / "started", tmp_path / "release"
        with self.executor() as executor:
            if self._is_inline(executor):
                return
            held = executor.submit(jobs.hold, str(started), str(release))
            assert _until(started.exists)
            ends = self._can(executor).ends_tasks
            assert held.kill() is ends
            if not ends:
                release.touch()
                assert isinstance(held.result(_WAIT), int)
            else:
                assert isinstance(held.exception(_WAIT), TaskKilled)
            assert executor.submit(jobs.square, 5).result(_WAIT) == 25

    def test_close_waits_for_every_outcome(self) -> None:
        """And takes no more calls."""
        with self.executor() as executor:
            futures = [executor.submit(jobs.square, n) for n in range(20)]
            executor.shutdown(wait=True)
            assert all(future.done() for future in futures)
            assert "shutdown" in str(_raised(RuntimeError, lambda: executor.submit(jobs.square, 1)))

    def test_killing_the_pool_leaves_nobody_waiting(self, tmp_path: Path) -> None:
        """Running calls fail, queued ones are cancelled."""
        started, release = tmp_path / "started", tmp_path / "release"
        with self.executor(1) as executor:
            if self._is_inline(executor):
                return
            held = executor.submit(jobs.hold, str(started), str(release))
            assert _until(started.exists)
            queued = [executor.submit(jobs.square, n) for n in range(5)]
            executor.kill_workers()
            try:
                assert isinstance(held.exception(_WAIT), WorkerCrashed)
                for future in queued:
                    assert isinstance(_raised(CancelledError, lambda f=future: f.result(_WAIT)), CancelledError)  # type: ignore[misc]
            finally:
                release.touch()  # for workers that are not the engine's to end

    # ------------------------------------------------------------------------------------------

    @staticmethod
    def _can(executor: SafeExecutor) -> Capabilities:
        return executor._engine.capabilities

    @staticmethod
    def _is_inline(executor: SafeExecutor) -> bool:
        """Tell whether calls run in ``submit`` itself, so that none can wait for another."""
        return executor._engine.capabilities.lenient
