"""Send the batch to a pool and gather what comes back, in the same way for every pool."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from multiprocessing import TimeoutError
from typing import Protocol

from safemp.demo.prompts import BATCH

__all__ = ["Outcome", "Ticket", "gather"]


class Ticket(Protocol):
    """What ``apply_async`` returns, of whichever pool."""

    def get(self, timeout: float | None = None) -> str:
        """Return the answer, or raise what was raised, or ``multiprocessing.TimeoutError``."""


Outcome = str | BaseException | None
"""An answer, what was raised, or nothing before the deadline."""


def gather(send: Callable[[str], Ticket], *, deadline: float) -> list[Outcome]:
    """Send every prompt, then collect every outcome.

    Args:
        send: Sends one prompt to a pool; must not wait for its answer.
        deadline: Seconds for the whole batch, from the last send.

    Returns:
        One outcome per prompt, in the order of the batch.
    """
    tickets = [send(prompt.text) for prompt in BATCH]
    until = time.monotonic() + deadline
    return list(_outcomes(tickets, until))


def _outcomes(tickets: Iterable[Ticket], until: float) -> Iterable[Outcome]:
    for ticket in tickets:
        try:
            yield ticket.get(max(0.0, until - time.monotonic()))
        except TimeoutError:
            yield None
        except Exception as error:  # the demo shows what came, whatever it is
            yield error
