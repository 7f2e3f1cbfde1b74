"""The how-to page on Ray: each program prints what the page says."""

from __future__ import annotations

import pytest

from tests.support.child import ROOT
from tests.support.how_to import PROGRAM, is_all_run
from tests.systems.ray.cluster import VERSION, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION, reason="wants the ray package"),
    pytest.mark.timeout(180),
]

PAGE = ROOT / "docs" / "how-to" / "systems" / "ray.md"
PROGRAMS = PROGRAM.findall(PAGE.read_text(encoding="utf-8"))


def test_every_program_is_run() -> None:
    """No block of code is without what it prints."""
    assert is_all_run(PAGE)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_prints_what_the_page_says(number: int) -> None:
    """As a script; no process of Ray is left."""
    source, out = PROGRAMS[number]
    ended, left = run(source)

    assert (ended.returncode, ended.out) == (0, out), str(ended)
    assert left == []
