"""Scripts: what comes to a task by its name in ``__main__``, and not with its call, is there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.child import quiet, run_python, run_script

SHAPES = """
import abc, enum, functools, logging, os, pickle, re, sys, threading, typing
from collections import namedtuple
from dataclasses import dataclass, field

log = logging.getLogger(__name__)
WORD = re.compile(r"\\w+")
LIMITS = {"a": [1, 2], "b": (3,)}
lock = threading.Lock()
T = typing.TypeVar("T")
Point = namedtuple("Point", "x y")

@dataclass
class Item:
    n: int
    tags: list = field(default_factory=list)

@dataclass
class Slotted:
    __slots__ = ("n",)
    n: int

class Colour(enum.Enum):
    RED = 1
    BLUE = "b"
    def paint(self): return f"{self.name} {LIMITS['a']}"

class Flags(enum.IntFlag):
    A = enum.auto()
    B = enum.auto()

class Named(typing.NamedTuple):
    x: int = 1

class Base(abc.ABC):
    kinds: dict = {}
    @abc.abstractmethod
    def run(self): ...

class Child(Base):
    def __init__(self, n):
        super().__init__()
        self.n = n
    def run(self):
        log.debug("hello")
        with lock:
            return WORD.findall("ab cd"), self.n, LIMITS["b"], helper(self.n), self.twice, self.once()
    @property
    def twice(self): return 2 * self.n
    @functools.cached_property
    def kept(self): return 3
    @functools.lru_cache
    def once(self): return 4

class Boom(ValueError):
    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code
    def __reduce__(self): return functools.partial(Boom, code=self.code), ()

class Box(typing.Generic[T]):
    def __init__(self, v: T): self.v = v

class Outer:
    class Inner:
        z = 9

def deco(f):
    @functools.wraps(f)
    def inner(*a): return f(*a)
    return inner

@deco
def helper(n): return n + 1

def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)

@functools.lru_cache
def tripled(n): return n * 3

def things():
    return [Item(1), Slotted(2), Colour.RED, Colour.BLUE, Flags.A | Flags.B, Point(1, 2), Named(), Child(3),
            Boom(code=4), Box(5), Outer.Inner(), helper, even, tripled, Item, Colour]

def read(path):
    with open(path, "rb") as file:
        found = pickle.load(file)
    used = found[7].run(), found[3].paint(), found[8].code, found[11](1), found[12](4), found[13](2)
    return found, os.getpid(), *used

if __name__ == "__main__":
    import safemp
    with open("things", "wb") as file:
        pickle.dump(things(), file)
    with safemp.Pool(1) as pool:
        found, pid, *rest = pool.apply(read, ("things",))
    assert pid != os.getpid()
    assert [type(each) for each in found] == [type(each) for each in things()]
    assert found[12:] == things()[12:]
    assert rest == [(["ab", "cd"], 3, (3,), 4, 6, 4), "BLUE [1, 2]", 4, 2, True, 6], rest
    print("ok")
"""


def test_a_task_can_load_a_pickle_of_what_the_script_defines(tmp_path: Path) -> None:
    """As in any process of the standard library's, which has imported the script, or is a fork."""
    assert quiet(run_script(tmp_path, SHAPES), out="ok\n")


MANAGED = """
import multiprocessing
from dataclasses import dataclass
import safemp

@dataclass
class Item:
    n: int

def take(queue): return queue.get().n

def check(queue): return type(queue.get()) is Item

if __name__ == "__main__":
    with multiprocessing.Manager() as manager, safemp.Pool(2) as pool:
        queue = manager.Queue()
        for i in range(6):
            queue.put(Item(i))
        print(sorted(pool.map(take, [queue] * 4)), pool.map(check, [queue] * 2))
"""


def test_objects_come_out_of_a_managers_queue(tmp_path: Path) -> None:
    """Of a class that no call has brought; and they are of that class for a call which brings it."""
    assert quiet(run_script(tmp_path, MANAGED), out="[0, 1, 2, 3] [True, True]\n")


QUEUES = """
import multiprocessing
from safemp import Process

def mul(a, b): return a * b

def work(tasks, results):
    for function, args in iter(tasks.get, None):
        results.put(function(*args))

if __name__ == "__main__":
    multiprocessing.set_start_method("{method}")
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    for i in range(4):
        tasks.put((mul, (i, 7)))
    tasks.put(None)
    process = Process(target=work, args=(tasks, results))
    process.start()
    print([results.get(timeout=20) for _ in range(4)])
    process.join()
"""


@pytest.mark.parametrize("method", ["spawn"] if sys.platform == "win32" else ["spawn", "forkserver", "fork"])
def test_functions_come_out_of_a_queue(tmp_path: Path, method: str) -> None:
    """Of multiprocessing, with each start method, in a process of ours."""
    assert quiet(run_script(tmp_path, QUEUES.format(method=method)), out="[0, 7, 14, 21]\n")


WORKERS_OWN = """
import pickle, sys
import safemp

LIMITS = {"a": 1}
count = 0

class Item:
    limits = LIMITS
    def seen(self): return LIMITS["a"], count

class Other:
    def __init__(self): self.x = 1

class Loud(type):
    def __init__(cls, *args):
        print("made", cls.__name__, flush=True)
        super().__init__(*args)

class Unasked(metaclass=Loud):
    pass

big = bytearray(1 << 20)

class Big:
    def size(self): return len(big)

class Unsendable:
    socket = __import__("socket").socket()

def init():
    global count
    count = 5

def load(data): return pickle.loads(data).seen()

def has(name): return hasattr(sys.modules["__main__"], name)

def listed(): return sorted(name for name in vars(sys.modules["__main__"]) if not name.startswith("__"))

if __name__ == "__main__":
    Unsendable.socket.close()
    with safemp.SafeExecutor(1, initializer=init) as executor:
        assert executor.submit(listed).result() == ["count", "init", "listed", "sys"], executor.submit(listed).result()
        assert not executor.submit(has, "nothing").result()
        assert executor.submit(load, pickle.dumps(Item())).result() == (1, 5)
        assert executor.submit(has, "Other").result()
        LIMITS["a"] = 2
        assert executor.submit(lambda: Item().seen()).result() == (2, 5)
        for lost in ("Big", "Unsendable"):
            assert not executor.submit(has, lost).result()
    print("ok")
"""


def test_what_a_worker_has_is_not_replaced(tmp_path: Path) -> None:
    """Nothing is made before it is asked for; what tasks and the caller have set since holds; large things stay."""
    ended = run_script(tmp_path, WORKERS_OWN)

    assert quiet(ended, out="made Unasked\nok\n")  # once, here


THREADS = """
import pickle, threading
import safemp

class Item:
    n = 3

def load(data):
    found, start = [], threading.Barrier(8)
    def one():
        start.wait()
        found.append(pickle.loads(data))
    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return len(found), len({type(each) for each in found})

if __name__ == "__main__":
    print(safemp.map(load, [pickle.dumps(Item())] * 3))
"""


def test_several_threads_may_ask_at_once(tmp_path: Path) -> None:
    """Each gets the one class."""
    assert quiet(run_script(tmp_path, THREADS), out="[(8, 1), (8, 1), (8, 1)]\n")


def test_a_program_without_a_script(tmp_path: Path) -> None:
    """``python -c``, which a spawned process could not import."""
    code = (
        "import pickle, safemp\nclass Item: n = 3\ndef load(data): return pickle.loads(data).n\n"
        "print(safemp.map(load, [pickle.dumps(Item())]))"
    )
    assert quiet(run_python("-c", code, cwd=tmp_path), out="[3]\n")


CONSTRUCTED = """
import dataclasses, pickle, sys, tracemalloc, typing
import safemp

class Loud:
    def __reduce__(self): sys.exit("code of the user's was run")

@dataclasses.dataclass
class ByMetadata:
    x: int = dataclasses.field(default=1, metadata={"v": Loud()})

class ByUnderlined:
    __table__ = Loud()

class ByAnnotation:
    x: typing.Annotated[int, Loud()] = 1

class Meta(type):
    def __getattribute__(cls, name):
        if name == "__module__":
            raise KeyError(name)
        return super().__getattribute__(name)

class Odd(metaclass=Meta):
    pass

LOUD = Loud()

class One:
    it = LOUD

class Two:
    it = LOUD

DATA = "x" * 50_000_000
MANY = [list(range(1000)) for _ in range(1000)]

def uses(): return len(DATA), len(MANY)

class Small:
    n = 1

def load(data): return pickle.loads(data).n

def work(n): return n

if __name__ == "__main__":
    tracemalloc.start()
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(work, 1).result() == 1
        assert executor.submit(load, pickle.dumps(Small())).result() == 1
    assert tracemalloc.get_traced_memory()[1] < 30_000_000, tracemalloc.get_traced_memory()
    print("ok")
"""


def test_making_a_pool_pickles_nothing_large_and_runs_nothing_of_the_users(tmp_path: Path) -> None:
    """Wherever that may be: in a field's metadata, an annotation, an attribute with underlines, a global."""
    assert quiet(run_script(tmp_path, CONSTRUCTED), out="ok\n")


POLICY = """
import pickle, sys, threading
import safemp

class Guarded:
    lock = threading.Lock()

def load(data): return type(pickle.loads(data)).__name__

def inner(data):
    with safemp.SafeExecutor(1) as executor:
        return executor.submit(load, data).result()

if __name__ == "__main__":
    data = pickle.dumps(Guarded())
    for repairs in ("all", "none"):
        with safemp.SafeExecutor(1, repairs=repairs) as executor:
            error = executor.submit(load, data).exception()
            print(repairs, type(error).__name__)
    with safemp.SafeExecutor(1) as executor:
        print(executor.submit(inner, data).result())
"""


def test_what_is_offered_obeys_the_repairs_and_is_handed_on(tmp_path: Path) -> None:
    """A lock is not made anew where that is not wanted; a pool in a worker offers what the worker was offered."""
    assert quiet(run_script(tmp_path, POLICY), out="all NoneType\nnone AttributeError\nGuarded\n")
