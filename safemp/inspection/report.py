"""What ``safemp.inspect`` has found."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from safemp.codec.sizes import Heavy
from safemp.codec.survey import Step
from safemp.errors import Culprit, Repaired

__all__ = ["Report"]

_Trails = tuple[tuple[tuple[Step, ...], ...], tuple[tuple[Step, ...], ...]]


@dataclass(frozen=True, slots=True, repr=False)
class Report:
    """What in an object cannot travel, what is repaired on the way, and what is heavy.

    ``print(report)`` shows it as a tree, in colour on a terminal where rich is
    installed; a notebook shows it by itself.

    Attributes:
        name: What paths begin with.
        type_name: The object's type.
        culprits: Every object that cannot travel.
        repairs: Every object that travels because it is repaired.
        sizes: The ten heaviest parts with ``path``, ``type_name`` and ``size`` in bytes,
            heaviest first; empty unless asked for.
        size: Bytes of the whole as it would be sent; ``None`` if it cannot be.
        more_repairs: How many repairs there are beside those in *repairs*.
        by_name: It is a function or class that the other side imports.
        complete: ``False``: the search ended after so many culprits; there may be more.
    """

    __module__ = "safemp"

    name: str
    type_name: str
    culprits: tuple[Culprit, ...]
    repairs: tuple[Repaired, ...]
    sizes: tuple[Heavy, ...] = ()
    size: int | None = None
    more_repairs: int = 0
    by_name: bool = False
    complete: bool = True
    _trails: _Trails = field(default=((), ()), repr=False, compare=False)

    @property
    def ok(self) -> bool:
        """Tell whether the object can travel."""
        return not self.culprits

    @property
    def needs_safemp(self) -> bool:
        """Tell whether only a process that has safemp can load what is sent."""
        return any(repair.needs_safemp for repair in self.repairs)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in dicts, lists, texts and numbers, as for JSON."""
        return {
            "name": self.name,
            "type": self.type_name,
            "ok": self.ok,
            "complete": self.complete,
            "by_name": self.by_name,
            "size": self.size,
            "needs_safemp": self.needs_safemp,
            "culprits": [
                {
                    "path": c.path,
                    "type": c.type_name,
                    "owner": c.owner,
                    "problem": c.problem,
                    "reason": c.reason,
                    "fix": c.fix,
                }
                for c in self.culprits
            ],
            "repairs": [
                {
                    "path": r.path,
                    "type": r.type_name,
                    "owner": r.owner,
                    "kind": r.kind,
                    "why": r.why,
                    "needs_safemp": r.needs_safemp,
                }
                for r in self.repairs
            ],
            "more_repairs": self.more_repairs,
            "sizes": [{"path": h.path, "type": h.type_name, "size": h.size} for h in self.sizes],
        }

    def to_text(self) -> str:
        """Return the tree without colours, in any encoding."""
        from safemp.inspection.text import plain

        return plain(self)

    def to_html(self, path: str | os.PathLike[str]) -> None:
        """Write a page that needs nothing else: no script, no style sheet, no font from elsewhere.

        Args:
            path: The file; it is overwritten.

        Raises:
            OSError: It cannot be written.
        """
        from safemp.inspection.html import page

        with open(path, "w", encoding="utf-8") as file:
            file.write(page(self))

    def _repr_html_(self) -> str:
        from safemp.inspection.html import fragment

        return fragment(self)

    def __str__(self) -> str:
        from safemp.inspection.text import for_stdout

        return for_stdout(self)

    def __repr__(self) -> str:
        from safemp.inspection.tree import verdict

        return f"<safemp.Report: {verdict(self)}>"

    def __rich__(self) -> Any:
        from safemp.inspection.colour import renderable

        return renderable(self)
