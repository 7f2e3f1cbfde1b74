"""CPython's own tests of ``ProcessPoolExecutor``, taken from the interpreter that runs us.

What is left out, and why, says ``exclusions.py``. (The test packages of Python 3.11.7
and 3.12.1, as installed from source, have no ``test_concurrent_futures``.)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dropin.cpython_suite import METHODS, need, run_class

CASES = (
    "AsCompletedTest",
    "ExecutorDeadlockTest",
    "FutureTests",
    "InitializerTest",
    "ProcessPoolExecutorTest",
    "ProcessPoolShutdownTest",
    "WaitTest",
)


@need("test.test_concurrent_futures")
@pytest.mark.timeout(300)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES)
def test_executor_passes_cpythons_tests(case: str, method: str, tmp_path: Path) -> None:
    """With ``SafeExecutor`` for ``ProcessPoolExecutor``, a class of CPython's tests passes and nothing is left."""
    assert run_class("cpython_futures", case, method, tmp_path)
