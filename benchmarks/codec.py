"""What encoding costs when nothing needs repair: safemp beside pickle and cloudpickle.

    python -m benchmarks.codec [--quick] [--json FILE]

One process, no worker. Every peer has its turn in every round, in alternating order;
what counts is a ratio: the best time of safemp ÷ that of the faster of the peers that
work. (The best, since nothing but another program makes a round slower.) The target is 1.15.
"""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file: then Python looks for modules beside it, not above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import cloudpickle

from benchmarks.jobs import Record
from safemp.codec import pickling

PEERS: dict[str, Callable[[Any], bytes]] = {
    "pickle": lambda obj: pickle.dumps(obj, 5),
    "cloudpickle": cloudpickle.dumps,
    "safemp.dumps": pickling.dumps_portable,
    "to a worker": pickling.dumps,
}
"""The last two are ours: what a user calls, and what a pool does."""

OURS = ("safemp.dumps", "to a worker")
TARGET = 1.15


@dataclass
class Locked:
    """A record with what plain pickle refuses."""

    x: int
    lock: Any


def closure() -> Callable[[int], int]:
    """Make a function that travels by value."""
    table = {i: str(i) for i in range(20)}

    def local(x: int) -> int:
        return len(table[x])

    return local


def objects() -> dict[str, Any]:
    """Make what is encoded."""
    found: dict[str, Any] = {
        "plain data": [{"id": i, "name": f"name {i}", "tags": ["a", "b"], "score": i / 3} for i in range(1000)],
        "1 000 dataclass instances": [Record(i, f"name {i}", i / 3) for i in range(1000)],
        "a closure": closure(),
        "100 locks": [Locked(i, threading.Lock()) for i in range(100)],
    }
    try:
        import numpy as np
    except ImportError:
        return found
    found["numpy arrays"] = [np.arange(1000.0) + i for i in range(100)]
    return found


def seconds(encode: Callable[[Any], bytes], obj: Any, times: int) -> float:
    """Return the seconds of one call."""
    begin = time.perf_counter()
    for _ in range(times):
        encode(obj)
    return (time.perf_counter() - begin) / times


def working(obj: Any) -> dict[str, Callable[[Any], bytes]]:
    """Return the peers that can do it."""
    found = {}
    for name, encode in PEERS.items():
        try:
            encode(obj)
        except Exception as error:
            print(f"    {name} cannot: {type(error).__name__}: {str(error)[:60]}")
        else:
            found[name] = encode
    return found


def row(title: str, obj: Any, rounds: int) -> dict[str, Any]:
    """Measure one object."""
    print(f"{title}")
    peers = working(obj)
    slowest = max(seconds(encode, obj, 3) for encode in peers.values())
    times = max(1, int(0.02 / slowest))
    taken: dict[str, list[float]] = {name: [] for name in peers}
    for turn in range(rounds):
        order = list(peers.items())
        for name, encode in order if turn % 2 else order[::-1]:
            taken[name].append(seconds(encode, obj, times))
    others = [name for name in peers if name not in OURS]
    result: dict[str, Any] = {"title": title, "microseconds": {n: round(median(t) * 1e6, 1) for n, t in taken.items()}}
    for name in OURS if others else ():
        result[name] = round(min(taken[name]) / min(min(taken[other]) for other in others), 3)
    print("    " + "   ".join(f"{n} {us} us" for n, us in result["microseconds"].items()))
    if others:
        print("    " + "   ".join(f"{n}: {result[n]}x {'' if result[n] <= TARGET else '(!)'}" for n in OURS))
    return result


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description="What encoding costs when nothing needs repair.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    rows = [row(title, obj, 11 if options.quick else 41) for title, obj in objects().items()]
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
