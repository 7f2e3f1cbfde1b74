"""The tutorial: who follows it word by word sees what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import tutorial
from tests.support.child import run_python

pytestmark = pytest.mark.slow


def test_the_tutorial(tmp_path: Path) -> None:
    """Each program is saved, each command typed, and each answer is the one of the page."""
    ended = run_python("-m", "tests.support.tutorial", "--installed", str(tmp_path))

    assert (ended.returncode, ended.left) == (0, ()), str(ended)


@pytest.mark.parametrize(
    ("said", "printed", "wrong"),
    [
        ("a\n…\nc\n", "a\nb\nb\nc\n", False),
        ("a\n…\nc\n", "a\nc\n", False),
        ("a\n…\n", "a\nb\nc\n", False),
        ("a\n…\n", "a\n", False),
        ("a … c\n", "a b c\n", False),
        ("a\nc\n", "a\nb\nc\n", True),
        ("a\n…\nc\n", "a\nb\n", True),
        ("a.\n", "ab\n", True),
        ("a\n", "a\nb\n", True),
    ],
)
def test_a_stumble_is_seen(said: str, printed: str, wrong: bool) -> None:
    """Only what the page leaves open may be otherwise."""
    assert tutorial.differs(said, printed) is wrong


def test_a_block_that_nobody_follows_is_refused(tmp_path: Path) -> None:
    """A program without a name, or an answer without a command, is a mistake of the page."""
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n")

    with pytest.raises(ValueError, match="cannot follow"):
        tutorial.steps(page)
