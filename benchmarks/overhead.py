"""What a task costs beyond its own work: safemp beside its peers, in one run.

    python -m benchmarks.overhead [--quick] [--rounds N] [--n N] [--workers N] [--json FILE]

Installs nothing. Every pool is started once and warmed; then in each round every pool
has its turn, in one order and the next time in the other, so that what else the machine
does hits all alike. Times tell about the machine; the ratio of two pools of the same
round tells about the pools, and its median over the rounds is the result.

The garbage collector runs as it does in anybody's program, from a clean start each turn.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file: then Python looks for modules beside it, not above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import jobs, peers


def noop_of_main(x: int) -> int:
    return x


@dataclass
class Row:
    """One kind of work, and what it took.

    Attributes:
        title: What is measured.
        tasks: Tasks in a turn.
        turns: For each pool what takes one turn, given the number of tasks.
        wall: For each pool its seconds a task, one number for each round.
        cpu: The same in seconds of the caller's processor time, all threads.
        skipped: Pools that cannot do it, and why.
    """

    title: str
    tasks: int
    turns: Mapping[str, Callable[[int], None]]
    wall: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def best_peer(self) -> str | None:
        """Return the peer with the lowest median."""
        rivals = {name: median(times) for name, times in self.wall.items() if not _aside(name)}
        return min(rivals, key=rivals.__getitem__, default=None)

    def ratios(self, ours: str, other: str) -> list[float]:
        """Return ours ÷ other, round by round."""
        return [a / b for a, b in zip(self.wall[ours], self.wall[other], strict=True)]


def _aside(name: str) -> bool:
    return name in peers.OURS or name == peers.PingPong.name


def rows_of(pools: list[peers.PoolOfFutures | peers.PoolOfCalls], floor: peers.PingPong, n: int) -> Iterator[Row]:
    """Make the rows: round trip and storm for both kinds of function, then one map."""
    for kind, fn in (("of a module", jobs.noop), ("of __main__", noop_of_main)):
        skipped = {pool.name: why for pool in pools if (why := pool.refuses(fn)) is not None}
        able = [pool for pool in pools if pool.name not in skipped]
        trips = {each.name: partial(each.round_trips, fn) for each in (*able, floor)}
        yield Row(f"lone round trip, a function {kind}", max(10, n // 5), trips, skipped=skipped)
        storms = {pool.name: partial(pool.storm, fn) for pool in able}
        yield Row(f"submit storm, a function {kind}", n, storms, skipped=skipped)
    maps = {pool.name: partial(pool.map, jobs.noop) for pool in pools if isinstance(pool, peers.PoolOfCalls)}
    yield Row("Pool.map with default chunks", 50 * n, maps)


def measure(row: Row, *, backwards: bool) -> None:
    """Give each pool its turn."""
    for name in sorted(row.turns, key=list(row.turns).index, reverse=backwards):
        turn = row.turns[name]
        turn(max(1, row.tasks // 10))  # wakes what has slept since its last turn
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        turn(row.tasks)
        row.wall.setdefault(name, []).append((time.perf_counter() - wall) / row.tasks)
        row.cpu.setdefault(name, []).append((time.process_time() - cpu) / row.tasks)


def show(row: Row) -> None:
    """Print one row as a table, in microseconds a task, and its ratios."""
    rounds = len(next(iter(row.wall.values())))
    ours = [name for name in peers.OURS if name in row.wall]
    heads = "".join(f"{name.partition('.')[2]:>15} ÷" for name in ours)
    print(f"\n{row.title}: µs a task, {rounds} rounds of {row.tasks:,}")
    print(f"  {'':28}{'min':>9}{'median':>9}{'max':>9}{'caller CPU':>12}{heads}")
    for name, times in row.wall.items():
        cells = [f"{1e6 * seconds:9.1f}" for seconds in (min(times), median(times), max(times))]
        cells.append(f"{1e6 * median(row.cpu[name]):12.1f}")
        if name not in ours:
            cells += [f"{median(row.ratios(one, name)):17.2f}" for one in ours]
        print(f"  {name:28}{''.join(cells)}")
    for name, why in row.skipped.items():
        print(f"  {name:28} skipped: {why.splitlines()[0][:80]}")
    best = row.best_peer()
    if best is not None:
        for one in ours:
            ratios = row.ratios(one, best)
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            cpu = median(a / b for a, b in zip(row.cpu[one], row.cpu[best], strict=True) if b)
            print(f"  ratio  {one} ÷ {best}: {median(ratios):.2f} {spread}; caller CPU {cpu:.2f}")


def record(rows: list[Row], workers: int) -> dict[str, Any]:
    """Return everything that was measured, in seconds a task, for ``json``."""
    versions = {}
    for package in ("safemp", "loky", "cloudpickle"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a checkout that is not installed
            versions[package] = "unknown"
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "workers": workers,
        "versions": versions,
        "rows": [
            {
                "title": row.title,
                "tasks": row.tasks,
                "seconds": row.wall,
                "caller_cpu_seconds": row.cpu,
                "skipped": row.skipped,
                "best_peer": row.best_peer(),
                "ratio_to_best_peer": {
                    ours: median(row.ratios(ours, best))
                    for ours in peers.OURS
                    if ours in row.wall and (best := row.best_peer()) is not None
                },
            }
            for row in rows
        ],
    }


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    summary = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=summary)
    parser.add_argument("--rounds", type=int, help="turns of each pool in each row (default: 11)")
    parser.add_argument(
        "--n", type=int, help="tasks in a storm; in a trip row a fifth, in a map 50 times (default: 2000)"
    )
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each pool (default: 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there too")
    parser.add_argument("--quick", action="store_true", help="3 rounds of 500")
    found = parser.parse_args(arguments)
    if found.rounds is None:
        found.rounds = 3 if found.quick else 11
    if found.n is None:
        found.n = 500 if found.quick else 2000
    if min(found.rounds, found.n, found.workers) < 1:
        parser.error("--rounds, --n and --workers want at least 1")
    return found


def main() -> int:
    """Run the benchmark.

    Returns:
        The exit status.
    """
    chosen = options()
    # As Ctrl-C, so that ``timeout`` and CI leave no workers behind either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            pools = peers.start_all(stack, chosen.workers)
            floor = peers.PingPong(stack)
            about = f"Python {platform.python_version()}, {os.cpu_count()} cores, {chosen.workers} workers each"
            print(about, flush=True)
            rows = list(rows_of(pools, floor, chosen.n))
            for number in range(chosen.rounds):
                for row in rows:
                    measure(row, backwards=bool(number % 2))
    except KeyboardInterrupt:
        print("interrupted: every pool was ended", file=sys.stderr)
        return 130
    for row in rows:
        show(row)
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(record(rows, chosen.workers), indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
