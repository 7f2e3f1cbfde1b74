"""The model that is asked, and which files are for which version of NeMo Guardrails: the old one has annoy."""

from collections.abc import Iterator

import pytest

from tests.support.chat_server import ChatServer
from tests.systems.nemo.rails import OLD, answer

collect_ignore = ["test_page.py"] if OLD else ["test_annoy.py"]


@pytest.fixture
def url() -> Iterator[str]:
    """Where a model is to be had."""
    with ChatServer(200, answer=answer) as server:
        yield server.url
