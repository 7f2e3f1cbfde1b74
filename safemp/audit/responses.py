"""Responses and requests of the HTTP libraries that are loaded, for any status."""

from __future__ import annotations

import http
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

__all__ = ["BODY", "STATUSES", "URL", "Maker", "Response", "of_class", "requests_made", "responses"]

Maker: TypeAlias = Callable[[int], Any]
"""Makes a value anew, for an HTTP status: what depends on one uses it."""

STATUSES = tuple(int(status) for status in http.HTTPStatus if status >= 400)
URL = "https://api.example.com/v1/things"
BODY: dict[str, dict[str, Any]] = {
    "error": {"message": "something went wrong", "type": "invalid_request_error", "param": None, "code": "some_code"}
}


class Response:
    """A maker of a response, of the class that one HTTP library has for it."""

    def __init__(self, make: Maker) -> None:
        self._make = make

    def __call__(self, status: int) -> Any:
        """Make it."""
        return self._make(status)


def _httpx(library: Any) -> Maker:
    def make(status: int) -> Any:
        request = library.Request("POST", URL, json={"q": 1})
        return library.Response(status, json=BODY, headers={"x-request-id": "req_7"}, request=request)

    return make


def _requests(library: Any) -> Maker:
    def make(status: int) -> Any:
        response = library.Response()
        response.status_code, response.reason, response.url = status, http.HTTPStatus(status).phrase, URL
        response.headers["x-request-id"] = "req_7"
        response._content = b'{"error": {"message": "something went wrong"}}'
        response.encoding = "utf-8"
        response.request = library.Request("POST", URL, json={"q": 1}).prepare()
        return response

    return make


def _urllib3(library: Any) -> Maker:
    def make(status: int) -> Any:
        reason = http.HTTPStatus(status).phrase
        return library.HTTPResponse(b'{"error": 1}', {"x-request-id": "req_7"}, status=status, reason=reason)

    return make


def _botocore(_: Any) -> Maker:
    return lambda status: {
        "Error": {"Code": "ThrottlingException", "Message": "something went wrong", "Type": "Sender"},
        "ResponseMetadata": {"RequestId": "7", "HTTPStatusCode": status, "HTTPHeaders": {}, "RetryAttempts": 0},
    }


_HTTP = {"httpx": _httpx, "httpx2": _httpx, "requests": _requests, "urllib3": _urllib3, "botocore": _botocore}


def responses() -> list[Maker]:
    """Return makers of responses of the HTTP libraries that are loaded."""
    return [Response(maker(sys.modules[name])) for name, maker in _HTTP.items() if name in sys.modules]


def requests_made() -> list[Maker]:
    """Return makers of requests of these libraries."""
    found: list[Maker] = []
    for name in ("httpx", "httpx2", "requests"):
        if name in sys.modules:
            library: Any = sys.modules[name]
            found.append(lambda _, library=library: library.Request("POST", URL))  # type: ignore[misc]
    return found


def of_class(cls: type) -> Maker | None:
    """Return a maker of a response or request of that class; ``None``: it is neither."""
    library = (getattr(cls, "__module__", None) or "").partition(".")[0]
    if library not in _HTTP:
        return None
    if cls.__name__.endswith("Response"):
        return Response(_HTTP[library](sys.modules[library]))
    return (lambda _: sys.modules[library].Request("POST", URL)) if cls.__name__ == "Request" else None
