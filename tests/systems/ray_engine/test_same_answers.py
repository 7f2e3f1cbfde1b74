"""Over Ray: the four bad jobs, exceptions, openai's errors and the demo, as over processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests.contract.conftest import executor, pool  # noqa: F401 - fixtures
from tests.support.same_answers import *  # noqa: F403

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("ray") is None, reason="wants the ray package"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def engine(cluster: Any) -> Iterator[str]:
    """Its name: it takes the Ray that is there, which is this one for programs, too, though others run beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_ADDRESS", cluster.get_runtime_context().gcs_address)
        yield "ray"
