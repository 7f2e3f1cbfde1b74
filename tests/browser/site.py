"""The documentation, and the pages that safemp writes itself: a run, a report of what cannot travel."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import safemp
from tests.browser.chromium import LOOKS, Browser, served
from tests.support.pages import ROOT

__all__ = ["build", "look_at", "write_reports"]

SHOWN = (
    "index",
    "tutorial/index",
    "how-to/migrate",
    "reference/api",
    "explanation/pickle",
    "explanation/why-pools-break",
    "run",
    "report",
)
"""Pages of which pictures are taken; all are looked at."""


def build(folder: Path) -> None:
    """Build the site."""
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "html",
        str(ROOT / "docs"),
        str(folder),
    ]
    subprocess.run(command, check=True)


def work(seconds: float) -> None:
    """Take some time; a quarter of a second is too much for it."""
    time.sleep(seconds)
    if seconds > 0.25:
        raise ValueError(f"{seconds} s is too long")


def write_reports(folder: Path) -> None:
    """Write the page of a run, its trace, and a report of an object that cannot travel."""
    with safemp.Pool(4, trace=folder / "run.html") as pool:
        pool.map(work, [0.05 * (1 + n % 6) for n in range(40)], chunksize=1, on_error="return")
    pool.stats().save(folder / "run.json")
    with socket.socket() as connection:
        service = {"client": {"pool": [connection], "lock": threading.RLock()}, "rows": (n for n in range(3))}
        safemp.inspect(service, sizes=True, name="service").to_html(folder / "report.html")


def look_at(browser: Browser, folder: Path) -> list[str]:
    """Open every page in every look; return what is wrong."""
    pages = sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.html"))
    wrong = []
    with served(folder) as address:
        for width, scheme in LOOKS:
            browser.look(width, scheme)
            for page in pages:
                browser.open(f"{address}/{page}.html")
                wrong += [f"{page} ({width}, {scheme}): {each}" for each in browser.faults(address)]
                if page in SHOWN:
                    browser.shoot(f"{page.replace('/', '-')}-{width}-{scheme}")
    return wrong
