"""Files of h5py and environments of lmdb: opened again in a worker on request, refused where that is not honest."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import safemp

h5py = pytest.importorskip("h5py", reason="wants the h5py package")
lmdb = pytest.importorskip("lmdb", reason="wants the lmdb package")

REOPEN = ("all", "reopen")


@pytest.fixture(scope="module")
def executor() -> Iterator[safemp.SafeExecutor]:
    """One worker for the module: lmdb wants no environment open twice in one process."""
    with safemp.SafeExecutor(1, repairs=REOPEN) as executor:
        yield executor


def refusal(obj: Any, repairs: Any = REOPEN) -> Any:
    """Return the one culprit for which *obj* is refused; plain pickle refuses it, too."""
    with pytest.raises((TypeError, pickle.PicklingError)):
        pickle.dumps(obj)
    with pytest.raises(safemp.PreflightError) as caught:
        safemp.dumps({"it": obj}, repairs=repairs)
    (culprit,) = caught.value.culprits
    assert culprit.path == "obj['it']"
    return culprit


# -- h5py -------------------------------------------------------------------------------


@pytest.fixture
def hdf5(tmp_path: Path) -> Path:
    """Return the path of a file."""
    with h5py.File(tmp_path / "file.h5", "w") as file:
        file["squares"] = [0, 1, 4, 9]
        file["group/cubes"] = [0, 1, 8]
    return tmp_path / "file.h5"


def read(node: Any) -> tuple[Any, ...]:
    """Tell what a file, a group or a dataset is here, and what is in it; close its file."""
    with node.file as file:
        inside = node[:].tolist() if isinstance(node, h5py.Dataset) else sorted(node)
        return node.name, inside, file.mode, file.driver, file.swmr_mode, *file.id.get_access_plist().get_cache()


@pytest.mark.parametrize("name", ["/", "group", "squares", "group/cubes"])
def test_an_hdf5_file_is_opened_again(executor: safemp.SafeExecutor, hdf5: Path, name: str) -> None:
    """With what is in it, and with its options; the file here stays open."""
    options = {"driver": "stdio", "rdcc_nbytes": 4 << 20, "rdcc_nslots": 1009, "rdcc_w0": 0.5}
    with h5py.File(hdf5, "r", **options) as file:
        node = file if name == "/" else file[name]
        assert refusal(node, "all").fix.startswith('give repairs=("all", "reopen"), and it is opened again there')
        there = executor.submit(read, node).result(60)

        assert there == read(node)


def test_it_is_opened_where_it_is(executor: safemp.SafeExecutor, hdf5: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it was opened by a path that begins in the directory of this process."""
    monkeypatch.chdir(hdf5.parent)
    with h5py.File("file.h5", "r") as file:
        assert executor.submit(read, file).result(60)[:2] == ("/", ["group", "squares"])


@pytest.mark.parametrize("mode", ["r+", "a", "w", "x"])
def test_an_hdf5_file_for_writing_is_refused(tmp_path: Path, mode: str) -> None:
    """So is what is in it."""
    path = tmp_path / "written.h5"
    if mode == "r+":
        h5py.File(path, "w").close()
    with h5py.File(path, mode) as file:
        group = file.require_group("group")
        culprit = refusal(file)

        assert culprit.reason == "cannot pickle an h5py file that is open for writing: two would write over each other"
        assert culprit.fix == 'close() it, and open it for reading: h5py.File(path, "r")'
        with pytest.raises(safemp.PreflightError, match="open for writing"):
            safemp.dumps(group, repairs=REOPEN)


def test_what_is_no_file_of_its_own_is_refused(hdf5: Path) -> None:
    """A closed one, what was in it, and one that is made of another open file."""
    file = h5py.File(hdf5, "r")
    dataset = file["squares"]
    file.close()
    assert refusal(file).reason == "cannot pickle a closed h5py file"
    assert refusal(dataset).reason == "cannot pickle an h5py object that has no name in an open file"
    with hdf5.open("rb") as raw, h5py.File(raw, "r") as file:
        assert refusal(file).reason == "cannot pickle an h5py file of driver 'fileobj': it is more than its path"


# -- lmdb -------------------------------------------------------------------------------


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Any]:
    """Open one with two databases, one of which has a name."""
    with lmdb.open(str(tmp_path / "words.lmdb"), map_size=1 << 20, max_readers=7, max_dbs=1) as environment:
        capitals = environment.open_db(b"capitals")
        with environment.begin(write=True) as transaction:
            transaction.put(b"word", b"here")
            transaction.put(b"Peru", b"Lima", db=capitals)
        yield environment


def look(environment: Any, write: bool = False) -> tuple[Any, ...]:
    """Tell what is in an environment, and what it was opened with; write into it if asked."""
    capitals = environment.open_db(b"capitals")
    with environment.begin(write=write) as transaction:
        found = transaction.get(b"word"), transaction.get(b"Peru", db=capitals)
        if write:
            transaction.put(b"word", b"there")
    info = environment.info()
    return *found, environment.path(), environment.flags(), info["map_size"], info["max_readers"]


def look_and_close(environment: Any, write: bool) -> tuple[Any, ...]:
    """Do the same in a worker."""
    with environment:
        return look(environment, write)


def test_an_environment_is_opened_again(executor: safemp.SafeExecutor, environment: Any) -> None:
    """With its options; what is written there is read here."""
    assert refusal(environment, "all").fix.startswith('give repairs=("all", "reopen"), and it is opened again there')
    there = executor.submit(look_and_close, environment, True).result(60)

    assert there == (b"here", b"Lima", *look(environment)[2:])
    assert look(environment)[0] == b"there"


def test_one_for_reading_without_locks_is_opened_again(executor: safemp.SafeExecutor, environment: Any) -> None:
    """As datasets for training have it."""
    path = environment.path()
    environment.close()
    with lmdb.open(path, readonly=True, lock=False, readahead=False, max_dbs=1) as reading:
        assert executor.submit(look_and_close, reading, False).result(60) == look(reading)


def test_what_would_not_be_safe_is_refused(tmp_path: Path, environment: Any) -> None:
    """Two that write without locks; one that is closed; what lives in one process."""
    with environment.begin() as transaction, transaction.cursor() as cursor:
        for obj in (transaction, cursor):
            assert refusal(obj).fix == "send the environment, and begin() in the task"
        assert refusal(environment.open_db(b"capitals", txn=transaction)).fix.startswith("send the environment")
    environment.close()
    assert refusal(environment).reason == "cannot pickle a closed lmdb environment"
    with lmdb.open(str(tmp_path / "alone.lmdb"), map_size=1 << 20, lock=False) as alone:
        culprit = refusal(alone)

        assert culprit.reason == "cannot pickle an lmdb environment that is open for writing without locks"
        assert culprit.fix == "open it with readonly=True, or without lock=False"


def test_the_report_opens_nothing(environment: Any) -> None:
    """Lmdb refuses, or loses its locks, if one process opens an environment twice."""
    report = safemp.inspect(environment, repairs=REOPEN)

    assert report.ok
    assert [repair.kind for repair in report.repairs] == ["reopen"]
    assert look(environment)[:2] == (b"here", b"Lima")
