"""The control groups (containers, services) that this process is in, and their files (Linux).

Functions take the *root* of the file system, for tests.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator

__all__ = ["cores", "files", "read"]

_QUOTA = "cpu.cfs_quota_us"


def files(root: str, controller: str, v2: str, v1: str) -> Iterator[str]:
    """Yield the paths that a file of our control groups may have, ours first, then its parents.

    Args:
        root: Of the file system.
        controller: ``memory``, ``cpu``.
        v2: The file's name in version 2 of control groups.
        v1: That in version 1.
    """
    groups: dict[str, str] = {}
    for line in read(os.path.join(root, "proc/self/cgroup")).splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            groups["cgroup2"] = path
        elif controller in controllers.split(","):
            groups["cgroup"] = path
    for line in read(os.path.join(root, "proc/self/mountinfo")).splitlines():
        ours, _, theirs = line.partition(" - ")
        fields, (kind, *rest_of_it) = ours.split(), theirs.split() or [""]
        if len(fields) < 5 or kind not in groups:
            continue
        if kind == "cgroup" and controller not in rest_of_it[-1].split(","):
            continue
        top = os.path.join(root, _unescaped(fields[4]).lstrip("/"))
        at = os.path.join(top, _below(_unescaped(fields[3]), groups[kind]))
        if not os.path.isdir(at):  # of another name space than the mount
            at = top
        name = v2 if kind == "cgroup2" else v1
        while True:
            yield os.path.join(at, name)
            if at == top:
                break
            at = os.path.dirname(at)


def cores(root: str = "/") -> int | None:
    """Return how many cores' time our control groups allow, at least 1; ``None``: as much as there is."""
    found = []
    for path in files(root, "cpu", "cpu.max", _QUOTA):
        text = read(path)
        if path.endswith(_QUOTA):
            text += read(path.removesuffix(_QUOTA) + "cpu.cfs_period_us")
        numbers = text.split()  # "max" or -1: as much as there is
        if len(numbers) == 2 and all(number.isdecimal() and int(number) for number in numbers):
            found.append(max(1, math.ceil(int(numbers[0]) / int(numbers[1]))))
    return min(found, default=None)


def _unescaped(path: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), path)


def _below(mounted: str, group: str) -> str:
    """Return where *group* is in a mount that shows *mounted* and what is below it."""
    if ".." in group.split("/"):
        return ""
    if mounted == "/":
        return group.strip("/")
    return group[len(mounted) :].strip("/") if f"{group}/".startswith(f"{mounted}/") else ""


def read(path: str) -> str:
    """Return what is in a file; nothing if there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
