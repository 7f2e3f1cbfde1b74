"""The parts of forwarding, one by one: board, levels, speaker, records."""

from __future__ import annotations

import logging
import os
import re
import socket
import struct
import warnings
from collections.abc import Iterator

import pytest

from safemp.engines import levels, wire
from safemp.engines.board import NO_SLOT, Board, Notice
from safemp.engines.forward import _plain_record
from safemp.engines.levels import Levels
from safemp.engines.speaker import PART, Speaker
from safemp.engines.wire import Message


@pytest.fixture
def board() -> Iterator[Board]:
    """A board, closed afterwards."""
    board = Board()
    yield board
    board.close()


def notice_of(board: Board, slot: int = 0) -> Notice:
    return Notice(os.dup(board.fd), slot)


# -- the board -------------------------------------------------------------------------


def test_news_are_told_once(board: Board) -> None:
    """Who looks sees the last text, and then nothing until there is another."""
    notice = notice_of(board)
    assert notice.news() is None
    board.publish(b"one")
    board.publish(b"two" * 50_000)

    assert notice.news() == b"two" * 50_000
    assert notice.news() is None
    board.publish(b"")
    assert notice.news() == b""
    os.close(notice._fd)


def test_a_text_that_is_being_written_is_not_believed(board: Board) -> None:
    """A reader that comes in between sees nothing, and the whole at its next look."""
    notice = notice_of(board)
    board.publish(b"whole")
    page = 8 * 1024
    head = os.pread(board.fd, 16, page)
    os.pwrite(board.fd, struct.pack("<I", 3), page)

    assert notice.news() is None
    os.pwrite(board.fd, head, page)
    assert notice.news() == b"whole"
    os.close(notice._fd)


def test_slots_are_used_again_and_run_out(board: Board) -> None:
    """A worker without a slot is simply not told what was handled."""
    slots = [board.take_slot() for _ in range(1100)]
    assert sorted(set(slots)) == [*range(1022), NO_SLOT]
    board.set_handled(slots[5], 77)
    board.set_handled(NO_SLOT, 1)
    board.give_slot(NO_SLOT)
    last = notice_of(board, NO_SLOT)
    fifth = notice_of(board, slots[5])

    assert (last.handled(), fifth.handled()) == (None, 77)
    board.give_slot(slots[5])
    assert board.take_slot() == slots[5]
    assert fifth.handled() == 0
    os.close(last._fd)
    os.close(fifth._fd)


def test_a_worker_cannot_write_to_it(board: Board) -> None:
    """Its page is read-only, so that no worker harms another."""
    notice = notice_of(board)

    with pytest.raises(TypeError):
        notice._page[0] = 1
    os.close(notice._fd)


# -- levels and filters ----------------------------------------------------------------


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """A logger, with its level restored afterwards."""
    logger = logging.getLogger("tests.levels")
    yield logger
    logger.setLevel(logging.NOTSET)
    logging.disable(logging.NOTSET)


def test_a_change_is_seen(logger: logging.Logger) -> None:
    """The generation is another one after a change of a level or a filter, and only then."""
    before = levels.generation()
    assert levels.generation() == before
    logger.setLevel(logging.DEBUG)
    second = levels.generation()
    logging.disable(logging.INFO)
    third = levels.generation()
    with warnings.catch_warnings():
        warnings.simplefilter("error", BytesWarning)
        fourth = levels.generation()

    assert len({before, second, third, fourth, levels.generation()}) == 5


def test_what_a_task_has_set_stays(logger: logging.Logger) -> None:
    """Only what the caller has changed is set."""
    ours = Levels()
    logger.setLevel(logging.INFO)
    first = levels.read()
    ours.set(first)
    logger.setLevel(logging.DEBUG)  # by a task
    with warnings.catch_warnings():
        warnings.simplefilter("always", BytesWarning)  # by a task
        ours.set(first)
        assert warnings.filters[0][2] is BytesWarning

    assert logger.level == logging.DEBUG
    logger.setLevel(logging.NOTSET)
    second = levels.read()
    logger.setLevel(logging.DEBUG)
    ours.set(second)
    assert logger.level == logging.NOTSET


class Mine(UserWarning):
    """A category of this file."""


class MineToo(Mine):
    """Derived from it."""


def test_filters_are_as_they_were() -> None:
    """Actions, patterns with their flags, categories by name, and order."""
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "no MATTER", Mine, r"tests\..*", 0)
        warnings.filterwarnings("always", category=DeprecationWarning, lineno=12)
        text = levels.read()
        warnings.resetwarnings()
        Levels().set(text)
        found = list(warnings.filters)

    assert [(f[0], f[4]) for f in found] == [("always", 12), ("ignore", 0), ("error", 0)]
    _, message, category, module, _ = found[1]
    assert isinstance(message, re.Pattern)
    assert message.match("No matter")
    assert isinstance(module, re.Pattern)
    assert module.match("tests.x")
    assert issubclass(MineToo, category)
    assert not issubclass(UserWarning, category)
    assert found[0][2] is DeprecationWarning


def test_strange_filters_are_left_out() -> None:
    """What is no filter does not keep the others from being sent."""
    with warnings.catch_warnings():
        warnings.filters.insert(0, ("ignore",))  # type: ignore[attr-defined]
        text = levels.read()
        Levels().set(text)

        assert ("ignore",) not in warnings.filters


# -- the speaker -----------------------------------------------------------------------


class Nosy(list[bytes]):
    """Frames that speak themselves while they are being written."""

    def __init__(self, speaker: Speaker) -> None:
        super().__init__([b"outer"])
        self.speaker = speaker

    def __len__(self) -> int:
        if self.speaker is not None:
            speaker, self.speaker = self.speaker, None  # type: ignore[assignment]
            speaker.say(Message(2, 0, 0, 0, [b"inner"]))
        return super().__len__()


def test_who_speaks_in_between_goes_behind() -> None:
    """A message made while another is written, by the same thread, follows it whole."""
    ours, theirs = wire.streams()
    with ours, theirs:
        speaker = Speaker(ours)
        speaker.say(Message(1, 0, 0, 0, Nosy(speaker)), Message(3, 0, 0, 0, [b"second"]))  # type: ignore[arg-type]
        reader = wire.Reader()
        messages: list[Message] = []
        while len(messages) < 3:
            messages += wire.receive(theirs, reader)

    assert [(m.kind, bytes(m.frames[0])) for m in messages] == [(1, b"outer"), (3, b"second"), (2, b"inner")]


def test_a_part_is_sent_by_one_call() -> None:
    """What a signal handler could cut is small enough to go whole, or not at all."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        message = b"x" * (PART + 100)  # with its head
        sent = []
        while True:
            try:
                sent.append(ours.send(message))
            except BlockingIOError:
                break

    assert sent
    assert set(sent) == {len(message)}


# -- records ---------------------------------------------------------------------------


class Text(str):
    """A string that is more."""


@pytest.mark.parametrize(
    ("msg", "args", "sent"),
    [
        ("plain", (), ("plain", ())),
        ("%s %d", ("a", 1), ("%s %d", ("a", 1))),
        ("%(a)s", ({"a": 1},), ("%(a)s", {"a": 1})),
        ("%s", (Text("t"),), ("t", None)),
        ("%s", (ValueError("v"),), ("v", None)),
        (ValueError("as message"), (), ("as message", None)),
        ("100%", (), ("100%", ())),
    ],
)
def test_a_record_is_sent_in_builtins(msg: object, args: tuple[object, ...], sent: tuple[object, object]) -> None:
    """Format and arguments where they are plain; else the text."""
    record = logging.LogRecord("n", 20, __file__, 1, msg, args, None)
    said = _plain_record(record, str)

    assert (said["msg"], said["args"]) == sent
    assert logging.makeLogRecord(said).getMessage() == record.getMessage()


def test_attributes_that_are_not_plain_are_left_behind() -> None:
    """No object of a user is ever sent, however deep it is."""
    record = logging.LogRecord("n", 20, __file__, 1, "m", (), None)
    circle: list[object] = []
    circle.append(circle)
    record.__dict__.update(good=[{"a": (1, 2.0, None, b"")}], text=Text("t"), deep=[[object()]], circle=circle)
    said = _plain_record(record, str)

    assert said["good"] == [{"a": (1, 2.0, None, b"")}]
    assert not said.keys() & {"text", "deep", "circle", "relativeCreated"}
