"""One peer in a process of its own, which takes turns when it is told to.

    python -m benchmarks.lane PEER WORKERS DESCRIPTOR

So a pool that forks does it in a program with one thread, no peer's threads run beside
another's, and a peer that never answers can be ended. What is measured is measured here.
"""

from __future__ import annotations

import gc
import os
import sys
import time
from contextlib import ExitStack
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from benchmarks import peers, rows

__all__ = ["noop_of_main", "reads_globals"]


SETTINGS = {"factor": 1, "names": ["a", "b"], "limits": {"low": 0, "high": 10}}
TABLE = [(n, str(n)) for n in range(1000)]
BYTES = bytearray(1_000_000)


def noop_of_main(x: int) -> int:
    return x


def reads_globals(x: int) -> int:
    return x * SETTINGS["factor"] + TABLE[0][0] + BYTES[x]  # type: ignore[operator]


class Turns:
    """What is done with one peer; ``None`` is the machine itself."""

    def __init__(self, peer: peers.Peer | None) -> None:
        self._peer = peer
        self._tasks: dict[str, int] = {}

    def _seconds(self, row: rows.Row, n: int) -> tuple[float, float, Any]:
        prepare = partial(row.prepare, self._peer) if self._peer is not None else row.limit
        if prepare is None:
            raise peers.Unable("has no such thing")
        work = prepare(n)
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        result = work()
        return time.perf_counter() - wall, time.process_time() - cpu, result

    def fit(self, row: rows.Row, n: int, budget: float) -> int:
        """Try the row, and return how many tasks a turn may have."""
        few = min(n, max(5, n // 100))
        if row.scales:
            self._seconds(row, few)  # what is imported or compiled is no part of a task
            each = self._seconds(row, few)[0] / few
            n = max(1, min(n, int(budget / each)))
        elif not row.fresh:
            self._seconds(row, few)
        return n

    def take(self, row: rows.Row, n: int, budget: float) -> tuple[float, float, int]:
        """Take a turn, and return what a task took: value, processor time, and how many there were."""
        if row.name not in self._tasks:
            self._tasks[row.name] = self.fit(row, n, budget)
        n = self._tasks[row.name]
        if row.scales and n >= 10:
            self._seconds(row, n // 10)  # wakes what has slept since its last turn
        wall, cpu, result = self._seconds(row, n)
        if row.in_bytes:
            return result, cpu, n
        each = n if row.scales or row.sizes else 1
        return (cpu if row.sizes else wall) / each, cpu / each, n


def main(name: str, workers: int, descriptor: int) -> None:
    """Take turns until nobody asks for more."""
    os.set_inheritable(descriptor, False)
    caller = Connection(descriptor)
    by_name = {row.name: row for row in rows.ROWS}
    with ExitStack() as stack:
        try:
            turns = Turns(None if name == peers.LIMIT else peers.start(name, stack, workers))
        except Exception as error:
            caller.send(("cannot", _reason(error)))
            return
        caller.send(("ready",))
        while True:
            try:
                row, n, budget = caller.recv()
            except EOFError:
                return
            try:
                answer: tuple[Any, ...] = ("took", *turns.take(by_name[row], n, budget))
            except peers.Unable as error:
                answer = ("unable", str(error))
            except Exception as error:  # whatever a peer makes of what it cannot do
                answer = ("cannot", _reason(error))
            caller.send(answer)


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
