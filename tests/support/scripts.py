"""Scripts whose functions and classes go by value.

Each defines ``check(call, fresh)``. ``call(fn, *args)`` runs in one process that stays,
``fresh()`` gives the ``call`` of a new one. It runs as ``__main__`` over an executor,
and as a module that exists in memory only.
"""

from __future__ import annotations

RUN = """
if __name__ == "__main__":
    import contextlib, safemp
    with contextlib.ExitStack() as _stack:
        def _fresh():
            executor = _stack.enter_context(safemp.SafeExecutor(1))
            return lambda fn, *args, **kwargs: executor.submit(fn, *args, **kwargs).result(30)
        check(_fresh(), _fresh)
    print("ok")
"""

SCRIPTS: dict[str, str] = {}

SCRIPTS["definitions that refer to each other"] = """
class Left:
    other = None
    def make(self):
        return self.other()

class Right:
    other = Left

Left.other = Right

def ping(n, back=None):
    return n if n <= 0 else pong(n - 1)

def pong(n, back=ping):
    return n if n <= 0 else back(n - 1)

ping.__defaults__ = (pong,)

def names():
    return Left.other is Right, Right.other is Left, ping.__defaults__[0] is pong, pong.__defaults__[0] is ping

def check(call, fresh):
    assert call(names) == (True,) * 4
    assert call(ping, 5) == 0
    assert type(call(Left().make)) is Right
    assert call(lambda: type(Right().other().make()).__name__) == "Right"
    assert fresh()(pong, 4) == 0
    assert fresh()(lambda: Left.other.other is Left)
    assert call(names) == (True,) * 4
"""

SCRIPTS["a class that holds an instance of itself"] = """
class Node:
    root = None
    table = {}
    def __init__(self, name):
        self.name = name

Node.root = Node("root")
Node.table["again"] = Node.root
child = Node("child")
child.parent = Node.root

def check(call, fresh):
    assert call(lambda: Node.root.name) == "root"
    assert call(lambda: type(Node.root) is Node and Node.table["again"] is Node.root)
    assert call(lambda: child.parent.name) == "root"
    back = call(lambda n: n, child)
    assert type(back) is Node and type(back.parent) is Node and back.parent.name == "root"
    back = fresh()(lambda: Node.root)
    assert type(back) is Node and back.name == "root"
    assert Node.root is not back, "what comes back is not set here"
"""

SCRIPTS["decorated functions"] = """
import functools

def plain(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return ["plain", function(*args, **kwargs)]
    return wrapper

def with_argument(n):
    def decorate(function):
        def wrapper(x):
            return [n, function(x)]
        return wrapper
    return decorate

registry = {}

def registered(function):
    registry[function.__name__] = function
    return function

def class_decorator(cls):
    cls.extra = lambda self: type(self).__name__
    return cls

@plain
@with_argument(7)
def twice_decorated(x):
    return x

@registered
def kept(x):
    return x + 1

@class_decorator
class Thing:
    @plain
    def method(self):
        return self.extra()

class AsDecorator:
    def __init__(self, function):
        self.function = function
        self.calls = 0
    def __call__(self, x):
        self.calls += 1
        return self.function(x), self.calls

@AsDecorator
def replaced(x):
    return -x

def check(call, fresh):
    assert call(twice_decorated, 3) == ["plain", [7, 3]]
    assert call(lambda: registry["kept"] is kept)
    assert call(kept, 1) == 2
    assert call(Thing().method) == ["plain", "Thing"]
    assert call(lambda: replaced(3)) == (-3, 1)
    assert call(lambda: replaced(3)) == (-3, 2), "the worker keeps it"
    assert replaced.calls == 0
    assert call(twice_decorated.__wrapped__, 3) == [7, 3]
"""

SCRIPTS["functions under lru_cache"] = """
import functools

ran = []

@functools.lru_cache(maxsize=None)
def slow(x):
    ran.append(x)
    return [x]

@functools.lru_cache
def fib(n):
    return n if n < 2 else fib(n - 1) + fib(n - 2)

class Holder:
    @functools.cached_property
    def value(self):
        ran.append("value")
        return 5
    @staticmethod
    @functools.cache
    def of(x):
        ran.append("of")
        return x

def check(call, fresh):
    assert call(slow, 1) == [1] and call(slow, 1) == [1]
    assert call(lambda: ran) == [1], "it ran once there"
    assert call(lambda: slow(1) is slow(1))
    assert call(fib, 60) == 1548008755920
    assert call(lambda: slow.cache_info().currsize) == 1
    assert slow.cache_info().currsize == 0
    assert call(lambda: (lambda h: (h.value, h.value))(Holder())) == (5, 5)
    assert call(lambda: (Holder.of(3), Holder.of(3))) == (3, 3)
    assert call(lambda: ran) == [1, "value", "of"]
    assert ran == []
    back = call(lambda: slow)
    assert back is slow
"""

SCRIPTS["functions with attributes"] = """
def count(x):
    count.calls += 1
    return x, count.calls

count.calls = 0
count.table = {"a": [1]}

def check(call, fresh):
    assert [call(count, i) for i in range(3)] == [(0, 1), (1, 2), (2, 3)]
    assert count.calls == 0
    count.calls = 10
    assert call(count, 1) == (1, 11), "the caller's change is seen"
    count.table["a"].append(2)
    assert call(lambda: count.table) == {"a": [1, 2]}
    assert fresh()(count, 1) == (1, 11)
"""

SCRIPTS["generators and coroutines"] = """
import asyncio, contextlib

def generate(n):
    total = yield n
    while total:
        total = yield total * n
    return "end"

def delegate(n):
    return (yield from generate(n))

async def coroutine(x):
    await asyncio.sleep(0)
    return [x async for x in agen(x)]

async def agen(n):
    for i in range(n):
        yield i

@contextlib.contextmanager
def managed(log):
    log.append("in")
    try:
        yield log
    finally:
        log.append("out")

def use():
    g = delegate(3)
    found = [next(g), g.send(2)]
    try:
        g.send(0)
    except StopIteration as error:
        found.append(error.value)
    log = []
    with managed(log):
        pass
    return found, asyncio.run(coroutine(3)), log

def check(call, fresh):
    assert call(use) == ([3, 6, "end"], [0, 1, 2], ["in", "out"]) == use()
    assert call(lambda: list(generate(1))[:1]) == [1]
"""

SCRIPTS["closures"] = """
def factorial():
    def inner(n):
        return 1 if n == 0 else n * inner(n - 1)
    return inner

def even_odd():
    def even(n):
        return n == 0 or odd(n - 1)
    def odd(n):
        return n != 0 and even(n - 1)
    return even, odd

def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    def read():
        return n
    return step, read

def empty_cell():
    def inner():
        return later
    if False:
        later = 1
    return inner

factorial_of = factorial()

def run(step, read):
    return step(), step(), read()

def check(call, fresh):
    assert call(factorial(), 5) == 120
    even, odd = even_odd()
    assert call(even, 10) and not call(odd, 10)
    assert call(lambda pair: (pair[0](4), pair[1](4)), (even, odd)) == (True, False)
    assert call(run, *counter())[:2] == (1, 2)
    step, read = counter()
    step()
    assert call(read) == 1
    step()
    assert call(read) == 2, "its value at the time of the call"
    assert read() == 2
    assert call(factorial_of, 5) == 120
    assert call(lambda: factorial_of(4)) == 24
    try:
        call(empty_cell())
    except NameError as error:
        assert "later" in str(error)
    else:
        raise AssertionError
"""

SCRIPTS["methods of every kind"] = """
import functools

class Descriptor:
    def __set_name__(self, owner, name):
        self.name = name
    def __get__(self, obj, owner=None):
        return self if obj is None else obj.__dict__.get(self.name, "unset")
    def __set__(self, obj, value):
        obj.__dict__[self.name] = value

class Base:
    described = Descriptor()
    made = []
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__()
        Base.made.append(cls.__name__)
    def __new__(cls, *args):
        self = super().__new__(cls)
        self.by_new = True
        return self
    def name(self):
        return "base"
    @classmethod
    def create(cls):
        return cls(1)
    def __private(self):
        return "private"
    def call_private(self):
        return self.__private()

class Middle(Base):
    def name(self):
        return "middle " + super().name()

class Other(Base):
    def name(self):
        return "other " + super().name()

class Child(Middle, Other):
    def __init__(self, x):
        self.x = x
    def name(self):
        return "child " + super().name()
    @staticmethod
    def static(x):
        return x + 1
    @classmethod
    def create(cls):
        made = super().create()
        made.x = "made"
        return made
    @property
    def prop(self):
        return self.x
    @prop.setter
    def prop(self, value):
        self.x = value * 2
    bound = functools.partialmethod(lambda self, a, b: (self.x, a, b), 5)
    def __call__(self, y):
        return self.x + y
    def __getattr__(self, name):
        if name.startswith("magic"):
            return name
        raise AttributeError(name)
    def __eq__(self, other):
        return type(other) is Child and self.x == other.x
    def __hash__(self):
        return hash(self.x)
    def lambda_class(self):
        return (lambda: __class__)()
    class Inner:
        class Deep:
            value = 9

def use(child):
    child.prop = 4
    child.described = "set"
    return (child.name(), child.static(1), child.prop, child.bound(6), child.described, child.magic_x, child.by_new,
            child.call_private(), Child.create().x, child.lambda_class() is Child, child.Inner.Deep.value)

def check(call, fresh):
    here = use(Child(0))
    assert here[0] == "child middle other base"
    assert call(use, Child(0)) == here
    assert fresh()(use, Child(0)) == here
    assert call(Child(3), 4) == 7
    assert call(Child(3).name) == here[0]
    assert call(Child.create).x == "made"
    assert call(Child.static, 1) == 2
    assert call(lambda: Base.made) == Base.made == ["Middle", "Other", "Child"], "no class is made twice"
    assert call(lambda: [c.__name__ for c in Child.__mro__]) == ["Child", "Middle", "Other", "Base", "object"]
    back = call(lambda: {Child(1): Child.Inner.Deep()})
    assert back.keys() == {Child(1)} and type(back[Child(1)]) is Child.Inner.Deep
    assert call(lambda s: Child(1) in s, {Child(1), Child(2)})
    assert call(lambda x: type(x) is Child.Inner, Child.Inner())
"""

SCRIPTS["metaclasses"] = """
class Meta(type):
    registry = {}
    def __new__(mcls, name, bases, space, **kwargs):
        cls = super().__new__(mcls, name, bases, space)
        cls.kwargs = kwargs
        return cls
    def __init__(cls, name, bases, space, **kwargs):
        super().__init__(name, bases, space)
        Meta.registry[name] = cls
    @property
    def shout(cls):
        return cls.__name__.upper()
    def __len__(cls):
        return 7
    def __getitem__(cls, key):
        return cls.__name__, key

class Made(metaclass=Meta, option=3):
    def __init__(self, x):
        self.x = x

class Sub(Made):
    pass

class Singleton(type):
    instances = {}
    def __call__(cls, *args):
        if cls not in Singleton.instances:
            Singleton.instances[cls] = super().__call__(*args)
        return Singleton.instances[cls]

class Only(metaclass=Singleton):
    def __init__(self):
        self.n = 0

def use():
    return type(Made) is Meta, Made.shout, len(Sub), Sub[3], Made.kwargs, Made(2).x, Meta.registry["Sub"] is Sub

def check(call, fresh):
    assert call(use) == use() == fresh()(use)
    assert call(use)[0] is True
    back = call(lambda: Sub(5))
    assert type(back) is Sub and back.x == 5
    assert call(lambda c: c is Made, Made)
    assert call(lambda: Made) is Made
    assert call(lambda: Only() is Only())
    assert call(lambda: setattr(Only(), "n", 5)) is None
    assert call(lambda: Only().n) == 5, "a singleton of the script stays one in the worker"
"""

SCRIPTS["abstract classes"] = """
import abc, collections.abc

class Shape(abc.ABC):
    @property
    @abc.abstractmethod
    def area(self): ...
    @classmethod
    def __subclasshook__(cls, other):
        return True if "looks_like_a_shape" in vars(other) else NotImplemented

class Square(Shape):
    def __init__(self, a):
        self.a = a
    @property
    def area(self):
        return self.a ** 2

class Duck:
    looks_like_a_shape = True

class Stranger:
    pass

class Row(collections.abc.Sequence):
    def __init__(self, *items):
        self.items = items
    def __len__(self):
        return len(self.items)
    def __getitem__(self, i):
        return self.items[i]

def can_make():
    try:
        Shape()
    except TypeError:
        return False
    return True

def check(call, fresh):
    assert call(lambda s: s.area, Square(3)) == 9
    assert call(lambda: (isinstance(Square(1), Shape), issubclass(Duck, Shape), can_make())) == (True, True, False)
    assert call(lambda: list(reversed(Row(1, 2)))) == [2, 1]
    assert call(lambda: isinstance(Row(), collections.abc.Sequence))
    assert not call(lambda: isinstance(Stranger(), Shape))
    Shape.register(Stranger)
    assert isinstance(Stranger(), Shape)
    assert fresh()(lambda: isinstance(Stranger(), Shape)), "what was registered since the last call is registered there"
    assert call(lambda: isinstance(Stranger(), Shape)), "in a worker that has the class already, too"
    assert call(lambda x: isinstance(x, Shape), Stranger())
"""

SCRIPTS["enumerations"] = """
import enum

class Color(enum.Enum):
    RED = 1
    GREEN = 2
    ROUGE = 1
    def next(self):
        return Color(self.value % 2 + 1)
    @classmethod
    def _missing_(cls, value):
        return cls.RED

class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()
    BOTH = READ | WRITE

class Bits(enum.IntFlag):
    A = 1
    B = 2

class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2

class Text(str, enum.Enum):
    A = "a"

class Planet(enum.Enum):
    EARTH = (5.9, 6.3)
    def __init__(self, mass, radius):
        self.mass = mass
    @property
    def half(self):
        return self.mass / 2

class Outer:
    class Nested(enum.Enum):
        X = enum.auto()

Functional = enum.Enum("Functional", "CAT DOG")

def same(value):
    return value

def check(call, fresh):
    for member in (*Color, *Access, *Bits, *Level, *Text, *Planet, *Outer.Nested, *Functional):
        assert call(same, member) is member, member
        assert call(lambda m: m is type(m)[m.name], member), member
    assert call(same, Color.ROUGE) is Color.RED
    assert call(Color.RED.next) is Color.GREEN
    assert call(lambda: Color(99) is Color.RED)
    assert call(same, Access.READ | Access.WRITE) == Access.BOTH
    assert call(same, Bits.A | Bits.B) == 3
    assert call(lambda: Planet.EARTH.half) == Planet.EARTH.half
    assert call(same, {Color.RED: [Level.HIGH]}) == {Color.RED: [Level.HIGH]}
    assert list(call(same, {Color.RED: 1}))[0] is Color.RED
    assert call(lambda: list(Color)) == list(Color)
    assert fresh()(lambda: [m.name for m in Color]) == ["RED", "GREEN"]
    assert call(same, Color) is Color
"""

SCRIPTS["dataclasses and named tuples"] = """
import dataclasses, typing
from collections import namedtuple

@dataclasses.dataclass
class Plain:
    x: int
    y: list = dataclasses.field(default_factory=list)
    z: dataclasses.InitVar[int] = 0
    count: typing.ClassVar[int] = 5
    def __post_init__(self, z):
        self.w = z + 1

@dataclasses.dataclass(slots=True)
class Slotted:
    x: int
    y: str = "y"
    def both(self):
        return self.x, self.y

@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Frozen:
    x: int
    def plus(self, n):
        return dataclasses.replace(self, x=self.x + n)

@dataclasses.dataclass(slots=True)
class SlottedChild(Slotted):
    more: typing.Any = None
    def both(self):
        return super(SlottedChild, self).both() + (self.more,)

@dataclasses.dataclass(kw_only=True)
class KeywordOnly(Plain):
    k: int

class Named(typing.NamedTuple):
    a: int
    b: str = "b"
    def joined(self):
        return f"{self.a}{self.b}"

Old = namedtuple("Old", "p q", defaults=[3])

class SubOld(Old):
    __slots__ = ()
    def total(self):
        return self.p + self.q

VALUES = [Plain(1, [2], 3), Slotted(1), Frozen(1), SlottedChild(1, "b", Frozen(2)), KeywordOnly(x=1, k=2),
          Named(1), Old(1), SubOld(1, 2)]

def same(value):
    return value

def made_there():
    return [Plain(1, [2], 3), Slotted(1), Frozen(1), SlottedChild(1, "b", Frozen(2)), KeywordOnly(x=1, k=2),
            Named(1), Old(1), SubOld(1, 2)]

def check(call, fresh):
    for there in (call, fresh()):
        for value in VALUES:
            back = there(same, value)
            assert type(back) is type(value) and back == value, value
        assert there(made_there) == VALUES
        assert [type(v) for v in there(made_there)] == [type(v) for v in VALUES]
        assert there(lambda v: [type(x).__name__ for x in v], VALUES) == [type(v).__name__ for v in VALUES]
        assert there(Frozen(1).plus, 2) == Frozen(3)
        assert there(SlottedChild(1, "b", 2).both) == (1, "b", 2)
        assert there(Named(1).joined) == "1b"
        assert there(lambda: SubOld(1).total()) == 4
        assert there(lambda: (Plain.count, [f.name for f in dataclasses.fields(Plain)])) == (5, ["x", "y"])
        assert there(lambda: dataclasses.asdict(Plain(1))) == {"x": 1, "y": []}
        assert there(lambda: Frozen(1) < Frozen(2))
        assert there(lambda: hasattr(Slotted(1), "__dict__")) is False
        assert there(lambda s: s.w, Plain(1, z=4)) == 5
"""

SCRIPTS["what typing makes"] = """
import typing
from typing import Any, Generic, Literal, Optional, Protocol, TypedDict, TypeVar, Union

T = TypeVar("T", bound="Box")
K = TypeVar("K")

class Box(Generic[K]):
    def __init__(self, item: K) -> None:
        self.item = item
    def get(self) -> K:
        return self.item

class IntBox(Box[int]):
    pass

@typing.runtime_checkable
class HasGet(Protocol):
    def get(self) -> Any: ...

class Movie(TypedDict, total=False):
    title: str
    year: int

Alias = dict[str, list[Box[int]]]
UserId = typing.NewType("UserId", int)
Mode = Literal["a", "b"]

def typed(x: Optional[Box[int]], y: Union[int, str] = 1, *rest: Movie, **options: Alias) -> Mode:
    return "a"

class Fluent:
    child: "Fluent | None" = None
    def chain(self: T) -> T:
        return self

def same(value):
    return value

def check(call, fresh):
    for there in (call, fresh()):
        assert there(lambda b: b.get(), Box[int](5)) == 5
        assert type(there(same, IntBox(3))) is IntBox
        assert there(lambda: (isinstance(Box(1), HasGet), isinstance(3, HasGet))) == (True, False)
        assert there(same, Movie(title="x", year=1)) == {"title": "x", "year": 1}
        assert there(lambda: Movie(title="t")) == {"title": "t"}
        assert there(lambda: IntBox.__orig_bases__ == (Box[int],))
        assert there(lambda: typing.get_type_hints(typed)["return"]) == Literal["a", "b"]
        assert there(lambda: sorted(typing.get_type_hints(typed))) == ["options", "rest", "return", "x", "y"]
        assert there(lambda: sorted(Movie.__annotations__)) == ["title", "year"]
        assert there(same, Box[int]) == Box[int]
        assert there(same, Alias) == Alias
        assert there(same, T) is T
        assert there(same, [UserId, K, Mode]) == [UserId, K, Mode]
        assert there(lambda: UserId(3)) == 3
        assert there(lambda: typing.get_args(Box[K])[0] is K)
        assert there(typed, None) == "a"
        assert there(same, Movie) is Movie
        assert there(same, HasGet) is HasGet
"""

SCRIPTS["postponed annotations"] = """
from __future__ import annotations
import dataclasses, typing

@dataclasses.dataclass
class Tree:
    value: int
    left: Tree | None = None
    right: typing.Optional[Tree] = None
    total: typing.ClassVar[int] = 3

def depth(tree: Tree | None) -> int:
    return 0 if tree is None else 1 + max(depth(tree.left), depth(tree.right))

def hints():
    return typing.get_type_hints(depth)["return"] is int, [f.name for f in dataclasses.fields(Tree)]

def nested() -> NotDefinedAnywhere:
    def inner(x: AlsoNot) -> Tree:
        return Tree(x)
    return inner

def check(call, fresh):
    for there in (call, fresh()):
        assert there(depth, Tree(1, Tree(2, Tree(3)))) == 3
        assert there(hints) == (True, ["value", "left", "right"])
        assert there(nested(), 4) == Tree(4)
        assert there(lambda: depth.__annotations__) == {"tree": "Tree | None", "return": "int"}
        assert there(lambda: Tree.__annotations__["left"]) == "Tree | None"
"""

SCRIPTS["a class defined anew"] = """
def define(n):
    exec(f'''
class Changing:
    version = {n}
    def __init__(self):
        self.made_by = {n}
    def which(self):
        return {n}
    def parent(self):
        return super().__repr__()[:1]
''', globals())

define(1)

class Child(Changing):
    def which(self):
        return "child of", super().which()

def same(value):
    return value

def new_there():
    return Changing().which()

def check(call, fresh):
    old, old_class = Changing(), Changing
    assert call(new_there) == 1
    assert call(Child().which) == ("child of", 1)
    define(2)
    assert call(new_there) == 2
    assert call(lambda c: c.which(), Changing()) == 2
    assert call(lambda c: (c.which(), type(c).version), old) == (1, 1), "an instance of the old class stays one"
    assert call(lambda a, b: (a.which(), b.which(), type(a) is type(b)), old, Changing()) == (1, 2, False)
    assert call(lambda c: c.parent(), old) == "<"
    assert type(call(same, old)) is old_class
    assert type(call(same, Changing())) is Changing
    assert type(call(lambda: Changing())) is Changing
    assert Child().which() == ("child of", 1)
    assert call(Child().which) == ("child of", 1)
    assert fresh()(Child().which) == ("child of", 1), "a base that was defined anew since is still the old one"
    assert fresh()(lambda: Child().made_by) == 1
    assert fresh()(lambda c: c.which(), old) == 1
    assert fresh()(new_there) == 2
"""

SCRIPTS["a function defined anew"] = """
def define(n):
    exec(f"def changing(x=0):\\n    return {n}, x", globals())

define(1)
alias = changing
table = {"f": changing}

class Uses:
    method = changing
    def run(self):
        return changing(1)

def use():
    return changing(), alias(), table["f"]()

def default(f=changing):
    return f()

def check(call, fresh):
    assert call(use) == ((1, 0), (1, 0), (1, 0))
    assert call(default) == (1, 0)
    assert call(Uses().run) == (1, 1)
    define(2)
    assert use() == ((2, 0), (1, 0), (1, 0))
    assert call(use) == use()
    assert fresh()(use) == use(), "a name that still holds the old function holds the old one"
    assert call(default) == fresh()(default) == (1, 0)
    assert call(Uses().run) == fresh()(Uses().run) == (2, 1)
    assert fresh()(lambda: Uses.method()) == (1, 0)
    define(3)
    assert call(use) == use() == fresh()(use)
"""

SCRIPTS["classes and functions changed in place"] = """
class Thing:
    factor = 2
    table = [1]
    def run(self):
        return self.factor, list(self.table), getattr(self, "late", None)

class Sub(Thing):
    pass

def function(x=1, *, y=2):
    return x, y

def other(x=1, *, y=2):
    return "other", x, y

n = 0

def make():
    n = 1
    def get():
        return n
    def put(value):
        nonlocal n
        n = value
    return get, put

get, put = make()

def use():
    return Sub().run(), function(), get()

def check(call, fresh):
    def same():
        here = use()
        assert call(use) == here, (call(use), here)
        assert fresh()(use) == here, (fresh()(use), here)
    same()
    Thing.factor = 3
    same()
    Thing.table.append(2)
    same()
    Thing.late = "late"
    same()
    del Thing.late
    assert use()[0][2] is None
    assert fresh()(use) == use()
    Thing.run = lambda self: "replaced"
    same()
    function.__defaults__ = (5,)
    same()
    function.__kwdefaults__["y"] = 6
    same()
    function.__kwdefaults__ = {"y": 7}
    same()
    function.__code__ = other.__code__
    same()
    put(9)
    same()
"""

SCRIPTS["globals that stay and globals that change"] = """
big = list(range(50_000))
table = {"a": [1]}
small = 1
same_object = object()

def identities():
    return id(big), id(table), id(same_object)

def touch():
    big.append("touched")
    return len(big)

def use():
    return len(big), table["a"], small

def put(value):
    global small
    small = value

def check(call, fresh):
    first = call(identities)
    assert call(identities) == first, "what has not changed is not set again"
    assert call(touch) == 50_001 and call(touch) == 50_002, "what a task did to it stays"
    assert len(big) == 50_000
    table["a"].append(2)
    assert call(use) == (50_002, [1, 2], 1), "what the caller changed is seen, the rest stays"
    assert call(identities)[0] == first[0] and call(identities)[2] == first[2]
    call(put, 5)
    assert call(use)[2] == 5
    globals()["small"] = 1.5
    assert call(use)[2] == 1.5
    big.append(0)
    assert call(use)[0] == 50_001, "the caller's is set anew"
    assert call(identities)[0] != first[0]
    globals()["small"] = None
    assert call(use)[2] is None
    globals()["late"] = 7
    assert call(lambda: late) == 7
    assert fresh()(use) == (50_001, [1, 2], None)
"""

SCRIPTS["callables that are not functions"] = """
import functools, operator

class Callable:
    def __init__(self, n):
        self.n = n
    def __call__(self, x):
        return self.n + x
    def method(self, x, *, y=0):
        return self.n * x + y
    @classmethod
    def make(cls, n):
        return cls(n)

@functools.singledispatch
def describe(x):
    return "object"

@describe.register
def _(x: int):
    return "int"

@describe.register
def _(x: Callable):
    return "callable"

total_order = functools.total_ordering(type("Ordered", (), {
    "__module__": __name__, "__init__": lambda self, n: setattr(self, "n", n),
    "__eq__": lambda self, other: self.n == other.n, "__lt__": lambda self, other: self.n < other.n}))

def check(call, fresh):
    for there in (call, fresh()):
        assert there(Callable(1), 2) == 3
        assert there(Callable(2).method, 3, y=4) == 10
        assert there(functools.partial(Callable(2).method, 3, y=1)) == 7
        assert type(there(Callable.make, 3)) is Callable
        assert there(operator.methodcaller("method", 3), Callable(2)) == 6
        assert there(operator.attrgetter("n"), Callable(2)) == 2
        assert [there(describe, x) for x in (1, "x", Callable(1))] == ["int", "object", "callable"]
        assert there(functools.cmp_to_key(lambda a, b: b - a)(1).__class__.__name__.upper) == "KEYWRAPPER"
        assert there(lambda: total_order(1) <= total_order(2))
        assert there(str.upper, "x") == "X"
        assert there([1, 2].__len__) == 2
        assert there(functools.reduce, lambda a, b: a * b, [1, 2, 3]) == 6
"""

SCRIPTS["exceptions of the script"] = """
class Wrong(Exception):
    def __init__(self, code, *, hint):
        super().__init__(f"{code} ({hint})")
        self.code = code
        self.hint = hint

class Deep(Wrong, ValueError):
    pass

def fail(cls):
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise cls(5, hint="h") from error

def give():
    return [Deep(1, hint="x"), {"e": Wrong(2, hint="y")}]

def check(call, fresh):
    for there in (call, fresh()):
        try:
            there(fail, Deep)
        except Deep as error:
            assert (type(error), error.code, error.hint, str(error)) == (Deep, 5, "h", "5 (h)")
            assert type(error.__cause__) is KeyError
        else:
            raise AssertionError
        one, other = there(give)
        assert type(one) is Deep and type(other["e"]) is Wrong and other["e"].hint == "y"
        assert there(lambda e: (type(e) is Wrong, e.code), Wrong(3, hint="z")) == (True, 3)
        try:
            there(lambda: 1 / 0)
        except ZeroDivisionError:
            pass
"""

SCRIPTS["modules as globals"] = """
import os.path, sys, json as renamed
import xml.dom
from collections import OrderedDict, abc
from importlib import import_module

me = sys.modules[__name__]
value = 3

def use():
    return (os.path.join("a", "b"), renamed.dumps([1]), xml.dom.__name__, OrderedDict(a=1), abc.Sized.__name__,
            sys.maxsize, __name__)

def check(call, fresh):
    for there in (call, fresh()):
        assert there(use) == use()
        assert there(lambda: (me.value, value)) == (3, 3)
        assert there(lambda: me is sys.modules[__name__])
        assert there(lambda: me.use is use)
        assert there(lambda m: m.dumps([2]), renamed) == "[2]"
        assert there(lambda: renamed) is renamed
        assert there(lambda: import_module("json") is renamed)
"""

SCRIPTS["a class defined anew, named in a text beside it"] = """
def define(n):
    exec(f'''
class Changing:
    def which(self):
        return {n}
def changing():
    return {n}
''', globals())

define(1)

def which(name, made):
    return name, made.which()

def run(name, function):
    return name, function()

def check(call, fresh):
    assert call(which, "Changing", Changing()) == ("Changing", 1)
    assert call(run, "changing", changing) == ("changing", 1)
    define(2)
    assert call(which, "Changing", Changing()) == ("Changing", 2), "the class of the text's name is the new one"
    assert call(run, "changing", changing) == ("changing", 2)
    define(3)
    assert call(which, Changing.__name__, Changing()) == ("Changing", 3)
    assert call(run, changing.__name__, changing) == ("changing", 3)
    assert fresh()(which, "Changing", Changing()) == ("Changing", 3)
"""

SCRIPTS["what is registered or emptied after a first call"] = """
import abc

class Marker(abc.ABC):
    pass

class Outer:
    class Inner:
        n = 1

alias = Outer.Inner

def make():
    x = 1
    def get():
        return x
    def drop():
        nonlocal x
        del x
    return get, drop

get, drop = make()

def is_marked():
    return isinstance(1, Marker)

def inner():
    return alias.n

def check(call, fresh):
    assert call(is_marked) is False
    assert call(inner) == 1
    assert call(get) == 1
    Marker.register(int)
    assert call(is_marked) is fresh()(is_marked) is True
    class Other:
        n = 2
    Outer.Inner = Other
    assert call(inner) == fresh()(inner) == inner() == 1
    drop()
    for there in (call, fresh()):
        try:
            there(get)
        except NameError:
            pass
        else:
            raise AssertionError("the variable is gone")
"""

SCRIPTS["what pickles as a name"] = """
import functools, typing

class Sentinel:
    def __reduce__(self):
        return "MISSING"

MISSING = Sentinel()

@functools.lru_cache(maxsize=3)
def cached(x):
    return [x]

T = typing.TypeVar("T")
UserId = typing.NewType("UserId", int)

def is_missing(value=MISSING):
    return value is MISSING

def same(value):
    return value

def check(call, fresh):
    for there in (call, fresh()):
        assert there(is_missing)
        assert there(is_missing, MISSING)
        assert not there(is_missing, 1)
        assert there(same, [MISSING, cached, T, UserId]) == [MISSING, cached, T, UserId]
        assert there(same, MISSING) is MISSING
        assert there(cached, 1) == [1]
        assert there(lambda: cached(1) is cached(1) and cached.cache_parameters()["maxsize"] == 3)
        assert there(lambda: UserId(1)) == 1
"""
