"""Jupyter: cells in a real kernel, by nbclient."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.child import ROOT, run_python
from tests.support.how_to import PROGRAM

try:
    import ipykernel
    import nbclient
except ImportError:
    ipykernel = nbclient = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(nbclient is None or ipykernel is None, reason="wants the nbclient and ipykernel packages"),
    pytest.mark.timeout(120),
]

PAGE = ROOT / "docs" / "how-to" / "notebooks.md"

# In a process of its own, since nbclient leaves threads and sockets of its own behind.
RUN = """
import asyncio, json, sys
import nbformat
from nbclient import NotebookClient

class Client(NotebookClient):
    interrupted = None
    def process_message(self, message, cell, index):
        # Once: a second one would come while the kernel shows what the first has done.
        if self.interrupted is None and "interrupt me" in message["content"].get("text", ""):
            self.interrupted = asyncio.ensure_future(self.km.interrupt_kernel())
        return super().process_message(message, cell, index)

cells = [nbformat.v4.new_code_cell(source) for source in json.load(open(sys.argv[1]))]
notebook = nbformat.v4.new_notebook(cells=cells)
Client(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()
json.dump([cell.outputs for cell in cells], open(sys.argv[2], "w"))
"""

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def run(folder: Path, *sources: str) -> list[list[dict[str, Any]]]:
    """Run *sources* as the cells of one notebook; return the outputs of each."""
    (folder / "run.py").write_text(RUN)
    (folder / "cells.json").write_text(json.dumps(sources))
    ended = run_python(
        "run.py",
        "cells.json",
        "outputs.json",
        cwd=folder,
        env={"IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)},
    )
    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    outputs: list[list[dict[str, Any]]] = json.loads((folder / "outputs.json").read_text())
    return outputs


def printed(outputs: list[dict[str, Any]], name: str = "stdout") -> str:
    """Return what a cell has printed."""
    return "".join(each["text"] for each in outputs if each["output_type"] == "stream" and each["name"] == name)


def traceback_of(outputs: list[dict[str, Any]]) -> str:
    """Return the traceback that a cell shows, in plain text."""
    (error,) = [each for each in outputs if each["output_type"] == "error"]
    return ANSI.sub("", "\n".join(error["traceback"]))


def test_the_how_to_page(tmp_path: Path) -> None:
    """Its programs are the cells of one notebook, and print what it says."""
    found = PROGRAM.findall(PAGE.read_text())
    assert len(found) == PAGE.read_text().count("```python") > 0

    outputs = run(tmp_path, *(source for source, _ in found))
    assert [printed(each) for each in outputs] == [text for _, text in found]


def test_the_standard_library_cannot_take_a_function_of_a_cell(tmp_path: Path) -> None:
    """A clean interpreter does not find it, and its pool waits for ever; ours has the answer."""
    stock, ours = run(
        tmp_path,
        "import multiprocessing\n"
        "def double(n):\n    return 2 * n\n"
        "pool = multiprocessing.get_context('spawn').Pool(1)\n"
        "try:\n    print(pool.map_async(double, [1, 2]).get(4))\n"
        "except multiprocessing.TimeoutError:\n    print('no answer')\n"
        "pool.terminate()",
        "import safemp\nprint(safemp.map(double, [1, 2]))",
    )

    assert printed(stock) == "no answer\n"
    assert printed(ours) == "[2, 4]\n"


def test_an_error_shows_the_line_of_its_cell(tmp_path: Path) -> None:
    """The cell in which the function is defined, beside the one that called it."""
    outputs = run(
        tmp_path,
        "import safemp\ndef divide(n):\n    return 1 / n  # the culprit",
        "safemp.map(divide, [2, 1, 0])",
    )
    shown = traceback_of(outputs[1])

    assert "ZeroDivisionError" in shown
    assert "-> 1 safemp.map(divide, [2, 1, 0])" in re.sub(r"-+>", "->", shown)
    assert "-> 3     return 1 / n  # the culprit" in re.sub(r"-+>", "->", shown)


def test_cells_send_locks_and_catch_their_own_exceptions(tmp_path: Path) -> None:
    """Of a class that a cell has defined and whose constructor wants keywords; answers are those of a loop."""
    _, shown = run(
        tmp_path,
        "import threading, safemp\n"
        "class Refused(Exception):\n"
        "    def __init__(self, *, status):\n"
        "        super().__init__('refused')\n"
        "        self.status = status\n"
        "class Client:\n"
        "    def __init__(self):\n"
        "        self.lock = threading.RLock()\n"
        "    def ask(self, n):\n"
        "        with self.lock:\n"
        "            if n == 3:\n"
        "                raise Refused(status=429)\n"
        "            return n * n",
        "client = Client()\n"
        "print(safemp.map(client.ask, range(3)) == [client.ask(n) for n in range(3)])\n"
        "try:\n    safemp.map(client.ask, range(5))\n"
        "except Refused as error:\n    print(type(error) is Refused, error, error.status)",
    )

    assert printed(shown) == "True\nTrue refused 429\n"


def test_logs_appear_below_the_cell_that_called(tmp_path: Path) -> None:
    """And what tasks print, when that is captured."""
    _, logged, said = run(
        tmp_path,
        "import logging, safemp\ndef work(n):\n    logging.getLogger('work').warning('at %d', n)\n    print('said', n)",
        "_ = safemp.map(work, [1])",
        "with safemp.Pool(1, capture_output=True) as pool:\n    pool.map(work, [2])",
    )

    assert "at 1" in printed(logged, "stderr")
    assert "at 2" in printed(said, "stderr")
    assert "said 2" in printed(said)


def test_an_interrupted_cell_leaves_a_notebook_that_works(tmp_path: Path) -> None:
    """The stop button ends the calls; the next cell has workers."""
    _, stopped, after = run(
        tmp_path,
        "import logging, time, safemp\n"
        "def stay(n):\n    logging.getLogger('work').warning('interrupt me')\n    time.sleep(3600)",
        "safemp.map(stay, range(4))",
        "print(safemp.map(abs, [-1, -2]))",
    )

    assert "KeyboardInterrupt" in traceback_of(stopped)
    assert printed(after) == "[1, 2]\n"


def test_a_bar_is_a_widget(tmp_path: Path) -> None:
    """``progress=True`` is tqdm's bar for notebooks, below the cell that called."""
    _, shown = run(
        tmp_path,
        "import safemp\ndef double(n):\n    return 2 * n",
        "print(sum(safemp.map(double, range(50), progress='doubling')))",
    )
    views = [each["data"] for each in shown if each["output_type"] == "display_data"]

    assert printed(shown) == "2450\n"
    assert any("application/vnd.jupyter.widget-view+json" in data for data in views)
    assert any("doubling:" in data["text/plain"] for data in views)
