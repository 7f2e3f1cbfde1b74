"""Shapes of exception classes that the audit of many packages has found, each as small as it can be."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path
from typing import Any

import pydantic
import pydantic_core
import pytest

from safemp.codec import pickling
from safemp.codec.exceptions import Lost, decode_error, encode_error
from tests.support.child import run_python


def travel(exc: BaseException) -> Any:
    """Send an exception all the way."""
    return decode_error(encode_error(exc, dump=pickling.dumps_careful, load=pickling.loads), load=pickling.loads)


# -- marks: jsonschema ----------------------------------------------------------------


class _Unset:
    def __repr__(self) -> str:
        return "<unset>"


_unset = _Unset()
_missing = object()


class Marked(Exception):
    """As ``jsonschema.ValidationError``: what it says depends on which object is in it."""

    def __init__(self, message: str, schema: object = _unset) -> None:
        super().__init__(message, schema)
        self.message = message
        self.schema = schema
        self.default = _missing

    def __str__(self) -> str:
        return self.message if self.schema is _unset else f"{self.message}: {self.schema}"


def test_a_mark_of_a_module_is_that_mark_there() -> None:
    """``_unset`` of a module arrives as that module's ``_unset``; by pickle as another one."""
    exc = Marked("no")
    assert str(pickle.loads(pickle.dumps(exc))) == "no: <unset>"

    arrived = travel(exc)

    assert (type(arrived), str(arrived)) == (Marked, "no")
    assert arrived.schema is arrived.args[1] is _unset
    assert arrived.default is _missing


def test_a_mark_beside_what_is_lost() -> None:
    """The same for an exception that is taken apart, since a socket is in it."""
    exc = Marked("no")
    with socket.socket() as open_socket:
        exc.__dict__["sock"] = open_socket

        arrived = travel(exc)

    assert (type(arrived), str(arrived), type(arrived.sock)) == (Marked, "no", Lost)
    assert arrived.schema is arrived.args[1] is _unset


def test_what_has_state_is_no_mark() -> None:
    """A module's object that has changed here arrives as it is here, not as it is there."""
    exc = Marked("no")
    state: Any = _Unset()
    state.changed = 1
    globals()["_changed"] = state
    exc.schema = state
    try:
        arrived: Any = travel(exc)
    finally:
        del globals()["_changed"]

    assert arrived.schema is not state
    assert arrived.schema.changed == 1


# -- C code that wants its arguments: pydantic_core -----------------------------------


@pytest.mark.parametrize("more", [False, True], ids=["alone", "with a socket"])
@pytest.mark.parametrize(
    "exc",
    [
        pydantic_core.SchemaError("no"),
        pydantic_core.PydanticSerializationError("no"),
        pydantic_core.PydanticCustomError("kind", "no {x}", {"x": 1}),
    ],
    ids=lambda exc: type(exc).__name__,
)
def test_a_class_whose_c_code_wants_arguments(exc: BaseException, more: bool) -> None:
    """An exception that only its own C code can make is made by it, of its ``args``."""
    cls: Any = type(exc)
    with pytest.raises(TypeError):
        cls.__new__(cls)
    with socket.socket() as open_socket:
        if more:
            exc.__dict__["sock"] = open_socket

        arrived = travel(exc)

    assert (type(arrived), str(arrived), arrived.args) == (cls, str(exc), exc.args)
    assert type(arrived.__dict__.get("sock")) is (Lost if more else type(None))


# -- a class inside a function -----------------------------------------------------------


def test_a_local_class_keeps_its_qualified_name(tmp_path: Path) -> None:
    """A class of a function is printed in another process as in its own."""

    class Local(Exception):
        pass

    (tmp_path / "frames").write_bytes(encode_error(Local("no"), dump=pickling.dumps_careful, load=pickling.loads))
    script = (
        "import sys\nfrom safemp.codec import pickling\nfrom safemp.codec.exceptions import decode_error\n"
        "exc = decode_error(open(sys.argv[1], 'rb').read(), load=pickling.loads)\nprint(type(exc).__qualname__, exc)\n"
    )
    ended = run_python("-c", script, str(tmp_path / "frames"))

    assert ended.out == f"{Local.__qualname__} no\n", str(ended)


# -- a class that only its own way can make: pydantic's ValidationError ---------------


def test_a_validation_error_of_what_cannot_travel() -> None:
    """It is still caught as what it is; what was validated is a ``Lost`` in it."""
    with socket.socket() as open_socket:
        try:
            pydantic.TypeAdapter(int).validate_python({"rows": open_socket})
        except pydantic.ValidationError as caught:
            exc = caught
        exc.__cause__ = KeyError("cause")

        arrived = travel(exc)

    assert type(arrived) is pydantic.ValidationError
    (error,) = arrived.errors()
    assert (error["type"], arrived.error_count()) == ("int_type", 1)
    assert (type(error["input"]["rows"]), error["input"]["rows"].type_name) == (Lost, "socket.socket")
    assert eval(error["input"]["rows"].path, {"exc": exc}) is open_socket
    assert isinstance(arrived.__cause__, KeyError)
    assert arrived.__traceback__ is not None


def test_arguments_for_c_code_that_cannot_travel() -> None:
    """The same for a class whose C code is given its ``args``."""
    with socket.socket() as open_socket:
        arrived = travel(pydantic_core.PydanticCustomError("kind", "no {x}", {"x": open_socket, "y": 1}))

    assert type(arrived) is pydantic_core.PydanticCustomError
    assert (arrived.type, arrived.context["y"], type(arrived.context["x"])) == ("kind", 1, Lost)
