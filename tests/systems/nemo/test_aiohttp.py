"""Errors of aiohttp, and the dicts and lists of which they are made, which pickle cannot copy."""

from __future__ import annotations

from typing import Any

import pytest

import safemp

try:
    import aiohttp
    import frozenlist
    import multidict
    import yarl
except ImportError:
    aiohttp = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(aiohttp is None, reason="wants the aiohttp package"),
]


def headers() -> Any:
    """Make some, as a response has them."""
    return multidict.CIMultiDictProxy(
        multidict.CIMultiDict([("Server", "s"), ("Set-Cookie", "a"), ("set-cookie", "b")])
    )


def fail(name: str) -> None:
    """Raise the error *name* of aiohttp."""
    url = yarl.URL("http://127.0.0.1/x")
    request = aiohttp.RequestInfo(url, "GET", headers(), url)
    raise getattr(aiohttp, name)(request, (), status=404, message="gone", headers=headers())


def frozen() -> Any:
    """Make a list that is."""
    made = frozenlist.FrozenList([1, [2]])
    made.freeze()
    return made


def look(given: Any) -> Any:
    """Return it again, and what it is here."""
    return given, type(given).__name__, [*given]


def test_errors_are_their_own_class_with_their_headers() -> None:
    """Also those of the request."""
    with safemp.SafeExecutor(1) as executor:
        for name in ("ClientResponseError", "ContentTypeError", "WSServerHandshakeError"):
            error: Any = executor.submit(fail, name).exception(60)
            assert type(error) is getattr(aiohttp, name)
            assert (error.status, error.message, error.headers.getall("SET-COOKIE")) == (404, "gone", ["a", "b"])
            assert error.request_info.headers["server"] == "s"
            assert str(error.request_info.url) == "http://127.0.0.1/x"


@pytest.mark.parametrize("make", [headers, lambda: multidict.MultiDictProxy(multidict.MultiDict(a=1)), frozen])
def test_what_they_are_made_of_travels_both_ways(make: Any) -> None:
    """As itself: what cannot be written to still cannot."""
    made = make()
    with safemp.SafeExecutor(1) as executor:
        back, kind, items = executor.submit(look, made).result(60)
    assert (type(back), kind, items) == (type(made), type(made).__name__, [*made])
    assert back == made
    assert not hasattr(back, "add")
    assert getattr(back, "frozen", True)
