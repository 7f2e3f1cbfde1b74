"""Finding one culprit among 100 000 objects: safemp's walker beside what else there is.

    python -m benchmarks.walker [--objects N] [--deadline SECONDS] [--rounds N] [--json FILE]

Installs nothing: Ray's inspector and dill's have their turn where they are installed.
Each has a process of its own and a deadline, since on some graphs they take minutes, or
overflow. A safemp row is compared with pickling the same graph without the culprit, in
the same process and in turn, and the median ratio is what counts.

Times are of the processor, one thread's: what else the machine does hits them less.
Deadlines are of the clock on the wall.

The culprit is a socket where safemp is to name it, and a lock for the others: a lock is
what safemp repairs.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import io
import json
import pickle
import platform
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

if not __package__:  # run as a file: then Python looks for modules beside it, not above
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import cloudpickle


class Item:
    """An ordinary object: two attributes, one of them a list."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.below: list[Any] = []


def wide(objects: int, culprit: Any) -> Any:
    """A tree, ten objects below each, and the culprit below the last."""
    items = [Item(i) for i in range(objects)]
    for i in range(1, objects):
        items[(i - 1) // 10].below.append(items[i])
    if culprit is not None:
        items[-1].below.append(culprit)
    return items[0]


def flat(objects: int, culprit: Any) -> Any:
    """A list of dicts, and the culprit in the last."""
    made: list[dict[str, Any]] = [{"number": i, "name": f"item {i}"} for i in range(objects)]
    if culprit is not None:
        made[-1]["culprit"] = culprit
    return made


def deep(objects: int, culprit: Any) -> Any:
    """A chain, and the culprit at its end."""
    first = last = Item(0)
    for i in range(1, objects):
        item = Item(i)
        last.below.append(item)
        last = item
    if culprit is not None:
        last.below.append(culprit)
    return first


GRAPHS: dict[str, Callable[[int, Any], Any]] = {"wide": wide, "flat": flat, "deep": deep}


def unconnected() -> socket.socket:
    """Make a socket which leaves no descriptor behind."""
    made = socket.socket()
    made.close()
    return made


# -- what is measured ------------------------------------------------------------------


def walk(graph: Any) -> str:
    from safemp.codec.pickling import Semantics
    from safemp.codec.walker import find_culprits

    return _named(find_culprits([("obj", graph)], Semantics()))


def whole_report(graph: Any) -> str:
    import safemp

    return _named(safemp.inspect(graph).culprits)


def repaired(graph: Any) -> str:
    from safemp.codec import pickling

    return f"sent, {len(pickling.dumps(graph))} bytes"


def _named(culprits: Any) -> str:
    return (
        ", ".join(c.path if len(c.path) < 60 else f"a path of {len(c.path)} characters" for c in culprits) or "nothing"
    )


def ray_inspector(graph: Any) -> str:
    from ray.util import inspect_serializability

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        ok, failures = inspect_serializability(graph, name="obj", depth=10**6, print_file=out)
    if ok:
        return "nothing"
    names = [getattr(failure, "path", None) or (failure.name,) for failure in failures]  # a path from Ray 2.5x on
    return "; ".join(
        f"{type(f.obj).__name__} by {' -> '.join(map(str, n))}"[:90] for f, n in zip(failures, names, strict=True)
    )


def dill_badtypes(graph: Any) -> str:
    from dill import detect

    found = detect.badtypes(graph, depth=1)
    return f"depth 1: {found}"[:80] if found else "nothing"


def dill_baditems(graph: Any) -> str:
    from dill import detect

    found = detect.badobjects(graph, depth=10**6)
    return f"{type(found).__name__}: {len(found) if isinstance(found, dict) else 1}"


SAFEMP = {
    "find_culprits": (walk, unconnected),
    "inspect": (whole_report, unconnected),
    "dumps": (repaired, threading.Lock),
}
OTHERS = {
    "ray.util.inspect_serializability": ("ray", ray_inspector),
    "dill.detect.badtypes": ("dill", dill_badtypes),
    "dill.detect.badobjects": ("dill", dill_baditems),
}


def _seconds(work: Callable[[Any], Any], graph: Any) -> tuple[float, Any]:
    gc.collect()
    begin = time.process_time()
    result = work(graph)
    return time.process_time() - begin, result


def ours(shape: str, objects: int, rounds: int) -> dict[str, Any]:
    """Time safemp's ways, each in turn with pickling the graph without the culprit.

    Each has a graph that is new: the first look at an object makes its ``__dict__``.
    """
    make = GRAPHS[shape]
    base: dict[str, list[float]] = {"pickle.dumps": [], "cloudpickle.dumps": []}
    rows: dict[str, Any] = {name: {"seconds": [], "found": ""} for name in SAFEMP}
    for _ in range(rounds):
        for name, dump in (("pickle.dumps", pickle.dumps), ("cloudpickle.dumps", cloudpickle.dumps)):
            with contextlib.suppress(RecursionError, pickle.PicklingError):
                base[name].append(_seconds(dump, make(objects, None))[0])
        for name, (work, culprit) in SAFEMP.items():
            try:
                seconds, rows[name]["found"] = _seconds(work, make(objects, culprit()))
            except (RecursionError, pickle.PicklingError) as error:
                rows[name]["found"] = type(error).__name__
            else:
                rows[name]["seconds"].append(seconds)
    return {"base": base, "rows": rows}


def other(name: str, shape: str, objects: int, deadline: float) -> tuple[float | None, str]:
    """Let another's inspector have its turn, in a process of its own; ``None``: it had no answer by the deadline."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "benchmarks.walker",
        "--turn",
        name,
        shape,
        "--objects",
        str(objects),
    ]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).resolve().parents[1]
    ) as process:
        try:
            out, err = process.communicate(timeout=deadline)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return None, f"no answer in {deadline:g} s"
    if process.returncode:
        lines = err.strip().splitlines() or [f"exit status {process.returncode}"]
        return None, lines[-1][:80]
    seconds, found = json.loads(out.strip().splitlines()[-1])
    return seconds, found


def turn(name: str, shape: str, objects: int) -> int:
    """Do one turn of another's inspector, and print what came of it."""
    sys.setrecursionlimit(10_000)  # kinder than the default
    work = OTHERS[name][1]
    graph = GRAPHS[shape](objects, threading.Lock())
    seconds, found = _seconds(work, graph)
    print(json.dumps([seconds, found]))
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--objects", type=int, default=100_000)
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds for each of the others (default: 60)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--turn", nargs=2, metavar=("NAME", "SHAPE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.turn:
        return turn(*options.turn, options.objects)
    print(
        f"{options.objects} objects, one culprit; Python {platform.python_version()}; median of {options.rounds} rounds"
    )
    results: dict[str, Any] = {}
    for shape, make in GRAPHS.items():
        print(f"\n{shape}: {(make.__doc__ or '')}")
        measured = ours(shape, options.objects, options.rounds)
        base = measured["base"]
        for name, seconds in base.items():
            print(f"  {name:<36}{_shown(seconds)}  without the culprit")
        for name, row in measured["rows"].items():
            ratio = ""
            if row["seconds"] and base["pickle.dumps"]:
                times = [a / b for a, b in zip(row["seconds"], base["pickle.dumps"], strict=True)]
                ratio = f"{median(times):.2f} x pickle.dumps; "
            print(f"  {'safemp ' + name:<36}{_shown(row['seconds'])}  {ratio}{row['found']}")
        for name, (package, _) in OTHERS.items():
            if importlib.util.find_spec(package) is None:
                print(f"  {name:<36}   skipped: {package} is not installed")
                continue
            seconds, found = other(name, shape, options.objects, options.deadline)
            measured[name] = {"seconds": seconds, "found": found}
            print(f"  {name:<36}{_shown([seconds] if seconds is not None else [])}  {found}", flush=True)
        results[shape] = measured
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=2))
    return 0


def _shown(seconds: list[float]) -> str:
    return f"{median(seconds) * 1000:8.0f} ms" if seconds else "          -"


if __name__ == "__main__":
    sys.exit(main())
