"""What to type instead: one line of advice for each kind of culprit.

A type is recognised by identity, through ``sys.modules``, never by its name: classes lie
about theirs. A module that is not loaded has no instances, so none is imported here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from types import FunctionType
from typing import Any

from safemp.codec import statics
from safemp.codec.inheritance import INHERIT, KINDS
from safemp.codec.paths import Edge, Node
from safemp.codec.repairs import RefusedError, reopening

__all__ = ["fix_for", "fix_for_load", "is_of_library", "library_object"]

_LIST = "send list(...) of it"
_FILE = "send the path, and open the file in the task"
_CONNECT = "send the address, and open it in the task or in an initializer"
_QUEUE = "use multiprocessing.Manager().{}(), whose handle travels"
_BEGIN = "send the environment, and begin() in the task"
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
    ("multiprocessing.process", "BaseProcess"): _RUN,
    ("multiprocessing.pool", "Pool"): "make it in the worker, or submit from the caller",
    ("contextvars", "Context"): "send the values of its variables: dict(context.items()), by name",
    ("contextvars", "ContextVar"): "make it at the top level of a module, under its own name",
    ("contextvars", "Token"): "keep it where the variable was set",
    ("h5py._hl.base", "HLObject"): _FILE,
    ("lmdb", "Environment"): "send its path(), and open it in the task or in an initializer",
    ("lmdb", "Transaction"): _BEGIN,
    ("lmdb", "Cursor"): _BEGIN,
    ("lmdb.cpython", "_Database"): "send the environment, and open_db() by name in the task",
    ("_ctypes", "_SimpleCData"): "send its value: it is an address in this process",
    ("_ctypes", "Structure"): "send what its pointers point to: they are addresses in this process",
    ("_ctypes", "Union"): "send what its pointers point to: they are addresses in this process",
    ("builtins", "PyCapsule"): "make it in the worker, in __init__ of what is made there, say: "
    "it wraps a C pointer of this process",
}
"""``(module, name)`` of a type to what to type. A subclass takes its nearest base's."""

_MANAGED = {
    ("multiprocessing.queues", "Queue"): "Queue",
    ("multiprocessing.queues", "JoinableQueue"): "JoinableQueue",
    ("multiprocessing.queues", "SimpleQueue"): "Queue",
    ("multiprocessing.synchronize", "Lock"): "Lock",
    ("multiprocessing.synchronize", "RLock"): "RLock",
    ("multiprocessing.synchronize", "Semaphore"): "Semaphore",
    ("multiprocessing.synchronize", "BoundedSemaphore"): "BoundedSemaphore",
    ("multiprocessing.synchronize", "Event"): "Event",
    ("multiprocessing.synchronize", "Condition"): "Condition",
    ("multiprocessing.synchronize", "Barrier"): "Barrier",
    ("multiprocessing.sharedctypes", "Synchronized"): "Value",
    ("multiprocessing.sharedctypes", "SynchronizedArray"): "Array",
}
"""What a manager has too."""

_ADVICE |= dict.fromkeys(KINDS, INHERIT)
_ADVICE |= {kind: f"{INHERIT}; or {_QUEUE.format(name)}" for kind, name in _MANAGED.items()}


def library_object(node: Node) -> type | None:
    """Return the class of the object of a library that keeps the culprit at *node* to itself.

    Nobody can change ``__getstate__`` of a class of a library, nor make anew what is
    deep in its objects. What people have in hand is an ``OpenAI``; it is the last above
    the culprit that is reached by private attributes, or within one package.

    Returns:
        ``None``: the culprit is not inside an object of a library.
    """
    found: type | None = None
    package = ""
    while node[1] is not None:
        parent, edge, key = node[1][0], node[2], node[3]
        function = type(parent) is FunctionType
        home = parent.__module__ if function else statics.module_of(type(parent))
        if isinstance(home, str) and home.partition(".")[0] not in sys.stdlib_module_names:
            inside = home.partition(".")[0]
            private = edge is Edge.REDUCE or (isinstance(key, str) and key.startswith("_"))
            if not is_of_library(home) or not (package in ("", inside) or private):
                break
            package = inside
            found = found if function else type(parent)
        elif function or issubclass(type(parent), type):
            break
        node = node[1]
    return found


def is_of_library(module: str) -> bool:
    """Tell whether *module* was installed: it is in ``site-packages``."""
    for name in (module, module.partition(".")[0]):
        file = getattr(sys.modules.get(name), "__file__", None)
        if isinstance(file, str):
            return _INSTALLED.search(file) is not None
    return False


_INSTALLED = re.compile(r"[\\/](site|dist)-packages[\\/]")


def fix_for(obj: Any, holders: Sequence[type], raised: bool, inside: type | None = None, returned: bool = False) -> str:
    """Advise what to do about culprit *obj*.

    Args:
        obj: The culprit.
        holders: Types of the objects whose state leads to it, nearest first.
        raised: Pickling it ended in an error; ``False``: it was not found under its name.
        inside: See ``library_object``.
        returned: A call has returned it; nothing is opened again for the caller.

    Returns:
        One line. Runs no code of the user's classes.
    """
    cls = type(obj)
    advice = (None if returned else _opened_again(obj)) or _known_advice(cls)
    for holder in holders:  # what is inside a thread pool is out of the user's hands; the pool is not
        of_holder = None if _is_the_users(holder) else _known_advice(holder)
        if of_holder is not None:
            return f"{of_holder} (the {statics.type_name(holder)})"
        if _is_the_users(holder):
            break
    owner = next((h for h in holders if _is_the_users(h) and not is_of_library(statics.module_of(h) or "")), None)
    drop = "" if owner is None else f"drop it in __getstate__ of {statics.type_name(owner)}"
    if inside is not None:
        whole = f"make the {statics.type_name(inside)} in the task or in an initializer"
        return f"{whole}; or {drop}" if drop else whole
    if advice is not None:
        return f"{advice}; or {drop}" if drop else advice
    for base in statics.mro(cls) if raised else ():
        for method in ("__reduce_ex__", "__reduce__", "__getstate__"):
            if method in statics.class_dict(base) and _is_mendable(base):
                return f"mend {method} of {statics.type_name(base)}: it raised"
    if not raised:
        return "define it at the top level of an importable module, under its own name"
    if drop:
        return f"{drop}, or make it in the worker"
    return "send what it is made from, and make it in the task or in an initializer"


def _opened_again(obj: Any) -> str | None:
    """Tell how to switch on that *obj* is opened again, or what keeps that from being honest."""
    rule = reopening(type(obj))
    if rule is None:
        return None
    try:
        rule.reduce(obj)
    except RefusedError as error:
        return error.fix or None
    except Exception:  # it is damaged, or of another thread
        return None
    advice = _known_advice(type(obj))
    return f"{_SWITCH}; or {advice}" if advice else _SWITCH


_SWITCH = 'give repairs=("all", "reopen"), and it is opened again there'


def fix_for_load(obj: Any, error: BaseException, inside: type | None = None) -> str:
    """Advise what to do about *obj*, which pickles, and whose pickle does not load because of *error*.

    Args:
        obj: The culprit.
        error: What loading it raised.
        inside: See ``library_object``.

    Returns:
        One line. Runs no code of the user's classes.
    """
    cls = type(obj)
    name = statics.type_name(cls)
    if isinstance(error, ModuleNotFoundError):
        return f"install {error.name} where the workers run, or cloudpickle.register_pickle_by_value() the module"
    if is_of_library(statics.module_of(cls) or ""):
        return f"make the {statics.type_name(inside or cls)} in the task or in an initializer"
    getter = next((b for b in statics.mro(cls) if "__getattr__" in statics.class_dict(b)), None)
    if getter is not None and isinstance(error, (RecursionError, AttributeError, KeyError)):
        return (
            f"let __getattr__ of {statics.type_name(getter)} raise AttributeError for names that begin with '__', "
            "and for what it is made from: it is asked before the copy has any attribute"
        )
    for base in statics.mro(cls):
        if "__setstate__" in statics.class_dict(base) and _is_mendable(base):
            return f"mend __setstate__ of {statics.type_name(base)}, or what __getstate__ gives it"
    reducer = next((b for b in statics.mro(cls)[:-1] if statics.class_dict(b).keys() & _REDUCERS), None)
    if reducer is not None:
        return f"give {name} a __reduce__ whose call can be made again: {statics.type_name(reducer)}'s cannot"
    return f"give {name} a __reduce__ whose call can be made again, and keep it importable on both sides"


_REDUCERS = {"__reduce__", "__reduce_ex__", "__getnewargs__", "__getnewargs_ex__"}


def _known_advice(cls: type) -> str | None:
    known = [(_type_at(*where), where, text) for where, text in _ADVICE.items()]
    for base in statics.mro(cls):
        for kind, where, text in known:
            # The name of a static type of C is not the user's to give.
            named = where[0] == "builtins" and not statics.is_heap_type(base) and statics.type_name(base) == where[1]
            if base is kind or named:
                return text
    return None


def _type_at(module: str, name: str) -> Any:
    space = getattr(sys.modules.get(module), "__dict__", None)
    return space.get(name) if type(space) is dict else None


def _is_mendable(cls: type) -> bool:
    return statics.is_heap_type(cls) and not is_of_library(statics.module_of(cls) or "")


def _is_the_users(cls: type) -> bool:
    module, dot, _ = statics.type_name(cls).partition(".")
    return statics.is_heap_type(cls) and bool(dot) and module not in sys.stdlib_module_names
