"""What a report and the log tell of repairs is what was done, and what goes by a name is honest."""

from __future__ import annotations

import contextvars
import functools
import io
import logging
import multiprocessing
import re
import socket
import sys
import threading
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import safemp
from safemp.codec import calls
from tests.support import jobs


class Holder:
    def __init__(self, *held: Any) -> None:
        self.held = held


class Own:
    """Has a rule of the program's own."""

    def __reduce__(self) -> Any:
        raise TypeError("no")


def refers_to_itself() -> Holder:
    made = Holder()
    made.held = (weakref.ref(made),)
    return made


def held_lock() -> Any:
    lock = threading.Lock()
    lock.acquire()
    return lock


@pytest.fixture
def module() -> Iterator[types.ModuleType]:
    """A module whose attributes a test may add to; they are taken away again."""
    before = set(vars(jobs))
    yield jobs
    for name in set(vars(jobs)) - before:
        delattr(jobs, name)


TOLD: dict[str, tuple[Callable[[], Any], str, str]] = {
    "a lock": (threading.Lock, "rebuild", "the copy gets its own"),
    "a held lock": (held_lock, "rebuild", "it is held here"),
    "an event": (threading.Event, "rebuild", "inside an object"),
    "a view": (lambda: {"a": 1}.keys(), "rebuild", "a dict of its own"),
    "a proxy": (lambda: types.MappingProxyType({1: 2}), "rebuild", "read-only view"),
    "a match": (lambda: re.match("a", "ab"), "rebuild", "matching again"),
    "a context variable": (lambda: contextvars.ContextVar("nobodys", default=1), "rebuild", "no module has it"),
    "a cache": (lambda: functools.lru_cache(lambda: 1), "rebuild", "begins with an empty cache"),
    "a standard stream": (lambda: sys.__stderr__, "by name", "standard stream"),
    "a module": (lambda: re, "by name", "imports the same module"),
    "a file handler": (lambda: logging.FileHandler("nowhere", delay=True), "reconstruct", "appends to the same file"),
}


@pytest.mark.parametrize("name", TOLD)
def test_a_repair_is_told_with_its_kind_and_why(name: str) -> None:
    """Each object with a rule is in the report, with the kind of repair and the sentence."""
    make, kind, why = TOLD[name]
    held = make()
    report = safemp.inspect(Holder(held))

    (told,) = [repair for repair in report.repairs if repair.get() is held]
    assert report.ok
    assert told.kind == kind
    assert why in told.why
    assert not told.needs_safemp


@pytest.mark.parametrize("plain", [len, [].append, object(), logging.getLogger("known"), print, io.BytesIO(b"x")])
def test_what_plain_pickle_does_is_no_repair(plain: Any) -> None:
    """Having a rule for the type is not enough to be listed."""
    report = safemp.inspect([plain])

    assert report.ok
    assert report.repairs == ()


def test_a_weak_reference_is_told_as_it_is() -> None:
    """It is a repair where its referent travels on its own, and a culprit where not."""
    whole = refers_to_itself()
    assert [r.kind for r in safemp.inspect(whole).repairs] == ["rebuild"]

    (culprit,) = safemp.inspect([weakref.ref(whole)]).culprits
    assert "would be dead when it arrives" in culprit.reason


def test_an_event_that_is_handed_over_is_a_culprit() -> None:
    """As in a call: nobody would hear the copy."""
    (culprit,) = safemp.inspect([threading.Event()]).culprits

    assert "there to talk to others" in culprit.reason
    assert "Manager().Event()" in culprit.fix


def test_a_lock_of_a_module_goes_by_name(module: Any) -> None:
    """The worker uses the lock that its own module has, and the report says so."""
    module.lock_of_this_test = threading.Lock()
    (told,) = safemp.inspect(Holder(module.lock_of_this_test)).repairs

    assert (told.kind, told.needs_safemp) == ("by name", False)


def test_by_name_and_weakly_at_once(module: Any) -> None:
    """What is looked up in a module is no obstacle to a weak reference beside it."""
    module.rows_of_this_test = (i for i in ())
    whole = refers_to_itself()
    whole.held += (module.rows_of_this_test,)

    (sent,) = calls.decode_call(calls.encode_call(jobs.square, (whole,), {})).args
    assert sent.held[0]() is sent
    assert sent.held[1] is module.rows_of_this_test
    assert safemp.inspect(whole).ok


def test_what_is_shared_is_not_looked_up_by_name(module: Any) -> None:
    """The worker's module makes a lock of its own, which would protect nothing; so too an event."""
    module.shared_of_this_test = multiprocessing.get_context("spawn").Lock()
    module.event_of_this_test = threading.Event()
    for thing in (module.shared_of_this_test, module.event_of_this_test):
        with pytest.raises(safemp.PreflightError) as caught:
            calls.encode_call(jobs.square, (thing,), {})

        assert [c.path for c in caught.value.culprits] == ["args[0]"]
        assert not safemp.inspect(thing).ok


def test_a_rule_of_ones_own_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The log tells what this pool's ``repairs=`` does, and not what another's would."""
    caplog.set_level(logging.DEBUG, "safemp.repairs")
    with safemp.SafeExecutor(1, engine="inline", repairs={Own: lambda _: (Holder, ())}) as executor:
        executor.submit(jobs.take, Holder(Own(), threading.Lock())).result(30)
    told = [record.message for record in caplog.records]

    assert any("Own: reconstruct: a rule of this program's own" in line for line in told)


def test_a_socket_of_a_module_is_logged(module: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What was looked up by name, since it cannot be copied, is logged as every repair is."""
    caplog.set_level(logging.DEBUG, "safemp.repairs")
    with socket.socket() as module.conn_of_this_test:
        calls.encode_call(jobs.square, ([module.conn_of_this_test],), {})
    told = [record.message for record in caplog.records if "socket" in record.message]

    assert len(told) == 1
    assert told[0].startswith("repaired args[0][0], socket.socket: by name: ")
