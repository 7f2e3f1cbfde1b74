"""The standard library's contexts, with processes that are given what they were meant to have.

A process imports this file to find its class, so what only its caller needs is imported
where it is used.
"""

from __future__ import annotations

import multiprocessing.context as stdlib
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from safemp.codec.repairs import Policy
    from safemp.pool import Pool

__all__ = ["Launched", "SafeContext", "SpawnContext", "SpawnProcess", "contexts"]


class SafeContext(stdlib.BaseContext):
    """What every context of safemp has. Ask ``get_context`` for one."""

    Process: ClassVar[Any]
    """The class of its processes: as ``multiprocessing.Process``."""

    _pool_context: str | None = None
    _policy: Policy | None = None  # all repairs but those that touch the world

    def get_context(self, method: str | None = None) -> SafeContext:  # type: ignore[override]  # one of ours
        """Return the context of safemp for *method*, with the repairs of this one; ``None``: this one."""
        from safemp.context import get_context

        return self if method is None else get_context(method, repairs=self._policy or "all")

    def _repairing(self, policy: Policy) -> SafeContext:
        """Return a context like this one, with other repairs."""
        made: Any = type(self)()
        made._policy = policy
        if issubclass(self.Process, Launched):
            cls = self.Process
            space = {
                "__module__": cls.__module__,
                "__doc__": cls.__doc__,
                "_safemp_policy": policy,
                "_safemp_sent_as": cls,
            }
            made.Process = type(cls.__name__, (cls,), space)
        return made  # type: ignore[no-any-return]  # its Process is its own

    def Pool(  # type: ignore[override]  # ours is no subclass of theirs
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        **options: Any,
    ) -> Pool:
        """Make a ``safemp.Pool`` whose workers start as this context's processes do.

        Args:
            processes: As for ``safemp.Pool``, as is all that follows.
            initializer: Called in each worker when it starts.
            initargs: Its arguments.
            maxtasksperchild: Tasks after which a worker is replaced.
            options: What else ``safemp.Pool`` takes. ``repairs`` is this context's unless given.

        Raises:
            As ``safemp.Pool``.
        """
        from safemp.pool import Pool

        options.setdefault("repairs", self._policy or "all")
        return Pool(processes, initializer, initargs, maxtasksperchild, self._pool_context, **options)


class Launched:
    """Comes before a class of processes whose start is to be checked and repaired."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from safemp.engines.launch import launch

        return launch(process_obj, super(Launched, type(process_obj))._Popen)  # type: ignore[misc]


class SpawnProcess(Launched, stdlib.SpawnProcess):
    """A process of a spawn context: see ``safemp.Process``."""


class SpawnContext(SafeContext, stdlib.SpawnContext):
    """As ``multiprocessing.get_context("spawn")``."""

    _pool_context = "spawn"
    Process = SpawnProcess


contexts: dict[str, SafeContext] = {"spawn": SpawnContext()}
"""By start method, those that this system has."""

if sys.platform != "win32":

    class ForkServerProcess(Launched, stdlib.ForkServerProcess):
        """A process of a forkserver context: see ``safemp.Process``."""

    class ForkServerContext(SafeContext, stdlib.ForkServerContext):
        """As ``multiprocessing.get_context("forkserver")``."""

        _pool_context = "forkserver"
        Process = ForkServerProcess

    class ForkContext(SafeContext, stdlib.ForkContext):
        """As ``multiprocessing.get_context("fork")``: nothing is pickled, so nothing is checked."""

        _pool_context = "fork"

    contexts |= {"forkserver": ForkServerContext(), "fork": ForkContext()}
