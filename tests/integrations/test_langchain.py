"""LangChain: chains go to workers whole, and steps of them ask workers."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import safemp
from tests.support.errors import KeywordOnly

try:
    from langchain_core.language_models.fake_chat_models import ParrotFakeChatModel
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.runnables import RunnableConfig, RunnableLambda
    from langchain_core.runnables.config import get_executor_for_config, run_in_executor
except ImportError:
    RunnableLambda = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(RunnableLambda is None, reason="wants the langchain-core package"),
    pytest.mark.timeout(120),  # workers import it first
]

WORDS = [{"word": word} for word in ("ash", "oak", "elm", "yew")]
SECRET = {"word": "secret"}


@pytest.fixture(scope="module")
def executor() -> Iterator[safemp.SafeExecutor]:
    """Two workers for the module."""
    with safemp.SafeExecutor(2) as executor:
        yield executor


class Check:
    """A step that holds a lock, and refuses what is secret."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def __call__(self, text: str) -> str:
        with self.lock:
            if "secret" in text:
                raise KeywordOnly(status=403, text="refused")
            return text.upper()


def chain() -> Any:
    """Return a chain with a prompt, a model, a parser and a check."""
    prompt = ChatPromptTemplate.from_template("say {word}")
    return prompt | ParrotFakeChatModel() | StrOutputParser() | RunnableLambda(Check())


def test_a_chain_goes_to_workers_whole(executor: safemp.SafeExecutor) -> None:
    """Plain pickle refuses it; its answers there are those of ``batch`` here."""
    ours = chain()
    with pytest.raises(TypeError, match="cannot pickle"):
        pickle.dumps(ours)

    assert list(executor.map(ours.invoke, WORDS)) == ours.batch(WORDS)


def test_an_error_is_itself(executor: safemp.SafeExecutor) -> None:
    """Out of a chain in a worker, and with ``return_exceptions`` out of a step that asks one."""
    with pytest.raises(KeywordOnly) as caught:
        list(executor.map(chain().invoke, [WORDS[0], SECRET]))
    assert caught.value.status == 403

    check = Check()
    step = RunnableLambda(lambda text: executor.submit(check, text).result()) | StrOutputParser()
    first, second = step.batch(["ash", "secret"], return_exceptions=True)
    assert first == "ASH"
    assert type(second) is KeywordOnly


def test_its_helper_for_coroutines_takes_an_executor(executor: safemp.SafeExecutor) -> None:
    """What it wraps the function in is a closure, and travels."""
    assert asyncio.run(run_in_executor(executor, chain().invoke, WORDS[0])) == "SAY ASH"
    with pytest.raises(KeywordOnly):
        asyncio.run(run_in_executor(executor, chain().invoke, SECRET))


def test_there_is_no_setting_for_an_executor() -> None:
    """The how-to says so: a config has none, and threads are what is made of it."""
    assert not any("executor" in name for name in RunnableConfig.__annotations__)
    with get_executor_for_config({"max_concurrency": 1}) as made:
        assert isinstance(made, ThreadPoolExecutor)
