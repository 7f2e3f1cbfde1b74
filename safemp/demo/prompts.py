"""The batch: what is asked, and what the server of the demo answers to it.

Every status that a chat API is known for is in it. The last but three kills its
worker, so that what comes after a crash is seen as well.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["BATCH", "CRASH", "Prompt"]


@dataclass(frozen=True, slots=True)
class Prompt:
    """One question and its fate.

    Attributes:
        text: What is asked.
        status: HTTP status of the server's answer; 0 when the question never gets there.
        reply: The answer, or the error's ``code``.
    """

    text: str
    status: int
    reply: str


CRASH = "(this task kills its own worker)"

BATCH = (
    Prompt("What is 17 times 23?", 200, "391"),
    Prompt("Which river runs through Baghdad?", 200, "The Tigris"),
    Prompt("Who wrote Middlemarch?", 200, "George Eliot"),
    Prompt("Ask again, faster!", 429, "rate_limit_exceeded"),
    Prompt("What is the capital of Peru?", 200, "Lima"),
    Prompt("Sum up these 4,000 pages.", 400, "context_length_exceeded"),
    Prompt("How many moons has Mars?", 200, "Two"),
    Prompt("Use the key I revoked.", 401, "invalid_api_key"),
    Prompt("Which metal melts at 30 degrees?", 200, "Gallium"),
    Prompt("Answer as a model of 2031.", 404, "model_not_found"),
    Prompt("Who painted Guernica?", 200, "Pablo Picasso"),
    Prompt("Ask on a bad day.", 500, "server_error"),
    Prompt(CRASH, 0, "SIGKILL"),
    Prompt("What does a luthier make?", 200, "Lutes and guitars"),
    Prompt("And again, faster still!", 429, "rate_limit_exceeded"),
    Prompt("Is 2027 a prime number?", 200, "Yes"),
)
