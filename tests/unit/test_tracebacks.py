"""Tracebacks arrive as real ones, and print what the worker would have printed."""

from __future__ import annotations

import io
import linecache
import pdb
import pickle
import sys
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from _pytest._code import ExceptionInfo

from safemp.codec import tracebacks
from safemp.codec.tracebacks import decode_traceback, encode_traceback, prepend, reduce_traceback
from tests.unit.exceptions_zoo import frames


class Nested:
    def method(self, value: Any) -> Any:
        return [value["a"]["b"] + value["c"].missing(1, 2) for _ in range(1)]


def multi_line(value: Any) -> Any:
    """Fail below a call that spans lines."""
    return Nested().method(value)


def unicode_line() -> Any:
    """Fail behind characters of two bytes and more."""
    return "äöü→" + {"ключ": "значение"}["é"] + "x"


def with_lambda() -> Any:
    """Fail in a lambda."""
    return (lambda x: x / 0)(1)


def generators() -> Any:
    """Fail in a generator."""
    return sum(1 // n for n in [1, 0])


def hidden(tb: bool = True) -> Any:
    """Fail in a frame that asks pytest to hide it."""
    __tracebackhide__ = tb
    raise ValueError("hidden")


FAILING: list[Callable[[], Any]] = [
    lambda: multi_line({"a": {"b": 1}, "c": 5}),
    unicode_line,
    with_lambda,
    generators,
    lambda: compile("a b", "f.py", "exec"),
    lambda: exec("1/0"),
    lambda: hidden(),
    lambda: __import__("json").loads("{x"),
]


def traceback_of(fail: Callable[[], Any]) -> tuple[BaseException, types.TracebackType]:
    """Return what *fail* raises, and its traceback."""
    try:
        fail()
    except BaseException as exc:
        return exc, exc.__traceback__  # type: ignore[return-value]
    raise AssertionError("it did not fail")


def travel(tb: types.TracebackType | None) -> Any:
    """Send a traceback the whole way: builtins, bytes, builtins, real traceback."""
    return decode_traceback(pickle.loads(pickle.dumps(encode_traceback(tb))))


@pytest.mark.parametrize("fail", FAILING)
def test_prints_the_same(fail: Callable[[], Any]) -> None:
    """What ``traceback`` prints is the same to the last caret."""
    exc, tb = traceback_of(fail)

    arrived = travel(tb)

    assert traceback.format_exception(type(exc), exc, arrived) == traceback.format_exception(type(exc), exc, tb)


@pytest.mark.parametrize("fail", FAILING)
def test_same_places(fail: Callable[[], Any]) -> None:
    """File, names, first line, line and columns of each frame are the worker's."""
    _, tb = traceback_of(fail)

    arrived = travel(tb)

    assert type(arrived) is types.TracebackType
    assert frames(arrived) == frames(tb)
    while arrived is not None:
        assert arrived.tb_frame.f_lineno == arrived.tb_lineno
        assert arrived.tb_frame.f_globals["__name__"] == tb.tb_frame.f_globals["__name__"]
        assert arrived.tb_frame.f_globals["__file__"]
        arrived, tb = arrived.tb_next, tb.tb_next  # type: ignore[assignment]


def test_raised_again_it_grows_at_the_top() -> None:
    """Raising what has arrived puts the caller's frames above the worker's, as anywhere."""
    _, tb = traceback_of(with_lambda)
    arrived = ZeroDivisionError("again").with_traceback(travel(tb))

    _, grown = traceback_of(lambda: (_ for _ in ()).throw(arrived))

    assert frames(grown)[-len(frames(tb)) :] == frames(tb)


def test_no_frame_knows_its_caller() -> None:
    """Frames that were made here keep nothing of ours alive."""
    _, tb = traceback_of(with_lambda)

    at = travel(tb)

    while at is not None:
        assert at.tb_frame.f_back is None
        at = at.tb_next


def test_frames_can_be_cleared() -> None:
    """``traceback.clear_frames``, which unittest calls, works on them."""
    _, tb = traceback_of(with_lambda)

    arrived = travel(tb)
    traceback.clear_frames(arrived)

    assert frames(arrived) == frames(tb)


def test_pdb_walks_them() -> None:
    """``pdb`` post mortem shows the stack, goes up and down and lists the source."""
    _, tb = traceback_of(lambda: multi_line({"a": {"b": 1}, "c": 5}))
    out = io.StringIO()
    debugger = pdb.Pdb(stdin=io.StringIO("w\nl\nup\nl\np 1 + 1\ndown\nq\n"), stdout=out)

    debugger.reset()
    debugger.interaction(None, travel(tb))

    shown = out.getvalue()
    assert 'value["a"]["b"] + value["c"].missing(' in shown
    assert "in multi_line" in shown or "multi_line()" in shown
    assert "->" in shown
    assert "2" in shown


def test_pytest_shows_the_source() -> None:
    """The long form of pytest shows the function from its first line to the one that failed."""
    exc, tb = traceback_of(unicode_line)
    exc.__traceback__ = travel(tb)

    shown = str(ExceptionInfo.from_exception(exc).getrepr(style="long"))

    assert "    def unicode_line() -> Any:\n" in shown
    assert '>       return "äöü→" + {"ключ": "значение"}["é"] + "x"' in shown


def test_pytest_hides_what_asks_for_it() -> None:
    """``__tracebackhide__`` of the worker's frame is known here."""
    exc, tb = traceback_of(lambda: hidden())
    exc.__traceback__ = travel(tb)

    info = ExceptionInfo.from_exception(exc)

    assert [entry.ishidden(info) for entry in info.traceback] == [False, False, True]


def test_sys_excepthook_prints_them(capsys: pytest.CaptureFixture[str]) -> None:
    """The interpreter's own printer, which is in C, takes them."""
    exc, tb = traceback_of(unicode_line)

    sys.__excepthook__(type(exc), exc, travel(tb))

    assert 'return "äöü→" + {"ключ": "значение"}["é"] + "x"' in capsys.readouterr().err


def recurse(n: int) -> int:
    """Never come back."""
    return recurse(n + 1)


def test_deep_recursion_is_cut_in_the_middle() -> None:
    """Of a thousand frames the first and the last hundred travel, and the gap is told."""
    _, tb = traceback_of(lambda: recurse(0))
    whole = frames(tb)

    arrived = frames(travel(tb))

    assert len(arrived) == 201
    assert arrived[:100] == whole[:100]
    assert arrived[-100:] == whole[-100:]
    assert arrived[100][0] == f"<{len(whole) - 200} more frames>"
    assert len(pickle.dumps(encode_traceback(tb))) < 10_000


def test_prepended_line() -> None:
    """A line of our own can be put on top."""
    _, tb = traceback_of(with_lambda)

    lines = traceback.format_tb(prepend("<worker 7 of host>", "mod.fn, items[3]", tb))

    assert lines[0] == '  File "<worker 7 of host>", line 1, in mod.fn, items[3]\n'
    assert lines[1:] == traceback.format_tb(tb)
    assert len(traceback.format_tb(prepend("<x>", "y", None))) == 1


def fails_in(source: str, filename: str) -> types.TracebackType:
    """Return the innermost traceback of running *source*."""
    space: dict[str, Any] = {"__name__": "elsewhere"}
    return traceback_of(lambda: exec(compile(source, filename, "exec"), space))[1].tb_next.tb_next  # type: ignore[union-attr,return-value]


@pytest.fixture
def clean_cache() -> Any:
    """Leave ``linecache`` and what we remember as they were."""
    before = dict(linecache.cache)
    yield
    linecache.cache.clear()
    linecache.cache.update(before)
    tracebacks._travelled.clear()


@pytest.mark.usefixtures("clean_cache")
@pytest.mark.parametrize("filename", ["/nowhere/else.py", "<generated init 5>", "<ipython-input-3-abc>"])
def test_source_that_is_not_here_travels(filename: str) -> None:
    """Lines of a file that only the worker has are shown all the same."""
    source = "x = 1\n\ny = x / 0\n"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    tb = fails_in(source, filename)
    original = traceback.format_tb(tb)
    wire = encode_traceback(tb)
    linecache.cache.clear()

    arrived = decode_traceback(wire)
    linecache.checkcache()

    assert traceback.format_tb(arrived) == original
    assert "y = x / 0" in original[0]


@pytest.mark.usefixtures("clean_cache")
def test_source_that_is_here_comes_first(tmp_path: Path) -> None:
    """The file itself is shown where there is one."""
    path = tmp_path / "here.py"
    path.write_text("1 / 0  # the worker's\n")
    wire = encode_traceback(fails_in(path.read_text(), str(path)))
    path.write_text("1 / 0  # the caller's\n")
    linecache.cache.clear()

    shown = "".join(traceback.format_tb(decode_traceback(wire)))

    assert "the caller's" in shown


@pytest.mark.usefixtures("clean_cache")
def test_source_of_a_shared_name_is_not_remembered() -> None:
    """A line of one ``<string>`` is never shown for another."""
    linecache.cache["<string>"] = (5, None, ["1 / 0\n"], "<string>")
    wire = encode_traceback(fails_in("1 / 0", "<string>"))
    linecache.cache.clear()

    decode_traceback(wire)

    assert "<string>" not in linecache.cache


@pytest.mark.usefixtures("clean_cache")
def test_lines_of_one_file_add_up() -> None:
    """Two errors in one file that is not here: both lines are known, at their places."""
    for line in (2, 4):
        source = "\n" * (line - 1) + f"1 / 0  # line {line}\n"
        linecache.cache["/not/here.py"] = (len(source), None, source.splitlines(True), "/not/here.py")
        wire = encode_traceback(fails_in(source, "/not/here.py"))
        linecache.cache.pop("/not/here.py")
        decode_traceback(wire)

    assert linecache.getlines("/not/here.py") == ["\n", "1 / 0  # line 2\n", "\n", "1 / 0  # line 4\n"]


class BadLoader:
    def get_source(self, name: str) -> str:
        raise SystemExit("no source")


@pytest.mark.usefixtures("clean_cache")
def test_loader_that_raises() -> None:
    """A module's loader that exits costs the source line only."""
    space = {"__name__": "odd", "__loader__": BadLoader(), "__file__": 5}
    code = compile("1 / 0", "/odd/file.py", "exec")
    _, tb = traceback_of(lambda: exec(code, space))

    assert frames(travel(tb)) == frames(tb)


@pytest.mark.parametrize("junk", [None, 5, (), (1,), (1, 5), (2, ()), (1, ((),)), (1, (("f",),)), "text", [1, [None]]])
def test_junk_is_no_traceback(junk: Any) -> None:
    """What is no wire value, or one of another version, gives ``None``."""
    assert decode_traceback(junk) is None


def test_positions_that_make_no_sense() -> None:
    """A record with an odd position gives a frame at its line, or none; it never raises."""
    for position in [(5, 3, 1, 2), (0, 0, None, None), (7, 7, -5, 2), (1 << 20, 1 << 20, 1 << 30, 1 << 30)]:
        record = ("f.py", "n", "q", 10, position, None, None, False, "")

        made = decode_traceback((1, (record,)))

        assert made is None or made.tb_lineno == position[0]


def test_tblib_is_the_second_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a Python whose line tables are not the ones we write, tblib makes the frames."""

    def written_otherwise(*_: Any) -> bytes:
        raise ValueError("another format")

    monkeypatch.setattr(tracebacks, "_locations", written_otherwise)
    monkeypatch.setattr(tracebacks, "_lines_310", written_otherwise)
    tracebacks._code.cache_clear()
    _, tb = traceback_of(with_lambda)

    arrived = travel(tb)

    assert [(f[0], f[1], f[4]) for f in frames(arrived)] == [(f[0], f[1], f[4]) for f in frames(tb)]
    tracebacks._code.cache_clear()


def test_long_lines_and_far_lines() -> None:
    """Columns beyond 1000 and lines beyond 100 000 are right."""
    source = "\n" * 150_000 + "x = " + "1 + " * 500 + "(1 / 0)\n"
    tb = fails_in(source, "<far>")

    assert frames(travel(tb)) == frames(tb)


def test_without_columns() -> None:
    """A code object without columns (``python -X no_debug_ranges``) keeps its lines."""
    if sys.version_info < (3, 11):
        pytest.skip("columns are new in Python 3.11")
    code = compile("\n\n1 / 0", "<bare>", "exec")
    units = len(code.co_code) // 2
    bare = code.replace(co_linetable=tracebacks._locations(units, 1, 3, 3, None, None))
    _, tb = traceback_of(lambda: exec(bare, {}))

    arrived = travel(tb)

    assert frames(arrived)[-1][4:] == (3, (3, 3, None, None))


def test_nothing_is_nothing() -> None:
    """No traceback stays none."""
    assert encode_traceback(None) is None
    assert travel(None) is None


def test_traceback_as_a_value() -> None:
    """A traceback object in an attribute has a reduce value of its own."""
    _, tb = traceback_of(with_lambda)

    function, args = reduce_traceback(tb)

    assert frames(function(*args)) == frames(tb)
