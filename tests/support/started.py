"""What processes are given, and what they do with it: for the tests of contexts and of patches."""

from __future__ import annotations

import logging
import multiprocessing
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.managers import BaseManager
from multiprocessing.reduction import ForkingPickler
from types import ModuleType
from typing import Any

LOG = logging.getLogger("tests.support.started")


class Dataset:
    """Works under fork; under spawn, a lock, a lambda, a logger and a module keep it from travelling."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.double = lambda value: 2 * value
        self.log = LOG
        self.module: ModuleType = threading

    def tell(self) -> tuple[bool, int, bool, bool]:
        """Return whether each part is what it should be."""
        return self.lock.acquire(blocking=False), self.double(21), self.log is LOG, self.module is threading


WHOLE = (True, 42, True, True)


class Stuck:
    """Has a generator, which nobody can send."""

    def __init__(self) -> None:
        self.rows = {"k": generator()}


def generator() -> Iterator[int]:
    """Yield nothing."""
    yield from ()


def tell(end: Connection, dataset: Dataset, function: Any = None) -> None:
    """Send what a dataset and a function are like here."""
    end.send((dataset.tell(), function(3) if function is not None else None))
    end.close()


def send_it(end: Connection, it: object) -> None:
    """Send what was given."""
    end.send(it)


def nothing(*_: Any, **__: Any) -> None:
    """Do nothing."""


class Teller(multiprocessing.get_context("spawn").Process):  # type: ignore[name-defined,misc]  # made by a call
    """A process with attributes and a method of its own."""

    def __init__(self, end: Connection, held: Any) -> None:
        super().__init__()
        self.end = end
        self.held = held

    def run(self) -> None:
        """Send what it holds is like."""
        tell(self.end, self.held)


class Reticent(Teller):
    """Says itself what of it is sent."""

    def __init__(self, end: Connection) -> None:
        super().__init__(end, Dataset())
        self.secret = generator()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "secret"}


class Registered:
    """Travels only by the reducer that is registered with ``ForkingPickler``."""

    def __init__(self, by: str = "nobody") -> None:
        self.by = by

    def __reduce__(self) -> Any:
        raise TypeError("only as it is registered")


ForkingPickler.register(Registered, lambda _: (Registered, ("the reducer",)))


class Letter:
    """Travels as the end of a pipe that is made for its pickle, as a tensor of torch travels as a descriptor."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __getstate__(self) -> Connection:
        theirs, ours = multiprocessing.Pipe(duplex=False)
        with ours:
            ours.send(self.text)
        return theirs

    def __setstate__(self, theirs: Connection) -> None:
        with theirs:
            self.text = theirs.recv()


def read_letter(end: Connection, letter: Letter) -> None:
    """Send its text."""
    end.send(letter.text)


def send_attribute(end: Connection, thing: Any, name: str) -> None:
    """Send an attribute of *thing*."""
    end.send(getattr(thing, name))


def send_modules(end: Connection) -> None:
    """Send which modules of safemp are loaded."""
    end.send([name for name in sys.modules if name.startswith("safemp.")])


def use(kind: str, thing: Any, end: Connection) -> None:
    """Use one of multiprocessing's objects in the way of its kind, and send what came of it."""
    end.send(USES[kind](thing))
    end.close()


def _with(lock: Any) -> bool:
    with lock:
        return True


def _add(value: Any) -> int:
    value.value += 1
    return int(value.value)


def _put(queue: Any) -> None:
    queue.put("from the child")


USES: dict[str, Any] = {
    "Lock": _with,
    "RLock": _with,
    "Semaphore": _with,
    "BoundedSemaphore": _with,
    "Condition": _with,
    "Event": lambda event: event.set(),
    "Barrier": lambda barrier: barrier.wait(20) in (0, 1),
    "Queue": _put,
    "SimpleQueue": _put,
    "JoinableQueue": _put,
    "Value": _add,
    "RawValue": _add,
    "Array": lambda array: array[:],
    "RawArray": lambda array: array[:],
    "dict": lambda proxy: proxy.update(key="from the child"),
    "socket": lambda sock: sock.sendall(b"from the child"),
    "memory": lambda memory: (memory.buf.__setitem__(0, 7), memory.close())[1],
}
"""What is done with a thing of each kind."""


class Custom(BaseManager):
    """A manager with a type of its own, made by a lambda."""


class Counter:
    """Counts, in the manager's process."""

    def __init__(self) -> None:
        self.count = 0

    def add(self) -> int:
        """Count on."""
        self.count += 1
        return self.count


Custom.register("Counter", lambda: Counter())


def make_pools(end: Connection) -> None:
    """Send of which classes pools are in this process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        end.send([cls.__module__ for cls in type(pool).__mro__])
        pool.close()
        pool.join()
