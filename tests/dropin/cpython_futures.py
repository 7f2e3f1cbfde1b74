"""CPython's tests of ``ProcessPoolExecutor``, with ``safemp.SafeExecutor`` in its place.

Theirs exist once for each of multiprocessing's start methods; we take one set of them
and give it the method that is asked for.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from tests.dropin import cpython_swap

cpython_swap.swap()

from safemp import SafeExecutor, SafeFuture  # noqa: E402 - not before the swap

METHOD = cpython_swap.method()
PREFIX = {"fork": "ProcessPoolFork", "forkserver": "ProcessPoolForkserver"}.get(METHOD, "ProcessPoolSpawn")


class Future(SafeFuture[Any]):
    """Theirs look for this name in texts."""


def their_modules() -> list[Any]:
    """Return the modules with the tests: one, or from Python 3.12 on a package."""
    package = importlib.import_module("test.test_concurrent_futures")
    parts = [part.name for part in pkgutil.iter_modules(getattr(package, "__path__", []))]
    wanted = [part for part in parts if part not in ("test_interpreter_pool", "test_thread_pool")]
    return [package, *(importlib.import_module(f"{package.__name__}.{part}") for part in wanted)]


for module in their_modules():
    if hasattr(module, "Future"):
        module.Future = Future
    for name, value in list(vars(module).items()):
        if name == f"{PREFIX}Mixin":
            value.executor_type, value.ctx = SafeExecutor, METHOD
        elif name == "FutureTests" or (name.startswith(PREFIX) and name.endswith("Test")):
            globals()[name.removeprefix(PREFIX)] = value
