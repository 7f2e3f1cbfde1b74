"""The how-to on testing exceptions: its programs print what the page says, and its tests fail as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support import how_to
from tests.support.child import ROOT, quiet, run_python, run_script

PAGE = ROOT / "docs" / "how-to" / "test-your-exceptions.md"
PROGRAMS = how_to.programs([PAGE])


def test_every_program_of_the_page_is_run() -> None:
    """No block of code is without what it prints."""
    assert how_to.is_all_run(PAGE)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_prints_what_the_page_says(tmp_path: Path, name: str) -> None:
    """A file of tests is run by pytest; of what that prints, the page has the failures and the counts."""
    source, out = PROGRAMS[name]
    file = re.match(r"# (test_\w+\.py)\n", source)
    if file is None:
        ended = run_script(tmp_path, source)

        assert quiet(ended, out=out), str(ended)
        return
    (tmp_path / file[1]).write_text(source)
    ended = run_python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    said = re.findall(r"^E .*|^\d+ failed, \d+ passed", ended.out, re.MULTILINE)

    assert (ended.returncode, ended.left) == (1, ()), str(ended)
    assert said == out.splitlines(), str(ended)
