"""Realistic values for the parameters of a constructor: by annotation, then by name.

Each is made anew each time, for an HTTP status: what depends on one says so by using it.
"""

from __future__ import annotations

import collections.abc
import datetime
import decimal
import enum
import http
import inspect
import pathlib
import sys
import types
import typing
import uuid
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

__all__ = ["STATUSES", "TEXT", "Maker", "Response", "makers"]

Maker: TypeAlias = Callable[[int], Any]
"""Takes an HTTP status."""

STATUSES = tuple(int(status) for status in http.HTTPStatus if status >= 400)
TEXT = "something went wrong"
_URL = "https://api.example.com/v1/things"
_BODY = {"error": {"message": TEXT, "type": "invalid_request_error", "param": None, "code": "some_code"}}


class Response:
    """A maker of a response, of the class that one HTTP library has for it."""

    def __init__(self, make: Maker) -> None:
        self._make = make

    def __call__(self, status: int) -> Any:
        """Make it."""
        return self._make(status)


def _httpx(library: Any) -> Maker:
    def make(status: int) -> Any:
        request = library.Request("POST", _URL, json={"q": 1})
        return library.Response(status, json=_BODY, headers={"x-request-id": "req_7"}, request=request)

    return make


def _requests(library: Any) -> Maker:
    def make(status: int) -> Any:
        response = library.Response()
        response.status_code, response.reason, response.url = status, http.HTTPStatus(status).phrase, _URL
        response.headers["x-request-id"] = "req_7"
        response._content = b'{"error": {"message": "something went wrong"}}'
        response.encoding = "utf-8"
        response.request = library.Request("POST", _URL, json={"q": 1}).prepare()
        return response

    return make


def _urllib3(library: Any) -> Maker:
    def make(status: int) -> Any:
        reason = http.HTTPStatus(status).phrase
        return library.HTTPResponse(b'{"error": 1}', {"x-request-id": "req_7"}, status=status, reason=reason)

    return make


def _botocore(_: Any) -> Maker:
    return lambda status: {
        "Error": {"Code": "ThrottlingException", "Message": TEXT, "Type": "Sender"},
        "ResponseMetadata": {"RequestId": "7", "HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0},
    }


_HTTP = {"httpx": _httpx, "httpx2": _httpx, "requests": _requests, "urllib3": _urllib3, "botocore": _botocore}


def _responses() -> list[Maker]:
    """Return makers of responses of the HTTP libraries that are loaded."""
    return [Response(maker(sys.modules[name])) for name, maker in _HTTP.items() if name in sys.modules]


def _requests_made() -> list[Maker]:
    found: list[Maker] = []
    for name in ("httpx", "httpx2", "requests"):
        if name in sys.modules:
            library: Any = sys.modules[name]
            found.append(lambda _, library=library: library.Request("POST", _URL))  # type: ignore[misc]
    return found


def _of(value: Any) -> Maker:
    return lambda _: value


def _text(name: str) -> Maker:
    return _of(_TEXTS.get(name, TEXT if name in _MESSAGES else f"the {name.strip('_').replace('_', ' ')}"))


_MESSAGES = frozenset(
    {"message", "msg", "detail", "description", "reason", "text", "error_message", "explanation", "info"}
)
_TEXTS = {
    "url": _URL,
    "uri": _URL,
    "path": "/tmp/there/is/no/such.file",
    "filename": "/tmp/there/is/no/such.file",
    "statement": "SELECT 1",
    "method": "POST",
    "code": "some_code",
    "encoding": "utf-8",
    "host": "api.example.com",
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


def makers(parameter: str, annotation: Any, *, depth: int = 0) -> Iterator[Maker]:
    """Give makers of values for a parameter, the most likely first.

    Args:
        parameter: Its name.
        annotation: Resolved, a text, or ``inspect.Parameter.empty``.
        depth: Constructors that are around this one.
    """
    yield from _annotated(parameter, annotation, depth)
    yield from _named(parameter.lower())
    yield from (_text(parameter.lower()), _of(7), lambda _: dict(_BODY), lambda _: ["one", "two"], _error)
    yield from _responses()
    yield from _requests_made()
    yield from (_of(None), _thing, _of(ValueError), _of(len), _of(b"bytes"), lambda _: [("one", "two")])


def _named(name: str) -> Iterator[Maker]:
    if name in ("response", "resp", "http_response", "res"):
        yield from _responses()
    if name in ("request", "req"):
        yield from _requests_made()
    if name in _STATUS:
        yield lambda status: status
    if name in _NUMBERS or name.endswith(("_count", "_size", "_line", "_number")):
        yield _of(3)
    if name in _ERRORS:
        yield _error
    if name in _MAPPINGS:
        yield lambda _: dict(_BODY)
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
    dict: lambda _: lambda _: dict(_BODY),
    list: lambda _: lambda _: ["one", "two"],
    tuple: lambda _: _of(("one", "two")),
    set: lambda _: lambda _: {"one"},
    frozenset: lambda _: _of(frozenset({"one"})),
    type: lambda _: _of(ValueError),
    type(None): lambda _: _of(None),
    collections.abc.Callable: lambda _: _of(len),
    collections.abc.Mapping: lambda _: lambda _: dict(_BODY),
    collections.abc.MutableMapping: lambda _: lambda _: dict(_BODY),
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

_WORDS = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "bytes": bytes,
    "dict": dict,
    "list": list,
    "tuple": tuple,
}
"""First words of annotations that do not resolve."""


def _annotated(parameter: str, annotation: Any, depth: int) -> Iterator[Maker]:
    name = parameter.lower()
    if isinstance(annotation, str):
        word = annotation.replace("Optional[", "").partition("[")[0].partition("|")[0].strip().lower()
        if word.endswith("response"):
            yield from _responses()
        elif word in _WORDS:
            yield _KNOWN[_WORDS[word]](name)
        return
    if annotation is object or annotation is inspect.Parameter.empty:
        return
    origin = typing.get_origin(annotation)
    if origin is typing.Literal:
        yield _of(typing.get_args(annotation)[0])
    elif origin is typing.Annotated:
        yield from _annotated(parameter, typing.get_args(annotation)[0], depth)
    elif origin in (typing.Union, types.UnionType):
        for choice in sorted(typing.get_args(annotation), key=lambda choice: choice is type(None)):
            yield from _annotated(parameter, choice, depth)
    elif (origin or annotation) in _KNOWN if isinstance(origin or annotation, type) else False:
        inner = [arg for arg in typing.get_args(annotation) if isinstance(arg, type)]
        if origin in (list, collections.abc.Sequence, collections.abc.Iterable) and inner and inner[0] is not str:
            for maker in _annotated(parameter, inner[0], depth):
                yield lambda status, maker=maker: [maker(status)]  # type: ignore[misc]
        yield _KNOWN[origin or annotation](name)
    elif isinstance(annotation, type):
        yield from _instances(annotation, depth)


def _instances(cls: type, depth: int) -> Iterator[Maker]:
    library = (getattr(cls, "__module__", None) or "").partition(".")[0]
    if issubclass(cls, BaseException):
        if cls in (BaseException, Exception):
            yield _error
        else:
            from safemp.audit.samples import maker_of

            yield from maker_of(cls, depth + 1)
    elif issubclass(cls, enum.Enum):
        if members := list(cls):
            yield _of(members[0])
    elif library in _HTTP and cls.__name__.endswith("Response"):
        yield Response(_HTTP[library](sys.modules[library]))
    elif library in _HTTP and cls.__name__ == "Request":
        yield lambda _: sys.modules[library].Request("POST", _URL)
    elif cls.__module__ != "typing":
        from safemp.audit.samples import maker_of

        yield from maker_of(cls, depth + 1)
