"""The how-to pages whose programs want large packages: each prints what the page says."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support import how_to
from tests.support.child import Ended, quiet

PAGES = how_to.pages(large=True)
PROGRAMS = how_to.programs(PAGES)
MISSING = sorted(name for name in {"IPython", *how_to.imported(PROGRAMS)} if find_spec(name) is None)

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(MISSING), reason=f"wants {', '.join(MISSING)}"),
    pytest.mark.timeout(180),  # each process imports them first
]


def run(way: Callable[[Path, str], Ended], folder: Path, source: str) -> Ended:
    """Run a program; again, twice at the most, when C++ has aborted it.

    A process of DistributedDataParallel does that at its end, in one of some fifty runs on a busy machine.
    """
    ended = way(folder, source)
    for again in ("again", "and again"):
        if "terminate called without an active exception" in ended.err:
            (folder / again).mkdir()
            ended = way(folder / again, source)
    return ended


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_program_of_a_page_is_run(page: Path) -> None:
    """No block of code is without what it prints."""
    assert how_to.is_all_run(page)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_as_a_script(tmp_path: Path, name: str) -> None:
    """As it is printed, and with nothing on stderr."""
    source, out = PROGRAMS[name]
    ended = run(how_to.as_script, tmp_path, source)

    assert quiet(ended, out=out), str(ended)


@pytest.mark.parametrize("name", [name for name in PROGRAMS if name.endswith("-0")])
def test_a_program_works_in_a_module(tmp_path: Path, name: str) -> None:
    """Its functions are in a module that the script imports; the first program of each page."""
    source, out = PROGRAMS[name]
    ended = run(how_to.in_module, tmp_path, source)

    assert quiet(ended, out=out), str(ended)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_in_cells(tmp_path: Path, name: str) -> None:
    """Each of its statements is a cell of a notebook."""
    source, out = PROGRAMS[name]
    ended = run(how_to.in_cells, tmp_path, source)

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert ended.out == out, str(ended)
