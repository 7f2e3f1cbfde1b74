"""Exceptions arrive as themselves, or as the next best thing."""

from __future__ import annotations

import builtins
import copy
import copyreg
import gc
import importlib
import pickle
import socket
import subprocess
import sys
import threading
import traceback
import weakref
from pathlib import Path
from typing import Any

import pytest
from tblib.pickling_support import pickle_exception

from safemp.codec import pickling
from safemp.codec.exceptions import Lost, PlainError, Where, decode_error, encode_error, plain_of, reduce_exception
from safemp.errors import Culprit, FrameError, PreflightError
from safemp.result_error import ResultError
from tests.unit import exceptions_zoo as zoo
from tests.unit.exceptions_zoo import HONOURED, ZOO, TwoArguments, caught, portrait

WHERE = Where("mod.fn", 17, 1234, "host")


def encode(exc: BaseException, where: Where | None = None) -> bytes:
    """Do what a worker does."""
    return encode_error(exc, dump=pickling.dumps_careful, load=pickling.loads, where=where)


def travel(exc: BaseException, where: Where | None = None) -> Any:
    """Send an exception all the way."""
    return decode_error(encode(exc, where), load=pickling.loads)


def refuse(stream: bytes) -> object:
    """Load nothing: the other side lacks something."""
    raise ModuleNotFoundError("not here")


def revived(exc: BaseException) -> Any:
    """Send an exception to a side that cannot load it."""
    return decode_error(encode(exc), load=refuse)


# -- as itself ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ZOO)
def test_arrives_as_itself(name: str) -> None:
    """An exception arrives with its class, text, args, C state, slots, dict, links and frames."""
    exc = caught(ZOO[name])
    before = portrait(exc)

    arrived = travel(exc)

    assert arrived is not exc
    assert portrait(arrived) == before
    assert portrait(exc) == before, "encoding changed the original"


@pytest.mark.parametrize("name", ZOO)
def test_travels_as_a_value(name: str) -> None:
    """An exception that is an argument or a result arrives as itself, too."""
    exc = caught(ZOO[name])

    first, second = pickling.loads(pickling.dumps_careful([exc, {"again": exc}]))

    assert portrait(first) == portrait(exc)
    assert second["again"] is first


@pytest.mark.parametrize(
    "name", ["two arguments", "keyword only", "required new", "frozen dataclass", "read-only args"]
)
def test_the_standard_library_loses_them(name: str) -> None:
    """The hostile ones are hostile: plain pickle raises, or gives something else."""
    exc = caught(ZOO[name])

    try:
        arrived = pickle.loads(pickle.dumps(exc))
    except Exception:
        return

    assert portrait(arrived) != portrait(exc)


@pytest.mark.parametrize("name", HONOURED)
def test_own_way_is_honoured(name: str) -> None:
    """A class that says itself how to be pickled has its way, and its fresh lock."""
    exc = caught(HONOURED[name])
    exc.__notes__ = ["a note"]  # type: ignore[attr-defined]
    exc.__cause__ = TwoArguments(1, 2)

    arrived = travel(exc)

    assert type(arrived) is type(exc)
    assert str(arrived) == str(exc)
    assert type(arrived.lock) is type(threading.Lock())
    assert arrived.__notes__ == ["a note"]
    assert portrait(arrived.__cause__) == portrait(exc.__cause__)
    assert zoo.frames_of(arrived) == zoo.frames_of(exc)


def test_own_state_is_not_taken_apart() -> None:
    """Trying a class's ``__setstate__`` leaves the original's attributes alone."""
    exc = zoo.DropsLock(1, 2)

    travel(exc)

    assert exc.a == 1


def test_safemp_errors_travel() -> None:
    """Errors of safemp itself, also those made on the spot, arrive with their culprits."""
    culprit = Culprit("args[0]", "socket.socket", "why", "fix")
    of = PreflightError.of((Culprit("args[0]", "x", "y", "z", None, ZeroDivisionError("in reduce")),))

    for exc in (PreflightError((culprit,)), ResultError((culprit,)), of):
        arrived = travel(exc)
        assert type(arrived).__mro__[-4:] == type(exc).__mro__[-4:]
        assert arrived.culprits == exc.culprits
    assert isinstance(travel(of), ZeroDivisionError)


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
@pytest.mark.parametrize("how", [travel, lambda exc: pickling.loads(pickling.dumps_careful(exc))])
def test_long_chain(link: str, how: Any) -> None:
    """A chain of 2000 does not overflow pickle's recursion, raised or as a value."""
    first: BaseException | None = None
    for i in range(2000):
        exc = TwoArguments(i, "b")
        setattr(exc, link, first)
        first = exc

    at = how(first)

    for i in reversed(range(2000)):
        assert (type(at), at.a) == (TwoArguments, i)
        at = getattr(at, link)
    assert at is None


def test_identity_in_a_long_chain() -> None:
    """An attribute that is one of the causes is that very object on the other side."""
    exc: BaseException = TwoArguments(0, 0)
    root = exc
    for i in range(100):
        after = TwoArguments(i, i)
        after.__cause__ = exc
        exc = after
    exc.__dict__["root"] = root

    arrived = travel(exc)

    at = arrived
    while at.__cause__ is not None:
        at = at.__cause__
    assert arrived.root is at


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
def test_large_group_that_refers_back() -> None:
    """A group of 1000 whose members all have the group as context arrives whole."""
    group = ExceptionGroup("g", [TwoArguments(i, i) for i in range(1000)])
    for member in group.exceptions:
        member.__context__ = group

    arrived = travel(group)

    assert len(arrived.exceptions) == 1000
    assert all(member.__context__ is arrived for member in arrived.exceptions)


# -- what cannot travel ---------------------------------------------------------------


class HoldsLock(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.kept = {"a": 1}
        self.gone = generator()


class HoldsInSlot(Exception):
    __slots__ = ("gone",)

    def __init__(self) -> None:
        super().__init__("slot", generator())
        self.gone = generator()


class TextNeedsIt(Exception):
    def __init__(self) -> None:
        super().__init__()
        self.gone = generator()

    def __str__(self) -> str:
        return f"running: {self.gone.gi_running}"


def generator() -> Any:
    """Make something that cannot travel."""
    return (i for i in range(3))


def test_lost_attribute() -> None:
    """An attribute that cannot travel becomes a ``Lost``; everything else arrives."""
    exc = caught(lambda: HoldsLock("locked"))

    arrived = travel(exc)

    assert type(arrived) is HoldsLock
    assert str(arrived) == "locked"
    assert arrived.kept == {"a": 1}
    assert arrived.gone == Lost("generator", "cannot pickle 'generator' object", "exc.gone")
    assert zoo.frames_of(arrived) == zoo.frames_of(exc)


def test_lost_in_args_and_slots() -> None:
    """The same for elements of ``args`` and for slots."""
    arrived = travel(caught(HoldsInSlot))

    assert arrived.args[0] == "slot"
    assert arrived.args[1].path == "exc.args[1]"
    assert arrived.gone.path == "exc.gone"


def test_lost_inside_containers() -> None:
    """Of a list or dict only the item is lost."""
    exc = ValueError("x")
    exc.__dict__["deep"] = {"a": [1, generator()], 2: (generator(), "kept")}

    arrived = travel(exc)

    assert arrived.deep["a"] == [1, Lost("generator", "cannot pickle 'generator' object", "exc.deep['a'][1]")]
    assert arrived.deep[2][0].path == "exc.deep[2][0]"
    assert arrived.deep[2][1] == "kept"


def test_lost_in_a_cause() -> None:
    """A cause that cannot travel whole loses its own attribute, nothing of the rest."""
    exc = TwoArguments("a", "b")
    exc.__cause__ = HoldsLock("cause")
    exc.__cause__.__context__ = exc
    exc.__dict__["orig"] = exc.__cause__

    arrived = travel(exc)

    assert type(arrived.__cause__) is HoldsLock
    assert type(arrived.__cause__.gone) is Lost
    assert arrived.__cause__.__context__ is arrived
    assert arrived.orig is arrived.__cause__


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
def test_lost_in_a_group() -> None:
    """Members of a group lose what they must one by one."""
    group = zoo.OwnGroup("g", [HoldsLock("one"), TwoArguments(1, 2), ExceptionGroup("in", [HoldsLock("two")])], 5)

    arrived = travel(group)

    one, two, inner = arrived.exceptions
    assert (type(arrived), arrived.code, arrived.message) == (zoo.OwnGroup, 5, "g")
    assert (type(one), type(one.gone), str(one)) == (HoldsLock, Lost, "one")
    assert portrait(two) == portrait(TwoArguments(1, 2))
    assert type(inner.exceptions[0].gone) is Lost


def test_exception_in_an_attribute() -> None:
    """An exception kept in an attribute is taken apart like the one that holds it."""
    exc = ValueError("outer")
    exc.__dict__["errors"] = [HoldsLock("inner"), exc, generator()]

    arrived = travel(exc)

    assert (type(arrived.errors[0]), type(arrived.errors[0].gone)) == (HoldsLock, Lost)
    assert arrived.errors[1] is arrived


def test_text_that_needs_what_is_lost() -> None:
    """When ``__str__`` would fail over a ``Lost``, the text itself is kept, and the class is caught."""
    exc = caught(TextNeedsIt)

    arrived = travel(exc)

    assert str(arrived) == str(exc) == "running: False"
    assert isinstance(arrived, TextNeedsIt)


def test_own_way_with_a_lost_cause() -> None:
    """A class's own way is honoured in the second try as well."""
    exc = caught(HONOURED["reduce"])
    exc.__cause__ = HoldsLock("c")

    arrived = travel(exc)

    assert type(arrived) is zoo.ReduceLoads
    assert type(arrived.lock) is type(threading.Lock())
    assert type(arrived.__cause__.gone) is Lost


def test_lost_speaks() -> None:
    """Using a ``Lost`` as if it were the value says what it was; it copies and pickles."""
    lost = Lost("m.Client", "cannot pickle", "exc.client")

    with pytest.raises(AttributeError, match=r"cannot read \.get of exc\.client: the m\.Client did not travel"):
        lost.get  # noqa: B018

    assert repr(lost) == "<Lost: m.Client, cannot pickle>"
    assert pickle.loads(pickle.dumps(lost)) == copy.deepcopy(lost) == lost
    assert hash(copy.copy(lost)) == hash(lost)
    assert lost != Lost("m.Client", "cannot pickle", "exc.other")
    assert lost != "lost"


# -- stand-ins ------------------------------------------------------------------------

GHOST = """
class Base(LookupError):
    def __init__(self, a, b):
        super().__init__(f"{a}/{b}")
        self.a, self.b = a, {"b": [b]}
        self.obj = object()
class Gone(Base):
    pass
class Mixed(Gone, OSError):
    def __init__(self):
        OSError.__init__(self, 2, "mixed", "file")
"""


@pytest.fixture
def ghost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module that the caller will not be able to import."""
    (tmp_path / "ghost_errors.py").write_text(GHOST)
    monkeypatch.syspath_prepend(str(tmp_path))
    module = importlib.import_module("ghost_errors")
    yield module
    sys.modules.pop("ghost_errors", None)


def vanish(module: Any) -> None:
    """Become a process that cannot import *module*."""
    sys.path[:] = [path for path in sys.path if not (Path(path) / "ghost_errors.py").exists()]
    del sys.modules["ghost_errors"]
    importlib.invalidate_caches()


def test_stand_in(ghost: Any) -> None:
    """A class that is not here is stood for by one of its name, caught by the nearest base."""
    exc = caught(lambda: ghost.Gone(1, "x"))
    exc.__notes__ = ["noted"]  # type: ignore[attr-defined]
    exc.__cause__ = ghost.Base(3, 4)
    record = encode(exc, WHERE)
    vanish(ghost)

    arrived = decode_error(record, load=pickling.loads)

    cls = type(arrived)
    assert isinstance(arrived, LookupError)
    assert (cls.__name__, cls.__qualname__, cls.__module__) == ("Gone", "Gone", "ghost_errors")
    assert str(arrived) == "1/x"
    assert arrived.args == ("1/x",)
    assert (arrived.a, arrived.b) == (1, {"b": ["x"]})  # type: ignore[attr-defined]
    assert type(arrived.obj) is Lost  # type: ignore[attr-defined]
    assert arrived.__notes__ == ["noted"]  # type: ignore[attr-defined]
    assert str(arrived.__cause__) == "3/4"
    assert zoo.frames_of(arrived)[1:] == zoo.frames_of(exc)
    assert "ghost_errors.Gone: 1/x" in "".join(traceback.format_exception(cls, arrived, arrived.__traceback__))


def test_stand_in_of_two_bases(ghost: Any) -> None:
    """A stand-in has all builtin bases whose layouts agree, with their state."""
    record = encode(caught(ghost.Mixed))
    vanish(ghost)

    arrived: Any = decode_error(record, load=pickling.loads)

    assert isinstance(arrived, LookupError)
    assert isinstance(arrived, OSError)
    assert (arrived.errno, arrived.strerror, arrived.filename) == (2, "mixed", "file")


def test_stand_in_pickles(ghost: Any) -> None:
    """A stand-in pickles again, with plain pickle and with ours, and its class stays one."""
    record = encode(caught(lambda: ghost.Gone(1, "x")), WHERE)
    vanish(ghost)
    arrived = decode_error(record, load=pickling.loads)

    for again in (pickle.loads(pickle.dumps(arrived)), travel(arrived), copy.copy(arrived)):
        assert type(again) is type(arrived)
        assert portrait(again) == portrait(arrived)


def test_class_that_is_here_is_used() -> None:
    """When only an attribute does not load, the class itself comes, with its plain attributes."""
    exc = caught(lambda: zoo.SlottedChild())

    arrived = revived(exc)

    assert type(arrived) is zoo.SlottedChild
    assert (arrived.shown, arrived.hidden(), arrived.more, arrived.free) == (4, 8, None, "in the dict")


@pytest.mark.parametrize("name", ZOO)
def test_plain_tier(name: str) -> None:
    """Where the rich tier does not load, the class, the text and the frames are the same."""
    exc = caught(ZOO[name])

    arrived = revived(exc)

    assert portrait(arrived)["text"] in (portrait(exc)["text"], "<exception str() failed>")
    assert type(exc).__qualname__ == type(arrived).__qualname__
    assert zoo.frames_of(arrived) == zoo.frames_of(exc)


def test_class_whose_metaclass_is_in_the_way() -> None:
    """A class that cannot travel itself is stood for; the attributes come richly."""

    class Stubborn(type):
        def __reduce_ex__(cls, protocol: Any) -> Any:
            raise SystemExit

        def __init__(cls, name: str, bases: Any, space: Any) -> None:
            if "allowed" not in space:
                raise TypeError("not allowed")

    class Refuses(OSError, metaclass=Stubborn):
        allowed = True
        lock = generator()

    exc = Refuses(2, "text")
    exc.path = Path("/x")  # type: ignore[attr-defined]

    arrived = travel(exc)

    assert isinstance(arrived, OSError)
    assert (type(arrived).__name__, str(arrived), arrived.errno) == ("Refuses", "[Errno 2] text", 2)
    assert arrived.path == Path("/x")


def test_main_class_in_another_process(tmp_path: Path) -> None:
    """A class of a script travels by value to a process that has never seen the script."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from safemp.codec import pickling\n"
        "from safemp.codec.exceptions import encode_error\n"
        "class Mine(Exception):\n"
        "    def __init__(self, a, *, b):\n"
        "        super().__init__(a); self.b = b\n"
        "try:\n"
        "    raise Mine('text', b=5)\n"
        "except Mine as e:\n"
        "    record = encode_error(e, dump=pickling.dumps_careful, load=pickling.loads)\n"
        "open(sys.argv[1], 'wb').write(record)\n"
    )
    root = Path(__file__).parents[2]
    out = tmp_path / "record"
    subprocess.run([sys.executable, str(script), str(out)], check=True, timeout=50, env={"PYTHONPATH": str(root)})

    arrived: Any = decode_error(out.read_bytes(), load=pickling.loads)

    assert (type(arrived).__name__, str(arrived), arrived.b) == ("Mine", "text", 5)
    assert arrived.__traceback__.tb_frame.f_code.co_filename == str(script)


# -- never raises ---------------------------------------------------------------------


class LoadsBadly(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(a)
        self.bomb = Bomb()


class Bomb:
    def __reduce__(self) -> Any:
        return sys.exit, ("boom",)


def test_attribute_that_explodes_on_loading() -> None:
    """What pickles but does not load is found in the worker, and lost by itself."""
    arrived = travel(LoadsBadly(1, 2))

    assert type(arrived) is LoadsBadly
    assert arrived.bomb == Lost(f"{__name__}.Bomb", "boom", "exc.bomb")


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError, MemoryError])
def test_loading_that_raises(error: type[BaseException]) -> None:
    """Whatever loading raises on the caller's side, an exception of the class comes back."""

    def load(stream: bytes) -> object:
        raise error

    arrived = decode_error(encode(TwoArguments(1, 2)), load=load)

    assert type(arrived) is TwoArguments
    assert str(arrived) == "1/2"


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, RecursionError, MemoryError])
def test_dumping_that_raises(error: type[BaseException]) -> None:
    """Whatever dumping raises, the plain tier is sent."""

    def dump(obj: object) -> bytes:
        raise error

    record = encode_error(TwoArguments(1, 2), dump=dump, load=pickling.loads)

    assert str(decode_error(record, load=pickling.loads)) == "1/2"


def test_loading_to_something_else() -> None:
    """A rich tier that loads to no exception is not believed."""
    arrived = decode_error(encode(ValueError("x")), load=lambda stream: "not an exception")

    assert repr(arrived) == "ValueError('x')"


@pytest.mark.parametrize("junk", [b"", b"\0", b"x" * 50, None, "text", 5, memoryview(b"abc")])
def test_junk_record(junk: Any) -> None:
    """A record that is none gives a ``FrameError``, not raised but returned."""
    assert type(decode_error(junk, load=pickling.loads)) is FrameError
    with pytest.raises(FrameError):
        plain_of(junk)


def test_metaclass_that_tells_nothing() -> None:
    """A class of which not even the name can be asked costs the class only."""

    class Silent(type):
        def __getattribute__(cls, name: str) -> Any:
            raise SystemExit(name)

    class Mute(KeyError, metaclass=Silent):
        pass

    arrived = travel(caught(lambda: KeyError.__new__(Mute, "k")))

    assert isinstance(arrived, KeyError)
    assert type(arrived).__name__ == "Mute"
    assert str(arrived) == "'k'"


def test_refuses_to_make_its_text() -> None:
    """``__str__`` that recurses without end, or exits, costs the text only."""

    class Endless(Exception):
        def __str__(self) -> str:
            return str(self)

    class Exits(Exception):
        def __str__(self) -> str:
            sys.exit(1)

    for cls in (Endless, Exits):
        arrived = travel(caught(lambda cls=cls: cls(1)))
        assert (type(arrived).__name__, arrived.args) == (cls.__name__, (1,))


# -- where ----------------------------------------------------------------------------


def test_where_is_told_at_the_top_of_the_traceback() -> None:
    """The printed text says which call of which worker it was; notes and cause are the user's."""
    exc = caught(lambda: TwoArguments(1, 2))

    arrived = travel(exc, WHERE)

    text = "".join(traceback.format_exception(type(arrived), arrived, arrived.__traceback__))
    assert '  File "<worker 1234 of host>", line 1, in mod.fn, items[17]\n' in text
    assert vars(arrived) == vars(exc)
    assert arrived.__cause__ is None
    assert str(WHERE) == "in worker 1234 of host: mod.fn, items[17]"


def test_prints_as_in_the_worker() -> None:
    """But for that line, what is printed is what the worker would have printed."""
    exc = caught(zoo._caused)

    arrived = travel(exc)

    original = traceback.format_exception(type(exc), exc, exc.__traceback__)
    assert traceback.format_exception(type(arrived), arrived, arrived.__traceback__) == original


def test_plain_record_can_be_read_alone() -> None:
    """``plain_of`` tells class and text without running user code."""
    plain = plain_of(encode(TwoArguments(1, 2), WHERE))

    assert type(plain) is PlainError
    assert (plain.module, plain.qualname, plain.text) == (TwoArguments.__module__, "TwoArguments", "1/2")
    assert plain.bases == (
        ("builtins", "Exception"),
        ("builtins", "BaseException"),
    )
    assert PlainError.from_wire(plain.to_wire()) == plain


def test_arrived_exception_is_no_cycle() -> None:
    """An exception that has arrived is freed as soon as nobody holds it."""
    record = encode(caught(lambda: TwoArguments(1, 2)), WHERE)
    gc.disable()
    try:
        arrived: Any = decode_error(record, load=pickling.loads)
        gone = weakref.ref(arrived)
        del arrived

        assert gone() is None
    finally:
        gc.enable()


def test_reduce_value_has_the_shape_pickle_wants() -> None:
    """``reduce_exception`` gives six items: made first, filled by a setter afterwards."""
    function, args, state, items, pairs, setter = reduce_exception(TwoArguments(1, 2))

    made = function(*args)
    setter(made, state)

    assert (items, pairs) == (None, None)
    assert portrait(made) == portrait(TwoArguments(1, 2))


def test_all_builtin_exceptions() -> None:
    """Every exception class of this Python arrives, made without arguments where it can be."""
    for cls in vars(builtins).values():
        if isinstance(cls, type) and issubclass(cls, BaseException):
            try:
                exc = cls()
            except TypeError:
                continue
            assert portrait(travel(exc)) == portrait(exc)
            assert portrait(revived(exc)) == portrait(exc)


def test_openai_errors() -> None:
    """The real errors of openai, with a real response, arrive whole; in the plain tier they are still caught."""
    openai = pytest.importorskip("openai")
    names = vars(openai._exceptions)
    http = names.get("httpx2") or names["httpx"]  # its http library has been both
    request = http.Request("POST", "http://127.0.0.1/v1/chat")
    for cls, status in [
        (openai.BadRequestError, 400),
        (openai.AuthenticationError, 401),
        (openai.NotFoundError, 404),
        (openai.RateLimitError, 429),
        (openai.InternalServerError, 500),
    ]:
        body = {"error": {"message": "no", "code": "c"}}
        response = http.Response(status, json=body, request=request, headers={"x-request-id": "r"})
        exc = caught(lambda cls=cls, response=response, body=body: cls("text", response=response, body=body["error"]))

        arrived = travel(exc, WHERE)

        assert type(arrived) is cls
        assert (str(arrived), arrived.status_code, arrived.request_id, arrived.code) == ("text", status, "r", "c")
        assert arrived.response.json() == body
        assert str(arrived.request.url) == "http://127.0.0.1/v1/chat"
        assert arrived.body == body["error"]
        assert arrived.response.request is arrived.request
        plain = revived(exc)
        assert isinstance(plain, cls)
        assert (plain.status_code, plain.body, type(plain.response)) == (status, body["error"], Lost)
    for made in (openai.APITimeoutError(request), openai.APIConnectionError(request=request, message="m")):
        arrived = travel(caught(lambda made=made: made))
        assert (type(arrived), str(arrived), arrived.request.method) == (type(made), str(made), "POST")


def test_socket_in_an_exception() -> None:
    """A real socket, the classic, is lost by name."""
    with socket.socket() as open_socket:
        exc = ConnectionError("refused")
        exc.__dict__["sock"] = open_socket

        arrived = travel(exc)

    assert (type(arrived), arrived.sock.type_name) == (ConnectionError, "socket.socket")


@pytest.mark.parametrize("name", [name for name in ZOO if name not in HONOURED])
def test_tblibs_reducer_for_all_classes_is_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever imports dask has it in ``copyreg`` for every exception that there is."""
    exc = caught(ZOO[name])
    before = portrait(exc)
    for cls in type(exc).__mro__[:-1]:
        monkeypatch.setitem(copyreg.dispatch_table, cls, pickle_exception)

    arrived = travel(exc)

    assert portrait(arrived) == before
