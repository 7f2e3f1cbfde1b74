"""Every exception class that a package defines.

The package and its modules are imported one by one. One that fails, exits or is not
for this platform is passed over and named.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType

__all__ = ["Found", "PackageNotFoundError", "find"]

_TESTS = frozenset({"test", "tests", "testing", "conftest", "test_utils", "testutils"})
_SHOWN = 200


class PackageNotFoundError(Exception):
    """The package cannot be imported; the text says why."""


@dataclass
class Found:
    """What was found in a package.

    Attributes:
        classes: By module and qualified name, in that order.
        modules: Names of what was imported.
        passed_over: Names of what failed to import, and why.
    """

    classes: dict[tuple[str, str], type[BaseException]] = field(default_factory=dict)
    modules: list[str] = field(default_factory=list)
    passed_over: dict[str, str] = field(default_factory=dict)


def find(package: str, *, private: bool = False, tests: bool = False) -> Found:
    """Import *package* and its modules, and find its exception classes.

    Args:
        package: The name of a package or a module.
        private: Also import modules whose names begin with an underscore. What the
            others import of them is found in any case.
        tests: Also import what looks like its tests.

    Raises:
        PackageNotFoundError: It cannot be imported itself.
    """
    found = Found()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            top = importlib.import_module(package)
        except BaseException as error:  # a module may exit
            raise PackageNotFoundError(f"cannot import {package!r}: {_why(error)}") from error
        found.modules.append(package)
        _import_all(top, found, private, tests)
    for cls in sorted(_exceptions(package), key=lambda cls: (cls.__module__, cls.__qualname__)):
        found.classes.setdefault((cls.__module__, cls.__qualname__), cls)
    return found


def _import_all(parent: ModuleType, found: Found, private: bool, tests: bool) -> None:
    try:
        names = sorted(module.name for module in pkgutil.iter_modules(getattr(parent, "__path__", ())))
    except Exception as error:  # a path hook of the package's own
        found.passed_over[f"{parent.__name__}.*"] = _why(error)
        return
    for name in names:
        if name == "__main__" or (name.startswith("_") and not private):
            continue
        if (name in _TESTS or name.startswith("test_")) and not tests:
            continue
        path = f"{parent.__name__}.{name}"
        try:
            module = importlib.import_module(path)
        except BaseException as error:  # as above
            found.passed_over[path] = _why(error)
            continue
        found.modules.append(path)
        _import_all(module, found, private, tests)


def _why(error: BaseException) -> str:
    text = str(error).partition("\n")[0][:_SHOWN]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _exceptions(package: str) -> Iterator[type[BaseException]]:
    """List the exception classes that *package* defines, wherever they are: also inside other classes."""
    inside = f"{package}."
    seen: set[int] = set()
    rest: list[type[BaseException]] = [BaseException]
    while rest:
        cls = rest.pop()
        if id(cls) in seen:  # a metaclass may refuse to hash it
            continue
        seen.add(id(cls))
        rest += type.__subclasses__(cls)
        module = cls.__module__
        if isinstance(module, str) and (module == package or module.startswith(inside)) and module in sys.modules:
            yield cls
