"""Frames: what was packed is unpacked, and anything else is a ``FrameError``."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from safemp import worker
from safemp.codec import calls, frames
from safemp.codec.frames import VERSION, Frames, Kind, pack, unpack
from safemp.errors import FrameError
from tests.support import jobs


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("payload", [b"", b"x", bytearray(b"abc"), memoryview(b"abc"), bytes(3 << 20)])
@pytest.mark.parametrize("buffers", [[], [b""], [b"a", bytearray(b"bc"), memoryview(b"def")]])
def test_what_was_packed_is_unpacked(kind: Kind, payload: frames.Buffer, buffers: Frames) -> None:
    """Kind, payload and buffers come back; large ones are neither copied nor changed."""
    packed = pack(kind, payload, buffers)

    found, its_payload, its_buffers = unpack(packed)

    assert found is kind
    assert its_payload is payload
    assert its_buffers == buffers
    assert all(a is b for a, b in zip(its_buffers, buffers, strict=True))


def test_no_buffers_and_none_are_the_same() -> None:
    """A payload alone needs no list of buffers."""
    assert pack(Kind.CALL, b"x") == pack(Kind.CALL, b"x", [])


GOOD = pack(Kind.VALUE, b"payload", [b"one", b"three"])


def header(at: int, byte: int) -> Frames:
    """Return good frames with one byte of the header replaced."""
    changed = bytearray(GOOD[0])
    changed[at] = byte
    return [bytes(changed), *GOOD[1:]]


BAD: dict[str, Frames] = {
    "nothing": [],
    "header alone": GOOD[:1],
    "empty header": [b"", *GOOD[1:]],
    "short header": [bytes(GOOD[0])[:-1], *GOOD[1:]],
    "long header": [bytes(GOOD[0]) + b"\0", *GOOD[1:]],
    "no header": GOOD[1:],
    "a pickle": [b"\x80\x05N.", b"\x80\x05N."],
    "other magic": header(0, ord("S")),
    "older version": header(2, VERSION - 1),
    "newer version": header(2, VERSION + 1),
    "unknown kind": header(3, 99),
    "kind 0": header(3, 0),
    "another kind": header(3, Kind.UNSENDABLE),
    "more buffers announced": header(4, 3),
    "fewer buffers announced": header(4, 1),
    "other checksum": header(8, bytes(GOOD[0])[8] ^ 1),
    "cut payload": [GOOD[0], b"payloa", *GOOD[2:]],
    "longer payload": [GOOD[0], b"payloadd", *GOOD[2:]],
    "changed payload": [GOOD[0], b"Payload", *GOOD[2:]],
    "zeros for a payload": [GOOD[0], bytes(7), *GOOD[2:]],
    "lost buffer": GOOD[:3],
    "one buffer more": [*GOOD, b""],
    "cut buffer": [*GOOD[:3], b"thre"],
    "buffers swapped": [*GOOD[:2], GOOD[3], GOOD[2]],
    "payload swapped with a buffer": [GOOD[0], GOOD[2], GOOD[1], GOOD[3]],
}


@pytest.mark.parametrize("bad", BAD)
def test_damaged_frames_are_a_frame_error(bad: str) -> None:
    """Whatever is cut, swapped, foreign or changed is found before pickle sees it."""
    with pytest.raises(FrameError, match=r"^cannot read frames"):
        unpack(BAD[bad])


@pytest.mark.parametrize("bad", BAD)
def test_a_damaged_outcome_is_answered_with_a_frame_error(bad: str) -> None:
    """The caller's side never raises for damage; the error is the outcome."""
    good, error = calls.decode_outcome(BAD[bad])

    assert not good
    assert type(error) is FrameError


@pytest.mark.parametrize("bad", BAD)
def test_a_damaged_call_is_answered_by_the_worker(bad: str) -> None:
    """The worker's side never raises for damage: it sends the error."""
    good, error = calls.decode_outcome(worker.run(BAD[bad]))

    assert not good
    assert type(error) is FrameError


def test_a_frame_of_another_version_says_what_to_do() -> None:
    """Two installations that do not understand each other are told so."""
    with pytest.raises(FrameError, match=r"fix: +install the same version") as caught:
        unpack(header(2, VERSION + 1))

    assert f"version {VERSION + 1}" in str(caught.value)


def _call() -> Frames:
    return calls.encode_call(jobs.add, (1, 2), {})


def _function() -> Frames:
    return calls.encode_function(jobs.add)


def _chunk() -> Frames:
    return calls.encode_chunk([1, 2], 0)


DECODERS: dict[str, tuple[Callable[[], Frames], Callable[[Frames], object]]] = {
    "call": (_call, calls.decode_call),
    "function": (_function, calls.decode_function),
    "chunk": (_chunk, calls.decode_chunk),
}


@pytest.mark.parametrize("made", DECODERS)
@pytest.mark.parametrize("read", DECODERS)
def test_frames_of_another_kind_are_a_frame_error(made: str, read: str) -> None:
    """A call is not taken for a chunk, nor anything else for what it is not."""
    packed = DECODERS[made][0]()
    if made == read:
        assert DECODERS[read][1](packed) is not None
        return

    with pytest.raises(FrameError, match=f"{read.upper()} expected, {made.upper()} found"):
        DECODERS[read][1](packed)


@pytest.mark.parametrize("made", DECODERS)
def test_what_a_caller_sends_is_no_outcome(made: str) -> None:
    """A call that comes back unanswered is a ``FrameError``, not a value."""
    good, error = calls.decode_outcome(DECODERS[made][0]())

    assert not good
    assert type(error) is FrameError


@pytest.mark.parametrize("bad", BAD)
def test_a_damaged_map_is_answered_by_the_worker(bad: str) -> None:
    """A map's function or chunk that is damaged is an outcome, not a crash."""
    for loaded in (worker.load_function(BAD[bad]), worker.load_chunk(BAD[bad])):
        assert isinstance(loaded, list)
        assert type(calls.decode_outcome(loaded)[1]) is FrameError


@pytest.mark.parametrize("bad", BAD)
def test_looking_at_damaged_frames_raises_nothing_but_a_frame_error(bad: str) -> None:
    """What an engine's own thread asks of an outcome is safe to ask."""
    for look in (calls.failed, calls.read_not_loaded):
        try:
            look(BAD[bad])
        except FrameError:
            continue
