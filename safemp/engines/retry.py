"""Whether an item that has failed is tried again, and when."""

from __future__ import annotations

from safemp.codec.calls import decode_outcome
from safemp.engines import Outcome, Task
from safemp.engines.crash import TaskKilled
from safemp.engines.settings import RETRY_ON

__all__ = ["backoff", "may_retry", "wants_decoding"]

_POISON = 3
"""Workers that one item may end; then it is not tried again, whatever ``retries`` says."""

_FIRST, _MOST = 0.1, 5.0
"""Seconds before the first try again; each further one waits twice as long, up to the most."""


def backoff(tries: int) -> float:
    """Return the seconds to wait before the *tries*-th try again (1, 2, …)."""
    return float(min(_MOST, _FIRST * 2 ** min(tries - 1, 10)))


def wants_decoding(task: Task, outcome: Outcome) -> bool:
    """Tell whether only the decoded *outcome* can say if it is one to try again after."""
    limits = task.limits
    if isinstance(outcome, BaseException) or limits is None or task.tries >= limits.retries:
        return False
    kinds = limits.retry_on if isinstance(limits.retry_on, tuple) else (limits.retry_on,)
    return not all(issubclass(kind, RETRY_ON) for kind in kinds)


def may_retry(task: Task, outcome: Outcome, *, decode: bool = False) -> bool:
    """Tell whether the item that failed with *outcome* is tried again.

    Args:
        task: The task; the item is the only one that counts.
        outcome: The failure.
        decode: What a task raised is decoded, which runs user code; else it is never
            one to try again after.
    """
    limits = task.limits
    if limits is None or task.tries >= limits.retries or task.killed >= _POISON - 1:
        return False
    error = outcome
    if not isinstance(error, BaseException):
        if not decode:
            return False
        _, error = decode_outcome(error)
    return isinstance(error, limits.retry_on) and not isinstance(error, TaskKilled)
