"""Contexts whose processes are loky's: clean interpreters that do not import the caller's main.

As for ``standard``, little is imported here.
"""

from __future__ import annotations

import multiprocessing.context as stdlib
from typing import Any, ClassVar

from safemp.backend import LokyContext, LokyProcess
from safemp.context.standard import Launched, SafeContext
from safemp.errors import PreflightError

__all__ = ["CleanContext", "CleanProcess", "DefaultContext", "Process", "clean", "default"]


class CleanProcess(Launched, LokyProcess):
    """A process of the loky context: see ``safemp.Process``."""


class CleanContext(SafeContext, LokyContext):
    """As loky's own context."""

    _pool_context: str | None = "loky"
    Process: ClassVar[Any] = CleanProcess


class Process(CleanProcess):
    """``multiprocessing.Process`` that gets what it was meant to have.

    Same parameters, same methods. It is a clean interpreter which does not import this
    program's main module (functions of a script are sent to it), so a script needs no
    ``if __name__ == "__main__"`` guard; or a fork, if it is handed something that was made
    in a fork context. ``safemp.get_context(method).Process`` starts otherwise.

    ``start()`` raises ``PreflightError`` where something cannot be pickled; see ``safemp.get_context``.
    """

    __module__ = "safemp"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        from safemp.engines.launch import wants_fork

        try:
            return CleanProcess._Popen(process_obj)
        except PreflightError as error:
            if not wants_fork(error):
                raise
        return stdlib.ForkProcess._Popen(process_obj)


class DefaultContext(CleanContext):
    """The context of ``safemp.get_context()``."""

    _pool_context = None  # the pool decides likewise
    Process: ClassVar[Any] = Process


clean: CleanContext = CleanContext()
default: DefaultContext = DefaultContext()
