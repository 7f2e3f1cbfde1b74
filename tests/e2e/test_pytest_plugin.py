"""The pytest plugin: two fixtures, messages that pytest shows, and nothing for a run that does not use it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.support.child import ROOT, environment

pytest_plugins = ["pytester"]

INSTALLED = {
    "METADATA": "Metadata-Version: 2.1\nName: safemp\nVersion: 0\n",
    "RECORD": "safemp/__init__.py,,\nsafemp/pytest_plugin.py,,\n",
    "entry_points.txt": "[pytest11]\nsafemp = safemp.pytest_plugin\n",
}
"""What pytest reads of an installed wheel: it finds the plugin, and means to rewrite its package."""

ERRORS = """
    class KeywordOnly(Exception):
        def __init__(self, *, status):
            super().__init__(f"status {status}")
            self.status = status
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A library with an exception, in a directory of its own, and a safemp that looks installed."""
    folder = pytester.path / "site" / "safemp-0.dist-info"
    folder.mkdir(parents=True)
    for name, text in INSTALLED.items():
        (folder / name).write_text(text)
    clean = environment()
    for name, value in {**clean, "PYTHONPATH": f"{folder.parent}{os.pathsep}{clean['PYTHONPATH']}"}.items():
        monkeypatch.setenv(name, value)
    pytester.makepyfile(library=ERRORS)
    return pytester


def run(project: pytest.Pytester, *args: str) -> pytest.RunResult:
    """Run pytest in a process of its own, as a user does; warnings are errors."""
    return project.runpytest_subprocess("-q", "-W", "error", "-p", "no:cacheprovider", *args, timeout=50)


TESTS = """
    from library import KeywordOnly


    def test_survives(assert_survives):
        assert assert_survives(KeywordOnly(status=429)).status == 429


    def test_travels(assert_travels):
        copy = assert_travels([KeywordOnly(status=1)])
        assert copy[0].status == 2


    def test_fails(assert_survives):
        assert_survives(KeywordOnly(status=429), by="pickle")
"""


def test_the_fixtures_are_the_assertions(project: pytest.Pytester) -> None:
    """A failure is shown at the test's line, with its reason; a copy in an ``assert`` is shown as any value."""
    project.makepyfile(test_library=TESTS)
    result = run(project)

    result.assert_outcomes(passed=1, failed=2)
    result.stdout.fnmatch_lines(
        [
            ">       assert copy[[]0[]].status == 2",
            "E       *assert 1 == 2",
            ">       assert_survives(KeywordOnly(status=429), by=*pickle*)",
            "E       AssertionError: exc (library.KeywordOnly) does not survive a pool of the standard library: *",
            "E         reason: *1 positional argument*",
            "E         fix:    *",
            "test_library.py:14: AssertionError",
        ]
    )
    result.stdout.no_fnmatch_line("*safemp/testing*")


def test_classes_of_a_test_file_survive(project: pytest.Pytester) -> None:
    """Also where pytest imports test files so that no other process could."""
    project.makepyfile(
        test_local=f"""
    from safemp.testing import assert_survives, assert_travels

{ERRORS}

    def test_it():
        assert assert_survives(KeywordOnly(status=3)).status == 3
        assert type(assert_travels(KeywordOnly(status=3))) is KeywordOnly
    """
    )
    run(project, "--import-mode=importlib").assert_outcomes(passed=1)


def test_a_run_that_does_not_use_it_pays_two_small_files() -> None:
    """The plugin is loaded everywhere, so it loads nothing."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import pytest; before = set(sys.modules)\n"
        "import safemp.pytest_plugin; print(*sorted(set(sys.modules) - before))"
    )
    command = [sys.executable, "-c", code, str(ROOT)]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True, timeout=50).stdout.split()

    assert loaded == ["safemp", "safemp.pytest_plugin"]


def test_it_can_be_left_out(project: pytest.Pytester) -> None:
    """``-p no:safemp``, as any plugin."""
    project.makepyfile(test_library=TESTS)

    run(project, "-p", "no:safemp").assert_outcomes(errors=3)


def test_a_pytest_that_runs_under_safemp_does_not_complain(project: pytest.Pytester) -> None:
    """A warning is due when a plugin's package was imported before pytest, unless it asks to be left alone."""
    project.makepyfile(test_nothing="def test_it(): pass")
    command = ["-m", "safemp", "run", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]

    project.run(sys.executable, *command, timeout=50).assert_outcomes(passed=1)


def test_the_distribution_has_the_plugin() -> None:
    """Under the name that pytest looks for."""
    said = (ROOT / "pyproject.toml").read_text()

    assert '[project.entry-points.pytest11]\nsafemp = "safemp.pytest_plugin"\n' in said
