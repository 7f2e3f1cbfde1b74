"""Over Ray: the four bad jobs, exceptions, openai's errors and the demo, as over processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

import safemp
from tests.support.same_answers import *  # noqa: F403

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("ray") is None, reason="wants the ray package"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def engine(cluster: Any) -> str:
    """Its name: it takes the Ray that is there."""
    return "ray"


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
