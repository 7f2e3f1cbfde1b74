"""CPython's own tests of ``multiprocessing``, pools and processes, taken from the interpreter that runs us.

What is left out, and why, says ``exclusions.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dropin.cpython_suite import METHODS, Record, need, run_class

CASES = (
    "WithProcessesTestPool",
    "WithProcessesTestPoolWorkerErrors",
    "WithProcessesTestPoolWorkerLifetime",
    "TestInitializers",
    "TestStdinBadfiledescriptor",
)

PROCESSES = (
    "TestStartMethod",
    "WithManagerTestRemoteManager",
    "WithProcessesTestBarrier",
    "WithProcessesTestCondition",
    "WithProcessesTestConnection",
    "WithProcessesTestEvent",
    "WithProcessesTestPicklingConnections",
    "WithProcessesTestProcess",
    "WithProcessesTestQueue",
    "WithProcessesTestSharedMemory",
    "WithProcessesTestSubclassingProcess",
    "WithProcessesTestValue",
)


@need("test._test_multiprocessing")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_pool_passes_cpythons_tests(case: str, method: str, tmp_path: Path, record_property: Record) -> None:
    """With ``safemp.Pool`` for ``multiprocessing.Pool``, a class of CPython's tests passes and nothing is left."""
    run_class("pool", case, method, tmp_path, record_property)


@need("test.test_multiprocessing_main_handling")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", METHODS)
def test_main_is_what_cpythons_tests_say(method: str, tmp_path: Path, record_property: Record) -> None:
    """Functions of a main that is a script, a package, a zip file or a module (``-m``) run in workers."""
    run_class("main", "MainHandlingTest", method, tmp_path, record_property)


@need("test._test_multiprocessing")
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("case", PROCESSES)
def test_processes_pass_cpythons_tests(case: str, method: str, tmp_path: Path, record_property: Record) -> None:
    """With ``safemp.patch()``, what is handed to processes and used by them is what it was."""
    run_class("processes", case, method, tmp_path, record_property)
