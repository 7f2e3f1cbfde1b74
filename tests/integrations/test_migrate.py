"""The how-to on moving from another pool: both columns of each row give the same, with the real package."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.child import ROOT, run_script

PAGE = (ROOT / "docs" / "how-to" / "migrate.md").read_text(encoding="utf-8")

PACKAGES = ("joblib", "loky", "mpire", "pebble")
MISSING = [name for name in PACKAGES if find_spec(name) is None]

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(MISSING), reason=f"wants {', '.join(MISSING)}"),
    pytest.mark.timeout(120),
]

JOBS = """
import os, time

def init(x): pass
def fn(x): return x * x
def add(x, other=0): return x + other
def fail(): raise KeyError("no")
def die(): os._exit(3)
def hang(*args): time.sleep(60)
"""

PROGRAM = """
import functools, json, os, sys, time, warnings
from mine import add, die, fail, fn, hang, init

warnings.simplefilter("ignore")  # of loky, say: a worker has died
items, pairs = list(range(5)), [(1, 2), (3, 4)]


def told(value):
    if isinstance(value, BaseException):
        bases = [each.__name__ for each in type(value).__mro__]
        return ["error", next(each for each in bases if each in KNOWN)]
    return ["value", repr(value)]


KNOWN = ("KeyError", "BrokenProcessPool", "TimeoutError", "ProcessExpired", "BaseException")


def told_of(source, space):
    try:
        value = eval(compile(source, "row", "eval"), space)
    except SyntaxError:
        exec(source, space)
        return ["done", ""]
    except BaseException as error:
        return told(error)
    return told(value)


if __name__ == "__main__":
    import safemp

    theirs, ours = (
        dict(add=add, die=die, fail=fail, fn=fn, hang=hang, init=init, items=items, pairs=pairs) for _ in range(2)
    )
    ours.update(safemp=safemp, functools=functools)
    exec(sys.argv[1], theirs)
    if sys.argv[1].startswith("import loky"):
        ours["loky"] = theirs["loky"]
    with open("rows.json") as file:
        rows = json.load(file)
    found = [[told_of(was, theirs), told_of(now, ours)] for was, now in rows]
    with open("found.json", "w") as file:
        json.dump(found, file)
    for space in theirs, ours:
        for end in (space.get("pool"), space.get("executor")):
            for name in ("terminate", "stop", "kill_workers"):
                if hasattr(end, name):
                    getattr(end, name)()
                    break
    sys.stdout.flush()
    safemp.maps.close_shared()
    os._exit(0)  # their own ends are not what is tested here
"""

SECTIONS = {
    "multiprocessing.Pool": "",
    "ProcessPoolExecutor": "",
    "loky": "import loky",
    "joblib": "from joblib import Parallel, delayed",
    "mpire": "import mpire",
    "pebble": "import pebble",
}
"""What each section's left column has imported."""

SAME = {("ProcessExpired", "BrokenProcessPool")}
"""Errors that mean the same, as the page says."""


def rows(section: str) -> list[tuple[str, str]]:
    """Return the two columns of a section's table."""
    text = PAGE.partition(f"## From {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"^\| `(.+?)` \| `(.+?)` \|$", text, re.MULTILINE)


def test_every_section_is_run() -> None:
    """No table of the page is left out, and no row of one."""
    assert re.findall(r"^## From (.+)$", PAGE, re.MULTILINE) == list(SECTIONS)
    assert sum(len(rows(section)) for section in SECTIONS) == len(re.findall(r"^\| `", PAGE, re.MULTILINE)) > 30


@pytest.mark.parametrize("section", SECTIONS)
def test_both_columns_give_the_same(tmp_path: Path, section: str) -> None:
    """A value, or an error of the same kind."""
    (tmp_path / "mine.py").write_text(JOBS)
    (tmp_path / "rows.json").write_text(json.dumps(rows(section)))
    ended = run_script(tmp_path, PROGRAM, SECTIONS[section])

    assert (tmp_path / "found.json").exists(), str(ended)
    found = json.loads((tmp_path / "found.json").read_text())
    other = [
        (row, was, now)
        for row, (was, now) in zip(rows(section), found, strict=True)
        if was != now and (was[1], now[1]) not in SAME
    ]
    assert other == []
    assert ["error", "BaseException"] not in [now for _, now in found]
