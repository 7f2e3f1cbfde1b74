"""What most modules here share: an executor and a pool of two workers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import safemp


@pytest.fixture(scope="module")
def executor(engine: str) -> Iterator[safemp.SafeExecutor]:
    """Two workers for the module."""
    with safemp.SafeExecutor(2, engine=engine) as executor:
        yield executor


@pytest.fixture(scope="module")
def pool(engine: str) -> Iterator[safemp.Pool]:
    """Two workers for the module."""
    with safemp.Pool(2, engine=engine) as pool:
        yield pool
