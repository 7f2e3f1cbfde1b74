"""The programs of the pages, each with what it prints, and the three ways in which users run them."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

from tests.support.child import ROOT, Ended, run_python, run_script

PROGRAM = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)

LARGE = "<!-- Its programs want the packages of the integration extra. -->"
"""The first line of a page that only the integration group runs."""

OWN_TESTS = {"find-what-cannot-be-pickled", "notebooks", "test-your-exceptions"}
"""Pages with tests of their own: what they print names the module, or their programs are cells."""

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


def pages(*, large: bool) -> list[Path]:
    """Return the pages with programs that want large packages, or the others.

    Those of other systems are not among them: tests/systems has them.
    """
    docs = ROOT / "docs"
    found = [docs / "index.md", *sorted(docs.glob("how-to/*.md")), *sorted(docs.glob("explanation/*.md"))]
    found = [page for page in found if page.stem not in OWN_TESTS and "```python" in page.read_text()]
    return [page for page in found if page.read_text().startswith(LARGE) is large]


def programs(pages: list[Path]) -> dict[str, tuple[str, str]]:
    """Return each program and what it prints, by the page's name and a number."""
    return {f"{page.stem}-{i}": found for page in pages for i, found in enumerate(PROGRAM.findall(page.read_text()))}


def imported(programs: dict[str, tuple[str, str]]) -> set[str]:
    """Return the packages that programs import, other than the standard library's."""
    nodes = [node for source, _ in programs.values() for node in ast.walk(ast.parse(source))]
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)]
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names


def is_all_run(page: Path) -> bool:
    """Tell whether no block of code is without what it prints."""
    return len(PROGRAM.findall(page.read_text())) == page.read_text().count("```python") > 0


def as_script(folder: Path, source: str) -> Ended:
    """Run it as it is printed."""
    return run_script(folder, source)


def in_module(folder: Path, source: str) -> Ended:
    """Run it in a module that the script imports."""
    (folder / "mine.py").write_text(
        source.replace('if __name__ == "__main__":', "def main():\n    global counter, queue, lock")
    )
    return run_script(folder, 'import mine\n\nif __name__ == "__main__":\n    mine.main()\n')


def in_cells(folder: Path, source: str) -> Ended:
    """Run each of its statements as a cell of a notebook."""
    cells = []
    for statement in ast.parse(source).body:
        decorators = getattr(statement, "decorator_list", [])  # a statement's lines begin after them
        first = min(node.lineno for node in [statement, *decorators])
        cells.append("\n".join(source.splitlines()[first - 1 : statement.end_lineno]))
    path = folder / "kernel.py"
    path.write_text(IPYTHON.format(cells=cells))
    return run_python(str(path), cwd=folder, env={"IPYTHONDIR": str(folder)})
