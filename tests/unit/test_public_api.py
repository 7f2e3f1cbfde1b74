"""The public surface: what is named is there, is documented, and costs little to import."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import safemp
import safemp.aio
import safemp.testing

ROOT = Path(__file__).parents[2]

LOADED = {"__future__", "safemp"}
"""What ``import safemp`` loads beside what a bare interpreter has loaded already."""

IN_WORKERS = {"cloudpickle", "safemp", "tblib"}
"""The packages that a worker loads before its first task; where there are no templates, loky, too."""

NOT_IN_WORKERS = {
    "_ssl",
    "asyncio",
    "email",
    "http",
    "multiprocessing.pool",
    "numpy",
    "random",
    "sqlite3",
    "ssl",
    "unittest",
    "urllib",
    "xml",
}
"""Modules that would cost every worker milliseconds, and that nothing of ours needs."""

ONLY_FOR_CALLERS = {
    f"safemp.{name}"
    for name in ("executor", "pool", "engines.crash", "engines.local", "engines.settings", "engines.template")
}
"""Modules of ours with which a worker has nothing to do."""


def loaded_by(statement: str) -> set[str]:
    """Return the modules that *statement* loads in a fresh interpreter."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import typing; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(*set(sys.modules) - before, sep='\\n')"
    )
    command = [sys.executable, "-I", "-S", "-c", code, str(ROOT)]
    return set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())


def test_all_is_sorted_and_complete() -> None:
    """Every name of ``__all__`` can be had, and the list is sorted."""
    assert safemp.__all__ == sorted(safemp.__all__)
    assert len(set(safemp.__all__)) == len(safemp.__all__)
    for name in safemp.__all__:
        assert getattr(safemp, name) is not None
    assert set(safemp.__all__) <= set(dir(safemp))


def test_star_import_gives_all_and_nothing_else() -> None:
    """``from safemp import *`` binds what ``__all__`` names."""
    namespace: dict[str, object] = {}

    exec("from safemp import *", namespace)

    assert set(namespace) - {"__builtins__"} == set(safemp.__all__)


PUBLIC = [(module, name) for module in (safemp, safemp.aio, safemp.testing) for name in module.__all__]
"""What users import, with its module."""


def members(public: object) -> Iterator[tuple[str, object]]:
    """Yield *public* itself and, of a class of ours, what it defines without an underscore."""
    yield "", public
    if inspect.isclass(public) and public.__module__.startswith("safemp"):
        for attribute, value in vars(public).items():
            if not attribute.startswith(("_", "test_")) and (
                callable(value) or isinstance(value, (property, classmethod))
            ):
                yield f".{attribute}", getattr(public, attribute) if callable(value) else value


def parameters(value: object) -> list[str]:
    """Return the names of the parameters of a function, without ``self``."""
    if not inspect.isfunction(value):
        return []
    found = inspect.signature(value).parameters.values()
    return [p.name for p in found if p.name not in ("self", "cls") and not p.name.startswith("_")]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_every_public_name_has_a_docstring(module: ModuleType, name: str) -> None:
    """Every public name, and every public method and property of it, says what it is for."""
    found = members(getattr(module, name))

    assert [name + attribute for attribute, value in found if not inspect.getdoc(value)] == []


AS = re.compile(r"\b(?:[Aa]s|see|See)\b[^.]*``")
"""Refers to the docstring of something else, by name."""


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda value: getattr(value, "__name__", value))
def test_docstrings_tell_of_every_parameter(module: ModuleType, name: str) -> None:
    """Each parameter is named in the docstring of its function, or of its class, or in that to which it refers."""
    public = getattr(module, name)
    silent = []
    for attribute, value in members(public):
        text = inspect.getdoc(value) or ""
        named = parameters(public.__init__ if inspect.isclass(value) and "__init__" in vars(value) else value)
        if not AS.search(text) and not attribute.startswith(".test_"):  # pytest gives these
            silent += [f"{name}{attribute}({each})" for each in named if not re.search(rf"\b{each}\b", text)]

    assert silent == []


@pytest.mark.parametrize("name", safemp.__all__)
def test_public_names_say_where_they_are_imported_from(name: str) -> None:
    """A public exception or front end shows itself as ``safemp.X``, and pickles by that name."""
    public = getattr(safemp, name)
    if inspect.isclass(public) and issubclass(public, (BaseException, safemp.Pool, safemp.SafeExecutor)):
        assert public.__module__ == "safemp"
        assert pickle.loads(pickle.dumps(public)) is public


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A misspelt name gives the error that the language gives."""
    with pytest.raises(AttributeError, match="module 'safemp' has no attribute 'Poool'"):
        _ = safemp.Poool


def test_import_is_small() -> None:
    """``import safemp`` loads one module of ours, since every worker pays for it."""
    assert loaded_by("import safemp") == LOADED


def test_a_worker_starts_small() -> None:
    """A worker has loaded three packages beside ours when its first task begins, and of ours not the caller's side."""
    bare = subprocess.run(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], check=True, capture_output=True, text=True
    ).stdout.split()

    with safemp.SafeExecutor(1) as executor:
        loaded = set(executor.submit(eval, "list(__import__('sys').modules)").result())

    packages = {name.partition(".")[0] for name in loaded - set(bare)}
    assert packages - sys.stdlib_module_names - {"__mp_main__"} <= IN_WORKERS
    assert not packages & NOT_IN_WORKERS
    assert not loaded & ONLY_FOR_CALLERS


def test_the_hostile_import_is_seen() -> None:
    """The measurement itself works: what a real import loads is listed."""
    assert "multiprocessing.pool" in loaded_by("import multiprocessing.pool")


def test_version_is_that_of_the_distribution() -> None:
    """``safemp.__version__`` is what pip has installed."""
    assert version("safemp") == safemp.__version__


def test_the_package_is_typed() -> None:
    """Type checkers are told that safemp carries its types."""
    assert (Path(safemp.__file__).parent / "py.typed").is_file()


def test_the_reference_names_every_error() -> None:
    """Each public error is explained in the reference."""
    reference = (ROOT / "docs" / "reference" / "errors.md").read_text()
    errors = [
        name
        for name in safemp.__all__
        if inspect.isclass(value := getattr(safemp, name)) and issubclass(value, BaseException)
    ]

    assert [name for name in errors if f"`{name}`" not in reference and f"safemp.{name}`" not in reference] == []
