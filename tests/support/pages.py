"""All pages that people read, and the blocks of code in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]

PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "examples").glob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
)

NOT_RUN = re.compile(r"<!-- Not run: .+ -->")
"""What stands above a block that no test runs, with the reason."""

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code, where it stands, and the line above it."""

    page: Path
    language: str
    text: str
    above: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.partition(chr(10))[0]}"


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of *page* in one of *languages*."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(page, found[2], found[3], text[: found.start()].rstrip().rpartition("\n")[2])
        for found in _BLOCK.finditer(text)
        if found[2] in languages
    ]


def headings(page: Path) -> set[str]:
    """Return the anchors of *page*'s headings, as GitHub and the site make them."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    plain = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line) for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in plain}


def links(page: Path) -> list[str]:
    """Return where the links and pictures of *page* lead."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", text))
