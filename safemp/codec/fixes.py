"""What to type instead: one line of advice for each kind of culprit.

A type is recognised by identity, through ``sys.modules``, never by its name: classes lie
about theirs. A module that is not loaded has no instances, so none is imported here.
"""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

from safemp.codec import statics

__all__ = ["fix_for"]

_LIST = "send list(...) of it"
_FILE = "send the path, and open the file in the task"
_CONNECT = "send the address, and open it in the task or in an initializer"
_QUEUE = "hand it over in initargs, or use multiprocessing.Manager().{}()"
_RUN = "send the function and its arguments, and start it in the worker"

_ADVICE: dict[tuple[str, str], str] = {
    ("_socket", "socket"): _CONNECT,
    ("socket", "socket"): _CONNECT,
    ("ssl", "SSLContext"): "make it in the task or in an initializer: ssl.create_default_context()",
    ("ssl", "SSLObject"): _CONNECT,
    ("selectors", "BaseSelector"): "make it in the worker",
    ("types", "GeneratorType"): _LIST,
    ("types", "CoroutineType"): "send the coroutine function and its arguments; the task runs it: asyncio.run()",
    ("types", "AsyncGeneratorType"): "collect it first, and send the list",
    ("types", "FrameType"): "send what you need of it: traceback.extract_stack(frame)",
    ("types", "TracebackType"): "send the exception itself, or traceback.format_tb(tb)",
    ("types", "MappingProxyType"): "send dict(...) of it",
    ("builtins", "memoryview"): "send bytes(...) of it",
    ("weakref", "ref"): "send the object itself, and make the weak reference in the worker",
    ("weakref", "WeakValueDictionary"): "send dict(...) of it",
    ("weakref", "WeakKeyDictionary"): "send dict(...) of it",
    ("mmap", "mmap"): "send the path, and map the file in the task",
    ("_io", "StringIO"): "send its getvalue()",
    ("_io", "BytesIO"): "send its getvalue()",
    ("_io", "_IOBase"): _FILE,
    ("tempfile", "_TemporaryFileWrapper"): _FILE,
    ("os", "ScandirIterator"): _LIST,
    ("os", "DirEntry"): "send its path",
    ("sqlite3", "Connection"): "send the file's path, and connect in the task or in an initializer",
    ("sqlite3", "Cursor"): "send fetchall() of it",
    ("sqlite3", "Row"): "send tuple(...) or dict(...) of it",
    ("threading", "Thread"): _RUN,
    ("threading", "Timer"): _RUN,
    ("concurrent.futures", "Executor"): "make it in the worker",
    ("concurrent.futures", "Future"): "send its result()",
    ("_asyncio", "Task"): "await it first, and send the result",
    ("_asyncio", "Future"): "await it first, and send the result",
    ("asyncio", "AbstractEventLoop"): "let the task make its own: asyncio.run()",
    ("subprocess", "Popen"): "send its pid, or start it in the task",
    ("queue", "Queue"): _QUEUE.format("Queue"),
    ("_queue", "SimpleQueue"): _QUEUE.format("Queue"),
    ("threading", "Event"): _QUEUE.format("Event"),
    ("threading", "Condition"): _QUEUE.format("Condition"),
    ("threading", "Semaphore"): _QUEUE.format("Semaphore"),
    ("threading", "Barrier"): _QUEUE.format("Barrier"),
    ("_thread", "lock"): _QUEUE.format("Lock"),
    ("_thread", "RLock"): _QUEUE.format("RLock"),
    ("multiprocessing.queues", "Queue"): _QUEUE.format("Queue"),
    ("multiprocessing.queues", "SimpleQueue"): _QUEUE.format("Queue"),
    ("multiprocessing.synchronize", "SemLock"): "hand it over in initargs, or use the one of multiprocessing.Manager()",
    ("multiprocessing.synchronize", "Event"): _QUEUE.format("Event"),
    ("multiprocessing.synchronize", "Condition"): _QUEUE.format("Condition"),
    ("multiprocessing.connection", "_ConnectionBase"): "hand it over in initargs, or send values and return values",
    ("multiprocessing.process", "BaseProcess"): _RUN,
    ("multiprocessing.pool", "Pool"): "make it in the worker, or submit from the caller",
    ("contextvars", "Context"): "send the values of its variables: dict(context.items()), by name",
    ("contextvars", "ContextVar"): "make it at the top level of a module, under its own name",
    ("contextvars", "Token"): "keep it where the variable was set",
    ("builtins", "PyCapsule"): "make what holds it in the worker: it wraps a C pointer of this process",
}
"""``(module, name)`` of a type to what to type. A subclass takes its nearest base's."""


def fix_for(obj: Any, owner: Any, own_error: bool) -> str:
    """Advise what to do about culprit *obj*.

    Args:
        obj: The culprit.
        owner: The object that holds it as an attribute, or ``None``.
        own_error: Pickling ended in an error which *obj*'s own class raised.

    Returns:
        One line. Runs no code of the user's classes.
    """
    cls = type(obj)
    known = _known()
    for base in statics.mro(cls):
        for kind, text in known:
            if base is kind:
                return _with_owner(text, owner)
        if own_error and base is not object and base.__flags__ & _HEAP_TYPE:
            for method in ("__reduce_ex__", "__reduce__", "__getstate__"):
                if method in statics.class_dict(base):
                    return f"mend {method} of {statics.type_name(base)}: it raised"
    if cls is FunctionType or issubclass(cls, type):
        return "define it at the top level of an importable module, under its own name"
    if owner is not None:
        return f"drop it in __getstate__ of {statics.type_name(type(owner))}, or make it in the worker"
    return "send what it is made from, and make it in the task or in an initializer"


_HEAP_TYPE = 1 << 9
"""``Py_TPFLAGS_HEAPTYPE``: made by a ``class`` statement (or like one)."""


def _with_owner(advice: str, owner: Any) -> str:
    if owner is None:
        return advice
    return f"{advice}; drop it in __getstate__ of {statics.type_name(type(owner))}"


def _known() -> list[tuple[type, str]]:
    found: list[tuple[type, str]] = []
    for (module, name), text in _ADVICE.items():
        space = getattr(sys.modules.get(module), "__dict__", None)
        kind = space.get(name) if type(space) is dict else None
        if isinstance(kind, type):
            found.append((kind, text))
    return found
