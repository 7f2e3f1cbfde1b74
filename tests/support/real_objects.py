"""Objects that people have in hand when they meet "cannot pickle", and what shows that one has arrived.

``make`` makes it in the caller; ``works`` is asked in the worker, of what has come. Where
nothing honest can come, ``REFUSED`` says where the culprit is instead.
"""

from __future__ import annotations

import abc
import argparse
import asyncio
import collections
import contextlib
import contextvars
import ctypes
import dataclasses
import datetime
import decimal
import enum
import functools
import hashlib
import http.cookiejar
import inspect
import io
import itertools
import logging
import logging.handlers
import mmap
import operator
import os
import queue
import random
import re
import selectors
import socket
import sqlite3
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import types
import typing
import weakref
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODULE_LOCK = threading.Lock()
SENTINEL = object()
VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("VARIABLE", default=7)


@dataclass(frozen=True)
class Arrives:
    """An object that travels."""

    make: Callable[[], Any]
    works: Callable[[Any], Any]
    needs: str = ""


@dataclass(frozen=True)
class Refused:
    """An object that does not, the place of the culprit in ``args[0]``, and a word of the fix."""

    make: Callable[[], Any]
    path: str
    fix: str
    needs: str = ""
    close: Callable[[Any], Any] | None = None


class Holder:
    """An object of the user's that has something."""

    def __init__(self, x: Any, **more: Any) -> None:
        self.x = x
        self.__dict__.update(more)


class Slots:
    """The same, in slots."""

    __slots__ = ("__weakref__", "_x")

    def __init__(self, x: Any) -> None:
        self._x = x


class Node:
    """A tree whose nodes know their parents weakly."""

    def __init__(self, parent: Node | None = None) -> None:
        self.parent = weakref.ref(parent) if parent is not None else None
        self.children: list[Node] = []
        if parent is not None:
            parent.children.append(self)

    def method(self) -> int:
        """Give a number."""
        return 5


def in_holder(make: Callable[[], Any], works: Callable[[Any], Any], needs: str = "") -> Arrives:
    """Put what is made into an object, three levels down."""
    return Arrives(lambda: Holder({"deep": [Slots(make())]}), lambda h: works(h.x["deep"][0]._x), needs)


def free(lock: Any) -> bool:
    """Tell whether a lock can be had, at once."""
    if not lock.acquire(blocking=False):
        return False
    lock.release()
    return True


def held(lock: Any) -> Any:
    """Take it."""
    lock.acquire()
    return lock


def event_set() -> Any:
    """Make an event that has happened."""
    event = threading.Event()
    event.set()
    return event


def filled(made: Any, *items: Any) -> Any:
    """Put *items* into a queue."""
    for item in items:
        made.put_nowait(item)
    return made


def with_handler() -> Any:
    """Make a logger that has a handler."""
    logger = logging.getLogger("tests.real_objects.handled")
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler(io.StringIO()))
    return logger


def used_threads() -> Any:
    """Make a thread pool that is idle again."""
    pool = ThreadPoolExecutor(1)
    pool.submit(int).result()
    pool.shutdown()
    return pool


def done(value: Any = None, error: BaseException | None = None) -> Any:
    """Make a future that is done."""
    future: Future[Any] = Future()
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)
    return future


def weak_family(kind: str) -> Any:
    """Hold something twice: weakly, in the way that is asked for, and not."""
    node = Node()
    ways: dict[str, Callable[[], Any]] = {
        "ref": lambda: weakref.ref(node),
        "proxy": lambda: weakref.proxy(node),
        "method": lambda: weakref.WeakMethod(node.method),
        "values": lambda: weakref.WeakValueDictionary({"k": node}),
        "keys": lambda: weakref.WeakKeyDictionary({node: "v"}),
        "set": lambda: weakref.WeakSet([node]),
    }
    return Holder(ways[kind](), node=node)


def family() -> Node:
    """Make a parent with two children."""
    parent = Node()
    Node(parent), Node(parent)
    return parent


def dead_ref() -> Any:
    """Make a weak reference to what is gone."""
    return weakref.ref(Node())


def closure_over(x: Any) -> Callable[[], Any]:
    """Make a local function that uses *x*."""

    def local() -> Any:
        return x

    return local


def recursive() -> Callable[[int], int]:
    """Make a local function that calls itself."""

    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    return factorial


def cached() -> Any:
    """Make a local function with a cache."""

    @functools.lru_cache(maxsize=8, typed=True)
    def double(x: int) -> int:
        return 2 * x

    double(3)
    return double


@functools.lru_cache
def module_cached(x: int) -> int:
    """A function of a module with a cache."""
    return 3 * x


def dispatching() -> Any:
    """Make a local generic function."""

    @functools.singledispatch
    def name(x: object) -> str:
        return "object"

    @name.register
    def _(x: int) -> str:
        return "int"

    return name


def decorated() -> Any:
    """Make a local function behind a decorator with a lock."""
    lock = threading.Lock()

    def locked(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            with lock:
                return function(*args)

        return wrapper

    @locked
    def add(a: int, b: int) -> int:
        return a + b

    return add


def local_classes(which: str) -> Any:
    """Make a class where it cannot be imported from."""

    class Plain:
        def double(self, x: int) -> int:
            return 2 * x

    @dataclass
    class WithDefault:
        x: int = 1
        make: Callable[[], int] = lambda: 4
        items: list[int] = dataclasses.field(default_factory=lambda: [1])

    @dataclass(frozen=True, slots=True)
    class Frozen:
        x: int = 3

    class Meta(type):
        def __call__(cls, *args: Any) -> Any:
            made = super().__call__(*args)
            made.by_meta = True
            return made

    class OfMeta(metaclass=Meta):
        pass

    class Point(typing.NamedTuple):
        x: int
        y: int = 2

    class Colour(enum.Enum):
        RED = 1
        BLUE = 2

    class Bits(enum.Flag):
        A = 1
        B = 2

    class Base(abc.ABC):
        @abc.abstractmethod
        def f(self) -> int: ...

    class Child(Base):
        def f(self) -> int:
            return 6

    item = typing.TypeVar("item")

    class Box(typing.Generic[item]):
        def __init__(self, x: Any) -> None:
            self.x = x

    class Sized(typing.Protocol):
        def size(self) -> int: ...

    class Options(typing.TypedDict):
        x: int

    class WrongError(ValueError):
        def __init__(self, code: int) -> None:
            super().__init__(f"code {code}")
            self.code = code

    class Cached:
        @functools.cached_property
        def value(self) -> int:
            return 9

    class Locked:
        lock = threading.Lock()

        def get(self) -> bool:
            with self.lock:
                return True

    class Registering:
        known: typing.ClassVar[list[type]] = []

        def __init_subclass__(cls) -> None:
            Registering.known.append(cls)

    class Registered(Registering):
        pass

    class Described:
        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, obj: Any, owner: Any = None) -> str:
            return self.name

    class Describing:
        field = Described()

        @property
        def twice(self) -> int:
            return 2

        @staticmethod
        def fixed() -> int:
            return 3

        @classmethod
        def me(cls) -> type:
            return cls

    found: dict[str, Any] = dict(locals())
    return found[which]


def dynamic_module() -> Any:
    """Make a module that only this process has."""
    module = types.ModuleType("made_by_real_objects")
    exec("import threading\nLOCK = threading.Lock()\ndef f():\n    with LOCK:\n        return 8", module.__dict__)
    return module


def read_only_map() -> Any:
    """Map a file for reading."""
    with tempfile.TemporaryFile() as file:
        file.write(b"content")
        file.flush()
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


class Pair(ctypes.Structure):
    """A structure of ctypes."""

    _fields_ = (("a", ctypes.c_int), ("b", ctypes.c_double))


def local_structure() -> Any:
    """Make a structure of ctypes in a function."""

    class Local(ctypes.Structure):
        _fields_ = (("a", ctypes.c_int),)

    return Local


def structures(which: str) -> Any:
    """Make structures of ctypes in a function that have more than plain fields."""

    class Either(ctypes.Union):
        _fields_ = (("number", ctypes.c_int), ("real", ctypes.c_float))

    class Inner(ctypes.Structure):
        _anonymous_ = ("either",)
        _fields_ = (("either", Either), ("bits", ctypes.c_int, 3), ("array", ctypes.c_int * 3))

        def total(self) -> int:
            return sum(self.array)

    class Header(ctypes.BigEndianStructure):
        _pack_ = 1
        _layout_ = "ms"
        _fields_ = (("x", ctypes.c_uint16), ("y", ctypes.c_uint32))

    class Link(ctypes.Structure):
        pass

    Link._fields_ = (("next", ctypes.POINTER(Link)), ("value", ctypes.c_int))
    made: dict[str, Any] = {"inner": Inner(), "header": Header(1, 2), "link": Link}
    made["inner"].number, made["inner"].bits, made["inner"].array[1] = 5, 2, 7
    return made[which]


def library() -> Any:
    """Load what this process consists of, and say how a function of it is called."""
    made = ctypes.CDLL(None)
    made.abs.argtypes, made.abs.restype = (ctypes.c_int,), ctypes.c_long
    return made


def raised() -> BaseException:
    """Make an exception with a traceback and a cause."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer") from error
    except ValueError as error:
        return error


def parser() -> Any:
    """Make a command line's parser."""
    made = argparse.ArgumentParser("prog")
    made.add_argument("-x", type=int, default=3)
    return made


def unverified() -> ssl.SSLContext:
    """Make a context that checks nothing."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def loose(level: int = logging.INFO) -> Any:
    """Make a logger that logging does not know."""
    made = logging.Logger("loose", level)
    made.addHandler(logging.NullHandler())
    return made


def file_handler() -> Any:
    """Make a handler that appends to a file, which it has open."""
    handler = logging.FileHandler(tempfile.gettempdir() + "/safemp-real-objects.log", delay=True)
    return handler


def local_variable() -> Any:
    """Make a context variable that no module has."""
    return contextvars.ContextVar("nobody_has_this", default=11)


_STD: dict[str, Arrives] = {
    # threading
    "lock": in_holder(threading.Lock, free),
    "rlock": in_holder(threading.RLock, free),
    "held lock": in_holder(lambda: held(threading.Lock()), free),
    "held rlock": in_holder(lambda: held(threading.RLock()), free),
    "python rlock": in_holder(lambda: threading._PyRLock(), free),
    "lock by itself": Arrives(threading.Lock, free),
    "one lock in two places": Arrives(lambda: [lk := threading.Lock(), Holder(lk)], lambda v: v[0] is v[1].x),
    "condition": in_holder(threading.Condition, lambda c: c.acquire() and (c.notify_all(), c.release())),
    "conditions with one lock": Arrives(
        lambda: Holder(c := threading.Condition(), lock=c._lock), lambda h: h.x._lock is h.lock and free(h.lock)
    ),
    "event": in_holder(threading.Event, lambda e: not e.is_set() and (e.set() or e.wait(0))),
    "event that is set": in_holder(event_set, lambda e: e.wait(0)),
    "semaphore": in_holder(lambda: threading.Semaphore(2), lambda s: s.acquire(blocking=False)),
    "used bounded semaphore": in_holder(
        lambda: held(threading.BoundedSemaphore(1)), lambda s: s.acquire(blocking=False)
    ),
    "barrier": in_holder(lambda: threading.Barrier(1), lambda b: b.wait(1) == 0),
    "local": in_holder(threading.local, lambda v: setattr(v, "a", 1) or v.a == 1),
    "lock in a closure": Arrives(lambda: closure_over(threading.Lock()), lambda f: free(f())),
    "lock of a module": Arrives(lambda: Holder(MODULE_LOCK), lambda h: h.x is MODULE_LOCK),
    # queue
    "queue with items": in_holder(lambda: filled(queue.Queue(), 1, 2), lambda q: (q.get_nowait(), q.qsize()) == (1, 1)),
    "lifo queue": in_holder(lambda: filled(queue.LifoQueue(), 1, 2), lambda q: q.get_nowait() == 2),
    "priority queue": in_holder(lambda: filled(queue.PriorityQueue(), 2, 1), lambda q: q.get_nowait() == 1),
    "bounded queue": in_holder(lambda: queue.Queue(3), lambda q: q.maxsize == 3 and q.empty()),
    "simple queue": in_holder(queue.SimpleQueue, lambda q: q.empty() and (q.put(1) or q.get() == 1)),
    # logging
    "logger": in_holder(lambda: logging.getLogger("a.b"), lambda g: g is logging.getLogger("a.b")),
    "logger with handlers": in_holder(with_handler, lambda g: g.info("x") is None),
    "root logger": in_holder(logging.getLogger, lambda g: g is logging.getLogger()),
    "logger adapter": in_holder(
        lambda: logging.LoggerAdapter(logging.getLogger("a"), {"k": 1}), lambda a: a.extra == {"k": 1}
    ),
    "logger nobody knows": in_holder(loose, lambda g: g.level == logging.INFO and g.handlers and g.debug("x") is None),
    "handler on stderr": in_holder(lambda: logging.StreamHandler(sys.__stderr__), lambda h: h.stream.fileno() == 2),
    "null handler": in_holder(logging.NullHandler, lambda h: free(h.lock) if h.lock else True),
    "file handler": in_holder(file_handler, lambda h: h.stream is None and h.mode == "a"),
    "socket handler": in_holder(lambda: logging.handlers.SocketHandler("h", 1), lambda h: h.sock is None),
    "memory handler": in_holder(lambda: logging.handlers.MemoryHandler(3), lambda h: h.capacity == 3),
    "formatter": in_holder(lambda: logging.Formatter("%(message)s"), lambda f: f._fmt == "%(message)s"),
    # concurrent.futures
    "thread pool": in_holder(lambda: ThreadPoolExecutor(1), lambda e: (e.submit(int).result(9), e.shutdown())[0] == 0),
    "thread pool that is shut down": in_holder(used_threads, lambda e: e._shutdown),
    "process pool": in_holder(lambda: ProcessPoolExecutor(1), lambda e: e._max_workers == 1),
    "future with a result": in_holder(lambda: done(5), lambda f: f.result(0) == 5),
    "future with an error": in_holder(lambda: done(error=KeyError("k")), lambda f: type(f.exception(0)) is KeyError),
    # asyncio
    "asyncio lock": in_holder(asyncio.Lock, lambda v: not v.locked()),
    "asyncio event": in_holder(asyncio.Event, lambda v: not v.is_set()),
    "asyncio semaphore": in_holder(lambda: asyncio.Semaphore(2), lambda v: v._value == 2),
    "asyncio condition": in_holder(asyncio.Condition, lambda v: not v.locked()),
    "asyncio queue": in_holder(lambda: filled(asyncio.Queue(), 4), lambda v: v.get_nowait() == 4),
    # contextvars
    "variable of a module": in_holder(lambda: VARIABLE, lambda v: v is VARIABLE),
    "variable of nobody": in_holder(local_variable, lambda v: v.get() == 11),
    # weak references
    "weak reference": Arrives(lambda: weak_family("ref"), lambda h: h.x() is h.node),
    "weak proxy": Arrives(lambda: weak_family("proxy"), lambda h: h.x.method() == 5),
    "weak method": Arrives(lambda: weak_family("method"), lambda h: h.x()() == 5),
    "weak values": Arrives(lambda: weak_family("values"), lambda h: h.x["k"] is h.node),
    "weak keys": Arrives(lambda: weak_family("keys"), lambda h: h.x[h.node] == "v"),
    "weak set": Arrives(lambda: weak_family("set"), lambda h: list(h.x) == [h.node]),
    "dead weak reference": in_holder(dead_ref, lambda r: r() is None),
    "weak parents": Arrives(family, lambda n: all(child.parent() is n for child in n.children)),
    "weak reference to a class": in_holder(lambda: weakref.ref(Holder), lambda r: r() is Holder),
    # values
    "mapping proxy": in_holder(lambda: types.MappingProxyType({"a": 1}), lambda v: v["a"] == 1),
    "mapping proxy and its dict": Arrives(
        lambda: Holder(types.MappingProxyType(d := {"a": 1}), d=d), lambda h: h.d.update(b=2) or h.x["b"] == 2
    ),
    "dict keys": in_holder({"a": 1}.keys, lambda v: list(v) == ["a"] and type(v) is type({}.keys())),
    "dict values": in_holder({"a": 1}.values, lambda v: list(v) == [1]),
    "dict items": in_holder({"a": 1}.items, lambda v: list(v) == [("a", 1)]),
    "ordered keys": in_holder(collections.OrderedDict(a=1).keys, lambda v: list(v) == ["a"]),
    "ordered values": in_holder(collections.OrderedDict(a=1).values, lambda v: list(v) == [1]),
    "ordered items": in_holder(collections.OrderedDict(a=1).items, lambda v: list(v) == [("a", 1)]),
    "match by search": in_holder(lambda: re.search(r"b(c)?", "abcd"), lambda m: m.group(1) == "c"),
    "match by match": in_holder(lambda: re.match(r"(?P<n>a+)", "aab"), lambda m: m["n"] == "aa"),
    "match by fullmatch": in_holder(lambda: re.fullmatch(r"a|ab", "ab"), lambda m: m.span() == (0, 2)),
    "match by finditer": in_holder(lambda: list(re.finditer(r"\w", "xyz"))[2], lambda m: m.span() == (2, 3)),
    "view of bytes": in_holder(lambda: memoryview(b"abc"), lambda v: v.readonly and v == b"abc"),
    "view of a bytearray": in_holder(lambda: memoryview(bytearray(b"abc")), lambda v: not v.readonly and v == b"abc"),
    "view with a shape": in_holder(
        lambda: memoryview(bytes(8)).cast("i", (2, 1)), lambda v: (v.format, v.shape) == ("i", (2, 1))
    ),
    "read-only map": in_holder(read_only_map, lambda v: v[:] == b"content"),
    "struct": in_holder(lambda: struct.Struct("<ih"), lambda s: s.unpack(s.pack(1, 2)) == (1, 2)),
    "list iterator": in_holder(lambda: iter([1, 2]), lambda i: list(i) == [1, 2]),
    "used list iterator": in_holder(lambda: (i := iter([1, 2]), next(i))[0], lambda i: list(i) == [2]),
    "enumerate": in_holder(lambda: enumerate("ab"), lambda i: list(i) == [(0, "a"), (1, "b")]),
    "zip": in_holder(lambda: zip([1], [2], strict=True), lambda i: list(i) == [(1, 2)]),
    "map": in_holder(lambda: map(operator.neg, [1]), lambda i: list(i) == [-1]),
    "filter": in_holder(lambda: filter(None, [0, 1]), lambda i: list(i) == [1]),
    "reversed": in_holder(lambda: reversed([1, 2]), lambda i: list(i) == [2, 1]),
    "range iterator": in_holder(lambda: iter(range(3)), lambda i: list(i) == [0, 1, 2]),
    "dict iterator": in_holder(lambda: iter({"a": 1}), lambda i: list(i) == ["a"]),
    "ctypes structure": in_holder(lambda: Pair(1, 2.5), lambda p: (p.a, p.b) == (1, 2.5)),
    "local ctypes structure": Arrives(local_structure, lambda c: (c(4).a, type(c(4).a)) == (4, int)),
    "instance of a local ctypes structure": in_holder(lambda: local_structure()(5), lambda s: s.a == 5),
    "structure with an anonymous union": in_holder(
        lambda: structures("inner"), lambda s: (s.number, s.bits, s.total(), s.real > 0) == (5, 2, 7, True)
    ),
    "packed big-endian structure": in_holder(
        lambda: structures("header"), lambda s: bytes(s) == b"\0\1\0\0\0\2" and (s.x, s.y) == (1, 2)
    ),
    "structure that points to its like": Arrives(
        lambda: structures("link"), lambda c: c(ctypes.pointer(c(value=4))).next.contents.value == 4
    ),
    "type of a C function": in_holder(
        lambda: ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int),
        lambda t: t is ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int),
    ),
    "C library": in_holder(library, lambda lib: lib.abs(-3) == 3 and lib.abs.restype is ctypes.c_long),
    "function of a C library": in_holder(lambda: library().abs, lambda f: f(-3) == 3 and f.restype is ctypes.c_long),
    "ctypes array": in_holder(lambda: (ctypes.c_int * 2)(1, 2), lambda a: list(a) == [1, 2]),
    "ctypes number": in_holder(lambda: ctypes.c_double(1.5), lambda d: d.value == 1.5),
    "system random": in_holder(random.SystemRandom, lambda r: 0 <= r.random() < 1),
    "random": in_holder(lambda: random.Random(3), lambda r: r.random() == random.Random(3).random()),
    "default ssl context": in_holder(
        ssl.create_default_context, lambda c: c.check_hostname and c.cert_store_stats()["x509_ca"] >= 0
    ),
    "ssl context that checks nothing": in_holder(
        unverified, lambda c: not c.check_hostname and c.minimum_version == ssl.TLSVersion.TLSv1_3
    ),
    # by name
    "module": in_holder(lambda: os.path, lambda m: m is os.path),
    "capsule": in_holder(lambda: datetime.datetime_CAPI, lambda c: c is datetime.datetime_CAPI),  # type: ignore[attr-defined]
    "built-in": in_holder(lambda: len, lambda f: f is len),
    "method of a value": in_holder(lambda: [1, 2].count, lambda f: f(1) == 1),
    "sentinel": in_holder(lambda: SENTINEL, lambda v: v is SENTINEL),
    "ellipsis": in_holder(lambda: ..., lambda v: v is ...),
    "not implemented": in_holder(lambda: NotImplemented, lambda v: v is NotImplemented),
    "standard error": in_holder(lambda: sys.__stderr__, lambda f: f.fileno() == 2),
    "type of none": in_holder(lambda: type(None), lambda t: t is type(None)),
    # functions
    "lambda": in_holder(lambda: lambda x: x + 1, lambda f: f(1) == 2),
    "closure": Arrives(lambda: closure_over({"a": [1]}), lambda f: f() == {"a": [1]}),
    "recursive closure": Arrives(recursive, lambda f: f(5) == 120),
    "method of a class with some arguments": Arrives(
        lambda: functools.partialmethod(lambda self, a, b: (a, b), 1, b=2), lambda m: m.__get__(5)() == (1, 2)
    ),
    "reference to a class that is not there": in_holder(
        lambda: typing.Optional["NotThere"],  # noqa: F821
        lambda t: typing.get_args(t)[0].__forward_arg__ == "NotThere",
    ),
    "partial of a lambda": Arrives(lambda: functools.partial(lambda a, b: a - b, b=1), lambda f: f(3) == 2),
    "cached local function": Arrives(cached, lambda f: f(3) == 6 and f.cache_info().maxsize == 8),
    "cached function of a module": Arrives(lambda: module_cached, lambda f: f is module_cached),
    "generic local function": Arrives(dispatching, lambda f: (f(1), f("")) == ("int", "object")),
    "decorated local function": Arrives(decorated, lambda f: f(1, 2) == 3 and f.__name__ == "add"),
    "defaultdict of a lambda": in_holder(lambda: collections.defaultdict(lambda: [1]), lambda d: d["x"] == [1]),
    "bound method of a local class": Arrives(lambda: local_classes("Plain")().double, lambda f: f(2) == 4),
    "coroutine function": Arrives(lambda: closure_over(asyncio.sleep), lambda f: inspect.iscoroutinefunction(f())),
    "context manager": Arrives(
        lambda: contextlib.contextmanager(closure_over(iter([1]))), lambda f: inspect.isfunction(f)
    ),
    "operator objects": in_holder(lambda: [operator.itemgetter(0), operator.attrgetter("a")], lambda v: v[0]([7]) == 7),
    "code": in_holder(lambda: recursive.__code__, lambda c: c.co_name == "recursive"),
    "signature": in_holder(lambda: inspect.signature(recursive), lambda s: len(s.parameters) == 0),
    # classes
    "local class": Arrives(lambda: local_classes("Plain"), lambda c: c().double(1) == 2),
    "local dataclass with a lambda": Arrives(
        lambda: local_classes("WithDefault")(2), lambda v: (v.x, v.make(), v.items) == (2, 4, [1])
    ),
    "frozen dataclass with slots": Arrives(lambda: local_classes("Frozen")(), lambda v: v.x == 3),
    "metaclass": Arrives(lambda: local_classes("OfMeta"), lambda c: c().by_meta),
    "named tuple": Arrives(lambda: local_classes("Point")(1), lambda p: p == (1, 2) and p.y == 2),
    "enum": Arrives(lambda: local_classes("Colour").RED, lambda v: v.name == "RED"),
    "flag": Arrives(lambda: local_classes("Bits").A, lambda v: bool(v & v)),
    "abstract base": Arrives(lambda: local_classes("Child")(), lambda v: v.f() == 6),
    "generic class": Arrives(lambda: local_classes("Box")(3), lambda v: v.x == 3),
    "protocol": Arrives(lambda: local_classes("Sized"), lambda c: c.__name__ == "Sized"),
    "typed dict": Arrives(lambda: local_classes("Options"), lambda c: c(x=1) == {"x": 1}),
    "error of a local class": Arrives(lambda: local_classes("WrongError")(4), lambda e: e.code == 4),
    "cached property": Arrives(lambda: local_classes("Cached")(), lambda v: v.value == 9),
    "class with a lock": Arrives(lambda: local_classes("Locked")(), lambda v: v.get()),
    "class that registers": Arrives(lambda: local_classes("Registered"), lambda c: c.__name__ == "Registered"),
    "descriptors": Arrives(
        lambda: local_classes("Describing")(),
        lambda v: (v.field, v.twice, v.fixed(), v.me()) == ("field", 2, 3, type(v)),
    ),
    # and others
    "module in memory": Arrives(dynamic_module, lambda m: m.f() == 8),
    "decimal context": in_holder(lambda: decimal.Context(5), lambda c: c.prec == 5),
    "parser": in_holder(parser, lambda p: p.parse_args([]).x == 3),
    "error with a cause": in_holder(raised, lambda e: type(e.__cause__) is KeyError),
    "chain map": in_holder(lambda: collections.ChainMap({"a": 1}), lambda c: c["a"] == 1),
    "bounded deque": in_holder(lambda: collections.deque([1], 2), lambda d: d.maxlen == 2),
    "namespace": in_holder(lambda: types.SimpleNamespace(a=threading.Lock()), lambda n: free(n.a)),
    "text in memory": in_holder(lambda: io.StringIO("abc"), lambda f: f.read() == "abc"),
    "bytes in memory": in_holder(lambda: io.BytesIO(b"abc"), lambda f: f.read() == b"abc"),
    "cookies": in_holder(http.cookiejar.CookieJar, lambda c: free(c._cookies_lock)),
    "path": in_holder(lambda: Path("a"), lambda p: p.name == "a"),
    "pattern": in_holder(lambda: re.compile("a+"), lambda p: p.match("aa")),
    "time zone": in_holder(lambda: datetime.timezone.utc, lambda z: z is datetime.timezone.utc),
    "arguments of a bound call": in_holder(
        lambda: inspect.signature(int).bind("1") if False else inspect.BoundArguments, lambda v: inspect.isclass(v)
    ),
}


def run(loop_use: Callable[[], Any]) -> Any:
    """Run a coroutine function to its end."""
    return asyncio.run(loop_use())


async def _bound_lock() -> Any:
    lock = asyncio.Lock()
    await lock.acquire()
    waiting = asyncio.ensure_future(lock.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    return lock


def busy_threads() -> Any:
    """Make a thread pool at work; its gate is beside it."""
    gate = threading.Event()
    pool = ThreadPoolExecutor(1)
    pool.submit(gate.wait)
    pool._gate = gate  # type: ignore[attr-defined]
    return pool


def _let_go(pool: Any) -> None:
    pool._gate.set()
    pool.shutdown()


def opened(mode: str) -> Any:
    """Open a file."""
    return open(tempfile.gettempdir() + "/safemp-real-objects.txt", mode)


def _opened_for_reading() -> Any:
    with opened("w") as file:
        file.write("content")
    return opened("r")


def ended() -> Any:
    """Run a process to its end."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process


def local_default(x: Any) -> Any:
    """Make a function that has *x* as a default."""

    def function(y: Any = x) -> Any:
        return y

    return function


def server_context() -> Any:
    """Make a context for servers."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


def listing() -> Any:
    """List a directory."""
    return os.scandir(".")


def writing_map() -> Any:
    """Map memory for writing."""
    return mmap.mmap(-1, 8)


def closing(obj: Any) -> None:
    """Close it."""
    obj.close()


_KEEP = Node()

REFUSED: dict[str, Refused] = {
    "generator": Refused(lambda: Holder([(x for x in "ab")]), "args[0].x[0]", "list("),
    "coroutine": Refused(lambda: {"c": _bound_lock()}, "args[0]['c']", "coroutine", close=lambda d: d["c"].close()),
    "frame": Refused(lambda: (sys._getframe(),), "args[0][0]", "traceback"),
    "socket": Refused(lambda: Holder(socket.socket()), "args[0].x", "address", close=lambda h: h.x.close()),
    "file for reading": Refused(
        lambda: Holder(_opened_for_reading()), "args[0].x", "path", close=lambda h: h.x.close()
    ),
    "file for writing": Refused(lambda: Holder(opened("w")), "args[0].x", "path", close=lambda h: h.x.close()),
    "binary file": Refused(lambda: [opened("ab")], "args[0][0]", "path", close=lambda v: v[0].close()),
    "temporary file": Refused(
        lambda: {"t": tempfile.NamedTemporaryFile()},  # noqa: SIM115
        "args[0]['t']",
        "path",
        close=lambda d: d["t"].close(),
    ),
    "event": Refused(threading.Event, "args[0]", "multiprocessing"),
    "condition variable's event in a list": Refused(lambda: [1, threading.Event()], "args[0][1]", "multiprocessing"),
    "queue": Refused(lambda: {"q": queue.Queue()}, "args[0]['q']", "multiprocessing.Manager().Queue()"),
    "simple queue": Refused(queue.SimpleQueue, "args[0]", "multiprocessing.Manager().Queue()"),
    "event in a closure": Refused(
        lambda: closure_over(threading.Event()), "args[0].__closure__['x']", "multiprocessing.Manager().Event()"
    ),
    "semaphore as a default": Refused(
        lambda: local_default(threading.Semaphore()), "args[0].__defaults__[0]", "Semaphore()"
    ),
    "barrier in a partial": Refused(
        lambda: functools.partial(print, threading.Barrier(2)), "args[0].args[0]", "Barrier()"
    ),
    "thread": Refused(lambda: Holder(threading.Thread(target=print)), "args[0].x", "function"),
    "process": Refused(lambda: Holder(ended()), "args[0].x", "pid"),
    "busy thread pool": Refused(lambda: Holder(busy_threads()), "args[0].x", "worker", close=lambda h: _let_go(h.x)),
    "pending future": Refused(lambda: Holder(Future()), "args[0].x", "result()"),
    "weak reference to what stays": Refused(lambda: Holder(weakref.ref(_KEEP)), "args[0].x", "object itself"),
    "weak set of what stays": Refused(lambda: [weakref.WeakSet([_KEEP])], "args[0][0]", "object itself"),
    "sqlite connection": Refused(
        lambda: Holder(sqlite3.connect(":memory:")), "args[0].x", "iterdump", close=lambda h: h.x.close()
    ),
    "lock of an event loop": Refused(lambda: Holder(run(_bound_lock)), "args[0].x", "asyncio.Lock()"),
    "context": Refused(lambda: Holder(contextvars.copy_context()), "args[0].x", "variables"),
    "hash": Refused(lambda: {"h": hashlib.sha256(b"")}, "args[0]['h']", "make it"),
    "decompressor": Refused(lambda: {"z": zlib.decompressobj()}, "args[0]['z']", "make it"),
    "listing": Refused(lambda: {"s": listing()}, "args[0]['s']", "make it in", close=lambda d: d["s"].close()),
    "selector": Refused(
        lambda: Holder(selectors.DefaultSelector()), "", "make it in the worker", close=lambda h: h.x.close()
    ),
    "server's ssl context": Refused(lambda: Holder(server_context()), "args[0].x", "create_default_context"),
    "queue handler": Refused(lambda: Holder(logging.handlers.QueueHandler(queue.Queue())), "args[0].x", "logger"),
    "rotating handler": Refused(
        lambda: Holder(
            logging.handlers.RotatingFileHandler(tempfile.gettempdir() + "/safemp-rotating.log", delay=True)
        ),
        "args[0].x",
        "logger",
        close=lambda h: h.x.close(),
    ),
    "pointer": Refused(lambda: Holder(ctypes.pointer(ctypes.c_int(3))), "args[0].x", ".contents"),
    "address": Refused(lambda: [ctypes.c_void_p(3)], "args[0][0]", "its value"),
    "function that C may call": Refused(
        lambda: Holder(ctypes.CFUNCTYPE(ctypes.c_int)(int)), "args[0].x", "the Python function"
    ),
    "map for writing": Refused(lambda: [writing_map()], "args[0][0]", "path", close=lambda v: v[0].close()),
    "traceback": Refused(lambda: [raised().__traceback__], "args[0][0]", "traceback"),
    "simple queue with items": Refused(
        lambda: Holder(filled(queue.SimpleQueue(), 1)), "args[0].x", "multiprocessing.Manager().Queue()"
    ),
    "lock in a generator three levels down": Refused(
        lambda: {"a": [Slots({"b": itertools.tee(iter(()), 1)[0] if False else (y for y in ())})]},
        "args[0]['a'][0]._x['b']",
        "list(",
    ),
}


def _httpx_client(**options: Any) -> Any:
    import httpx

    return httpx.Client(headers={"x": "1"}, **options)


def _engine(**options: Any) -> Any:
    from sqlalchemy import create_engine

    return create_engine(f"sqlite:///{tempfile.gettempdir()}/safemp-real-objects.db", **options)


def _one(engine: Any) -> Any:
    from sqlalchemy import text

    with engine.connect() as connection:
        return connection.execute(text("select 1")).scalar()


def _keys() -> dict[str, str]:
    return {"region_name": "eu-west-1", "aws_access_key_id": "a", "aws_secret_access_key": "b"}


def _module(name: str) -> Any:
    import importlib

    return importlib.import_module(name)


def _session(engine: Any, how: str) -> Any:
    orm = _module("sqlalchemy.orm")
    if how == "session":
        return orm.Session(engine)
    maker = orm.sessionmaker(engine, expire_on_commit=False)
    return maker if how == "maker" else orm.scoped_session(maker)


def _mongo() -> Any:
    return _module("pymongo").MongoClient("mongodb://h/", connect=False)


def _jinja() -> Any:
    jinja2 = _module("jinja2")
    return jinja2.Environment(loader=jinja2.DictLoader({"a": "x{{ y|upper }}"}), trim_blocks=True)


def _model() -> Any:
    pydantic = _module("pydantic")

    class Local(pydantic.BaseModel):  # type: ignore[misc, name-defined]
        x: int = 3
        items: list[str] = pydantic.Field(default_factory=lambda: ["a"])

        @pydantic.field_validator("x")
        @classmethod
        def more(cls, value: int) -> int:
            return value + 1

    return Local


def _html() -> Any:
    return _module("lxml.html").fromstring("<p>a<br>b</p>")


def _xml() -> Any:
    return _module("lxml.etree").fromstring('<a><b x="1"/><!-- c --><d><e>t</e>tail</d></a>')


def _bar(**options: Any) -> Any:
    _module("tqdm").tqdm.monitor_interval = 0  # no thread that stays
    bar = _module("tqdm").tqdm(total=5, file=sys.__stderr__, **options)
    bar.n = 2
    bar.close()
    return bar


_OTHERS: dict[str, Arrives] = {
    "httpx client": in_holder(_httpx_client, lambda c: c.headers["x"] == "1" and not c.is_closed, "httpx"),
    "httpx client with a proxy": in_holder(
        lambda: _httpx_client(proxy="http://h:1", verify=False), lambda c: len(c._mounts) == 1, "httpx"
    ),
    "httpx client in a closure": Arrives(
        lambda: closure_over(_httpx_client()), lambda f: f().headers["x"] == "1", "httpx"
    ),
    "httpx async client": in_holder(
        lambda: _module("httpx").AsyncClient(base_url="http://h"), lambda c: c.base_url.host == "h", "httpx"
    ),
    "httpx2 client": in_holder(lambda: _module("httpx2").Client(), lambda c: not c.is_closed, "httpx2"),
    "openai client": in_holder(
        lambda: _module("openai").OpenAI(api_key="k", base_url="http://h"),
        lambda c: c.api_key == "k" and c.base_url.host == "h" and c.chat.completions,
        "openai",
    ),
    "openai async client": in_holder(
        lambda: _module("openai").AsyncOpenAI(api_key="k"), lambda c: c.api_key == "k", "openai"
    ),
    "anthropic client": in_holder(
        lambda: _module("anthropic").Anthropic(api_key="k"), lambda c: c.api_key == "k" and c.messages, "anthropic"
    ),
    "requests session": in_holder(
        lambda: _module("requests").Session(), lambda s: s.get_adapter("http://h") is not None, "requests"
    ),
    "urllib3 pool manager": in_holder(
        lambda: _module("urllib3").PoolManager(3, headers={"a": "b"}),
        lambda p: p.headers == {"a": "b"} and p.connection_from_host("h").host == "h",
        "urllib3",
    ),
    "urllib3 connection pool": in_holder(
        lambda: _module("urllib3").HTTPSConnectionPool("h", maxsize=3), lambda p: p.pool.qsize() == 3, "urllib3"
    ),
    "boto3 client": in_holder(
        lambda: _module("boto3").client("s3", **_keys()),
        lambda c: (
            c.meta.region_name == "eu-west-1"
            and "X-Amz" in c.generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
        ),
        "boto3",
    ),
    "boto3 client of an endpoint": in_holder(
        lambda: _module("boto3").client("s3", endpoint_url="http://h:1", **_keys()),
        lambda c: c.meta.endpoint_url == "http://h:1",
        "boto3",
    ),
    "boto3 bucket": in_holder(
        lambda: _module("boto3").resource("s3", **_keys()).Bucket("b"), lambda b: b.name == "b", "boto3"
    ),
    "boto3 session": in_holder(
        lambda: _module("boto3").Session(**_keys()), lambda s: s.get_credentials().access_key == "a", "boto3"
    ),
    "sqlalchemy engine": in_holder(
        lambda: _engine(pool_size=3, connect_args={"timeout": 7}),
        lambda e: e.pool.size() == 3 and _one(e) == 1 and (e.dispose() or True),
        "sqlalchemy",
    ),
    "sqlalchemy session": in_holder(
        lambda: _session(_engine(), "session"), lambda s: s.get_bind() is not None, "sqlalchemy"
    ),
    "sqlalchemy sessionmaker": in_holder(
        lambda: _session(_engine(), "maker"), lambda m: m().expire_on_commit is False, "sqlalchemy"
    ),
    "sqlalchemy scoped session": in_holder(
        lambda: _session(_engine(), "scoped"), lambda s: s().expire_on_commit is False, "sqlalchemy"
    ),
    "redis client": in_holder(
        lambda: _module("redis").Redis("h", 9, password="p"),
        lambda r: r.connection_pool.connection_kwargs["host"] == "h",
        "redis",
    ),
    "mongo client": in_holder(_mongo, lambda m: (m.dd.name, m.close())[0] == "dd", "pymongo"),
    "mongo database": in_holder(lambda: _mongo().dd, lambda d: (d.name, d.client.close())[0] == "dd", "pymongo"),
    "mongo collection": in_holder(
        lambda: _mongo().dd.cc, lambda c: (c.full_name, c.database.client.close())[0] == "dd.cc", "pymongo"
    ),
    "jinja2 environment": in_holder(_jinja, lambda e: e.get_template("a").render(y="q") == "xQ", "jinja2"),
    "jinja2 template": in_holder(lambda: _jinja().get_template("a"), lambda t: t.render(y="q") == "xQ", "jinja2"),
    "jinja2 template of a string": in_holder(
        lambda: _module("jinja2").Environment().from_string("a{% block b %}{{ x|upper }}{% endblock %}"),
        lambda t: t.render(x="q") == "aQ",
        "jinja2",
    ),
    "pydantic model": Arrives(_model, lambda m: m(x=4).x == 5, "pydantic"),
    "instance of a pydantic model": in_holder(
        lambda: _model()(x=4), lambda v: v.model_dump() == {"x": 5, "items": ["a"]}, "pydantic"
    ),
    "tqdm bar": in_holder(_bar, lambda b: b.n == 2, "tqdm"),
    "tqdm bar that shows nothing": in_holder(lambda: _bar(disable=True), lambda b: b.disable, "tqdm"),
    "tokenizer": in_holder(
        lambda: _module("tokenizers").Tokenizer(_module("tokenizers.models").BPE()),
        lambda t: t.get_vocab_size() == 0,
        "tokenizers",
    ),
    "tiktoken encoding": in_holder(
        lambda: _module("tiktoken").Encoding(
            "x", pat_str=".", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
        ),
        lambda e: e.encode("a") == [97],
        "tiktoken",
    ),
    "xml element": in_holder(_xml, lambda e: e.find("b").get("x") == "1", "lxml"),
    "xml element and its root": in_holder(
        lambda: [(root := _xml())[2][0], root],
        lambda v: v[0].tail == "tail" and v[0].getroottree().getroot() is v[1],
        "lxml",
    ),
    "xml tree": in_holder(lambda: _xml().getroottree(), lambda t: t.getroot().tag == "a", "lxml"),
    "html element": in_holder(_html, lambda e: e.text_content() == "ab", "lxml"),
    "array": in_holder(lambda: _module("numpy").arange(3), lambda a: a.sum() == 3, "numpy"),
    "array's generator": in_holder(
        lambda: _module("numpy.random").default_rng(3), lambda g: 0 <= g.random() < 1, "numpy"
    ),
    "ufunc": in_holder(lambda: _module("numpy").add, lambda f: f(1, 2) == 3, "numpy"),
}

REFUSED |= {
    "loguru logger with a file that is rotated": Refused(
        lambda: Holder(_loguru(rotation="1 MB")), "args[0].x", "enqueue=True", "loguru", close=lambda h: h.x.remove()
    ),
    "sqlalchemy engine in memory": Refused(
        lambda: Holder(_module("sqlalchemy").create_engine("sqlite://")), "args[0].x", "file", "sqlalchemy"
    ),
    "xpath": Refused(lambda: Holder(_module("lxml.etree").XPath("a")), "args[0].x", "source", "lxml"),
    "mongo cursor": Refused(lambda: [_mongo().dd.cc.find()], "args[0][0]", "list(", "pymongo"),
    "redis subscription": Refused(
        lambda: Holder(_module("redis").Redis("h", 9).pubsub()), "args[0].x", "pubsub()", "redis"
    ),
}


def _loguru(**options: Any) -> Any:
    """Make a logger of its own, beside the one that every module has."""
    core = _module("loguru._logger").Core()
    made = _module("loguru._logger").Logger(core, None, 0, False, False, False, False, True, [], {})
    made.add(tempfile.gettempdir() + "/safemp-real-objects-loguru.log", delay=True, **options)
    return made.bind(a=1)


def _boxes() -> Any:
    index = _module("rtree.index").Index()
    index.insert(3, (0, 0, 1, 1), obj={"a": 1})
    index.insert(4, (5, 5, 6, 6))
    return index


_OTHERS |= {
    "loguru logger with a file": in_holder(
        _loguru, lambda log: (log.info("x"), log.remove(), log._options[-1])[-1] == {"a": 1}, "loguru"
    ),
    "elasticsearch client": in_holder(
        lambda: _module("elasticsearch").Elasticsearch("http://h:9", api_key="k"),
        lambda c: c.xpack._client is c and c.options(request_timeout=1)._transport is c._transport,
        "elasticsearch",
    ),
    "starlette application": in_holder(
        lambda: _module("starlette.applications").Starlette(), lambda a: a.state._state == {}, "starlette"
    ),
    "rtree index": in_holder(
        _boxes,
        lambda i: len(i) == 2 and [n.object for n in i.intersection((0, 0, 2, 2), objects=True)] == [{"a": 1}],
        "rtree",
    ),
}

ARRIVES: dict[str, Arrives] = {**_STD, **_OTHERS}


def works(name: str, obj: Any) -> bool:
    """Tell in the worker whether what has come works."""
    return bool(ARRIVES[name].works(obj)) or ARRIVES[name].works(obj) is None
