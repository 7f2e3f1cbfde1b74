"""What is handed over at a process's start: recognised, numbered, kept, and given back."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import socket
import sys
import types
import weakref
from multiprocessing.context import get_spawning_popen
from typing import Any

import pytest

from safemp.codec import calls
from safemp.codec.inheritance import NotInheritedError, bound_kind, given, heirloom
from safemp.codec.known_classes import KnownClasses
from safemp.engines import handover, inherit

multiprocessing.RawArray("b", 1 << 16)  # multiprocessing's heap, which lives as long as the process

SPAWN = multiprocessing.get_context("spawn")


def nothing(*_: Any) -> None: ...


class Sees:
    """Tells, when it is pickled, whether that is for a process that is being spawned."""

    def __reduce__(self) -> Any:
        return str, (get_spawning_popen() is not None,)


def test_a_class_that_lies_about_its_name_is_not_known() -> None:
    """A class is recognised by identity; a namesake and a stranger are not."""
    liar = type("SemLock", (), {"__module__": "multiprocessing.synchronize"})

    assert bound_kind(liar) is None
    assert heirloom(type(SPAWN.Lock())) == ("multiprocessing.synchronize", "SemLock")
    assert heirloom(type("Mine", (type(SPAWN.Lock()),), {})) == ("multiprocessing.synchronize", "SemLock")


def test_a_class_is_known_as_soon_as_its_module_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when the module was seen before its class was defined in it, as during its import."""
    known = KnownClasses([("safemp_test_late", "Late")])
    module = types.ModuleType("safemp_test_late")
    late = type("Late", (), {})

    assert known.name_of(late) is None
    monkeypatch.setitem(sys.modules, "safemp_test_late", module)
    assert known.name_of(late) is None
    vars(module)["Late"] = late
    assert known.name_of(late) == ("safemp_test_late", "Late")
    assert known.name_of(type("Below", (late,), {})) == ("safemp_test_late", "Late")


def test_what_is_collected_is_given_back() -> None:
    """Descriptors are closed and objects forgotten when no worker will be started any more."""
    reader, writer = SPAWN.Pipe(duplex=False)
    lock = SPAWN.Lock()
    alive = weakref.ref(lock)
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    _, inherited = handover.encode_start(nothing, (lock, writer, SPAWN.Value("i")), method="loky", by_name=False)
    share = inherited.share()

    assert len(share.fds) == 2, "the pipe, and the memory of the value"
    assert not share.objects
    assert given[id(lock)][0] is lock
    writer.close()
    del lock
    gc.collect()
    assert alive() is not None
    inherited.release()
    inherited.release()
    gc.collect()
    assert alive() is None
    assert not given
    with pytest.raises(EOFError):
        reader.recv()
    reader.close()
    assert set(os.listdir("/proc/self/fd")) <= before if before else True


def test_a_pool_that_was_never_made_gives_back_too() -> None:
    """What is dropped before any engine had it is released when it is collected."""
    reader, writer = SPAWN.Pipe(duplex=False)
    _, inherited = handover.encode_start(nothing, (writer,), method="spawn", by_name=True)
    writer.close()
    del inherited
    gc.collect()

    with pytest.raises(EOFError):
        reader.recv()
    reader.close()


def test_what_needs_nothing_is_given_nothing() -> None:
    """Ordinary arguments neither open a descriptor nor are kept alive."""

    class Thing:
        pass

    thing = Thing()
    alive = weakref.ref(thing)
    _, inherited = handover.encode_start(nothing, (thing, [1, {"a": 2}]), method=None, by_name=False)
    del thing
    gc.collect()

    assert inherited.share() == inherit.NOTHING
    assert not inherited.wants_fork
    assert alive() is None


def test_only_what_is_handed_over_sees_a_process_being_spawned() -> None:
    """The arguments around it are pickled as in any other call, and the thread is left as it was."""
    lock = SPAWN.Lock()
    frames, inherited = handover.encode_start(nothing, (Sees(), lock), method="loky", by_name=False)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inherit.receive(theirs, inherited.share())
    seen, received = calls.decode_call(frames).args

    assert get_spawning_popen() is None
    assert seen == "False"
    assert received is not lock
    assert received.acquire(block=False)
    assert not lock.acquire(block=False)
    inherit.receive(theirs, inherit.NOTHING)


def test_descriptors_go_through_a_socket_in_any_number() -> None:
    """More of them than the kernel takes at once arrive, in order, and belong to who asks."""
    pipes = [SPAWN.Pipe(duplex=False) for _ in range(200)]
    frames, inherited = handover.encode_start(nothing, (pipes,), method="loky", by_name=False)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        inherited.send(ours)
        inherit.receive(theirs, inherited.share())
    (received,) = calls.decode_call(frames).args
    for i, (_, writer) in enumerate(received):
        writer.send(i)

    assert [reader.recv() for reader, _ in pipes] == list(range(200))
    for reader, writer in [*pipes, *received]:
        reader.close()
        writer.close()
    inherit.receive(theirs, inherit.NOTHING)


def test_a_caller_that_is_gone_is_noticed() -> None:
    """A worker does not wait for descriptors that nobody will send."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.close()
        with pytest.raises(EOFError):
            inherit.receive(theirs, inherit.Share((1, 2), {}, b""))


def test_a_number_that_was_not_handed_over_is_an_error() -> None:
    """It says that the pool is another one."""
    with pytest.raises(NotInheritedError, match="workers of another pool"):
        inherit.take(0)


def test_the_error_pickles() -> None:
    """With its advice."""
    copy = pickle.loads(pickle.dumps(NotInheritedError("why", "what to type")))

    assert (str(copy), copy.fix) == ("why", "what to type")
