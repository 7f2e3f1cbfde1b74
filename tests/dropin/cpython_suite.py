"""Run a class of CPython's own tests in a child and read what became of each."""

from __future__ import annotations

import json
import platform
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.child import run_python

METHODS = ("loky", "spawn")
"""Start methods: safemp's own, and the one that every platform has."""

DEADLINE = 240.0
"""Seconds for a class. The slowest takes twenty."""


def need(module: str) -> pytest.MarkDecorator:
    """Skip where this interpreter has come without *module* of its tests."""
    try:
        missing = find_spec(module) is None
    except ModuleNotFoundError:  # no test package at all, as in Debian's python3
        missing = True
    return pytest.mark.skipif(missing, reason=f"Python {platform.python_version()} has come without {module}")


def run_class(module: str, case: str, method: str, folder: Path) -> list[str]:
    """Run the tests of class *case* with start method *method*.

    Returns:
        The tests that passed.

    Raises:
        AssertionError: Some did not, or something was left behind; it says what.
    """
    report = folder / "report.jsonl"
    ended = run_python(
        "-m",
        "tests.dropin.cpython_run",
        str(report),
        f"tests.dropin.{module}",
        case,
        cwd=folder,
        env={"SAFEMP_DROPIN_METHOD": method},
        timeout=DEADLINE,
    )
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    outcomes = {test: (outcome, text) for test, outcome, text in map(json.loads, lines)}
    bad = ("begun", "failed")
    wrong = [f"{test} {outcome}: {text}" for test, (outcome, text) in outcomes.items() if outcome in bad]

    assert not wrong, "\n".join([f"{len(wrong)} of {len(outcomes)} tests failed", *wrong, str(ended)])
    assert ended.returncode == 0, str(ended)
    assert not ended.left, str(ended)
    return [test for test, (outcome, _) in outcomes.items() if outcome == "passed"]
