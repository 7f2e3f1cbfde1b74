"""One exception of a class, with arguments that its constructor takes.

The constructor's signature says what it wants; ``values`` has it. What it refuses is
tried with other values, a limited number of times. A class that takes none of them
gets an exception that no constructor has run for, and ``Sample.call`` says so.
"""

from __future__ import annotations

import builtins
import inspect
import itertools
import threading
import types
import typing
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from safemp.audit.responses import Maker, Response
from safemp.audit.values import TEXT, makers
from safemp.codec.exception_state import make as make_without_constructor

__all__ = ["VARIANTS", "WITHOUT", "Plan", "Sample", "maker_of", "plan", "sample"]

VARIANTS = ("plain", "chained", "hard")
"""As it is made; with a cause, a note and an attribute of the user's; with a lock, too."""

WITHOUT = "without its constructor"
"""How an exception was made if its constructor took nothing that was tried."""

_TRIES = 120
"""Calls of one constructor. Picked, not measured."""
_CANDIDATES = 14
"""Values that are tried for one parameter. Picked: each kind of value, some twice."""
_DEEPEST = 2
"""Constructors in constructors, for arguments."""
_SHOWN = 60


@dataclass(frozen=True)
class Plan:
    """How an exception of a class is made.

    Attributes:
        cls: The class.
        arguments: Makers of its arguments, with the name for those given by keyword.
            ``None``: without its constructor.
        wants_response: A response is among the arguments, so the status matters.
    """

    cls: type
    arguments: tuple[tuple[str | None, Maker], ...] | None
    wants_response: bool = False

    def make(self, status: int) -> Any:
        """Make one.

        Raises:
            BaseException: What the constructor raises.
        """
        if self.arguments is None:
            return _bare(self.cls)
        args = [maker(status) for name, maker in self.arguments if name is None]
        kwargs = {name: maker(status) for name, maker in self.arguments if name is not None}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return self.cls(*args, **kwargs)

    def call(self, status: int) -> str:
        """Return the call that makes it, in short, for people."""
        if self.arguments is None:
            return WITHOUT
        shown = [(f"{name}=" if name else "") + _short(maker(status)) for name, maker in self.arguments]
        return f"{self.cls.__qualname__}({', '.join(shown)})"


@dataclass(frozen=True)
class Sample:
    """An exception, and how it was made."""

    exc: BaseException
    call: str


def sample(how: Plan, variant: str, status: int) -> Sample:
    """Make an exception of *variant*.

    Raises:
        BaseException: It cannot be made.
    """
    exc = how.make(status)
    if variant != "plain":
        _chain(exc, hard=variant == "hard")
    return Sample(exc, how.call(status))


def _chain(exc: BaseException, *, hard: bool) -> None:
    """Give *exc* what programs give theirs, past a class that refuses attributes."""
    try:
        try:
            raise LookupError("the table is empty")
        except LookupError as first:
            raise OSError(5, "Input/output error", "/dev/table") from first
    except OSError as cause:
        BaseException.__dict__["__cause__"].__set__(exc, cause)
        BaseException.__dict__["__context__"].__set__(exc, cause)
    space = BaseException.__dict__["__dict__"].__get__(exc)
    space["__notes__"] = [*space.get("__notes__", ()), "while the audit ran"]
    space["audit_details"] = {"tries": [1, 2], "by": "audit"}
    if hard:
        space["audit_lock"] = threading.RLock()


# -- plans ----------------------------------------------------------------------------


def plan(cls: type[BaseException]) -> Plan:
    """Find out how an exception of *cls* is made.

    Raises:
        TypeError: In no way at all.
    """
    fallback = None
    for attempt in _attempts(cls, 0):
        try:
            made = attempt.make(429)
            if type(made) is not cls and not isinstance(made, cls):
                continue
        except BaseException:  # a constructor may raise anything
            continue
        try:
            str(made)
        except BaseException:  # it took something that it cannot use
            fallback = fallback or attempt
            continue
        return attempt
    if fallback is not None:
        return fallback
    _bare(cls)
    return Plan(cls, None)


def maker_of(cls: type, depth: int) -> Iterator[Maker]:
    """Give makers of instances of *cls* for an argument; none if there is no way."""
    if depth > _DEEPEST:
        return
    if issubclass(cls, BaseException):
        yield plan(cls).make
        return
    for attempt in itertools.islice(_attempts(cls, depth), 20):
        try:
            attempt.make(429)
        except BaseException:  # a constructor may raise anything
            continue
        yield attempt.make
        return


def _bare(cls: type[BaseException]) -> BaseException:
    exc = make_without_constructor(cls, *(("several", [ValueError("one")]) if _base(cls) in _GROUPS else ()))
    if _base(cls) not in _GROUPS:
        BaseException.__dict__["args"].__set__(exc, (TEXT,))
    return exc


_GROUPS = tuple(getattr(builtins, name) for name in ("BaseExceptionGroup", "ExceptionGroup") if hasattr(builtins, name))


def _base(cls: type) -> type:
    """Return the nearest class behind *cls* that is Python's own."""
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


_OF_BUILTINS: dict[str, tuple[Callable[[], Any], ...]] = {
    "BaseExceptionGroup": (lambda: "several", lambda: [ValueError("one"), KeyError("two")]),
    "ExceptionGroup": (lambda: "several", lambda: [ValueError("one"), KeyError("two")]),
    "FileNotFoundError": (lambda: 2, lambda: "No such file or directory", lambda: "/tmp/there/is/no/such.file"),
    "IndentationError": (lambda: "unexpected indent", lambda: ("<text>", 1, 5, " x = 1\n")),
    "KeyError": (lambda: "the key",),
    "OSError": (lambda: 5, lambda: "Input/output error", lambda: "/dev/disk"),
    "StopIteration": (lambda: {"value": 1},),
    "SyntaxError": (lambda: "invalid syntax", lambda: ("<text>", 1, 5, "x = = 1\n")),
    "SystemExit": (lambda: 3,),
    "TabError": (lambda: "inconsistent use of tabs", lambda: ("<text>", 1, 5, "\tx = 1\n")),
    "UnicodeDecodeError": (lambda: "utf-8", lambda: b"caf\xe9", lambda: 3, lambda: 4, lambda: "unexpected end of data"),
    "UnicodeEncodeError": (lambda: "ascii", lambda: "caf\xe9", lambda: 3, lambda: 4, lambda: "ordinal not in range"),
    "UnicodeTranslateError": (lambda: "caf\xe9", lambda: 3, lambda: 4, lambda: "no such character"),
}


def _attempts(cls: type, depth: int) -> Iterator[Plan]:
    """Give plans for *cls*, the most likely first; none has been tried."""
    # pydantic_core has no constructor to call for this one.
    if (recipe := getattr(cls, "from_exception_data", None)) is not None and cls.__name__ == "ValidationError":
        yield _Recipe(cls, (), make_it=lambda: recipe("Model", [{"type": "missing", "loc": ("a",), "input": {"b": 1}}]))
    parameters = _parameters(cls)
    if issubclass(cls, BaseException) and all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
        known = _OF_BUILTINS.get(_base(cls).__name__, ())
        if known:
            yield Plan(cls, tuple((None, lambda _, make=make: make()) for make in known))  # type: ignore[misc]
        yield Plan(cls, ((None, lambda _: TEXT),))
        yield Plan(cls, ())
        for count in (2, 3):
            yield Plan(cls, ((None, lambda _: TEXT), *[(None, lambda _: 7)] * (count - 1)))
        return

    def inner(wanted: type) -> Iterator[Maker]:
        return maker_of(wanted, depth + 1)

    fixed = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    choices = [list(itertools.islice(_unlike(makers(p.name, p.annotation, inner)), _CANDIDATES)) for p in fixed]
    required = [i for i, p in enumerate(fixed) if p.default is p.empty]
    tried: set[tuple[int | None, ...]] = set()
    for picks in itertools.islice(_picks(choices, required), _TRIES):
        if picks not in tried:
            tried.add(picks)
            yield _plan_of(cls, fixed, choices, picks)
    if issubclass(cls, BaseException) and any(p.kind is p.VAR_KEYWORD for p in parameters):
        yield Plan(cls, ((None, lambda _: TEXT),))


class _Recipe(Plan):
    """A plan that calls something else than the constructor."""

    def __init__(self, cls: type, arguments: Any, make_it: Callable[[], Any]) -> None:
        super().__init__(cls, arguments)
        object.__setattr__(self, "_make_it", make_it)

    def make(self, status: int) -> Any:
        return self._make_it()  # type: ignore[attr-defined]


def _picks(choices: list[list[Maker]], required: list[int]) -> Iterator[tuple[int | None, ...]]:
    """Give, for each parameter, the position of its value; ``None``: its default.

    All parameters with their likeliest value; the required ones alone; then, of these,
    one with another value, two of them, and all with the same kind.
    """
    yield tuple(0 for _ in choices)
    few: list[int | None] = [0 if i in required else None for i in range(len(choices))]
    yield tuple(few)
    some = [i for i in range(len(choices)) if i not in required]
    for left_out in some:
        yield tuple(None if i == left_out else 0 for i in range(len(choices)))
    for i in required:
        for pick in range(1, len(choices[i])):
            yield (*few[:i], pick, *few[i + 1 :])
    for pick in range(1, max((len(choices[i]) for i in required), default=0)):
        yield tuple(min(pick, len(choices[i]) - 1) if i in required else None for i in range(len(choices)))
    for i, j in itertools.combinations(required, 2):
        for one, two in itertools.product(range(1, len(choices[i])), range(1, len(choices[j]))):
            found = list(few)
            found[i], found[j] = one, two
            yield tuple(found)


def _plan_of(
    cls: type, fixed: list[inspect.Parameter], choices: list[list[Maker]], picks: tuple[int | None, ...]
) -> Plan:
    arguments: list[tuple[str | None, Maker]] = []
    wants = False
    skipped = False
    for parameter, makers_of_it, pick in zip(fixed, choices, picks, strict=True):
        if pick is None:
            skipped = True
            continue
        by_name = parameter.kind is parameter.KEYWORD_ONLY or (
            skipped and parameter.kind is not parameter.POSITIONAL_ONLY
        )
        arguments.append((parameter.name if by_name else None, makers_of_it[pick]))
        wants = wants or isinstance(makers_of_it[pick], Response)
    return Plan(cls, tuple(arguments), wants)


def _unlike(found: Iterator[Maker]) -> Iterator[Maker]:
    """Leave out makers of what another has made already."""
    seen: set[str] = set()
    for maker in found:
        try:
            value = maker(429)
            shown = f"{type(value).__name__} {value!r}"
        except BaseException:  # it cannot be made after all
            continue
        if shown not in seen:
            seen.add(shown)
            yield maker


def _parameters(cls: type) -> list[inspect.Parameter]:
    """Return what a call of *cls* takes, with annotations resolved where they can be."""
    functions = [
        found
        for found in (inspect.getattr_static(cls, "__init__", None), inspect.getattr_static(cls, "__new__", None))
        if isinstance(found, types.FunctionType | staticmethod)
    ]
    try:
        parameters = list(inspect.signature(cls).parameters.values())
    except (TypeError, ValueError):  # C code that does not tell
        return []
    hints: dict[str, Any] = {}
    for source in (*(getattr(function, "__func__", function) for function in functions), cls):
        try:
            hints = {**typing.get_type_hints(source), **hints}
        except Exception:  # a name that only a type checker sees
            continue
    return [p.replace(annotation=hints.get(p.name, _annotation(p))) for p in parameters]


def _annotation(parameter: inspect.Parameter) -> Any:
    """Return what is known of a parameter's type: its annotation, else the type of its default."""
    if parameter.annotation is not parameter.empty or parameter.default in (None, "", parameter.empty):
        return parameter.annotation
    return type(parameter.default)


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except BaseException:  # user code
        return f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
