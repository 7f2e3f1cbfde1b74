"""What every test gets: a leak check, a time limit, and the engines to run over.

A test that leaves a child process, a thread, an open file or an entry in
``/dev/shm`` fails, whatever else it has shown. Things get five seconds to go away
by themselves. Three are meant to outlive a test: the resource trackers and the fork
server (one of each per interpreter), safemp's process-wide executor (closed here
after each test), and an executor that a fixture of wider scope keeps open. While
there is one of those, the check waits for the end of the module.
"""

from __future__ import annotations

import gc
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.dropin.counts import pytest_terminal_summary  # noqa: F401 - a hook, for which this is the place

SETTLE = 5.0
"""Seconds that a thing gets to go away. Picked, not measured."""

settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", parent=settings.get_profile("dev"), derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a script. What the tests start would ignore Ctrl-C, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ENGINES = ("inline", "local")


@pytest.fixture(scope="session", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of an engine, for ``SafeExecutor(engine=...)``; the test runs once per engine."""
    return str(request.param)


# -- what is alive -------------------------------------------------------------


@dataclass(frozen=True)
class Alive:
    """What this process owns, each as text that a reader of the failure can use."""

    children: frozenset[str]
    threads: frozenset[str]
    files: frozenset[str]
    shm: frozenset[str]

    def left_since(self, before: Alive) -> list[str]:
        """Return one line for each thing that is here and was not in *before*."""
        there = {_pid(child) for child in before.children}  # by now it sleeps, or runs another program
        left = [f"children: {one}" for one in sorted(self.children) if _pid(one) not in there]
        kinds = ("threads", "files", "shm")
        return left + [
            f"{kind}: {one}" for kind in kinds for one in sorted(getattr(self, kind) - getattr(before, kind))
        ]


def _pid(child: str) -> str:
    return child.split()[1]


def _long_lived() -> tuple[set[int], set[int]]:
    """Return the pids and the file descriptors that one interpreter keeps to its end."""
    pids: set[int | None] = set()
    fds: set[int | None] = set()
    loky = "loky.backend.resource_tracker"
    for name in ("multiprocessing.resource_tracker", loky, f"joblib.externals.{loky}"):
        tracker = getattr(sys.modules.get(name), "_resource_tracker", None)
        pids.add(getattr(tracker, "_pid", None))
        fds.add(getattr(tracker, "_fd", None))
    server = getattr(sys.modules.get("multiprocessing.forkserver"), "_forkserver", None)
    pids.add(getattr(server, "_forkserver_pid", None))
    fds.add(getattr(server, "_forkserver_alive_fd", None))
    return {pid for pid in pids if pid}, {fd for fd in fds if fd is not None}


def _children() -> dict[int, str]:
    """Return this process's children by pid, zombies too (Linux; elsewhere none)."""
    found = {}
    for entry in os.listdir("/proc") if os.path.isdir("/proc/self") else []:
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                name, _, rest = stat.read().partition("(")[2].rpartition(")")
            with open(f"/proc/{entry}/cmdline", encoding="utf-8", errors="replace") as cmdline:
                command = cmdline.read().replace("\0", " ").strip()
        except OSError:  # it has ended while we looked
            continue
        state, parent = rest.split()[:2]
        if int(parent) == os.getpid():
            found[int(entry)] = f"pid {entry} ({state}) {command[:120] or name}"
    return found


def _files(ours: set[int]) -> set[str]:
    found = set()
    for entry in os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []:
        try:
            target = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:  # the descriptor of this very listing
            continue
        if int(entry) not in ours:
            found.add(f"{entry} -> {target}")
    return found


_WHOLE_NUMBERS = re.compile(r"(?<![0-9A-Za-z])\d+(?![0-9A-Za-z])")


def _shm() -> set[str]:
    """Return what is in ``/dev/shm``.

    In CI that is all of it. Elsewhere, and where tests run in several processes, others
    use it as well: what does not carry the pid of a process of ours is left out, so a
    leak of a dead child may be missed.
    """
    try:
        entries = set(os.listdir("/dev/shm"))
    except OSError:
        return set()
    if os.environ.get("CI") and "PYTEST_XDIST_WORKER" not in os.environ:
        return entries
    mine = {str(os.getpid()), *map(str, _children())}
    # Between separators: of a random ``mp-v5y327kr`` the 327 is nobody's pid.
    return {entry for entry in entries if (pids := _WHOLE_NUMBERS.findall(entry)) and mine.issuperset(pids)}


def _alive() -> Alive:
    pids, fds = _long_lived()
    return Alive(
        children=frozenset(text for pid, text in _children().items() if pid not in pids),
        threads=frozenset(f"{t.name} ({'daemon' if t.daemon else 'not daemon'})" for t in threading.enumerate()),
        files=frozenset(_files(fds)),
        shm=frozenset(_shm()),
    )


def _leaks(before: Alive) -> list[str]:
    """Return what is left since *before*, after giving it time to go away."""
    maps = sys.modules.get("safemp.maps")
    if maps is not None:
        maps.close_shared()
    left = _alive().left_since(before)
    deadline = time.monotonic() + SETTLE
    while left and time.monotonic() < deadline:
        gc.collect()  # a pool that was forgotten rather than closed ends when it is collected
        if "multiprocessing.process" in sys.modules:
            sys.modules["multiprocessing.process"].active_children()  # reaps what has ended
        time.sleep(0.02)
        left = _alive().left_since(before)
    return left


# -- the check -----------------------------------------------------------------

_kept_open: list[Any] = []
"""The executors that fixtures wider than one test hold at this moment."""


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, Any, Any]:
    """Remember executors that fixtures wider than one test keep open."""
    value = yield
    if fixturedef.scope != "function" and _is_pool(value):
        _kept_open.append(value)
        fixturedef.addfinalizer(lambda: _kept_open.remove(value))
    return value


def _is_pool(value: object) -> bool:
    return hasattr(value, "shutdown") or hasattr(value, "terminate")


_unchecked: set[str] = set()
"""Modules with a test that could not be checked by itself."""


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_by_module(request: pytest.FixtureRequest) -> Iterator[None]:
    before = _alive()
    yield
    if request.node.nodeid in _unchecked and (left := _leaks(before)):
        pytest.fail("this module has left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture(autouse=True)
def _nothing_left_by_test(request: pytest.FixtureRequest) -> Iterator[None]:
    shared = bool(_kept_open)
    before = _alive()
    yield
    request.node.funcargs.clear()  # or they would live until after the fixtures of the module
    if shared or _kept_open:
        _unchecked.add(request.node.getparent(pytest.Module).nodeid)
    elif left := _leaks(before):
        pytest.fail("this test has left behind:\n  " + "\n  ".join(left), pytrace=False)
