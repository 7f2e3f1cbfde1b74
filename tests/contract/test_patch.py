"""``safemp.patch``: an unmodified program gets safemp's pools, and notices only that they answer."""

from __future__ import annotations

import abc
import concurrent.futures
import multiprocessing
import multiprocessing.pool
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import process as futures_process
from multiprocessing import context as stdlib
from multiprocessing import forkserver
from types import ModuleType
from typing import Any

import pytest

import safemp
from tests.support import started
from tests.support.child import environment
from tests.support.started import WHOLE, Dataset, Stuck, generator

StockPool = multiprocessing.pool.Pool
StockExecutor = futures_process.ProcessPoolExecutor

METHODS = ["fork", "spawn", "forkserver"]
SPAWNING = METHODS[1:]


class KeywordOnlyError(Exception):
    """Pickles, and does not unpickle."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


def fail(code: int) -> None:
    """Raise what kills the standard library's pools."""
    raise KeywordOnlyError(code=code)


def state() -> list[Any]:
    """Return all that a patch replaces."""
    return [
        vars(multiprocessing.pool).get("Pool"),
        vars(concurrent.futures).get("ProcessPoolExecutor"),
        vars(futures_process).get("ProcessPoolExecutor"),
        vars(stdlib.SpawnProcess).get("_Popen"),
        vars(stdlib.ForkServerProcess).get("_Popen"),
        vars(StockPool).get("__init__"),
        vars(StockExecutor).get("__init__"),
        forkserver._forkserver._preload_modules,  # type: ignore[attr-defined]  # what a patch adds to
        multiprocessing.Pool.__func__,  # type: ignore[attr-defined]  # it is a method of the default context
    ]


@pytest.fixture
def stock() -> Iterator[list[Any]]:
    """What is there without a patch, and is there again afterwards."""
    before = state()
    yield before
    assert all(now is then for now, then in zip(state(), before, strict=True))


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("method", METHODS)
def test_every_way_to_a_pool_leads_to_ours(method: str) -> None:
    """By context, module, package, and by names that were imported before."""
    from multiprocessing import Pool as imported_before

    context = multiprocessing.get_context(method)
    with safemp.patched():
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing.pool import Pool

        makers: list[Any] = [context.Pool, multiprocessing.Pool, Pool, imported_before, StockPool]
        for make in makers:
            with make(1) as pool:
                assert isinstance(pool, safemp.Pool)
                assert isinstance(pool, StockPool)
                assert isinstance(pool, Pool)
                with pytest.raises(KeywordOnlyError) as raised:
                    pool.apply(fail, (3,))
                assert raised.value.code == 3
                assert pool._processes == 1
                assert repr(pool) == "<multiprocessing.pool.Pool state=RUN pool_size=1>"
        for make in (ProcessPoolExecutor, StockExecutor):
            with make(1, mp_context=context) as executor:
                assert isinstance(executor, safemp.SafeExecutor)
                assert isinstance(executor, StockExecutor)
                assert isinstance(executor, concurrent.futures.ProcessPoolExecutor)
                assert isinstance(executor, concurrent.futures.Executor)
                assert executor._max_workers == 1
                with pytest.raises(KeywordOnlyError):
                    executor.submit(fail, 3).result()
                assert len(executor._processes) == 1


def test_the_standard_library_has_none_of_it() -> None:
    """The error is hostile: a stock executor breaks of it."""
    with StockExecutor(1) as executor, pytest.raises(futures_process.BrokenProcessPool):
        executor.submit(fail, 3).result()


@pytest.mark.usefixtures("stock")
def test_a_program_keeps_its_start_method() -> None:
    """The default one, the one of the context, and spawn where the standard library takes it."""
    with safemp.patched():
        default = multiprocessing.get_context().get_start_method()
        with multiprocessing.Pool(1) as pool, concurrent.futures.ProcessPoolExecutor(1) as executor:
            executor.submit(len, "x").result()
            processes = [*pool._pool, *executor._processes.values()]  # type: ignore[attr-defined]
            assert {process._popen.method for process in processes} == {default}
        with multiprocessing.get_context("forkserver").Pool(1) as pool:
            assert pool._pool[0]._popen.method == "forkserver"  # type: ignore[attr-defined]
        with concurrent.futures.ProcessPoolExecutor(1, max_tasks_per_child=2) as executor:
            executor.submit(len, "x").result()
            assert [process._popen.method for process in executor._processes.values()] == ["spawn"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("method", SPAWNING)
def test_processes_are_checked_and_repaired(method: str) -> None:
    """The standard library's own class, and a subclass of it."""
    context = multiprocessing.get_context(method)
    end, its_end = context.Pipe(duplex=False)
    with end, its_end, safemp.patched():
        make: Any = context.Process
        for process in (make(target=started.tell, args=(its_end, Dataset())), started.Teller(its_end, Dataset())):
            process.start()
            assert end.recv() == (WHOLE, None)
            process.join()
        with pytest.raises(safemp.PreflightError, match=r"^cannot send args\[0\]\.rows\['k'\]: generator"):
            make(target=started.nothing, args=(Stuck(),)).start()
        with pytest.raises(safemp.PreflightError, match=r"^cannot send self\.held: generator"):
            started.Teller(its_end, generator()).start()
    assert multiprocessing.active_children() == []


@pytest.mark.usefixtures("stock")
def test_a_context_of_ours_under_a_patch_is_ours_once() -> None:
    """What both would do is done one time."""
    context = safemp.get_context("spawn")
    end, its_end = context.Pipe(duplex=False)
    with end, its_end, safemp.patched():
        process = context.Process(target=started.tell, args=(its_end, Dataset()))
        process.start()
        assert end.recv() == (WHOLE, None)
        process.join()
        with pytest.raises(safemp.PreflightError) as raised:
            context.Process(target=started.nothing, args=(Stuck(),)).start()

    assert len(raised.value.culprits) == 1


@pytest.mark.usefixtures("stock")
@pytest.mark.parametrize("method", METHODS)
def test_processes_of_a_patched_program_are_patched(method: str) -> None:
    """A pool that is made in one is ours, too."""
    context = multiprocessing.get_context(method)
    end, its_end = context.Pipe(duplex=False)
    with end, its_end, safemp.patched():
        make: Any = context.Process
        process = make(target=started.make_pools, args=(its_end,))
        process.start()
        assert "safemp" in end.recv()
        process.join()


@pytest.mark.usefixtures("stock")
def test_threads_remain_threads() -> None:
    """``ThreadPool`` is derived from the class that is replaced; it is what it was, and still says so."""
    from multiprocessing.dummy import Pool as dummy
    from multiprocessing.pool import ThreadPool

    with ThreadPool(1) as before, safemp.patched(), ThreadPool(2) as pool, dummy(1) as another:
        assert pool.map(lambda _: threading.current_thread().name != "MainThread", range(3)) == [True] * 3
        assert not isinstance(pool, safemp.Pool)
        for each in (pool, another, before):
            assert isinstance(each, multiprocessing.pool.Pool)
        assert issubclass(ThreadPool, multiprocessing.pool.Pool)
        assert not isinstance(object(), multiprocessing.pool.Pool)


@pytest.mark.usefixtures("stock")
def test_what_was_made_before_is_of_the_class_that_stands_there() -> None:
    """An executor of the standard library is one for whoever asks now, also by its base class's name."""

    class Named(StockExecutor):
        def __init__(self) -> None:
            concurrent.futures.ProcessPoolExecutor.__init__(self, 1)

    with StockExecutor(1) as executor, safemp.patched():
        assert isinstance(executor, concurrent.futures.ProcessPoolExecutor)
        with Named() as named:
            assert isinstance(named, concurrent.futures.ProcessPoolExecutor)
            assert not isinstance(named, safemp.SafeExecutor)


@pytest.mark.usefixtures("stock")
def test_they_can_be_derived_from() -> None:
    """A subclass is a subclass, and only its own instances are its instances."""
    with safemp.patched():

        class MyPool(multiprocessing.pool.Pool):
            def twice(self, fn: Any, item: Any) -> Any:
                return self.apply(fn, (item,)) * 2

        class MyExecutor(concurrent.futures.ProcessPoolExecutor, abc.ABC):
            pass

        with MyPool(1, context=multiprocessing.get_context("fork")) as pool, multiprocessing.Pool(1) as other:
            assert pool.twice(len, "abc") == 6
            assert isinstance(pool, MyPool)
            assert not isinstance(other, MyPool)
            assert issubclass(MyPool, StockPool)
            assert issubclass(MyPool, multiprocessing.pool.Pool)
        with MyExecutor(max_workers=1) as executor:
            assert executor.submit(len, "abc").result() == 3
            assert isinstance(executor, StockExecutor)


@pytest.mark.usefixtures("stock")
def test_the_classes_pickle_by_the_name_they_stand_under() -> None:
    """Who sends the class gets the one that is there."""
    with safemp.patched():
        for cls in (multiprocessing.pool.Pool, concurrent.futures.ProcessPoolExecutor):
            assert pickle.loads(pickle.dumps(cls)) is cls


def test_blocks_nest_and_repeat(stock: list[Any]) -> None:
    """The last to end puts everything back, by an error too."""
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), safemp.patched():
            inside = state()
            with safemp.patched():
                assert state() == inside != stock
            assert state() == inside
            raise ZeroDivisionError
        assert state() == stock


def test_blocks_overlap_in_threads(stock: list[Any]) -> None:
    """One that ends does not end another."""
    first, second = safemp.patched(), safemp.patched()

    first.__enter__()
    inside = state()
    second.__enter__()
    first.__exit__(None, None, None)
    assert state() == inside
    second.__exit__(None, None, None)

    assert state() == stock


def test_patch_lasts_until_unpatch(stock: list[Any]) -> None:
    """However often it was called, and whatever blocks have come and gone."""
    safemp.unpatch()
    assert state() == stock
    safemp.patch()
    safemp.patch()
    try:
        inside = state()
        with safemp.patched():
            pass
        assert state() == inside != stock
        with safemp.patched():
            safemp.unpatch()
            assert state() == inside
        assert state() == stock
    finally:
        safemp.unpatch()


@pytest.mark.usefixtures("stock")
def test_what_another_has_put_there_stays() -> None:
    """A patch puts back what it finds to be its own."""

    class Theirs:
        pass

    try:
        with safemp.patched():
            multiprocessing.pool.Pool = Theirs  # type: ignore[assignment,misc]
        assert multiprocessing.pool.Pool is Theirs
    finally:
        multiprocessing.pool.Pool = StockPool  # type: ignore[misc]


def test_a_name_that_was_not_there_is_not_there_afterwards() -> None:
    """``concurrent.futures`` looks its names up when they are first asked for."""
    code = (
        "import safemp.patching, concurrent.futures as cf\n"
        "before = set(vars(cf))\n"
        "with safemp.patched(): cf.ProcessPoolExecutor\n"
        "print(set(vars(cf)) - before)"
    )

    said = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, env=environment()
    ).stdout

    assert said == "set()\n"


def test_an_idle_executor_of_the_standard_library_travels_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """The repairs are for its own class, not for what stands in its place when modules have come."""
    idle = StockExecutor(1)
    with safemp.patched():
        monkeypatch.setitem(sys.modules, "a_module_that_has_come", ModuleType("a_module_that_has_come"))

        assert safemp.inspect(idle).ok
    idle.shutdown()
