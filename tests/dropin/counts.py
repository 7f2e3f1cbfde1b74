"""Say in one line how many of CPython's own tests have passed on safemp, by suite and start method."""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from typing import Any

PROPERTY = "cpython"
"""The property of a test that has run some of theirs: the suite, the start method, how many have ended how."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Add the line to pytest's summary, if any of them were run."""
    passed: defaultdict[str, Counter[str]] = defaultdict(Counter)
    others: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == PROPERTY:
                suite, method, ended = value
                passed[suite][method] += ended["passed"]
                others.update(ended)
    if passed:
        suites = (f"{suite} {_numbers(by)}" for suite, by in sorted(passed.items()))
        terminalreporter.write_line(
            f"CPython {platform.python_version()}'s own tests that pass: {'; '.join(suites)}. "
            f"Excluded {others['excluded']}, skipped by CPython {others['skipped']}."
        )


def _numbers(by_method: Counter[str]) -> str:
    return " + ".join(f"{number} {method}" for method, number in sorted(by_method.items()))
