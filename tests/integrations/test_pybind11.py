"""A function bound by pybind11 2.x: a built-in whose ``__self__`` is a capsule, which pickle writes in its stead."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import Any

import pytest

import safemp

try:
    from contourpy import max_threads
except ImportError:
    max_threads = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(max_threads is None, reason="wants the contourpy package"),
]


@pytest.fixture(scope="module")
def executor() -> Iterator[safemp.SafeExecutor]:
    """One worker for the module."""
    with safemp.SafeExecutor(1) as executor:
        yield executor


class Service:
    """Holds the function, as a class of a service does."""

    def __init__(self) -> None:
        self.count = max_threads

    def is_the_modules(self) -> bool:
        """Tell whether it is the very object of the module here."""
        import contourpy

        return self.count is contourpy._contourpy.max_threads


def test_pickle_refuses_it_without_a_word_where() -> None:
    """The message names a capsule, and no path."""
    with pytest.raises(TypeError, match="cannot pickle 'PyCapsule' object"):
        pickle.dumps(Service())


def test_it_is_the_modules_own_in_a_worker(executor: safemp.SafeExecutor) -> None:
    """By its name: as an argument, in an object, as a variable of a closure, through ``dumps``."""
    function: Any = max_threads

    assert executor.submit(max_threads).result(60) == max_threads()
    assert executor.submit(Service.is_the_modules, Service()).result(60)
    assert executor.submit(lambda: function()).result(60) == max_threads()
    assert pickle.loads(safemp.dumps(Service())).is_the_modules()
    assert [repair.kind for repair in safemp.inspect(max_threads).repairs] == ["by name"]


def test_a_capsule_that_is_nobodys_attribute_is_refused(executor: safemp.SafeExecutor) -> None:
    """A raw pointer has no honest copy; the path leads to it."""
    numpy = pytest.importorskip("numpy", reason="wants numpy")
    service = Service()
    service.tensor = {"of": numpy.arange(3).__dlpack__()}  # type: ignore[attr-defined]
    with pytest.raises(safemp.PreflightError) as caught:
        executor.submit(Service.is_the_modules, service)

    assert [culprit.path for culprit in caught.value.culprits] == ["args[0].tensor['of']"]
