"""CPython's own tests of ``ProcessPoolExecutor``, taken from the interpreter that runs us.

What is left out, and why, says ``exclusions.py``. (Some installations have come without
``test_concurrent_futures``. For them ``.ci/run`` looks for that of a like Python, and says
where it is in ``SAFEMP_CPYTHON_TESTS``.)
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.dropin.cpython_suite import METHODS, Record, need, run_class

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
def test_executor_passes_cpythons_tests(case: str, method: str, tmp_path: Path, record_property: Record) -> None:
    """With ``SafeExecutor`` for ``ProcessPoolExecutor``, a class of CPython's tests passes and nothing is left."""
    run_class("futures", case, method, tmp_path, record_property)
