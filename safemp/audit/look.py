"""One package: every class is made and raised in a worker, and what arrives is judged here.

Must be called in a process of its own, since whatever comes back is loaded here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from safemp.audit import stock, task
from safemp.audit.responses import STATUSES
from safemp.audit.samples import VARIANTS
from safemp.audit.task import Name, Options, Target, Way
from safemp.audit.verdict import BREAKS, KINDS, Verdict, judge
from safemp.engines.crash import TaskTimeout, WorkerCrashed
from safemp.executor import SafeExecutor

if TYPE_CHECKING:
    from safemp.audit.task import Made

__all__ = ["SAFEMP", "STOCK", "Audit", "Looked", "look", "quiet"]

_PATIENCE = 30.0
"""Seconds for one exception, in a worker that may have to import the package first. Picked."""

STOCK = "stock pickle"
SAFEMP = "safemp"


@dataclass(frozen=True)
class Looked:
    """What became of one class in one variant, at its worst of all HTTP statuses.

    Attributes:
        name: Module and qualified name.
        variant: One of ``VARIANTS``.
        call: How it was made.
        statuses: How many HTTP statuses it was made for, if a response is wanted and the
            variant is the first; else 0.
        verdicts: By the names of the ways.
    """

    name: Name
    variant: str
    call: str
    statuses: int
    verdicts: dict[str, Verdict]


@dataclass
class Audit:
    """What was found in a package.

    Attributes:
        package: Its name.
        version: Of what it was installed from, if it was.
        modules: How many were imported.
        passed_over: Modules that do not import, and why.
        looked: What became of the classes.
        unmade: Classes of which no exception can be made, and why.
        left: Classes that there was no time for.
    """

    package: str
    version: str = ""
    modules: int = 0
    passed_over: dict[str, str] = field(default_factory=dict)
    looked: list[Looked] = field(default_factory=list)
    unmade: dict[str, str] = field(default_factory=dict)
    left: int = 0


def quiet() -> None:
    """Send what this process prints nowhere: importing a package may print."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


def look(options: Options, deadline: float, ways: Mapping[str, Way] | None = None) -> Audit:
    """Audit one package.

    Args:
        options: What to look at.
        deadline: Seconds. Classes that are not reached by then are counted.
        ways: To judge beside safemp; default: stock pickle.

    Raises:
        PackageNotFoundError: It cannot be imported.
        TaskTimeout: Importing it takes longer than that.
    """
    end = time.monotonic() + deadline
    ways = {STOCK: stock.copy} if ways is None else ways
    with SafeExecutor(1, task_timeout=deadline, initializer=quiet, forward_logging=False) as executor:
        listing = executor.submit(task.list_classes, options).result()
        audit = Audit(options.package, listing.version, listing.modules, listing.passed_over)
        patient = executor.options(task_timeout=min(_PATIENCE, deadline))
        for at, name in enumerate(listing.classes):
            if time.monotonic() > end:
                audit.left = len(listing.classes) - at
                break
            try:
                audit.looked += [_class(patient, options, name, variant, ways) for variant in VARIANTS]
            except _UnmadeError as error:
                audit.unmade[".".join(name)] = str(error)
    return audit


class _UnmadeError(Exception):
    """No exception of a class can be made; the text says why."""


def _class(executor: SafeExecutor, options: Options, name: Name, variant: str, ways: Mapping[str, Way]) -> Looked:
    first, verdicts = _one(executor, options, Target(name, variant), ways)
    found = [verdicts]
    statuses = len(STATUSES) if first.wants_response and variant == VARIANTS[0] else 0
    if statuses:
        targets = (Target(name, variant, status) for status in STATUSES)
        found += [_one(executor, options, target, ways)[1] for target in targets]
    worst = {way: max((each[way] for each in found), key=_badness) for way in verdicts}
    return Looked(name, variant, first.call, statuses, worst)


def _badness(verdict: Verdict) -> tuple[int, bool]:
    return KINDS.index(verdict.kind), not verdict.caught


def _one(
    executor: SafeExecutor, options: Options, target: Target, ways: Mapping[str, Way]
) -> tuple[Made, dict[str, Verdict]]:
    made_in = executor.submit(task.make, options, target, ways)
    raised_in = executor.submit(task.raise_made, options, target)
    try:
        made = made_in.result()
    except BaseException as error:  # what its constructor raised, or that it ended the worker
        raised_in.exception()
        raise _UnmadeError(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}") from error
    try:
        arrived = raised_in.exception()
    except CancelledError as error:  # an exception of that class, raised by the call
        arrived = error
    if isinstance(arrived, WorkerCrashed | TaskTimeout) and made.portrait.cls != (
        type(arrived).__module__,
        type(arrived).__name__,
    ):
        verdict = Verdict(BREAKS, str(arrived).partition("\n")[0], caught=False)
    else:
        verdict = judge(made.portrait, arrived)
    return made, {**made.verdicts, SAFEMP: verdict}
