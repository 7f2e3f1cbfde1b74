"""Random values, random graphs, random damage."""

from __future__ import annotations

import collections
import dataclasses  # noqa: F401  # for SOURCE
import enum
import io
import pickle
import sys
import types
import typing  # noqa: F401  # for SOURCE
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from safemp import worker
from safemp.codec import calls, pickling
from safemp.codec.exceptions import Where
from safemp.codec.frames import Frames
from safemp.errors import FrameError
from tests.support import jobs
from tests.support.other import Other

# -- what graphs are made of ----------------------------------------------------------------

SOURCE = """
import dataclasses, enum, typing
from collections import namedtuple

class Plain:
    def __init__(self, x=None, y=None):
        self.x, self.y = x, y

class Slotted:
    __slots__ = ("x", "y", "__dict__")
    def __init__(self, x=None, y=None):
        self.x, self.y = x, y

@dataclasses.dataclass(eq=False)
class Data:
    x: typing.Any = None
    y: typing.Any = None

class Items(list):
    pass

class Table(dict):
    pass

class Wrong(Exception):
    def __init__(self, x=None, *, y=None):
        super().__init__("wrong")
        self.x, self.y = x, y

class Named(typing.NamedTuple):
    x: typing.Any
    y: typing.Any = None

Old = namedtuple("Old", "x y")

@dataclasses.dataclass(frozen=True)
class Frozen:
    x: typing.Any
    y: typing.Any = None

class Color(enum.Enum):
    RED = 1
    BLUE = "b"

class Bits(enum.Flag):
    A = 1
    B = 2
"""
exec(SOURCE)  # importable by name, from here ...
in_memory = sys.modules["codec_in_memory"] = types.ModuleType("codec_in_memory")
exec(SOURCE, in_memory.__dict__)  # ... and going by value, from there

here = sys.modules[__name__]

MUTABLE = ("Plain", "Slotted", "Data", "Items", "Table", "Wrong")
FIXED = ("Named", "Old", "Frozen")

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text(max_size=8)
    | st.binary(max_size=8)
)


@st.composite
def graphs(draw: st.DrawFn, modules: tuple[types.ModuleType, ...]) -> Any:
    """Draw objects that refer to one another at random: shared, nested, in cycles."""
    nodes: list[Any] = [draw(ATOMS) for _ in range(draw(st.integers(0, 4)))]
    module = draw(st.sampled_from(modules))
    nodes += draw(st.lists(st.sampled_from([*module.Color, *module.Bits, module.Plain, module.Color]), max_size=2))
    open_: list[Any] = []
    for kind in draw(st.lists(st.sampled_from(("list", "dict", "deque", "bytearray", *MUTABLE)), max_size=8)):
        made: Any
        if kind in MUTABLE:
            made = getattr(module, kind)()
        else:
            made = {"list": list, "dict": dict, "deque": collections.deque, "bytearray": lambda: bytearray(b"x")}[
                kind
            ]()
        nodes.append(made)
        open_.append(made)
    for kind in draw(st.lists(st.sampled_from(("tuple", "frozenset", "set", *FIXED)), max_size=4)):
        some = draw(st.lists(st.sampled_from(nodes), max_size=3)) if nodes else []
        if kind == "tuple":
            nodes.append(tuple(some))
        elif kind in FIXED:
            nodes.append(getattr(module, kind)(*[*some, None, None][:2]))
        else:
            nodes.append({"set": set, "frozenset": frozenset}[kind](x for x in some if hashable(x)))
    nodes = nodes or [None]
    any_ = st.sampled_from(nodes)
    for made in open_:
        if isinstance(made, (list, collections.deque)):
            made.extend(draw(st.lists(any_, max_size=3)))
        elif isinstance(made, dict):
            made.update(draw(st.dictionaries(st.text(max_size=3) | st.integers(0, 9), any_, max_size=3)))
        if hasattr(made, "__dict__"):
            made.x = draw(any_)
            made.y = draw(any_)
            made.__dict__.update(draw(st.dictionaries(st.text("abc", min_size=2, max_size=3), any_, max_size=2)))
    return draw(any_)


def hashable(value: Any) -> bool:
    """Only atoms and members: what hashes by identity is another one on the other side."""
    return isinstance(value, (int, str, bytes, float, complex, enum.Enum, type(None)))


def portrait(root: Any) -> list[Any]:
    """Draw a graph as a list that two graphs have in common if and only if they have the same shape.

    Every object is told by type and parts; a part that was met before, by its number.
    """
    numbers: dict[int, int] = {}
    found: list[Any] = []
    kept: list[Any] = []
    todo: list[tuple[Any, ...]] = [("root", root)]
    while todo:
        label, value = todo.pop()
        if isinstance(value, (int, float, complex, str, bytes, type(None))) and not isinstance(value, enum.Enum):
            found.append((label, type(value), repr(value)))
            continue
        if isinstance(value, (type, enum.Enum)):
            found.append((label, "itself", id(value)))
            continue
        if id(value) in numbers and not (isinstance(value, (tuple, frozenset)) and not value):
            found.append((label, "again", numbers[id(value)]))
            continue
        numbers[id(value)] = len(numbers)
        kept.append(value)
        parts: list[tuple[Any, Any]] = []
        if isinstance(value, dict):
            parts += [(("key", repr(k)), v) for k, v in value.items()]
        elif isinstance(value, (list, tuple, collections.deque)):
            parts += list(enumerate(value))
        elif isinstance(value, (set, frozenset)):
            found.append((label, "members", sorted(map(repr, value))))
        elif isinstance(value, bytearray):
            parts.append(("bytes", bytes(value)))
        if isinstance(value, BaseException):
            parts += [("args", list(value.args))]
        for name in getattr(type(value), "__slots__", ()):
            if name in ("x", "y"):
                parts.append((("slot", name), getattr(value, name)))
        parts += [(("attr", k), v) for k, v in getattr(value, "__dict__", {}).items()]
        found.append((label, type(value), len(parts)))
        todo += reversed(parts)
    return found


def there_and_back(value: Any, careful: bool) -> Any:
    """Send as an argument, and back as the result."""
    frames = calls.encode_call(jobs.same, (value,), {}, careful=careful)
    good, back = calls.decode_outcome([bytearray(f) if i > 1 else bytes(f) for i, f in enumerate(worker.run(frames))])
    if not good:
        raise back
    return back


@given(graphs((here,)), st.booleans())
def test_any_graph_of_importable_classes_comes_back(value: Any, careful: bool) -> None:
    """Equal part by part, what was shared is shared, cycles are cycles; on either rung."""
    assert portrait(there_and_back(value, careful)) == portrait(value)


@given(graphs((in_memory,)))
def test_any_graph_of_classes_by_value_comes_back(value: Any) -> None:
    """The same for classes that workers cannot import."""
    assert portrait(there_and_back(value, False)) == portrait(value)


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    made = Other()
    yield made
    made.terminate()


@given(value=graphs((here, in_memory)))
@settings(max_examples=60)
def test_any_graph_comes_back_from_another_process(other: Other, value: Any) -> None:
    """One that has to make the classes first, and keeps them."""
    assert portrait(other(jobs.same, value)) == portrait(value)
    assert portrait(other(lambda: value)) == portrait(value)


@given(graphs((here,)))
def test_a_graph_of_importable_classes_stays_on_the_fast_rung(value: Any) -> None:
    """Nothing in it needs cloudpickle; an exception in it needs no detour."""
    assume(b"_main__" not in pickle.dumps([value], 5))  # the name in a text costs a detour
    stream = pickling.dumps_fast([value])

    assert stream is not None
    assert b"cloudpickle" not in stream


class Finding(pickle.Unpickler):
    """Notes the modules of the globals in a stream."""

    def __init__(self, stream: bytes) -> None:
        super().__init__(io.BytesIO(stream))
        self.modules: set[str] = set()

    def find_class(self, module: str, name: str) -> Any:
        self.modules.add(module)
        return super().find_class(module, name)


@given(graphs((here, in_memory)), st.lists(st.binary(max_size=600), max_size=12), st.sampled_from([0, 3_000, 100_000]))
def test_the_modules_of_a_stream_are_all_told(value: Any, noise: list[bytes], size: int) -> None:
    """Those of every global in it, or that one cannot tell; whatever bytes are in the data."""
    stream = pickle.dumps([noise, value, [here.__name__, here.Plain, here.Slotted], bytes(size), value], 5)
    finding = Finding(stream)
    finding.load()
    told = pickling._modules_in(stream)

    assert told is None or finding.modules <= {name.decode() for name in told}


def test_the_modules_of_a_long_plain_stream_are_told() -> None:
    """It is worth the trouble: records of one class do not need a look through all of the stream."""
    stream = pickle.dumps([here.Plain(i, i / 7) for i in range(3_000)], 5)

    assert pickling._modules_in(stream) == {here.__name__.encode()}


@given(graphs((here, in_memory)), graphs((here, in_memory)), st.booleans())
def test_what_arguments_share_they_share_there(one: Any, other: Any, careful: bool) -> None:
    """A call is one graph: function, arguments and keywords."""
    shared = [one]
    call = calls.decode_call(
        calls.encode_call(jobs.keywords, (shared, [shared, other]), {"k": shared}, careful=careful)
    )

    assert call.fn is jobs.keywords
    assert call.args[0] is call.args[1][0] is call.kwargs["k"]
    assert portrait(call.args[1]) == portrait([shared, other])


@given(graphs((here, in_memory)), st.integers(0, 10**6), st.booleans())
def test_any_items_of_a_map_come_there(value: Any, first: int, star: bool) -> None:
    """With their index."""
    chunk = calls.decode_chunk(calls.encode_chunk([(value,), (1,)], first, star=star))

    assert (chunk.first, chunk.star) == (first, star)
    assert portrait(list(chunk.items)) == portrait([(value,), (1,)])


# -- closures ------------------------------------------------------------------------------------


@given(graphs((here,)), graphs((in_memory,)))
def test_any_graph_in_a_closure_comes_there(one: Any, other: Any) -> None:
    """As a variable, a default or an attribute of a function."""

    def function(default: Any = one) -> Any:
        return default, other

    function.attribute = [one, other]  # type: ignore[attr-defined]
    found = calls.decode_call(calls.encode_call(function, (), {})).fn

    assert portrait(list(found())) == portrait([one, other])  # type: ignore[call-overload]
    assert portrait(found.attribute) == portrait([one, other])  # type: ignore[attr-defined]


# -- damage -----------------------------------------------------------------------------------------


def _large() -> Frames:
    value = Plain([bytearray(100_000)], "x")  # type: ignore[name-defined]  # noqa: F821
    return calls.encode_outcome({"value": value, "raw": jobs.Mute()})


def _buffers() -> Frames:
    return calls.encode_outcome([pickle.PickleBuffer(bytearray(70_000 + i)) for i in range(3)])


OUTCOMES: dict[str, Callable[[], Frames]] = {
    "value": lambda: calls.encode_outcome({"a": [1, 2.5, "x"], "b": (None, b"y")}),
    "large": _large,
    "buffers": _buffers,
    "error": lambda: calls.encode_failure(jobs.TwoArguments(1, 2), Where("f", 3, 4, "host")),
    "unsendable": lambda: calls.encode_outcome([(x for x in []), 1]),
    "not loaded": lambda: calls.encode_not_loaded(ModuleNotFoundError("no", name="m")),
}
CALLS: dict[str, tuple[Callable[[], Frames], Callable[[Frames], object]]] = {
    "call": (lambda: calls.encode_call(jobs.add, (1, [2]), {"y": 3}), calls.decode_call),
    "lambda": (lambda: calls.encode_call(lambda x: x, (1,), {}), calls.decode_call),
    "function": (lambda: calls.encode_function(in_memory.Plain), calls.decode_function),
    "chunk": (lambda: calls.encode_chunk([1, {"x": 2}], 7), calls.decode_chunk),
}


@st.composite
def damaged(draw: st.DrawFn, encode: Callable[[], Frames]) -> Frames:
    """Damage what *encode* gives: cut, lengthen, drop, double, swap or insert frames, or change bytes.

    Bytes of a buffer are not changed, nor two of the same size swapped: buffers go unchecked but for their lengths.
    """
    good = [bytes(frame) for frame in encode()]
    bad: Frames = list(good)
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(bad) - 1)) if bad else 0
        how = draw(st.sampled_from(("change", "cut", "lengthen", "drop", "double", "swap", "insert", "empty")))
        if not bad and how != "insert":
            continue
        if how == "change":
            at = min(at, 1)
            frame = bytearray(bad[at])
            if frame:
                frame[draw(st.integers(0, len(frame) - 1))] ^= draw(st.integers(1, 255))
                bad[at] = bytes(frame)
        elif how == "cut":
            bad[at] = bad[at][: draw(st.integers(0, len(bad[at])))]
        elif how == "lengthen":
            bad[at] = bytes(bad[at]) + draw(st.binary(min_size=1, max_size=9))
        elif how == "drop":
            del bad[at]
        elif how == "double":
            bad.insert(at, bad[at])
        elif how == "swap":
            other = draw(st.integers(0, len(bad) - 1))
            bad[at], bad[other] = bad[other], bad[at]
        elif how == "insert":
            bad.insert(at, draw(st.binary(max_size=20)))
        else:
            bad[at] = b""
    assume(bad != good)
    return bad


@given(st.sampled_from(sorted(OUTCOMES)), st.data())
def test_any_damage_to_an_outcome_is_a_frame_error(name: str, data: st.DataObject) -> None:
    """The caller is told so, and of nothing else; nothing raises."""
    bad = data.draw(damaged(OUTCOMES[name]))

    good, error = calls.decode_outcome(bad)

    assert not good
    assert type(error) is FrameError


@given(st.sampled_from(sorted(CALLS)), st.data())
def test_any_damage_to_a_call_is_a_frame_error(name: str, data: st.DataObject) -> None:
    """No byte of it is taken for a pickle."""
    encode, decode = CALLS[name]
    bad = data.draw(damaged(encode))

    with pytest.raises(FrameError):
        decode(bad)
    assert type(calls.decode_outcome(worker.run(bad))[1]) is FrameError


@given(st.lists(st.binary(max_size=40), max_size=4))
def test_any_bytes_are_a_frame_error(junk: list[bytes]) -> None:
    """Bytes that nobody of ours has written."""
    frames: Frames = list(junk)

    assert type(calls.decode_outcome(frames)[1]) is FrameError
    assert type(calls.decode_outcome(worker.run(frames))[1]) is FrameError
    for loaded in (worker.load_function(frames), worker.load_chunk(frames)):
        assert isinstance(loaded, list)


@given(st.sampled_from(sorted(OUTCOMES)), st.sampled_from(sorted(OUTCOMES)), st.data())
def test_parts_of_two_outcomes_are_no_outcome(one: str, other: str, data: st.DataObject) -> None:
    """A header is that of its own payload."""
    left, right = OUTCOMES[one](), OUTCOMES[other]()
    mixed: Frames = [left[0], *right[1:]]
    assume([bytes(f) for f in mixed] not in ([bytes(f) for f in left], [bytes(f) for f in right]))

    good, error = calls.decode_outcome(mixed)

    assert not good
    assert type(error) is FrameError
