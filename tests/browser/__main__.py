"""Look at what people see, and take pictures of it: ``python -m tests.browser FOLDER``."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.browser import notebook, site, viewer
from tests.browser.chromium import browser


def main() -> int:
    """Look at all of it; print what is wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.browser")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--speedscope", type=Path, help="dist/release of npm's speedscope, to see a trace in")
    parser.add_argument("--no-notebook", action="store_true", help="leave out the notebook")
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as made, browser(asked.folder) as window:
        pages = Path(made)
        site.build(pages)
        site.write_reports(pages)
        wrong = site.look_at(window, pages)
        if asked.speedscope:
            wrong += viewer.look_at(window, asked.speedscope, pages / "run.json")
        if not asked.no_notebook:
            wrong += notebook.look_at(window)
    print(*wrong, sep="\n")
    print(f"{len(list(asked.folder.glob('*.png')))} pictures, {len(wrong)} things wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
