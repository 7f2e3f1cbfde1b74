"""Programs that know nothing of safemp: the idioms of multiprocessing's documentation, and some that fail.

Each is a script of its own that prints what it has found. They make the same calls as
the examples page of the standard library's documentation, in other words.
"""

from __future__ import annotations

MANAGERS = '''
"""Customized managers and proxies."""
from multiprocessing import freeze_support
from multiprocessing.managers import BaseManager, BaseProxy
import operator


class Greeter:
    def hello(self):
        return "hello"

    def bye(self):
        return "bye"

    def _secret(self):
        return "secret"


def squares():
    for i in range(5):
        yield i * i


class GeneratorProxy(BaseProxy):
    _exposed_ = ["__next__"]

    def __iter__(self):
        return self

    def __next__(self):
        return self._callmethod("__next__")


def operator_module():
    return operator


class MyManager(BaseManager):
    pass


MyManager.register("Greeter1", Greeter)
MyManager.register("Greeter2", Greeter, exposed=("bye", "_secret"))
MyManager.register("squares", squares, proxytype=GeneratorProxy)
MyManager.register("operator", operator_module)


def main():
    manager = MyManager()
    manager.start()
    one = manager.Greeter1()
    print(one.hello(), one.bye(), hasattr(one, "_secret"), sorted(one._exposed_))
    two = manager.Greeter2()
    print(two.bye(), two._secret(), hasattr(two, "hello"), sorted(two._exposed_))
    print(list(manager.squares()))
    op = manager.operator()
    print(op.add(23, 45), op.pow(2, 94), "add" in op._exposed_)
    manager.shutdown()


if __name__ == "__main__":
    freeze_support()
    main()
'''

POOL = '''
"""All of Pool: calls, maps, iterators, errors, time limits."""
import multiprocessing
import random
import time


def calculate(func, args):
    return f"{func.__name__}{args} = {func(*args)}"


def calculatestar(args):
    return calculate(*args)


def mul(a, b):
    time.sleep(0.01 * random.random())
    return a * b


def plus(a, b):
    time.sleep(0.01 * random.random())
    return a + b


def invert(x):
    return 1.0 / (x - 5.0)


def power3(x):
    return x**3


def noop(x):
    pass


def main():
    with multiprocessing.Pool(4) as pool:
        tasks = [(mul, (i, 7)) for i in range(10)] + [(plus, (i, 8)) for i in range(10)]
        results = [pool.apply_async(calculate, t) for t in tasks]
        ordered = pool.imap(calculatestar, tasks)
        unordered = pool.imap_unordered(calculatestar, tasks)
        first = [r.get() for r in results]
        print(first[3], first[13])
        print(first == list(ordered) == pool.map(calculatestar, tasks), sorted(first) == sorted(unordered))

        for ask in (
            lambda: pool.apply(invert, (5,)),
            lambda: pool.map(invert, list(range(10))),
            lambda: list(pool.imap(invert, list(range(10)))),
        ):
            try:
                print(ask())
            except ZeroDivisionError as error:
                print("ZeroDivisionError:", error)
        seen = pool.imap(invert, list(range(10)))
        for i in range(10):
            try:
                value = next(seen)
            except ZeroDivisionError:
                print("item", i)
            except StopIteration:
                break
        print(i)

        slow = pool.apply_async(time.sleep, (0.6,))
        while 1:
            try:
                print(slow.get(timeout=0.01))
                break
            except multiprocessing.TimeoutError:
                pass
        slow = pool.imap(time.sleep, [0.3, 0.3])
        waits = 0
        while 1:
            try:
                slow.next(timeout=0.01)
            except StopIteration:
                break
            except multiprocessing.TimeoutError:
                waits += 1
        print(waits > 0)

    with multiprocessing.Pool(2) as pool:
        got = []
        pool.apply_async(mul, (7, 8), callback=got.append).wait()
        pool.map_async(power3, list(range(10)), callback=got.extend).wait()
        print(got)
        pool.close()
        pool.join()
    assert not multiprocessing.active_children()

    pool = multiprocessing.Pool(2)
    waiting = [pool.apply_async(time.sleep, (100,)) for _ in range(4)]
    pool.terminate()
    pool.join()
    print(any(process.is_alive() for process in pool._pool))


if __name__ == "__main__":
    multiprocessing.freeze_support()
    main()
'''

QUEUES = '''
"""Queues that feed tasks to processes and collect results."""
import random
import time
from multiprocessing import Process, Queue, current_process, freeze_support


def worker(tasks, results):
    for func, args in iter(tasks.get, "STOP"):
        results.put(calculate(func, args))


def calculate(func, args):
    return f"{current_process().name[:7]} says that {func.__name__}{args} = {func(*args)}"


def mul(a, b):
    time.sleep(0.01 * random.random())
    return a * b


def plus(a, b):
    time.sleep(0.01 * random.random())
    return a + b


def test():
    first = [(mul, (i, 7)) for i in range(20)]
    more = [(plus, (i, 8)) for i in range(10)]
    tasks, results = Queue(), Queue()
    for task in first:
        tasks.put(task)
    processes = [Process(target=worker, args=(tasks, results)) for _ in range(4)]
    for process in processes:
        process.start()
    lines = [results.get() for _ in first]
    for task in more:
        tasks.put(task)
    lines += [results.get() for _ in more]
    for _ in processes:
        tasks.put("STOP")
    for process in processes:
        process.join()
    print(len(lines), *sorted(line.split(" that ")[1] for line in lines)[:3], sep="; ")
    print([process.exitcode for process in processes])


if __name__ == "__main__":
    freeze_support()
    test()
'''

IDIOMS = {"managers": MANAGERS, "pool": POOL, "queues": QUEUES}
"""The three programs of the examples page."""

WITH_METHOD = "import multiprocessing\nif __name__ == '__main__':\n    multiprocessing.set_start_method({method!r})\n"
"""Put before a program, whose start method it sets as the documentation says."""

FATAL = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

class Refused(Exception):
    def __init__(self, *, status):
        super().__init__("refused")
        self.status = status

def ask(n):
    if n == 2:
        raise Refused(status=429)
    return n

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        for n in range(4):
            try:
                print(executor.submit(ask, n).result())
            except Exception as error:
                print(type(error).__name__, getattr(error, "status", None))
"""
"""An error that pickles and does not unpickle, as garak met one."""

SPAWNED = """
import logging, multiprocessing, threading

class Job:
    def __init__(self):
        self.lock = threading.Lock()
        self.log = logging.getLogger("job")
        self.scale = lambda x: 3 * x

def work(job, queue):
    with job.lock:
        queue.put(job.scale(14))

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    queue = multiprocessing.Queue()
    process = multiprocessing.Process(target=work, args=(Job(), queue))
    process.start()
    print(queue.get())
    process.join()
"""
"""Works under fork, and not under spawn."""

FATAL_IN_A_PROCESS = (
    FATAL.replace('if __name__ == "__main__":\n', "def use_a_pool():\n")
    + """
if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=use_a_pool)
    process.start()
    process.join()
"""
)
"""The same, from a pool that a process makes of a name at the top of its main."""

IMPORTS = """
import multiprocessing, os, sys

class Finder:
    seen = []
    def find_spec(name, *_):
        Finder.seen.append((os.getpid(), name))

sys.meta_path.insert(0, Finder)

def tell():
    print([name for pid, name in Finder.seen if pid == os.getpid() and name.startswith("safemp")], flush=True)

if __name__ == "__main__":
    process = multiprocessing.get_context({method!r}).Process(target=tell)
    process.start()
    process.join()
"""
"""Prints what of safemp a process has imported after its start."""

NAMED_LOCK = """
import multiprocessing

def work(n):
    global lock  # tqdm makes one in each process that has a bar
    lock = multiprocessing.get_context("spawn").RLock()
    return n

if __name__ == "__main__":
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        print(pool.map(work, range(4)))
"""
"""Has locks in its workers when the block ends that terminates the pool."""

EXITS = """
import multiprocessing

def work():
    raise SystemExit(7)

if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
    print(process.exitcode)
"""
"""Prints the exit code of a spawned process."""

ABOUT_ITSELF = """
import sys, os
spec = getattr(sys.modules["__main__"], "__spec__", 0)
print(__name__, __file__, __package__, __doc__, spec and spec.name, type(__loader__).__name__)
print(sys.argv, sys.path[0] if "path" in sys.argv else "", sys.modules["__main__"].__dict__ is globals())
print(sorted(name for name in globals() if not name.startswith("__annotations__")))
"""
"""Prints what a program can see of how it was started."""
