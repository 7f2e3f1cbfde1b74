"""The benchmarks run by themselves, end, and leave nothing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from benchmarks.peers import LIMIT, OURS
from benchmarks.rows import ROWS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def start(temporary: Path, mark: str, *arguments: str) -> subprocess.Popen[str]:
    """Start the command, with a folder for temporary files and a mark that all its processes have."""
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary), "SAFEMP_TEST_MARK": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def left(mark: str) -> list[str]:
    """Return the command lines of what is still alive of a run."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and mark.encode() in (entry / "environ").read_bytes():
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


def test_a_quick_run_measures_what_it_is_told_to(tmp_path: Path) -> None:
    """Rows that are chosen are measured for safemp, the chosen peers and the machine; no process or file is left."""
    temporary, mark = tmp_path / "temporary", uuid.uuid4().hex
    temporary.mkdir()
    rows = ["trip", "exceptions", "array-1MB-result", "queued-memory", "start"]
    with start(
        temporary, mark, *rows, "--quick", "--rounds=1", "--peers", "loky", "--json", str(tmp_path / "found.json")
    ) as run:
        out, err = run.communicate(timeout=55)

    assert (run.returncode, err) == (0, ""), out
    assert re.search(r"^  template of workers +\d+\.\d  \d+ modules: .*safemp\.", out, re.MULTILINE), out
    found = {row["name"]: row for row in json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["rows"]}
    assert set(found) == set(rows)
    for row in found.values():
        assert set(row["values"]) - {LIMIT} == {*OURS, "loky"}, row["skipped"]
        assert all(len(values) == 1 and values[0] > 0 for values in row["values"].values())
        assert row["best_peer"] == "loky"
    assert {name for name, row in found.items() if LIMIT in row["values"]} == {"trip", "array-1MB-result", "start"}
    assert found["queued-memory"]["unit"] == "bytes"
    assert "target  safemp.SafeExecutor ÷ loky" in out
    assert left(mark) == []
    assert list(temporary.iterdir()) == []


def test_a_peer_that_cannot_do_a_row_is_passed_over(tmp_path: Path) -> None:
    """What a peer refuses is said, with the reason, and the others are measured."""
    with start(tmp_path, "-", "closures", "--quick", "--rounds=1", "--peers", "multiprocessing.Pool (spawn)") as run:
        out, err = run.communicate(timeout=55)

    assert (run.returncode, err) == (0, "")
    assert re.search(
        r"multiprocessing\.Pool \(spawn\)       skipped: \w+Error: Can't ", out
    )  # a PicklingError from 3.14 on
    assert all(f"  {name} " in out for name in OURS)


def test_ctrl_c_ends_a_run_quietly(tmp_path: Path) -> None:
    """In the middle of a turn Ctrl-C ends everything: one line, no process, no file."""
    mark = uuid.uuid4().hex
    with start(tmp_path, mark, "map-growing", "--rounds=1000", "--peers", "loky") as run:
        deadline = time.monotonic() + 40
        while len(left(mark)) < 6 and time.monotonic() < deadline:  # lanes with workers
            time.sleep(0.1)
        run.send_signal(signal.SIGINT)
        _, err = run.communicate(timeout=15)

    assert (run.returncode, err) == (130, "interrupted: every pool was ended\n")
    assert left(mark) == []
    assert list(tmp_path.iterdir()) == []


def test_rows_are_told_apart() -> None:
    """Each row has a name of its own, by which it is chosen."""
    assert len({row.name for row in ROWS}) == len(ROWS)
