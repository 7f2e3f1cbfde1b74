"""Run one class of CPython's tests: ``python -m tests.dropin.cpython_run REPORT MODULE CLASS [TEST...]``.

REPORT gets a line of JSON when a test begins and one when it has ended, so that its
reader knows which one hangs, or ends the process.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import sys
import threading
import unittest
from typing import Any

DEADLINE = 60.0
"""Seconds for one test. The slowest of theirs wait for ten, on purpose."""

SETTLE = 5.0
"""Seconds that a thread gets to end. Picked, not measured."""


class Report(unittest.TestResult):
    """Writes what becomes of each test as it happens."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path
        self._outcome = ("passed", "")

    def say(self, test: str, outcome: str, text: str = "") -> None:
        """Write one line."""
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps([test, outcome, text]) + "\n")

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._outcome = ("passed", "")
        self.say(test._testMethodName, "begun")
        faulthandler.dump_traceback_later(DEADLINE, exit=True)

    def stopTest(self, test: Any) -> None:
        faulthandler.dump_traceback_later(DEADLINE, exit=True)  # what comes between the tests can hang, too
        self.say(test._testMethodName, *self._outcome)
        super().stopTest(test)

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._ended(test, "failed", self.failures[-1][1])

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._ended(test, "failed", self.errors[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._ended(test, "failed", f"{subtest}: {err[1]!r}")

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        self._ended(test, "skipped", reason)

    def _ended(self, test: Any, outcome: str, text: str) -> None:
        self._outcome = (outcome, text)
        if not hasattr(test, "_testMethodName"):  # setUpClass, tearDownModule and the like have no stopTest
            self.say(str(test), outcome, text)


def main(path: str, module: str, name: str, *chosen: str) -> None:
    """Run the tests *chosen* of a class; none chosen: all that are not excluded."""
    from tests.dropin.exclusions import EXCLUDED

    report = Report(path)
    case = getattr(importlib.import_module(module), name)
    left_out = EXCLUDED.get(name, {})
    names = chosen or unittest.defaultTestLoader.getTestCaseNames(case)
    for test in left_out.keys() & names:
        report.say(test, "excluded", left_out[test])
    unittest.TestSuite(case(test) for test in names if test not in left_out).run(report)
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(SETTLE)
            if thread.is_alive():
                report.say(str(thread), "failed", "has been left running")


if __name__ == "__main__":
    main(*sys.argv[1:])
