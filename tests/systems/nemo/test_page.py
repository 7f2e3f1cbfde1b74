"""The how-to page on NeMo Guardrails, and what it warns of, with the newest version."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.child import ROOT
from tests.support.how_to import PROGRAM, is_all_run
from tests.systems.nemo.programs import COMMON, run, told
from tests.systems.nemo.rails import ANSWERS, VERSION

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION, reason="wants the nemoguardrails package"),
    pytest.mark.timeout(300),
]

PAGE = ROOT / "docs" / "how-to" / "systems" / "nemo-guardrails.md"


def test_its_programs_print_what_it_says(tmp_path: Path, url: str) -> None:
    """One after the other in one folder: a chain in a pool and in MLflow, loaded again, and what a copy has lost."""
    programs = PROGRAM.findall(PAGE.read_text(encoding="utf-8"))

    assert is_all_run(PAGE)
    assert len(programs) == 4
    for i, (source, out) in enumerate(programs):
        ended = run(tmp_path, url, source, name=f"program{i}.py" if i else "guarded.py")
        assert (ended.returncode, ended.left) == (0, ()), str(ended)
        assert ended.out == out, str(ended)


def test_what_a_state_leaves_out_is_seen_in_answers(tmp_path: Path, url: str) -> None:
    """With a model in the configuration, which the copy asks: at its temperature, and without the user's action."""
    source = """
if __name__ == "__main__":
    chain = pipeline(os.environ["URL"])
    tell(serial=ask(chain), loaded=ask(safemp.loads(safemp.dumps(chain))))
"""
    seen = told(tmp_path, url, COMMON + source)

    assert seen["serial"] == ANSWERS
    assert seen["loaded"] == [*ANSWERS[:2], "Action 'tell_time' not found.", "George Eliot, at a temperature of None."]
