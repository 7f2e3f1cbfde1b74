"""``python -m safemp inspect package.module:name``."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import traceback
from typing import Any

from safemp.inspection.look import inspect

__all__ = ["add_to", "run"]

_CANNOT = 1
_NOT_LOOKED = 2


def add_to(commands: Any) -> None:
    """Add the command to those of a parser."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "inspect",
        help="tell what in an object cannot travel to another process",
        description="Import an object, and tell what in it cannot travel to another process, where it is, and what to "
        "type instead. Exit status 0: it can travel. 1: something in it cannot. 2: there is no such object.",
    )
    parser.add_argument("target", metavar="package.module:name", help="the object; a dotted name goes on into it")
    parser.add_argument("--call", action="store_true", help="call it without arguments, and inspect what it returns")
    parser.add_argument("--sizes", action="store_true", help="also name the ten heaviest parts")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a tree")
    parser.add_argument("--html", metavar="FILE", help="also write a page that needs nothing else")
    parser.add_argument("--no-load", action="store_true", help="do not load the pickle again, which runs constructors")


def run(options: argparse.Namespace) -> int:
    """Do what the command line asks for.

    Returns:
        The exit status.
    """
    try:
        name, obj = _find(options.target)
    except _NotThereError as error:
        print(error, file=sys.stderr)
        return _NOT_LOOKED
    if options.call:
        try:
            obj = obj()
        except Exception:
            traceback.print_exc()
            print(f"cannot inspect what {options.target} returns: the call failed, see above", file=sys.stderr)
            return _NOT_LOOKED
        name += "()"
    report = inspect(obj, sizes=options.sizes, load=not options.no_load, name=name)
    if options.html:
        try:
            report.to_html(options.html)
        except OSError as error:
            print(f"cannot write {options.html}: {error.strerror}", file=sys.stderr)
            return _NOT_LOOKED
    if options.json:
        print(json.dumps(report.to_dict(), indent=2))
    else:
        print(report)
    return 0 if report.ok else _CANNOT


class _NotThereError(Exception):
    """What was asked for cannot be had; the text says why."""


def _find(target: str) -> tuple[str, Any]:
    """Import what *target* names; return what paths begin with, and the object."""
    module, _, name = target.partition(":")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise _NotThereError(
            f"cannot import {module!r}: there is no module {error.name!r}\n"
            "  fix:    run it where Python finds the module: in its directory, or with PYTHONPATH set"
        ) from error
    except Exception as error:
        traceback.print_exc()
        raise _NotThereError(f"cannot import {module!r}: it failed, see above") from error
    for part in filter(None, name.split(".")):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise _NotThereError(f"cannot inspect {target}: there is no {part!r} in it") from error
    return name or module.rpartition(".")[2], found
