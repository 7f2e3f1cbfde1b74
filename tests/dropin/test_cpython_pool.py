"""CPython's own tests of ``multiprocessing.Pool``, taken from the interpreter that runs us.

What is left out, and why, says ``exclusions.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dropin.cpython_suite import METHODS, need, run_class

CASES = (
    "WithProcessesTestPool",
    "WithProcessesTestPoolWorkerErrors",
    "WithProcessesTestPoolWorkerLifetime",
    "TestInitializers",
    "TestStdinBadfiledescriptor",
)


@need("test._test_multiprocessing")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_pool_passes_cpythons_tests(case: str, method: str, tmp_path: Path) -> None:
    """With ``safemp.Pool`` for ``multiprocessing.Pool``, a class of CPython's tests passes and nothing is left."""
    assert run_class("cpython_pool", case, method, tmp_path)


@need("test.test_multiprocessing_main_handling")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", METHODS)
def test_main_is_what_cpythons_tests_say(method: str, tmp_path: Path) -> None:
    """Functions of a main that is a script, a package, a zip file or a module (``-m``) run in workers."""
    assert run_class("cpython_main", "MainHandlingTest", method, tmp_path)
