"""CPython's tests of processes, locks and queues, with ``safemp.patch()`` in force."""

from __future__ import annotations

from test import _test_multiprocessing

import safemp
from tests.dropin import cpython_swap

safemp.patch()

_test_multiprocessing.install_tests_in_module_dict(globals(), cpython_swap.method())
