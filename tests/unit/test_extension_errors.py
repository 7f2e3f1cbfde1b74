"""Exceptions of extension classes arrive with what their constructor has put into fields in C."""

from __future__ import annotations

import pickle
import socket
from collections.abc import Callable
from typing import Any

import pytest

import safemp
from safemp.codec import pickling
from safemp.codec.exception_plain import describe, revive
from safemp.codec.exceptions import decode_error, encode_error
from safemp.codec.lost import Lost
from tests.support.extension_errors import Doubled, Gone, HttpError, Lengthy, Longer, answer

MADE: dict[str, Callable[[], BaseException]] = {
    "fields that can be set": lambda: HttpError("abc"),
    "one of them set": lambda: Gone("abc", 410),
    "read-only fields": lambda: Lengthy("abc"),
    "another constructor": lambda: Longer("abc", more=[1]),
    "args that do not give them": lambda: Doubled("abc"),
}
FIELDS = ("status", "reason", "code", "size", "more")


def travel(exc: BaseException) -> Any:
    return decode_error(encode_error(exc, dump=pickling.dumps, load=pickling.loads), load=pickling.loads)


def seen(exc: BaseException) -> tuple[Any, ...]:
    return str(exc), exc.args, {name: getattr(exc, name) for name in FIELDS if hasattr(exc, name)}


def raise_it(name: str) -> None:
    raise MADE[name]()


@pytest.mark.parametrize("name", MADE)
def test_fields_in_c_arrive(name: str) -> None:
    """Raised, as a value, and once more."""
    exc = MADE[name]()

    for arrived in (travel(exc), pickling.loads(pickling.dumps(exc)), travel(travel(exc))):
        assert isinstance(arrived, type(exc))
        assert seen(arrived) == seen(exc)
        assert (type(arrived) is type(exc)) == (name != "args that do not give them")


@pytest.mark.parametrize("name", MADE)
def test_fields_in_c_arrive_beside_what_is_lost(name: str) -> None:
    """A socket costs the attribute that holds it."""
    exc: Any = MADE[name]()
    with socket.socket() as exc.sock:
        arrived = travel(exc)

    assert isinstance(arrived, type(exc))
    assert seen(arrived) == seen(exc)
    assert type(arrived.sock) is Lost


def test_fields_of_args_that_are_lost() -> None:
    """The constructor cannot be called of them: the exception is one of a class derived from its own."""
    exc = Lengthy("abc")
    with socket.socket() as sock:
        exc.args = ("abc", sock)
        text, arrived = str(exc), travel(exc)

    assert isinstance(arrived, Lengthy)
    assert (arrived.code, arrived.size, str(arrived)) == (4, 5, text)
    assert type(arrived.args[1]) is Lost


@pytest.mark.parametrize("name", MADE)
def test_the_plain_record_has_them(name: str) -> None:
    """What is left of an exception that does not load has its fields, too."""
    exc = MADE[name]()

    arrived = revive(describe(exc))

    assert isinstance(arrived, type(exc))
    assert seen(arrived) == seen(exc)


def test_what_has_its_own_attributes_over_them_is_one_more_class() -> None:
    """It pickles, with the standard library's pickle too."""
    arrived = travel(Doubled("abc"))

    assert seen(pickle.loads(pickle.dumps(arrived))) == seen(Doubled("abc"))


def test_a_field_that_cannot_travel() -> None:
    """A ``Lost`` lies over it; in an argument it is named."""
    exc = Lengthy("abc")
    with socket.socket() as sock:
        answer(exc, sock)
        arrived = travel(exc)
        with pytest.raises(safemp.PreflightError, match=r"obj\.size:"):
            safemp.dumps(exc)
    answer(exc, 5)

    assert isinstance(arrived, Lengthy)
    assert (type(arrived.size), arrived.code, str(arrived)) == (Lost, 4, "abc")


def test_from_a_worker() -> None:
    """All the way."""
    with safemp.SafeExecutor(1) as executor:
        arrived = {name: executor.submit(raise_it, name).exception(30) for name in MADE}

    assert {name: seen(exc) for name, exc in arrived.items() if exc} == {name: seen(f()) for name, f in MADE.items()}
