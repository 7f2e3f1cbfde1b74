"""What the audit's worker does: make an exception, see what pickle does to it, raise it.

Rule 1: every function here can be called in a new worker, after the one before has died.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from typing import Any, NoReturn, TypeAlias

from safemp.audit import find, samples, stock
from safemp.audit.portrait import Portrait, portrait, text_of
from safemp.audit.verdict import BREAKS, CLASS, Verdict, judge
from safemp.codec.statics import type_name

__all__ = ["Listing", "Made", "Name", "Options", "Target", "Way", "list_classes", "make", "raise_made"]

Name: TypeAlias = tuple[str, str]
"""Module and qualified name of a class."""
Way: TypeAlias = Callable[[Any], Any]
"""Pickles an exception and loads it again; raises ``DoesNotLoadError`` if it does not load."""
_SHOWN = 160


@dataclass(frozen=True)
class Options:
    """What to look at; the same for all calls of an audit."""

    package: str
    private: bool = False
    tests: bool = False


@dataclass(frozen=True)
class Target:
    """One exception to be made."""

    name: Name
    variant: str
    status: int = 429


@dataclass(frozen=True)
class Listing:
    """What is in a package."""

    version: str
    classes: tuple[Name, ...]
    modules: int
    passed_over: dict[str, str]


@dataclass(frozen=True)
class Made:
    """An exception that was made in the worker, seen from outside."""

    call: str
    wants_response: bool
    portrait: Portrait
    verdicts: dict[str, Verdict]


_made: dict[Target, BaseException] = {}


@lru_cache(maxsize=1)
def _found(options: Options) -> find.Found:
    return find.find(options.package, private=options.private, tests=options.tests)


@lru_cache(maxsize=4)
def _plan(options: Options, name: Name) -> samples.Plan:
    return samples.plan(_found(options).classes[name])


def list_classes(options: Options) -> Listing:
    """Import the package and list its exception classes.

    Raises:
        PackageNotFoundError: It cannot be imported.
    """
    found = _found(options)
    return Listing(_version(options.package), tuple(found.classes), len(found.modules), found.passed_over)


def _version(package: str) -> str:
    """Return the version of the distribution that *package* is from; empty: it cannot be told."""
    wanted = _normal(package)
    try:
        names = set(metadata.packages_distributions().get(package.partition(".")[0], ()))
        if len(names) > 1:  # a namespace, such as google's
            names = {name for name in names if f"{wanted}-".startswith(f"{_normal(name)}-")}
        return metadata.version(max(names, key=len))
    except Exception:  # no such distribution, or damaged metadata of any that there is
        return ""


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make(options: Options, target: Target, ways: Mapping[str, Way]) -> Made:
    """Make an exception, keep it for ``raise_made``, and see where each way takes it.

    Raises:
        BaseException: It cannot be made.
    """
    plan = _plan(options, target.name)
    made = samples.sample(plan, target.variant, target.status)
    _made.clear()
    _made[target] = made.exc
    original = portrait(made.exc)
    verdicts = {name: _judge(made.exc, original, way) for name, way in ways.items()}
    return Made(made.call, plan.wants_response, original, verdicts)


def _judge(exc: BaseException, original: Portrait, way: Way) -> Verdict:
    try:
        return judge(original, way(exc))
    except stock.DoesNotLoadError as error:
        return Verdict(BREAKS, _why(error.__cause__), caught=False)
    except BaseException as error:  # what the pool would raise in its place
        return Verdict(CLASS, _why(error), caught=False)


def _why(error: BaseException | None) -> str:
    assert error is not None
    return f"{type_name(type(error))}: {text_of(error)}".partition("\n")[0][:_SHOWN]


def raise_made(options: Options, target: Target) -> NoReturn:
    """Raise what ``make`` has made, made again if that was in another worker."""
    if target not in _made:
        make(options, target, {})
    raise _made.pop(target)
