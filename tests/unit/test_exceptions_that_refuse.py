"""Exceptions whose class refuses what safemp would do with it, and culprits at the end of long chains."""

from __future__ import annotations

import pickle
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import attrs
import pytest

import safemp
from safemp.codec import pickling
from safemp.codec.exception_plain import stand_in_class
from safemp.codec.exceptions import decode_error, encode_error
from safemp.codec.lost import Lost

# -- classes that refuse to be written to ---------------------------------------------


class Frozen(Exception):
    """As frozen classes are: it has no attributes but in ``args``."""

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError("frozen")


@dataclass(frozen=True, slots=True)
class FrozenRecord(Exception):
    host: str
    conn: object


@attrs.frozen(auto_exc=True)
class FrozenAttrs(Exception):
    host: str
    conn: object


@attrs.frozen(auto_exc=True, slots=False)
class FrozenWithDict(Exception):
    host: str
    conn: object


class Guarded(Exception):
    """It lets nobody read or write a private name that is not its own."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("_") and not name.startswith("__"):
            raise AttributeError("guarded")
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: object) -> None:
        if name.startswith("_") and not name.startswith("__"):
            raise AttributeError("guarded")
        super().__setattr__(name, value)


WRITTEN: list[Callable[[str, object], Exception]] = [Frozen, FrozenRecord, FrozenAttrs, FrozenWithDict, Guarded]

# -- classes that refuse to be derived from -------------------------------------------


class ApiError(Exception):
    code: int

    def __init_subclass__(cls, *, code: int) -> None:
        cls.code = code


def _says(self: Any) -> str:
    return f"{self.conn.getsockname()} is busy, wait {self.wait} s"


def _fill(self: Any, conn: object, wait: int) -> None:
    self.args = ("busy",)
    self.conn, self.wait = conn, wait


class Control(Exception):
    """It refuses nothing."""

    __init__, __str__ = _fill, _says


class Busy(ApiError, code=503):
    __init__, __str__ = _fill, _says


class BusySlots(ApiError, code=503):
    __slots__ = ("conn", "wait")
    __init__, __str__ = _fill, _says


class BusyHost(ApiError, OSError, code=503):
    __init__, __str__ = _fill, _says


class _FinalMeta(type):
    def __new__(meta, name: str, bases: tuple[type, ...], space: dict[str, Any]) -> Any:
        if any(isinstance(base, _FinalMeta) for base in bases):
            raise TypeError("it is final")
        return super().__new__(meta, name, bases, space)


class BusyFinal(Exception, metaclass=_FinalMeta):
    __init__, __str__ = _fill, _says


DERIVED: list[Any] = [Control, Busy, BusySlots, BusyHost, BusyFinal]


class _SealedMeta(type):
    """Nothing gets past it: Python asks it for the order of the bases of each class."""

    def mro(cls) -> list[type]:
        if any(isinstance(base, _SealedMeta) for base in cls.__bases__):
            raise TypeError("it is sealed")
        return super().mro()


class BusySealed(Exception, metaclass=_SealedMeta):
    __init__, __str__ = _fill, _says


class BusySealedOwn(Exception, metaclass=_SealedMeta):
    """The same, which says itself how it is pickled."""

    __init__, __str__ = _fill, _says

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.conn, self.wait)  # type: ignore[attr-defined]  # set by _fill


class Registered(Exception):
    """It keeps a list of its subclasses."""

    kinds: list[str] = []  # noqa: RUF012 - a registry

    def __init_subclass__(cls) -> None:
        Registered.kinds.append(cls.__qualname__)


class RegisteredBusy(Registered):
    __init__, __str__ = _fill, _says


if sys.version_info >= (3, 11):

    class ApiGroup(ExceptionGroup):
        def __init_subclass__(cls, *, code: int) -> None:
            cls.code = code  # type: ignore[attr-defined]  # as a program would

    class BusyGroup(ApiGroup, code=503):
        conn: Any
        wait: int
        __str__ = _says

    class BusySealedGroup(ExceptionGroup, metaclass=_SealedMeta):
        conn: Any
        wait: int
        __str__ = _says


# -- how they travel ------------------------------------------------------------------


@pytest.fixture
def conn() -> Iterator[socket.socket]:
    """A socket, which does not travel."""
    with socket.socket() as opened:
        yield opened


def raised(make: Callable[..., BaseException], *args: object) -> None:
    """Raise an exception with a cause; a busy one with a note."""
    exc = make(*args)
    if type(exc) in (Control, Busy):
        exc.__notes__ = ["a note"]  # type: ignore[attr-defined]  # 3.11
    raise exc from ValueError("why")


def raised_with_a_socket(make: Callable[..., BaseException], *args: object, first: bool = False) -> None:
    """Do as ``raised``, with a new socket before or behind *args*; it stays open, since the text asks it."""
    opened = socket.socket()
    raised(make, *((opened, *args) if first else (*args, opened)))


def caught(make: Callable[..., BaseException], *args: object) -> Any:
    """Return what ``raised`` raises."""
    try:
        raised(make, *args)
    except BaseException as exc:
        return exc


def travel(exc: BaseException, load: Callable[[bytes], object] = pickling.loads) -> Any:
    """Send an exception all the way."""
    return decode_error(encode_error(exc, dump=pickling.dumps_careful, load=pickling.loads), load=load)


def refuse(stream: bytes) -> object:
    """Load nothing: the other side lacks something."""
    raise ModuleNotFoundError("not here")


def frames(exc: BaseException) -> list[str]:
    """Name the functions of a traceback."""
    return [frame.name for frame in traceback.extract_tb(exc.__traceback__)]


# -- frozen ---------------------------------------------------------------------------


def test_these_refuse_to_be_written_to(conn: socket.socket) -> None:
    """Nobody can set an attribute of ours on one of them."""
    for make in WRITTEN:
        with pytest.raises((AttributeError, TypeError)):  # the second: dataclass, with slots, before 3.12
            make("db1", conn)._safemp_text = "x"  # type: ignore[attr-defined]  # that is the point


@pytest.mark.parametrize("make", WRITTEN)
@pytest.mark.parametrize("load", [pickling.loads, refuse])
def test_a_frozen_one_loses_its_socket_only(
    make: Callable[[str, object], Exception], load: Callable[[bytes], object], conn: socket.socket
) -> None:
    """It arrives with its class, text, args, attributes and frames, also where it does not load."""
    exc = caught(make, "db1", conn)

    arrived = travel(exc, load)

    assert isinstance(arrived, make)  # type: ignore[arg-type]  # all of them are classes
    assert str(arrived) == str(exc)
    assert arrived.args[0] == "db1"
    assert type(arrived.args[1]) is Lost
    assert getattr(arrived, "host", "db1") == "db1"
    assert type(getattr(arrived, "conn", arrived.args[1])) is Lost
    assert frames(arrived) == frames(exc)
    assert repr(arrived.__cause__) == "ValueError('why')"


@pytest.mark.parametrize("make", WRITTEN)
def test_a_stand_in_of_a_frozen_class_pickles(make: Any, conn: socket.socket) -> None:
    """By plain pickle too, and it comes out as a stand-in."""
    arrived = travel(make("db1", conn))

    again = pickle.loads(pickle.dumps(arrived))

    assert isinstance(again, make)
    assert str(again) == str(arrived) == str(make("db1", conn))
    assert again.args[0] == "db1"


@pytest.mark.parametrize("make", WRITTEN)
def test_a_frozen_one_is_caught_by_its_class(make: Any) -> None:
    """A worker's comes out of ``result`` as its class."""
    with safemp.SafeExecutor(1) as ex, pytest.raises(make) as found:
        ex.submit(raised_with_a_socket, make, "db1").result()

    assert "socket" in str(found.value)
    assert found.value.args[0] == "db1"
    assert frames(found.value)[-2:] == ["raised_with_a_socket", "raised"]


# -- not to be derived from -----------------------------------------------------------


def test_these_refuse_to_be_derived_from() -> None:
    """A class statement with one of them for a base fails."""
    for base in (*DERIVED[1:], BusySealed):
        with pytest.raises(TypeError):
            type(base)("Derived", (base,), {})


@pytest.mark.parametrize("cls", DERIVED)
@pytest.mark.parametrize("load", [pickling.loads, refuse])
def test_one_without_subclasses_loses_its_socket_only(
    cls: Any, load: Callable[[bytes], object], conn: socket.socket
) -> None:
    """It arrives with its class, text, args, attributes, notes and frames, also where it does not load."""
    exc = caught(cls, conn, 3)

    arrived = travel(exc, load)

    assert isinstance(arrived, cls)
    assert str(arrived) == str(exc) == "('0.0.0.0', 0) is busy, wait 3 s"
    assert (arrived.args, arrived.wait) == (("busy",), 3)
    assert type(arrived.conn) is Lost
    assert getattr(arrived, "__notes__", None) == getattr(exc, "__notes__", None)
    assert frames(arrived) == frames(exc)
    assert getattr(arrived, "code", 503) == 503


@pytest.mark.parametrize("cls", DERIVED)
def test_a_stand_in_of_such_a_class_pickles(cls: Any, conn: socket.socket) -> None:
    """By plain pickle too, and it comes out as a stand-in."""
    again = pickle.loads(pickle.dumps(travel(cls(conn, 3))))

    assert isinstance(again, cls)
    assert str(again) == "('0.0.0.0', 0) is busy, wait 3 s"
    assert again.wait == 3


@pytest.mark.parametrize("cls", [Control, Busy])
def test_one_without_subclasses_comes_from_a_worker(cls: Any) -> None:
    """As if its class had no hook."""
    with safemp.SafeExecutor(1) as ex, pytest.raises(cls) as found:
        ex.submit(raised_with_a_socket, cls, 3, first=True).result()

    assert str(found.value) == "('0.0.0.0', 0) is busy, wait 3 s"
    assert (found.value.args, found.value.wait) == (("busy",), 3)
    assert type(found.value.conn) is Lost
    assert found.value.__notes__ == ["a note"]
    assert frames(found.value)[-2:] == ["raised_with_a_socket", "raised"]


@pytest.mark.parametrize("cls", [BusySealed, BusySealedOwn])
def test_one_that_nothing_can_be_derived_from_keeps_all_but_its_text(cls: Any, conn: socket.socket) -> None:
    """Where Python makes no subclass, the exception is of its class, with what travels of it."""
    exc = caught(cls, conn, 3)

    arrived = travel(exc)

    assert type(arrived) is cls
    assert (arrived.args, arrived.wait) == (("busy",), 3)
    assert type(arrived.conn) is Lost
    assert frames(arrived) == frames(exc)


def test_a_stand_in_is_in_no_registry(conn: socket.socket) -> None:
    """A stand-in is no subclass that its program knows of, so the hook is not run for it."""
    before = list(Registered.kinds)

    arrived = travel(RegisteredBusy(conn, 3))

    assert isinstance(arrived, RegisteredBusy)
    assert type(arrived) is not RegisteredBusy
    assert Registered.kinds == before == ["RegisteredBusy"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
@pytest.mark.parametrize("name", ["BusyGroup", "BusySealedGroup"])
def test_a_group_without_subclasses_keeps_its_members(name: str, conn: socket.socket) -> None:
    """Message and members arrive, and the text of one from which Python derives another."""
    cls = globals()[name]
    exc = cls("two", [ValueError(1), KeyError(2)])
    exc.conn, exc.wait = conn, 3

    arrived = travel(exc)

    assert isinstance(arrived, cls)
    assert (arrived.message, list(map(repr, arrived.exceptions))) == ("two", ["ValueError(1)", "KeyError(2)"])
    assert (arrived.wait, type(arrived.conn)) == (3, Lost)
    assert name == "BusySealedGroup" or str(arrived) == "('0.0.0.0', 0) is busy, wait 3 s"


def test_two_of_one_class_share_a_stand_in() -> None:
    """So that an ``except`` of the first one's class catches the second."""
    one, other = (stand_in_class("gone", "Gone", (Busy,)) for _ in range(2))

    assert one is other
    assert issubclass(one, Busy)
    assert one.__mro__[1:] == Busy.__mro__


# -- long chains ----------------------------------------------------------------------


class Own(Exception):
    """It says itself how it is pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Own, self.args, self.__dict__


def chain(length: int, held: object, tie: str = "__context__", cls: type[Exception] = ValueError) -> Exception:
    """Make an exception with *length* others behind it, of which the last holds *held*."""
    exc = cls("the last")
    exc.s = held  # type: ignore[attr-defined]  # as a program would
    for at in range(length):
        above = cls(at)
        setattr(above, tie, exc)
        exc = above
    return exc


@pytest.mark.parametrize("length", [3, 14, 15, 16, 90])
@pytest.mark.parametrize("tie", ["__context__", "__cause__"])
@pytest.mark.parametrize("cls", [ValueError, Own])
def test_the_path_to_the_end_of_a_chain(length: int, tie: str, cls: type[Exception], conn: socket.socket) -> None:
    """It is spelled by the links and evaluates, however long the chain is."""
    exc = chain(length, conn, tie, cls)

    (found,) = safemp.inspect(exc).culprits

    assert found.path == "obj" + f".{tie}" * length + ".s"
    assert eval(found.path, {"obj": exc}) is found.get() is conn
    assert "safemp" not in found.owner + found.fix


def test_the_paths_to_several_places_of_a_chain(conn: socket.socket) -> None:
    """Each is the shortest, from the end of the chain to its head, as in a short one."""
    exc = chain(30, conn)
    exc.__context__.__context__.s = gen = (at for at in range(1))  # type: ignore[union-attr]  # it is there
    exc.__cause__ = chain(20, top := socket.socket())
    top.close()

    found = safemp.inspect(exc).culprits

    assert [eval(one.path, {"obj": exc}) for one in found] == [top, conn, gen]
    assert [one.path.count("__context__") for one in found] == [20, 30, 2]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
def test_the_path_into_a_member_of_a_long_group(conn: socket.socket) -> None:
    """It is spelled by the members."""
    members = [ValueError(at) for at in range(40)]
    members[7].s = conn  # type: ignore[attr-defined]  # as a program would
    exc = ExceptionGroup("many", members)

    (found,) = safemp.inspect(exc).culprits

    assert eval(found.path, {"obj": exc}) is conn
    assert found.path == "obj.exceptions[7].s"


@pytest.mark.parametrize("length", [3, 40])
def test_the_path_to_the_end_of_a_chain_in_an_error(length: int) -> None:
    """``PreflightError`` tells it for an argument, ``ResultError`` for a result."""
    with safemp.SafeExecutor(1) as ex, socket.socket() as opened:
        with pytest.raises(safemp.PreflightError) as refused:
            ex.submit(print, exc := chain(length, opened)).result()
        with pytest.raises(safemp.ResultError) as returned:
            ex.submit(chain_with_a_socket, length).result()

    links = ".__context__" * length
    assert [one.path for one in refused.value.culprits] == [f"args[0]{links}.s"]
    assert eval(refused.value.culprits[0].path, {"args": (exc,)}) is opened
    assert [one.path for one in returned.value.culprits] == [f"result{links}.s"]


def chain_with_a_socket(length: int) -> Exception:
    """Return a chain that does not travel."""
    return chain(length, socket.socket())
