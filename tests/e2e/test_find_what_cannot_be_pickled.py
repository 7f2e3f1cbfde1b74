"""The how-to on finding what cannot be pickled: each of its programs prints what the page says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.child import ROOT, quiet, run_script

PAGE = (ROOT / "docs" / "how-to" / "find-what-cannot-be-pickled.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)


def test_every_program_of_the_page_is_run() -> None:
    """No block of code is without what it prints."""
    assert len(PROGRAMS) == PAGE.count("```python") == 4


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_prints_what_the_page_says(tmp_path: Path, number: int) -> None:
    """As it is printed, and with nothing on stderr but what an open socket says at the end."""
    source, out = PROGRAMS[number]
    ended = run_script(tmp_path, source)

    assert quiet(ended, out=out), str(ended)
