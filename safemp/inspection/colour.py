"""A report for terminals and notebooks that have rich. The only file that imports it."""

from __future__ import annotations

from io import StringIO
from typing import Any

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from safemp.engines.memory import size
from safemp.errors import shortened
from safemp.inspection.report import Report
from safemp.inspection.tree import Branch, kinds, tree_of, verdict, where

__all__ = ["ansi", "renderable"]

_BAR = 20


def ansi(report: Report) -> str:
    """Show *report* with the colours and the width of this terminal."""
    width = Console().size.width
    console = Console(file=StringIO(), force_terminal=True, width=width, color_system="auto")
    console.print(renderable(report), soft_wrap=False)
    made: str = console.file.getvalue()
    return made.rstrip("\n")


def renderable(report: Report) -> Any:
    """Return something that rich can print."""
    parts: list[Any] = [Text(verdict(report), style="bold green" if report.ok else "bold red")]
    if report.culprits or any(repair.type_name != "module" for repair in report.repairs):
        parts.append(_grow(tree_of(report), None))
    if report.repairs:
        parts.append(Text("repairs", style="bold"))
        for kind in kinds(report):
            often = f" x{kind.count}" if kind.count > 1 else ""
            line = Text("  ")
            line.append(f"{kind.repair.kind}: ", style="green")
            line.append(f"{kind.repair.type_name}{often}: {kind.repair.why}{where(kind)}")
            parts.append(line)
        if report.more_repairs:
            parts.append(Text(f"  (+ {report.more_repairs} more)"))
        if report.needs_safemp:
            parts.append(Text("  what is sent loads only where safemp is installed"))
    if report.sizes:
        table = Table(box=None, show_header=False, pad_edge=False)
        most = report.sizes[0].size
        for heavy in report.sizes:
            bar = Text("━" * max(1, round(_BAR * heavy.size / most)), style="blue")
            table.add_row(Text(size(heavy.size)), bar, Text(f"{shortened(heavy.path)} ({heavy.type_name})"))
        parts += [Text("heaviest", style="bold"), table]
    return Group(*parts)


def _grow(branch: Branch, above: Tree | None) -> Tree:
    label = Text(branch.text.strip(), style="bold red" if branch.culprits else "green" if branch.repairs else "")
    label.append(f"  {branch.type_name}", style="dim")
    for repair in branch.repairs:
        label.append(f"  ({repair.kind})", style="green")
    for culprit in branch.culprits:
        label.append(f"  {culprit.problem}", style="red")
    details = Table.grid(padding=(0, 1))
    for culprit in branch.culprits:
        for name, said in (
            ("reason", culprit.reason),
            ("fix", culprit.fix),
            ("owner", culprit.owner),
            ("path", shortened(culprit.path)),
        ):
            if said:
                details.add_row(Text(name, style="dim"), Text(said, style="cyan" if name == "path" else ""))
    shown = Group(label, details) if branch.culprits else label
    grown = Tree(shown) if above is None else above.add(shown)
    for below in branch.below.values():
        _grow(below, grown)
    return grown
