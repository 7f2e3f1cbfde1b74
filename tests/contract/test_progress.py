"""tqdm's bars: its own ``process_map`` on our pools, and a bar around ``safemp.imap``."""

from __future__ import annotations

import io
import re
import threading
from pathlib import Path

import pytest
from tqdm import tqdm
from tqdm.contrib.concurrent import process_map

import safemp
from tests.support import errors
from tests.support.child import quiet, run_python


@pytest.fixture(autouse=True)
def _no_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the monitor of tqdm away: it is a thread that stays."""
    monkeypatch.setattr(tqdm, "monitor_interval", 0)


class Locked:
    """Squares, and holds a lock while it does."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, i: int) -> int:
        with self.lock:
            return i * i


def counts(drawn: str) -> list[tuple[int, int]]:
    """Return each ``done/total`` that a bar has shown."""
    return [(int(done), int(total)) for done, total in re.findall(r"(\d+)/(\d+) \[", drawn)]


def test_process_map_moves_its_bar() -> None:
    """A patched ``process_map`` gives the serial answer, takes a lock, and its bar ends at the total."""
    drawn = io.StringIO()
    with safemp.patched():
        found = process_map(Locked(), range(12), max_workers=2, file=drawn, miniters=1, mininterval=0)

    assert found == [i * i for i in range(12)]
    assert counts(drawn.getvalue())[-1] == (12, 12)


def test_an_error_out_of_process_map_is_itself() -> None:
    """Its own class, where ``process_map`` by itself has the whole pool broken."""
    with pytest.raises(errors.KeywordOnly) as caught, safemp.patched():
        process_map(errors.raise_by_name, ["KeywordOnly"] * 3, max_workers=2, disable=True)

    assert caught.value.status == 429


def test_a_bar_around_imap_counts_answers() -> None:
    """``tqdm(safemp.imap(...))`` needs only the total."""
    drawn = io.StringIO()
    found = list(tqdm(safemp.imap(Locked(), range(9)), total=9, file=drawn, mininterval=0))

    assert found == [i * i for i in range(9)]
    assert counts(drawn.getvalue())[-1] == (9, 9)


PROGRAM = """
import threading
from tqdm.contrib.concurrent import process_map


class Refused(Exception):
    def __init__(self, *, status):
        super().__init__("refused")
        self.status = status


def ask(n):
    if n == 3:
        raise Refused(status=429)
    return n


if __name__ == "__main__":
    print(process_map(ask, range(3), max_workers=2, disable=True))
    try:
        process_map(ask, range(5), max_workers=2, disable=True)
    except Exception as error:
        print(type(error).__name__, getattr(error, "status", None))
"""


def test_a_program_with_process_map_runs_unchanged(tmp_path: Path) -> None:
    """Under ``python -m safemp run`` its error arrives; by itself its pool breaks."""
    (tmp_path / "program.py").write_text(PROGRAM)
    stock = run_python("program.py", cwd=tmp_path)
    ours = run_python("-m", "safemp", "run", "program.py", cwd=tmp_path)

    assert "BrokenProcessPool None" in stock.out, str(stock)
    assert quiet(ours, out="[0, 1, 2]\nRefused 429\n"), str(ours)
