"""The walker: every culprit, by its exact path, and nothing else."""

import abc
import collections
import concurrent.futures
import contextlib
import copyreg
import dataclasses
import enum
import functools
import pickle
import socket
import traceback
import types
import typing

import cloudpickle
import pytest

from safemp.codec.walker import find_culprits
from tests.unit.cloud_semantics import CloudSemantics


def culprits(root, name="root", **options):
    """Walk one root."""
    return find_culprits([(name, root)], CloudSemantics(), **options)


def paths(root):
    """Walk one root, and return only where its culprits are."""
    return [c.path for c in culprits(root)]


def generator():
    """Make the plainest thing that cannot travel: no descriptor, no thread, no file."""
    return (x for x in ())


class Plain:
    def __init__(self, **attributes):
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("__private", "free")

    def __init__(self, private, free):
        self.__private = private
        self.free = free


class SlottedAndMore(Slotted):
    """Has a ``__dict__`` besides the slots of its base."""


class Point(typing.NamedTuple):
    x: object
    y: object


@dataclasses.dataclass
class Record:
    a: object = 1
    b: list = dataclasses.field(default_factory=list)


class ByState:
    def __init__(self, held):
        self.held = held

    def __getstate__(self):
        return {"renamed": self.held}


class MadeUpState:
    """Its state exists nowhere but in what ``__getstate__`` returns."""

    def __getstate__(self):
        return {"fresh": [generator()]}


class OddState:
    def __init__(self, held):
        self.held = held

    def __getstate__(self):
        return [1, {"x": self.held}]

    def __setstate__(self, state):
        self.held = state[1]["x"]


class ByReduce:
    def __init__(self, first, second):
        self._first = first
        self._second = second

    def __reduce__(self):
        return ByReduce, (self._first, [self._second])


class ByNewargs:
    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, a, b):
        self.a, self.b = a, b

    def __getnewargs_ex__(self):
        return (self.a,), {"b": self.b}

    def __getstate__(self):
        return None


class Words(dict):
    pass


class Numbers(list):
    pass


class Bag(set):
    pass


class Pair(tuple):
    __slots__ = ()


g = generator()
CASES = {
    "itself": (g, "root"),
    "list": ([1, [2, g]], "root[1][1]"),
    "tuple": ((1, (g,)), "root[1][0]"),
    "dict": ({"db": {"conn": [g]}}, "root['db']['conn'][0]"),
    "dict keys of plain types": ({(1, b"x", None): {True: g}}, "root[(1, b'x', None)][True]"),
    "dict key that has no literal": ({Point: 1, frozenset({1}): g}, "list(root.values())[1]"),
    "dict key that is long": ({"k" * 200: g}, "list(root.values())[0]"),
    "dict key": ({"a": 1, g: 2}, "list(root)[1]"),
    "inside a dict key": ({(1, g): 2}, "list(root)[0][1]"),
    "set": ({g}, "list(root)[0]"),
    "frozenset": ([frozenset({(1, g)})], "list(root[0])[0][1]"),
    "attribute": (Plain(a=1, b=[Plain(c=g)]), "root.b[0].c"),
    "attribute that is no identifier": (Plain(**{"a b": g}), "root.__dict__['a b']"),
    "attribute that is a keyword": (Plain(**{"class": g}), "root.__dict__['class']"),
    "slot": (Slotted(1, g), "root.free"),
    "private slot": (Slotted(g, 1), "root._Slotted__private"),
    "slot beside a dict": (SlottedAndMore(1, [g]), "root.free[0]"),
    "named tuple": (Point(1, [g]), "root.y[0]"),
    "dataclass": (Record(b=[1, g]), "root.b[1]"),
    "state under another name": (ByState(g), "root.held"),
    "state made up": (MadeUpState(), "root.__getstate__()['fresh'][0]"),
    "state that is no dict": (OddState(g), "root.held"),
    "reduce arguments": (ByReduce(1, {"x": g}), "root._second['x']"),
    "keyword arguments of __new__": (ByNewargs(1, [g]), "root.b[0]"),
    "dict subclass": (Words(a=g), "root['a']"),
    "list subclass": (Numbers([1, g]), "root[1]"),
    "set subclass": (Bag([g]), "list(root)[0]"),
    "tuple subclass": (Pair([1, g]), "root[1]"),
    "deque": (collections.deque([1, g], maxlen=3), "root[1]"),
    "OrderedDict": (collections.OrderedDict(a=1, b=g), "root['b']"),
    "Counter": (collections.Counter({"a": g}), "root['a']"),
    "defaultdict": (collections.defaultdict(list, a=[g]), "root['a'][0]"),
    "factory of a defaultdict": (collections.defaultdict(functools.partial(int, g)), "root.default_factory.args[0]"),
    "ChainMap": (collections.ChainMap({}, {"a": g}), "root.maps[1]['a']"),
    "UserDict": (collections.UserDict(a=g), "root.data['a']"),
    "SimpleNamespace": (types.SimpleNamespace(a=g), "root.a"),
    "partial": (functools.partial(print, 1, g), "root.args[1]"),
    "keywords of a partial": (functools.partial(print, end=[g]), "root.keywords['end'][0]"),
    "function of a partial": (functools.partial(Plain(f=g).__repr__), "root.func.__self__.f"),
    "attribute of a partial": ((lambda p: p.__dict__.update(x=g) or p)(functools.partial(print)), "root.x"),
    "bound method": (Plain(a=g).__init__, "root.__self__.a"),
    "bound method of C": ([g].append, "root.__self__[0]"),
    "slice": (slice(1, [g]), "root.stop[0]"),
    "mapping proxy": (types.MappingProxyType({"a": g}), "root['a']"),
    "dict's values": ({1: g}.values(), "list(root)[0]"),
    "iterator": (iter([g]), "root.__reduce_ex__(5)[1][0][0]"),
    "exception": (ValueError("x", [g]), "root.args[1][0]"),
    "attribute of an exception": ((lambda e: setattr(e, "x", g) or e)(ValueError()), "root.x"),
}


@pytest.mark.parametrize(("root", "path"), CASES.values(), ids=CASES)
def test_path_evaluates_to_the_culprit(root, path):
    """The path of a culprit is the expression a person would type, and gives the object."""
    with pytest.raises((TypeError, pickle.PicklingError)):
        cloudpickle.dumps(root)
    found = culprits(root)

    assert [c.path for c in found] == [path]
    assert found[0].type_name == "generator"
    assert found[0].reason == "cannot pickle 'generator' object"
    assert found[0].fix.startswith("send list(...) of it")
    value = eval(path, {"root": root})
    assert value is found[0].get() or "__getstate__" in path or "__reduce_ex__" in path
    assert type(value) is types.GeneratorType


def test_function_parts():
    """A by-value function is entered through its closure, defaults, annotations, attributes and globals."""
    a, b, c, d, e = (generator() for _ in range(5))

    def outer(x=b, *, y=c):
        return a, x, y, WORLD  # noqa: F821 - added to the globals below

    outer.attr = d
    outer.__annotations__["x"] = e
    space = {**globals(), "WORLD": generator()}
    function = types.FunctionType(outer.__code__, space, "outer", outer.__defaults__, outer.__closure__)
    function.__kwdefaults__ = outer.__kwdefaults__
    function.__dict__.update(outer.__dict__)
    function.__annotations__ = outer.__annotations__
    function.__qualname__ = "outer.<locals>"
    found = {c.path: c.get() for c in find_culprits([("fn", function)], CloudSemantics())}

    assert found == {
        "fn.__closure__['a']": a,
        "fn.__defaults__[0]": b,
        "fn.__kwdefaults__['y']": c,
        "fn.attr": d,
        "fn.__annotations__['x']": e,
        "fn.__globals__['WORLD']": space["WORLD"],
    }


def test_function_recursion_and_empty_cells():
    """A function that calls itself, or whose cell is not filled yet, does not end the walk."""
    held = generator()

    def recursive():
        return recursive, later, held

    if held is None:
        later = 1

    assert paths(recursive) == ["root.__closure__['held']"]


def test_decorated_function():
    """A decorator's function is found behind the wrapper."""
    held = generator()

    def decorate(function):
        @functools.wraps(function)
        def wrapper():
            return function()

        return wrapper

    @decorate
    def work():
        return held

    assert paths(work) == ["root.__closure__['function'].__closure__['held']"]


def test_by_reference_function_is_not_entered():
    """What travels by name is not looked into: the worker has its own."""
    socket.socket.__walker_test__ = generator()
    try:
        assert paths([socket.socket, generator, types, len, functools.wraps]) == []
    finally:
        del socket.socket.__walker_test__


def test_class_parts():
    """A by-value class is entered through its attributes, methods, properties, bases and metaclass."""
    in_method = generator()
    marks = {name: generator() for name in ("meta", "base", "plain", "static", "cls", "prop", "default")}

    class Meta(type):
        mark = marks["meta"]

    class Base:
        mark = marks["base"]

    class Local(Base, metaclass=Meta):
        __slots__ = ("slot",)
        attr = (marks["plain"],)

        def method(self, default=marks["default"]):
            return in_method, super()

        @staticmethod
        def static(x=marks["static"]):
            """Take a default."""

        @classmethod
        def make(cls, x=marks["cls"]):
            """Take a default."""

        @property
        def prop(self, x=marks["prop"]):
            """Take a default."""

    root = Local()
    root.slot = held = generator()
    found = {c.path: c.get() for c in culprits(root)}

    assert found.pop("type(root).method.__closure__['in_method']") is in_method
    assert found == {
        "type(type(root)).mark": marks["meta"],
        "type(root).__bases__[0].mark": marks["base"],
        "type(root).attr[0]": marks["plain"],
        "type(root).method.__defaults__[0]": marks["default"],
        "type(root).static.__defaults__[0]": marks["static"],
        "type(root).make.__func__.__defaults__[0]": marks["cls"],
        "type(root).prop.fget.__defaults__[0]": marks["prop"],
        "root.slot": held,
    }
    for path, value in found.items():
        assert eval(path, {"root": root}) is value


def local_classes():
    """Make classes that travel by value, of every kind that has a reducer of its own."""

    class Colour(enum.Enum):
        RED = 1
        BLUE = (1, 2)

        def hello(self):
            return self.name

    class Flags(enum.IntFlag):
        A = 1
        B = 2

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def do(self): ...

    class Concrete(Abstract):
        x: int = 1

        def do(self):
            return super().do()

    class Registered:
        pass

    Abstract.register(Registered)

    @dataclasses.dataclass(order=True)
    class Data:
        a: int
        b: list = dataclasses.field(default_factory=lambda: [1])

    T = typing.TypeVar("T")

    class Generic(typing.Generic[T]):
        x: T

    class Named(typing.NamedTuple):
        a: int
        b: str = ""

    class Typed(typing.TypedDict):
        a: int

    class Error(Exception):
        def __init__(self, a):
            super().__init__(a)

    class Proto(typing.Protocol):
        def f(self) -> int: ...

    return [
        Colour,
        Flags,
        Concrete,
        Abstract,
        Data,
        Generic,
        Named,
        Typed,
        Error,
        Proto,
        Colour.RED,
        Flags.A,
        Data(1),
        Named(1),
    ]


@pytest.mark.parametrize("cls", local_classes(), ids=repr)
def test_no_false_alarm_on_local_classes(cls):
    """What cloudpickle sends by value has no culprit."""
    cloudpickle.dumps(cls)

    assert paths(cls) == []


def test_enum_member_value():
    """A by-value enum is entered through its members' values."""
    held = generator()

    class Kind(enum.Enum):
        GOOD = 1
        BAD = held

    assert paths(Kind) == ["root.BAD._value_"]
    assert Kind.BAD._value_ is held


def test_registered_subclass():
    """A class that was registered with a by-value ABC is entered."""

    class Abstract(abc.ABC):
        @abc.abstractmethod
        def do(self): ...

    class Registered:
        held = generator()

    Abstract.register(Registered)
    (path,) = paths(Abstract)

    assert eval(path, {"root": Abstract, "abc": abc}) is Registered.held


@pytest.mark.parametrize(
    "obj",
    [
        pytest.param(x, id=type(x).__name__)
        for x in (
            type(None),
            type(...),
            type(NotImplemented),
            types.FunctionType,
            types.GeneratorType,
            int,
            type,
            object,
        )
    ],
)
def test_types_of_the_interpreter(obj):
    """Types that the pickler treats in a way of its own are no culprits."""
    assert paths(obj) == []


def test_every_culprit_at_once():
    """All culprits are reported, in the order of the walk, each under its own root."""
    found = find_culprits(
        [("fn", print), ("args[0]", [generator()]), ("kwargs['x']", {"a": generator(), "b": generator()})],
        CloudSemantics(),
    )

    assert [c.path for c in found] == ["args[0][0]", "kwargs['x']['a']", "kwargs['x']['b']"]


def test_shared_culprit_is_reported_once():
    """An object that is reached twice is one culprit, under its first path."""
    held = generator()

    assert paths([1, held, held, {"x": held}]) == ["root[1]"]


def test_limit():
    """The walk stops after so many culprits."""
    assert len(culprits([generator() for _ in range(200)])) == 100
    assert len(culprits([generator() for _ in range(200)], limit=3)) == 3


def test_cycles():
    """Cycles of any kind do not keep the walk going."""
    node = Plain(items=[])
    node.me = node
    node.items.append(node.items)
    node.space = node.__dict__
    node.held = generator()

    assert paths(node) == ["root.held"]


def test_temporaries_do_not_hide_culprits():
    """Objects that exist in a reduce value only do not shadow others by their reused ids."""

    class Fresh:
        def __reduce__(self):
            return list, ([[object()] for _ in range(3)],)

    root = [Fresh() for _ in range(2000)] + [[generator()] for _ in range(10)]

    assert paths(root) == [f"root[{2000 + i}][0]" for i in range(10)]


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "instance", "partial"])
def test_depth(kind):
    """A graph 100 000 deep does not overflow."""
    make, step = {
        "list": (lambda x: [x], "[0]"),
        "tuple": (lambda x: (x,), "[0]"),
        "dict": (lambda x: {"n": x}, "['n']"),
        "instance": (lambda x: Plain(n=x), ".n"),
        "partial": (lambda x: functools.partial(print, x, 1), ".args[0]"),
    }[kind]
    depth = 100_000 if kind != "partial" else 10_000  # partial collapses at once where it can
    held = root = generator()
    for _ in range(depth):
        root = make(root)
    (found,) = culprits(root)

    assert found.get() is held
    assert found.path == "root" + step * depth
    while not isinstance(root, types.GeneratorType):  # or its destructor overflows the C stack on some Pythons
        root = next(
            iter(root.values() if kind == "dict" else [root.n] if kind == "instance" else getattr(root, "args", root))
        )


# -- hostile objects -------------------------------------------------------------------


class Raises:
    def __init__(self, error):
        self.error = error

    def __reduce_ex__(self, protocol):
        raise self.error


class MuteError(Exception):
    def __str__(self):
        raise SystemExit("no text")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ZeroDivisionError("by hand"), "ZeroDivisionError: by hand"),
        (TypeError("no"), "no"),
        (pickle.PicklingError("not me"), "not me"),
        (SystemExit(3), "SystemExit: 3"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (StopIteration(), "StopIteration"),
        (MuteError(), "tests.unit.test_walker.MuteError"),
        (ValueError("line\nline\n" + "x" * 10_000), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_reduce_raises(error, reason):
    """Whatever ``__reduce_ex__`` raises makes its object the culprit, with that error."""
    (found,) = culprits([Raises(error)])

    assert found.path == "root[0]"
    assert found._error is error
    assert found.reason == reason or (reason is None and len(found.reason) == 312 and "\n" not in found.reason)
    assert found.fix == "mend __reduce_ex__ of tests.unit.test_walker.Raises: it raised"


def test_real_interrupt():
    """Ctrl-C during a walk ends the walk."""

    class Interrupted:
        times = 0

        def __reduce__(self):
            type(self).times += 1
            if self.times == 1:
                raise KeyboardInterrupt
            return int, ()

    with pytest.raises(KeyboardInterrupt):
        culprits([Interrupted()])


class Recursing:
    """``__getattr__`` asks for an attribute that ``__init__`` has not made."""

    def __getattr__(self, name):
        return self.missing


class Untouchable:
    """Counts every look at it that pickling would not take."""

    looks: typing.ClassVar = []

    def __init__(self):
        self.__dict__["held"] = generator()

    def __repr__(self):
        self.looks.append("repr")
        raise RuntimeError

    __str__ = __hash__ = __eq__ = __len__ = __iter__ = __bool__ = __repr__

    @property
    def trap(self):
        self.looks.append("trap")
        raise RuntimeError

    def __getattr__(self, name):
        self.looks.append(name)
        raise AttributeError(name)


def test_runs_nothing_that_pickling_does_not():
    """No property, ``__getattr__``, ``__repr__``, ``__eq__`` or ``__hash__`` runs that pickling would not run."""
    root = [Untouchable()]
    with contextlib.suppress(TypeError):
        cloudpickle.dumps(root)
    once = list(Untouchable.looks)
    Untouchable.looks.clear()
    (found,) = culprits(root)

    assert set(Untouchable.looks) <= set(once)
    assert found.path == "root[0].held"
    assert "trap" not in Untouchable.looks


def hostile_objects():
    """Make classes whose instances misbehave while they are pickled."""

    class LyingClass:
        @property
        def __class__(self):
            return int

    class RaisingClass:
        @property
        def __class__(self):
            raise SystemExit

    class RaisingDict:
        @property
        def __dict__(self):
            raise RuntimeError("no dict")

        def __getstate__(self):
            return self.__dict__

    class NotATuple:
        def __reduce__(self):
            return 42

    class TooShort:
        def __reduce__(self):
            return (int,)

    class TooLong:
        def __reduce__(self):
            return (int,) * 7

    class BadArgs:
        def __reduce__(self):
            return int, [1]

    class NotCallable:
        def __reduce__(self):
            return 1, ()

    class BadItems:
        def __reduce__(self):
            return dict, (), None, None, iter([1, 2, 3])

    class RaisingItems:
        def __reduce__(self):
            return list, (), None, (1 // 0 for _ in range(3))

    class WrongNewobj:
        def __reduce__(self):
            return copyreg.__newobj__, (int,)

    class UnknownName:
        def __reduce__(self):
            return "no_such_name"

    broken = [LyingClass, RaisingClass, RaisingDict, NotATuple, TooShort, TooLong, BadArgs]
    return [*broken, NotCallable, BadItems, RaisingItems, WrongNewobj, UnknownName, Recursing]


@pytest.mark.parametrize("cls", hostile_objects(), ids=lambda cls: cls.__name__)
def test_hostile(cls):
    """An object that misbehaves while it is pickled is the culprit; nothing escapes."""
    obj = cls()
    try:
        cloudpickle.dumps(obj)
    except BaseException:
        expected = ["root[0]"]
    else:
        expected = []

    assert paths([obj]) == expected


def test_metaclass_lies_about_names():
    """A class whose metaclass overrides ``__module__`` and ``__name__`` is named by what it is."""

    class Liar(type):
        @property
        def __module__(cls):
            raise RuntimeError

        @property
        def __mro__(cls):
            raise RuntimeError

    class Thing(metaclass=Liar):
        def __reduce_ex__(self, protocol):
            raise TypeError("no")

    (found,) = culprits(Thing())

    assert found.type_name.endswith("Thing")
    assert found.path == "root"


def test_global_not_found():
    """A global that is not found under its name is a culprit, with the pickler's reason."""

    class Lost:
        def __reduce__(self):
            return "vanished"

    (found,) = culprits({"a": Lost()})

    assert found.path == "root['a']"
    assert "vanished" in found.reason
    assert found._error is None


def test_property_shadows_attribute():
    """An attribute behind a property of the same name is shown by way of ``__dict__``."""

    class Shadowed:
        @property
        def x(self):
            raise RuntimeError

    root = Shadowed()
    root.__dict__["x"] = held = generator()
    (found,) = culprits(root)

    assert found.path == "root.__dict__['x']"
    assert eval(found.path) is held


def test_fix_names_owner():
    """A fix names the class from whose state the culprit can be dropped."""
    with socket.socket() as sock:
        (found,) = culprits(Plain(a=[sock]))

    assert found.type_name == "socket.socket"
    assert found.fix.endswith("; or drop it in __getstate__ of tests.unit.test_walker.Plain")


def test_fix_for_the_pool_and_not_for_its_queue():
    """Inside an object of the standard library, the advice is about that object."""
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        (found,) = [c for c in culprits(Plain(a=threads)) if c.path.endswith("._work_queue")]

    assert found.path == "root.a._work_queue"
    assert found.fix == "make it in the worker (the concurrent.futures.thread.ThreadPoolExecutor)"


def test_reason_without_repr():
    """A reason does not show the repr that the pickler puts into its message."""

    class Secret:
        def __repr__(self):
            return "password: hunter2"

        def __reduce__(self):
            return "vanished"

    (found,) = culprits(Secret())

    assert "hunter2" not in found.reason


def test_traceback_is_the_users():
    """The error that a culprit carries has a traceback that begins in the user's code."""
    (found,) = culprits([Raises(ZeroDivisionError())])
    names = [frame.name for frame in traceback.extract_tb(found._error.__traceback__)]

    assert names[-1] == "__reduce_ex__"
    assert "find_culprits" not in names


def test_large_arrays_are_not_walked():
    """The elements of an array are not looked at one by one; those of an object array are."""
    numpy = pytest.importorskip("numpy")
    held = generator()
    plain = numpy.zeros(10_000_000)
    objects = numpy.array([1, None, 2], dtype=object)
    objects[1] = held
    (found,) = culprits([plain, objects])

    assert found.get() is held
    assert eval(found.path, {"root": [plain, objects]}) is held


class HashRaises(type):
    def __hash__(cls):
        raise SystemExit("a class that has no hash")


@pytest.mark.parametrize("many", [1, 1000])
def test_a_class_without_a_hash_ends_nothing(many):
    """An object whose class cannot be hashed is a culprit, or in one; others are found."""
    Unhashed = HashRaises("Unhashed", (), {})
    found = culprits([[Unhashed(), *range(many)], g])

    assert found[-1].get() is g
    assert found[0].path.startswith("root[0]")
