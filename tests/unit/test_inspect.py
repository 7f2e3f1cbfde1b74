"""``safemp.inspect``: one report of what cannot travel, what is repaired, what does not load, what is heavy."""

from __future__ import annotations

import contextlib
import functools
import html.parser
import importlib
import importlib.util
import io
import json
import logging
import os
import pickle
import socket
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import pytest

import safemp
from tests.support import jobs


class Holder:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Based:
    def __init__(self) -> None:
        self._lock = threading.RLock()


class Service(Based):
    __slots__ = ("conn",)

    def __init__(self, conn: Any) -> None:
        super().__init__()
        self.conn = [conn]


@pytest.fixture
def conn() -> Iterator[socket.socket]:
    """An open socket: nothing can send it."""
    with socket.socket() as conn:
        yield conn


def paths(report: safemp.Report) -> list[str]:
    """Return where the culprits are."""
    return [culprit.path for culprit in report.culprits]


# -- what is found -------------------------------------------------------------------------


def test_everything_is_in_one_report(conn: socket.socket) -> None:
    """Culprits and repairs come with path, type, owner, and the object itself."""
    service = Service(conn)
    report = safemp.inspect({"service": service})

    (culprit,) = report.culprits
    assert not report.ok
    assert (culprit.path, culprit.type_name) == ("obj['service'].conn[0]", "socket.socket")
    assert culprit.get() is conn
    assert culprit.owner == f"{__name__}.Service"
    (repair,) = report.repairs
    assert (repair.path, repair.kind) == ("obj['service']._lock", "rebuild")
    assert repair.get() is service._lock
    assert repair.owner == f"{__name__}.Based"  # whose __init__ has set it
    assert not repair.needs_safemp


def test_what_can_travel_is_ok() -> None:
    """A report without culprits is ok, and says how large the pickle is."""
    report = safemp.inspect([1, "two", Holder(a=3.0)])

    assert report.ok
    assert report.culprits == report.repairs == report.sizes == ()
    assert report.size is not None
    assert 50 < report.size < 200


def test_functions_are_looked_into(conn: socket.socket) -> None:
    """Closure, default, keyword default, attribute, partial, decorator and bound method are looked into."""

    def function(a: Any = (conn,), *, b: Any = conn) -> Any:
        return conn

    function.attribute = conn  # type: ignore[attr-defined]
    first = "obj.__closure__['conn']"

    assert paths(safemp.inspect(function)) == [first]
    assert paths(safemp.inspect(functools.partial(function, x=[conn]))) == ["obj.func.__closure__['conn']"]
    assert paths(safemp.inspect(functools.partial(print, conn))) == ["obj.args[0]"]
    assert paths(safemp.inspect(Holder(conn=conn).__init__)) == ["obj.__self__.conn"]


def test_a_function_and_a_class_of_a_module_go_by_name() -> None:
    """What the other side imports is not looked into, and the report says so."""
    for obj in (jobs.add, Holder):
        report = safemp.inspect(obj)

        assert report.ok
        assert report.by_name
        assert "can travel by its name" in str(report)


def test_a_class_that_goes_by_value_is_looked_into(conn: socket.socket) -> None:
    """Attributes and methods of a local class count."""

    class Local:
        shared: ClassVar = {"conn": conn}

    assert paths(safemp.inspect(Local)) == ["obj.shared['conn']"]
    assert paths(safemp.inspect(Local())) == ["type(obj).shared['conn']"]


def test_a_module_goes_by_name() -> None:
    """An importable module is a repair: plain pickle refuses it."""
    with pytest.raises(TypeError):
        pickle.dumps(threading)
    report = safemp.inspect(threading)

    assert report.ok
    assert [repair.kind for repair in report.repairs] == ["by name"]


def test_the_globals_of_a_module_in_memory_are_looked_into(
    conn: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A module that exists in this process only is sent with its globals, so they are named."""
    module = types.ModuleType("only_in_memory")
    module.conn = conn  # type: ignore[attr-defined]
    module.__dict__["an odd name"] = [conn, module]
    monkeypatch.setitem(sys.modules, module.__name__, module)

    assert paths(safemp.inspect(module)) == ["obj.conn"]
    assert safemp.inspect(module).culprits[0].owner == "only_in_memory"
    del module.conn  # type: ignore[attr-defined]
    assert paths(safemp.inspect({"module": module})) == ["obj['module'].__dict__['an odd name'][0]"]


def test_an_attribute_of_a_module_goes_by_its_name(conn: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a pool looks up in a module is no culprit, unless something else is one."""
    monkeypatch.setattr(jobs, "shared_rows", (i for i in ()), raising=False)
    held = {"rows": jobs.shared_rows}  # type: ignore[attr-defined]
    report = safemp.inspect(held)
    assert report.ok
    assert [(r.path, r.kind, r.needs_safemp) for r in report.repairs] == [("obj['rows']", "by name", False)]

    assert paths(safemp.inspect([held, conn])) == ["obj[0]['rows']", "obj[1]"]


def load_from(path: Path, name: str, source: str) -> types.ModuleType:
    """Load a module from a file that is not where imports look."""
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[types.ModuleType]:
    """A module that no other process finds by its name."""
    source = "import socket\nheld = []\ndef function():\n    return held\nclass Thing:\n    pass\n"
    yield load_from(tmp_path / "plugin.py", "a_plugin_of_nobody", source)
    del sys.modules["a_plugin_of_nobody"]


def test_a_module_that_workers_cannot_import_is_noted(plugin: Any) -> None:
    """It goes by value, as a pool would send it, and the report says so."""
    stream = pickle.dumps(plugin.Thing())
    assert plugin.__name__.encode() in stream  # which nobody else can load
    report = safemp.inspect([plugin.Thing(), plugin.function])

    assert report.ok
    assert ("by value", "obj[0]") in [(r.kind, r.path.removeprefix("type(").removesuffix(")")) for r in report.repairs]
    assert "a_plugin_of_nobody" in str(report)
    assert safemp.map(type, [plugin.Thing()])[0].__name__ == "Thing"


def test_what_goes_by_value_for_that_reason_is_looked_into(plugin: Any, conn: socket.socket) -> None:
    """Its globals travel along, and are named if they cannot."""
    plugin.held.append(conn)

    assert paths(safemp.inspect(plugin.function)) == ["obj.__globals__['held'][0]"]


def test_a_module_found_elsewhere_is_a_culprit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name by which another process finds another file is named, since nothing can mend that."""
    (tmp_path / "twice").mkdir()
    (tmp_path / "found_twice.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    module = load_from(tmp_path / "twice" / "found_twice.py", "found_twice", "class Thing: pass\n")
    try:
        (culprit,) = safemp.inspect([module.Thing()]).culprits
    finally:
        del sys.modules["found_twice"]

    assert culprit.problem == "does not load"
    assert str(tmp_path / "found_twice.py") in culprit.reason


# -- what pickles and does not load -----------------------------------------------------------


class Delegates:
    """The classic: the empty copy is asked for ``__setstate__``, and has no ``_inner`` yet."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class WantsTwo:
    def __init__(self, a: Any, b: Any) -> None:
        self.a, self.b = a, b

    def __reduce__(self) -> Any:
        return WantsTwo, (self.a,)


class Opens:
    def __init__(self) -> None:
        self.x = 1

    def __setstate__(self, state: Any) -> None:
        raise FileNotFoundError("no such file")


@pytest.mark.parametrize("make", [lambda: Delegates(1), lambda: WantsTwo(1, 2), Opens])
def test_the_smallest_object_that_does_not_load_is_named(make: Callable[[], Any]) -> None:
    """Deep among others, by its path, with a fix for its class."""
    bad = make()
    with pytest.raises((RecursionError, TypeError, FileNotFoundError)):
        pickle.loads(pickle.dumps(bad))
    root = {"a": [Holder(x=i) for i in range(500)], "b": Holder(deep=[1, {"k": bad}])}
    report = safemp.inspect(root)

    (culprit,) = report.culprits
    assert (culprit.path, culprit.problem) == ("obj['b'].deep[1]['k']", "does not load")
    assert culprit.get() is bad
    assert type(bad).__qualname__ in culprit.fix
    assert safemp.inspect(root, load=False).ok


@pytest.mark.parametrize("make", [lambda: Delegates(1), lambda: WantsTwo(1, 2), Opens])
def test_of_a_circle_the_one_that_does_not_load_is_named(make: Callable[[], Any]) -> None:
    """Clients whose parts know their client: every one of them fails with the one at fault."""
    bad = make()
    root = Holder(first=Holder(), bad=bad, last=Holder())
    root.first.root = root.last.root = root
    (vars(bad) if type(bad) is not WantsTwo else vars(root.first))["root"] = root
    if type(bad) is WantsTwo:
        bad.a = root
    report = safemp.inspect({"root": root})

    assert [culprit.get() for culprit in report.culprits] == [bad]


def test_both_problems_are_in_one_report(conn: socket.socket) -> None:
    """What does not load is found beside what does not pickle."""
    report = safemp.inspect([conn, {"k": WantsTwo(1, 2)}, conn])

    assert [(c.path, c.problem) for c in report.culprits] == [
        ("obj[0]", "does not pickle"),
        ("obj[1]['k']", "does not load"),
    ]


def test_a_call_that_does_not_load_names_the_object() -> None:
    """The error of a pool has the path of the smallest object, too."""
    with safemp.SafeExecutor(1) as executor, pytest.raises(safemp.PreflightError) as caught:
        executor.submit(jobs.take, {"k": [1, WantsTwo(1, 2)]}).result()

    assert caught.value.culprits[0].path == "args[0]['k'][1]"


# -- depth -----------------------------------------------------------------------------------


def chain(length: int, last: Any) -> list[Any]:
    """Make lists in lists."""
    first: list[Any] = []
    inner = first
    for _ in range(length):
        inner.append([])
        inner = inner[0]
    inner.append(last)
    return first


def test_depth_is_no_limit(conn: socket.socket) -> None:
    """A culprit 100 000 levels down is found; texts stay short, the path is whole."""
    first = chain(100_000, conn)
    with pytest.raises(RecursionError):
        pickle.dumps(first)
    report = safemp.inspect(first)

    (culprit,) = report.culprits
    assert culprit.path == "obj" + "[0]" * 100_001
    assert culprit.get() is conn
    assert len(str(report)) < 2000
    assert len(str(safemp.PreflightError((culprit, culprit)))) < 1000
    assert len(report._repr_html_()) < 10_000


def test_depth_alone_is_named() -> None:
    """What is only too deep for pickle is said to be that."""
    (culprit,) = safemp.inspect(chain(100_000, 1)).culprits

    assert culprit.path == "obj"
    assert "flatten it" in culprit.fix


def test_a_chain_of_repairs_is_no_flood() -> None:
    """Of very many repairs with very long paths some are told, and all are counted."""
    chained: Any = None
    for _ in range(20_000):
        chained = [threading.Lock(), chained]
    report = safemp.inspect(chained, load=False)

    assert len(report.repairs) + report.more_repairs == 20_000
    assert sum(len(repair.path) for repair in report.repairs) < 4_000_000
    assert len(str(report)) < 20_000


# -- only what pickling runs ---------------------------------------------------------------


events: list[str] = []


class Watches(type):
    def __getattr__(cls, name: str) -> Any:
        events.append(f"meta {name}")
        raise AttributeError(name)

    def __repr__(cls) -> str:
        events.append("meta repr")
        return "Watched"


class Watched(metaclass=Watches):
    """Notes everything that is done to its instances."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __getattribute__(self, name: str) -> Any:
        events.append(f"get {name}")
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        events.append(f"missing {name}")
        raise AttributeError(name)

    def __repr__(self) -> str:
        events.append("repr")
        return "watched"

    __str__ = __repr__

    @property
    def expensive(self) -> Any:
        events.append("property")
        raise AssertionError("a property was run")

    def __eq__(self, other: object) -> bool:
        events.append("eq")
        return self is other

    def __hash__(self) -> int:
        events.append("hash")
        return 1

    def __len__(self) -> int:
        events.append("len")
        return 1

    def __bool__(self) -> bool:
        events.append("bool")
        return True

    def __iter__(self) -> Any:
        events.append("iter")
        return iter(())

    def __dir__(self) -> Any:
        events.append("dir")
        return []


def test_nothing_runs_that_pickling_does_not_run(conn: socket.socket) -> None:
    """No property, ``__getattr__``, ``__repr__``, ``__eq__`` or metaclass hook beside those of pickling."""
    root = [Watched(a=1, lock=threading.Lock()), Watched(b=[Watched(), {"k": Watched(c=2)}]), {Watched(): 1}]
    events.clear()
    cloudpickle.loads(cloudpickle.dumps([Watched(a=1), {Watched(): 1}]))
    allowed = set(events)
    assert "get __reduce_ex__" in allowed

    events.clear()
    report = safemp.inspect(root, sizes=True)
    texts = [str(report), report._repr_html_(), json.dumps(report.to_dict()), repr(report)]
    assert set(events) <= allowed
    assert report.ok
    assert all(texts)

    root.append(Watched(conn=conn))
    events.clear()
    report = safemp.inspect(root, sizes=True)
    texts = [str(report), report._repr_html_(), json.dumps(report.to_dict()), repr(report)]
    assert set(events) <= allowed
    assert paths(report) == ["obj[3].conn"]


def test_a_hostile_object_ends_nothing() -> None:
    """An object that raises in whatever it is asked for is one culprit, and the others are found."""

    class Hostile:
        def __reduce__(self) -> Any:
            raise SystemExit("not me")

        def __getattr__(self, name: str) -> Any:
            return self.missing

        def __repr__(self) -> str:
            raise ValueError

        @property
        def __class__(self) -> Any:
            raise ValueError

    assert paths(safemp.inspect([Hostile(), 1, sys._getframe()], sizes=True)) == ["obj[0]", "obj[2]"]


# -- sizes -----------------------------------------------------------------------------------


def test_the_heaviest_parts_are_named() -> None:
    """Not their parents too: what is listed adds up to the whole."""
    root = Holder(small="x" * 100, deep={"k": [b"y" * 300_000, list(range(100_000))]}, other=Holder(z="z" * 100_000))
    report = safemp.inspect(root, sizes=True)

    assert [heavy.path for heavy in report.sizes[:3]] == ["obj.deep['k'][1]", "obj.deep['k'][0]", "obj.other.z"]
    assert report.size is not None
    assert abs(sum(heavy.size for heavy in report.sizes) - report.size) < report.size / 50


def test_an_array_weighs_what_it_is() -> None:
    """The buffer of an array counts as the array."""
    numpy = pytest.importorskip("numpy")
    report = safemp.inspect({"w": numpy.zeros(100_000), "v": numpy.zeros((10, 10))}, sizes=True)

    assert report.sizes[0].path == "obj['w']"
    assert abs(report.sizes[0].size - 800_000) < 1000


def test_sizes_are_had_in_spite_of_culprits(conn: socket.socket) -> None:
    """What cannot travel weighs nothing, and keeps nothing else from being weighed."""
    report = safemp.inspect([conn, b"x" * 100_000], sizes=True)

    assert not report.ok
    assert report.sizes[0].path == "obj[1]"


def test_at_most_ten_are_named() -> None:
    """Ten, heaviest first."""
    report = safemp.inspect([b"x" * (10_000 + i) for i in range(30)], sizes=True)

    assert len(report.sizes) == 10
    assert [h.size for h in report.sizes] == sorted((h.size for h in report.sizes), reverse=True)


# -- how it is shown ---------------------------------------------------------------------


class Tags(html.parser.HTMLParser):
    """Collects what a page asks for from elsewhere, and sees that what is opened is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.links += [value for name, value in attrs if name in ("src", "href")]
        if tag in ("script", "link"):
            self.links.append(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_needs_nothing_else(tmp_path: Path, conn: socket.socket) -> None:
    """One file, well formed, with everything in it and no tag of the user's."""
    report = safemp.inspect({"<b>&": [conn], "lock": threading.Lock(), "w": b"x" * 5000}, sizes=True)
    report.to_html(tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(page)
    text = "".join(tags.text)

    assert tags.open == []
    assert tags.links == []
    assert "obj['<b>&'][0]" in text
    assert all(word in text for word in ("socket.socket", "does not pickle", "rebuild", "5 kB"))


def test_json_has_everything(conn: socket.socket) -> None:
    """``to_dict`` survives JSON, and has what the report has."""
    report = safemp.inspect([conn, threading.Lock()], sizes=True)
    data = json.loads(json.dumps(report.to_dict()))

    assert data["ok"] is False
    assert data["culprits"][0]["path"] == "obj[0]"
    assert data["repairs"][0]["kind"] == "rebuild"
    assert set(data["culprits"][0]) == {"path", "type", "owner", "problem", "reason", "fix"}


def test_a_report_travels(conn: socket.socket) -> None:
    """A report pickles, without the objects it is about."""
    report = safemp.inspect([conn, threading.Lock()])
    copy = pickle.loads(pickle.dumps(report))

    assert copy == report
    assert str(copy) == str(report)
    assert copy.culprits[0].get() is None


def test_repr_is_one_line() -> None:
    """In a prompt it says the result, and no more."""
    assert repr(safemp.inspect(1)).startswith("<safemp.Report: obj (int) can travel, ")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_colours_where_rich_is(conn: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rich: colours and box drawing."""
    pytest.importorskip("rich")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    with contextlib.redirect_stdout(Terminal()) as out:
        print(safemp.inspect([conn]))

    assert "obj" in out.getvalue()
    assert "\x1b[" in out.getvalue() or "└" in out.getvalue()


def test_a_terminal_that_has_no_lines_to_draw_with_gets_text(conn: socket.socket) -> None:
    """A code page of Windows lacks what rich draws with: the same text as in a file, and no error."""

    class CodePage(Terminal):
        encoding = "cp1252"

    report = safemp.inspect({"→": conn}, sizes=True)
    with contextlib.redirect_stdout(CodePage()) as out:
        print(report)

    assert out.getvalue() == report.to_text().replace("→", "\\u2192") + "\n"


def test_without_rich_a_terminal_gets_text(conn: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without rich, and in a file: the same text, in any encoding."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    monkeypatch.delitem(sys.modules, "safemp.inspection.colour", raising=False)
    report = safemp.inspect({"schlüssel": conn})
    with contextlib.redirect_stdout(Terminal()) as out:
        print(report)
    assert out.getvalue() == report.to_text() + "\n"

    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with contextlib.redirect_stdout(narrow):
        print(report)
    narrow.flush()
    assert b"schl\\xfcssel" in narrow.buffer.getvalue()  # type: ignore[attr-defined]


def test_long_paths_are_short_in_messages(conn: socket.socket) -> None:
    """Of a path of thousands of characters a message shows both ends; the culprit has all of it."""
    culprit = safemp.inspect(chain(2000, conn)).culprits[0]
    first = str(safemp.PreflightError((culprit,))).splitlines()[0]

    assert len(first) < 400
    assert "characters" in first
    assert first.startswith("cannot send obj[0][0]")
    assert "[0]: socket.socket does not pickle" in first


# -- the log ------------------------------------------------------------------------------------


class Locked:
    def __init__(self) -> None:
        self.lock_of_this_test = threading.Lock()


def test_repairs_are_logged_once_per_place(caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, once for an attribute of a class, however many items have it."""
    caplog.set_level(logging.DEBUG, "safemp.repairs")
    for _ in range(2):
        assert len(safemp.map(jobs.take, [Locked() for _ in range(3)])) == 3
    told = [record.getMessage() for record in caplog.records if "lock_of_this_test" in record.getMessage()]

    assert len(told) == 1
    assert told[0].startswith("repaired items[0].lock_of_this_test, _thread.lock: rebuild: ")


# -- advice -------------------------------------------------------------------------------------

LIBRARY = """
class Wire:
    def __init__(self, conn):
        self.conn = conn

class Client:
    def __init__(self, conn):
        self._wire = [Wire(conn)]

class Box:
    def __init__(self, content):
        self.content = content

class Lazy:
    def __init__(self):
        self._inner = 1
    def __getattr__(self, name):
        return getattr(self._inner, name)
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package that somebody has installed."""
    site = tmp_path / "site-packages"
    site.mkdir()
    (site / "installed_library.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delitem(sys.modules, "installed_library", raising=False)
    return importlib.import_module("installed_library")


def test_advice_names_what_people_have_in_hand(library: Any, conn: socket.socket) -> None:
    """Not the innards of a library's object, which nobody can change, but that object."""
    whole = "make the installed_library.Client in the task or in an initializer"
    (culprit,) = safemp.inspect(library.Client(conn)).culprits
    assert (culprit.path, culprit.fix) == ("obj._wire[0].conn", whole)

    (culprit,) = safemp.inspect(Holder(client=library.Client(conn))).culprits
    assert culprit.fix == f"{whole}; or drop it in __getstate__ of {__name__}.Holder"

    (culprit,) = safemp.inspect(library.Box(Holder(conn=conn))).culprits  # what a user has put into a library's box
    assert culprit.fix.endswith(f"; or drop it in __getstate__ of {__name__}.Holder")

    (culprit,) = safemp.inspect([library.Lazy()]).culprits
    assert culprit.problem == "does not load"
    assert culprit.fix == "make the installed_library.Lazy in the task or in an initializer"


def test_the_report_is_of_the_repairs_that_are_asked_for(tmp_path: Path) -> None:
    """As for a pool: none, some kinds, or those that are off by default."""
    path = tmp_path / "words"
    path.write_text("one two")
    with path.open("rb") as file:
        obj = {"lock": threading.Lock(), "file": file}

        assert [c.path for c in safemp.inspect(obj, repairs="none").culprits] == ["obj['lock']", "obj['file']"]
        assert [c.path for c in safemp.inspect(obj).culprits] == ["obj['file']"]
        opened = len(os.listdir("/proc/self/fd"))
        report = safemp.inspect(obj, repairs=("all", "reopen"))  # which opens no other
        assert len(os.listdir("/proc/self/fd")) <= opened
        assert report.ok
        assert {(r.path, r.kind) for r in report.repairs} == {("obj['lock']", "rebuild"), ("obj['file']", "reopen")}
    with pytest.raises(ValueError, match="cannot find repairs 'magic'"):
        safemp.inspect(obj, repairs="magic")


@pytest.mark.parametrize(
    ("refer", "path"),
    [(weakref.proxy, "obj[0].p.g"), (weakref.ref, "obj[0].p().g"), (weakref.WeakMethod, "obj[0].p().__self__.g")],
)
def test_a_path_goes_through_weak_references(refer: Any, path: str) -> None:
    """A proxy passes on all that it is asked for, so the path does not name it."""

    class Node:
        def method(self) -> None: ...

    parent, child = Node(), Node()
    parent.g = (i for i in "x")  # type: ignore[attr-defined]
    child.p = refer(parent.method if refer is weakref.WeakMethod else parent)  # type: ignore[attr-defined]
    obj = [child, parent]
    (culprit,) = safemp.inspect(obj).culprits

    assert culprit.path in (path, "obj[1].g")
    assert eval(culprit.path) is parent.g  # type: ignore[attr-defined]
