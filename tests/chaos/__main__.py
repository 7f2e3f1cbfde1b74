"""The long storm: ``python -m tests.chaos --seconds 600 --seed 1``.

Storms of every kind follow each other, each with a seed of its own, which is printed:
``--only KIND --seed N`` runs that one again. Ends at the first that has something
wrong, with exit code 1.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

from tests.chaos.storm import blow
from tests.chaos.weather import KINDS, LIMITED


def main() -> int:
    """Run storms until the time is up."""
    every = KINDS | LIMITED
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=every, help="one kind of storm, whose seed is --seed")
    options = parser.parse_args()
    draw = random.Random(options.seed)
    until = time.monotonic() + options.seconds
    total: Counter[str] = Counter()
    while time.monotonic() < until:
        kind = options.only or draw.choice(list(KINDS))
        seed = options.seed if options.only else draw.randrange(1 << 30)
        print(f"--only {kind!r} --seed {seed}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            books = blow(replace(every[kind], seed=seed), Path(folder))
        total.update(books.counts)
        print(books, flush=True)
        if books.wrong:
            return 1
    print("in all:")
    print("\n".join(f"  {count:8} {what}" for what, count in sorted(total.items()) if count))
    return 0


if __name__ == "__main__":
    sys.exit(main())
