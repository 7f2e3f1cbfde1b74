"""``python -m safemp audit-exceptions PACKAGE``."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from safemp.audit.look import Audit, Looked
    from safemp.audit.verdict import Verdict

__all__ = ["add_to", "run"]

_DOES_NOT_SURVIVE = 1
_NOT_LOOKED = 2


def add_to(commands: Any) -> None:
    """Add the command to those of a parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "audit-exceptions",
        help="tell which exception classes of a package survive a pool",
        description="Import a package and its modules, make an exception of each of its classes, and tell what the "
        "standard library's pools do to it, and what safemp does. Exit status 0: all survive pickle. 1: some do not. "
        "2: a package could not be looked at.",
    )
    parser.add_argument("packages", nargs="+", metavar="PACKAGE", help="the name that is imported")
    parser.add_argument("--private", action="store_true", help="also import modules that begin with an underscore")
    parser.add_argument("--tests", action="store_true", help="also import modules that look like tests")
    parser.add_argument("--all", action="store_true", help="also list the classes that survive")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--deadline",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="how long each package may take (default: %(default)g)",
    )


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 86400:
        raise argparse.ArgumentTypeError(f"{text} is not within 1 and 86400 seconds")
    return seconds


def run(options: argparse.Namespace) -> int:
    """Do what the command line asks for.

    Returns:
        The exit status.
    """
    from safemp.audit.packages import audit
    from safemp.audit.task import Options

    packages = [Options(name, options.private, options.tests) for name in options.packages]
    status = 0
    found: list[Audit] = []
    for package, audited in audit(packages, deadline=options.deadline):
        if isinstance(audited, Exception):
            status = _NOT_LOOKED
            print(f"cannot audit {package.package}: {audited}", file=sys.stderr)
            continue
        found.append(audited)
        if not _all_survive(audited):
            status = status or _DOES_NOT_SURVIVE
        if not options.json:
            print("\n".join(_lines(audited, options.all)), flush=True)
    if options.json:
        print(json.dumps([asdict(audited) for audited in found], indent=2))
    return status


def _all_survive(audited: Audit) -> bool:
    from safemp.audit.look import STOCK
    from safemp.audit.verdict import FAITHFUL

    kinds = (each.verdicts[STOCK].kind for each in audited.looked if each.variant == "plain")
    return not audited.left and all(kind == FAITHFUL for kind in kinds)


# -- text -----------------------------------------------------------------------------


def _lines(audited: Audit, everything: bool) -> Iterator[str]:
    from safemp.audit.look import SAFEMP, STOCK
    from safemp.audit.samples import VARIANTS, WITHOUT
    from safemp.audit.verdict import FAITHFUL, KINDS, LINKS

    plain = [each for each in audited.looked if each.variant == "plain"]
    yield (
        f"{audited.package} {audited.version}".rstrip()
        + f": {_count(len(plain), 'exception class')} in {_count(audited.modules, 'module')}"
    )
    if plain:
        yield f"  {'as they come back':<26}{STOCK:>14}{SAFEMP:>10}"
    for variant in VARIANTS if plain else ():
        some = [each for each in audited.looked if each.variant == variant]
        for way_kind in _kinds(some, (STOCK, SAFEMP)):
            counts = [sum(each.verdicts[way].kind == way_kind for each in some) for way in (STOCK, SAFEMP)]
            yield f"  {variant:<8}{way_kind:<25}" + "".join(f"{count or '-':>7}" for count in counts)
    for kind in reversed(KINDS):
        some = [each for each in plain if each.verdicts[STOCK].kind == kind]
        if some and (kind != FAITHFUL or everything):
            yield f"  {STOCK}: {kind}"
            for each in some:
                yield from _told(each, each.verdicts[STOCK])
    for variant in VARIANTS:
        some = [
            each
            for each in audited.looked
            if each.variant == variant and each.verdicts[SAFEMP].kind not in (FAITHFUL, LINKS)
        ]
        if some:
            yield f"  {SAFEMP}, {variant}: not whole"
            for each in some:
                yield f"    {'.'.join(each.name)}\n      {each.verdicts[SAFEMP].kind}: {each.verdicts[SAFEMP].why}"
    bare = [each for each in plain if each.call == WITHOUT]
    if bare:
        yield f"  made without their constructors, which took none of our arguments: {len(bare)}"
        yield from (f"    {'.'.join(each.name)}" for each in bare)
    for name, why in audited.unmade.items():
        yield f"  cannot be made: {name}\n      {why}"
    for name, why in audited.passed_over.items():
        yield f"  not imported: {name}\n      {why}"
    if audited.left:
        yield f"  ! {audited.left} classes were not reached: --deadline gives more time"


def _kinds(some: Iterable[Looked], ways: tuple[str, ...]) -> list[str]:
    from safemp.audit.verdict import KINDS

    there = Counter(each.verdicts[way].kind for each in some for way in ways)
    return [kind for kind in KINDS if there[kind]]


def _told(each: Looked, verdict: Verdict) -> Iterator[str]:
    status = f", {each.statuses} HTTP statuses" if each.statuses else ""
    yield f"    {'.'.join(each.name)}"
    yield f"      made:   {each.call}{status}"
    if verdict.why:
        yield f"      reason: {verdict.why}"


def _count(number: int, what: str) -> str:
    plural = what + ("es" if what.endswith("s") else "s")
    return f"{number} {what if number == 1 else plural}"
