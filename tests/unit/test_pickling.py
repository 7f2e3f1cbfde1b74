"""The ladder: each value by the rung that is right for it, and as it was when it was sent."""

from __future__ import annotations

import collections
import contextvars
import dataclasses
import enum
import functools
import inspect
import io
import logging
import operator
import os
import pickle
import signal
import sys
import threading
import types
import typing
from array import array
from typing import Any

import cloudpickle.cloudpickle as cp
import pytest

import safemp
from safemp import worker
from safemp.codec import calls, homes, named, pickling
from safemp.codec.exceptions import Where
from safemp.codec.frames import Kind, pack
from safemp.codec.repairs import ALL
from safemp.engines import blocks
from tests.support import jobs


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = None


class Pair(typing.NamedTuple):
    a: Any
    b: Any = 2


class Color(enum.Enum):
    RED = 1


class Slotted:
    __slots__ = ("x",)


class Keyed(dict):  # type: ignore[type-arg]
    pass


def function(x: Any) -> Any:
    return x


def _slotted() -> Slotted:
    made = Slotted()
    made.x = 1
    return made


def _ordered() -> Any:
    made = collections.OrderedDict(b=1, a=2)
    made.move_to_end("b")
    return made


PLAIN: dict[str, Any] = {
    "None": None,
    "numbers": [1, -(2**70), 1.5, float("inf"), 1j, True],
    "text": ["", "x" * 100, "\ud800", "\0"],
    "bytes": [b"", bytes(range(256)), bytearray(b"x")],
    "containers": [(), (1, (2,)), {1: [2]}, {1, 2}, frozenset({3}), collections.deque([1], 5)],
    "collections": [_ordered(), collections.Counter("aab"), collections.defaultdict(list, a=[1])],
    "a dataclass": Point(1, [Point(2)]),
    "a named tuple": Pair(1),
    "an enum member": Color.RED,
    "an array": array("d", [1.0, 2.0]),
    "a class": Point,
    "a function": function,
    "builtins": [len, dict, print, operator.add],
    "a range": range(5),
    "a slice": slice(1, 2),
    "typing": [list[int], dict[str, list[int]], typing.Optional[int]],  # noqa: UP045
    "a namespace": types.SimpleNamespace(a=1),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_stay_on_the_fast_rung(name: str) -> None:
    """What plain pickle gets right is left to it: the stream names no cloudpickle, and plain pickle loads it."""
    stream = pickling.dumps_fast(PLAIN[name])

    assert stream is not None
    assert b"cloudpickle" not in stream
    assert b"safemp" not in stream
    assert pickling.dumps(PLAIN[name]) == stream
    assert pickle.loads(stream) == pickling.loads(stream) == PLAIN[name]


REPAIRED: dict[str, tuple[Any, type]] = {
    "a lock": (threading.Lock(), type(threading.Lock())),
    "an rlock": (threading.RLock(), type(threading.RLock())),
    "a condition": (threading.Condition(), threading.Condition),
    "a local": (threading.local(), threading.local),
    "a logger": (logging.getLogger("tests.pickling"), logging.Logger),
    "a module": (operator, types.ModuleType),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_repaired_values_stay_on_the_fast_rung(name: str) -> None:
    """A lock in an object costs no detour: the stream loads with plain pickle."""
    value, kind = REPAIRED[name]
    stream = pickling.dumps_fast(Point(value))

    assert stream is not None
    assert b"cloudpickle" not in stream
    assert type(pickle.loads(stream).x) is kind


def test_what_has_no_equality_stays_on_the_fast_rung() -> None:
    """Slots, bound methods, partials."""
    for value in (_slotted(), Point(1).__eq__, functools.partial(function, x=1)):
        stream = pickling.dumps_fast(value)

        assert stream is not None
        assert b"cloudpickle" not in stream
        assert type(pickle.loads(stream)) is type(value)


def _closure() -> Any:
    n = 3
    return lambda: n


def _local_class() -> Any:
    class Local:
        pass

    return Local


@functools.cache
def _in_memory() -> Any:
    made = sys.modules["pickling_in_memory"] = types.ModuleType("pickling_in_memory")
    exec("def named():\n    return 5\nclass Named:\n    pass\n", made.__dict__)
    return made


CAREFUL: dict[str, Any] = {
    "a lambda": lambda: 3,
    "a closure": _closure(),
    "a local class": _local_class(),
    "an instance of a local class": _local_class()(),
    "a function of a module in memory": _in_memory().named,
    "a class of a module in memory": _in_memory().Named,
    "an instance of a class of a module in memory": _in_memory().Named(),
}


@pytest.mark.parametrize("name", CAREFUL)
@pytest.mark.parametrize("deep", [False, True])
def test_what_goes_by_value_goes_carefully(name: str, deep: bool) -> None:
    """The fast rung refuses it, alone or deep in a value, and the ladder sends it."""
    value = {"deep": [Point(CAREFUL[name])]} if deep else CAREFUL[name]
    try:
        assert pickling.dumps_fast(value) is None
    except (pickle.PicklingError, AttributeError):  # not to be found by any name
        assert "memory" not in name

    found = pickling.loads(pickling.dumps(value))

    assert type(found) is type(value) or "instance" in name


@pytest.mark.parametrize("name", [*PLAIN, *CAREFUL])
def test_both_rungs_agree(name: str) -> None:
    """What can go fast can go carefully, and is the same."""
    if name in CAREFUL:
        pickling.loads(pickling.dumps_careful(CAREFUL[name]))
        return

    assert pickling.loads(pickling.dumps_careful(PLAIN[name])) == PLAIN[name]


def test_a_stream_is_left_alone_by_text_that_looks_like_a_module() -> None:
    """The name of a by-value module in a string costs speed at most."""
    _in_memory()
    for text in ("__main__", "pickling_in_memory", ["x", "__main__.f"], {"__main__": 1}, b"__main__"):
        assert pickling.loads(pickling.dumps(text)) == text


def test_copyreg_is_heeded_and_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reducers that a program registers count, before and after a first call; ours stay private."""
    import copyreg

    before = dict(copyreg.dispatch_table)
    assert pickling.loads(pickling.dumps(Point(1))) == Point(1)
    assert copyreg.dispatch_table == before
    monkeypatch.setitem(copyreg.dispatch_table, Point, lambda p: (Pair, (p.x, "registered")))

    assert pickling.loads(pickling.dumps([Point(1)])) == [Pair(1, "registered")]
    assert pickling.loads(pickling.dumps_careful([Point(1)])) == [Pair(1, "registered")]


def test_exceptions_travel_anywhere_in_a_value() -> None:
    """In containers, attributes and closures, with their identity, on either rung."""
    error = jobs.TwoArguments("a", "b")
    error.__cause__ = jobs.Locked("locked")
    for value in ([error, {"again": error}], Point(error, (error,)), [lambda: error, error]):
        for dump in (pickling.dumps, pickling.dumps_careful):
            found = pickling.loads(dump(value))
            if isinstance(found, Point):
                one, other = found.x, found.y[0]
            elif callable(found[0]):
                one, other = found[0](), found[1]
            else:
                one, other = found[0], found[1]["again"]

            assert one is other
            assert type(one) is jobs.TwoArguments
            assert (one.a, one.b, str(one)) == ("a", "b", "a/b")
            assert type(one.__cause__) is jobs.Locked
            assert str(one.__cause__) == "locked"


def test_an_exception_class_travels_as_itself() -> None:
    """The class, not only its instances."""
    assert pickling.loads(pickling.dumps([jobs.TwoArguments, KeyError])) == [jobs.TwoArguments, KeyError]


VAR: contextvars.ContextVar[int] = contextvars.ContextVar("VAR", default=7)
OTHER_NAME: contextvars.ContextVar[int] = contextvars.ContextVar("request")


def test_a_context_variable_is_found_by_its_name_or_made_again() -> None:
    """One of an importable module is the same one, whatever it calls itself; another keeps its name and default."""
    nameless = contextvars.ContextVar("nameless", default=5)

    assert pickling.loads(pickling.dumps(VAR)) is VAR
    assert pickling.loads(pickling.dumps(OTHER_NAME)) is OTHER_NAME
    found = pickling.loads(pickling.dumps([nameless]))[0]
    assert (found.name, contextvars.Context().run(found.get)) == ("nameless", 5)


# -- references and cycles ---------------------------------------------------------------


@pytest.mark.parametrize("careful", [False, True])
def test_shared_objects_stay_shared(careful: bool) -> None:
    """One object in two places is one object on the other side, across arguments too."""
    shared: list[Any] = [1]
    call = calls.decode_call(
        calls.encode_call(function, (shared, Point(shared), [shared]), {"k": shared}, careful=careful)
    )

    first = call.args[0]
    assert first == [1]
    assert first is call.args[1].x is call.args[2][0] is call.kwargs["k"]


@pytest.mark.parametrize("careful", [False, True])
def test_cycles_stay_cycles(careful: bool) -> None:
    """Through lists, dicts, attributes and tuples."""
    items: list[Any] = []
    point = Point(items)
    items += [items, {"point": point}, (point,)]
    point.y = point
    (found,) = calls.decode_call(calls.encode_call(function, (items,), {}, careful=careful)).args

    assert found[0] is found
    assert found[1]["point"] is found[2][0]
    assert found[2][0].y is found[2][0]
    assert found[2][0].x is found


def test_a_deep_value_is_an_answer_not_a_crash() -> None:
    """Nesting that pickle cannot follow is a ``PreflightError`` that says so."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]

    with pytest.raises(calls.PreflightError, match="flatten it") as caught:
        calls.encode_call(function, (deep,), {})

    assert caught.value.culprits[0].path == "args[0]"
    while deep:  # freeing it is recursive as well
        deep = deep.pop()


def test_a_deep_result_is_an_answer_not_a_crash() -> None:
    """The same on the way back."""
    frames = calls.encode_call(_nest, (100_000,), {})

    good, error = calls.decode_outcome(worker.run(frames))

    assert not good
    assert isinstance(error, safemp.ResultError)


def _nest(n: int) -> Any:
    deep: list[Any] = []
    for _ in range(n):
        deep = [deep]
    return deep


# -- the time of the call ---------------------------------------------------------------


LARGE = pickling.OUT_OF_BAND + 1


@pytest.mark.parametrize("careful", [False, True])
def test_what_is_sent_is_the_value_at_the_time_of_the_call(careful: bool) -> None:
    """A caller may change its values as soon as the call is encoded and held, large buffers too."""
    np = pytest.importorskip("numpy")
    items = [1, 2]
    array_ = np.zeros(LARGE)
    raw = bytearray(LARGE)
    window = pickle.PickleBuffer(raw)
    frames = blocks.own(calls.encode_call(function, (items, array_, raw, window), {}, careful=careful))
    items.append(3)
    array_[:] = 1
    raw[:] = b"x" * LARGE
    call = calls.decode_call(frames)

    assert call.args[0] == [1, 2]
    assert not call.args[1].any()
    assert call.args[2] == bytes(LARGE)
    assert bytes(call.args[3]) == bytes(LARGE)


# -- buffers --------------------------------------------------------------------------


class Buffered:
    """Travels as the buffer that it holds."""

    def __init__(self, raw: Any) -> None:
        self.raw = raw

    def __reduce_ex__(self, protocol: Any) -> Any:
        return Buffered, (pickle.PickleBuffer(self.raw),)


@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("size", [0, 1, LARGE - 2, LARGE - 1, LARGE, 3_000_000])
def test_buffers_come_back_equal_and_writable(size: int, careful: bool) -> None:
    """In the stream when small, beside it when large."""
    raw = bytearray(i % 251 for i in range(size))
    frames = calls.encode_call(function, (Buffered(raw), Buffered(raw)), {}, careful=careful)

    assert len(frames) == (4 if size >= pickling.OUT_OF_BAND else 2)

    received = [bytes(f) if i < 2 else bytearray(f) for i, f in enumerate(frames)]
    one, other = (arg.raw for arg in calls.decode_call(received).args)
    assert bytes(one) == bytes(other) == raw
    view = memoryview(one)
    assert not view.readonly
    if size:
        view[0] = 255
        assert memoryview(other)[0] == 0, "each is a copy of its own"


def test_a_read_only_buffer_comes_back_equal() -> None:
    """Bytes behind a ``PickleBuffer``."""
    for size in (10, LARGE):
        frames = calls.encode_call(function, (Buffered(b"x" * size),), {})

        assert bytes(calls.decode_call(frames).args[0].raw) == b"x" * size


def test_arrays_come_back_equal_and_writable() -> None:
    """Of any layout and type, small and large, both ways."""
    np = pytest.importorskip("numpy")
    base = np.arange(60_000, dtype=np.float64).reshape(200, 300)
    arrays = {
        "c": base,
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "strided": base[::2, ::3],
        "reversed": base[::-1],
        "small": np.arange(3),
        "empty": np.empty((0, 5)),
        "scalar": np.array(5.0),
        "text": np.array(["a", "bcd"] * 20_000),
        "structured": np.zeros(20_000, dtype=[("a", "i4"), ("b", "f8")]),
        "objects": np.array([1, "x", None], dtype=object),
        "bool": np.ones(100_000, dtype=bool),
        "masked": np.ma.masked_equal(base, 3.0),
    }
    frames = calls.encode_call(function, (arrays,), {})
    there = calls.decode_call([f if i < 2 else bytearray(f) for i, f in enumerate(frames)]).args[0]
    good, back = calls.decode_outcome([f if i < 2 else bytearray(f) for i, f in enumerate(calls.encode_outcome(there))])

    assert good
    assert len(frames) > 6, "large ones travel beside the stream"
    for found in (there, back):
        for name, array_ in arrays.items():
            assert found[name].dtype == array_.dtype, name
            assert found[name].shape == array_.shape, name
            assert (found[name] == array_).all(), name
            assert found[name].flags.writeable, name


def test_a_buffer_that_is_not_contiguous_is_refused_as_by_pickle() -> None:
    """Not taken for one that is."""
    window = memoryview(bytearray(2 * LARGE))[::2]
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(pickle.PickleBuffer(window), 5)

    with pytest.raises(calls.PreflightError):
        calls.encode_call(function, (pickle.PickleBuffer(window),), {})


def test_buffers_of_the_rung_that_failed_are_not_sent() -> None:
    """The fast rung may have taken some out when it gives up."""
    raw = bytearray(LARGE)
    frames = calls.encode_call(function, (Buffered(raw), lambda: 1), {})

    assert len(frames) == 3
    assert bytes(calls.decode_call(frames).args[0].raw) == raw


# -- what we use of cloudpickle ------------------------------------------------------------


def _parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_cloudpickle_tells_what_goes_by_reference() -> None:
    """``_should_pickle_by_reference``: importable functions, classes and modules; nothing else."""
    assert cp._should_pickle_by_reference(jobs.square) is True
    assert cp._should_pickle_by_reference(jobs.Mute) is True
    assert cp._should_pickle_by_reference(jobs) is True
    assert not cp._should_pickle_by_reference(lambda: 1)
    assert not cp._should_pickle_by_reference(_local_class())


def test_cloudpickle_keeps_a_registry_of_modules_by_value() -> None:
    """``_PICKLE_BY_VALUE_MODULES``: the same set of names, whatever is registered."""
    registry = cp._PICKLE_BY_VALUE_MODULES
    assert isinstance(registry, set)
    cp.register_pickle_by_value(jobs)
    try:
        assert "tests.support.jobs" in cp._PICKLE_BY_VALUE_MODULES
    finally:
        cp.unregister_pickle_by_value(jobs)

    assert cp._PICKLE_BY_VALUE_MODULES is registry
    assert "tests.support.jobs" not in registry


def test_cloudpickle_has_a_table_of_reducers() -> None:
    """``Pickler._dispatch_table``: a mapping from types, which we copy."""
    table = dict(cp.Pickler._dispatch_table)

    assert types.CodeType in table
    assert types.CellType in table
    assert all(callable(value) for value in table.values())


def test_a_function_that_goes_by_value_keeps_the_name_of_its_file() -> None:
    """Without it neither a traceback nor a warning nor a crash report would have its lines."""
    there = pickling.loads(pickling.dumps_careful(_closure()))

    assert there.__code__.co_filename == __file__
    assert there.__code__ == _closure().__code__


def test_cloudpickle_takes_functions_apart() -> None:
    """``_function_getstate`` gives ``(dict, slots)`` with ``__globals__`` of the names in the code."""
    made = _closure()
    made.attribute = 5
    state, slots = cp._function_getstate(made)

    assert state == {"attribute": 5}
    assert slots["__globals__"] == {}
    assert {
        "__name__",
        "__qualname__",
        "__defaults__",
        "__kwdefaults__",
        "__closure__",
        "__module__",
        "__doc__",
    } <= set(slots)
    _, slots = cp._function_getstate(_slotted)
    assert slots["__globals__"] == {"Slotted": Slotted}


def test_cloudpickle_makes_functions_again() -> None:
    """``_make_function(code, globals, name, defaults, closure)`` and ``_function_setstate(function, state)``."""
    assert _parameters(cp._make_function) == ["code", "globals", "name", "argdefs", "closure"]
    code, _, name, defaults, closure = cp.Pickler(io.BytesIO())._function_getnewargs(_closure())
    made = cp._make_function(code, {}, None, None, closure)
    state, slots = cp._function_getstate(_closure())
    cp._function_setstate(made, (state, slots))

    assert (name, defaults) == (None, None)
    assert made() == 3


def test_cloudpickle_names_the_globals_of_code() -> None:
    """``_extract_code_globals``: those of nested functions too."""

    def outer() -> Any:
        return lambda: function(Point)

    assert set(cp._extract_code_globals(outer.__code__)) == {"function", "Point"}


def test_cloudpickle_reduces_classes() -> None:
    """``_class_reduce`` and ``_dynamic_class_reduce``: a skeleton, then the state."""
    local = _local_class()
    made = cp._dynamic_class_reduce(local)

    assert len(made) == 6
    assert made[0] is cp._make_skeleton_class
    assert _parameters(cp._make_skeleton_class) == [
        "type_constructor",
        "name",
        "bases",
        "type_kwargs",
        "class_tracker_id",
        "extra",
    ]
    assert made[5] is cp._class_setstate
    assert _parameters(cp._class_setstate) == ["obj", "state"]
    assert cp._class_reduce(local)[0] is cp._make_skeleton_class
    assert cp._class_reduce(Point) is NotImplemented
    local_enum = enum.Enum("local_enum", "A", module=None)
    local_enum.__module__ = "__main__"
    made = cp._dynamic_class_reduce(local_enum)
    assert made[0] is cp._make_skeleton_enum
    assert _parameters(cp._make_skeleton_enum)[-2:] == ["class_tracker_id", "extra"]


def test_cloudpickle_tracks_classes_by_id() -> None:
    """``_DYNAMIC_CLASS_TRACKER_BY_ID``: a class that was sent is found by the id that is sent with it."""
    local = _local_class()
    tracker = cp._dynamic_class_reduce(local)[1][-2]

    assert cp._DYNAMIC_CLASS_TRACKER_BY_ID[tracker] is local


def test_cloudpickle_reduces_modules() -> None:
    """``_module_reduce``: by value what is in memory only."""
    made = types.ModuleType("never_seen")
    made.value = 5  # type: ignore[attr-defined]
    reduced = cp._module_reduce(made)

    assert reduced[0] is cp.dynamic_subimport
    assert reduced[1][0] == "never_seen"
    assert reduced[1][1]["value"] == 5


def test_cloudpickles_pickler_can_be_derived_from() -> None:
    """It takes ``protocol`` and ``buffer_callback``, and has the methods that we call and replace."""
    assert {"protocol", "buffer_callback"} <= set(_parameters(cp.Pickler.__init__))
    for name in ("_dynamic_function_reduce", "_function_getnewargs", "reducer_override", "dump"):
        assert callable(getattr(cp.Pickler, name))


# -- outcomes -------------------------------------------------------------------------------


def test_an_outcome_says_what_it_is() -> None:
    """A value, an error, or why there is none: told from the header alone."""
    where = Where("f", None, 1, "host")

    assert calls.encode_outcome(5)[0][3] == Kind.VALUE
    assert not calls.failed(calls.encode_outcome(5))
    assert calls.encode_outcome(i for i in [1])[0][3] == Kind.UNSENDABLE
    assert calls.encode_failure(KeyError("x"), where)[0][3] == Kind.ERROR
    not_loaded = calls.encode_not_loaded(ModuleNotFoundError("No module named 'x'", name="x"))
    assert calls.failed(not_loaded)
    assert calls.read_not_loaded(not_loaded) == calls.NotLoaded("ModuleNotFoundError: No module named 'x'", "x")
    assert calls.read_not_loaded(calls.encode_outcome(5)) is None
    with_text = pack(Kind.NOT_LOADED, pickling.dumps(("KeyError: 'x'", None)))
    assert calls.read_not_loaded(with_text) == calls.NotLoaded("KeyError: 'x'", None)
    assert calls.decode_outcome(with_text)[1].__cause__ is None
    caused = calls.decode_outcome(calls.encode_not_loaded(KeyError("x"), where))[1].__cause__
    assert (type(caused), caused.args) == (KeyError, ("x",))


def test_an_exception_that_is_returned_is_a_value() -> None:
    """Returned, not raised."""
    good, value = calls.decode_outcome(calls.encode_outcome(KeyError("x")))

    assert good
    assert type(value) is KeyError


def test_a_value_is_never_sent_as_its_repr() -> None:
    """What cannot be sent is refused with path and type; its repr is not asked for."""

    class Loud:
        def __repr__(self) -> str:
            raise AssertionError("nobody asks for a repr")

        def __reduce__(self) -> Any:
            raise TypeError("not me")

    good, error = calls.decode_outcome(calls.encode_outcome({"k": [Loud()]}))

    assert not good
    assert error.culprits[0].path == "result['k'][0]"
    assert "Loud" in error.culprits[0].type_name
    with pytest.raises(calls.PreflightError) as caught:
        calls.encode_call(function, (Loud(),), {})
    assert caught.value.culprits[0].path == "args[0]"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_lock_that_was_held_at_a_fork_is_free_in_the_child() -> None:
    """That of cloudpickle, or of ours around it, held by a thread that is not in the child: pickling goes on there."""

    class Local:
        pass

    with cp._DYNAMIC_CLASS_TRACKER_LOCK, pickling._Mending.lock:
        pid = os.fork()
        if not pid:
            signal.alarm(20)
            pickling.dumps_careful(Local)
            pickling.mend_cloudpickle(ALL)()
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize("step", range(0, 80, 4))
def test_a_recursion_without_end_leaves_no_lock_behind(step: int) -> None:
    """Wherever on the stack it strikes, the next class that goes by value is pickled."""
    variable = typing.TypeVar("variable")  # type: ignore[misc]

    class Endless:
        def __reduce__(self) -> Any:
            return cp._make_typevar, ("T", self, (), False, False, cp._get_or_create_tracker_id(variable))

    class Local:
        pass

    def recurse(deep: int) -> None:
        if deep:
            recurse(deep - 1)
        else:
            with pytest.raises((pickle.PicklingError, RecursionError)):
                pickling.dumps_careful(Endless())

    def run() -> None:
        try:
            recurse(step)
        finally:
            done.append(cp._DYNAMIC_CLASS_TRACKER_LOCK.locked())

    done: list[bool] = []
    # From Python 3.14 on it is bytes of the stack that count; before, calls.
    before = threading.stack_size((1 << 20) + 4096 * step) if sys.version_info >= (3, 14) else None
    try:
        thread = threading.Thread(target=run)
        thread.start()
    finally:
        if before is not None:
            threading.stack_size(before)
    thread.join()
    try:
        assert done == [False]
    finally:
        cp._DYNAMIC_CLASS_TRACKER_LOCK = threading.Lock()  # for the tests to come
    assert pickling.dumps_careful(Local)


def test_a_sentinel_of_a_module_that_goes_by_value_since_is_not_looked_up_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It had been found by its name before a worker said that it lacks the module."""
    plug = types.ModuleType("plug_that_is_lacked")
    exec("M = object()\ndef get(x=M): return x is M\n", plug.__dict__)
    monkeypatch.setitem(sys.modules, plug.__name__, plug)
    monkeypatch.setattr(homes, "importable", lambda name: True)  # as it seems until then
    named.find_indexed(plug.M, named.stamp())
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, plug.__name__, plug)
    homes.send_by_value(plug.__name__)
    try:
        assert named.find_indexed(plug.M, named.stamp()) is None
    finally:
        homes.by_name_again([plug.__name__])


class Base:
    def run(self, n: int) -> tuple[str, int]:
        return "base", n

    @classmethod
    def of_class(cls, n: int) -> tuple[str, int]:
        return f"base of {cls.__name__}", n


def added(self: Base, n: int) -> tuple[str, int]:
    """Be a method under another name, or of one object."""
    return "added", n


class Hides(Base):
    """Overrides with what is no plain function."""

    run = None  # type: ignore[assignment]
    of_class = functools.partialmethod(added)  # type: ignore[assignment]

    def methods(self) -> list[Any]:
        return [super().run, super().of_class]


class Hidden(Base):
    """Its object has another thing under the name of the method."""

    def methods(self) -> list[Any]:
        mine = self.run
        self.run = self.of_class  # type: ignore[method-assign]
        return [mine, types.MethodType(Base.run, Base)]


class Stub:
    """Makes its methods when they are asked for: they hold what does not pickle, and have names."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        files = (each for each in ())

        def called(self: Any, n: int) -> tuple[str, int, Any]:
            return name, n, next(files, None)

        called.__name__ = name
        return types.MethodType(called, self)


class Derived(Base):
    other_name = added

    def run(self, n: int) -> tuple[str, int]:
        return "derived", n

    @classmethod
    def of_class(cls, n: int) -> tuple[str, int]:
        return "derived", n

    def __own(self, n: int) -> tuple[str, int]:
        return "own", n

    def methods(self) -> list[Any]:
        of_one = types.MethodType(added, self)
        return [super().run, super().of_class, self.run, self.of_class, self.__own, self.other_name, of_one]


def test_a_method_is_the_one_that_it_was() -> None:
    """By its name ``super()``'s would be the one that overrides it, one with two underscores or another name none."""
    methods = Derived().methods()
    assert pickle.loads(pickle.dumps(methods[0]))(3) == ("derived", 3) != methods[0](3)
    methods += [*Hides().methods(), *Hidden().methods()]
    for dump in (pickling.dumps, pickling.dumps_careful, safemp.dumps):
        for method in methods:
            assert safemp.loads(dump(method))(3) == method(3)
    for dump in (pickling.dumps, safemp.dumps):
        assert safemp.loads(dump(Stub().call))(3) == ("call", 3, None)
        assert b"cloudpickle" not in safemp.dumps(methods[0])
