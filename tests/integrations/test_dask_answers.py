"""Over Dask: the four bad jobs, exceptions, openai's errors and the demo, as over processes of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from tests.contract.conftest import executor, pool  # noqa: F401 - fixtures
from tests.support.same_answers import *  # noqa: F403

if find_spec("distributed") is not None:
    from tests.integrations.test_dask_engine import client as _client

    client = _client  # two workers for the module

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("distributed") is None, reason="wants the distributed package"),
    pytest.mark.timeout(300),
]


@pytest.fixture(scope="module")
def engine(client: Any) -> Iterator[str]:
    """Its name: it takes the default client."""
    with client.as_current():
        yield "dask"
