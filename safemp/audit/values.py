"""Realistic values for the parameters of a constructor: by annotation, then by name."""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import inspect
import pathlib
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from safemp.audit.responses import BODY, URL, Maker, of_class, requests_made, responses

__all__ = ["TEXT", "Instances", "makers"]

Instances: TypeAlias = Callable[[type], Iterator[Maker]]
"""Gives makers of instances of a class, or none."""

TEXT = "something went wrong"


def _of(value: Any) -> Maker:
    return lambda _: value


def _text(name: str) -> Maker:
    return _of(_TEXTS.get(name, TEXT if name in _MESSAGES else f"the {name.strip('_').replace('_', ' ')}"))


_MESSAGES = frozenset(
    {"message", "msg", "detail", "description", "reason", "text", "error_message", "explanation", "info"}
)
_TEXTS = {
    "url": URL,
    "uri": URL,
    "path": "/tmp/there/is/no/such.file",
    "filename": "/tmp/there/is/no/such.file",
    "statement": "SELECT 1",
    "method": "POST",
    "code": "some_code",
    "encoding": "utf-8",
    "host": "api.example.com",
    "error_type": "missing",
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NUMBERS = _words(
    "errno line lineno line_number column col colno pos position start end offset size length count limit "
    "index port retries attempts retry_after seconds timeout n number num exit_code returncode exitcode "
    "pid "
)
_STATUS = frozenset({"status", "status_code", "http_status", "code", "http_code", "http_status_code"})
_ERRORS = _words(
    "exc exception error err cause original orig inner inner_exception original_exception original_error "
    "orig_exc last_exception underlying "
)
_MAPPINGS = _words("headers body params details error_dict kwargs context extra data json hint response_data ")


def makers(parameter: str, annotation: Any, instances: Instances) -> Iterator[Maker]:
    """Give makers of values for a parameter, the most likely first.

    Args:
        parameter: Its name.
        annotation: Resolved, a text, or ``inspect.Parameter.empty``.
        instances: For what is annotated with a class that is not known here.
    """
    yield from _annotated(parameter.lower(), annotation, instances)
    yield from _named(parameter.lower())
    yield from (_text(parameter.lower()), _of(7), lambda _: dict(BODY), lambda _: ["one", "two"], _error)
    yield from responses()
    yield from requests_made()
    yield from (_of(None), _thing, _of(ValueError), _of(len), _of(b"bytes"), lambda _: [("one", "two")])


def _named(name: str) -> Iterator[Maker]:
    if name in ("response", "resp", "http_response", "res"):
        yield from responses()
    if name in ("request", "req"):
        yield from requests_made()
    if name in _STATUS:
        yield lambda status: status
    if name in _NUMBERS or name.endswith(("_count", "_size", "_line", "_number")):
        yield _of(3)
    if name in _ERRORS:
        yield _error
    if name in _MAPPINGS:
        yield lambda _: dict(BODY)
    if name in ("errors", "exceptions", "failures"):
        yield lambda _: [ValueError("one"), KeyError("two")]
    if name in ("filenames", "args", "names", "keys", "items", "values", "messages"):
        yield lambda _: ["one", "two"]
    if name in ("cls", "klass", "type_", "expected_type", "exc_type"):
        yield _of(int)


def _error(_: int) -> Any:
    return ValueError("the first error")


def _thing(status: int) -> Any:
    """Make an object with the attributes that constructors often ask for."""
    return types.SimpleNamespace(
        name="thing", message=TEXT, text=TEXT, status_code=status, status=status, code=status, reason=TEXT, headers={}
    )


_KNOWN: dict[Any, Callable[[str], Maker]] = {
    str: _text,
    int: lambda name: (lambda status: status) if name in _STATUS else _of(3),
    float: lambda _: _of(1.5),
    bool: lambda _: _of(True),
    bytes: lambda _: _of(b"bytes"),
    bytearray: lambda _: lambda _: bytearray(b"bytes"),
    dict: lambda _: lambda _: dict(BODY),
    list: lambda _: lambda _: ["one", "two"],
    tuple: lambda _: _of(("one", "two")),
    set: lambda _: lambda _: {"one"},
    frozenset: lambda _: _of(frozenset({"one"})),
    type: lambda _: _of(ValueError),
    type(None): lambda _: _of(None),
    collections.abc.Callable: lambda _: _of(len),
    collections.abc.Mapping: lambda _: lambda _: dict(BODY),
    collections.abc.MutableMapping: lambda _: lambda _: dict(BODY),
    collections.abc.Sequence: lambda _: lambda _: ["one", "two"],
    collections.abc.Iterable: lambda _: lambda _: ["one", "two"],
    collections.abc.Collection: lambda _: lambda _: ["one", "two"],
    pathlib.Path: lambda _: _of(pathlib.Path("/tmp/there/is/no/such.file")),
    pathlib.PurePath: lambda _: _of(pathlib.PurePath("/tmp/there/is/no/such.file")),
    datetime.datetime: lambda _: _of(datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)),
    datetime.date: lambda _: _of(datetime.date(2026, 1, 2)),
    datetime.timedelta: lambda _: _of(datetime.timedelta(seconds=90)),
    decimal.Decimal: lambda _: _of(decimal.Decimal("1.50")),
    uuid.UUID: lambda _: _of(uuid.UUID(int=7)),
}

_WORDS = {cls.__name__: cls for cls in (str, int, float, bool, bytes, dict, list, tuple)}
"""First words of annotations that do not resolve."""


def _annotated(name: str, annotation: Any, instances: Instances) -> Iterator[Maker]:
    if isinstance(annotation, str):
        yield from _worded(name, annotation)
        return
    origin = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation)
    if origin is typing.Literal:
        yield _of(arguments[0])
    elif origin is typing.Annotated:
        yield from _annotated(name, arguments[0], instances)
    elif origin in (typing.Union, types.UnionType):
        for choice in sorted(arguments, key=lambda choice: choice is type(None)):
            yield from _annotated(name, choice, instances)
    elif not isinstance(origin, type) or origin is object or origin is inspect.Parameter.empty:
        return
    elif origin in _KNOWN:
        if origin in _SEQUENCES and arguments and arguments[0] is not str:
            for maker in _annotated(name, arguments[0], instances):
                yield lambda status, maker=maker: [maker(status)]  # type: ignore[misc]
        yield _KNOWN[origin](name)
    else:
        yield from _instances(origin, instances)


_SEQUENCES = (list, collections.abc.Sequence, collections.abc.Iterable)


def _worded(name: str, annotation: str) -> Iterator[Maker]:
    """Read an annotation that does not resolve by its first word."""
    word = annotation.replace("Optional[", "").partition("[")[0].partition("|")[0].strip().lower()
    if word.endswith("response"):
        yield from responses()
    elif word in _WORDS:
        yield _KNOWN[_WORDS[word]](name)


def _instances(cls: type, instances: Instances) -> Iterator[Maker]:
    of_http = of_class(cls)
    if of_http is not None:
        yield of_http
    elif cls in (BaseException, Exception):
        yield _error
    elif issubclass(cls, enum.Enum):
        yield from (_of(member) for member in list(cls)[:1])
    elif cls.__module__ != "typing":
        yield from instances(cls)
