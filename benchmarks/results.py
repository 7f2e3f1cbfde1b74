"""What was measured: medians, ratios, whether a target is reached; as a table and for ``json``."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from benchmarks.peers import LIMIT, OURS, PACKAGES
from benchmarks.rows import Row, Target

__all__ = ["Result", "record", "sized", "summary"]

_SCALES = {"us": (1e6, "µs a task"), "ms": (1e3, "ms a task"), "ms a turn": (1e3, "ms"), "KiB": (2**-10, "KiB")}
_SCALES["MiB"] = (2**-20, "MiB")


def sized(name: str, workers: int) -> str:
    """Return what a peer is called in a row about numbers of workers."""
    return f"{name} @ {workers}"


@dataclass
class Result:
    """What one row has come to.

    Attributes:
        row: The row.
        values: For each peer a value of each round: seconds a task, or bytes.
        cpu: The same in seconds of the caller's processor time, all threads.
        tasks: How many tasks its turns had.
        skipped: Who could not do it, and why.
    """

    row: Row
    values: dict[str, list[float]] = field(default_factory=dict)
    cpu: dict[str, list[float]] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def ratios(self, ours: str, other: str) -> list[float]:
        """Return ours ÷ other, round by round."""
        return [a / b for a, b in zip(self.values[ours], self.values[other], strict=True) if b]

    def best(self, among: tuple[str, ...] | None = None) -> str | None:
        """Return the peer with the lowest median."""
        names = [name for name in self.values if name not in (*OURS, LIMIT)] if among is None else among
        medians = {name: median(self.values[name]) for name in names if name in self.values}
        return min(medians, key=medians.__getitem__, default=None)

    def verdicts(self) -> Iterator[tuple[Target, str, float]]:
        """Give each target that can be judged: itself, in words, and what there was."""
        ours = self.row.ours
        for target in self.row.targets:
            if self.row.sizes:
                sizes = sorted(size for size in self.row.sizes if sized(ours, size) in self.values)
                few, many = min(max(sizes, default=0), 2), max(sizes, default=0)
                if few != many:
                    ratio = median(self.ratios(sized(ours, many), sized(ours, few)))
                    yield target, f"{many} workers ÷ {few}", ratio
            elif ours in self.values and target.absolute:
                yield target, "bytes", median(self.values[ours])
            elif ours in self.values and (best := self.best(target.against)) is not None:
                yield target, f"÷ {best}", median(self.ratios(ours, best))

    def shown(self, value: float) -> float:
        """Return a value in the row's unit."""
        return value * _SCALES[self.row.unit][0]

    @property
    def unit(self) -> str:
        """The row's unit in words."""
        return _SCALES[self.row.unit][1]

    def lines(self) -> Iterator[str]:
        """Give the lines of its table."""
        rounds = max(map(len, self.values.values()), default=0)
        most = max(self.tasks.values(), default=0)
        yield f"{self.row.name}: {self.row.title}; {self.unit}, {rounds} rounds of {most:,}"
        ours = [name for name in OURS if name in self.values]
        heads = "".join(f"{name.partition('.')[2]:>14} ÷" for name in ours)
        if self.values:
            yield f"  {'':34}{'min':>10}{'median':>10}{'max':>10}{'caller CPU':>12}{heads}"
        for name, values in self.values.items():
            cells = [f"{_figure(self.shown(value)):>10}" for value in (min(values), median(values), max(values))]
            cells.append(f"{1e6 * median(self.cpu[name]):9.1f} µs" if any(self.cpu[name]) else " " * 12)
            if name not in OURS:
                cells += [f"{median(self.ratios(one, name)):16.2f}" for one in ours]
            few = f"  of {self.tasks[name]:,}" if self.tasks[name] < most else ""
            yield f"  {name:34}{''.join(cells)}{few}"
        for name, why in self.skipped.items():
            yield f"  {name:34} skipped: {why[:90]}"
        for target, words, found in self.verdicts():
            reached = "reached" if found <= target.bound else "not reached"
            yield f"  target  {self.row.ours} {words}: {found:.2f}, wanted at most {target.bound:g}: {reached}"


def summary(results: list[Result]) -> Iterator[str]:
    """Give the lines of a table of everything, in Markdown: medians, and ratios in the same round."""
    yield "| row | unit | safemp | best peer | ratio | (range) | target | |"
    yield "|---|---|---|---|---|---|---|---|"
    for result in results:
        ours = sized(result.row.ours, 2) if result.row.sizes else result.row.ours
        if ours not in result.values:
            continue
        best = None if result.row.sizes else result.best()
        cells = [f"`{result.row.name}`", result.unit, _figure(result.shown(median(result.values[ours])))]
        if best is None:
            cells += ["", "", ""]
        else:
            ratios = result.ratios(ours, best)
            cells.append(f"{best}: {_figure(result.shown(median(result.values[best])))}")
            cells += [f"**{median(ratios):.2f}**", f"{min(ratios):.2f} to {max(ratios):.2f}"]
        verdicts = list(result.verdicts())
        cells.append("; ".join(f"{words} ≤ {target.bound:g}: {found:.2f}" for target, words, found in verdicts))
        cells.append("; ".join("reached" if found <= target.bound else "missed" for target, _, found in verdicts))
        yield f"| {' | '.join(cells)} |"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def record(results: list[Result], workers: int) -> dict[str, Any]:
    """Return everything that was measured, in seconds and bytes, for ``json``."""
    versions = {}
    for package in sorted({*PACKAGES.values(), "cloudpickle", "numpy", "pandas"} - {"multiprocessing"}):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # not installed, or a checkout
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg(),
        "workers": workers,
        "versions": versions,
        "rows": [
            {
                "name": result.row.name,
                "title": result.row.title,
                "unit": "bytes" if result.row.in_bytes else "seconds",
                "values": result.values,
                "caller_cpu_seconds": result.cpu,
                "tasks": result.tasks,
                "skipped": result.skipped,
                "best_peer": result.best(),
                "ratio_to_best_peer": {
                    ours: median(result.ratios(ours, best))
                    for ours in OURS
                    if ours in result.values and (best := result.best()) is not None
                },
                "targets": [
                    {"of": result.row.ours, "what": words, "found": found, "wanted": target.bound}
                    for target, words, found in result.verdicts()
                ],
            }
            for result in results
        ],
    }
