"""``safemp.get_context`` and ``safemp.Process``: what a process is given arrives, or is named before it starts."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import socket
import sys
import threading
from multiprocessing import shared_memory
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.engines import launch
from tests.support import started
from tests.support.child import quiet, run_script
from tests.support.started import WHOLE, Dataset, Stuck, generator

multiprocessing.RawArray("b", 1 << 16)  # multiprocessing's heap, which lives as long as the process

SPAWNING = ["spawn", "forkserver", "loky", None]
METHODS = [*SPAWNING, "fork"]

Cause = (pickle.PicklingError, TypeError, AttributeError)


def heard(context: Any, *args: Any, target: Any, **kwargs: Any) -> Any:
    """Start a process of *context* that is given a connection first; return what it sends."""
    end, its_end = context.Pipe(duplex=False)
    with end:
        process = context.Process(target=target, args=(its_end, *args), kwargs=kwargs)
        with its_end:
            process.start()
        said = end.recv() if end.poll(40) else None
        process.join()
        assert process.exitcode == 0
        process.close() if hasattr(process._popen, "close") else None
    return said


def fails(process: Any) -> safemp.PreflightError:
    """Start *process*, which must fail and leave nothing; return the error."""
    children, files = multiprocessing.active_children(), os.listdir("/proc/self/fd")
    with pytest.raises(safemp.PreflightError) as raised:
        process.start()

    assert process.pid is None
    assert multiprocessing.active_children() == children
    assert len(os.listdir("/proc/self/fd")) <= len(files) + 2  # the resource trackers', of a first start
    return raised.value


@pytest.mark.parametrize("method", METHODS)
def test_it_is_a_context_of_multiprocessing(method: str | None) -> None:
    """What insists on a ``BaseContext`` takes it, and it knows its method."""
    context = safemp.get_context(method)

    assert isinstance(context, multiprocessing.context.BaseContext)
    assert context.get_start_method() == (method or "loky")
    assert context.get_context() is context is safemp.get_context(method)
    assert context.get_context("spawn") is safemp.get_context("spawn")
    assert issubclass(context.Process, BaseProcess)


def test_an_unknown_method_is_named() -> None:
    """The error has the type of the standard library's, and says what there is."""
    with pytest.raises(ValueError, match=r"cannot find context for 'thread': there are 'fork', 'forkserver', 'loky'"):
        safemp.get_context("thread")


OTHERS = """
import multiprocessing.context

theirs = multiprocessing.context.SpawnContext()  # as the copy of loky that joblib brings
multiprocessing.context._concrete_contexts["loky"] = theirs

import safemp

with safemp.Pool(1, context="loky") as pool:
    print(pool.apply(abs, (-1,)), pool._pool[0]._popen.method)
safemp.get_context("loky")
print(multiprocessing.get_context("loky") is theirs)
"""


def test_the_name_of_another_loky_is_left_to_it(tmp_path: Path) -> None:
    """Joblib asks multiprocessing for its own contexts by that name; we take ours from loky itself."""
    ended = run_script(tmp_path, OTHERS)

    assert quiet(ended, out="1 loky\nTrue\n"), str(ended)


def test_the_standard_library_does_not_send_it() -> None:
    """The dataset is hostile: the stock context fails in start()."""
    context = multiprocessing.get_context("spawn")

    with pytest.raises(Cause):
        context.Process(target=started.nothing, args=(Dataset(),)).start()


@pytest.mark.parametrize("method", METHODS)
def test_what_can_be_repaired_arrives(method: str | None) -> None:
    """A lock, a lambda, a logger, a module and a closure are there in the process."""
    factor = 7

    said = heard(safemp.get_context(method), Dataset(), target=started.tell, function=lambda value: factor * value)

    assert said == (WHOLE, 21)


@pytest.mark.parametrize("method", SPAWNING)
def test_what_cannot_be_sent_is_named(method: str | None) -> None:
    """With every culprit's path, as the caller wrote it, and nothing is started."""
    process = safemp.get_context(method).Process(
        target=started.nothing, args=(1, Stuck()), kwargs={"k": [generator()]}, daemon=True
    )

    error = fails(process)

    assert [culprit.path for culprit in error.culprits] == ["args[1].rows['k']", "kwargs['k'][0]"]
    assert isinstance(error, (pickle.PicklingError, TypeError))
    assert str(error).startswith("cannot send args[1].rows['k']: generator does not pickle\n")


@pytest.mark.parametrize("method", SPAWNING)
def test_a_process_that_failed_to_start_can_be_started(method: str | None) -> None:
    """When the culprit is gone, the same object starts."""
    stuck = Stuck()
    process = safemp.get_context(method).Process(target=started.nothing, args=(stuck,))
    fails(process)

    stuck.rows.clear()
    process.start()
    process.join()
    assert process.exitcode == 0


def test_a_culprit_in_the_target_is_named() -> None:
    """So is one that a closure holds."""
    rows = generator()

    error = fails(safemp.get_context("spawn").Process(target=lambda: list(rows)))

    assert [culprit.path for culprit in error.culprits] == ["target.__closure__['rows']"]


class _Teller(started.Teller, safemp.get_context("spawn").Process):  # type: ignore[misc]  # made by a call
    """The same, of our context."""


class _Reticent(started.Reticent, safemp.get_context("spawn").Process):  # type: ignore[misc]  # as above
    """The same."""


def test_attributes_of_a_subclass_arrive_and_are_named() -> None:
    """A process with attributes of its own is no exception."""
    end, its_end = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with end:
        process = _Teller(its_end, Dataset())
        with its_end:
            process.start()
        assert end.recv() == (WHOLE, None)
        process.join()

    error = fails(_Teller(None, Stuck()))  # type: ignore[arg-type]
    assert [culprit.path for culprit in error.culprits] == ["self.held.rows['k']"]


def test_a_class_that_says_what_is_sent_is_obeyed() -> None:
    """What ``__getstate__`` leaves out is neither sent nor complained of."""
    end, its_end = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with end:
        process = _Reticent(its_end)
        with its_end:
            process.start()
        assert end.recv() == (WHOLE, None)
        process.join()

    error = fails(_with_a_culprit())
    assert [culprit.path for culprit in error.culprits] == ["self.held"]


def _with_a_culprit() -> Any:
    process = _Reticent(None)  # type: ignore[arg-type]
    process.held = generator()
    return process


def test_a_local_class_of_process_starts() -> None:
    """The standard library cannot find such a class in the other process."""

    class Local(safemp.get_context("spawn").Process):  # type: ignore[misc]  # made by a call
        def run(self) -> None:
            raise SystemExit(7)

    process = Local()
    process.start()
    process.join()

    assert process.exitcode == 7


@pytest.mark.parametrize("method", SPAWNING)
def test_what_is_there_to_talk_to_others_is_refused(method: str | None) -> None:
    """Nobody would hear a copy of a threading Event."""
    error = fails(safemp.get_context(method).Process(target=started.nothing, args=(threading.Event(),)))

    assert [culprit.path for culprit in error.culprits] == ["args[0]"]
    assert "multiprocessing.Event() in initargs= of a pool, or in args= of a Process" in str(error)


@pytest.mark.parametrize("method", SPAWNING)
def test_registered_reducers_are_used(method: str | None) -> None:
    """Torch and others tell ``ForkingPickler`` how their objects travel."""
    said = heard(safemp.get_context(method), started.Registered(), "by", target=started.send_attribute)

    assert said == "the reducer"


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessings_own_objects_go_their_way(method: str | None) -> None:
    """Each is shared with the process, not copied."""
    context = safemp.get_context(method)
    memory = shared_memory.SharedMemory(create=True, size=8)
    ours, theirs = socket.socketpair()
    things = {name: getattr(context, name)() for name in started.USES if name[0].isupper() and "Lock" in name}
    things |= {name: getattr(context, name)() for name in ("Semaphore", "Condition", "Event", "Queue")}
    things |= {name: getattr(context, name)() for name in ("SimpleQueue", "JoinableQueue")}
    things |= {"BoundedSemaphore": context.BoundedSemaphore(1), "Barrier": context.Barrier(2)}
    things |= {name: getattr(context, name)("i", 3) for name in ("Value", "RawValue", "Array", "RawArray")}
    with context.Manager() as manager, ours, theirs:
        things |= {"dict": manager.dict(), "socket": theirs, "memory": memory}
        assert things.keys() == started.USES.keys()

        end, its_end = context.Pipe(duplex=False)
        with end, its_end:
            processes = {}
            for kind, thing in things.items():
                processes[kind] = context.Process(target=started.use, args=(kind, thing, its_end))
                processes[kind].start()
                if kind == "Barrier":
                    thing.wait(20)
                assert end.poll(40), kind
                said = end.recv()
                assert said in (True, None, 4, [0, 0, 0]), (kind, said)
                processes[kind].join()
                assert processes[kind].exitcode == 0, kind
        assert [things[name].get() for name in ("Queue", "SimpleQueue", "JoinableQueue")] == ["from the child"] * 3
        assert things["Event"].is_set()
        assert things["dict"]["key"] == ours.recv(20).decode() == "from the child"
        assert things["Value"].value == things["RawValue"].value == 4
        assert memory.buf[0] == 7
    for name in ("Queue", "JoinableQueue"):
        things[name].close()
        things[name].join_thread()
    things["SimpleQueue"].close()
    memory.close()
    memory.unlink()


@pytest.mark.parametrize("method", SPAWNING)
def test_a_lock_that_only_the_process_has_is_there(method: str | None) -> None:
    """The caller may drop it at once; the standard library's child does not find it then."""
    context = safemp.get_context(method)
    end, its_end = context.Pipe(duplex=False)
    with end:
        process = context.Process(target=started.use, args=("Lock", context.Lock(), its_end))
        with its_end:
            process.start()
        assert end.recv() is True
        process.join()


@pytest.mark.parametrize("method", SPAWNING)
def test_a_descriptor_that_only_the_pickle_has_is_there(method: str | None) -> None:
    """What an object makes for its pickle lives until the process is there; with stock spawn it waits for ever."""
    said = heard(safemp.get_context(method), started.Letter("hello"), target=started.read_letter)

    assert said == "hello"


@pytest.mark.parametrize("method", METHODS)
def test_a_customized_manager_works(method: str | None) -> None:
    """Even one whose registry has a lambda, which the standard library cannot spawn."""
    with started.Custom(ctx=safemp.get_context(method)) as manager:
        counter = manager.Counter()  # type: ignore[attr-defined]  # made by register

        assert [counter.add(), counter.add()] == [1, 2]


def test_the_standard_library_does_not_spawn_that_manager() -> None:
    """The registry is hostile."""
    with pytest.raises(Cause):
        started.Custom(ctx=multiprocessing.get_context("spawn")).start()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_only_a_fork_can_have_is_named(method: str) -> None:
    """A queue of a fork context, in the words that the standard library has for it, with the one to make instead."""
    queue = multiprocessing.get_context("fork").Queue()

    error = fails(safemp.get_context(method).Process(target=started.nothing, args=([queue],)))

    assert [culprit.path for culprit in error.culprits] == ["args[0][0]"]
    assert isinstance(error, RuntimeError)
    assert "  reason: A SemLock created in a fork context " in str(error)
    assert f'fix:    make it with multiprocessing.get_context("{method}").Queue(...)' in str(error)
    queue.close()


def test_the_default_process_is_forked_if_it_must_be() -> None:
    """As ``safemp.Pool`` does: a clean interpreter, but for what only a fork can have."""
    end, its_end = multiprocessing.Pipe(duplex=False)
    locks = {"loky": safemp.get_context().Lock(), "fork": multiprocessing.get_context("fork").Lock()}

    with end, its_end:
        for method, lock in locks.items():
            process = safemp.Process(target=started.use, args=("Lock", lock, its_end))
            process.start()
            assert end.recv() is True
            assert process._popen.method == method  # type: ignore[attr-defined]
            process.join()


@pytest.mark.parametrize("method", METHODS)
def test_its_pool_is_ours(method: str | None) -> None:
    """``Pool`` of a context is a ``safemp.Pool`` whose workers start by its method."""
    with safemp.get_context(method).Pool(1, task_timeout=30) as pool:
        assert isinstance(pool, safemp.Pool)
        assert pool.apply(lambda: 42) == 42
        pool.close()
        pool.join()


@pytest.mark.parametrize("method", SPAWNING)
def test_its_private_ways_into_a_process_are_there(method: str | None) -> None:
    """What we know of the standard library's processes is so on this Python."""
    process = safemp.get_context(method).Process(name="x")

    assert vars(process).keys() <= launch._NOT_THE_USERS
    assert launch._roots(process) == []
    assert launch._roots(safemp.get_context(method).Process(target=len, args=(1,), kwargs={"k": 2})) == [
        ("target", len),
        ("args[0]", 1),
        ("kwargs['k']", 2),
    ]


def test_a_descriptor_is_handed_over_once() -> None:
    """The first rung of the ladder hands it over, and fails; then the second one does it again."""
    end, its_end = multiprocessing.get_context("spawn").Pipe(duplex=False)

    with end:
        process = safemp.get_context("spawn").Process(
            target=started.tell, args=(its_end, Dataset()), kwargs={"function": lambda value: value}
        )
        with its_end:
            process.start()
        assert end.recv() == (WHOLE, 3)
        fds = process._popen._fds
        process.join()

    assert sorted(fds) == sorted(set(fds))


def read(end: Any, file: Any) -> None:
    """Send what is left to read in a file, and the name of the class of this process."""
    with file:
        end.send((file.read(), multiprocessing.current_process().__class__.__name__))


@pytest.mark.parametrize("method", SPAWNING)
def test_repairs_can_be_chosen(method: str | None, tmp_path: Path) -> None:
    """A file is refused, and opened again where that is asked for; nothing of the choice is sent."""
    path = tmp_path / "words"
    path.write_text("one two")
    context = safemp.get_context(method, repairs=("all", "reopen"))

    with path.open() as file:
        file.read(4)
        error = fails(safemp.get_context(method).Process(target=started.nothing, args=(file,)))
        assert 'fix:    give repairs=("all", "reopen")' in str(error)
        said = heard(context, file, target=read)
        strict = safemp.get_context(method, repairs="none").Process(target=started.nothing, args=(threading.Lock(),))
        assert [culprit.path for culprit in fails(strict).culprits] == ["args[0]"]

    assert said == ("two", safemp.get_context(method).Process.__name__)
    assert isinstance(context.Process(), safemp.get_context(method).Process)


def test_a_rule_of_the_programs_own_is_not_sent() -> None:
    """What a context is given may itself be what cannot travel."""
    rows = generator()
    context = safemp.get_context("spawn", repairs={Stuck: lambda _: (list, (list(rows),))})

    assert heard(context, [Stuck()], target=started.send_it) == [[]]


class _Reader(safemp.get_context("spawn", repairs="reopen").Process):  # type: ignore[misc]  # made by a call
    """A process of a context with repairs of its own."""

    def __init__(self, end: Any, file: Any) -> None:
        super().__init__()
        self.end, self.file = end, file

    def run(self) -> None:
        read(self.end, self.file)


def test_a_subclass_of_such_a_process_starts(tmp_path: Path) -> None:
    """It is found by its name, and keeps the repairs."""
    path = tmp_path / "words"
    path.write_text("one two")
    end, its_end = multiprocessing.get_context("spawn").Pipe(duplex=False)
    with end, path.open() as file:
        process = _Reader(its_end, file)
        with its_end:
            process.start()
        assert end.recv() == ("one two", "_Reader")
        process.join()


def test_repairs_of_a_context_hold_for_what_is_made_of_it(tmp_path: Path) -> None:
    """For its pool, and for the contexts that it is asked for."""
    path = tmp_path / "words"
    path.write_text("one two")
    context = safemp.get_context("fork", repairs="reopen").get_context("loky")

    with path.open() as file, context.Pool(1, task_timeout=30) as pool:
        assert pool.apply(lambda it: it.read(), (file,)) == "one two"
        pool.close()
        pool.join()


def test_unknown_repairs_are_named() -> None:
    """When the context is asked for."""
    with pytest.raises(ValueError, match="cannot find repairs 'magic'"):
        safemp.get_context("spawn", repairs="magic")


@pytest.mark.parametrize("method", ["spawn", "loky"])
def test_a_process_that_needs_nothing_of_ours_loads_nothing_of_ours(method: str) -> None:
    """But the files that its class and the base of that are in; so it starts as fast as the standard library's."""
    assert set(heard(safemp.get_context(method), target=started.send_modules)) <= {
        "safemp.backend",
        "safemp.context",
        "safemp.context.clean",
        "safemp.context.standard",
        "safemp.errors",
    }


@pytest.mark.skipif(sys.platform == "win32", reason="wants fork")
def test_nothing_is_checked_that_is_not_pickled() -> None:
    """A forked process has everything."""
    process = safemp.get_context("fork").Process(target=list, args=(generator(),))
    process.start()
    process.join()

    assert process.exitcode == 0
