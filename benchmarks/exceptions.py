"""Exception classes of popular packages: how many come back from a pool, and how.

    python -m benchmarks.exceptions                 # those of PACKAGES that are installed
    python -m benchmarks.exceptions openai httpx    # these
    python -m benchmarks.exceptions --keep found    # goes on where it was ended

Each package has a process of its own. safemp is a real pool; the others pickle and load
in one process, which is kinder than theirs: a pool that breaks takes other tasks with it.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.exception_ways import ways
from safemp.audit.look import SAFEMP
from safemp.audit.packages import audit
from safemp.audit.samples import VARIANTS, WITHOUT
from safemp.audit.task import Options
from safemp.audit.verdict import BREAKS, FAITHFUL, LINKS, STATE

Found: TypeAlias = dict[str, Any]
"""An ``Audit`` as JSON has it."""

__all__ = ["PACKAGES", "main", "table"]

PACKAGES = (Path(__file__).with_name("exception_packages.txt")).read_text(encoding="utf-8").split()


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exceptions", description=__doc__.splitlines()[0])
    parser.add_argument("packages", nargs="*", help="default: those of PACKAGES that are installed")
    parser.add_argument("--deadline", type=float, default=300.0, metavar="SECONDS", help="for each package")
    parser.add_argument("--workers", type=int, default=1, help="packages at a time")
    parser.add_argument(
        "--keep", type=Path, metavar="DIRECTORY", help="keep what is found there, and do not look again"
    )
    options = parser.parse_args(argv)
    names = options.packages or [name for name in PACKAGES if _is_there(name)]
    found: dict[str, Found] = {}
    for name in names:
        if options.keep and _file(options.keep, name).exists():
            found[name] = json.loads(_file(options.keep, name).read_text(encoding="utf-8"))
    targets = [Options(name) for name in names if name not in found]
    for target, audited in audit(targets, deadline=options.deadline, ways=ways(), workers=options.workers):
        name = target.package
        if isinstance(audited, Exception):
            print(f"{name}: {str(audited).partition(chr(10))[0]}", flush=True)
            continue
        found[name] = asdict(audited)
        counts = len(audited.looked) // len(VARIANTS), len(audited.unmade), audited.left
        print(f"{name}: {counts[0]} classes, {counts[1]} cannot be made, {counts[2]} left", flush=True)
        if options.keep:
            _file(options.keep, name).write_text(json.dumps(found[name], indent=1), encoding="utf-8")
    print("\n".join(_short(found)))
    print(table(found))


def _file(directory: Path, name: str) -> Path:
    return directory / f"{name}.json"


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # the package around it is not, or has no spec
        return False


def table(found: Mapping[str, Found]) -> str:
    """Return the table of the documentation, and what it was measured with."""
    rows = [
        "| | | arrives | caught | same class and text | args and attributes, too | cause and notes, too |",
        "|---|---|---|---|---|---|---|",
    ]
    found = {name: audited for name, audited in found.items() if audited["looked"]}
    looked = [each for audited in found.values() for each in audited["looked"]]
    for variant in VARIANTS:
        some = [each["verdicts"] for each in looked if each["variant"] == variant]
        for way in some[0] if some else ():
            kinds = Counter(verdicts[way]["kind"] for verdicts in some)
            counts = (
                len(some) - kinds[BREAKS],
                sum(verdicts[way]["caught"] for verdicts in some),
                kinds[FAITHFUL] + kinds[LINKS] + kinds[STATE],
                kinds[FAITHFUL] + kinds[LINKS],
                kinds[FAITHFUL],
            )
            rows.append(f"| {variant} | {way} | {' | '.join(_share(count, len(some)) for count in counts)} |")
    bare = sum(each["call"] == WITHOUT for each in looked if each["variant"] == VARIANTS[0])
    unmade = sum(len(audited["unmade"]) for audited in found.values())
    said = f"{len(looked) // len(VARIANTS)} classes of {len(found)} packages"
    said += f"; {bare} made without their constructors, {unmade} not at all"
    versions = ", ".join(f"{name} {audited['version']}".strip() for name, audited in sorted(found.items()))
    return "\n".join([said, "", *rows, "", versions])


def _share(count: int, of: int) -> str:
    share = 100 * count / of
    return f"{share:.0f} %" if count in (0, of) else f"{min(max(share, 0.1), 99.9):.1f} %"


def _short(found: Mapping[str, Found]) -> Iterator[str]:
    """Say where safemp falls short."""
    for audited in found.values():
        for each in audited["looked"]:
            verdict = each["verdicts"][SAFEMP]
            if verdict["kind"] != FAITHFUL or not verdict["caught"]:
                caught = "" if verdict["caught"] else ", not caught"
                yield f"{'.'.join(each['name'])}, {each['variant']}: {verdict['kind']}{caught}: {verdict['why']}"
                yield f"    {each['call']}"
        for name, why in audited["unmade"].items():
            yield f"{name}: cannot be made: {why}"


if __name__ == "__main__":
    main()
