"""The examples of multiprocessing's and concurrent.futures' documentation that have processes.

Each is a script of its own that prints what it has found, always the same. They make the
same calls as the documentation's, in other words. The three of the examples page are in
``unmodified.py``.
"""

from __future__ import annotations

import re

from tests.support import unmodified

FIRST = """
from multiprocessing import Pool

def square(x):
    return x * x

if __name__ == "__main__":
    with Pool(5) as pool:
        print(pool.map(square, [1, 2, 3]))
"""

USING_A_POOL = """
from multiprocessing import Pool, TimeoutError
import os
import time

def square(x):
    return x * x

if __name__ == "__main__":
    with Pool(processes=4) as pool:
        print(pool.map(square, range(10)))
        print(sorted(i for i in pool.imap_unordered(square, range(10))))
        result = pool.apply_async(square, (20,))
        print(result.get(timeout=30))
        result = pool.apply_async(os.getpid, ())
        print(result.get(timeout=30) != os.getpid())
        results = [pool.apply_async(os.getpid, ()) for _ in range(4)]
        print(os.getpid() in [result.get(timeout=30) for result in results])
        result = pool.apply_async(time.sleep, (10,))
        try:
            print(result.get(timeout=0.1))
        except TimeoutError:
            print("no patience")
        print("more work")
    print("closed")
"""

POOL_METHODS = """
from multiprocessing import Pool, TimeoutError
import time

def square(x):
    return x * x

if __name__ == "__main__":
    with Pool(processes=4) as pool:
        result = pool.apply_async(square, (10,))
        print(result.get(timeout=30))
        print(pool.map(square, range(10)))
        found = pool.imap(square, range(10))
        print(next(found))
        print(next(found))
        print(found.next(timeout=30))
        result = pool.apply_async(time.sleep, (10,))
        try:
            print(result.get(timeout=0.1))
        except TimeoutError as error:
            print(type(error))
        print(result.ready(), pool.starmap(pow, [(2, 3), (3, 2)]), pool.starmap_async(pow, [(2, 5)]).get())
"""

PROCESS = """
from multiprocessing import Process
import os

def info(title):
    print(title, __name__ in ("__main__", "__mp_main__"), os.getppid() > 0, os.getpid() > 0, flush=True)

def greet(name):
    info("in the process")
    print("hello", name, flush=True)

if __name__ == "__main__":
    info("in the program")
    process = Process(target=greet, args=("bob",))
    process.start()
    process.join()
    print(process.is_alive(), process.exitcode)
"""

ENDS = """
from multiprocessing import Process
import signal
import time

if __name__ == "__main__":
    process = Process(target=time.sleep, args=(1000,))
    print(process.is_alive())
    process.start()
    print(process.is_alive())
    process.terminate()
    process.join()
    print(process.is_alive(), process.exitcode == -signal.SIGTERM)
"""

CONTEXT = """
import multiprocessing as mp

def put(queue):
    queue.put("hello")

if __name__ == "__main__":
    for method in ("spawn", "forkserver", "fork"):
        context = mp.get_context(method)
        queue = context.Queue()
        process = context.Process(target=put, args=(queue,))
        process.start()
        print(queue.get())
        process.join()
"""

QUEUE = """
from multiprocessing import Process, Queue

def put(queue):
    queue.put([42, None, "hello"])

if __name__ == "__main__":
    queue = Queue()
    process = Process(target=put, args=(queue,))
    process.start()
    print(queue.get())
    process.join()
"""

PIPE = """
from multiprocessing import Process, Pipe

def send(connection):
    connection.send([42, None, "hello"])
    connection.close()

if __name__ == "__main__":
    ours, theirs = Pipe()
    process = Process(target=send, args=(theirs,))
    process.start()
    print(ours.recv())
    process.join()
"""

LOCK = """
from multiprocessing import Process, Lock

def say(lock, number):
    lock.acquire()
    try:
        with open("said", "a") as file:
            print("hello world", number, file=file)
    finally:
        lock.release()

if __name__ == "__main__":
    lock = Lock()
    open("said", "w").close()
    processes = [Process(target=say, args=(lock, number)) for number in range(10)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    with open("said") as file:
        print(*sorted(file), sep="")
"""

SHARED = """
from multiprocessing import Process, Value, Array

def change(number, numbers):
    number.value = 3.1415927
    for i in range(len(numbers)):
        numbers[i] = -numbers[i]

if __name__ == "__main__":
    number = Value("d", 0.0)
    numbers = Array("i", range(10))
    process = Process(target=change, args=(number, numbers))
    process.start()
    process.join()
    print(number.value)
    print(numbers[:])
"""

SHARED_CTYPES = """
from multiprocessing import Process, Lock
from multiprocessing.sharedctypes import Value, Array
from ctypes import Structure, c_double

class Point(Structure):
    _fields_ = [("x", c_double), ("y", c_double)]

def modify(n, x, s, points):
    n.value **= 2
    x.value **= 2
    s.value = s.value.upper()
    for point in points:
        point.x **= 2
        point.y **= 2

if __name__ == "__main__":
    lock = Lock()
    n = Value("i", 7)
    x = Value(c_double, 1.0 / 3.0, lock=False)
    s = Array("c", b"hello world", lock=lock)
    points = Array(Point, [(1.875, -6.25), (-5.75, 2.0), (2.375, 9.5)], lock=lock)
    process = Process(target=modify, args=(n, x, s, points))
    process.start()
    process.join()
    print(n.value, x.value, s.value, [(point.x, point.y) for point in points])
"""

MANAGER = """
from multiprocessing import Process, Manager

def change(table, numbers):
    table[1] = "1"
    table["2"] = 2
    table[0.25] = None
    numbers.reverse()

if __name__ == "__main__":
    with Manager() as manager:
        table = manager.dict()
        numbers = manager.list(range(10))
        process = Process(target=change, args=(table, numbers))
        process.start()
        process.join()
        print(table)
        print(numbers)
        space = manager.Namespace()
        space.x = 10
        space._z = 12.3
        print(space)
        nested = manager.list([manager.dict() for _ in range(2)])
        nested[0]["a"] = 1
        print(nested[0], len(nested), numbers == list(range(10)), repr(numbers[2:5]))
"""

MANAGER_IN_A_POOL = """
from multiprocessing import Manager, Pool

def count(arguments):
    table, lock, queue, key = arguments
    with lock:
        table[key % 2] = table.get(key % 2, 0) + 1
    queue.put(key)

if __name__ == "__main__":
    with Manager() as manager, Pool(2) as pool:
        table, lock, queue = manager.dict(), manager.Lock(), manager.Queue()
        pool.map(count, [(table, lock, queue, key) for key in range(10)])
        print(sorted(table.items()), sorted(queue.get() for _ in range(10)))
"""

OWN_MANAGER = """
from multiprocessing.managers import BaseManager

class Maths:
    def add(self, x, y):
        return x + y

    def mul(self, x, y):
        return x * y

class MyManager(BaseManager):
    pass

MyManager.register("Maths", Maths)

if __name__ == "__main__":
    with MyManager() as manager:
        maths = manager.Maths()
        print(maths.add(4, 3))
        print(maths.mul(7, 8))
"""

REMOTE_MANAGER = """
from multiprocessing import Process, Queue
from multiprocessing.managers import BaseManager

class Worker(Process):
    def __init__(self, queue):
        self.queue = queue
        super().__init__()

    def run(self):
        self.queue.put("local hello")

queue = Queue()

class QueueManager(BaseManager):
    pass

QueueManager.register("get_queue", callable=lambda: queue)

if __name__ == "__main__":
    import threading

    worker = Worker(queue)
    worker.start()
    worker.join()
    server = QueueManager(address=("127.0.0.1", 0), authkey=b"abracadabra").get_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = QueueManager(address=server.address, authkey=b"abracadabra")
    client.connect()
    print(client.get_queue().get())
    client.get_queue().put("remote hello")
    print(queue.get())
"""

WAIT = """
from multiprocessing import Process, Pipe, current_process
from multiprocessing.connection import wait

def send(end):
    for i in range(10):
        end.send((i, current_process().name))
    end.close()

if __name__ == "__main__":
    readers = []
    for _ in range(4):
        reader, writer = Pipe(duplex=False)
        readers.append(reader)
        process = Process(target=send, args=(writer,))
        process.start()
        writer.close()
    messages = []
    while readers:
        for reader in wait(readers):
            try:
                message = reader.recv()
            except EOFError:
                readers.remove(reader)
            else:
                messages.append(message)
    print(len(messages), sorted({number for number, _ in messages}), len({name for _, name in messages}))
"""

LISTENER = """
from multiprocessing import Process
from multiprocessing.connection import Client, Listener
from array import array

def ask(address):
    with Client(address, authkey=b"secret password") as connection:
        print(connection.recv())
        print(connection.recv_bytes())
        numbers = array("i", [0, 0, 0, 0, 0])
        print(connection.recv_bytes_into(numbers))
        print(numbers, flush=True)

if __name__ == "__main__":
    with Listener(("127.0.0.1", 0), authkey=b"secret password") as listener:
        process = Process(target=ask, args=(listener.address,))
        process.start()
        with listener.accept() as connection:
            connection.send([2.25, None, "junk", float])
            connection.send_bytes(b"hello")
            connection.send_bytes(array("i", [42, 1729]))
        process.join()
"""

SHARED_MEMORY = """
from multiprocessing import Process
from multiprocessing.managers import SharedMemoryManager

def double(numbers, start, stop):
    for i in range(start, stop):
        numbers[i] *= 2

if __name__ == "__main__":
    with SharedMemoryManager() as manager:
        numbers = manager.ShareableList(range(200))
        first = Process(target=double, args=(numbers, 0, 100))
        second = Process(target=double, args=(numbers, 100, 200))
        first.start()
        second.start()
        first.join()
        second.join()
        print(sum(numbers))
"""

LOGGING = """
import logging
import multiprocessing

if __name__ == "__main__":
    logger = multiprocessing.log_to_stderr()
    logger.handlers[0].setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger.setLevel(logging.WARNING)
    logger.warning("doomed")
    print(multiprocessing.get_logger() is logger)
"""

PASS_RESOURCES = """
from multiprocessing import Pool, Process, Lock, Value

def init(a_lock, a_total):
    global lock, total
    lock, total = a_lock, a_total

def add(number):
    with lock:
        total.value += number

def both(a_lock, a_total):
    init(a_lock, a_total)
    add(1000)

if __name__ == "__main__":
    lock, total = Lock(), Value("i", 0)
    with Pool(2, initializer=init, initargs=(lock, total)) as pool:
        pool.map(add, range(10))
    process = Process(target=both, args=(lock, total))
    process.start()
    process.join()
    print(total.value)
"""

PRIMES = """
import concurrent.futures
import math

PRIMES = [112272535095293, 112582705942171, 112272535095293, 115280095190773, 115797848077099, 1099726899285419]

def is_prime(n):
    if n < 2:
        return False
    if n == 2:
        return True
    if n % 2 == 0:
        return False
    for i in range(3, int(math.floor(math.sqrt(n / 10000))) + 1, 2):
        if n % i == 0:
            return False
    return True

def main():
    with concurrent.futures.ProcessPoolExecutor() as executor:
        for number, prime in zip(PRIMES, executor.map(is_prime, PRIMES)):
            print("%d is prime: %s" % (number, prime))

if __name__ == "__main__":
    main()
"""

FUTURES = """
from concurrent.futures import ProcessPoolExecutor, as_completed, wait
import shutil

def load(number):
    if number == 3:
        raise OSError(2, "no such page", "page3")
    return "x" * number

if __name__ == "__main__":
    with ProcessPoolExecutor(max_workers=2) as executor:
        print(executor.submit(pow, 323, 1235).result() == pow(323, 1235))
        futures = {executor.submit(load, number): number for number in range(5)}
        lines = []
        for future in as_completed(futures):
            try:
                lines.append(f"{futures[future]}: {len(future.result())} bytes")
            except Exception as error:
                lines.append(f"{futures[future]} generated an exception: {error!r}")
        print(*sorted(lines), sep="\\n")
        print([len(part) for part in wait([executor.submit(load, 1)])])
        open("source", "w").close()
        executor.submit(shutil.copy, "source", "copy")
    print(open("copy").read() == "", executor.submit.__name__)
"""

EXAMPLES = {name.lower(): source for name, source in dict(globals()).items() if name.isupper()}
"""The programs by their names."""

_OURS = "Pool|Process|ProcessPoolExecutor"


def with_import_replaced(source: str) -> str:
    """Return a program that takes what safemp has from safemp, and the rest from where it was."""

    def split(line: re.Match[str]) -> str:
        names = line[2].split(", ")
        ours = [name for name in names if re.fullmatch(_OURS, name)]
        theirs = [name for name in names if name not in ours]
        parts = (("safemp", ours), (line[1], theirs))
        return "\n".join(f"from {module} import {', '.join(part)}" for module, part in parts if part)

    source = re.sub(r"^from (multiprocessing|concurrent\.futures) import (.*)$", split, source, flags=re.MULTILINE)
    source = source.replace("import multiprocessing as mp\n", "import safemp as mp\n")
    source = source.replace("import concurrent.futures\n", "import safemp\n")
    source = source.replace("concurrent.futures.ProcessPoolExecutor(", "safemp.ProcessPoolExecutor(")
    if "multiprocessing.Pool(" in source:
        source = source.replace("import multiprocessing\n", "import multiprocessing\nimport safemp\n")
    return source.replace("multiprocessing.Pool(", "safemp.Pool(")


_ALL = unmodified.IDIOMS | EXAMPLES

REPLACED = {name: text for name in _ALL if (text := with_import_replaced(_ALL[name])) != _ALL[name]}
"""All of them like that, but for those in which there is nothing to replace."""
