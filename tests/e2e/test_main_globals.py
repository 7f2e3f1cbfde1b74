"""Globals of a script that can change: each call sees what they are now, and sends only what is new.

Each test writes a script as a user would, runs it, and expects what it prints and nothing else.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.child import quiet, run_script

CHANGES = """
import array, copy, dataclasses, pickle, threading
import safemp

@dataclasses.dataclass
class Config:
    rate: float = 0.5
    tags: list = dataclasses.field(default_factory=list)

class Buffer:
    "Its bytes travel out of band, as those of an array."
    def __init__(self, data): self.data = data
    def __reduce_ex__(self, protocol): return Buffer, (pickle.PickleBuffer(self.data),)

class Table:
    rows = []

def counter():
    n = 0
    def inc():
        nonlocal n
        n += 1
        return n
    def read(): return n
    return inc, read

INC, READ = counter()
LIST = [1]
NESTED = {"a": {"b": [1, 2]}}
BYTES = bytearray(3_000_000)
SMALL, LARGE = Buffer(bytearray(100)), Buffer(bytearray(3_000_000))
MANY = [{"i": i} for i in range(40_000)]
CONFIG = Config()
HELD = {"config": CONFIG}
COPY = {"config": copy.copy(CONFIG)}
HANDLERS = {"one": lambda: 1}
LOCK = threading.Lock()
GUARDED = {"lock": LOCK, "n": 0}

def default(into=[]): return len(into)
def tagged(): return tagged.tag
tagged.tag = "a"

def look():
    return (
        READ(), list(LIST), NESTED["a"]["b"][0], sum(BYTES[::1000]), BYTES[2_999_999], SMALL.data[7],
        LARGE.data[2_000_001], len(MANY), MANY[20_000]["i"], CONFIG, HELD["config"] is CONFIG, COPY["config"] is CONFIG,
        COPY["config"].rate, HANDLERS["one"](), len(HANDLERS), GUARDED["n"], GUARDED["lock"] is LOCK, default(),
        tagged(), Table.rows[:],
    )

def rebind():
    global LIST
    LIST = [*LIST, "rebound"]

def equal():
    global LIST
    LIST = [*LIST]

def replace():
    global HANDLERS
    HANDLERS = {"one": lambda: 2}

def swap():
    "Where a global is, not what it holds, is another one."
    COPY["config"] = CONFIG

def part():
    COPY["config"] = copy.copy(CONFIG)

STEPS = [
    INC, lambda: LIST.append(2), rebind, equal, lambda: NESTED["a"]["b"].__setitem__(0, "x"),
    lambda: BYTES.__setitem__(2_999_999, 1), lambda: BYTES.__setitem__(1000, 2), lambda: SMALL.data.__setitem__(7, 3),
    lambda: LARGE.data.__setitem__(2_000_001, 4), lambda: LARGE.data.__setitem__(2_000_001, 5),
    lambda: MANY[20_000].__setitem__("i", -1), lambda: MANY.append({}), lambda: setattr(CONFIG, "rate", 0.6),
    lambda: CONFIG.tags.append("t"), swap, lambda: setattr(CONFIG, "rate", 0.7), part,
    lambda: setattr(CONFIG, "rate", 0.8), replace,
    lambda: HANDLERS.update(two=len), lambda: GUARDED.update(n=1), lambda: default.__defaults__[0].append(1),
    lambda: setattr(tagged, "tag", "b"), lambda: Table.rows.append(1), lambda: setattr(Table, "rows", [2]),
]

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        for step in [lambda: None, *STEPS, lambda: None]:
            step()
            for _ in range(3):
                assert executor.submit(look).result() == look(), (STEPS.index(step), look())
    print("ok", len(STEPS))
"""


def test_every_change_of_a_global_is_seen(tmp_path: Path) -> None:
    """However deep it is, of buffers as of objects, and of which object it is: by the next call."""
    ended = run_script(tmp_path, CHANGES)

    assert quiet(ended, out="ok 25\n"), str(ended)


SENT_ONCE = """
import safemp
from pickle import PickleBuffer

class Buffer:
    def __init__(self, data): self.data = data
    def __reduce_ex__(self, protocol): return Buffer, (PickleBuffer(self.data),)

TEXTS = [f"text {n}" for n in range(30_000)]
BUFFER = Buffer(bytearray(2_000_000))
SETTINGS = {"factor": 2}

def helper(n): return n * SETTINGS["factor"]
def work(n): return helper(n) + len(TEXTS) + BUFFER.data[n]

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        def sent(calls):
            before = executor.stats().bytes_sent
            assert [executor.submit(work, n).result() for n in range(calls)] == [work(n) for n in range(calls)]
            return executor.stats().bytes_sent - before
        assert sent(4) > 2_000_000
        assert sent(50) < 50_000, "not what it is, but its name"
        SETTINGS["factor"] = 3
        assert sent(4) > 2_000_000
        assert sent(50) < 50_000
    print("ok")
"""


def test_what_has_not_changed_is_sent_once(tmp_path: Path) -> None:
    """Two megabytes and thirty thousand texts beside a dict that changes: fifty calls take no more than their names."""
    ended = run_script(tmp_path, SENT_ONCE)

    assert quiet(ended, out="ok\n"), str(ended)


MAPS = """
import safemp

SETTINGS = {"n": 1}
TEXTS = [f"text {n}" for n in range(30_000)]

def work(i): return SETTINGS["n"], len(TEXTS)
def read(): return SETTINGS["n"]
def other(): return len(TEXTS)
def replace():
    global work
    def work(i): return "replaced"
def replaced(): return work(0)

if __name__ == "__main__":
    with safemp.Pool(1) as pool:
        def sent(maps):
            before = pool.stats().bytes_sent
            for _ in range(maps):
                assert pool.map(work, range(10)) == [work(i) for i in range(10)]
            return pool.stats().bytes_sent - before
        assert sent(3) > 300_000
        assert sent(20) < 40_000, "not the function's data, but their number"
        for n in (2, 1, 3, 1):
            SETTINGS["n"] = n
            assert pool.apply(read) == n
            assert pool.apply(other) == 30_000
            SETTINGS["n"] = 1  # what the worker has now is another
            assert pool.map(work, range(10)) == [(1, 30_000)] * 10
        long = pool.map_async(work, range(200), chunksize=1)
        for n in range(20):
            SETTINGS["n"] = n
            assert pool.apply(read) == n
        assert set(long.get()) == {(1, 30_000)}, "what was when the map was begun"
        pool.apply(replace)
        assert pool.map(work, range(3)) == ["replaced"] * 3, "as with the standard library"
    print("ok")
"""


def test_the_function_of_many_maps_is_sent_once(tmp_path: Path) -> None:
    """With all that it reads; and it reads what that was when its map was begun, whatever other calls have brought."""
    ended = run_script(tmp_path, MAPS)

    assert quiet(ended, out="ok\n"), str(ended)


ITEMS = """
import functools
import safemp

TEXTS = [f"text {n}" for n in range(30_000)]

class Item:
    def __init__(self, n): self.n = n
    def value(self): return self.n + len(TEXTS)

class Other:
    def __init__(self, n): self.n = n
    def value(self): return -self.n - len(TEXTS)

def value(item): return item.value()
def scaled(by, item): return by * item.value()

if __name__ == "__main__":
    items = [Item(n) for n in range(50)] + [(Item, Other)[n % 2](n) for n in range(50)]
    with safemp.Pool(1) as pool:
        def sent(fn, items, chunksize):
            before = pool.stats().bytes_sent
            assert list(pool.imap(fn, items, chunksize)) == [fn(item) for item in items]
            return pool.stats().bytes_sent - before
        for chunksize in 1, 7:
            assert 0 < sent(value, items, chunksize) < 1_500_000, "of a hundred items"
            for fn in functools.partial(scaled, 2), lambda item: item.value():
                assert 0 < sent(fn, items[:50], chunksize) < 1_500_000, "of fifty, of one class"
                assert sent(fn, items[40:60], chunksize)
        TEXTS.append("one more")
        assert pool.map(value, items[:3]) == [30_001, 30_002, 30_003]
        found = pool.imap(value, (TEXTS.append(n) or Item(0) for n in range(3)))
        assert next(found) in (30_002, 30_003, 30_004)
    print("ok")
"""


def test_what_items_need_is_sent_once_for_a_map(tmp_path: Path) -> None:
    """A class of the script whose methods read thirty thousand texts: not with each of a hundred items."""
    ended = run_script(tmp_path, ITEMS)

    assert quiet(ended, out="ok\n"), str(ended)


KEPT = """
import concurrent.futures, multiprocessing, os, sys
import safemp

WEIGHTS = bytearray(10_000_000)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def work(n): return WEIGHTS[n], resident()

if __name__ == "__main__":
    with safemp.SafeExecutor(1, engine=ENGINE) as executor:
        here, there = [], []
        for n in range(70):
            WEIGHTS[n] = n
            for _ in range(3):
                found, size = executor.submit(work, n).result()
                assert found == n
            here.append(resident())
            there.append(size)
    print([sizes[-1] - sizes[25] < 200_000_000 for sizes in (here, there)])
"""


STATE = """
import safemp

SETTINGS = {"n": 1}

class Item:
    def __init__(self, n): self.n = n
    def value(self): return self.n + SETTINGS["n"]

class Other(Item):
    pass

class Counter:
    "A function with a state: one for all chunks of a worker."
    def __init__(self): self.calls = 0
    def __call__(self, item):
        self.calls += 1
        return self.calls

CACHE = {}
def cached(item):
    CACHE.setdefault(SETTINGS["n"], []).append(1)
    return len(CACHE[SETTINGS["n"]])

PAIR = [[1], [1]]
HELD = {"a": PAIR[0], "b": PAIR[1]}
FIRST = PAIR[0]
def which(): return HELD["a"] is FIRST, HELD["b"] is FIRST, PAIR[0] is FIRST

def plain(): return HELD["a"] is CONFIG
CONFIG = [5]

class Sly:
    busy = False
    def __reduce__(self):
        if Sly.busy: SETTINGS["n"] = "seen by nobody"
        return dict, ()
SLY = Sly()
def read(): return SETTINGS["n"], SLY

if __name__ == "__main__":
    with safemp.Pool(1) as pool:
        mixed = [1, Item(1), 2, Item(2), Other(3), 4, Other(5)] * 5
        assert list(pool.imap(Counter(), mixed)) == list(range(1, 36))
        def changing():
            for n in range(20):
                SETTINGS["n"] = 7 + (n > 0)
                yield Item(n)
        found = list(pool.imap(cached, changing()))
        assert max(found) >= 18, found  # not begun anew at each
        SETTINGS["n"] = 1
        for _ in range(3): assert pool.apply(which) == which() == (True, False, True)
        HELD["a"], HELD["b"] = HELD["b"], HELD["a"]
        PAIR.reverse()
        for _ in range(3): assert pool.apply(which) == which() == (False, True, False)
        HELD["a"] = list(CONFIG)
        for _ in range(3): assert pool.apply(plain) == plain() == False
        HELD["a"] = CONFIG
        for _ in range(3): assert pool.apply(plain) == plain() == True
        for _ in range(3): assert pool.apply(read) == (1, {})
        Sly.busy = True
        pool.apply(read)
        Sly.busy = False
        SETTINGS["n"] = 1
        for _ in range(5): assert pool.apply(read) == (1, {}), "what was pickled is what is compared"
    print("ok")
"""


def test_identity_state_and_changes_while_pickling(tmp_path: Path) -> None:
    """What a reviewer has found in the first version of this."""
    ended = run_script(tmp_path, STATE)

    assert quiet(ended, out="ok\n"), str(ended)


NAMES = """
import sys, types
import safemp

made = types.ModuleType("made_in_memory")
made.x = 1
sys.modules["made_in_memory"] = made

def names(): return sorted(name for name in vars(made) if name in "xyz")

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        for name in "xyz":
            setattr(made, name, 2)
            for _ in range(3):
                assert executor.submit(names).result() == names()
    print("ok")
"""


def test_new_names_in_a_module_made_in_memory_are_seen(tmp_path: Path) -> None:
    """They are in no pickle of it."""
    ended = run_script(tmp_path, NAMES)

    assert quiet(ended, out="ok\n"), str(ended)


ENGINES = [
    '"local"',
    'concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"))',
]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("engine", ENGINES)
def test_what_a_global_was_is_not_kept(tmp_path: Path, engine: str) -> None:
    """Ten megabytes that change at each of seventy steps: neither side keeps more and more.

    Workers did, of the last sixty-four.
    """
    ended = run_script(tmp_path, KEPT.replace("ENGINE", engine))

    assert quiet(ended, out="[True, True]\n"), str(ended)


WEAK = """
import weakref
import safemp

class Node:
    def __init__(self, n): self.n = n

one, two = Node(1), Node(2)
BY_NAME = weakref.WeakValueDictionary(one=one, two=two)
BY_NODE = weakref.WeakKeyDictionary({one: "one"})
NODES = weakref.WeakSet([one, two])

def receiver(n):
    def received(): return n
    return received

receivers = [receiver(6), lambda: 7]
SIGNAL = weakref.WeakSet(receivers)

class Cache:
    "Holds what it refers to weakly, until it does not."
    def __init__(self):
        self.held = [Node(5)]
        self.found = weakref.WeakValueDictionary(five=self.held[0])

CACHE = Cache()

def look():
    return (
        {name: node.n for name, node in BY_NAME.items()}, {node.n: name for node, name in BY_NODE.items()},
        {node.n for node in NODES},
    )

def add():
    node = BY_NAME["three"] = Node(3)
    there = len(BY_NAME)
    del node
    return there, len(BY_NAME)

def send():
    return sorted(received() for received in SIGNAL)

def evict():
    CACHE.held.clear()
    return len(CACHE.found)

if __name__ == "__main__":
    with safemp.Pool(1) as pool:
        assert pool.apply(evict) == 0
        assert pool.apply(send) == send() == [6, 7]
        for _ in range(2):
            assert pool.apply(look) == look() == ({"one": 1, "two": 2}, {1: "one"}, {1, 2}), pool.apply(look)
        assert pool.apply(add) == (3, 2)
        one = None
        assert pool.apply(look) == look() == ({"two": 2}, {}, {2}), pool.apply(look)
    print("done")
"""


def test_what_a_weak_container_refers_to_is_there_though_no_function_reads_who_holds_it(tmp_path: Path) -> None:
    """As with the standard library, whose workers have all globals; and it goes when it goes at the caller."""
    ended = run_script(tmp_path, WEAK)
    assert quiet(ended, out="done\n"), str(ended)
