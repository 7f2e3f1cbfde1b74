"""The how-to pages: each of their programs prints what the page says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.child import ROOT, quiet, run_python, run_script

pytestmark = pytest.mark.slow

PAGES = sorted(page for page in (ROOT / "docs" / "how-to").glob("*.md") if page.stem != "find-what-cannot-be-pickled")
"""The other one has its own test: what it prints names the module."""

PROGRAM = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)
PROGRAMS = {f"{page.stem}-{i}": found for page in PAGES for i, found in enumerate(PROGRAM.findall(page.read_text()))}

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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_program_of_a_page_is_run(page: Path) -> None:
    """No block of code is without what it prints."""
    assert len(PROGRAM.findall(page.read_text())) == page.read_text().count("```python") > 0


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_as_a_script(tmp_path: Path, name: str) -> None:
    """As it is printed, and with nothing on stderr."""
    source, out = PROGRAMS[name]
    ended = run_script(tmp_path, source)

    assert quiet(ended, out=out), str(ended)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_in_a_module(tmp_path: Path, name: str) -> None:
    """Its functions are in a module that the script imports."""
    source, out = PROGRAMS[name]
    (tmp_path / "mine.py").write_text(
        source.replace('if __name__ == "__main__":', "def main():\n    global counter, queue, lock")
    )
    ended = run_script(tmp_path, 'import mine\n\nif __name__ == "__main__":\n    mine.main()\n')

    assert quiet(ended, out=out), str(ended)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_works_in_cells(tmp_path: Path, name: str) -> None:
    """Each of its statements is a cell of a notebook."""
    pytest.importorskip("IPython", reason="wants IPython")
    source, out = PROGRAMS[name]
    cells = [str(ast.get_source_segment(source, statement)) for statement in ast.parse(source).body]
    path = tmp_path / "kernel.py"
    path.write_text(IPYTHON.format(cells=cells))
    ended = run_python(str(path), cwd=tmp_path, env={"IPYTHONDIR": str(tmp_path)})

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert ended.out == out, str(ended)
