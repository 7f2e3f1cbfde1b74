"""The plots of a run, as SVG: readable on a light page and on a dark one.

Nothing is drawn behind them, and lines and letters are of a grey that is as far from
white as from black.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from benchmarks.peers import LIMIT, OURS
from benchmarks.results import Result, sized

__all__ = ["draw"]

_GREY = "#808080"
_OURS = {OURS[0]: "#e4572e", OURS[1]: "#f0a202"}
_OTHERS = ("#2e86ab", "#5aa9c9", "#8cc5dc", "#3a9d5d", "#6cbf88", "#a0d8b3", "#9b5de5", "#c77dff", "#d16ba5")
_STYLE = {
    "svg.fonttype": "none",  # letters, so that they can be searched, and small files
    "svg.hashsalt": "safemp",
    "font.size": 9,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _GREY),
    "grid.color": _GREY,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


def draw(results: list[Result], folder: Path) -> None:
    """Write ``ratios.svg``, ``start.svg`` and ``workers.svg``, as far as they were measured."""
    folder.mkdir(parents=True, exist_ok=True)
    by_name = {result.row.name: result for result in results}
    with mpl.rc_context(_STYLE):
        compared = [result for result in results if not result.row.sizes and result.row.ours in result.values]
        if compared:
            _save(_ratios(compared), folder / "ratios.svg")
        if "start" in by_name:
            _save(
                _start([by_name[name] for name in ("start", "start-pandas") if name in by_name]), folder / "start.svg"
            )
        if "workers" in by_name:
            _save(_workers(by_name["workers"]), folder / "workers.svg")


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None})


def _colours(names: list[str]) -> dict[str, Any]:
    others = [name for name in names if name not in _OURS]
    return {**_OURS, **{name: _OTHERS[i % len(_OTHERS)] for i, name in enumerate(others)}, LIMIT: _GREY}


def _names(results: list[Result]) -> list[str]:
    return list(dict.fromkeys(name for result in results for name in result.values))


def _ratios(results: list[Result]) -> Figure:
    """Each peer's time ÷ ours, a line a row: right of 1 safemp is faster."""
    figure = Figure(figsize=(8, 0.34 * len(results) + 1.5))
    axes = figure.add_subplot()
    names = [name for name in _names(results) if name not in OURS]
    markers = "osD^vP*X<>hdp8"
    for i, (name, colour) in enumerate((name, _colours(names)[name]) for name in names):
        points = [
            (median(result.ratios(name, result.row.ours)), -line)
            for line, result in enumerate(results)
            if name in result.values
        ]
        marker = "|" if name == LIMIT else markers[i % len(markers)]
        axes.plot(*zip(*points, strict=True), marker, color=colour, label=name, markersize=5)
    axes.axvline(1.0, color=_OURS[OURS[0]], linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks([-line for line in range(len(results))], [result.row.name for result in results])
    axes.set_xlabel("time or memory of the other ÷ safemp's, in the same round; right of the line safemp needs less")
    axes.grid(axis="both")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _start(results: list[Result]) -> Figure:
    """Seconds from the start of the interpreter to the first result, a bar for each."""
    names = _names(results)
    figure = Figure(figsize=(8, 0.3 * len(names) + 1.2))
    panels = figure.subplots(1, len(results), sharey=True, squeeze=False)[0]
    for axes, result in zip(panels, results, strict=True):
        colours = _colours(names)
        for line, name in enumerate(names):
            if name in result.values:
                axes.barh(-line, 1000 * median(result.values[name]), color=colours[name], height=0.7)
        axes.set_yticks([-line for line in range(len(names))], names)
        axes.set_xscale("log")
        axes.set_xlabel(f"{result.row.name}: ms to the first result")
        axes.grid(axis="x")
    return figure


def _workers(result: Result) -> Figure:
    """The caller's processor time a call by number of workers, a line for each peer."""
    figure = Figure(figsize=(8, 3.2))
    axes = figure.add_subplot()
    peers = list(dict.fromkeys(name.rpartition(" @ ")[0] for name in result.values))
    for peer in peers:
        points = [
            (size, result.shown(median(result.values[sized(peer, size)])))
            for size in result.row.sizes
            if sized(peer, size) in result.values
        ]
        axes.plot(*zip(*points, strict=True), "o-", color=_colours(peers)[peer], label=peer, markersize=4)
    axes.set_xscale("log", base=2)
    axes.set_xticks(result.row.sizes, [str(size) for size in result.row.sizes])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("workers")
    axes.set_ylabel("caller's µs of processor a call")
    axes.grid(axis="both")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure
