"""Blocks: what is lent stays as it is for as long as anybody can read it, and memory is used again."""

from __future__ import annotations

import errno
import gc
import os
import socket
from typing import Any

import pytest

from safemp.engines import blocks, system, wire
from safemp.engines.blocks import LARGE, Block, Store, borrow, place_of
from safemp.engines.wire import Message, Outbox, Reader

pytestmark = pytest.mark.skipif(not system.MAPS, reason="wants memfd_create")

HEAD = b"head"


def large(byte: int, size: int = LARGE) -> memoryview:
    """Some memory of a user."""
    return memoryview(bytearray([byte]) * size)


def lend(frame: Any) -> memoryview:
    """Hand *frame* over as a receiver in this process would get it."""
    block, at = place_of(frame)  # type: ignore[misc]
    data = borrow(os.dup(block.fd), block.serial, block.lend())
    return data[at : at + len(frame)]


def test_small_frames_are_copied_and_large_ones_go_into_one_block() -> None:
    """Views of the user's memory are copied either way; the header stays as it is."""
    store = Store()
    few = store.hold([HEAD, b"payload", large(1, 100)])
    many = store.hold([HEAD, b"payload", large(1), large(2, 100)])

    assert [place_of(frame) for frame in few] == [None, None, None]
    assert type(few[2]) is bytearray
    assert many[0] is HEAD
    assert len({id(place_of(frame)[0]) for frame in many[1:]}) == 1  # type: ignore[index]
    assert [bytes(frame) for frame in many[1:]] == [b"payload", b"\1" * LARGE, b"\2" * 100]


def test_what_is_held_is_the_value_at_that_moment() -> None:
    """The user may write into it at once."""
    mine = large(1)
    held = Store().hold([HEAD, b"", mine])
    mine[:] = bytes(LARGE)

    assert bytes(held[2]) == b"\1" * LARGE


def test_a_receiver_may_write_and_nobody_sees_it() -> None:
    """Neither the sender nor the next receiver."""
    held = Store().hold([HEAD, b"", large(1)])
    first = lend(held[2])
    first[:] = bytes(LARGE)

    assert bytes(held[2]) == b"\1" * LARGE
    assert bytes(lend(held[2])) == b"\1" * LARGE
    assert bytes(first) == bytes(LARGE)


def test_a_block_is_used_again_when_nobody_reads_it() -> None:
    """Its memory serves for the next contents of about its size."""
    store = Store()
    held = store.hold([HEAD, b"", large(1)])
    block = place_of(held[2])[0]  # type: ignore[index]
    got = lend(held[2])
    del held
    assert place_of(store.hold([HEAD, b"", large(2)])[2])[0] is not block  # type: ignore[index]
    assert bytes(got) == b"\1" * LARGE
    del got
    store.trim()
    assert not store._blocks
    again = store.hold([HEAD, b"", large(3)])
    block = place_of(again[2])[0]  # type: ignore[index]
    serial = block.serial
    del again

    held = store.hold([HEAD, b"", large(4)])
    assert place_of(held[2])[0] is block  # type: ignore[index]
    assert block.serial != serial
    assert bytes(held[2]) == b"\4" * LARGE


@pytest.mark.parametrize("way", ["sender", "receiver", "both"])
def test_a_part_keeps_the_whole(way: str) -> None:
    """A slice of a view is enough to keep the block from other contents."""
    store = Store()
    held = store.hold([HEAD, b"", large(1)])
    block = place_of(held[2])[0]  # type: ignore[index]
    parts = [held[2][5:6] if way != "receiver" else b"", lend(held[2])[7:8] if way != "sender" else b""]
    del held

    assert not block.idle
    assert place_of(store.hold([HEAD, b"", large(2)])[2])[0] is not block  # type: ignore[index]
    assert {bytes(part) for part in parts} <= {b"\1", b""}
    del parts
    assert block.idle


def test_more_loans_than_can_be_counted_keep_the_block() -> None:
    """It is not used again; nothing else happens."""
    store = Store()
    held = store.hold([HEAD, b"", large(1)])
    block = place_of(held[2])[0]  # type: ignore[index]
    for _ in range(1000):
        number = block.lend()
    for _ in range(2):
        borrow(os.dup(block.fd), block.serial, number)
    del held

    assert block.lent


def test_another_block_is_not_taken_for_it() -> None:
    """A descriptor that is not the one of the message is refused, and closed."""
    store = Store()
    held = [store.hold([HEAD, b"", large(i)]) for i in (1, 2)]
    one, two = (place_of(frames[2])[0] for frames in held)  # type: ignore[index]
    fd = os.dup(one.fd)
    with pytest.raises(MemoryError):
        borrow(fd, two.serial, 0)
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    with pytest.raises(MemoryError):
        borrow(-1, two.serial, 0)


def test_where_nothing_can_be_mapped_the_receiver_has_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may have so many mappings; then the data are read."""
    held = Store().hold([HEAD, b"", large(1)])
    block = place_of(held[2])[0]  # type: ignore[index]
    real = system.map_memory

    def none_private(fd: int, size: int, *, private: bool, offset: int = 0) -> Any:
        if private:
            raise OSError(errno.ENOMEM, "no more mappings")
        return real(fd, size, private=private, offset=offset)

    monkeypatch.setattr(system, "map_memory", none_private)
    got = lend(held[2])

    assert type(got.obj) is bytearray
    assert bytes(got) == b"\1" * LARGE
    assert not block.lent


@pytest.mark.parametrize("what", ["memfd_create", "ftruncate", "pwrite"])
def test_where_there_is_no_block_to_be_had_frames_are_copied(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No memory, no descriptor, a limit on files: the data go through the stream."""

    def fails(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no")

    monkeypatch.setattr(os, what, fails)
    held = Store().hold([HEAD, b"", large(1)])

    assert type(held[2]) is bytearray
    assert held[2] == b"\1" * LARGE


def test_a_process_has_so_many_blocks_and_no_more() -> None:
    """Descriptors are for the program; what is beyond goes through the stream."""
    store = Store()
    store._most = Block.number + 3
    held = [store.hold([HEAD, b"", large(i)]) for i in range(5)]

    assert [place_of(frames[2]) is not None for frames in held] == [True] * 3 + [False] * 2
    assert [bytes(frames[2][:1])[0] for frames in held] == list(range(5))
    before = Block.number
    del held[:2]
    assert place_of(store.hold([HEAD, b"", large(9, 3 * LARGE)])[2]) is not None
    assert Block.number == before - 1  # two were let go for another one


def test_unused_memory_is_kept_within_bounds() -> None:
    """So much for the next, no more."""
    store = Store()
    store.keep = 2 * LARGE + 1000
    before = Block.number
    held = [store.hold([HEAD, b"", large(1, LARGE + i)]) for i in range(5)]
    assert Block.number - before == 5
    del held
    store.hold([HEAD, b"", large(1, 9 * LARGE)])

    assert Block.number - before == 3
    store.trim()
    assert Block.number == before


def test_after_the_end_of_a_pool_nothing_is_kept() -> None:
    """What is wanted then is given back when it is not."""
    store = Store()
    before = Block.number
    held = store.hold([HEAD, b"", large(1)])
    store.trim()
    assert bytes(held[2]) == b"\1" * LARGE
    del held

    assert Block.number == before


def test_what_was_lent_to_the_dead_is_let_go() -> None:
    """Its loans do not end; the memory is not kept for that."""
    store = Store()
    before = Block.number
    held = store.hold([HEAD, b"", large(1)])
    place_of(held[2])[0].lend()  # type: ignore[index]
    store.a_receiver_died()
    assert bytes(held[2]) == b"\1" * LARGE  # it may be sent to another
    del held

    assert Block.number == before


def test_a_forked_process_keeps_what_it_has() -> None:
    """A fork has all mappings, too: what there is then is not used again, and it gives nothing back."""
    held = blocks.store.hold([HEAD, b"", large(1)])
    lent = blocks.store.hold([HEAD, b"", large(2)])
    one, two = (place_of(frames[2])[0] for frames in (held, lent))  # type: ignore[index]
    got = lend(lent[2])
    pid = os.fork()
    if not pid:
        del got, held, lent, one, two  # ends no loan of the parent's
        gc.collect()
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert two.lent
    del held, lent, got

    assert two.lent  # the other process might have it for long
    assert not {one, two} & set(blocks.store._blocks)


# -- on the wire ------------------------------------------------------------------------


def pass_on(message: Message, room: int = 0) -> list[Message]:
    """Send *message* through a pair of sockets, between two others."""
    ours, theirs = wire.streams()
    with ours, theirs:
        if room:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, room)
        ours.setblocking(False)
        outbox, reader, found = Outbox(), Reader(), []
        small = Message(1, 0, 0, 1, [b"a", b"b"])
        outbox.send(ours, [small, message])
        outbox.send(ours, [small, message])
        while len(found) < 4:
            found += wire.read(theirs, reader)[1]
            outbox.flush(ours)
        assert not outbox
        assert [one.frames for one in found[::2]] == [small.frames] * 2
        return found[1::2]


@pytest.mark.parametrize("room", [0, 1])
def test_a_message_takes_its_blocks_along(room: int) -> None:
    """Frames of two blocks, of none, and of both in turn; in pieces, too."""
    store = Store()
    one = store.hold([HEAD, b"payload", large(1), large(2, 1000)])
    two = store.hold([HEAD, large(3), b""])
    frames = [one[0], one[1], two[1], one[2], b"x" * 70_000, two[2], one[3]]
    for found in pass_on(Message(2, 3, 4, 5, frames, 6), room):
        assert found[:4] == (2, 3, 4, 5)
        assert list(map(bytes, found.frames)) == list(map(bytes, frames))
        found.frames[2][:] = bytes(LARGE)  # type: ignore[index]
        del found
    blocks_of = [place_of(frames[i])[0] for i in (1, 2)]  # type: ignore[index]
    assert not any(block.lent for block in blocks_of)


def test_when_no_descriptor_can_be_sent_the_data_go_inline(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel allows so many under way; what is beyond loses time and nothing else."""
    frames = Store().hold([HEAD, b"payload", large(1)])

    class Full(socket.socket):
        def sendmsg(self, buffers: Any, ancillary: Any = (), *rest: Any) -> int:
            if ancillary:
                raise OSError(errno.ETOOMANYREFS, "too many references")
            return super().sendmsg(buffers, ancillary, *rest)

    monkeypatch.setattr(wire, "streams", lambda: tuple(Full(fileno=one.detach()) for one in socket.socketpair()))
    for found in pass_on(Message(2, 3, 4, 5, frames)):
        assert list(map(bytes, found.frames)) == list(map(bytes, frames))
        assert type(found.frames[2]) is bytearray


def test_a_message_whose_descriptor_was_not_taken_is_lost_and_no_other() -> None:
    """Who has no descriptor left is told so; the stream goes on."""
    frames = Store().hold([HEAD, b"payload", large(1)])
    ours, theirs = wire.streams()
    with ours, theirs:
        Outbox().send(ours, [Message(2, 3, 4, 5, frames), Message(1, 0, 0, 6, [b"a", b"b"])])
        reader = Reader()
        n = theirs.recv_into(reader.target())  # which drops descriptors
        found = reader.took(n)
        if len(found) < 2:
            found += wire.read(theirs, reader)[1]

    assert [(one.task, one.lost) for one in found] == [(5, len(frames[2])), (6, 0)]
    assert found[0].frames == []


def test_a_reader_closes_what_nobody_has_asked_for() -> None:
    """Descriptors of a message that broke off."""
    fds = [os.dup(0), os.dup(0)]
    reader = Reader()
    reader.took(3, fds)
    reader.close()

    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
