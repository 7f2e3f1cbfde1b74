"""What cannot be sent is named by its path, all of it, at the caller's line, before anything is sent."""

from __future__ import annotations

import functools
import pickle
import socket
import sys
import threading
import traceback
from collections import OrderedDict, defaultdict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import pytest

import safemp
from tests.support import jobs
from tests.support.child import lines, quiet, run_script


@pytest.fixture
def conn() -> Iterator[socket.socket]:
    """An open socket: nothing can send it."""
    with socket.socket() as conn:
        yield conn


Point = namedtuple("Point", "x y")  # the plain one is wanted, too


@dataclass
class Data:
    value: Any
    other: int = 0


class Slots:
    __slots__ = ("__secret", "value")

    def __init__(self, value: Any) -> None:
        self.value = 1
        self.__secret = value


class Child(Slots):
    __slots__ = ("more",)

    def __init__(self, value: Any) -> None:
        super().__init__(1)
        self.more = value


class State:
    """Sends only part of itself."""

    def __init__(self, kept: Any, dropped: Any) -> None:
        self.kept = kept
        self.dropped = dropped

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}


class MyList(list):  # type: ignore[type-arg]
    pass


def _listed(conn: Any) -> Any:
    made = MyList([1, conn])
    made.name = "list"  # type: ignore[attr-defined]
    return made


def _shared(conn: Any) -> Any:
    inner = [conn]
    return [inner, inner]


def _cycle(conn: Any) -> Any:
    made: list[Any] = [1]
    made += [made, {"me": made, "conn": conn}]
    return made


PLACES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "itself": (lambda c: c, "args[0]"),
    "list": (lambda c: [1, [2, c]], "args[0][1][1]"),
    "tuple": (lambda c: (1, (c,)), "args[0][1][0]"),
    "dict": (lambda c: {"a": {2: c}}, "args[0]['a'][2]"),
    "tuple-key": (lambda c: {("a", 1): c}, "args[0][('a', 1)]"),
    "attribute": (lambda c: Data([c]), "args[0].value[0]"),
    "slot": (lambda c: Child(c), "args[0].more"),
    "private-slot": (lambda c: Slots(c), "args[0]._Slots__secret"),
    "namedtuple": (lambda c: Point(1, c), "args[0].y"),
    "deque": (lambda c: deque([1, c]), "args[0][1]"),
    "ordered": (lambda c: OrderedDict(a=c), "args[0]['a']"),
    "defaultdict": (lambda c: defaultdict(list, a=[c]), "args[0]['a'][0]"),
    "list-subclass": (_listed, "args[0][1]"),
    "state": (lambda c: State(kept=[c], dropped=c), "args[0].kept[0]"),
    "shared": (_shared, "args[0][0][0]"),
    "cycle": (_cycle, "args[0][2]['conn']"),
    "partial": (lambda c: functools.partial(jobs.add, 1, y=c), "args[0].keywords['y']"),
    "method": (lambda c: Data(c).__eq__, "args[0].__self__.value"),
    "exception": (lambda c: Exception("text", [c]), "args[0].args[1][0]"),
}


def _culprits(call: Callable[[], object]) -> dict[str, object]:
    with pytest.raises(safemp.PreflightError) as caught:
        call()
    assert isinstance(caught.value, pickle.PicklingError)
    assert isinstance(caught.value, TypeError)
    return {culprit.path: culprit.get() for culprit in caught.value.culprits}


@pytest.mark.parametrize("place", PLACES)
def test_a_culprit_is_named_wherever_it_sits(executor: safemp.SafeExecutor, conn: socket.socket, place: str) -> None:
    """The path is an expression that gives the object itself."""
    make, path = PLACES[place]
    value = make(conn)

    assert _culprits(lambda: executor.submit(jobs.take, value)) == {path: conn}
    assert eval(path, {"args": (value,)}) is conn


def test_a_path_begins_at_the_call_as_the_user_wrote_it(
    executor: safemp.SafeExecutor, pool: safemp.Pool, conn: socket.socket
) -> None:
    """Second arguments are ``args[1]``, keywords ``kwargs['x']``, in every method."""
    assert _culprits(lambda: executor.submit(jobs.add, 1, [conn])) == {"args[1][0]": conn}
    assert _culprits(lambda: executor.submit(jobs.keywords, a=1, x={"y": conn})) == {"kwargs['x']['y']": conn}
    assert _culprits(lambda: pool.apply(jobs.add, (1, [conn]))) == {"args[1][0]": conn}
    assert _culprits(lambda: pool.apply_async(jobs.keywords, (), {"x": conn})) == {"kwargs['x']": conn}


def test_all_culprits_are_named_at_once(executor: safemp.SafeExecutor, conn: socket.socket) -> None:
    """Three things that cannot travel are three culprits; the message shows the first, and the paths of the others."""
    generator = (i for i in range(3))
    service = jobs.open_service()
    try:
        with pytest.raises(safemp.PreflightError) as caught:
            executor.submit(jobs.keywords, a=[conn], b=generator, c=service)
    finally:
        jobs.close_services()

    paths = [culprit.path for culprit in caught.value.culprits]
    assert paths == ["kwargs['a'][0]", "kwargs['b']", "kwargs['c'].db['conn'][0]"]
    first, reason, fix, more = str(caught.value).splitlines()
    assert first == "cannot send kwargs['a'][0]: socket.socket does not pickle"
    assert reason.startswith("  reason: cannot pickle 'socket' object")
    assert fix.startswith("  fix:    ")
    assert more.startswith("(+ 2 more: kwargs['b'] (generator), kwargs['c'].db['conn'][0] (ssl.SSLSocket)")


def test_the_error_is_raised_at_the_callers_line(executor: safemp.SafeExecutor, conn: socket.socket) -> None:
    """Nothing of it waits for ``result()``: the traceback begins at the line that made the call."""
    try:
        executor.submit(jobs.take, conn)
    except safemp.PreflightError as error:
        frames = traceback.extract_tb(error.__traceback__)

    assert frames[0].name == "test_the_error_is_raised_at_the_callers_line"
    assert frames[0].line == "executor.submit(jobs.take, conn)"


def test_the_picklers_error_is_shown_once(
    executor: safemp.SafeExecutor, pool: safemp.Pool, conn: socket.socket
) -> None:
    """It comes up again while culprits are looked for; nobody is to wonder why it is there twice."""
    for call in (lambda: executor.submit(jobs.take, [conn]), lambda: pool.map(jobs.take, [1, [conn]])):
        with pytest.raises(safemp.PreflightError) as caught:
            call()
        assert "".join(traceback.format_exception(caught.value)).count("TypeError: cannot pickle 'socket' object") == 1


def test_the_error_never_shows_the_value(executor: safemp.SafeExecutor, conn: socket.socket) -> None:
    """A message names path and type; a secret in the object's ``repr`` stays out of it."""
    with pytest.raises(safemp.PreflightError) as caught:
        executor.submit(jobs.take, {"password": "hunter2", "conn": conn})

    assert "hunter2" not in str(caught.value)


def test_a_preflight_error_pickles(executor: safemp.SafeExecutor) -> None:
    """It can be sent on, and stays an instance of what the user's code raised."""
    with pytest.raises(safemp.PreflightError) as caught:
        executor.submit(jobs.take, jobs.RaisesOnDump())
    copy = pickle.loads(pickle.dumps(caught.value))

    assert isinstance(copy, (safemp.PreflightError, LookupError))
    assert isinstance(copy, LookupError)
    assert str(copy) == str(caught.value)
    assert copy.culprits == caught.value.culprits


@pytest.mark.parametrize("raised", [OSError(2, "gone"), TimeoutError("late"), KeyError("k")])
def test_what_the_users_code_raised_may_have_a_layout_of_its_own(
    executor: safemp.SafeExecutor, raised: BaseException
) -> None:
    """``OSError`` and its kin are made in C in their own way; the error is one of them all the same."""
    with pytest.raises(type(raised)) as caught:
        executor.submit(jobs.take, jobs.RaisesOnDump(raised))

    assert isinstance(caught.value, safemp.PreflightError)
    assert str(caught.value).startswith("cannot send args[0]: tests.support.jobs.RaisesOnDump does not pickle")
    assert caught.value.__cause__ is raised
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy).__mro__[1:], str(copy)) == (type(caught.value).__mro__[1:], str(caught.value))


# -- functions -------------------------------------------------------------------------


def test_a_closure_is_named_by_its_variable(executor: safemp.SafeExecutor, conn: socket.socket) -> None:
    """``fn.__closure__['name']``."""
    held = {"conn": conn}

    def function() -> object:
        return held

    assert _culprits(lambda: executor.submit(function)) == {"fn.__closure__['held']['conn']": conn}
    assert _culprits(lambda: executor.submit(jobs.take, function)) == {"args[0].__closure__['held']['conn']": conn}


def test_a_default_is_named_by_its_place(executor: safemp.SafeExecutor, conn: socket.socket) -> None:
    """``fn.__defaults__[i]`` and ``fn.__kwdefaults__['name']``."""
    function = lambda a=1, b=conn: (a, b)  # noqa: E731  # a lambda is what is tested

    def keyword_only(*, b: object = (conn,)) -> object:
        return b

    assert _culprits(lambda: executor.submit(function)) == {"fn.__defaults__[1]": conn}
    assert _culprits(lambda: executor.submit(keyword_only)) == {"fn.__kwdefaults__['b'][0]": conn}


def test_a_function_inside_a_closure_is_walked(executor: safemp.SafeExecutor, conn: socket.socket) -> None:
    """A decorated function is seen through its decorator."""

    def decorate(wrapped: Callable[[], object]) -> Callable[[], object]:
        def wrapper() -> object:
            return wrapped()

        return wrapper

    function = decorate(lambda: conn)

    assert _culprits(lambda: executor.submit(function)) == {"fn.__closure__['wrapped'].__closure__['conn']": conn}


def test_a_global_of_a_function_that_travels_by_value_is_named(
    executor: safemp.SafeExecutor, conn: socket.socket
) -> None:
    """``fn.__globals__['name']``, for those globals only that the function uses."""
    module = ModuleType("made_here")
    exec("def function():\n    return len(held), helper()\ndef helper():\n    return other", module.__dict__)
    module.held = [1, conn]  # type: ignore[attr-defined]
    module.other = (conn,)  # type: ignore[attr-defined]
    module.unused = conn  # type: ignore[attr-defined]
    sys.modules["made_here"] = module
    try:
        culprits = _culprits(lambda: executor.submit(module.function))
    finally:
        del sys.modules["made_here"]

    assert next(iter(culprits)) == "fn.__globals__['held'][1]"
    assert set(culprits.values()) == {conn}
    assert not [path for path in culprits if "unused" in path]


def test_a_global_of_an_importable_module_is_no_obstacle(executor: safemp.SafeExecutor) -> None:
    """A lambda in a module uses that module's own globals in the worker, whatever they hold."""
    assert executor.submit(lambda: type(_lock).__name__).result(30) == type(_lock).__name__
    assert executor.submit(lambda: _module_level()).result(30) == "here"


_lock = threading.Lock()
_conn_at_module_level = socket.socket.__new__(socket.socket)


def _module_level() -> str:
    assert _conn_at_module_level is not None
    with _lock:
        return "here"


GLOBALS = """
import safemp, socket

conn = socket.socket()
table = {"conns": [None, conn]}
unused = conn

def helper():
    return table

def task():
    return helper()

class Service:
    registry = table
    def run(self):
        return conn

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        for call in (lambda: executor.submit(task), lambda: executor.submit(Service().run)):
            try:
                call()
            except safemp.PreflightError as error:
                for culprit in error.culprits:
                    assert culprit.get() is conn
                    print(culprit.path)
    conn.close()
"""


def test_globals_of_a_script_are_named(tmp_path: Path) -> None:
    """A global that a function of ``__main__`` uses, directly or through another one, is named by the way to it."""
    ended = run_script(tmp_path, GLOBALS)

    assert (ended.returncode, ended.err) == (0, ""), str(ended)
    paths = ended.out.splitlines()
    assert "fn.__globals__['helper'].__globals__['table']['conns'][1]" in paths
    assert all("unused" not in path for path in paths)
    assert any(("conn" in path and path.startswith("fn.__self__")) or path.startswith("fn.__func__") for path in paths)


# -- maps ------------------------------------------------------------------------------


def test_the_items_index_is_named(executor: safemp.SafeExecutor, pool: safemp.Pool, conn: socket.socket) -> None:
    """``items[17]`` in the user's own iterable, whatever the chunks."""
    items: list[Any] = [Data(i) for i in range(40)]
    items[17] = Data([conn])

    for chunksize in (None, 1, 7, 100):
        assert _culprits(lambda: pool.map(jobs.take, items, chunksize)) == {"items[17].value[0]": conn}  # noqa: B023
        assert _culprits(lambda: pool.map_async(jobs.take, iter(items), chunksize)) == {  # noqa: B023
            "items[17].value[0]": conn
        }
    for chunksize in (1, 7, 100):
        assert _culprits(lambda: executor.map(jobs.take, items, chunksize=chunksize)) == {  # noqa: B023
            "items[17][0].value[0]": conn
        }
    assert _culprits(lambda: safemp.map(jobs.take, items)) == {"items[17].value[0]": conn}
    assert _culprits(lambda: pool.starmap(jobs.add, [(1, 2), (3, [conn])])) == {"items[1][1][0]": conn}
    assert _culprits(lambda: safemp.starmap(jobs.add, [(1, 2), (3, [conn])])) == {"items[1][1][0]": conn}


def test_all_items_that_cannot_travel_are_named(pool: safemp.Pool, conn: socket.socket) -> None:
    """Not only the first one, and not only those of the first chunk."""
    items = [conn if i in (3, 25) else i for i in range(40)]

    for chunksize in (1, 4, 100):
        culprits = _culprits(lambda: pool.map(jobs.take, items, chunksize))  # noqa: B023
        assert list(culprits) == ["items[3]", "items[25]"]


def test_nothing_of_a_map_is_sent_when_an_item_cannot_travel(
    pool: safemp.Pool, conn: socket.socket, tmp_path: Path
) -> None:
    """Before the error no task has run, and none runs after it."""
    path = tmp_path / "effects"
    with pytest.raises(safemp.PreflightError):
        pool.starmap(jobs.note, [*((str(path), i) for i in range(10)), (str(path), conn)], 1)

    assert pool.map(jobs.square, range(4), 1) == [0, 1, 4, 9]
    assert lines(path) == []


@pytest.mark.parametrize("chunksize", [1, 2, 10])
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
def test_an_item_of_imap_is_named_in_its_place(
    pool: safemp.Pool, conn: socket.socket, method: str, chunksize: int
) -> None:
    """An iterator reads as it goes: the error takes the item's place, and the others are answered."""
    iterator = getattr(pool, method)(jobs.take, iter([0, 1, [conn], 3]), chunksize)
    results: list[str] = []
    for _ in range(4):
        try:
            results.append(iterator.next(30))
        except safemp.PreflightError as error:
            results += [culprit.path for culprit in error.culprits]

    wanted = ["int", "int", "items[2][0]", "int"]
    assert (results if method == "imap" else sorted(results)) == (wanted if method == "imap" else sorted(wanted))


def test_the_function_of_a_map_is_named_at_the_call(
    executor: safemp.SafeExecutor, pool: safemp.Pool, conn: socket.socket
) -> None:
    """For iterators, too: the function is sent once, so it is checked once, at once."""

    def function(_: object) -> object:
        return conn

    for call in (
        lambda: executor.map(function, [1]),
        lambda: pool.map(function, [1]),
        lambda: pool.imap(function, [1]),
        lambda: pool.imap_unordered(function, [1]),
        lambda: safemp.map(function, [1]),
        lambda: safemp.imap(function, [1]),
    ):
        assert _culprits(call) == {"fn.__closure__['conn']": conn}


def test_arguments_of_the_initializer_are_named(engine: str, conn: socket.socket) -> None:
    """``initargs[1]``, when the pool is made; no worker has started."""
    assert _culprits(lambda: safemp.SafeExecutor(1, initializer=jobs.add, initargs=(1, [conn]), engine=engine)) == {
        "initargs[1][0]": conn
    }
    assert _culprits(lambda: safemp.Pool(1, jobs.add, (1, [conn]), engine=engine)) == {"initargs[1][0]": conn}


# -- what does travel ------------------------------------------------------------------


def test_locks_loggers_and_modules_travel(executor: safemp.SafeExecutor) -> None:
    """An object that holds them is no culprit: the copy has locks of its own."""
    import logging

    value = {
        "lock": threading.Lock(),
        "rlock": threading.RLock(),
        "condition": threading.Condition(),
        "logger": logging.getLogger("tests.preflight"),
        "module": socket,
    }
    back = executor.submit(jobs.same, [value]).result(30)[0]

    assert back["lock"].acquire(blocking=False)
    assert back["rlock"].acquire(blocking=False)
    assert back["logger"] is value["logger"]
    assert back["module"] is socket


def test_lambdas_closures_and_local_classes_travel(executor: safemp.SafeExecutor, pool: safemp.Pool) -> None:
    """What pickle refuses for want of a name goes by value, there and back."""
    factor = 3

    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    assert executor.submit(lambda x: Local(x * factor).value, 5).result(30) == 15
    assert pool.map(lambda x: x * factor, range(4)) == [0, 3, 6, 9]
    assert executor.submit(lambda: lambda y: y + factor).result(30)(1) == 4
    made = executor.submit(lambda x: Local(x), 5).result(30)
    assert type(made) is Local
    assert made.value == 5


def test_a_module_registered_by_value_travels_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``cloudpickle.register_pickle_by_value`` is honoured: the worker need not be able to import it."""
    (tmp_path / "only_here_by_value.py").write_text("FACTOR = 7\ndef times(x):\n    return x * FACTOR\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here_by_value  # type: ignore[import-not-found]

    cloudpickle.register_pickle_by_value(only_here_by_value)
    try:
        with safemp.SafeExecutor(1) as executor:
            (tmp_path / "only_here_by_value.py").unlink()
            assert executor.submit(only_here_by_value.times, 6).result(30) == 42
    finally:
        cloudpickle.unregister_pickle_by_value(only_here_by_value)
        del sys.modules["only_here_by_value"]


class Raising:
    def __reduce__(self) -> Any:
        raise ValueError("the user's own")


SPOILT = """
import sys
import safemp

open("beside.py", "w").write("import socket\\nsock = socket.socket()\\ndef use(n): return n + (sock.fileno() > 0)\\n")
import beside

def spoil():
    sys.path.clear()
    sys.path_importer_cache.clear()

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        executor.submit(spoil).result()
        for _ in range(2):
            print(str(executor.submit(beside.use, 1).exception()).splitlines())
    with safemp.SafeExecutor(1) as executor:
        print(executor.submit(beside.use, 1).result(), executor.submit(beside.use, 1).result())
"""


def test_what_one_worker_cannot_import_another_may(tmp_path: Path) -> None:
    """Its module goes by value then, where it can; where not, the error is that of the worker, and of no other pool."""
    ended = run_script(tmp_path, SPOILT)

    said = (
        "['cannot send fn: function does not load in the worker', "
        "\"  reason: ModuleNotFoundError: No module named 'beside'\", "
        "'  fix:    install it, or put its folder on the path, where the workers run']\n"
    )
    assert quiet(ended, out=said * 2 + "2 2\n"), str(ended)


@pytest.mark.parametrize(("bad", "frames"), [((i for i in ()), []), (Raising(), ["__reduce__"])], ids=["theirs", "own"])
def test_a_traceback_has_no_frames_of_picklers(bad: Any, frames: list[str]) -> None:
    """The cause shows the user's own lines, if there are any, and not the way through the pickler."""
    with safemp.SafeExecutor(1) as executor, pytest.raises(safemp.PreflightError) as caught:
        executor.submit(len, bad)

    cause = caught.value.__cause__
    assert cause is not None
    assert [frame.name for frame in traceback.extract_tb(cause.__traceback__)] == frames


BREAKS = """
import multiprocessing

def read():
    open("there is no such file.json")

if multiprocessing.parent_process() is not None:
    read()

def sq(x):
    return x * x

def add(x, y):
    return x

class C:
    pass
"""

BROKEN = """
import traceback
import safemp
import breaks

def submit(fn, *args):
    with safemp.SafeExecutor(1) as executor:
        return executor.submit(fn, *args).result()

def imap(fn, items):
    with safemp.Pool(1) as pool:
        return list(pool.imap(fn, items))

if __name__ == "__main__":
    for call in (
        lambda: submit(breaks.sq, 1),
        lambda: submit(str, [breaks.C()]),
        lambda: submit(divmod, [breaks.C()], [breaks.C()]),
        lambda: submit(breaks.sq, breaks.C()),
        lambda: safemp.map(str, [1, breaks.C()]),
        lambda: imap(breaks.sq, [1]),
    ):
        try:
            call()
        except safemp.PreflightError as error:
            cause = error.__cause__
            frames = traceback.extract_tb(cause.__traceback__)
            said = str(error).count("have breaks be importable in the worker")
            print([culprit.path for culprit in error.culprits], said)
            names = [frame.name for frame in frames if "breaks.py" in frame.filename]
            print(type(cause).__name__, cause.filename, names)
"""


def test_a_module_that_breaks_where_the_worker_imports_it_is_shown(tmp_path: Path) -> None:
    """The cause is the worker's error, with the lines that raised it; what is of the module is named."""
    (tmp_path / "breaks.py").write_text(BREAKS)

    ended = run_script(tmp_path, BROKEN)

    cause = "FileNotFoundError there is no such file.json ['<module>', 'read']\n"
    paths = ["['fn']", "['args[0]']", "['the call']", "['fn', 'args[0]']", "['items[1]']", "['fn']"]
    assert quiet(ended, out="".join(f"{path} 1\n{cause}" for path in paths)), str(ended)
