"""``python -m safemp doctor``: what this machine gives a pool, and what is wrong with it.

Everything is read, nothing is started or changed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, NamedTuple

from safemp.engines import memory

__all__ = ["add_to", "examine", "run"]

_NEEDED = ("cloudpickle", "loky", "tblib")
_OPTIONAL = {  # what we use; not what may come
    "rich": "reports in colour",
    "threadpoolctl": "threads of BLAS in forked workers",
}
_SHM = "/dev/shm"
_LITTLE_SHM = 256 << 20
_FEW_FILES = 1024
_FEW_PROCESSES = 256


class Finding(NamedTuple):
    """One line of the report.

    Attributes:
        section: What it is about.
        name: What was looked at.
        value: What was found.
        warning: What is wrong with it and what to do, if anything is.
    """

    section: str
    name: str
    value: str
    warning: str = ""


def add_to(commands: Any) -> None:
    """Add the command to those of a parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "doctor",
        help="tell what this machine gives a pool",
        description="Tell what this machine gives a pool: Python, processes, cores, memory, limits, packages. "
        "Exit status 0: a pool can work here. 1: something that it needs is missing.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: argparse.Namespace) -> int:
    """Print what was found.

    Returns:
        The exit status.
    """
    findings = list(examine())
    missing = [f for f in findings if f.section == "packages" and f.warning]
    if options.json:
        print(json.dumps([f._asdict() for f in findings], indent=2))
        return 1 if missing else 0
    section = ""
    for finding in findings:
        if finding.section != section:
            section = finding.section
            print(section)
        print(f"  {finding.name:<16}{finding.value}")
        if finding.warning:
            print(f"  {'':<16}! {finding.warning}")
    return 1 if missing else 0


def examine() -> Iterator[Finding]:
    """Look at everything, one thing after the other."""
    yield Finding("python", "version", f"{platform.python_implementation()} {platform.python_version()}")
    yield Finding("python", "executable", sys.executable or "unknown")
    yield Finding("python", "platform", platform.platform())
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    yield Finding("python", "GIL", "on" if gil else "off")
    yield from _processes()
    yield from _machine()
    yield from _limits()
    yield from _packages()


def _processes() -> Iterator[Finding]:
    methods = multiprocessing.get_all_start_methods()
    yield Finding("processes", "start methods", f"loky (safemp's default), {', '.join(methods)}")
    yield Finding("processes", "multiprocessing", f"{methods[0]} by default")
    depth = os.environ.get("SAFEMP_MAX_DEPTH")
    if depth:
        yield Finding("processes", "nested pools", f"at most {depth} deep, says SAFEMP_MAX_DEPTH")


def _machine() -> Iterator[Finding]:
    cores = os.cpu_count() or 1
    usable = _usable_cores()
    text = f"{usable} usable of {cores}" if usable is not None else f"{cores}"
    yield Finding(
        "machine",
        "cores",
        text,
        "" if usable is None or usable >= cores else "affinity, a control group or LOKY_MAX_CPU_COUNT allows no more",
    )
    most = memory.limit()
    if most is None:
        yield Finding("machine", "memory", "unknown")
    else:
        yield Finding("machine", "memory", f"{memory.size(most.bytes)} ({most.of})")
    kills = memory.oom_kills()
    if kills:
        yield Finding(
            "machine",
            "killed",
            f"{kills} processes for want of memory",
            "the kernel has killed here before: fewer workers, or max_memory=, leave room",
        )
    if os.path.isdir(_SHM):
        usage = shutil.disk_usage(_SHM)
        yield Finding(
            "machine",
            _SHM,
            f"{memory.size(usage.free)} free of {memory.size(usage.total)}",
            "large values need room there: docker run --shm-size=1g" if usage.total < _LITTLE_SHM else "",
        )
    elif sys.platform == "linux":
        yield Finding("machine", _SHM, "not there", "large values go through the temporary directory")


def _usable_cores() -> int | None:
    try:
        from safemp.backend import cpu_count
    except ImportError:
        return None
    found: int = cpu_count()
    return found


def _limits() -> Iterator[Finding]:
    try:
        import resource
    except ImportError:  # Windows
        return
    for name, what, few, advice in (
        ("open files", "RLIMIT_NOFILE", _FEW_FILES, "a worker takes five or so: ulimit -n 4096"),
        ("processes", "RLIMIT_NPROC", _FEW_PROCESSES, "threads count, too: ulimit -u 4096"),
        ("core files", "RLIMIT_CORE", 0, ""),
        ("address space", "RLIMIT_AS", 0, ""),
    ):
        number = getattr(resource, what, None)
        if number is None:
            continue
        soft, hard = resource.getrlimit(number)
        low = 0 <= soft < few
        yield Finding("limits", name, f"{_limit(soft)} (hard: {_limit(hard)})", advice if low else "")


def _limit(number: int) -> str:
    return "unlimited" if number < 0 or number >= 1 << 62 else str(number)


def _packages() -> Iterator[Finding]:
    import safemp

    yield Finding("packages", "safemp", safemp.__version__)
    for name in _NEEDED:
        found = _version(name)
        yield Finding(
            "packages", name, found or "missing", "" if found else f"safemp needs it: python -m pip install {name}"
        )
    for name, what in _OPTIONAL.items():
        yield Finding("optional", name, f"{_version(name) or 'not installed'} ({what})")


def _version(name: str) -> str | None:
    """Return the version of an installed package; ``None``: it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "installed" if find_spec(name) is not None else None
