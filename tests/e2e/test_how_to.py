"""The how-to pages: each of their programs prints what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import how_to
from tests.support.child import quiet

pytestmark = pytest.mark.slow

PAGES = how_to.pages(large=False)
PROGRAMS = how_to.programs(PAGES)


@pytest.fixture(autouse=True)
def _no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bars show times, on stderr."""
    monkeypatch.setenv("TQDM_DISABLE", "1")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_program_of_a_page_is_run(page: Path) -> None:
    """No block of code is without what it prints."""
    assert how_to.is_all_run(page)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_as_a_script(tmp_path: Path, name: str) -> None:
    """As it is printed, and with nothing on stderr."""
    source, out = PROGRAMS[name]
    ended = how_to.as_script(tmp_path, source)

    assert quiet(ended, out=out), str(ended)


# That on pickle prints the name of its module.
@pytest.mark.parametrize("name", [name for name in PROGRAMS if name.endswith("-0") and name != "pickle-0"])
def test_a_program_works_in_a_module(tmp_path: Path, name: str) -> None:
    """Its functions are in a module that the script imports; the first program of each page."""
    source, out = PROGRAMS[name]
    ended = how_to.in_module(tmp_path, source)

    assert quiet(ended, out=out), str(ended)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_in_cells(tmp_path: Path, name: str) -> None:
    """Each of its statements is a cell of a notebook."""
    pytest.importorskip("IPython", reason="wants IPython")
    source, out = PROGRAMS[name]
    ended = how_to.in_cells(tmp_path, source)

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert ended.out == out, str(ended)
