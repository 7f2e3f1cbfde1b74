"""The benchmarks: safemp beside its peers, in one run, as ratios.

    python -m benchmarks [ROW ...] [--quick] [--rounds N] [--json FILE] [--plots FOLDER]

Installs nothing: a peer that is not there is left out. In each round of a row every peer
has its turn, in one order and the next time in the other, so that what else the machine
does hits all alike. Times tell about the machine; the ratio of two peers of the same
round tells about the peers, and its median over the rounds is the result.

The garbage collector runs as it does in anybody's program, from a clean start each turn.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks import imports, peers, rows
from benchmarks.control import Cannot, Course, Took, quietly
from benchmarks.programs import program
from benchmarks.results import Result, record, sized, summary


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    names = [row.name for row in rows.ROWS]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=(__doc__ or "").partition("\n")[0],
        epilog="rows: " + ", ".join(names) + "; peers: " + ", ".join(peers.PACKAGES),
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="what to measure (default: everything)")
    parser.add_argument("--peers", nargs="+", metavar="PEER", help="beside safemp only those whose name begins so")
    parser.add_argument("--rounds", type=int, help="turns of each peer in each row (default: 7; quick: 3)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes of each pool (default: 2)")
    parser.add_argument("--quick", action="store_true", help="fewer rounds of fewer tasks")
    parser.add_argument("--large", action="store_true", help="arrays of 1 GB, too")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw plots there (SVG, by matplotlib)")
    found = parser.parse_args(arguments)
    if found.rounds is None:
        found.rounds = 3 if found.quick else 7
    if min(found.rounds, found.workers) < 1:
        parser.error("--rounds and --workers want at least 1")
    if unknown := sorted({*found.rows} - {*names}):
        parser.error(f"no row is called {', '.join(unknown)}; there are {', '.join(names)}")
    if found.plots is not None and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plots wants matplotlib, which is not installed")
    return found


def chosen_rows(wanted: argparse.Namespace) -> list[rows.Row]:
    """Return what is measured, in the order of the table."""
    if wanted.rows:
        return [row for row in rows.ROWS if row.name in wanted.rows]
    return [row for row in rows.ROWS if wanted.large or not row.large]


def chosen_peers(begins: list[str] | None) -> tuple[list[str], list[str]]:
    """Return the peers that are installed, and those that are not."""
    here: list[str] = []
    absent: list[str] = []
    for name, package in peers.PACKAGES.items():
        if begins is None or name in peers.OURS or name.startswith(tuple(begins)):
            (here if importlib.util.find_spec(package) else absent).append(name)
    return here, absent


class Runners:
    """Who has turns in a row: names, each with what gives it a turn."""

    def __init__(self, course: Course, row: rows.Row, names: list[str], *, quick: bool) -> None:
        self._course = course
        self._row = row
        self._quick = quick
        names = [name for name in names if row.peers is None or name in row.peers]
        if row.limit is not None or row.name.startswith("start"):
            names = [*names, peers.LIMIT]
        if row.sizes:
            sizes = row.sizes[:3] if quick else row.sizes
            self.names = {sized(name, size): (name, size) for name in names for size in sizes}
        else:
            self.names = {name: (name, 0) for name in names}

    def turn(self, name: str) -> Took | Cannot:
        """Let one of them have its turn."""
        peer, workers = self.names[name]
        if self._row.name.startswith("start"):
            return self._course.first_result(program(peer, heavy=self._row.name != "start"))
        return self._course.turn(peer, self._row, quick=self._quick, workers=workers)

    def groups(self) -> Iterator[list[str]]:
        """Give those that take turns with one another: all; if sizes are compared, one peer's."""
        if not self._row.sizes:
            yield list(self.names)
            return
        for peer in dict.fromkeys(peer for peer, _ in self.names.values()):
            yield [name for name, (whose, _) in self.names.items() if whose == peer]
            self._course.clear()  # each has a hundred workers


def measure(runners: Runners, result: Result, rounds: int) -> None:
    """Give everybody a turn in each round."""
    for group in runners.groups():
        able = group
        for number in range(rounds):
            for name in list(able) if number % 2 else able[::-1]:
                took = runners.turn(name)
                if isinstance(took, Cannot):
                    able = [other for other in able if other != name]
                    result.skipped[name] = took.reason
                    result.values.pop(name, None)
                    continue
                result.values.setdefault(name, []).append(took.value)
                result.cpu.setdefault(name, []).append(took.cpu)
                result.tasks[name] = took.tasks
    order = list(runners.names)
    result.values = {name: result.values[name] for name in order if name in result.values}
    result.tasks = {name: result.tasks[name] for name in result.values}


def main() -> int:
    """Run the benchmarks.

    Returns:
        The exit status.
    """
    wanted = options()
    quietly()
    here, absent = chosen_peers(wanted.peers)
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, {wanted.workers} workers each", flush=True)
    if absent:
        print(f"not installed: {', '.join(absent)}")
    results: list[Result] = []
    try:
        with Course(wanted.workers) as course:
            for row in chosen_rows(wanted):
                results.append(result := Result(row))
                rounds = min(row.rounds, wanted.rounds if wanted.quick else wanted.rounds * row.often)
                measure(Runners(course, row, here, quick=wanted.quick), result, rounds)
                print("\n" + "\n".join(result.lines()), flush=True)
                if row.name == "start":
                    print("\n" + "\n".join(imports.report()), flush=True)
                if wanted.json is not None:  # what there is by now, should the run be ended
                    written = json.dumps(record(results, wanted.workers), indent=1)
                    wanted.json.write_text(written + "\n", encoding="utf-8")
    except KeyboardInterrupt:
        print("interrupted: every pool was ended", file=sys.stderr)
        return 130
    print("\n" + "\n".join(summary(results)))
    if wanted.plots is not None:
        from benchmarks.plots import draw

        draw(results, wanted.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
