"""The errors of the built-in client, made as ``openai`` makes its own.

Their constructor wants keyword-only arguments that pickle does not know of: pickle
calls the class with ``args``, which is the message alone. So they pickle and do not
unpickle, which is what no pool of today survives.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = [
    "BY_STATUS",
    "APIStatusError",
    "AuthenticationError",
    "BadRequestError",
    "InternalServerError",
    "NotFoundError",
    "RateLimitError",
    "Response",
]


@dataclass(frozen=True)
class Response:
    """The part of an HTTP response that an error keeps."""

    status_code: int
    url: str
    text: str

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.text)


class APIStatusError(Exception):
    """The server has answered with a status of 400 or above."""

    def __init__(self, message: str, *, response: Response, body: dict[str, Any]) -> None:
        super().__init__(message)
        self.message = message
        self.response = response
        self.status_code: int = response.status_code
        self.body = body
        self.code: Any | None = body.get("code")


class BadRequestError(APIStatusError):
    """400."""


class AuthenticationError(APIStatusError):
    """401."""


class NotFoundError(APIStatusError):
    """404."""


class RateLimitError(APIStatusError):
    """429."""


class InternalServerError(APIStatusError):
    """500 and above."""


BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    404: NotFoundError,
    429: RateLimitError,
    500: InternalServerError,
}
