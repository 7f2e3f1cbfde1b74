"""The pytest plugin: ``safemp.testing``'s assertions as fixtures.

pytest loads this file wherever safemp is installed, so it imports nothing of safemp before
a test asks for a fixture.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["assert_survives", "assert_travels"]


@pytest.fixture(scope="session")  # type: ignore[untyped-decorator]  # pytest is not there where types are checked
def assert_travels() -> Callable[..., Any]:
    """``safemp.testing.assert_travels``: an object goes to a worker and back, and is the same then."""
    from safemp.testing import assert_travels

    return assert_travels


@pytest.fixture(scope="session")  # type: ignore[untyped-decorator]  # pytest is not there where types are checked
def assert_survives() -> Callable[..., Any]:
    """``safemp.testing.assert_survives``: an exception of a task reaches the caller as it was."""
    from safemp.testing import assert_survives

    return assert_survives
