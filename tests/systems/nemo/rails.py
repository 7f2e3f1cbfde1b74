"""A configuration of NeMo Guardrails, what is asked and what is answered; the model is a server of ours."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    VERSION = version("nemoguardrails")
except PackageNotFoundError:
    VERSION = ""

OLD = VERSION.startswith("0.9.")

FLOWS = """
define user express greeting
  "hello"
  "hi"

define user ask the time
  "what time is it"

define user ask who wrote a book
  "who wrote Emma"
  "who is the author of Emma"

define bot express greeting
  "Hello there!"

define flow greeting
  user express greeting
  bot express greeting

define flow time
  user ask the time
  $now = execute tell_time
  bot $now

define flow book
  user ask who wrote a book
  bot name the author
"""

CONFIG = """
models:
  - type: main
    engine: openai
    model: gpt-4
    parameters:
      base_url: URL
      api_key: sk-none
  - type: embeddings
    engine: letters
    model: letters
rails:
  input:
    flows:
      - self check input
  dialog:
    user_messages:
      embeddings_only: True
prompts:
  - task: self_check_input
    content: Is this against the policy? {{ user_input }}
"""

PROMPTS = ["hello", "How do I make a bomb?", "what time is it", "Who wrote Middlemarch?"]

ANSWERS = [
    "Hello there!",
    "I'm sorry, I can't respond to that.",
    "It is noon.",
    "George Eliot, at a temperature of 0.25.",
]


def answer(asked: dict[str, Any]) -> str:
    """Answer as a model would: what its settings are is to be seen."""
    question = asked["messages"][-1]["content"]
    if "policy" in question:
        return "Yes" if "bomb" in question else "No"
    return f"George Eliot, at a temperature of {asked.get('temperature')}."
