"""Exception classes of popular packages: how many come back from a pool, and how.

    python -m benchmarks.exceptions                 # those of PACKAGES that are installed
    python -m benchmarks.exceptions openai httpx    # these
    python -m benchmarks.exceptions --json out.json --short short.txt

Each package has a process of its own. safemp is a real pool; the others pickle and load
in one process, which is kinder than theirs: a pool that breaks takes other tasks with it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from benchmarks.exception_ways import ways
from safemp.audit.look import SAFEMP, Audit
from safemp.audit.packages import audit
from safemp.audit.samples import VARIANTS
from safemp.audit.task import Options
from safemp.audit.verdict import CLASS, FAITHFUL, KINDS, LINKS, STATE

__all__ = ["PACKAGES", "main", "table"]

PACKAGES = (Path(__file__).with_name("exception_packages.txt")).read_text(encoding="utf-8").split()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exceptions", description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", help="default: those of PACKAGES that are installed")
    parser.add_argument("--deadline", type=float, default=600.0, metavar="SECONDS", help="for each package")
    parser.add_argument("--workers", type=int, default=1, help="packages at a time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every verdict")
    parser.add_argument("--short", type=Path, metavar="FILE", help="also write where safemp falls short")
    options = parser.parse_args(argv)
    names = options.packages or [name for name in PACKAGES if _is_there(name)]
    found: list[Audit] = []
    if options.short:
        options.short.write_text("")
    targets = [Options(name) for name in names]
    for target, audited in audit(targets, deadline=options.deadline, ways=ways(), workers=options.workers):
        if isinstance(audited, Exception):
            line = str(audited).partition("\n")[0]
        else:
            found.append(audited)
            if options.short:
                with options.short.open("a") as short:
                    short.writelines(f"{line}\n" for line in _short_of(audited))
            classes = len(audited.looked) // len(VARIANTS)
            line = f"{classes} classes, {len(audited.unmade)} cannot be made, {audited.left} left"
        print(f"{target.package}: {line}", flush=True)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(audited) for audited in found], indent=1))


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # the package around it is not, or has no spec
        return False


def table(audits: Sequence[Audit]) -> str:
    """Return the table of the documentation."""
    rows = [
        "| | | arrives | caught | same class, text | args, attributes | cause, notes, too |",
        "|---|---|---|---|---|---|---|",
    ]
    looked = [each for audited in audits for each in audited.looked]
    for variant in VARIANTS:
        some = [each.verdicts for each in looked if each.variant == variant]
        for way in some[0] if some else ():
            kinds = Counter(verdicts[way].kind for verdicts in some)
            caught = sum(verdicts[way].caught for verdicts in some)
            counts = [
                sum(kinds[kind] for kind in KINDS[: KINDS.index(CLASS) + 1]),
                caught,
                kinds[FAITHFUL] + kinds[LINKS] + kinds[STATE],
                kinds[FAITHFUL] + kinds[LINKS],
                kinds[FAITHFUL],
            ]
            rows.append(f"| {variant} | {way} | {' | '.join(_share(count, len(some)) for count in counts)} |")
    classes = len(looked) // len(VARIANTS)
    return f"{classes} classes of {len(audits)} packages\n\n" + "\n".join(rows)


def _share(count: int, of: int) -> str:
    share = 100 * count / of
    return f"{share:.0f} %" if count in (0, of) else f"{min(max(share, 0.1), 99.9):.1f} %"


def _short_of(audited: Audit) -> Iterator[str]:
    for each in audited.looked:
        verdict = each.verdicts[SAFEMP]
        if verdict.kind != FAITHFUL or not verdict.caught:
            caught = "" if verdict.caught else ", not caught"
            yield f"{'.'.join(each.name)} {each.variant}: {verdict.kind}{caught}: {verdict.why}"
            yield f"    {each.call}"
    for name, why in audited.unmade.items():
        yield f"{name}: cannot be made: {why}"


if __name__ == "__main__":
    main()
