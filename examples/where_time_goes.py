"""A timeline of every call: which worker was busy, and which call was the longest.

Writes ``run.html`` to look at, and ``run.json`` for https://ui.perfetto.dev, into a folder of its own.

Prints:

    9 calls, 0 failed
    the longest: items[4]
    written: run.html, run.json
"""

import tempfile
import time
from pathlib import Path

import safemp


def work(seconds):
    time.sleep(seconds)


def main():
    with tempfile.TemporaryDirectory() as folder:
        with safemp.Pool(2, trace=Path(folder, "run.json")) as pool:
            pool.map(work, [0.05, 0.05, 0.05, 0.05, 0.6, 0.05, 0.05, 0.05, 0.05], chunksize=1)
        stats = pool.stats()
        stats.save(Path(folder, "run.html"))
        print(f"{stats.calls} calls, {stats.failures} failed")
        print("the longest:", stats.timeline.longest(1)[0].label.rpartition(", ")[2])
        print("written:", ", ".join(sorted(path.name for path in Path(folder).iterdir())))


if __name__ == "__main__":
    main()
