"""Functions that fail in known places, and the frames in a printed traceback."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable
from typing import Any


def subscript() -> Any:
    tree: dict[str, Any] = {"a": {"b": {}}}
    return [0, tree["a"]["b"]["missing"], 1]


def call() -> int:
    one, two = 1, "two"
    return len("x") + int(two) * one


def operator() -> Any:
    left, right = [1], 2
    return (left + left) + (right  # the failing operator spans two lines
                            - left)  # fmt: skip


def attribute() -> Any:
    thing = None
    return str(thing.missing.further)  # type: ignore[attr-defined]


def unicode_line() -> Any:
    word = {"é": 1}
    return word["é"] + word["日本語"]


def chain() -> Any:
    try:
        return subscript()
    except KeyError as error:
        raise ValueError("from below") from error


def context() -> Any:
    try:
        return call()
    except ValueError:
        return attribute()


def nested() -> Any:
    return (lambda: [subscript() for _ in range(1)])()


def recursion() -> Any:
    return recursion() + 1


def generator() -> Any:
    def numbers() -> Any:
        yield 1
        yield call()

    return list(numbers())


class Thing:
    def method(self) -> Any:
        return self.value

    @property
    def value(self) -> Any:
        raise LookupError("no value")


def method() -> Any:
    return Thing().method()


SCENES: dict[str, Callable[[], Any]] = {
    f.__name__: f
    for f in (subscript, call, operator, attribute, unicode_line, chain, context, nested, recursion, generator, method)
}

if sys.version_info >= (3, 11):

    def group() -> Any:
        errors: list[Exception] = []
        for step in (subscript, chain):
            try:
                step()
            except Exception as error:
                errors.append(error)
        raise ExceptionGroup("both", errors)

    SCENES["group"] = group


def play(name: str) -> Any:
    return SCENES[name]()


_FRAME = re.compile(r'^(?P<indent>[\s|+-]*)File "(?P<file>[^"]+)", line \d+, in (?P<name>.+)$')


def frames_in(text: str) -> list[list[str]]:
    """Return the frames of this file that a printed traceback shows: each its lines, less the indent."""
    frames: list[list[str]] = []
    indent: int | None = None
    for line in text.splitlines():
        found = _FRAME.match(line)
        if found:
            indent = len(found["indent"]) if found["file"] == __file__ else None
            if indent is not None:
                frames.append([line[indent:]])
        elif indent is not None and line[indent:].startswith("  "):
            frames[-1].append(line[indent:].rstrip())
        else:
            indent = None
    return [frame for frame in frames if not frame[0].endswith("in printed_here")]


def printed_here(name: str) -> list[list[str]]:
    """Return the frames that this very process prints for the same failure."""
    try:
        play(name)
    except Exception as error:
        return frames_in("".join(traceback.format_exception(type(error), error, error.__traceback__)))
    raise AssertionError(f"{name} has not failed")
