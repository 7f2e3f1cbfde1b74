"""The documentation: its links lead somewhere, its code is run, and it leaves nothing out."""

from __future__ import annotations

import inspect
import json
import re
from importlib import import_module
from pathlib import Path

import pytest

import safemp
import safemp.aio
import safemp.testing
from tests.support import how_to, tutorial
from tests.support.pages import NOT_RUN, PAGES, ROOT, blocks, headings, links

DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"

IDS = [str(path.relative_to(ROOT)) for path in PAGES]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to a heading that it has."""
    broken = []
    for link in links(page):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in headings(target)):
            broken.append(link)

    assert broken == []


def test_no_page_of_the_site_leads_out_of_it() -> None:
    """A link to a file beside the site would be dead there."""
    inside = [page for page in PAGES if page.is_relative_to(DOCS)]
    relative = [(page, link.partition("#")[0]) for page in inside for link in links(page) if "://" not in link]

    assert [
        f"{page.relative_to(ROOT)}: {link}"
        for page, link in relative
        if link and not (page.parent / link).resolve().is_relative_to(DOCS)
    ] == []


RUN = {
    *how_to.pages(large=False),
    *how_to.pages(large=True),
    *(DOCS / "how-to" / f"{name}.md" for name in how_to.OWN_TESTS),
    *(DOCS / "how-to" / "systems").glob("*.md"),  # tests/systems
    tutorial.PAGE,
    ROOT / "README.md",  # tests/e2e/test_readme.py
}
"""Pages all of whose programs a test runs."""


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_every_block_is_run_or_says_why_not(page: Path) -> None:
    """A program or command that nobody runs soon tells an untruth."""
    silent = [
        str(block)
        for block in blocks(page, "python", "sh", "console", "pycon")
        if not ((block.language == "python" and page in RUN) or page == tutorial.PAGE or NOT_RUN.fullmatch(block.above))
    ]

    assert silent == []


def test_the_reference_has_every_public_name() -> None:
    """What can be imported is in the reference, from its docstring, and nothing else is."""
    text = (REFERENCE / "api.md").read_text(encoding="utf-8")
    found = re.findall(r"^\.\. auto(?:class|function|exception):: (\S+)$", text, re.MULTILINE)
    public = {f"{module.__name__}.{name}" for module in (safemp, safemp.aio, safemp.testing) for name in module.__all__}

    assert len(found) == len(set(found))
    assert {name for name in found if not name.startswith("safemp.integrations.")} == public
    for name in found:
        if name not in public:  # what wants a package that is not here
            module, _, function = name.rpartition(".")
            source = Path(*[ROOT, *module.split(".")]).with_suffix(".py").read_text(encoding="utf-8")
            assert re.search(rf"^(?:def|class) {function}\b", source, re.MULTILINE)


SETTINGS = (REFERENCE / "settings.md").read_text(encoding="utf-8")


def rows(section: str) -> dict[str, str]:
    """Return the rows of a table of the page on settings, by the names in their first column."""
    text = SETTINGS.partition(f"## {section}\n")[2].partition("\n## ")[0]
    found = {}
    for line in re.findall(r"^\| (`.+)$", text, re.MULTILINE):
        for name in re.findall(r"`([^`]+)`", line.partition(" | ")[0]):
            found[name] = line
    found.pop("SafeExecutor", None)  # the table's head
    return found


def test_every_setting_of_an_executor_is_in_the_reference() -> None:
    """By its name, with its default; and the one of ``Pool`` beside it."""
    table = rows("Of a pool")
    for front in (safemp.SafeExecutor, safemp.aio.Executor):
        assert set(inspect.signature(front).parameters) == set(table)
    for name, parameter in inspect.signature(safemp.SafeExecutor).parameters.items():
        cells = table[name].split(" | ")
        default = parameter.default
        if isinstance(default, (str, int)):
            shown = json.dumps(default) if isinstance(default, str) else str(default)
            assert f"`{shown}`" in cells[2], name
        elif default is None and name != "initializer":
            assert "`None`" in cells[2] or name == "max_workers", name
    cells_of_pool = " ".join(" ".join(line.split(" | ")[:2]) for line in table.values())
    assert [name for name in inspect.signature(safemp.Pool).parameters if f"`{name}`" not in cells_of_pool] == []


def test_every_setting_of_a_map_is_in_the_reference() -> None:
    """Those of ``safemp.map`` and its kin, of ``Pool`` and of the executors."""
    table = rows("Of a map")
    maps = [
        *(getattr(safemp, name) for name in ("map", "starmap", "imap", "imap_unordered")),
        *(getattr(safemp.Pool, name) for name in ("map", "starmap", "imap", "imap_unordered")),
        safemp.SafeExecutor.map,
        safemp.aio.Executor.imap,
    ]
    settings = {name for each in maps for name in inspect.signature(each).parameters}
    settings -= {"self", "fn", "func", "iterable", "iterables", "limits"}

    assert settings | {"task_timeout", "max_memory", "retries", "retry_on"} == set(table)


def test_every_environment_variable_is_in_the_reference() -> None:
    """Those that the code reads or writes, by the name that it has for them."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "safemp").rglob("*.py"))
    named = set(re.findall(r"\"((?:SAFEMP_|LOKY_)[A-Z_]+|[A-Z]+_NUM_THREADS|VECLIB_[A-Z_]+)\"", source))

    assert len(named) > 9
    assert [name for name in named if name not in rows("Environment variables")] == []


def test_every_logger_is_in_the_reference() -> None:
    """Users set levels by these names."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "safemp").rglob("*.py"))
    named = {
        name for name in re.findall(r"\"(safemp(?:\.\w+)?)\"", source) if "." not in name or name.endswith("repairs")
    }

    assert set(rows("Loggers")) == named == {"safemp", "safemp.repairs"}


def test_integrations_are_documented() -> None:
    """Each module of ``safemp.integrations`` has a name in the reference, and a docstring for it."""
    text = (REFERENCE / "api.md").read_text(encoding="utf-8")
    modules = [path.stem for path in (ROOT / "safemp" / "integrations").glob("*.py") if path.stem != "__init__"]

    assert [name for name in modules if f"safemp.integrations.{name}." not in text] == []
    assert import_module("safemp.integrations").__doc__
