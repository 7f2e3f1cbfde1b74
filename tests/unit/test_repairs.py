"""What is rebuilt on the other side is rebuilt honestly; the rest is refused."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import logging
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import FrozenInstanceError, dataclass, field
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.codec import calls, pickling, repairs
from safemp.codec.repairs import importable
from tests.support import jobs, multidicts

RUNGS = [pickling.dumps, pickling.dumps_careful]
Dump = Callable[[Any], bytes]


class Holder:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class DerivedQueue(queue.SimpleQueue):  # type: ignore[type-arg]
    pass


class ModuleWithMore(types.ModuleType):
    pass


def held(lock: Any) -> Any:
    lock.acquire()
    return lock


HELD = [held(threading.Lock()), held(threading.RLock())]


@pytest.fixture(params=RUNGS, ids=["ladder", "careful"])
def dump(request: pytest.FixtureRequest) -> Dump:
    rung: Dump = request.param
    return rung


# -- frozen dataclasses --------------------------------------------------------------------


@dataclass(frozen=True)
class Frozen:
    __slots__ = ("x", "y")
    x: Any
    y: Any


@dataclass(frozen=True)
class FrozenChild(Frozen):
    z: int = 3


@dataclass(frozen=True, slots=True)
class FrozenByItself:
    x: Any


def test_a_frozen_dataclass_with_slots_of_its_own_is_loaded(dump: Dump) -> None:
    """Pickle writes it, and cannot load it: its class forbids assignment. A subclass with a dict travels as whole."""
    values = [Frozen(1, [2]), FrozenChild("x", None, 7), Frozen.__new__(Frozen)]
    for value in values[:2]:
        with pytest.raises(FrozenInstanceError):
            pickle.loads(pickle.dumps(value))
    circle = Frozen([], None)
    circle.x.append(circle)

    assert [pickling.loads(dump(value)) for value in values[:2]] == values[:2]
    assert not hasattr(pickling.loads(dump(values[2])), "x")
    again = pickling.loads(dump(circle))
    assert again.x[0] is again
    assert b"set_state" not in dump(FrozenByItself(1))


def test_what_is_in_a_frozen_dataclass_has_its_path() -> None:
    """A culprit among its slots is named as any attribute; and the report says that it is repaired."""
    report = safemp.inspect(Frozen(1, (i for i in range(3))))

    assert [culprit.path for culprit in report.culprits] == ["obj.y"]
    assert [repair.path for repair in report.repairs] == ["obj"]
    assert report.repairs[0].needs_safemp


# -- locks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [threading.Lock, threading.RLock])
def test_plain_pickle_refuses_locks(made: Callable[[], Any]) -> None:
    """So this shows something."""
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(made())


@pytest.mark.parametrize("lock", [threading.Lock(), threading.RLock(), *HELD], ids=["free", "free r", "held", "held r"])
def test_a_lock_comes_as_a_free_lock_of_its_own(dump: Dump, lock: Any) -> None:
    """Whether it was held or not; one lock in two places stays one lock."""
    found = pickling.loads(dump(Holder(lock=lock, again=[lock])))

    assert type(found.lock) is type(lock)
    assert found.lock is not lock
    assert found.lock is found.again[0]
    assert found.lock.acquire(blocking=False)
    found.lock.release()


def test_a_lock_of_the_caller_stays_as_it_is(dump: Dump) -> None:
    """A held one is held still."""
    dump(Holder(lock=HELD[0]))

    assert HELD[0].locked()


def test_what_is_built_of_locks_works(dump: Dump) -> None:
    """Inside an object: condition, event, semaphore, barrier, queue with its items."""
    events = threading.Event()
    events.set()
    items: queue.Queue[int] = queue.Queue()
    items.put(5)
    found = pickling.loads(
        dump(
            Holder(
                condition=threading.Condition(),
                event=events,
                semaphore=threading.BoundedSemaphore(2),
                barrier=threading.Barrier(1),
                items=items,
                stack=queue.LifoQueue(),
            )
        )
    )

    with found.condition:
        found.condition.notify_all()
    assert found.event.is_set()
    assert found.semaphore.acquire(blocking=False)
    assert found.barrier.wait(1) == 0
    assert found.items.get_nowait() == 5
    assert found.stack.empty()


def test_what_a_thread_kept_for_itself_stays_with_it(dump: Dump) -> None:
    """A ``threading.local`` comes empty."""
    own = threading.local()
    own.x = 1
    found = pickling.loads(dump(Holder(own=own))).own

    assert type(found) is threading.local
    assert not hasattr(found, "x")


def test_a_class_derived_from_what_is_repaired_is_not_taken_for_it(dump: Dump) -> None:
    """Rule 1: by type identity; the user's own class may mean something else."""
    with pytest.raises((TypeError, pickle.PicklingError)):
        dump(Holder(own=DerivedQueue()))


# -- by name -----------------------------------------------------------------------------------


def test_modules_come_by_name(dump: Dump) -> None:
    """They are the same ones here, and those of the same name there."""
    import os.path
    import xml.dom.minidom

    for module in (sys, os.path, xml.dom.minidom, jobs, types):
        assert pickling.loads(dump(Holder(m=module))).m is module


def test_loggers_come_by_name(dump: Dump) -> None:
    """With nothing of their handlers."""
    logger = logging.getLogger("tests.repairs")
    logger.addHandler(logging.StreamHandler(io.StringIO()))
    root = logging.getLogger()
    adapter = logging.LoggerAdapter(logger, {"a": 1})
    try:
        found = pickling.loads(dump(Holder(logger=logger, root=root, adapter=adapter)))
    finally:
        logger.handlers.clear()

    assert found.logger is logger
    assert found.root is root
    assert found.adapter.logger is logger


class Colourful(logging.Logger):
    """A logger of a framework's, which it makes itself."""


class Numbered(logging.Logger):
    """One that says itself how it travels."""

    def __reduce__(self) -> Any:
        return Numbered, (f"{self.name} again",)


def test_a_logger_of_a_class_of_its_own_comes_too(dump: Dump) -> None:
    """With its level and handlers where logging does not know it, by its name where it does, or as its class says."""
    alone = Colourful("alone", logging.DEBUG)
    alone.addHandler(logging.NullHandler())
    with pytest.raises(pickle.PicklingError, match="logger cannot be pickled"):
        pickle.dumps(alone)
    before = logging.getLoggerClass()
    logging.setLoggerClass(Colourful)
    known = logging.getLogger("tests.colourful")
    logging.setLoggerClass(before)

    found = pickling.loads(dump(Holder(alone=alone, known=known, numbered=Numbered("one"))))
    assert found.known is known
    assert type(found.alone) is Colourful
    assert (found.alone.name, found.alone.level, len(found.alone.handlers)) == ("alone", logging.DEBUG, 1)
    assert found.alone.isEnabledFor(logging.DEBUG)
    assert found.numbered.name == "one again"


def test_standard_output_comes_as_that_of_the_other_side(dump: Dump) -> None:
    """A handler that writes to ``stderr`` writes to the worker's."""
    out, err = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115  # what pytest has replaced
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        found = pickling.loads(dump(Holder(out=sys.stdout, err=[sys.stderr])))
        assert found.out is out
        assert found.err[0] is err
    finally:
        sys.stdout, sys.stderr = before


def test_a_stream_that_somebody_has_put_in_its_place_comes_by_name_too(dump: Dump) -> None:
    """As pytest and Jupyter do: what was put there is not sent, nor is anything else of its class."""

    class Colours(io.TextIOWrapper):
        pass

    before = sys.stderr
    with open(os.devnull, "wb") as null, Colours(null) as ours, Colours(null) as other:
        sys.stderr = ours
        try:
            assert pickling.loads(dump(Holder(err=logging.StreamHandler()))).err.stream is ours
            sys.stderr = before
            for stream in (ours, other):
                with pytest.raises(TypeError):
                    dump(stream)
        finally:
            sys.stderr = before


def test_a_text_in_the_place_of_a_stream_is_sent(dump: Dump) -> None:
    """``redirect_stdout`` to a ``StringIO`` makes that no stream of any other process."""
    with contextlib.redirect_stdout(io.StringIO("text")) as text:
        found = pickling.loads(dump([text]))

    assert found[0] is not text
    assert found[0].getvalue() == "text"


def test_builtins_come_by_name(dump: Dump) -> None:
    """Functions of a module, methods of values."""
    values = [len, print, [1, 2].count, "x".upper, dict.fromkeys, object.__new__, datetime.datetime.now]
    found = pickling.loads(dump(values))

    assert found[0] is len
    assert found[2](1) == 1
    assert found[3]() == "X"
    assert found[4]("a") == {"a": None}


def _capsule_function() -> Any:
    """Make what pybind11 2.x makes of a function: a built-in bound to a capsule."""
    import ctypes

    class MethodDef(ctypes.Structure):
        _fields_ = [
            ("name", ctypes.c_char_p),
            ("method", ctypes.c_void_p),
            ("flags", ctypes.c_int),
            ("doc", ctypes.c_char_p),
        ]

    implementation = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object, ctypes.c_void_p)(lambda owner, _: 5)
    definition = MethodDef(b"bound", ctypes.cast(implementation, ctypes.c_void_p), 4, None)  # METH_NOARGS
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    function = make(ctypes.addressof(definition), datetime.datetime_CAPI, __name__)  # type: ignore[attr-defined]
    _kept_alive.append((definition, implementation))
    return function


_kept_alive: list[Any] = []


def test_a_function_bound_to_a_capsule_comes_by_name(dump: Dump) -> None:
    """As pybind11 2.x makes them; plain pickle refuses the capsule."""
    module = sys.modules[__name__]
    bound = _capsule_function()
    module.bound = bound  # type: ignore[attr-defined]
    try:
        with pytest.raises(TypeError, match="PyCapsule"):
            pickle.dumps(bound)

        found = pickling.loads(dump([bound]))[0]

        assert found is bound
        assert found() == 5
    finally:
        del module.bound  # type: ignore[attr-defined]
    with pytest.raises((TypeError, pickle.PicklingError), match="PyCapsule"):
        dump([bound])


# -- refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "w", "rb"])
def test_open_files_are_refused(tmp_path: Path, mode: str) -> None:
    """Rule 2: also text files, which cloudpickle would send as a ``StringIO`` with their content."""
    import cloudpickle

    path = tmp_path / "file"
    path.write_text("content")
    with path.open(mode) as file:
        if mode == "r":
            assert type(cloudpickle.loads(cloudpickle.dumps(file))) is io.StringIO
        with pytest.raises(calls.PreflightError) as caught:
            calls.encode_call(jobs.take, (Holder(f=[file]),), {})

    assert caught.value.culprits[0].path == "args[0].f[0]"


_KEPT = Holder()

REFUSED: dict[str, Callable[[], Any]] = {
    "a generator": lambda: (x for x in []),
    "a frame": sys._getframe,
    "a running thread": threading.current_thread,
    "a module in memory inside an object": lambda: ModuleWithMore("more"),
    "a process": lambda: _process(),
    "a temporary file": tempfile.TemporaryFile,
    "a weak reference to what stays here": lambda: weakref.ref(_KEPT),
}


def _process() -> Any:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()
    process.wait()
    return process


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_rebuilt_is_refused_with_its_place(name: str) -> None:
    """No copy that only looks like it."""
    value = REFUSED[name]()
    try:
        with pytest.raises(calls.PreflightError) as caught:
            calls.encode_call(jobs.take, ({"k": value},), {})

        assert caught.value.culprits[0].path.startswith("args[0]['k']")
    finally:
        for stream in (value, getattr(value, "stdout", None)):
            if hasattr(stream, "close") and not isinstance(stream, types.GeneratorType):
                stream.close()


# -- the table ---------------------------------------------------------------------------------------


def test_streams_of_repaired_values_load_without_us() -> None:
    """In a process that has never heard of safemp."""
    logger = logging.getLogger("tests.repairs")
    value = {"lock": HELD[0], "rlock": HELD[1], "local": threading.local(), "module": io, "logger": logger}
    stream = pickling.dumps(value)
    code = (
        "import pickle, sys; found = pickle.loads(sys.stdin.buffer.read());"
        "assert not [m for m in sys.modules if m.startswith(('safemp', 'cloudpickle'))];"
        "print(sorted(type(v).__name__.lower() for v in found.values()))"
    )
    out = subprocess.run([sys.executable, "-c", code], input=stream, capture_output=True, check=True).stdout.decode()

    assert out.strip() == "['_local', 'lock', 'logger', 'module', 'rlock']"


def test_the_table_is_by_exact_type() -> None:
    """Every key is a type, and no exception or user type is in it."""
    assert repairs.repair_for(type(threading.Lock())) is not None
    known = repairs._Known.exact

    assert all(isinstance(key, type) for key in known)
    assert not any(issubclass(key, BaseException) for key in known)
    assert repairs.repair_for(DerivedQueue) is None


def test_the_process_wide_table_is_left_alone() -> None:
    """``copyreg`` is nobody's but the program's."""
    import copyreg

    before = dict(copyreg.dispatch_table)
    for dump in RUNGS:
        pickling.loads(dump(Holder(lock=threading.Lock(), module=io)))

    assert copyreg.dispatch_table == before


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sys", True),
        ("io", True),
        ("os.path", True),
        ("tests.support.jobs", True),
        ("no.such", False),
        ("made_up", False),
    ],
)
def test_modules_that_another_process_can_import(name: str, expected: bool) -> None:
    """Built in, or of a file, or made by a loader; not what somebody put together in memory."""
    sys.modules["made_up"] = types.ModuleType("made_up")
    try:
        assert importable(name) is expected
    finally:
        del sys.modules["made_up"]


def test_a_namespace_package_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no file, but a loader."""
    import importlib

    (tmp_path / "spaced_out" / "inner").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("spaced_out.inner")
    try:
        assert importable("spaced_out.inner")
    finally:
        for name in ("spaced_out.inner", "spaced_out"):
            del sys.modules[name]


class Counters(threading.local):
    """What each thread has of its own."""

    def __init__(self) -> None:
        self.n = 0


@dataclass
class Buffers(threading.local):
    """The same, of a dataclass, as rich's console has it."""

    name: str
    lines: list[str] = field(default_factory=list)


class WantsArguments(threading.local):
    """Nobody knows with what it was made."""

    def __init__(self, name: str) -> None:
        self.name = name


class SaysHow(threading.local):
    """It does."""

    def __reduce__(self) -> Any:
        return SaysHow, ()


def test_what_a_thread_has_of_its_own_begins_anew() -> None:
    """Of classes derived from ``threading.local``, too: as their constructors make it for another thread."""
    counters, buffers = Counters(), Buffers("a", ["line"])
    counters.n = 7
    found = safemp.loads(safemp.dumps([counters, buffers, SaysHow()]))

    assert [type(each) for each in found] == [Counters, Buffers, SaysHow]
    assert (found[0].n, found[1].name, found[1].lines) == (0, "a", ["line"])
    with ThreadPoolExecutor(1) as other:
        assert other.submit(lambda: (found[0].n, found[1].name)).result() == (0, "a")
    with pytest.raises(safemp.PreflightError, match="its constructor: missing a required argument: 'name'"):
        safemp.dumps(WantsArguments("a"))


class OwnAction(argparse.Action):
    """One that a program has written."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        setattr(namespace, self.dest, values * 2)


class SlotAction(OwnAction):
    """One with slots beside its attributes."""

    __slots__ = ("more",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.more = 1


class OwnParser(argparse.ArgumentParser):
    """One that says how it is pickled."""

    def __reduce__(self) -> Any:
        return parser, ()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="program", argument_default=argparse.SUPPRESS)
    made.add_argument("--number", type=int, default=3)
    made.add_argument("--left-out", help=argparse.SUPPRESS)
    made.add_argument("--twice", action=OwnAction, default=argparse.SUPPRESS)
    made.add_argument("--slot", action=SlotAction, default=argparse.SUPPRESS)
    commands = made.add_subparsers(dest="command")
    commands.add_parser("run").add_argument("--rate", type=float)
    return made


@pytest.mark.parametrize("dump", [*RUNGS, safemp.dumps])
def test_a_parser_of_arguments_leaves_out_what_it_left_out(dump: Dump) -> None:
    """Which argparse tells by one text itself: a copy of that does not do, and it would say so in each result."""
    for copy in (safemp.loads(dump(parser())), safemp.loads(dump(OwnParser()))):
        for line in ([], ["--twice", "a", "run", "--rate", "2.5"], ["--left-out", "b"]):
            assert copy.parse_args(line) == parser().parse_args(line)
        assert copy.format_help() == parser().format_help()


# -- headers and frozen lists ----------------------------------------------------------------------------


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the stand-in for multidict and frozenlist."""
    for name in ("seen", "exact", "families"):
        monkeypatch.setattr(repairs._Known, name, getattr(repairs._Known, name))
    for name in ("multidict", "frozenlist"):
        monkeypatch.setitem(sys.modules, name, multidicts)
    repairs._Known.seen = (0, "")


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("dump", [*RUNGS, safemp.dumps])
def test_a_view_of_headers_is_one_of_the_dict_that_travels(dump: Dump) -> None:
    """Plain pickle refuses it; a view of a dict that minds no case minds none there."""
    headers = multidicts.CIMultiDict(multidicts.ITEMS)
    views = [multidicts.CIMultiDictProxy(headers), multidicts.MultiDictProxy(headers)]
    for view in views:
        with pytest.raises(TypeError, match="can't pickle"):
            pickle.dumps(view)

    *found, below = pickle.loads(dump([*views, headers]))
    below.add("SET-COOKIE", "c")

    assert [type(view) for view in found] == [type(view) for view in views]
    assert [view.getall("Set-cookie") for view in found] == [["a", "b", "c"]] * 2


@pytest.mark.usefixtures("stand_in")
def test_a_view_that_does_not_show_its_dict_gets_one(dump: Dump, monkeypatch: pytest.MonkeyPatch) -> None:
    """The items travel."""
    monkeypatch.setattr(multidicts.MultiDictProxy, "keeps_dict", False)
    view = multidicts.CIMultiDictProxy(multidicts.CIMultiDict(multidicts.ITEMS))
    found = pickling.loads(dump(view))

    assert type(found) is multidicts.CIMultiDictProxy
    assert found.getall("SET-COOKIE") == ["a", "b"]


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("dump", [*RUNGS, safemp.dumps])
def test_a_frozen_list_is_frozen_there(dump: Dump) -> None:
    """When it is filled, also where it holds itself; one that is not frozen can be added to."""
    free, frozen, inner = multidicts.FrozenList([1]), multidicts.FrozenList([1]), []
    circle = multidicts.FrozenList([inner])
    inner.append(circle)
    circle.freeze()
    frozen.freeze()
    with pytest.raises(TypeError, match="can't pickle"):
        pickle.dumps(free)

    one, two, three, keys = pickle.loads(dump([free, frozen, circle, {frozen: 2}]))
    one.append(2)

    assert list(one) == [1, 2]
    assert (one.frozen, two.frozen, list(two), keys[two]) == (False, True, [1], 2)
    assert three.frozen
    assert three[0][0] is three


@pytest.mark.usefixtures("stand_in")
def test_a_frozen_list_that_pickles_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that is written in Python does."""
    monkeypatch.delattr(multidicts.FrozenList, "__reduce__")

    assert repairs.repair_for(multidicts.FrozenList) is None
    assert pickling.loads(pickling.dumps_careful(multidicts.FrozenList([1])))[0] == 1
