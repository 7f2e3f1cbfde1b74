"""CPython's tests of ``multiprocessing.Pool``, with ``safemp.Pool`` in its place."""

from __future__ import annotations

from collections.abc import Iterator

from tests.dropin import cpython_swap

cpython_swap.swap()

from test import _test_multiprocessing  # noqa: E402 - it looks for Pool when it is imported

METHOD = cpython_swap.method()

# The start method is for what is no pool: locks, managers, processes.
_test_multiprocessing.install_tests_in_module_dict(globals(), "spawn" if METHOD in ("template", "loky") else METHOD)


def unpickleable_result() -> Iterator[int]:
    """Return what nobody can send; theirs is a lambda, which safemp does send."""
    return (i for i in range(3))


_test_multiprocessing.unpickleable_result = unpickleable_result  # type: ignore[attr-defined]
