"""A ``DataLoader`` with two spawned workers, whose dataset holds what spawn does not take: singly, and all at once."""

from __future__ import annotations

import gc
import logging
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import safemp

try:
    import h5py
    import lmdb
    import numpy as np
    import torch
    from torch.utils.data import DataLoader
except ImportError:
    h5py = lmdb = np = torch = DataLoader = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(torch is None, reason="wants the torch, h5py and lmdb packages"),
    pytest.mark.timeout(180),  # each process imports torch first
]

REOPEN = ("all", "reopen")
ROWS = 10


class Kind(NamedTuple):
    """Something that a dataset holds."""

    make: Callable[[Path], Any]
    use: Callable[[Any, int], float]
    """What one item is, made by means of it."""
    stock: str
    """What the standard library says of it, in part."""
    fix: str = ""
    """A part of what safemp says, as long as it is not told to open things again."""


def held(_: Path) -> Any:
    """Return a lock that this thread holds."""
    lock = threading.RLock()
    lock.acquire()
    return lock


def database(folder: Path) -> Any:
    """Connect to a database of squares."""
    connection = sqlite3.connect(folder / "squares.sqlite")
    connection.execute("create table if not exists squares (i, square)")
    connection.executemany("insert into squares values (?, ?)", [(i, i * i) for i in range(ROWS)])
    connection.commit()
    return connection


def hdf5(folder: Path) -> Any:
    """Open a file of cubes for reading."""
    with h5py.File(folder / "cubes.h5", "w") as file:
        file["cubes"] = np.arange(ROWS) ** 3
    return h5py.File(folder / "cubes.h5", "r")


def environment(folder: Path) -> Any:
    """Open an lmdb environment of words."""
    opened = lmdb.open(str(folder / "words.lmdb"), map_size=1 << 20)
    with opened.begin(write=True) as transaction:
        for i in range(ROWS):
            transaction.put(b"%d" % i, b"x" * i)
    return opened


def word(opened: Any, i: int) -> float:
    """Return the length of a word."""
    with opened.begin() as transaction:
        return len(transaction.get(b"%d" % i))


def free(lock: Any, i: int) -> float:
    """Return -1 for a lock that somebody else holds."""
    if not lock.acquire(blocking=False):
        return -1
    lock.release()
    return i


def transform(_: Path) -> Any:
    """Return a function without a name."""
    return lambda x: 3 * x


SWITCH = 'give repairs=("all", "reopen"), and it is opened again there; or '

KINDS = {
    "handler": Kind(
        lambda _: logging.StreamHandler(), lambda it, i: it.level + i, "cannot pickle '_thread.RLock' object"
    ),
    "logger": Kind(lambda _: logging.Logger("mine", 10), lambda it, i: it.level + i, "logger cannot be pickled"),
    "free lock": Kind(lambda _: threading.RLock(), free, "cannot pickle '_thread.RLock' object"),
    "held lock": Kind(held, free, "cannot pickle '_thread.RLock' object"),
    "transform": Kind(transform, lambda it, i: it(i), "Can't pickle local object 'transform.<locals>.<lambda>'"),
    "database": Kind(
        database,
        lambda it, i: it.execute("select square from squares where i = ?", (i,)).fetchone()[0],
        "cannot pickle 'sqlite3.Connection' object",
        f"{SWITCH}send the file's path, and connect in the task",
    ),
    "hdf5": Kind(
        hdf5,
        lambda it, i: it["cubes"][i],
        "h5py objects cannot be pickled",
        f"{SWITCH}send the path, and open the file in the task",
    ),
    "lmdb": Kind(
        environment,
        word,
        "cannot pickle 'Environment' object",
        f"{SWITCH}send its path(), and open it in the task",
    ),
}


class Held:
    """A dataset whose items are made by means of what it holds."""

    def __init__(self, things: dict[str, Any]) -> None:
        self.things = things

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, index: int) -> Any:
        return torch.tensor([float(KINDS[name].use(thing, index)) for name, thing in self.things.items()])


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Held]]:
    """Make a dataset that holds things by name; they are closed afterwards."""
    made: list[Held] = []

    def make(*names: str) -> Held:
        made.append(Held({name: KINDS[name].make(tmp_path) for name in names}))
        return made[-1]

    yield make
    for dataset in made:
        for thing in dataset.things.values():
            getattr(thing, "close", lambda: None)()
        dataset.things.clear()
    gc.collect()


def batches(dataset: Any, context: Any = None) -> list[Any]:
    """Return its batches: made here, or by two processes of a context."""
    workers = {"num_workers": 2, "multiprocessing_context": context} if context is not None else {}
    return list(DataLoader(dataset, batch_size=4, **workers))


def equal(some: list[Any], others: list[Any]) -> bool:
    """Tell whether batches are equal."""
    return len(some) == len(others) == 3 and all(map(torch.equal, some, others))


def stock_fails(dataset: Any, text: str) -> None:
    """Check that stock spawn fails, in these words."""
    with (
        pytest.warns(UserWarning, match="pickle error"),
        pytest.raises(Exception, match=re.escape(text)),
    ):
        batches(dataset, "spawn")


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not kind.fix])
def test_it_travels(make: Callable[..., Held], name: str) -> None:
    """Unasked: its batches are the serial ones."""
    dataset = make(name)
    stock_fails(dataset, KINDS[name].stock)

    assert equal(batches(dataset, safemp.get_context("spawn")), batches(dataset))


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.fix])
def test_it_is_opened_again_on_request(make: Callable[..., Held], name: str) -> None:
    """Without the request it is refused by its name, with how to make it; with it its batches are the serial ones."""
    dataset = make(name)
    stock_fails(dataset, KINDS[name].stock)
    with pytest.warns(UserWarning, match="pickle error"), pytest.raises(safemp.PreflightError) as refused:
        batches(dataset, safemp.get_context("spawn"))

    assert [culprit.path for culprit in refused.value.culprits] == [f"args[1].things[{name!r}]"]
    assert refused.value.culprits[0].fix.startswith(KINDS[name].fix)
    assert equal(batches(dataset, safemp.get_context("spawn", repairs=REOPEN)), batches(dataset))


def test_all_of_it_at_once(make: Callable[..., Held]) -> None:
    """What has to be opened again is named, all of it; on request all of it travels."""
    dataset = make(*KINDS)
    stock_fails(dataset, KINDS["handler"].stock)
    with pytest.warns(UserWarning, match="pickle error"), pytest.raises(safemp.PreflightError) as refused:
        batches(dataset, safemp.get_context("spawn"))

    named = [culprit.path for culprit in refused.value.culprits]
    assert named == [f"args[1].things[{name!r}]" for name in ("database", "hdf5", "lmdb")]
    assert equal(batches(dataset, safemp.get_context("spawn", repairs=REOPEN)), batches(dataset))


def test_that_a_lock_was_held_is_said(make: Callable[..., Held], caplog: pytest.LogCaptureFixture) -> None:
    """In the report, and in the log of repairs."""
    caplog.set_level(logging.DEBUG, "safemp.repairs")
    dataset = make("held lock")
    says = "it is held here; a lock protects the memory of one process; the copy gets its own, unlocked"
    (told,) = safemp.inspect(dataset).repairs
    assert (told.path, told.kind, told.why) == ("obj.things['held lock']", "rebuild", says)
    assert equal(batches(dataset, safemp.get_context("spawn")), batches(dataset))

    assert [r.getMessage() for r in caplog.records if "held lock" in r.getMessage()] == [
        f"repaired args[1].things['held lock'], _thread.RLock: rebuild: {says}"
    ]


@pytest.mark.parametrize(
    ("thing", "reason", "fix"),
    [
        ("memory", "a sqlite3 connection to memory", "send list(connection.iterdump())"),
        (
            "writing",
            "an h5py file that is open for writing",
            'close() it, and open it for reading: h5py.File(path, "r")',
        ),
    ],
)
def test_what_cannot_be_opened_again_is_refused(tmp_path: Path, thing: str, reason: str, fix: str) -> None:
    """Asked or not: it is named, with what to do instead."""
    with h5py.File(tmp_path / "file.h5", "w"):
        pass
    made = sqlite3.connect(":memory:") if thing == "memory" else h5py.File(tmp_path / "file.h5", "r+")
    try:
        for repairs in ("all", REOPEN):
            context = safemp.get_context("spawn", repairs=repairs)
            with pytest.warns(UserWarning, match="pickle error"), pytest.raises(safemp.PreflightError) as refused:
                batches(Held({"database": made}), context)

            (culprit,) = refused.value.culprits
            assert culprit.path == "args[1].things['database']"
            assert culprit.fix.startswith(fix)
            assert repairs == "all" or reason in culprit.reason
    finally:
        made.close()
