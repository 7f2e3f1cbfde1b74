"""The start of a process that is not forked: what is pickled for it, and by what.

A ``Popen`` of the standard library, or of loky, writes two pickles for the new process:
how to prepare itself (its path, its main module), and the process object. It is given a
``Parcel`` in place of that object. When the Popen pickles it, the parcel pickles the
process with our rules, while whatever multiprocessing has to hand over goes the way it
always goes, through that Popen. It becomes a call of ``unpack`` with a stream of ours, or,
if that is a plain pickle, of ``pickle.loads``.

Rule 1: the new process loads what it would have loaded, when it would have: after its
main module has been prepared. So ``__main__`` goes by name where there is one.
Rule 2: what cannot be pickled is found while the Popen has neither a process nor a
descriptor, so nothing is half started and nothing leaks. (Windows starts first.)
Rule 3: private names of multiprocessing that have to do with processes are used here, and
nowhere else: ``_Popen``, ``_fds`` of a Popen, the attributes of a process and of the fork server.
"""

from __future__ import annotations

import copyreg
import io
from collections.abc import Callable, Mapping
from multiprocessing import context as stdlib
from multiprocessing import spawn
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from operator import getitem
from typing import Any, TypeAlias

from safemp.codec import calls, definitions, namespaces, pickling
from safemp.codec.inheritance import NotInheritedError
from safemp.codec.repairs import ALL, Policy
from safemp.engines.handover import is_nameless, needs_fork, reducer_while_spawning
from safemp.errors import PreflightError

__all__ = ["Parcel", "fork_servers", "launch", "spawning_classes", "unpack", "wants_fork"]

Unpack: TypeAlias = "Callable[[bytes, bool, bytes], Any]"

_NOT_THE_USERS = frozenset(
    {"_identity", "_config", "_parent_pid", "_parent_name", "_popen", "_closed", "_target", "_args", "_kwargs", "_name"}
    | {"env", "init_main_module"}  # loky's
)
"""Attributes of a process object that are its class's own affair."""


def launch(process: Any, popen: Callable[[Any], Any], unpack: Unpack | None = None) -> Any:
    """Start *process* by *popen*, with what is handed over checked and repaired.

    Args:
        process: A process object.
        popen: What starts it: the ``_Popen`` of a class of processes.
        unpack: What the new process calls; ``None``: ``unpack``, if it must.

    Returns:
        What *popen* returns.

    Raises:
        PreflightError: Something in it cannot be pickled; nothing was started.
    """
    if isinstance(process, Parcel):  # by a patch of what we call
        return popen(process)
    return popen(Parcel(process, unpack))


def unpack(stream: bytes, main_by_name: bool, offer: bytes = b"") -> Any:
    """Load a process object, in the new process.

    Args:
        stream: Of ``calls.encode_process``.
        main_by_name: This process has its caller's main module; if not, it gets what it
            needs of it by value.
        offer: What it may be asked for of that: see ``codec.offers``.
    """
    if not main_by_name:
        namespaces.adopt()
        pickling.take_offer(offer)
    return pickling.loads(stream)[0]


class Parcel:
    """Stands for a process object where a ``Popen`` wants one.

    Args:
        process: The process object.
        unpack: As for ``launch``.
    """

    def __init__(self, process: Any, unpack: Unpack | None) -> None:
        self._safemp_process = process
        self._safemp_unpack = unpack

    def __getattr__(self, name: str) -> Any:
        return getattr(self._safemp_process, name)

    def __reduce__(self) -> Any:
        policy: Policy = getattr(type(self._safemp_process), "_safemp_policy", ALL)
        process = _as_sent(self._safemp_process)
        popen: Any = stdlib.get_spawning_popen()
        estate = _Estate(popen)
        by_name = _main_is_there(process, popen.method)
        stream = calls.encode_process(process, _roots(process), by_name=by_name, heritage=estate, policy=policy)
        estate.settle()
        self._safemp_estate = estate  # descriptors in it are of objects that may have been made for the pickle
        # The process object drops its arguments as soon as it has started; a semaphore that
        # nobody else holds would be gone before the new process has opened it by its name.
        popen._safemp_semaphores = estate.semaphores
        if self._safemp_unpack is None and not definitions.are_in(stream):
            return getitem, (_Pickle(stream), 0)  # a process that needs nothing of ours loads nothing of ours
        return self._safemp_unpack or unpack, (stream, by_name, b"" if by_name else pickling.dumps_offer(policy))


class _Pickle:
    """Becomes what is in a plain pickle."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream

    def __reduce__(self) -> Any:
        return pickling.plain_loads, (self._stream,)


class _Estate:
    """The ``codec.inheritance.Heritage`` of one new process: all goes multiprocessing's own way.

    Args:
        popen: What starts the process. It collects descriptors.

    Attributes:
        semaphores: Those that the process will open.
    """

    def __init__(self, popen: Any) -> None:
        theirs = ForkingPickler(io.BytesIO()).dispatch_table
        self.registered: Mapping[type, Callable[[Any], Any]] = {
            cls: reducer if reducer is copyreg.dispatch_table.get(cls) else self._keeping(reducer)
            for cls, reducer in theirs.items()
        }
        self._method: str = popen.method
        self._fds: list[int] = getattr(popen, "_fds", [])
        self._before = len(self._fds)
        self.semaphores: list[Any] = []
        self._kept: list[Any] = []

    def begin(self) -> None:
        del self._fds[self._before :]
        self.semaphores.clear()
        self._kept.clear()

    def _keeping(self, reducer: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Let what is handed over live as long as this does.

        The state of a random generator of torch is a tensor of its own each time: the
        descriptor of its memory would be closed, and be another's, before the process is there.
        """

        def reduce(obj: Any) -> Any:
            self._kept.append(obj)
            return reducer(obj)

        return reduce

    def reducer_for(self, cls: type) -> Callable[[Any], Any]:
        reducer = self._keeping(reducer_while_spawning(cls))

        def reduce(obj: Any) -> Any:
            if is_nameless(obj):
                raise NotInheritedError(*needs_fork(obj, self._method, of_pool=False))
            if "_semlock" in getattr(obj, "__dict__", ()):
                self.semaphores.append(obj)
            return reducer(obj)

        return reduce

    def settle(self) -> None:
        """Keep one of each descriptor, where they are not found by their position."""
        if self._method != "forkserver":
            self._fds[:] = dict.fromkeys(self._fds)


def wants_fork(error: PreflightError) -> bool:
    """Tell whether *error*, of ``launch``, is for a lock, queue, ... that a forked process would have."""
    return any(isinstance(culprit._error, NotInheritedError) for culprit in error.culprits)


def _as_sent(process: Any) -> Any:
    """Return what stands for *process*: only its start knows of a context with repairs of its own."""
    cls = vars(type(process)).get("_safemp_sent_as")
    if cls is None:
        return process
    twin = cls.__new__(cls)
    twin.__dict__ = vars(process)
    return twin


def _main_is_there(process: Any, method: str) -> bool:
    """Tell whether the new process will have this program's main module."""
    if method == "loky":
        return False  # it has it at best, and by value is right in any case
    plan = spawn.get_preparation_data(process.name)
    name = plan.get("init_main_from_name", "")
    # The main module of a package is named, and not imported: it may have no guard.
    return "init_main_from_path" in plan or (name != "" and not f".{name}".endswith(".__main__"))


def _roots(process: Any) -> list[tuple[str, Any]]:
    """List the parts of *process* under the names by which a user knows them."""
    cls = type(process)
    if _has_its_own_way(cls):
        return [("self", process)]
    roots = [] if process._target is None else calls.roots_of(process._target, process._args, process._kwargs)
    roots = [("target" if name == "fn" else name, part) for name, part in roots]
    if not cls.__module__.startswith(("multiprocessing.", "loky.", "safemp")):
        roots.append(("type(self)", cls))
    return roots + [(f"self.{name}", part) for name, part in vars(process).items() if name not in _NOT_THE_USERS]


def _has_its_own_way(cls: type) -> bool:
    """Tell whether *cls* says itself what is pickled."""
    names = ("__reduce__", "__reduce_ex__", "__getstate__")
    return any(getattr(cls, name, None) is not getattr(BaseProcess, name, None) for name in names)


def spawning_classes() -> list[Any]:
    """Return the standard library's classes of processes that start with nothing of their caller."""
    names = ("SpawnProcess", "ForkServerProcess")
    return [getattr(stdlib, name) for name in names if hasattr(stdlib, name)]


def fork_servers() -> list[Any]:
    """Return what keeps this process's fork server, where there can be one."""
    if not hasattr(stdlib, "ForkServerProcess"):
        return []
    from multiprocessing import forkserver

    return [forkserver._forkserver]
