"""The how-to on state in the workers: each of its programs prints what the page says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.child import ROOT, quiet, run_python, run_script

PAGE = (ROOT / "docs" / "how-to" / "worker-state.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", PAGE, re.DOTALL)

IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config, colors="NoColor")
for cell in {cells!r}:
    if not shell.run_cell(cell).success:
        sys.exit(1)
"""


def test_every_program_of_the_page_is_run() -> None:
    """No block of code is without what it prints."""
    assert len(PROGRAMS) == PAGE.count("```python") == 4


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_works_as_a_script(tmp_path: Path, number: int) -> None:
    """As it is printed, and with nothing on stderr."""
    source, out = PROGRAMS[number]
    ended = run_script(tmp_path, source)

    assert quiet(ended, out=out), str(ended)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_works_in_a_module(tmp_path: Path, number: int) -> None:
    """Its functions are in a module that the script imports."""
    source, out = PROGRAMS[number]
    (tmp_path / "mine.py").write_text(
        source.replace('if __name__ == "__main__":', "def main():\n    global counter, queue, lock")
    )
    ended = run_script(tmp_path, 'import mine\n\nif __name__ == "__main__":\n    mine.main()\n')

    assert quiet(ended, out=out), str(ended)


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_works_in_cells(tmp_path: Path, number: int) -> None:
    """Each of its statements is a cell of a notebook."""
    pytest.importorskip("IPython", reason="wants IPython")
    source, out = PROGRAMS[number]
    cells = [str(ast.get_source_segment(source, statement)) for statement in ast.parse(source).body]
    path = tmp_path / "kernel.py"
    path.write_text(IPYTHON.format(cells=cells))
    ended = run_python(str(path), cwd=tmp_path, env={"IPYTHONDIR": str(tmp_path)})

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert ended.out == out, str(ended)
