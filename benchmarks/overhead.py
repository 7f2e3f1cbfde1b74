"""What a call costs beyond its own work: the rows of single calls, ``python -m benchmarks trip storm …``."""

from __future__ import annotations

import sys

from benchmarks.__main__ import main

ROWS = ["trip", "trip-main", "storm", "storm-main"]

if __name__ == "__main__":
    sys.argv[1:1] = ROWS
    sys.exit(main())
