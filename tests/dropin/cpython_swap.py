"""Put safemp's classes in the standard library's place, for CPython's own tests.

``SAFEMP_DROPIN_METHOD`` names the start method: ``template``, which is safemp's own, or
one of multiprocessing's. It is read from the environment, since the workers import
the tests, too, and must find the same there.
"""

from __future__ import annotations

import os
from typing import Any

SWAP = """\
import concurrent.futures.process, multiprocessing, safemp

if {method!r} == "template":  # which multiprocessing does not know by its name
    from safemp.engines.template import template_context
    multiprocessing.context._concrete_contexts["template"] = template_context

class ProcessPoolExecutor(safemp.SafeExecutor):
    pass

def Pool(processes=None, initializer=None, initargs=(), maxtasksperchild=None, context={method!r}):
    return safemp.Pool(processes, initializer, initargs, maxtasksperchild, context)

concurrent.futures.ProcessPoolExecutor = concurrent.futures.process.ProcessPoolExecutor = ProcessPoolExecutor
concurrent.futures.SafeExecutor = safemp.SafeExecutor
multiprocessing.Pool = Pool
"""
"""Also goes before the programs that the tests run with ``python -c``."""


def method() -> str:
    """Return the start method that the workers are to have."""
    return os.environ["SAFEMP_DROPIN_METHOD"]


def swap() -> None:
    """Replace the standard library's pools, here and in programs. Before the tests are imported."""
    from test.support import script_helper

    code = SWAP.format(method=method())
    exec(code, {"__name__": __name__})
    run = script_helper.assert_python_ok

    def assert_python_ok(*args: str, **env_vars: Any) -> Any:
        if args[0] == "-c":
            args = ("-c", code + args[1], *args[2:])
        # With a variable to set, it does not isolate the program from where safemp is.
        env_vars.setdefault("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        return run(*args, **env_vars)

    script_helper.assert_python_ok = assert_python_ok
