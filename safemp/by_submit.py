"""The standard library's way to map: each chunk is a call of ``submit``.

For an executor whose ``submit`` somebody has replaced, to count calls or to put something
around them (tqdm's ``process_map`` moves its bar so). The standard library's ``map`` goes
through it; ``SafeExecutor.map``, left alone, does not, so that each item has an outcome
of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any

from safemp.failures import OnError, given
from safemp.progress import Meter

__all__ = ["map_by_submit"]


def map_by_submit(
    submit: Callable[..., Future[Any]],
    fn: Callable[..., Any],
    chunks: Iterator[tuple[Any, ...]],
    *,
    alone: bool,
    ahead: int | None,
    deadline: float | None,
    meter: Meter | None = None,
    on_error: OnError = "raise",
) -> Iterator[Any]:
    """Call *submit* for each of *chunks*, now; give results in order.

    Args:
        submit: The replaced method, bound.
        fn: The function.
        chunks: Tuples of items, each a tuple of arguments. An item that fails fails its chunk.
        alone: Each chunk has one item.
        ahead: Chunks that are submitted beyond those yielded; ``None``: all.
        deadline: As ``time.monotonic()`` gives it, until which results are waited for.
        meter: Shows how many results have been taken.
        on_error: What becomes of failures.

    Raises:
        BaseException: What *submit* raises.
    """

    def send(chunk: tuple[Any, ...]) -> tuple[Future[Any], int]:
        return submit(fn, *chunk[0]) if alone else submit(_run, fn, chunk), len(chunk)

    pending = deque(map(send, chunks if ahead is None else islice(chunks, ahead)))

    def outcomes() -> Iterator[tuple[bool, Any]]:
        try:
            while pending:
                left = None if deadline is None else deadline - time.monotonic()
                # Not popped yet: what is not read is cancelled.
                future, n = pending[0]
                error = future.exception(left)
                if error is not None and on_error == "raise":
                    raise error
                pending.popleft()
                pending.extend(map(send, islice(chunks, 1)))
                if error is not None:
                    found = [(False, error)] * n
                else:
                    found = [(True, value) for value in ((future.result(),) if alone else future.result())]
                if meter is not None:
                    meter.count(n, n if error is not None else 0)
                    meter.show()
                del future, error  # no cycle of error, traceback and this frame
                yield from found
        finally:
            for future, _ in pending:
                future.cancel()

    return given(outcomes(), on_error)


def _run(fn: Callable[..., Any], chunk: tuple[Any, ...]) -> list[Any]:
    return [fn(*item) for item in chunk]
