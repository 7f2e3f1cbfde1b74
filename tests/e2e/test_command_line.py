"""``python -m safemp inspect`` and ``doctor``, as a CI would run them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from safemp import __main__ as command_line
from tests.support.child import ROOT, run_python

MODULE = """
import threading

class Good:
    def __init__(self):
        self.lock = threading.Lock()

class Bad:
    def __init__(self):
        self.rows = {"k": (i for i in ())}
    class Inner:
        value = 1

good, bad = Good(), Bad()

def fails():
    raise ZeroDivisionError("in the factory")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module in the current directory."""
    (tmp_path / "cli_target.py").write_text(MODULE)
    (tmp_path / "cli_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "cli_target", raising=False)
    return "cli_target"


def run(*arguments: str) -> int:
    """Run the command in this process."""
    return command_line.main(["inspect", *arguments])


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["cli_target:good"], 0),
        (["cli_target:bad"], 1),
        (["cli_target:Bad"], 0),
        (["cli_target:Bad", "--call"], 1),
        (["cli_target:Good", "--call", "--no-load"], 0),
        (["cli_target:Bad.Inner.value"], 0),
        (["cli_target"], 0),
        (["cli_target:nothing"], 2),
        (["cli_target:fails", "--call"], 2),
        (["cli_broken:x"], 2),
        (["cli_no_such_module:x"], 2),
        (["cli_target:good", "--html", "no/such/directory/x.html"], 2),
    ],
)
def test_the_exit_status_says_whether_it_travels(
    module: str, arguments: list[str], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """0: it does. 1: it does not. 2: it could not be looked at, and stderr says why."""
    assert run(*arguments) == status
    out, err = capsys.readouterr()
    assert bool(err) == (status == 2)
    assert bool(out) == (status != 2)


def test_paths_begin_with_the_name(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The path can be pasted where the module's names are."""
    run("cli_target:Bad", "--call")

    assert "path:   Bad().rows['k']" in capsys.readouterr().out


def test_json_is_for_programs(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With ``--json`` stdout is JSON and nothing else."""
    assert run("cli_target:bad", "--json", "--sizes") == 1
    data = json.loads(capsys.readouterr().out)

    assert data["culprits"][0]["path"] == "bad.rows['k']"
    assert data["sizes"]


def test_a_page_is_written(module: str, tmp_path: Path) -> None:
    """With ``--html`` there is a page, whatever the exit status."""
    assert run("cli_target:bad", "--html", "out.html") == 1

    assert "bad.rows" in (tmp_path / "out.html").read_text()


def test_it_runs_as_a_module(module: str, tmp_path: Path) -> None:
    """From a shell, in the directory of the module, without anything else set."""
    ended = subprocess.run(
        [sys.executable, "-m", "safemp", "inspect", "cli_target:bad"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert ended.returncode == 1
    assert ended.stdout.startswith("bad (cli_target.Bad) cannot travel: 1 culprit")
    assert ended.stderr == ""


def test_doctor_tells_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Python, start methods, cores, memory, limits, what is needed, what is optional."""
    assert command_line.main(["doctor"]) == 0
    out = capsys.readouterr().out

    for word in ("python", "start methods", "cores", "memory", "cloudpickle", "loky", "tblib", "rich"):
        assert re.search(rf"^\s*{word}", out, re.MULTILINE), word


def test_doctor_names_no_package_that_nothing_here_uses() -> None:
    """What is optional is imported somewhere in safemp: the doctor promises nothing that is not there."""
    from safemp import doctor

    sources = "".join(path.read_text() for path in (ROOT / "safemp").rglob("*.py"))

    used = {name for name in doctor._OPTIONAL if re.search(rf"^\s*(from|import) {name}\b", sources, re.MULTILINE)}
    assert used == doctor._OPTIONAL.keys()


def test_doctor_says_what_is_missing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is needed and missing is exit status 1, and what to type."""
    from safemp import doctor

    monkeypatch.setattr(doctor, "_NEEDED", ("no_such_package_of_anybody",))
    assert command_line.main(["doctor"]) == 1
    assert "! safemp needs it: python -m pip install no_such_package_of_anybody" in capsys.readouterr().out


def test_doctor_speaks_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Each finding has a section, a name, a value and a warning."""
    assert command_line.main(["doctor", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)

    assert {"section", "name", "value", "warning"} == set(findings[0])
    assert any(finding["name"] == "/dev/shm" for finding in findings) or sys.platform != "linux"


def test_the_reference_names_every_option() -> None:
    """Each option of each command is in the reference."""
    page = (ROOT / "docs" / "reference" / "command-line.md").read_text()
    for command in ("inspect", "doctor", "demo"):
        text = subprocess.run(
            [sys.executable, "-m", "safemp", command, "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=50,
            check=True,
        ).stdout
        for option in set(re.findall(r"--[a-z-]+", text)) - {"--help"}:
            assert f"`{option}" in page, f"{command} {option}"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    "arguments", [["inspect", "namen:g", "--sizes"], ["audit-exceptions", "namen"]], ids=lambda a: a[0]
)
def test_names_that_stdout_cannot_spell_are_escaped(tmp_path: Path, arguments: list[str], encoding: str) -> None:
    """Classes may have names of any letters, and a terminal may have few."""
    (tmp_path / "namen.py").write_text(
        "g = {'→': (i for i in ())}\n"
        + "class Größenfehler(Exception):\n    def __init__(self, *, maß):\n        super().__init__('→')\n",
        encoding="utf-8",
    )
    ended = run_python("-m", "safemp", *arguments, cwd=tmp_path, env={"PYTHONIOENCODING": encoding})

    assert (ended.returncode, ended.err) == (1, ""), str(ended)
    assert ("\\u2192" if arguments[0] == "inspect" else "namen.Gr") in ended.out
