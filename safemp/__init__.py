"""A pool of processes that always answers.

A safe drop-in for ``multiprocessing.Pool`` and
``concurrent.futures.ProcessPoolExecutor``. Names load on first use, because every
worker imports this file.

(pytest, which this package has a plugin for, is to leave this file alone: PYTEST_DONT_REWRITE.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safemp.codec.lost import Lost
    from safemp.codec.repairs import register
    from safemp.context import get_context
    from safemp.context.clean import Process
    from safemp.dumping import dump, dumps, load, loads, repairing
    from safemp.engines.crash import InitializerError, MemoryLimitExceeded, TaskKilled, TaskTimeout, WorkerCrashed
    from safemp.engines.stats import Stats, WorkerStats
    from safemp.errors import Culprit, EngineError, FrameError, PreflightError, Repaired, SafempError
    from safemp.executor import ProcessPoolExecutor, SafeExecutor
    from safemp.failures import MapError
    from safemp.future import SafeFuture
    from safemp.inspection import Report, inspect
    from safemp.maps import imap, imap_unordered, map, starmap
    from safemp.patching import patch, patched, unpatch
    from safemp.pool import AsyncResult, Pool
    from safemp.result_error import ResultError
    from safemp.sharing import SharedObject, share

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Culprit",
    "EngineError",
    "FrameError",
    "InitializerError",
    "Lost",
    "MapError",
    "MemoryLimitExceeded",
    "Pool",
    "PreflightError",
    "Process",
    "ProcessPoolExecutor",
    "Repaired",
    "Report",
    "ResultError",
    "SafeExecutor",
    "SafeFuture",
    "SafempError",
    "SharedObject",
    "Stats",
    "TaskKilled",
    "TaskTimeout",
    "WorkerCrashed",
    "WorkerStats",
    "dump",
    "dumps",
    "get_context",
    "imap",
    "imap_unordered",
    "inspect",
    "load",
    "loads",
    "map",
    "patch",
    "patched",
    "register",
    "repairing",
    "share",
    "starmap",
    "unpatch",
]

_HOMES = {
    "AsyncResult": "safemp.pool",
    "Culprit": "safemp.errors",
    "EngineError": "safemp.errors",
    "FrameError": "safemp.errors",
    "InitializerError": "safemp.engines.crash",
    "Lost": "safemp.codec.lost",
    "MapError": "safemp.failures",
    "MemoryLimitExceeded": "safemp.engines.crash",
    "Pool": "safemp.pool",
    "PreflightError": "safemp.errors",
    "Process": "safemp.context.clean",
    "ProcessPoolExecutor": "safemp.executor",
    "Repaired": "safemp.errors",
    "Report": "safemp.inspection",
    "ResultError": "safemp.result_error",
    "SafeExecutor": "safemp.executor",
    "SafeFuture": "safemp.future",
    "SafempError": "safemp.errors",
    "SharedObject": "safemp.sharing",
    "Stats": "safemp.engines.stats",
    "TaskKilled": "safemp.engines.crash",
    "TaskTimeout": "safemp.engines.crash",
    "WorkerCrashed": "safemp.engines.crash",
    "WorkerStats": "safemp.engines.stats",
    "dump": "safemp.dumping",
    "dumps": "safemp.dumping",
    "get_context": "safemp.context",
    "imap": "safemp.maps",
    "imap_unordered": "safemp.maps",
    "inspect": "safemp.inspection",
    "load": "safemp.dumping",
    "loads": "safemp.dumping",
    "map": "safemp.maps",
    "patch": "safemp.patching",
    "patched": "safemp.patching",
    "register": "safemp.codec.repairs",
    "repairing": "safemp.dumping",
    "share": "safemp.sharing",
    "starmap": "safemp.maps",
    "unpatch": "safemp.patching",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'safemp' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
