"""Run a class of CPython's own tests in a child and read what became of each."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from safemp.engines.system import has_templates
from tests.dropin.counts import PROPERTY
from tests.support.child import environment, run_python

METHODS = ("template" if has_templates() else "loky", "spawn")
"""Start methods: safemp's own, and the one that every platform has."""

Record = Callable[[str, object], None]
"""What pytest's ``record_property`` is."""

DEADLINE = 240.0
"""Seconds for a class. The slowest takes twenty."""


SPARE = os.environ.get("SAFEMP_CPYTHON_TESTS", "")
"""The ``test`` package of a like Python; what this one has come without is taken from there."""


def has(module: str) -> bool:
    """Tell whether this interpreter has *module* of its own tests."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # no test package at all, as in Debian's python3
        return False


def need(module: str) -> pytest.MarkDecorator:
    """Skip where neither this interpreter nor the spare package has *module* of CPython's tests."""
    name = module.partition(".")[2]
    spare = SPARE and any((Path(SPARE) / name).with_suffix(suffix).exists() for suffix in ("", ".py"))
    reason = f"Python {platform.python_version()} has come without {module}"
    return pytest.mark.skipif(not has(module) and not spare, reason=reason)


def with_spare(folder: Path) -> dict[str, str]:
    """Return the environment in which a child's ``test`` package has this interpreter's modules and the spare ones."""
    if not SPARE:
        return {}
    own = find_spec("test")
    places = [*(own.submodule_search_locations or []), SPARE] if own else [SPARE]
    package = folder / "spare" / "test" / "__init__.py"
    package.parent.mkdir(parents=True)
    package.write_text(f"__path__ = {places!r}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder / "spare"), environment()["PYTHONPATH"]])}


def run_class(suite: str, case: str, method: str, folder: Path, record: Record) -> None:
    """Run the tests of class *case* with start method *method*, and *record* how many there were.

    Raises:
        AssertionError: None passed, some failed, or something was left behind; it says what.
    """
    report = folder / "report.jsonl"
    ended = run_python(
        "-m",
        "tests.dropin.cpython_run",
        str(report),
        f"tests.dropin.cpython_{suite}",
        case,
        cwd=folder,
        env={"SAFEMP_DROPIN_METHOD": method, **with_spare(folder)},
        timeout=DEADLINE,
    )
    lines = report.read_text(encoding="utf-8").splitlines() if report.exists() else []
    outcomes = {test: (outcome, text) for test, outcome, text in map(json.loads, lines)}
    bad = ("begun", "failed")
    wrong = [f"{test} {outcome}: {text}" for test, (outcome, text) in outcomes.items() if outcome in bad]

    assert not wrong, "\n".join([f"{len(wrong)} of {len(outcomes)} tests failed", *wrong, str(ended)])
    assert ended.returncode == 0, str(ended)
    assert not ended.left, str(ended)
    counts = Counter(outcome for outcome, _ in outcomes.values())
    assert counts["passed"], str(ended)
    record(PROPERTY, (suite, method, dict(counts)))  # what xdist can send
