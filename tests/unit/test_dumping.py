"""``dumps``, ``register``, ``repairs=`` and ``repairing``: the repairs for whoever has a transport already."""

from __future__ import annotations

import io
import pickle
import sqlite3
import ssl
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

import safemp
from safemp.codec import calls, pickling, repairs
from tests.support import jobs


class Holder:
    def __init__(self, x: Any) -> None:
        self.x = x


class Connection:
    """What a user registers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()

    def __reduce__(self) -> Any:
        raise TypeError("no")


class DerivedConnection(Connection):
    pass


@pytest.fixture
def registered() -> Iterator[None]:
    """Register, and take it back."""
    safemp.register(Connection, lambda c: (Connection, (c.url,)))
    yield
    del repairs._registered[Connection]


def test_what_dumps_writes_loads_in_a_bare_interpreter() -> None:
    """Neither safemp nor cloudpickle is imported there, as long as no function travels by value."""
    value = {"lock": threading.Lock(), "event": Box(threading.Event()), "view": {"a": 1}.keys()}
    value["proxy"] = types.MappingProxyType({"b": 2})
    code = (
        "import sys; sys.modules['safemp'] = sys.modules['cloudpickle'] = None; import pickle;"
        "found = pickle.load(sys.stdin.buffer); found['lock'].acquire();"
        "print(found['event'].a.is_set(), list(found['view']), found['proxy']['b'])"
    )
    out = subprocess.run([sys.executable, "-c", code], input=safemp.dumps(value), capture_output=True, check=True)

    assert out.stdout.decode().strip() == "False ['a'] 2"


@pytest.mark.parametrize("dumps", ["safemp", "cloudpickle"])
def test_a_module_that_is_registered_goes_by_value(dumps: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``cloudpickle.register_pickle_by_value`` counts for the module itself, too: in the closure of a function, say."""
    (tmp_path / "only_here_for_a_test.py").write_text("VALUE = 7\ndef value(): return VALUE\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here_for_a_test as module  # type: ignore[import-not-found]

    monkeypatch.setattr(module, "__loader__", None)  # pytest's, which does not pickle
    monkeypatch.setattr(module, "__spec__", None)
    cloudpickle.register_pickle_by_value(module)
    try:
        with safemp.repairing():
            sent = (safemp if dumps == "safemp" else cloudpickle).dumps(lambda: module.value())
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules[module.__name__]
    code = "import sys, pickle; print(pickle.load(sys.stdin.buffer)())"
    out = subprocess.run([sys.executable, "-c", code], input=sent, capture_output=True, check=True)

    assert out.stdout.decode().strip() == "7"


def Box(x: Any) -> Any:
    """Put *x* inside an object."""
    return types.SimpleNamespace(a=x)


def test_functions_travel_by_value_in_what_dumps_writes() -> None:
    """As with cloudpickle, and with what is repaired in their closures."""
    lock = threading.Lock()

    def local() -> bool:
        return lock.acquire(blocking=False)

    assert pickle.loads(safemp.dumps(local))()


UNIT = 3


def test_a_class_in_a_function_that_goes_by_value_reads_globals() -> None:
    """Its body does so in another way than functions."""

    def make() -> int:
        class Local:
            x = UNIT

        return Local.x

    make.__globals__["__name__"], name = "nowhere", __name__
    try:
        written = safemp.dumps(make)
    finally:
        make.__globals__["__name__"] = name

    assert pickle.loads(written)() == 3


def test_what_a_module_in_memory_defines_goes_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other interpreter has it."""
    module = types.ModuleType("made_in_memory")
    source = "import enum\nK = 5\ndef f(x):\n    return x + K\nclass A:\n    def m(self):\n        return f(1)\n"
    exec(f"{source}class E(enum.Enum):\n    X = A\n", module.__dict__)
    monkeypatch.setitem(sys.modules, "made_in_memory", module)
    written = safemp.dumps([module.f, module.A(), module.E.X, module])
    monkeypatch.delitem(sys.modules, "made_in_memory")
    function, instance, member, again = pickle.loads(written)

    assert (function(2), instance.m(), member.name, again.f(3)) == (7, 6, "X", 8)


def test_dumps_looks_up_what_is_an_attribute_of_a_module(monkeypatch: pytest.MonkeyPatch) -> None:
    """As pools do: what reads the pickle has the module, too."""
    rows = (x for x in "ab")
    monkeypatch.setattr(jobs, "rows", rows, raising=False)

    assert pickle.loads(safemp.dumps(Holder(rows))).x is rows


def test_dumps_names_every_culprit_from_obj() -> None:
    """With paths that begin with ``obj``."""
    with pytest.raises(safemp.PreflightError) as caught:
        safemp.dumps({"a": [(x for x in "")], "b": Holder(sys._getframe())})

    assert [culprit.path for culprit in caught.value.culprits] == ["obj['a'][0]", "obj['b'].x"]


def test_dump_and_load_use_files() -> None:
    """One after the other; a failed ``dump`` writes nothing."""
    file = io.BytesIO()
    safemp.dump([1, threading.Lock()], file)
    with pytest.raises(safemp.PreflightError):
        safemp.dump(sys._getframe(), file)
    safemp.dump("second", file)
    file.seek(0)

    assert safemp.load(file)[0] == 1
    assert safemp.load(file) == "second"
    assert safemp.loads(safemp.dumps({"x": 1})) == {"x": 1}


def test_buffers_can_stay_outside() -> None:
    """As with ``pickle.dumps``."""
    kept: list[Any] = []
    data = safemp.dumps(pickle.PickleBuffer(bytearray(b"abc")), buffer_callback=kept.append)

    assert bytes(safemp.loads(data, buffers=kept)) == b"abc"


def test_an_exception_of_python_loads_anywhere() -> None:
    """One without a traceback is written as plain pickle writes it."""
    assert b"safemp" not in safemp.dumps(ValueError("x"))


# -- register -----------------------------------------------------------------------------


@pytest.mark.usefixtures("registered")
def test_a_registered_type_travels_everywhere() -> None:
    """In ``dumps``, in pools, under cloudpickle."""
    with safemp.SafeExecutor(1, engine="inline") as executor:
        url = executor.submit(lambda holder: holder.x.url, Holder(Connection("u"))).result(30)
    with safemp.repairing():
        other = pickle.loads(cloudpickle.dumps([Connection("v")]))

    assert url == "u"
    assert other[0].url == "v"
    assert safemp.loads(safemp.dumps(Connection("w"))).url == "w"


@pytest.mark.usefixtures("registered")
def test_a_rule_is_for_the_exact_type() -> None:
    """A derived class may have more."""
    with pytest.raises(safemp.PreflightError):
        safemp.dumps(DerivedConnection("u"))


@pytest.mark.parametrize(
    ("cls", "reduce"), [(list, str), (int, str), (type, str), (types.FunctionType, str), ("x", str), (Holder, 3)]
)
def test_what_cannot_be_registered_is_refused(cls: Any, reduce: Any) -> None:
    """At the call, not when something is sent."""
    with pytest.raises(TypeError, match="cannot register"):
        safemp.register(cls, reduce)


# -- repairs= -----------------------------------------------------------------------------


def test_none_turns_them_off() -> None:
    """Then a lock is what it is for pickle."""
    with pytest.raises(safemp.PreflightError, match=r"obj\.x"):
        safemp.dumps(Holder(threading.Lock()), repairs="none")
    with safemp.SafeExecutor(1, engine="inline", repairs="none") as executor, pytest.raises(safemp.PreflightError):
        executor.submit(jobs.take, threading.Lock())


def test_a_collection_names_kinds_and_types() -> None:
    """What it does not name is not repaired."""
    lock = type(threading.Lock())

    assert safemp.dumps(Holder(threading.Lock()), repairs=[lock])
    with pytest.raises(safemp.PreflightError):
        safemp.dumps(Holder(threading.RLock()), repairs=[lock])
    with pytest.raises(safemp.PreflightError):
        safemp.dumps(Holder(threading.Lock()), repairs=["reconstruct"])


def test_a_mapping_adds_rules_for_one_pool() -> None:
    """And for nobody else."""
    rule = {Connection: lambda c: (Connection, (c.url,))}

    assert safemp.loads(safemp.dumps([Connection("u")], repairs=rule))[0].url == "u"
    with pytest.raises(safemp.PreflightError):
        safemp.dumps([Connection("u")])


@pytest.mark.parametrize(("spec", "error"), [("some", ValueError), (["lock"], ValueError), (3, TypeError)])
def test_a_wrong_collection_is_named(spec: Any, error: type[Exception]) -> None:
    """At the constructor."""
    with pytest.raises(error, match="repairs"):
        safemp.SafeExecutor(1, repairs=spec)


def test_a_file_is_opened_again_on_request(tmp_path: Path) -> None:
    """For reading, at its position; never unasked, and never for writing."""
    path = tmp_path / "file"
    path.write_text("line one\nline two\n")
    with path.open() as text, path.open("rb") as binary, path.open("a") as writing:
        text.readline()
        binary.seek(5)
        with pytest.raises(safemp.PreflightError):
            safemp.dumps(text)
        with pytest.raises(safemp.PreflightError):
            safemp.dumps(writing, repairs=("all", "reopen"))

        found, other = pickle.loads(safemp.dumps([text, binary], repairs=("all", "reopen")))

    with found, other:
        assert found.read() == "line two\n"
        assert other.read() == b"one\nline two\n"


@pytest.mark.parametrize("name", ["row_factory", "text_factory"])
def test_what_a_connection_makes_of_rows_is_no_hindrance(tmp_path: Path, name: str) -> None:
    """Rows that are dicts, or texts that are reversed, are so in the copy, too."""
    factories: dict[str, Any] = {"row_factory": by_column, "text_factory": backwards}
    connection = sqlite3.connect(tmp_path / "base")
    setattr(connection, name, factories[name])
    found = safemp.loads(safemp.dumps(connection, repairs="reopen"))
    try:
        rows = [each.execute("select 'text' as x").fetchall() for each in (found, connection)]

        assert rows[0] == rows[1] == ([{"x": "text"}] if name == "row_factory" else [("txet",)])
    finally:
        found.close()
        connection.close()


def by_column(cursor: sqlite3.Cursor, row: Any) -> dict[str, Any]:
    """Make a dict of a row."""
    return {column[0]: value for column, value in zip(cursor.description, row, strict=True)}


def backwards(text: bytes) -> str:
    """Read a text from its end."""
    return text[::-1].decode()


@pytest.mark.parametrize("kind", ["open file", "database", "open for writing", "database in memory"])
def test_what_could_be_opened_again_says_how(tmp_path: Path, kind: str) -> None:
    """The fix is what to type; of what is never opened again, what to do instead."""
    path = tmp_path / "file"
    path.write_bytes(b"")
    opened = {
        "open file": lambda: path.open(),
        "database": lambda: sqlite3.connect(path),
        "open for writing": lambda: path.open("a"),
        "database in memory": lambda: sqlite3.connect(":memory:"),
    }[kind]()
    fixes = {
        "open file": 'give repairs=("all", "reopen"), and it is opened again there; or send the path, and open',
        "database": 'give repairs=("all", "reopen"), and it is opened again there; or send the file\'s path, and',
        "open for writing": "send the path, and open the file in the task",
        "database in memory": "send list(connection.iterdump())",
    }
    try:
        with pytest.raises(safemp.PreflightError) as caught:
            safemp.dumps([opened])

        assert caught.value.culprits[0].fix.startswith(fixes[kind])
        _, error = calls.decode_outcome(calls.encode_outcome(opened))
        assert "repairs=" not in error.culprits[0].fix, "what a call returns is never opened again"
        if "repairs=" in fixes[kind]:
            safemp.loads(safemp.dumps(opened, repairs=("all", "reopen"))).close()
    finally:
        opened.close()


def test_a_database_is_connected_to_again_on_request(tmp_path: Path) -> None:
    """A file's, when nothing is uncommitted."""
    connection = sqlite3.connect(tmp_path / "base")
    memory = sqlite3.connect(":memory:")
    try:
        connection.execute("create table t (x)")
        found = safemp.loads(safemp.dumps(connection, repairs=("all", "reopen")))

        assert found.execute("select count(*) from t").fetchone() == (0,)
        found.close()
        with pytest.raises(safemp.PreflightError, match="memory"):
            safemp.dumps(memory, repairs=("all", "reopen"))
        connection.execute("insert into t values (1)")
        with pytest.raises(safemp.PreflightError, match="transaction"):
            safemp.dumps(connection, repairs=("all", "reopen"))
    finally:
        connection.close()
        memory.close()


# -- repairing ----------------------------------------------------------------------------


def test_cloudpickle_repairs_inside_the_block_only() -> None:
    """And is afterwards exactly what it was."""
    before = dict(vars(cloudpickle.Pickler))
    with pytest.raises(TypeError):
        cloudpickle.dumps(Holder(threading.Lock()))
    with safemp.repairing():
        found = pickle.loads(cloudpickle.dumps(Holder(threading.Lock())))

    assert found.x.acquire(blocking=False)
    assert dict(vars(cloudpickle.Pickler)) == before
    with pytest.raises(TypeError):
        cloudpickle.dumps(Holder(threading.Lock()))


def cached_in_a_lost_module() -> Any:
    """Make a function under ``lru_cache`` whose module is a file that was run, and is not in ``sys.modules``."""
    space: dict[str, Any] = {"__name__": "actions.py"}
    exec("import functools\n\n@functools.lru_cache(maxsize=3)\ndef double(x):\n    return 2 * x\n", space)
    return space["double"]


@pytest.mark.parametrize("transport", ["pool", "dumps", "repairing"])
def test_a_cache_whose_module_is_not_there_travels(transport: str) -> None:
    """Plugins are loaded so; pickle looks for the function under its name, and finds no such module."""
    function = cached_in_a_lost_module()
    with pytest.raises(pickle.PicklingError, match=r"import of module 'actions\.py' failed|No module named 'actions'"):
        cloudpickle.dumps(function)

    if transport == "repairing":
        with safemp.repairing():
            data = cloudpickle.dumps(function)
    else:
        data = pickling.dumps(function) if transport == "pool" else safemp.dumps(function)
    copy = pickling.loads(data)
    assert (copy(4), copy.cache_parameters()["maxsize"], copy.cache_info().currsize) == (8, 3, 1)


def test_cloudpickle_sends_no_open_file_as_text(tmp_path: Path) -> None:
    """Outside the block it gives a ``StringIO``."""
    path = tmp_path / "file"
    path.write_text("x")
    with path.open() as file:
        assert type(cloudpickle.loads(cloudpickle.dumps(file))) is io.StringIO
        with safemp.repairing(), pytest.raises((TypeError, pickle.PicklingError)):
            cloudpickle.dumps(file)


def test_blocks_may_overlap_in_threads() -> None:
    """The first to end leaves the others theirs; an error ends a block like its end."""
    before = dict(vars(cloudpickle.Pickler))
    first, second = safemp.repairing(), safemp.repairing()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert cloudpickle.dumps(Holder(threading.Lock()))
    second.__exit__(None, None, None)
    with pytest.raises(KeyError), safemp.repairing():
        raise KeyError

    def work() -> None:
        for _ in range(20):
            with safemp.repairing():
                cloudpickle.dumps(Holder(threading.Lock()))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert dict(vars(cloudpickle.Pickler)) == before


@pytest.mark.parametrize("ciphers", ["ECDHE+AESGCM:!aNULL", "DEFAULT@SECLEVEL=1", "HIGH", "AES256-SHA"])
def test_a_tls_context_has_the_ciphers_it_had(ciphers: str) -> None:
    """As httpx before 0.28 sets them; the rest of the context stays what it was."""
    context = ssl.create_default_context()
    context.set_ciphers(ciphers)
    found = pickle.loads(safemp.dumps([context, context]))

    assert found[0] is found[1]
    assert found[0].get_ciphers() == context.get_ciphers()
    assert found[0].security_level == context.security_level
    assert found[0].get_ca_certs() == context.get_ca_certs()
    assert (found[0].verify_mode, found[0].check_hostname) == (context.verify_mode, context.check_hostname)
