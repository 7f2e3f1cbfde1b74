"""garak, unmodified, under ``python -m safemp run``: parallel scans end as serial ones, whatever the server answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.systems.garak.scan import CASES, VERSION, command, scan

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION, reason="wants the garak package"),
    pytest.mark.timeout(300),
]


@pytest.mark.parametrize("name", CASES)
def test_a_parallel_scan_is_the_serial_one(tmp_path: Path, name: str) -> None:
    """Status, last words and every line of the report are those of the scan that makes one attempt at a time."""
    probes, statuses, says = CASES[name]
    serial = scan(tmp_path / "serial", statuses, *command(probes, 1))
    ours = scan(tmp_path / "ours", statuses, "-m", "safemp", "run", *command(probes, 3))

    assert says in serial.ended.out + serial.last, str(serial.ended)
    assert ours.ended.returncode == serial.ended.returncode, str(ours.ended)
    assert ours.last == serial.last
    assert ours.report == serial.report
    assert ours.summary == serial.summary == ("complete" in says)
    assert ours.ended.left == ()


def test_its_pools_are_ours(tmp_path: Path) -> None:
    """Told that it is a task inside of five pools, it fails with what safemp says to that."""
    probes, statuses, _ = CASES["server error, once"]
    args = ("-m", "safemp", "run", *command(probes, 3))
    ended = scan(tmp_path / "deep", statuses, *args, SAFEMP_DEPTH="5").ended

    assert ended.returncode == 1, str(ended)
    assert "cannot start a pool: this process is a worker inside 5 pools" in ended.err, str(ended)
