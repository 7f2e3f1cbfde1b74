"""openai's own exceptions with real responses. Import it only where openai is."""

from __future__ import annotations

from typing import Any

import openai

try:
    import httpx2 as httpx  # what openai is built on since its third version
except ImportError:
    import httpx  # type: ignore[import-not-found, no-redef]

URL = "https://api.example.com/v1/chat/completions"

STATUS: dict[str, int] = {
    "BadRequestError": 400,
    "AuthenticationError": 401,
    "PermissionDeniedError": 403,
    "NotFoundError": 404,
    "ConflictError": 409,
    "UnprocessableEntityError": 422,
    "RateLimitError": 429,
    "InternalServerError": 500,
}


def make(name: str) -> openai.APIError:
    cls: Any = getattr(openai, name)
    request = httpx.Request("POST", URL, json={"model": "m"})
    if name == "APITimeoutError":
        return cls(request=request)  # type: ignore[no-any-return]
    if name == "APIConnectionError":
        return cls(message="no route", request=request)  # type: ignore[no-any-return]
    status = STATUS[name]
    body = {"message": f"sorry: {status}", "type": "kind", "param": None, "code": "some_code"}
    response = httpx.Response(status, json={"error": body}, headers={"x-request-id": "req_7"}, request=request)
    return cls(f"Error code: {status}", response=response, body=body)  # type: ignore[no-any-return]


def fail(name: str) -> None:
    raise make(name)


class Failing:
    """Holds a client, as a generator of prompts does; each call fails in its own way."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, _: object) -> None:
        fail(self.name)
