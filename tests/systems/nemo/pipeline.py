"""The pipeline, for the programs that the tests run: a chain of LangChain with rails in it."""

from __future__ import annotations

from typing import Any

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from nemoguardrails import LLMRails, RailsConfig
from nemoguardrails.embeddings.providers import register_embedding_provider
from nemoguardrails.embeddings.providers.base import EmbeddingModel
from nemoguardrails.integrations.langchain.runnable_rails import RunnableRails

from tests.systems.nemo.rails import CONFIG, FLOWS, PROMPTS


class Letters(EmbeddingModel):
    """Counts letters: there is no network to get a model from."""

    engine_name = "letters"

    def __init__(self, embedding_model: str | None = None) -> None:
        self.model = embedding_model

    def encode(self, documents: list[str]) -> list[list[float]]:
        return [[text.lower().count(letter) + 0.01 for letter in LETTERS] for text in documents]

    async def encode_async(self, documents: list[str]) -> list[list[float]]:
        return self.encode(documents)


LETTERS = "abcdefghijklmnopqrstuvwxyz"

register_embedding_provider(Letters)


def tell_time() -> str:
    """An action of the user's own."""
    return "It is noon."


def rails_with_actions(config: RailsConfig, llm: Any) -> LLMRails:
    """Make rails with everything that has been registered with them."""
    rails = LLMRails(config, llm)
    rails.register_action(tell_time, "tell_time")
    return rails


def pipeline(url: str) -> Any:
    """Build the chain."""
    llm = ChatOpenAI(model="gpt-4", temperature=0.25, base_url=url, api_key="sk-none", max_retries=0)
    config = RailsConfig.from_content(colang_content=FLOWS, yaml_content=CONFIG.replace("URL", url))
    guarded = RunnableRails(config, llm=llm, passthrough=False)
    guarded.rails.register_action(tell_time, "tell_time")
    return ChatPromptTemplate.from_messages([("user", "{question}")]) | guarded | StrOutputParser()


def ask(chain: Any) -> list[str]:
    """Ask all the prompts, one after the other."""
    return [chain.invoke({"question": prompt}) for prompt in PROMPTS]
