"""Scripts: what is defined in ``__main__`` behaves in workers as with the standard library.

Each test writes a script as a user would, runs it, and expects ``ok`` and nothing else.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.child import quiet, run_python, run_script

# -- state in a worker -----------------------------------------------------------------

INITIALIZER = """
import multiprocessing, sys
KIND = sys.argv[1]

X = "the caller's"

def init(v):
    global X, Y
    X = v
    Y = [v]

def work(i):
    Y.append(i)
    return X + i, len(Y)

def run(pool_map):
    assert pool_map(work, [1, 2, 3]) == [(101, 2), (102, 3), (103, 4)]

if __name__ == "__main__":
    if KIND == "loky":
        import loky
        with loky.ProcessPoolExecutor(1, initializer=init, initargs=(100,)) as executor:
            try:
                executor.submit(work, 1).result()
            except NameError as error:
                print(error)
                sys.exit(7)
    elif KIND == "spawn":
        with multiprocessing.get_context("spawn").Pool(1, init, (100,)) as pool:
            run(pool.map)
    elif KIND == "Pool":
        import safemp
        with safemp.Pool(1, init, (100,)) as pool:
            run(pool.map)
    else:
        import safemp
        with safemp.SafeExecutor(1, initializer=init, initargs=(100,)) as executor:
            run(lambda fn, items: list(executor.map(fn, items)))
            assert [executor.submit(work, i).result() for i in (5, 6)] == [(105, 5), (106, 6)]
    assert X == "the caller's"
    assert "Y" not in globals()
    print("ok")
"""


def test_loky_forgets_what_an_initializer_has_set(tmp_path: Path) -> None:
    """The idiom of every tutorial ends in a ``NameError`` there."""
    ended = run_script(tmp_path, INITIALIZER, "loky")

    assert ended.returncode == 7, str(ended)
    assert "'Y' is not defined" in ended.out


@pytest.mark.parametrize("kind", ["spawn", "Pool", "SafeExecutor"])
def test_an_initializer_sets_globals_that_tasks_read(tmp_path: Path, kind: str) -> None:
    """``global X; X = v`` in the initializer, ``X`` in the task; the caller's own ``X`` stays."""
    ended = run_script(tmp_path, INITIALIZER, kind)

    assert quiet(ended), str(ended)


CACHE = """
import safemp

cache = {}
count = 0

def fill(key, value):
    global count
    count += 1
    cache[key] = value
    return count

def read():
    return dict(cache), count

def clear():
    cache.clear()

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(fill, "a", 1).result() == 1
        assert executor.submit(fill, "b", 2).result() == 2
        assert executor.submit(read).result() == ({"a": 1, "b": 2}, 2)
        assert list(executor.map(fill, "cd", [3, 4])) == [3, 4]
        assert executor.submit(read).result() == ({"a": 1, "b": 2, "c": 3, "d": 4}, 4)
        executor.submit(clear).result()
        assert executor.submit(read).result() == ({}, 4)
        assert executor.submit(lambda: len(cache) + count).result() == 4
    assert (cache, count) == ({}, 0)
    with safemp.Pool(1) as pool:
        assert pool.apply(fill, ("a", 1)) == 1
        assert pool.map(lambda key: fill(key, 2), "bc") == [2, 3]
        assert pool.apply(read) == ({"a": 1, "b": 2, "c": 2}, 3)
    print("ok")
"""


def test_a_cache_that_a_task_fills_is_found_by_the_next(tmp_path: Path) -> None:
    """A worker keeps the globals of ``__main__`` for its life; the caller's stay as they were."""
    ended = run_script(tmp_path, CACHE)

    assert quiet(ended), str(ended)


CHANGES = """
import safemp

factor = 2
table = {"a": 1}
unrelated = 0
seen = []

def work(x):
    seen.append(x)
    return x * factor, table["a"], len(seen)

def set_own(value):
    global factor
    factor = value

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(work, 3).result() == (6, 1, 1)
        factor = 10
        assert executor.submit(work, 3).result() == (30, 1, 2)
        table["a"] = 5
        assert executor.submit(work, 3).result() == (30, 5, 3)
        table = {"a": 6}
        unrelated = 1
        assert executor.submit(work, 3).result() == (30, 6, 4)
        executor.submit(set_own, 7).result()
        assert executor.submit(work, 3).result() == (21, 6, 5), "the worker's own change stays"
        table["a"] = 8
        assert executor.submit(work, 3).result() == (21, 8, 6), "another global's change does not undo it"
        factor = 11
        assert executor.submit(work, 3).result() == (33, 8, 7), "the caller's later change is seen"
        assert list(executor.map(work, [1, 2])) == [(11, 8, 8), (22, 8, 9)]
        factor = 12
        assert list(executor.map(work, [1, 2])) == [(12, 8, 10), (24, 8, 11)]
        assert list(safemp.map(lambda x: x * factor, [1, 2])) == [12, 24]
        factor = 13
        assert list(safemp.map(lambda x: x * factor, [1, 2])) == [13, 26]
    assert seen == []
    print("ok")
"""


def test_a_change_of_the_callers_is_seen_and_one_of_the_workers_stays(tmp_path: Path) -> None:
    """A global is set in a warm worker again only when the caller's value has changed."""
    ended = run_script(tmp_path, CHANGES)

    assert quiet(ended), str(ended)


# -- what a script looks like ----------------------------------------------------------

NO_GUARD = """
import os, safemp

with open("runs", "a") as runs:
    runs.write(f"{os.getpid()}\\n")

def work(x):
    return x * x

with safemp.Pool(2) as pool:
    assert pool.map(work, range(5)) == [0, 1, 4, 9, 16]
executor = safemp.SafeExecutor(2)
assert executor.submit(work, 3).result() == 9
assert safemp.map(work, [4]) == [16]
print("ok")
"""


def test_a_script_without_a_guard_runs_once(tmp_path: Path) -> None:
    """No ``if __name__ == "__main__"``: workers never import the script."""
    ended = run_script(tmp_path, NO_GUARD)

    assert quiet(ended), str(ended)
    assert len((tmp_path / "runs").read_text().splitlines()) == 1


UNPICKLABLE_GLOBALS = """
import contextvars, itertools, logging, re, socket, sys, threading
import safemp

lock = threading.Lock()
rlock = threading.RLock()
condition = threading.Condition()
event_of_the_worker = threading.local()
var = contextvars.ContextVar("var", default=5)
log = logging.getLogger("script.task")
pattern = re.compile("a+")
stream = sys.stderr
module = itertools

def task(i):
    with lock, rlock, condition:
        log.debug("task %d", i)
        event_of_the_worker.value = i
        return i + var.get() + len(pattern.findall("aa b a")) + next(module.count(0))

def same_lock():
    return id(lock), id(var)

def set_var(value):
    var.set(value)

def held():
    return lock.acquire(blocking=False)

def use_stream():
    return stream is sys.stderr

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(task, 1).result() == 8
        assert list(executor.map(task, range(3))) == [7, 8, 9]
        assert executor.submit(same_lock).result() == executor.submit(same_lock).result(), "one lock per worker"
        assert executor.submit(use_stream).result()
        with lock:
            assert executor.submit(task, 2).result() == 9, "held here is not held there"
        assert executor.submit(held).result()
        assert not executor.submit(held).result(), "the worker's lock keeps its state"
    print("ok")
"""


def test_globals_that_pickle_refuses_are_no_obstacle(tmp_path: Path) -> None:
    """A lock, a ``ContextVar``, a logger, a module or a stream of the script works in its tasks, one per worker."""
    ended = run_script(tmp_path, UNPICKLABLE_GLOBALS)

    assert quiet(ended), str(ended)


FUNCTIONS = """
import functools, safemp

def fact(n):
    return 1 if n < 2 else n * fact(n - 1)

def is_even(n):
    return n == 0 or is_odd(n - 1)

def is_odd(n):
    return n != 0 and is_even(n - 1)

def decorate(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return [function(*args, **kwargs)]
    return wrapper

@decorate
def decorated(x):
    "says something"
    return fact(x)

def counter():
    n = 0
    def step():
        nonlocal n
        n += 1
        return n
    return step

def with_default(x, table={"a": 1}, *, more=fact):
    return table["a"] + more(x)

def generate(n):
    yield from (i * i for i in range(n))

def use_generator(n):
    return list(generate(n))

def names():
    return __name__, fact.__module__, fact.__qualname__, decorated.__doc__

if __name__ == "__main__":
    with safemp.Pool(2) as pool:
        assert pool.map(fact, range(5)) == [1, 1, 2, 6, 24]
        assert pool.map(is_even, range(4)) == [True, False, True, False]
        assert pool.map(decorated, [3]) == [[6]]
        assert pool.apply(counter()) == 1
        assert pool.apply(with_default, (3,)) == 7
        assert pool.apply(use_generator, (4,)) == [0, 1, 4, 9]
        assert pool.apply(functools.partial(with_default, 3, more=is_even)) == 1
        assert pool.apply(names) == ("__main__", "__main__", "fact", "says something")
        assert pool.map(lambda n: (lambda k: fact(k))(n), [5]) == [120]
        back = pool.apply(lambda: fact)
        assert back(5) == 120
        assert back is fact, "a function of the script's that comes back is the script's"
    print("ok")
"""


def test_functions_call_each_other_and_themselves(tmp_path: Path) -> None:
    """Recursion, decorators, caches, closures, defaults and generators of a script work in its tasks."""
    ended = run_script(tmp_path, FUNCTIONS)

    assert quiet(ended), str(ended)


CLASSES = """
import abc, dataclasses, enum, typing
from collections import namedtuple
import safemp

class Base:
    registry = []
    def __init__(self, x):
        self.x = x
    def value(self):
        return self.x
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Base.registry.append(cls.__name__)

class Child(Base):
    def __init__(self, x):
        super().__init__(x)
        self.extra = x + 1
    def value(self):
        return super().value() * 10 + self.extra
    @classmethod
    def make(cls, x):
        return cls(x)
    @staticmethod
    def twice(x):
        return 2 * x
    @property
    def prop(self):
        return __class__.__name__
    def __eq__(self, other):
        return type(other) is Child and (self.x, self.extra) == (other.x, other.extra)
    __hash__ = None
    class Inner:
        pass

@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: int = 2
    def moved(self):
        return dataclasses.replace(self, x=self.x + 1)

class Color(enum.Enum):
    RED = 1
    BLUE = 2
    def other(self):
        return Color.BLUE if self is Color.RED else Color.RED

class Flags(enum.Flag):
    A = enum.auto()
    B = enum.auto()

class Number(enum.IntEnum):
    ONE = 1

class Named(typing.NamedTuple):
    a: int
    b: str = "b"

Old = namedtuple("Old", "p q")

class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self): ...

class Square(Shape):
    def __init__(self, side):
        self.side = side
    def area(self):
        return self.side ** 2

class MyError(ValueError):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code

T = typing.TypeVar("T")

class Box(typing.Generic[T]):
    def __init__(self, item: T) -> None:
        self.item = item

def same(value):
    return value

def check(value):
    return type(value).__name__, isinstance(value, (Base, Point, Color)), value

def make(name):
    return {"child": lambda: Child.make(1), "point": lambda: Point(1),
            "named": lambda: Named(1), "old": lambda: Old(1, 2), "square": lambda: Square(2),
            "inner": Child.Inner, "box": lambda: Box(1)}[name]()

def fail():
    raise MyError(code=5)

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        call = lambda fn, *args: executor.submit(fn, *args).result()
        kinds = {"child": Child, "point": Point, "named": Named, "old": Old,
                 "square": Square, "inner": Child.Inner, "box": Box}
        for name, kind in kinds.items():
            made = call(make, name)
            assert type(made) is kind, (name, type(made), kind)
            assert type(call(same, made)) is kind
        assert call(make, "child") == Child(1)
        assert call(make, "point") == Point(1)
        assert call(make, "square").area() == 4
        assert call(Child.make, 3).value() == 34
        assert call(Child.twice, 3) == 6
        assert call(Child(3).value) == 34
        assert call(lambda c: c.prop, Child(1)) == "Child"
        assert call(Point(1).moved) == Point(2)
        assert call(check, Child(1)) == ("Child", True, Child(1))
        for member in (*Color, *Flags, Number.ONE):
            assert call(same, member) is member
        assert call(Color.RED.other) is Color.BLUE
        assert call(same, {"deep": [Color.RED]})["deep"][0] is Color.RED
        assert call(same, Flags.A | Flags.B) == Flags.A | Flags.B
        assert call(lambda c: c is Color.RED, Color.RED)
        assert call(lambda: isinstance(Square(1), Shape))
        assert call(same, Child) is Child
        assert call(same, [Color, MyError]) == [Color, MyError]
        call(lambda: setattr(Child, "mark", 5))
        assert call(lambda: Child.mark) == 5, "and it is one class there"
        assert not hasattr(Child, "mark")
        try:
            call(fail)
        except MyError as error:
            assert type(error) is MyError and error.code == 5 and str(error) == "code 5"
        else:
            raise AssertionError
        assert [type(p) for p in executor.map(make, ["point"] * 3)] == [Point] * 3
    print("ok")
"""


def test_classes_of_a_script_keep_their_identity(tmp_path: Path) -> None:
    """An instance that comes back is one of the caller's class, an enum member is the member; ``super`` works."""
    ended = run_script(tmp_path, CLASSES)

    assert quiet(ended), str(ended)


SLOTS = """
import dataclasses, safemp

class Plain:
    __slots__ = ("x", "_y", "__z")
    def __init__(self, x):
        self.x = x
        self.__z = x + 1
    def z(self):
        return self.__z

class Child(Plain):
    __slots__ = ("more",)
    def __init__(self, x):
        super().__init__(x)
        self.more = [x]

class WithDict(Plain):
    pass

@dataclasses.dataclass(slots=True)
class Data:
    x: int
    y: list = dataclasses.field(default_factory=list)

@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    x: int

def make(name):
    made = {"Plain": Plain, "Child": Child, "Data": Data, "Frozen": Frozen, "WithDict": WithDict}[name](5)
    return made, hasattr(made, "__dict__")

def same(value):
    return value

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        for cls in (Plain, Child, Data, Frozen, WithDict):
            made, has_dict = executor.submit(make, cls.__name__).result()
            assert type(made) is cls, (type(made), cls)
            assert made.x == 5
            assert has_dict == hasattr(made, "__dict__") == (cls is WithDict), "it has slots in the worker, too"
            back = executor.submit(same, made).result()
            assert type(back) is cls and back.x == 5
            if isinstance(made, Plain):
                assert back.z() == 6
        assert executor.submit(same, Child(1)).result().more == [1]
        assert executor.submit(same, Data(1, [2])).result() == Data(1, [2])
        assert executor.submit(same, Frozen(1)).result() == Frozen(1)
    print("ok")
"""


def test_classes_with_slots_come_back(tmp_path: Path) -> None:
    """Slots of a script's class are slots in the worker; ``dataclass(slots=True)`` among them."""
    ended = run_script(tmp_path, SLOTS)

    assert quiet(ended), str(ended)


BY_NAME = """
import contextlib, functools, typing
import safemp

@functools.lru_cache(maxsize=None)
def cached(x):
    return [x]

@functools.cache
def also_cached(x):
    return cached(x) + [1]

@contextlib.contextmanager
def managed(x):
    yield x + 1

T = typing.TypeVar("T")
UserId = typing.NewType("UserId", int)

class Sentinel:
    def __reduce__(self):
        return "MISSING"

MISSING = Sentinel()

def use(x):
    with managed(x) as y:
        return cached(y), also_cached(y), UserId(y), MISSING.__class__.__name__, T.__name__

def same_list():
    return cached(1) is cached(1)

def same(value):
    return value

def is_missing(value=MISSING):
    return value is MISSING

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        call = lambda fn, *args: executor.submit(fn, *args).result()
        assert call(use, 1) == ([2], [2, 1], 2, "Sentinel", "T")
        assert call(cached, 4) == [4]
        assert list(executor.map(cached, [4, 5])) == [[4], [5]]
        assert call(also_cached, 4) == [4, 1]
        assert call(same_list)
        assert call(lambda: cached.cache_info().misses) >= 2
        assert call(same, cached) is cached
        assert call(same, MISSING) is MISSING
        assert call(is_missing, MISSING)
        assert call(is_missing)
        assert call(same, [T, UserId]) == [T, UserId]
    print("ok")
"""


def test_what_pickles_as_a_name_of_the_script_is_found(tmp_path: Path) -> None:
    """A function under ``lru_cache``, a ``TypeVar``, a sentinel: one per worker, and the caller's on its return."""
    ended = run_script(tmp_path, BY_NAME)

    assert quiet(ended), str(ended)


SINGLEDISPATCH = """
import functools, safemp

@functools.singledispatch
def describe(x):
    return "object"

class Thing:
    pass

@describe.register
def _(x: int):
    return "int"

@describe.register
def _(x: Thing):
    return "Thing"

def work(x):
    return describe(x)

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        assert list(executor.map(work, [1, "x", Thing()])) == ["int", "object", "Thing"]
        assert list(executor.map(describe, [1, "x", Thing()])) == ["int", "object", "Thing"]
    print("ok")
"""


def test_generic_functions_of_a_script_work(tmp_path: Path) -> None:
    """``functools.singledispatch`` in a script dispatches in the worker as in the caller."""
    ended = run_script(tmp_path, SINGLEDISPATCH)

    assert quiet(ended), str(ended)


CLASS_HOOKS = """
import safemp

class Base:
    registry = []
    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        Base.registry.append(cls.__name__)

class Meta(type):
    made = []
    def __new__(mcls, name, bases, namespace):
        cls = super().__new__(mcls, name, bases, namespace)
        mcls.made.append(name)
        return cls

class Child(Base):
    pass

class WithMeta(metaclass=Meta):
    pass

def look(*classes):
    return list(Base.registry), list(Meta.made), [Child.__name__, WithMeta.__name__]

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        for _ in range(2):
            found = executor.submit(look, Child, WithMeta).result()
            assert found == (["Child"], ["WithMeta"], ["Child", "WithMeta"]), found
    assert (Base.registry, Meta.made) == (["Child"], ["WithMeta"])
    print("ok")
"""


def test_a_class_that_registers_itself_is_registered_once(tmp_path: Path) -> None:
    """``__init_subclass__`` and metaclasses have done their work in the caller; the worker's copy shows the same."""
    ended = run_script(tmp_path, CLASS_HOOKS)

    assert quiet(ended), str(ended)


OWN_PICKLE = """
import pickle, sys, typing
import safemp

class Thing:
    x: "Thing"
    def __init__(self, v):
        self.v = v

def own_pickle(thing):
    return pickle.loads(pickle.dumps(thing)).v

def hints():
    return typing.get_type_hints(Thing)["x"] is Thing

def main_module():
    import __main__
    return __main__.Thing is Thing and sys.modules["__main__"].__dict__ is globals()

def deep_copy(thing):
    import copy
    return type(copy.deepcopy(thing)) is Thing

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(own_pickle, Thing(4)).result() == 4
        assert executor.submit(hints).result()
        assert executor.submit(main_module).result()
        assert executor.submit(deep_copy, Thing(4)).result()
    print("ok")
"""


def test_a_task_may_pickle_and_import_main_itself(tmp_path: Path) -> None:
    """``import __main__``, type hints and a task's own use of pickle find the script's names."""
    ended = run_script(tmp_path, OWN_PICKLE)

    assert quiet(ended), str(ended)


TRACEBACK = """
import traceback, sys
import safemp

def fail(d):
    return 1 + d["a"]["b"]["c"]

def outer(d):
    return fail(d)

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        try:
            outer({"a": {"b": {}}})
        except KeyError:
            here = traceback.format_exc()
        try:
            executor.submit(outer, {"a": {"b": {}}}).result()
        except KeyError:
            there = traceback.format_exc()
    tail = here[here.index("in outer"):]
    assert there.endswith(tail), there
    print("ok")
"""


def test_a_scripts_lines_are_printed(tmp_path: Path) -> None:
    """A traceback ends with the very text that the same failure prints in the caller."""
    ended = run_script(tmp_path, TRACEBACK)

    assert quiet(ended), str(ended)


HELPER = """
STATE = []
LIMIT = 3

def push(x):
    STATE.append(x)
    return len(STATE)

def get_limit():
    return LIMIT

make = lambda: (lambda x: push(x))

class Holder:
    def method(self, x):
        return push(x)
"""

WITH_HELPER = """
import safemp
import helper

def work(x):
    return helper.push(x)

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(work, 1).result() == 1
        assert executor.submit(helper.push, 1).result() == 2
        assert executor.submit(helper.make(), 1).result() == 3, "a lambda of a module uses the module's own globals"
        assert executor.submit(helper.Holder().method, 1).result() == 4
        assert executor.submit(lambda x: helper.push(x), 1).result() == 5
        helper.LIMIT = 9
        assert executor.submit(helper.get_limit).result() == 3, "as with spawn: an imported module is the worker's own"
        assert helper.STATE == []
    print("ok")
"""


def test_a_module_beside_the_script_is_imported_in_the_worker(tmp_path: Path) -> None:
    """It is one module there, for functions sent by name and for lambdas alike."""
    (tmp_path / "helper.py").write_text(HELPER)
    ended = run_script(tmp_path, WITH_HELPER)

    assert quiet(ended), str(ended)


MODULE = """
import safemp
from . import sibling
from .sibling import LIMIT, double

count = 0

def work(x):
    global count
    count += 1
    from . import sibling as again
    assert again is sibling
    return double(x) + LIMIT + count

class Thing:
    def __init__(self, v):
        self.v = v

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(work, 3).result() == 17
        assert executor.submit(work, 3).result() == 18
        assert type(executor.submit(lambda v: Thing(v), 1).result()) is Thing
        assert executor.submit(lambda: (__name__, __package__)).result() == ("__main__", "package")
    print("ok")
"""


@pytest.mark.parametrize("name", ["package", "package.tool"])
def test_python_m_with_relative_imports(tmp_path: Path, name: str) -> None:
    """``python -m package`` and ``python -m package.tool`` work, imports inside functions included."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "sibling.py").write_text("LIMIT = 10\ndef double(x):\n    return 2 * x\n")
    (package / ("__main__.py" if name == "package" else "tool.py")).write_text(MODULE)
    ended = run_python("-m", name, cwd=tmp_path)

    assert quiet(ended), str(ended)


START_METHODS = """
import sys, safemp

X = 1

def init(v):
    global X
    X = v

def work(i):
    return X + i

class Thing:
    pass

def make():
    return Thing()

if __name__ == "__main__":
    with safemp.SafeExecutor(1, mp_context=sys.argv[1], initializer=init, initargs=(100,)) as executor:
        assert list(executor.map(work, range(3))) == [100, 101, 102]
        assert type(executor.submit(make).result()) is Thing
        assert executor.submit(lambda: type(make()).__name__).result() == "Thing"
    print("ok")
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork", "loky"])
def test_main_works_under_every_start_method(tmp_path: Path, method: str) -> None:
    """``__main__`` behaves the same, however the workers have started."""
    ended = run_script(tmp_path, START_METHODS, method)

    assert quiet(ended), str(ended)


FUTURE_FLAGS = """
from __future__ import annotations
import safemp
from dataclasses import dataclass

@dataclass
class Config:
    table: dict[str, list[int]]
    def total(self: Config) -> int:
        return sum(sum(v) for v in self.table.values())

def work(config: Config) -> Config:
    return Config({"total": [config.total()]})

if __name__ == "__main__":
    assert safemp.map(work, [Config({"a": [1, 2]})]) == [Config({"total": [3]})]
    print("ok")
"""


def test_postponed_annotations_are_no_obstacle(tmp_path: Path) -> None:
    """A script with ``from __future__ import annotations`` works."""
    ended = run_script(tmp_path, FUTURE_FLAGS)

    assert quiet(ended), str(ended)


# -- globals that hold one another -----------------------------------------------------

ONE_OBJECT = """
import sys, threading, weakref

class Config:
    scale = 1

class Model:
    def __init__(self, config, tables):
        self.config, self.tables = config, tables
    def predict(self, x): return x * self.config.scale + self.tables["one"]

class Cycle:
    pass

class Keeps:
    marker = None

cfg = Config()
tables = {"one": 1}
model = Model(cfg, tables)
models = {"a": [model]}
again = cfg
here, there = Cycle(), Cycle()
here.other, there.other = there, here
UNSET = object()
Keeps.marker = UNSET
lock = threading.Lock()
ready = threading.Condition(lock)
SEEN = {}

def get(default=UNSET): return "nothing" if default is UNSET else default
def see(key, seen=SEEN): seen[key] = True

def identities(_):
    see("x")
    with lock:
        ready.notify_all()
    return [
        model.config is cfg, model.tables is tables, models["a"][0] is model, again is cfg,
        here.other is there and there.other is here, get(), Keeps.marker is UNSET, Keeps().marker is UNSET, len(SEEN),
    ]

def init(scale): cfg.scale = scale
def predict(x): return model.predict(x)
def rescale(scale): cfg.scale = scale
def scale_of_config(_): return cfg.scale

if __name__ == "__main__":
    kind = sys.argv[1]
    if kind == "stock":
        from multiprocessing import Pool
    else:
        from safemp import Pool
    with Pool(1) as pool:
        print(pool.apply(identities, (0,)))
    with Pool(1, init, (7,)) as pool:
        print(pool.apply(predict, (3,)), pool.apply(scale_of_config, (0,)), pool.apply(predict, (3,)))
        pool.apply(rescale, (5,))
        print(pool.apply(predict, (3,)), pool.apply(predict, (3,)))
        if kind != "stock":  # whose workers never hear of a change here
            cfg.scale = 100
            assert pool.apply(predict, (3,)) == 301, pool.apply(predict, (3,))
            tables["one"] = 2
            assert pool.apply(predict, (3,)) == 302
            assert pool.apply(scale_of_config, (0,)) == 100
            assert pool.apply(identities, (0,))[:5] == [True] * 5
"""


def test_globals_that_share_an_object_share_it_in_the_worker(tmp_path: Path) -> None:
    """A default that is a marker, an instance that holds another, a table of both, a cycle: as in the script."""
    stock, ours = run_script(tmp_path, ONE_OBJECT, "stock"), run_script(tmp_path, ONE_OBJECT, "safemp")

    assert stock.out.startswith("[True, True, True, True, True, 'nothing', True, True, 1]\n22 7 22\n16 16\n"), str(
        stock
    )
    assert quiet(ours, out=stock.out), str(ours)


# -- parameters of types ---------------------------------------------------------------

PARAMETERS = """
import functools
import safemp
from typing import Callable, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

def logged(f: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(f)
    def inner(*args: P.args, **kwargs: P.kwargs) -> R: return f(*args, **kwargs)
    return inner

def deco(f: Callable[P, R]) -> Callable[P, R]: return f

def retry(n: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    def outer(f: Callable[P, R]) -> Callable[P, R]:
        def inner(*args: P.args, **kwargs: P.kwargs) -> R: return f(*args, **kwargs)
        return inner
    return outer

@logged
def work(x): return x + 1

@retry(3)
def again(x): return x + 1

def uses(x): return deco(work)(x)
def call(x): return again(x)
def itself(x): return P

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        print(*(executor.submit(f, 1).result() for f in (work, uses, call)), executor.submit(itself, 1).result() is P)
"""

ALIASES = """
import dataclasses, typing
import safemp

type Pair[T] = tuple[T, T]
type Number = int

def annotated(x: Pair[Number]) -> Number: return x
def looked_at(): return Number.__value__, Pair.__name__, len(Pair.__type_params__)
def generic[T, *Ts, **P](f: typing.Callable[P, T], *a: *Ts) -> T: return f(*a)
def calls(): return generic(abs, -1)

class Box[T]:
    def get(self) -> T: return 3

def boxed(): return Box[int]().get()

@dataclasses.dataclass
class Data[T]:
    x: T
    y: Number = 3

def made(): return Data[int](1)
def through(): return annotated(1)

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        print(*(executor.submit(f).result() for f in (looked_at, calls, boxed, made, through)))
"""

LAZY = """
import typing
import safemp
if typing.TYPE_CHECKING:
    from nowhere import Missing

type Json = dict[str, Json] | list[Json] | str | int | None
type Tree[T] = T | list[Tree[T]]
type Nested[T: Nested] = list[T]
type Later = Node | Forest
type Forest = list[Later]
type Unknown = list[Missing]
type Optional[T] = Missing | T

class Node: kids: Later = ()
class Box[T: Missing]:
    def get(self) -> T: return 3
class Ord[T: Ord]: pass
class One[T: (int, Json)]: pass

def json(x: Json, y: Tree[int], z: Nested): return Json.__value__.__args__[1] == list[Json], Tree.__value__.__args__[1]
def later(x: Later): return Later.__value__.__args__[0] is Node, Forest.__value__
def unknown(x: Unknown, y: Optional[int]): return told(lambda: Unknown.__value__)
def bound[T: Missing](x: T): return told(lambda: bound.__type_params__[0].__bound__)
def constrained[T: (Missing, int)](x: T): return told(lambda: constrained.__type_params__[0].__constraints__)
def own[T: Json, *Ts, **P](x: T): return own.__type_params__, own.__type_params__[0].__bound__ is Json
def box(): return Box[int]().get(), told(lambda: Box.__type_params__[0].__bound__)
def itself(): return Ord.__type_params__[0].__bound__ is Ord, Ord.__parameters__ == Ord.__type_params__
def one(): return One.__type_params__[0].__constraints__, One.__type_params__[0].__infer_variance__
def params(): return Tree[int].__origin__ is Tree, Tree.__module__, Nested.__type_params__, Nested.__value__

def told(f):
    try: return f()
    except NameError as error: return str(error)

if __name__ == "__main__":
    calls = [(json, (1, 2, 3)), (later, (1,)), (unknown, (1, 2)), (bound, (1,)), (constrained, (1,)), (own, (1,)),
             (box, ()), (itself, ()), (one, ()), (params, ())]
    with safemp.Pool(1) as pool:
        for f, args in calls:
            print(f.__name__, str(pool.apply(f, args)) == str(f(*args)) or (pool.apply(f, args), f(*args)))
"""

DEFAULTS = """
import safemp

def f[T: int = bool, *Ts = *tuple[int], **P = [str]](x: T) -> T: return [p.__default__ for p in f.__type_params__]
class Box[T = int, U = Box]: pass
def box(x): return Box[str].__args__[0], Box.__type_params__[1].__default__ is Box, Box.__type_params__[0].__default__

if __name__ == "__main__":
    with safemp.Pool(1) as pool:
        print(pool.apply(f, (1,)) == f(1), pool.apply(box, (1,)) == box(1))
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_types_that_are_made_late_may_name_themselves_or_what_is_not_there(tmp_path: Path) -> None:
    """What an alias, a bound or constraints hold is the same in the worker, where there is anything."""
    ended = run_script(tmp_path, LAZY)

    assert quiet(ended, out="".join(f"{name} True\n" for name in re.findall(r"\((\w+), \(", LAZY))), str(ended)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="syntax of Python 3.13")
def test_parameters_of_types_keep_their_defaults(tmp_path: Path) -> None:
    """Those of functions and of classes, in which they may name the class."""
    assert quiet(run_script(tmp_path, DEFAULTS), out="True True\n")


@pytest.mark.parametrize(
    ("script", "prints"),
    [
        (PARAMETERS, "2 2 2 True\n"),
        pytest.param(
            ALIASES,
            "(<class 'int'>, 'Pair', 1) 1 3 Data(x=1, y=3) 1\n",
            marks=pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12"),
        ),
    ],
    ids=["ParamSpec", "aliases"],
)
def test_functions_may_be_annotated_with_parameters_of_types(tmp_path: Path, script: str, prints: str) -> None:
    """``ParamSpec`` in a decorator, ``type`` statements, brackets behind a function's name."""
    assert quiet(run_script(tmp_path, script), out=prints)


# -- what a program may have done to its process ---------------------------------------

DONE_BEFORE = {
    "a timeout for all sockets": "import socket; socket.setdefaulttimeout(30)",
    "SIGCHLD ignored": "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)",
}

USED = """
def square(x): return x * x

if __name__ == "__main__":
    import safemp
    {before}
    with safemp.SafeExecutor(2) as executor:
        print(list(executor.map(square, range(3))), executor.submit(square, 3).result())
    with safemp.Pool(2) as pool:
        print(pool.map(square, range(3)), pool.apply(square, (3,)))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX's")
@pytest.mark.parametrize("before", DONE_BEFORE)
def test_a_program_may_have_done_that_before(tmp_path: Path, before: str) -> None:
    """The standard library's pools work there, too."""
    ended = run_script(tmp_path, USED.format(before=DONE_BEFORE[before]))

    assert quiet(ended, out="[0, 1, 4] 9\n" * 2), str(ended)


# -- a task that interrupts itself -----------------------------------------------------

INTERRUPTS_ITSELF = """
import _thread, sys, threading, time

def limited(x):
    timer = threading.Timer(0.3, _thread.interrupt_main)
    timer.start()
    try:
        for _ in range(200):
            time.sleep(0.1)
    except KeyboardInterrupt:
        return "in time"
    finally:
        timer.cancel()
    return "ran on"

def late(x):
    threading.Timer(0.2, _thread.interrupt_main).start()
    return x

def raises(x):
    threading.Timer(0.3, _thread.interrupt_main).start()
    for _ in range(200):
        time.sleep(0.1)

if __name__ == "__main__":
    import safemp
    with safemp.SafeExecutor(1) as executor:
        print(executor.submit(limited, 1).result(), list(executor.map(limited, [1, 2])))
        print([executor.submit(late, i).result() for i in range(3)])
        time.sleep(0.5)
        print(type(executor.submit(raises, 1).exception()).__name__, executor.submit(abs, -1).result())
"""


def test_a_task_may_interrupt_itself(tmp_path: Path) -> None:
    """As decorators do that limit the time of a function. One that comes too late hits nobody."""
    ended = run_script(tmp_path, INTERRUPTS_ITSELF)

    assert quiet(ended, out="in time ['in time', 'in time']\n[0, 1, 2]\nKeyboardInterrupt 1\n"), str(ended)


# -- classes that cannot be made from their parts --------------------------------------

MODELS = """
import sys
import safemp

class Attribute:
    def __init__(self, owner): self.owner = owner
    def __reduce__(self): return getattr, (self.owner, "id")  # as SQLAlchemy's

class User:
    pass

User.id = Attribute(User)

def table(x): return type(User.id).__name__, x

if __name__ == "__main__":
    with safemp.SafeExecutor(1, mp_context=sys.argv[1] if len(sys.argv) > 1 else None) as executor:
        future = executor.submit(table, 1)
        print(future.exception() or future.result())
"""


def test_a_class_that_cannot_be_made_from_its_parts_is_refused_with_what_to_type(tmp_path: Path) -> None:
    """And that helps."""
    ended = run_script(tmp_path, MODELS)

    said = ended.out.splitlines()
    assert said[1] == "  reason: AttributeError: type object 'User' has no attribute 'id'", str(ended)
    assert said[2].startswith("  fix:    define in a module what this script defines"), str(ended)
    assert said[2].endswith('mp_context="spawn" (of a Pool: context="spawn")'), str(ended)
    assert quiet(run_script(tmp_path, MODELS, "spawn"), out="('Attribute', 1)\n")


STATE = """
import abc
import safemp

class App:
    version = 1
    routes = []

app = App()
client_calls = {"n": 0}

class Client:
    calls = 0

class Base(abc.ABC):
    pass

client, base = Client(), Base()
CACHES = {"a": {}, "b": {}}

def init(): app.db = "connection"
def use(): return getattr(app, "db", "LOST")
def count():
    client.n = getattr(client, "n", 0) + 1
    base.n = getattr(base, "n", 0) + 1
    return client.n, base.n

def fill(name, n):
    CACHES[name][n] = 1
    return {key: len(value) for key, value in CACHES.items()}

if __name__ == "__main__":
    with safemp.SafeExecutor(1, initializer=init) as executor:
        print(executor.submit(use).result())
        App.routes.append("other")
        print(executor.submit(use).result())
        for _ in range(3):
            Client.calls += 1
            Base.register(type("New", (), {}))
            print(executor.submit(count).result())
        for n in range(2):
            for name, cache in CACHES.items():  # a global, for a while
                found = executor.submit(fill, name, n).result()
        print(found)
"""


def test_what_a_worker_has_done_to_a_global_outlives_changes_of_others(tmp_path: Path) -> None:
    """Of its class, and of names that no code reads."""
    ended = run_script(tmp_path, STATE)

    assert quiet(ended, out="connection\nconnection\n(1, 1)\n(2, 2)\n(3, 3)\n{'a': 2, 'b': 2}\n"), str(ended)
