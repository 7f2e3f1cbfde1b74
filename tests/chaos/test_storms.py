"""Short storms: workers are killed at random while jobs of every kind run.

The long ones are ``python -m tests.chaos``.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.books import Books
from tests.chaos.storm import blow
from tests.chaos.weather import KINDS, LIMITED, Weather

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="kills as Linux does"),
    pytest.mark.timeout(240),
]

SECONDS = 3.0


def _show(kind: str, weather: Weather, folder: Path, capsys: pytest.CaptureFixture[str]) -> Books:
    books = blow(replace(weather, seed=1, seconds=SECONDS), folder)
    with capsys.disabled():
        print(f"\n{kind}\n{books}")
    return books


@pytest.mark.parametrize("kind", KINDS)
def test_a_death_costs_the_job_it_hits_and_no_other(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each future ends once, each job that lived has its own answer, nothing ran twice."""
    books = _show(kind, KINDS[kind], tmp_path, capsys)

    assert not books.wrong
    assert books.counts["answered"] >= KINDS[kind].answers
    assert books.counts["crashed"] >= KINDS[kind].hits


@pytest.mark.parametrize("kind", LIMITED)
def test_limits_hold_in_a_storm(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What hangs is ended in time, what died is tried again as often as was said, and nothing else is touched."""
    books = _show(kind, LIMITED[kind], tmp_path, capsys)

    assert not books.wrong
    assert books.counts["answered"] >= LIMITED[kind].answers
    assert books.counts["timed out"] >= LIMITED[kind].timeouts
    assert kind != "killed futures" or books.counts["killed"] >= 3
    assert kind != "retries" or books.counts["tried again"] >= 3
