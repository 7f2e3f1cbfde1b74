"""The how-to page on garak: its command and its program do what it says, with the newest garak."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.support.chat_server import ChatServer
from tests.support.child import ROOT, run_python
from tests.systems.garak.scan import VERSION, environment, scan

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION, reason="wants the garak package"),
    pytest.mark.timeout(300),
]

PAGE = (ROOT / "docs" / "how-to" / "systems" / "garak.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Return the blocks of code in *language*."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def test_the_command_makes_a_report(tmp_path: Path) -> None:
    """All nine attempts are in it, each with its answer."""
    (command,) = blocks("sh")
    python, *args = shlex.split(command)
    made = scan(tmp_path / "scan", (200,), *args)

    assert python == "python"
    assert made.ended.returncode == 0, str(made.ended)
    answered = [entry for entry in made.report if entry["entry_type"] == "attempt" and entry["status"] == 2]
    assert len(answered) == 9
    assert all(entry["outputs"][0]["text"].startswith("You said: ") for entry in answered)


def test_the_program_prints_what_the_page_says(tmp_path: Path) -> None:
    """A generator that has been used, in a pool of safemp."""
    (program,), (out,) = blocks("python"), blocks("text")
    (tmp_path / "script.py").write_text(program)
    with ChatServer(200) as server:
        ended = run_python("script.py", cwd=tmp_path, env=environment(tmp_path, server), timeout=100)

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert [line for line in ended.out.splitlines() if "loading" not in line] == out.splitlines(), str(ended)
