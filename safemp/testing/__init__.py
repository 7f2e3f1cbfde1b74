"""Assertions for libraries whose objects and exceptions are to work with pools of processes.

``assert_travels`` sends an object to a worker and back, ``assert_survives`` an exception.
Both raise ``AssertionError``, which says what was lost and what to do, and both are plain
functions: with pytest, unittest or none. ``by="pickle"`` asks the same of the standard
library's pools.

    journeys     there and back, by safemp or by stock pickle
    stock        what plain pickle does, and which object it fails on
    comparing    what in a copy is not as it was
    assertions   the two functions, and what their failures say
    contract     the tests of an engine, and the jobs that they have workers do
"""

from __future__ import annotations

from safemp.testing.assertions import assert_survives, assert_travels
from safemp.testing.contract import EngineContract

__all__ = ["EngineContract", "assert_survives", "assert_travels"]
