"""The parts of the audit: what exceptions are made of, how they are seen, how they are judged."""

from __future__ import annotations

import enum
import json
import pickle
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest

from safemp.audit import samples, stock
from safemp.audit.portrait import portrait
from safemp.audit.responses import STATUSES
from safemp.audit.samples import WITHOUT
from safemp.audit.verdict import CLASS, FAITHFUL, LINKS, STATE, TEXT, judge
from safemp.codec.lost import Lost

# -- samples --------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


@dataclass
class Inner:
    name: str
    size: int


class Point(NamedTuple):
    x: float
    y: float


class ByAnnotation(Exception):
    def __init__(
        self,
        message: str,
        colour: Colour,
        inner: Inner,
        points: list[Point],
        kind: Literal["a", "b"],
        where: str | None,
        cause: OSError,
        path: Path,
        *rest: int,
        status: int,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.given = (colour, inner, points, kind, where, type(cause), path, rest, status, more)


class ByName(Exception):
    def __init__(self, msg, status_code, url, exc, headers, lineno):  # type: ignore[no-untyped-def]
        super().__init__(msg)
        self.given = (status_code, url, type(exc), type(headers), lineno)


class ByTrial(Exception):
    def __init__(self, thing):  # type: ignore[no-untyped-def]
        super().__init__(thing["error"]["message"])


class ByDefault(Exception):
    def __init__(self, a=b"", *, b=1.5, c=False):  # type: ignore[no-untyped-def]
        super().__init__(type(b), type(c))


class Never(Exception):
    def __init__(self, thing: object) -> None:
        raise ValueError


class NeedsMuch(UnicodeDecodeError):
    pass


def made(cls: type[BaseException], variant: str = "plain", status: int = 429) -> Any:
    """Make an exception of *cls*."""
    return samples.sample(samples.plan(cls), variant, status).exc


def test_arguments_are_of_the_annotated_types() -> None:
    """Also enums, dataclasses, tuples with names, literals and exceptions, made in turn."""
    colour, inner, points, kind, where, cause, path, rest, status, more = made(ByAnnotation, status=404).given

    assert (colour, type(inner), type(inner.name), type(inner.size)) == (Colour.RED, Inner, str, int)
    assert points == [Point(1.5, 1.5)]
    assert (kind, type(where), cause, type(path)) == ("a", str, OSError, type(Path()))
    assert (rest, status, more) == ((), 404, {})


def test_arguments_without_annotations_go_by_their_names() -> None:
    """A status is a status, a URL a URL, an error an error."""
    assert made(ByName, status=503).given == (503, "https://api.example.com/v1/things", ValueError, dict, 3)


def test_what_is_refused_is_tried_with_other_values() -> None:
    """A constructor that wants a mapping gets one; types of defaults count."""
    assert str(made(ByTrial)) == "something went wrong"
    assert made(ByDefault).args == (float, bool)


def test_the_last_resort_is_said() -> None:
    """An exception that no constructor has run for says so."""
    how = samples.plan(Never)

    assert how.call(429) == WITHOUT
    assert type(how.make(429)) is Never
    assert how.make(429).args == ("something went wrong",)


def test_builtin_constructors_get_what_they_want() -> None:
    """Five arguments for a decoding error; members for a group."""
    assert made(NeedsMuch).reason == "unexpected end of data"


@pytest.mark.parametrize("name", ["httpx", "requests", "urllib3"])
def test_a_response_has_every_status(name: str) -> None:
    """Where a response is wanted, the exception is made for each HTTP status from 400 on."""
    library = pytest.importorskip(name)
    cls: Any = {"httpx": "Response", "requests": "Response", "urllib3": "HTTPResponse"}[name]

    class WithResponse(Exception):
        def __init__(self, response: object) -> None:
            super().__init__()
            self.response = response

    WithResponse.__init__.__annotations__["response"] = getattr(library, cls)
    how = samples.plan(WithResponse)

    assert how.wants_response
    found: list[Any] = [how.make(status).response for status in STATUSES]
    assert [getattr(response, "status_code", None) or response.status for response in found] == list(STATUSES)


@pytest.mark.parametrize("cls", [ByName, NeedsMuch])
def test_variants_add_what_programs_add(cls: type[BaseException]) -> None:
    """A cause with one of its own, a note and an attribute; then a lock."""
    chained, hard = made(cls, "chained"), made(cls, "hard")

    assert isinstance(chained.__cause__, OSError)
    assert isinstance(chained.__cause__.__cause__, LookupError)
    assert chained.__notes__ == ["while the audit ran"]
    assert vars(hard).keys() - vars(chained).keys() == {"audit_lock"}


# -- portraits and verdicts -----------------------------------------------------------


class Full(Exception):
    __slots__ = ("slot",)

    def __init__(self, message: str) -> None:
        super().__init__(message, 1, {"k": [1.5, {2, 3}]})
        self.slot = ("in", "a slot")
        self.inner = Inner("x", 3)
        self._private = b"private"
        self.lock = threading.Lock()

    @property
    def public(self) -> str:
        return "computed"


def copy_of(exc: Full, **changes: Any) -> Full:
    """Make an equal exception, but for *changes*."""
    other = Full(str(exc.args[0]))
    for name, value in changes.items():
        setattr(other, name, value)
    return other


@pytest.mark.parametrize(
    ("changes", "kind", "why"),
    [
        ({}, FAITHFUL, ""),
        ({"lock": None}, FAITHFUL, ""),
        ({"args": ("no", 1, {"k": [1.5, {3, 2}]})}, FAITHFUL, ""),
        ({"inner": Inner("x", 4)}, STATE, "inner"),
        ({"slot": None, "_private": "private"}, STATE, "_private, slot"),
        ({"__cause__": ValueError()}, LINKS, "cause or context"),
        ({"__notes__": ["noted"]}, LINKS, "notes"),
        ({"args": ("other", 1, {"k": [1.5, {2, 3}]})}, TEXT, ""),
    ],
)
def test_what_differs_is_named(changes: dict[str, Any], kind: str, why: str) -> None:
    """By the worst of it; what pickle cannot copy, such as a lock, is not compared."""
    found = judge(portrait(Full("no")), copy_of(Full("no"), **changes))

    assert (found.kind, found.caught) == (kind, True)
    assert why in found.why


def test_another_class_is_caught_or_not() -> None:
    """By a base of it, an exception is not caught; by its own subclass it is."""

    class Sub(Full):
        pass

    original = portrait(Full("no"))

    assert [judge(original, other).kind for other in (ValueError("no"), Sub("no"), 3)] == [CLASS] * 3
    assert [judge(original, other).caught for other in (ValueError("no"), Sub("no"), 3)] == [False, True, False]


def test_a_class_with_another_name_is_the_same() -> None:
    """As those of beartype, which change their ``__module__`` when an instance is made."""
    exc = json.JSONDecodeError("no", "{", 1)
    original = replace(portrait(exc), cls=("json", "JSONDecodeError"))
    other = replace(portrait(exc), cls=("json", "JSONEncoder"))

    assert judge(original, exc).kind == FAITHFUL
    assert judge(other, exc).kind == CLASS


def test_what_was_lost_is_told() -> None:
    """Attributes with a ``Lost`` in their place."""
    assert judge(portrait(Full("no")), copy_of(Full("no"), lock=Lost("lock", "why"))).lost == ("lock",)


class FinishesItself(Exception):
    """As ``neo4j.exceptions.Neo4jError``."""

    message: str

    @property
    def code(self) -> str:
        self.__dict__["message"] = "made when it is asked for"
        return "code"


def test_looking_does_not_change_what_is_seen() -> None:
    """An exception that finishes itself when it is first looked at is equal to its copy."""
    exc = FinishesItself("no")
    original = portrait(exc)

    assert judge(original, FinishesItself("no")).kind == FAITHFUL
    assert "message" in original.attributes


def test_a_pickle_that_does_not_load_is_told_from_none_at_all() -> None:
    """The first breaks pools, the second is an error of its own."""

    class Local(Exception):
        pass

    with pytest.raises(stock.DoesNotLoadError) as caught:
        stock.copy(ByName("m", 1, "u", ValueError(), {}, 3))
    assert isinstance(caught.value.__cause__, TypeError)
    with pytest.raises((AttributeError, pickle.PicklingError)):
        stock.copy(Local())
