"""Random exceptions, random webs of them, random damage."""

from __future__ import annotations

import builtins
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from safemp.codec import pickling
from safemp.codec.exceptions import Lost, decode_error, encode_error
from safemp.errors import FrameError
from tests.unit.exceptions_zoo import ZOO, Frozen, SlottedChild, TwoArguments, TwoBases, caught, portrait

ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20)
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


def _plain_classes() -> list[type[BaseException]]:
    """List the builtin classes that take any arguments."""
    found = []
    for cls in vars(builtins).values():
        if isinstance(cls, type) and issubclass(cls, BaseException):
            try:
                cls(1, "two", [3], 4, 5)
            except TypeError:
                continue
            found.append(cls)
    return found


def _made(cls: Any, args: list[Any]) -> BaseException:
    try:
        return cls(*args)
    except Exception:  # OSError and SyntaxError look into some numbers of arguments
        return cls()


EXCEPTIONS: st.SearchStrategy[BaseException] = st.one_of(
    st.builds(_made, st.sampled_from(_plain_classes()), st.lists(VALUES, max_size=5)),
    st.builds(TwoArguments, VALUES, VALUES),
    st.builds(Frozen, st.integers(), st.text()),
    st.builds(SlottedChild),
    st.builds(TwoBases, st.text(), extra=st.integers()),
)


@st.composite
def webs(draw: st.DrawFn) -> BaseException:
    """Draw exceptions tied to one another at random, cycles included."""
    nodes = draw(st.lists(EXCEPTIONS, min_size=1, max_size=6))
    if sys.version_info >= (3, 11) and draw(st.booleans()):
        cut = draw(st.integers(1, len(nodes)))
        nodes.append(BaseExceptionGroup("group", nodes[:cut]))
    some = st.none() | st.sampled_from(nodes)
    raw: Any = vars(BaseException)
    for node in nodes:  # past the __setattr__ of the frozen ones
        raw["__cause__"].__set__(node, draw(some))
        raw["__context__"].__set__(node, draw(some))
        raw["__suppress_context__"].__set__(node, draw(st.booleans()))
        node.__dict__.update(draw(st.dictionaries(st.text(max_size=5), VALUES | some, max_size=3)))
        if draw(st.booleans()):
            node.__dict__["__notes__"] = draw(st.lists(st.text(max_size=9), max_size=2))
    return caught(lambda: draw(st.sampled_from(nodes)))


def travel(exc: BaseException) -> BaseException:
    """Send an exception all the way."""
    record = encode_error(exc, dump=pickling.dumps_careful, load=pickling.loads)
    return decode_error(record, load=pickling.loads)


@given(webs())
def test_any_web_arrives_as_itself(exc: BaseException) -> None:
    """Whatever the classes, values, links and cycles: what arrives is the same, attribute by attribute."""
    assert portrait(travel(exc)) == portrait(exc)


@given(webs(), st.text(min_size=1, max_size=5))
def test_any_web_survives_a_culprit(exc: BaseException, name: str) -> None:
    """With something in it that cannot travel, all but that arrives."""
    exc.__dict__[name] = (i for i in range(3))

    arrived = travel(exc)

    lost = arrived.__dict__.pop(name)
    del exc.__dict__[name]
    assert type(lost) is Lost
    assert (type(arrived), str(arrived)) == (type(exc), str(exc))


def refuse(stream: bytes) -> object:
    """Load nothing."""
    raise ImportError


@given(webs())
def test_any_web_has_a_plain_tier(exc: BaseException) -> None:
    """When nothing loads, class and text still come."""
    record = encode_error(exc, dump=pickling.dumps_careful, load=refuse)

    arrived = decode_error(record, load=refuse)

    assert (type(arrived), str(arrived)) == (type(exc), str(exc))


@given(st.sampled_from(sorted(ZOO)), st.data())
def test_any_damage_is_a_frame_error(name: str, data: st.DataObject) -> None:
    """A record that is cut or changed anywhere gives a ``FrameError``."""
    record = bytearray(encode_error(caught(ZOO[name]), dump=pickling.dumps_careful, load=pickling.loads))
    at = data.draw(st.integers(0, len(record) - 1))
    if data.draw(st.booleans()):
        del record[at:]
    else:
        record[at] ^= data.draw(st.integers(1, 255))

    assert type(decode_error(record, load=pickling.loads)) is FrameError


@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_error(junk: bytes) -> None:
    """Bytes that are no record give a ``FrameError``."""
    assert type(decode_error(junk, load=pickling.loads)) is FrameError
