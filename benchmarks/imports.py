"""What is imported before the first result, by the caller and by what workers are forked of.

As ``python -X importtime`` tells, which itself makes imports slower by a fifth or so.
"""

from __future__ import annotations

import re
import subprocess
import sys

__all__ = ["report"]

_PROGRAMS = {
    "caller": "import safemp; safemp.SafeExecutor",
    "template of workers": "import safemp.engines.template_main",
    "multiprocessing, concurrent.futures": "import multiprocessing.spawn, concurrent.futures.process",
}

_LINE = re.compile(r"^import time:\s+(\d+) \|\s+\d+ \| *(\S+)$", re.MULTILINE)

_MOST = 8
"""Modules that are named."""


def _times(program: str) -> dict[str, int]:
    """Return the microseconds that each import takes by itself."""
    run = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return {name: int(taken) for taken, name in _LINE.findall(run.stderr)}


def report() -> list[str]:
    """Say for each program what its imports take, and which take the most."""
    always = _times("pass")
    lines = ["imports before the first result, by python -X importtime; ms, without those of the interpreter"]
    for name, program in _PROGRAMS.items():
        found = {module: taken for module, taken in _times(program).items() if module not in always}
        most = sorted(found, key=found.__getitem__, reverse=True)[:_MOST]
        named = ", ".join(f"{module} {found[module] / 1000:.1f}" for module in most)
        lines.append(f"  {name:36} {sum(found.values()) / 1000:6.1f}  {len(found)} modules: {named}")
    return lines
