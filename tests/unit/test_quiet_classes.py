"""Classes that go by value are made without their hooks: these have run where the class statement was."""

from __future__ import annotations

import abc
import ctypes
import gc
import types
import typing
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypedDict, TypeVar

import pytest
from cloudpickle import cloudpickle as cp

from safemp.codec import pickling, rebuild
from tests.support.child import quiet, run_script

T = TypeVar("T")
U = TypeVar("U")

SCRIPT = """
import abc, collections.abc, typing
import safemp

T = typing.TypeVar("T")
made = []

{classes}

def ask():
    {ask}

if __name__ == "__main__":
    here = ask()
    with safemp.SafeExecutor(1) as executor:
        for _ in range(2):
            there = executor.submit(ask).result(30)
            assert there == here, (there, here)
    print("ok")
"""

BEHIND_TYPE = """
class Mixin:
    pass

class Meta(type, Mixin):
    def __init__(cls, name, bases, space):
        if bases and "table" not in space:
            raise TypeError(f"{name} has no table")
        made.append(name)
        super().__init__(name, bases, space)

class Base(metaclass=Meta):
    pass

class User(Base):
    table = "user"
"""

HOOKED = """
class Base(BASES):
    def __init_subclass__(cls, *, tag, **options):
        super().__init_subclass__(**options)
        cls.tag = tag
        made.append(cls.__name__)

    def __getitem__(self, key):
        return key

    def __iter__(self):
        return iter("ab")

    def __len__(self):
        return 2

class Sub(SUB, tag="t"):
    pass

class SubSub(Sub, tag="u"):
    def __len__(self):
        return super().__len__() + 1
"""

ASK_HOOKED = (
    "return made, Sub.tag, SubSub.tag, len(SubSub()), [c.__name__ for c in SubSub.__mro__], "
    "getattr(Sub, '__parameters__', None), type(SubSub()).__base__ is Sub, [c.__name__ for c in Base.__subclasses__()]"
)


# -- over a worker -------------------------------------------------------------------------


def test_a_metaclass_with_a_mixin_behind_type(tmp_path: Path) -> None:
    """It is not taken for one that makes its classes in C, and does not run again."""
    ask = "return User.table, made, [c.__name__ for c in User.__mro__], type(User) is Meta"
    ended = run_script(tmp_path, SCRIPT.format(classes=BEHIND_TYPE, ask=ask))

    assert quiet(ended), str(ended)


@pytest.mark.parametrize(
    ("bases", "sub"),
    [
        ("abc.ABC", "Base"),
        ("typing.Generic[T]", "Base[int]"),
        ("typing.Protocol", "Base"),
        ("collections.abc.Mapping", "Base"),
        ("abc.ABC, typing.Generic[T]", "Base[T]"),
    ],
)
def test_init_subclass_below_bases_with_empty_slots(tmp_path: Path, bases: str, sub: str) -> None:
    """The class has what its hook gave to it, and a registry has each name once, as at home."""
    classes = HOOKED.replace("BASES", bases).replace("SUB", sub, 1)
    ended = run_script(tmp_path, SCRIPT.format(classes=classes, ask=ASK_HOOKED))

    assert quiet(ended), str(ended)


# -- by themselves -------------------------------------------------------------------------

_ran: list[str] = []


class Hook:
    """Its classes say that they are made."""

    __slots__ = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        _ran.append(cls.__name__)


class HookedSlots:
    """The same with a slot, and it wants an option."""

    __slots__ = ("x",)

    def __init_subclass__(cls, *, tag: int) -> None:
        _ran.append(cls.__name__)


class Meta(abc.ABCMeta):
    """The same, as a metaclass with all there is."""

    @classmethod
    def __prepare__(cls, name: str, bases: tuple[type, ...], /, **_: Any) -> dict[str, object]:
        return {"prepared": True}

    def __new__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any], *, tag: int) -> Any:
        _ran.append(name)
        return super().__new__(cls, name, bases, space)

    def __init__(cls, name: str, bases: tuple[type, ...], space: dict[str, Any], *, tag: int) -> None:
        super().__init__(name, bases, space)


class Unlike(type):
    """Does not let its classes be hashed or compared."""

    def __hash__(cls) -> int:
        raise TypeError("no hash")

    def __eq__(cls, other: object) -> bool:
        raise TypeError("no comparison")


MAKES: list[tuple[type, tuple[Any, ...], dict[str, Any]]] = [
    (type, (Hook,), {}),
    (type, (Hook,), {"__slots__": ("a",)}),
    (type, (HookedSlots,), {}),
    (type, (HookedSlots,), {"__slots__": ("y", "__dict__")}),
    (type, (Hook, HookedSlots), {"__slots__": ()}),
    (type, (Hook, dict), {}),
    (type, (int, Hook), {}),
    (type, (Exception, Hook), {}),
    (type, (Generic[T], Hook), {}),
    (type, (list, Generic[T], Hook), {}),
    (abc.ABCMeta, (abc.ABC, Hook), {}),
    (abc.ABCMeta, (Mapping, Hook), {}),
    (abc.ABCMeta, (Mapping[T, int], Hook), {}),
    (type(Protocol), (Protocol[T], Hook), {}),
    (Meta, (), {}),
    (Meta, (HookedSlots,), {}),
]


@pytest.fixture(autouse=True)
def ran() -> Iterator[list[str]]:
    """Return the names of the classes whose hooks have run in a test."""
    _ran.clear()
    yield _ran
    _ran.clear()


@pytest.mark.parametrize(("meta", "bases", "space"), MAKES, ids=str)
def test_a_class_is_made_without_its_hooks(
    ran: list[str], meta: type, bases: tuple[Any, ...], space: dict[str, Any]
) -> None:
    """Whatever its bases are; it has those and no others, nothing is left in it, and nothing keeps it."""
    made = rebuild.make_quietly(meta, "Made", bases, {"__module__": __name__, **space})
    assert made is not None
    real = types.resolve_bases(bases) or (object,)

    assert ran == []
    assert (type(made), made.__bases__) == (meta, real)
    assert not [name for name in vars(made) if "safemp" in name]
    assert not [base for base in made.__mro__ if base.__module__.startswith("safemp")]
    assert any(cls is made for cls in type.__subclasses__(real[0]))
    assert issubclass(made, real)

    gone = weakref.ref(made)
    del made
    gc.collect()
    assert gone() is None


def test_a_class_that_python_does_not_allow_is_left_to_it() -> None:
    """Bases that do not go together; and bases of another metaclass."""
    assert rebuild.make_quietly(type, "Made", (Hook, int, str), {}) is None
    assert rebuild.make_quietly(type, "Made", (Hook, abc.ABC), {}) is None


def test_there_is_nothing_to_keep_quiet() -> None:
    """Such a class, and one that is made in C, is made as any."""
    assert rebuild.make_quietly(type, "Made", (), {}) is None
    assert rebuild.make_quietly(abc.ABCMeta, "Made", (abc.ABC,), {}) is None
    assert rebuild.make_quietly(type, "Made", (Generic[T],), {}) is None
    assert rebuild.make_quietly(type(ctypes.Structure), "Made", (ctypes.Structure,), {}) is None


def test_bases_that_cannot_be_compared() -> None:
    """They need not be."""
    base = Unlike("Base", (Hook,), {})
    made = rebuild.make_quietly(Unlike, "Made", (base,), {})

    assert made is not None
    assert made.__bases__[0] is base


# -- as they travel ------------------------------------------------------------------------


def local_classes() -> dict[str, Any]:
    """Make classes that know each other."""

    class Base(Generic[T, U], Hook):
        kinds: ClassVar[list[Any]] = []

    class Sub(Base[int, U]):
        pass

    class Turned(Base[T, U], Generic[U, T]):
        pass

    class Plain(Generic[T]):
        kinds: ClassVar[list[Any]] = []

    class PlainSub(Plain[int]):
        pass

    class Fields(TypedDict):
        a: int

    class MoreFields(Fields, total=False):
        b: int

    class Pair(NamedTuple):
        a: int
        b: int = 2

    @typing.runtime_checkable
    class Goes(Protocol[T]):
        def go(self) -> T: ...

    class Went(Goes[int], Hook):
        def go(self) -> int:
            return 3

    class Abstract(abc.ABC, Hook):
        @abc.abstractmethod
        def go(self) -> int: ...

    class Concrete(Abstract):
        def go(self) -> int:
            return 4

    @dataclass(slots=True)
    class Slotted(Hook):
        x: int = 5

    class ByMeta(metaclass=Meta, tag=1):
        pass

    class OfMeta(ByMeta, tag=2):
        pass

    Base.kinds += [Sub, Turned, Base[str, int]]
    Plain.kinds += [PlainSub, Plain[str]]
    return dict(locals())


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], Any]:
    """Return a function that sends a class and loads it as a process does that has not got it."""

    def there(cls: type) -> Any:
        stream = pickling.dumps_careful(cls)
        monkeypatch.setattr(cp, "_DYNAMIC_CLASS_TRACKER_BY_ID", weakref.WeakValueDictionary())
        _ran.clear()
        return pickling.loads(stream)

    return there


class Goer:
    """Has the method of a protocol."""

    def go(self) -> int:
        return 1


CHECKS: dict[str, Callable[[Any], bool]] = {
    "Base": lambda c: c[bytes, str].__args__ == (bytes, str) and issubclass(c.kinds[0], c),
    "Sub": lambda c: c[str].__args__ == (str,),
    "Turned": lambda c: [v.__name__ for v in c.__parameters__] == ["U", "T"],
    "Plain": lambda c: issubclass(c.kinds[0], c) and c.kinds[1].__origin__ is c,
    "PlainSub": lambda c: c.kinds[0] is c,
    "Fields": lambda c: c(a=1) == {"a": 1},
    "MoreFields": lambda c: c.__optional_keys__ == {"b"},
    "Pair": lambda c: c(1) == (1, 2),
    "Goes": lambda c: isinstance(Goer(), c) and not isinstance(1, c),
    "Went": lambda c: c().go() == 3,
    "Abstract": lambda c: c.__abstractmethods__ == {"go"},
    "Concrete": lambda c: c().go() == 4,
    "Slotted": lambda c: c(7).x == 7 and not hasattr(c(), "__dict__"),
    "ByMeta": lambda c: c.prepared,
    "OfMeta": lambda c: c.prepared and not hasattr(c, "tag"),
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_class_comes_as_it_was(ran: list[str], elsewhere: Callable[[Any], Any], name: str) -> None:
    """With its bases and type variables, and it works; so do those that it refers to and that refer to it."""
    cls = local_classes()[name]
    found = elsewhere(cls)

    assert found is not cls
    assert _looks(found) == _looks(cls)
    assert CHECKS[name](cls)
    assert CHECKS[name](found)
    assert ran == []


def _looks(cls: Any) -> tuple[object, ...]:
    names = [[c.__name__ for c in classes] for classes in (cls.__mro__, cls.__bases__)]
    return type(cls).__name__, *names, [v.__name__ for v in getattr(cls, "__parameters__", ())]
