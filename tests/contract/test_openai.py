"""openai's real exception classes, with a real response, arrive as themselves."""

from __future__ import annotations

import pickle

import pytest

import safemp

openai = pytest.importorskip("openai", reason="wants the openai package")

from tests.support import jobs, openai_errors  # noqa: E402  # after the check that openai is there


def test_these_exceptions_do_not_survive_pickle() -> None:
    """A rate limit pickles and does not load: what kills or hangs today's pools."""
    pickled = pickle.dumps(openai_errors.make("RateLimitError"))

    with pytest.raises(TypeError, match="missing 2 required keyword-only arguments"):
        pickle.loads(pickled)


@pytest.mark.parametrize("name", openai_errors.STATUS)
def test_a_status_error_arrives_whole(executor: safemp.SafeExecutor, name: str) -> None:
    """Caught by its class, with status, body, response and request."""
    with pytest.raises(getattr(openai, name)) as caught:
        executor.submit(openai_errors.fail, name).result(30)

    error, wanted = caught.value, openai_errors.make(name)
    assert type(error) is getattr(openai, name)
    assert str(error) == str(wanted)
    assert error.args == wanted.args
    assert error.status_code == openai_errors.STATUS[name]
    assert error.body == wanted.body
    assert (error.code, error.type, error.param) == ("some_code", "kind", None)
    assert error.request_id == "req_7"
    assert error.message == wanted.message
    assert error.response.status_code == openai_errors.STATUS[name]
    assert error.response.json() == {"error": wanted.body}
    assert error.response.headers["x-request-id"] == "req_7"
    assert str(error.request.url) == openai_errors.URL
    assert error.request.method == "POST"
    assert str(error.response.request.url) == openai_errors.URL
    assert executor.submit(jobs.square, 3).result(30) == 9


@pytest.mark.parametrize("name", ["APIConnectionError", "APITimeoutError"])
def test_a_connection_error_arrives_whole(executor: safemp.SafeExecutor, name: str) -> None:
    """Caught by its class, with message and request."""
    with pytest.raises(openai.APIConnectionError) as caught:
        executor.submit(openai_errors.fail, name).result(30)

    error, wanted = caught.value, openai_errors.make(name)
    assert type(error) is getattr(openai, name)
    assert str(error) == str(wanted)
    assert error.message == wanted.message
    assert error.body is None
    assert str(error.request.url) == openai_errors.URL


@pytest.mark.parametrize("method", ["map", "imap", "imap_unordered"])
def test_a_rate_limit_is_caught_as_such_from_a_pool(pool: safemp.Pool, method: str) -> None:
    """``except openai.RateLimitError`` works around every method."""
    with pytest.raises(openai.RateLimitError) as caught:
        list(getattr(pool, method)(openai_errors.Failing("RateLimitError"), range(3)))

    assert caught.value.status_code == 429
    assert pool.apply(jobs.square, (3,)) == 9


def test_an_error_callback_gets_the_error(pool: safemp.Pool) -> None:
    """``error_callback`` is given the exception itself."""
    got: list[BaseException] = []
    result = pool.apply_async(openai_errors.fail, ("NotFoundError",), error_callback=got.append)
    result.wait(30)

    assert [type(error) for error in got] == [openai.NotFoundError]
