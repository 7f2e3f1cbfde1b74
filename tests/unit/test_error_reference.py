"""The reference of errors: every text of the code is in it, with cause and remedy, and none that is not."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor

import pytest

import safemp
from safemp.codec import calls
from safemp.engines import Task, crash
from safemp.engines.errand import FORMAT, HERE, perform
from safemp.engines.foreign import ForeignEngine
from safemp.engines.futures import ExecutorEngine
from safemp.errors import Culprit, PreflightError
from safemp.result_error import ResultError
from tests.support.error_texts import FIXES, PAGE, REFUSALS, fixes_table, refusals_table, texts

PACKAGE = PAGE.parents[2] / "safemp"

INTERNAL = {
    "safemp/__main__.py": "argparse shows it, with the option",
    "safemp/audit/command.py": "argparse shows it, with the option",
    "safemp/audit/find.py": "the audit prints it, with the package",
    "safemp/audit/look.py": "the audit prints it, with the class",
    "safemp/audit/samples.py": "of an exception that the audit makes",
    "safemp/codec/exception_fields.py": "caught where it is called",
    "safemp/codec/exception_rescue.py": "caught there: the next way is tried",
    "safemp/codec/exception_state.py": "caught where it is called",
    "safemp/codec/exceptions.py: it is damaged": "the end of another text",
    "safemp/codec/exceptions.py: version … found, … expected": "the end of another text",
    "safemp/codec/namespaces.py": "the interpreter's own text",
    "safemp/codec/tracebacks.py": "caught there: tblib is taken",
    "safemp/engines/output.py": "what io asks of a stream without a descriptor",
    "safemp/testing/contract.py": "a test that fails",
    "safemp/testing/contract_jobs.py": "of what the tests have workers do",
}
"""Texts that no user sees as an error of safemp, and why."""

CULPRIT = Culprit("args[0].conn", "socket.socket", "why", "what")
REPORT = crash.Report(call="mod.fn", pid=1, exitcode=-9, item=3)

BROKEN = ThreadPoolExecutor(1)
ENGINE = ForeignEngine("Theirs", 1)
CALL = Task([], "mod.fn")


def refused(*written: tuple[int, int]) -> safemp.EngineError:
    """Make the error for a worker that was not written for."""
    return safemp.EngineError(f"cannot run tasks on Theirs: {perform(written)[1]}")


COMPOSED: list[Callable[[], BaseException]] = [
    lambda: PreflightError((CULPRIT,)),
    lambda: PreflightError((Culprit("a", "b", "c", "d", problem="does not load"),)),
    lambda: calls.blame_load(calls.NotLoaded("ModuleNotFoundError: no", None), [("fn", len)]),
    lambda: ResultError((CULPRIT,)),
    lambda: safemp.MapError.of({1: ValueError()}, 2),
    lambda: calls._result_not_loaded(ValueError()),
    lambda: crash.WorkerCrashed("mod.fn", 3, 1, -11),
    lambda: crash.WorkerCrashed("mod.fn", 3, 1, 3),
    lambda: crash.WorkerCrashed.of(crash.Report(call="mod.fn", pid=1, exitcode=-9, out_of_memory=True)),
    lambda: crash.TaskTimeout.of(REPORT, 1.5),
    lambda: crash.MemoryLimitExceeded.of(REPORT, 2000, 1000),
    lambda: crash.TaskKilled.of(REPORT),
    lambda: crash.not_run("mod.fn"),
    lambda: crash.no_worker(OSError("no")),
    lambda: crash.WorkerCrashed("", text=crash.ended_in_vain(1, 3, 5)),
    lambda: crash.WorkerCrashed("", text=crash.never_begun("mod.fn", 5, REPORT)),
    lambda: crash.initializer_failed([b"no frames"]),
    lambda: ENGINE._crashed(CALL, 0, "it was lost"),
    lambda: ENGINE._cannot_send(RuntimeError("cannot schedule")),
    lambda: ENGINE._given_up(CALL),
    lambda: ENGINE._explained(CALL, ModuleNotFoundError("No module named 'safemp'")),
    lambda: ENGINE._explained(CALL, OSError("no")),
    lambda: refused(FORMAT, (2, 7)),
    lambda: refused((0, 0), HERE),
    lambda: ExecutorEngine(BROKEN)._cannot_send(BrokenExecutor("broken")),
]
"""Errors whose texts are put together elsewhere than in a ``raise``."""


def in_reference() -> list[str]:
    """Return the texts in the first column of the tables of "Every text"."""
    part = PAGE.read_text(encoding="utf-8").partition("## Every text")[2].partition("## Every fix")[0]
    return re.findall(r"^\| `(.*?)`(?: \([^|]*\))? \| .+? \|(?: .+? \|)?$", part, re.MULTILINE)


def in_code() -> set[str]:
    """Return the first lines of what is raised and reaches users."""
    found = set()
    for where, _, text, _ in texts(PACKAGE):
        first = text.partition("\n")[0]
        if not where.startswith("safemp/demo/") and where not in INTERNAL and f"{where}: {first}" not in INTERNAL:
            found.add(first)
    return found


def matches(text: str, template: str) -> bool:
    """Tell whether *template* is *text* with ``…`` for what varies, at least at its beginning."""
    return re.match("(.+?)".join(map(re.escape, template.split("…"))), text, re.DOTALL) is not None


def test_every_text_is_in_the_reference() -> None:
    """Whoever searches for a message finds its cause and remedy; a new text wants a row."""
    assert sorted(in_code() - set(in_reference())) == []


@pytest.mark.parametrize("make", COMPOSED)
def test_texts_that_are_put_together_are_in_the_reference(make: Callable[[], BaseException]) -> None:
    """So are those that no ``raise`` spells out."""
    assert [row for row in in_reference() if matches(str(make()), row)], str(make())


def test_the_reference_has_no_text_of_its_own() -> None:
    """What is in the reference is in the code."""
    code = in_code()
    made = [str(make()) for make in COMPOSED]
    unknown = [row for row in in_reference() if row not in code and not any(matches(text, row) for text in made)]

    assert unknown == []


def test_no_text_is_there_twice() -> None:
    """One row for one text."""
    rows = in_reference()

    assert len(rows) == len(set(rows)) > 50


def test_what_is_said_to_be_internal_is_there() -> None:
    """No entry of the list of exceptions has outlived its text."""
    there = {key for where, _, text, _ in texts(PACKAGE) for key in (where, f"{where}: {text.partition(chr(10))[0]}")}

    assert set(INTERNAL) <= there


@pytest.mark.parametrize(
    ("part", "made"), [(FIXES, fixes_table()), (REFUSALS, refusals_table())], ids=["fixes", "refusals"]
)
def test_what_is_made_from_the_code_is_up_to_date(part: re.Pattern[str], made: str) -> None:
    """Both tables are made by ``python -m tests.support.error_texts``."""
    found = part.search(PAGE.read_text(encoding="utf-8"))

    assert found is not None
    assert found[2] == made


def test_a_fix_of_the_table_is_what_is_said() -> None:
    """A culprit gets the advice that the table has for its type."""
    (culprit,) = safemp.inspect((x for x in ()), name="x").culprits
    assert f"| {culprit.fix} |" in fixes_table()
    (culprit,) = safemp.inspect(threading.Thread(), name="x").culprits
    assert f"| {culprit.fix} |" in fixes_table()
