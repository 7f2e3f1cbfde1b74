"""A report as text: indented, in no colours and any encoding."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from safemp.engines.memory import size
from safemp.errors import shortened
from safemp.inspection.report import Report
from safemp.inspection.tree import Branch, kinds, tree_of, verdict, where

__all__ = ["for_stdout", "plain"]


def plain(report: Report) -> str:
    """Show *report* as text."""
    return "\n".join(_lines(report))


def for_stdout(report: Report) -> str:
    """Show *report* for ``print``: in colours where stdout is a terminal and rich is installed.

    A terminal that does not take UTF-8 (a code page of Windows, say) has no lines to draw with.
    """
    out = sys.stdout
    encoding = getattr(out, "encoding", None) or "utf-8"
    try:
        terminal = out is not None and out.isatty()
    except ValueError:  # it is closed
        terminal = False
    if terminal and encoding.lower().startswith("utf"):
        try:
            from safemp.inspection.colour import ansi
        except ModuleNotFoundError:  # rich
            pass
        else:
            return ansi(report)
    text = plain(report)
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _lines(report: Report) -> Iterator[str]:
    yield verdict(report)
    if report.culprits or any(repair.type_name != "module" for repair in report.repairs):
        yield ""
        yield from _branch(tree_of(report), "")
    if report.repairs:
        yield ""
        yield "repairs:"
        for kind in kinds(report):
            often = f" x{kind.count}" if kind.count > 1 else ""
            yield f"  {kind.repair.kind}: {kind.repair.type_name}{often}: {kind.repair.why}{where(kind)}"
        if report.more_repairs:
            yield f"  (+ {report.more_repairs} more)"
        if report.needs_safemp:
            yield "  what is sent loads only where safemp is installed"
    if report.sizes:
        yield ""
        yield "heaviest:"
        for heavy in report.sizes:
            yield f"  {size(heavy.size):>10}  {shortened(heavy.path)} ({heavy.type_name})"


def _branch(branch: Branch, indent: str) -> Iterator[str]:
    said = "".join(f"  <- {culprit.problem}" for culprit in branch.culprits)
    said += "".join(f"  ({repair.kind})" for repair in branch.repairs)
    yield f"{indent}{branch.text.strip()}  {branch.type_name}{said}".rstrip()
    inner = indent + "    "
    for culprit in branch.culprits:
        yield f"{inner}reason: {culprit.reason}"
        yield f"{inner}fix:    {culprit.fix}"
        if culprit.owner:
            yield f"{inner}owner:  {culprit.owner}"
        yield f"{inner}path:   {shortened(culprit.path)}"
    for below in branch.below.values():
        yield from _branch(below, inner)
