"""Checks that every type of safemp is written down: ``python -m tests.typing.verify``.

Asks ``pyright --verifytypes``, for which every module counts that has no underscore before its
name. Left out are the classes that derive from one of a library without types.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]

UNTYPED = ("safemp.integrations.hamilton.SafeMultiProcessingExecutor", "safemp.integrations.joblib.SafempBackend")
"""Hamilton and joblib have no types."""


def incomplete(found: dict[str, Any]) -> list[str]:
    """Return a line for each public symbol whose type is not known, or which checkers may see differently."""
    return [
        f"{symbol['name']}: {'; '.join(each['message'].splitlines()[0] for each in symbol['diagnostics'])}"
        for symbol in found["typeCompleteness"]["symbols"]
        if symbol["isExported"] and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"])
        if not symbol["name"].startswith(UNTYPED)
    ]


def main() -> int:
    """Tell what is incomplete; return the exit status."""
    command = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--verifytypes", "safemp"]
    with tempfile.TemporaryDirectory() as folder:  # from ROOT, it would not look at the installed package
        ended = subprocess.run(
            [*command, "--ignoreexternal", "--outputjson"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
    try:
        found = json.loads(ended.stdout)
    except ValueError:
        print(ended.stdout, ended.stderr, sep="\n")
        return 2
    missing = incomplete(found)
    counts = found["typeCompleteness"]["exportedSymbolCounts"]
    print(*missing, sep="\n")
    print(f"{sum(counts.values())} public symbols, {len(missing)} incomplete")
    return 1 if missing or not counts["withKnownType"] else 0


if __name__ == "__main__":
    sys.exit(main())
