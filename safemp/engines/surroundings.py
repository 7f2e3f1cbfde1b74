"""What a worker is surrounded by: environment variables, and how processes start there.

``os.environ`` of the caller must stay as it is, for a moment even: other threads read
it, and processes that they start inherit it. So each way of starting a process needs
its own way of handing variables over, early enough for libraries that read them when
they are loaded:

* loky's processes take them.
* ``spawn`` and ``forkserver`` send the process's name first, before they import the
  caller's main; ours carries the variables along (``_Name``).
* A forked process sets them when it runs. Its libraries are loaded anyway.
"""

from __future__ import annotations

import multiprocessing
import operator
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from safemp.engines import nesting, threads

if TYPE_CHECKING:  # a worker has no settings, and what they load is for callers
    from safemp.engines.settings import Settings

__all__ = ["Surroundings", "surroundings_of"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a worker begins with.

    Attributes:
        variables: Of its environment, beside the caller's.
        start_method: Of the processes that its tasks start, unless they say. loky's
            processes would have loky's, which those of ``spawn`` do not know.
        offer: What it may be asked for of the caller's ``__main__``, which it does not have: see ``codec.offers``.
    """

    variables: Mapping[str, str]
    start_method: str | None
    offer: bytes = b""

    def name_with(self, name: str, start_method: str) -> str:
        """Return *name* for a process; where that is pickled, the variables go with it."""
        return _Name(name, self.variables) if start_method in ("spawn", "forkserver") else name

    def hand_over(self, process: Any) -> None:
        """Have *process*, which is to be started, begin with the variables, if it takes any."""
        if isinstance(getattr(process, "env", None), dict):  # loky's
            process.env = {**process.env, **self.variables}

    def enter(self) -> None:
        """In a worker, before its first task: make it so."""
        os.environ.update(self.variables)
        threads.lower(self.variables)
        multiprocessing.set_start_method(self.start_method, force=True)


def surroundings_of(settings: Settings) -> Surroundings:
    """Return what a worker of a pool with *settings* begins with."""
    limit = settings.inner_max_num_threads
    if limit is None:
        limit = max(1, nesting.cores() // settings.max_workers)
    method = settings.context.get_start_method()
    if method.startswith(("loky", "template")):
        method = multiprocessing.get_start_method(allow_none=True)
        if method not in multiprocessing.get_all_start_methods():  # a package's own, which a clean interpreter lacks
            method = None
    return Surroundings(
        {
            **nesting.variables(settings.max_workers),
            **threads.variables(limit, insist=settings.inner_max_num_threads is not None),
        },
        method,
        settings.offer,
    )


class _Name(str):
    """A name which, where it is loaded, sets environment variables.

    It loads with the standard library alone: the new process has no ``sys.path`` yet.
    """

    __slots__ = ("_environment",)

    def __new__(cls, name: str, variables: Mapping[str, str]) -> _Name:
        made = super().__new__(cls, name)
        made._environment = _Environment(variables)
        return made

    _environment: _Environment

    def __reduce__(self) -> tuple[Any, ...]:
        return operator.itemgetter(0), ((str(self), self._environment),)


class _Environment:
    """``os.environ`` of the process that loads it, with some variables set."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables

    def __reduce__(self) -> tuple[Any, ...]:
        items: Iterator[tuple[str, str]] = iter(self._variables.items())
        return getattr, (_OsModule(), "environ"), None, None, items


class _OsModule:
    """The module ``os`` of the process that loads it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return __import__, ("os",)
