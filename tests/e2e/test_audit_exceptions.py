"""``python -m safemp audit-exceptions``, over a package of everything that can go wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from safemp import __main__ as command_line
from safemp.audit.look import SAFEMP, STOCK
from safemp.audit.packages import audit
from safemp.audit.task import Options
from safemp.audit.verdict import BREAKS, FAITHFUL, LINKS, STATE
from tests.support.child import ROOT

ERRORS = """
import enum
import os
import threading
from dataclasses import dataclass


class Faithful(Exception):
    pass


class KeywordOnly(Exception):
    def __init__(self, *, status: int, url: str) -> None:
        super().__init__(f"{status} for {url}")
        self.status = status


class OtherText(Exception):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no {name}")


class OtherClass(Exception):
    def __reduce__(self):
        return Exception, self.args


class Forgets(Exception):
    __slots__ = ("code",)

    def __init__(self, message: str, code: int = 3) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self):
        return _without_code, (self.args[0],)


def _without_code(message):
    made = Forgets.__new__(Forgets, message)
    return made


class HoldsALock(Exception):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.RLock()


class Colour(enum.Enum):
    RED = 1


@dataclass
class Options:
    colour: Colour
    depth: int


class WantsObjects(Exception):
    def __init__(self, options: Options, inner: Faithful, *more: int) -> None:
        super().__init__(options.colour.name, str(inner))


class WantsTheUnlikely(Exception):
    def __init__(self, x):
        raise ValueError("not this one either")


class EndsTheProcess(Exception):
    def __init__(self, message):
        os._exit(3)


class Outer:
    class Inner(Exception):
        pass


def _local():
    class Local(Exception):
        pass
    return Local


local = _local()
"""

FILES = {
    "__init__.py": "print('importing it prints')\nfrom .errors import Faithful\n",
    "errors.py": ERRORS,
    "broken.py": "import no_such_module_at_all\n",
    "exits.py": "import sys\nsys.exit('not on this platform')\n",
    "tests.py": "class OfATest(Exception): pass\n",
    "_private.py": "class Private(Exception): pass\n",
    "other.py": "from os import error\nfrom json import JSONDecodeError\n",
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a package."""
    directory = tmp_path_factory.mktemp("audited")
    (directory / "nasty").mkdir()
    for name, source in FILES.items():
        (directory / "nasty" / name).write_text(source)
    (directory / "slow_to_import.py").write_text("import time\ntime.sleep(600)\n")
    (directory / "fails.py").write_text("1 / 0\n")
    (directory / "fine.py").write_text("class Fine(Exception): pass\n")
    return directory


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command from a shell."""
    return subprocess.run(
        [sys.executable, "-m", "safemp", "audit-exceptions", *arguments],
        cwd=directory,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=50,
    )


@pytest.fixture(scope="module")
def audited(package: Path) -> dict[str, Any]:
    """What the command finds in the package."""
    ended = run(package, "nasty", "--json")
    assert (ended.returncode, ended.stderr) == (1, ""), ended.stderr
    (found,) = json.loads(ended.stdout)
    return dict(found)


def kinds(audited: dict[str, Any], way: str, variant: str) -> dict[str, str]:
    """Return the verdicts by class."""
    return {each["name"][1]: each["verdicts"][way]["kind"] for each in audited["looked"] if each["variant"] == variant}


def test_what_stock_pickle_does(audited: dict[str, Any]) -> None:
    """Each class has the verdict that it was written for."""
    assert kinds(audited, "stock pickle", "plain") == {
        "Faithful": "comes back whole",
        "Forgets": "loses attributes",
        "HoldsALock": "arrives as another class",
        "KeywordOnly": "breaks the pool",
        "OtherClass": "arrives as another class",
        "OtherText": "loses its text",
        "Outer.Inner": "comes back whole",
        "WantsObjects": "breaks the pool",
        "WantsTheUnlikely": "breaks the pool",
        "_local.<locals>.Local": "arrives as another class",
    }
    hard = kinds(audited, "stock pickle", "hard")
    assert hard.pop("Forgets") == "loses attributes"  # the lock, too, so it pickles
    assert set(hard.values()) == {"arrives as another class"}


@pytest.mark.parametrize("variant", ["plain", "chained", "hard"])
def test_how_safemp_brings_them_back(audited: dict[str, Any], variant: str) -> None:
    """Whole, but for the class that says itself what it forgets."""
    found = kinds(audited, "safemp", variant)

    assert len(found) == 10
    assert found.pop("Forgets") == "loses attributes"
    assert set(found.values()) == {"comes back whole"}
    assert all(each["verdicts"]["safemp"]["caught"] for each in audited["looked"])


def test_what_could_not_be_looked_at_is_named(audited: dict[str, Any]) -> None:
    """Modules that do not import, and a class whose constructor ends its process."""
    assert {name: why.partition(":")[0] for name, why in audited["passed_over"].items()} == {
        "nasty.broken": "ModuleNotFoundError",
        "nasty.exits": "SystemExit",
    }
    assert list(audited["unmade"]) == ["nasty.errors.EndsTheProcess"]
    assert "exited with code 3" in audited["unmade"]["nasty.errors.EndsTheProcess"]


def test_how_they_were_made_is_told(audited: dict[str, Any]) -> None:
    """By the call, with arguments as the annotations say; or without the constructor."""
    calls = {each["name"][1]: each["call"] for each in audited["looked"]}

    assert calls["KeywordOnly"] == "KeywordOnly(status=429, url='https://api.example.com/v1/things')"
    assert calls["WantsObjects"].startswith("WantsObjects(Options(colour=<Colour.RED: 1>, depth=3), Faithful(")
    assert calls["WantsTheUnlikely"] == "without its constructor"


def test_text_is_for_people(package: Path) -> None:
    """What breaks a pool is named with its call and the reason; a summary is at the top."""
    ended = run(package, "nasty", "--private", "--tests")

    lines = ended.stdout.splitlines()
    assert (ended.returncode, ended.stderr) == (1, "")
    assert lines[0] == "nasty: 12 exception classes in 5 modules"
    at = lines.index("    nasty.errors.KeywordOnly")
    assert lines[at + 1 : at + 3] == [
        "      made:   KeywordOnly(status=429, url='https://api.example.com/v1/things')",
        "      reason: TypeError: KeywordOnly.__init__() takes 1 positional argument but 2 were given",
    ]


def test_each_package_has_an_end(package: Path) -> None:
    """One that never ends to be imported, one that fails and one that is not there do not keep the others from it."""
    ended = run(package, "slow_to_import", "fails", "no_such_package", "fine", "--deadline", "3")

    assert ended.returncode == 2
    assert ended.stdout.startswith("fine: 1 exception class in 1 module\n")
    said = [line for line in ended.stderr.splitlines() if line.startswith("cannot audit")]
    assert [line.partition(":")[0] for line in said] == [
        f"cannot audit {name}" for name in ("slow_to_import", "fails", "no_such_package")
    ]
    assert "ZeroDivisionError: division by zero" in said[1]
    assert "there is no module" in said[2] or "No module named" in said[2]


def test_of_the_standard_library(capsys: pytest.CaptureFixture[str]) -> None:
    """Classes of the standard library that are known not to survive pickle do survive safemp."""
    assert command_line.main(["audit-exceptions", "json", "subprocess", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert [audited["package"] for audited in found] == ["json", "subprocess"]
    assert {each["verdicts"]["safemp"]["kind"] for audited in found for each in audited["looked"]} == {
        "comes back whole"
    }


def test_all_that_survives_is_a_good_exit(package: Path) -> None:
    """0, and with ``--all`` the class is listed."""
    ended = run(package, "fine", "--all")

    assert (ended.returncode, ended.stderr) == (0, "")
    assert "    fine.Fine\n" in ended.stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_what_the_table_promises_holds_for_popular_packages() -> None:
    """In each variant all arrive and are caught, of a thousand five at most are not themselves, ten not whole."""
    names = ("openai", "httpx", "sqlalchemy", "redis", "pymongo", "requests")
    found = [audited for _, audited in audit([Options(name) for name in names], deadline=120, workers=2)]
    looked = [each for audited in found for each in audited.looked]  # type: ignore[union-attr]
    assert sum(each.verdicts[STOCK].kind == BREAKS for each in looked) > 50

    for variant in ("plain", "chained", "hard"):
        verdicts = [each.verdicts[SAFEMP] for each in looked if each.variant == variant]
        assert len(verdicts) > 200
        assert all(verdict.caught and verdict.kind != BREAKS for verdict in verdicts)
        assert sum(verdict.kind in (FAITHFUL, LINKS, STATE) for verdict in verdicts) >= 0.995 * len(verdicts)
        assert sum(verdict.kind in (FAITHFUL, LINKS) for verdict in verdicts) >= 0.99 * len(verdicts)
