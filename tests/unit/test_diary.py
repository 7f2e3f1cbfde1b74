"""Diaries of workers: what is there when a process has ended, and what is not."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from uuid import uuid4

import pytest

from safemp.engines import diary
from safemp.engines.diary import Diary, look_up, parse
from tests.support.child import until


@pytest.fixture
def token() -> Iterator[str]:
    """An engine of one test."""
    token = uuid4().hex
    yield token
    diary.clear(token)


def test_it_tells_how_far_an_errand_has_come(token: str) -> None:
    """Begun, loaded, the outcomes so far; of each errand by itself, and of no other."""
    mine = Diary(token)
    assert look_up(token, "1") is None
    mine.begin("1")
    found = look_up(token, "1")
    assert found
    assert parse(found) == diary.Entry(False, [], alive=True)
    mine.loaded()
    mine.finished([b"header", b"payload", bytearray(b"buffer")])
    mine.finished([b"header", bytes(1 << 20)])
    mine.begin("11")
    mine.loaded()

    assert parse(look_up(token, "1") or b"") == diary.Entry(
        True, [[b"header", b"payload", b"buffer"], None], alive=True
    )
    assert parse(look_up(token, "11") or b"") == diary.Entry(True, [], alive=True)
    assert look_up(token, "2") is None
    assert look_up(uuid4().hex, "1") is None


def test_it_tells_whether_who_wrote_it_is_alive(token: str) -> None:
    """A zombie is not."""
    begun, release = os.pipe()
    pid = os.fork()
    if not pid:
        Diary(token).begin("5")
        os.write(release, b"x")
        time.sleep(600)
        os._exit(0)
    os.read(begun, 1)
    os.close(begun)
    os.close(release)
    alive = parse(look_up(token, "5") or b"").alive
    os.kill(pid, signal.SIGKILL)
    try:
        assert alive
        assert until(lambda: not parse(look_up(token, "5") or b"").alive)
    finally:
        os.waitpid(pid, 0)
    assert parse(look_up(token, "5") or b"") == diary.Entry(False, [])


def test_what_is_cut_short_was_not_finished(token: str) -> None:
    """Wherever the end comes, nothing is read that is not whole."""
    mine = Diary(token)
    mine.begin("7")
    mine.loaded()
    for n in range(3):
        mine.finished([b"%d" % n, b"x" * 50])
    whole = look_up(token, "7") or b""

    for end in range(len(whole)):
        outcomes = parse(whole[:end]).outcomes
        assert outcomes == [[b"%d" % n, b"x" * 50] for n in range(len(outcomes))]
    assert len(parse(whole).outcomes) == 3


def test_it_does_not_grow_for_ever(token: str) -> None:
    """What was begun long ago is forgotten; what has just been is not."""
    mine = Diary(token)
    for n in range(200):
        mine.begin(str(n))
        mine.loaded()
        mine.finished([b"header", bytes(20_000)])

    assert look_up(token, "0") is None
    assert all(len(parse(look_up(token, str(n)) or b"").outcomes) == 1 for n in range(190, 200))


def test_each_thread_and_each_process_has_its_own(token: str) -> None:
    """What one has written that has ended stays; a forked child leaves its parent's alone."""
    here = diary.of_this_thread(token)
    assert diary.of_this_thread(token) is here
    others: list[bool] = []

    def other() -> None:
        made = diary.of_this_thread(token)
        made.begin("other")
        others.append(made is not here and look_up(token, "other") is not None)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert others == [True]
    assert look_up(token, "other") is not None

    here.begin("parent")
    pid = os.fork()
    if pid == 0:
        diary.of_this_thread(token).begin("child")
        os._exit(0)
    os.waitpid(pid, 0)
    assert look_up(token, "parent") is not None
    assert look_up(token, "child") is not None
    diary._here.diary = None
