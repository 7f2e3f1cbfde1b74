"""What a task raises arrives as itself: class, text and every attribute; so does what it prints."""

from __future__ import annotations

import copyreg
import pickle
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, wait
from pathlib import Path
from typing import Any

import pytest
from tblib.pickling_support import pickle_exception

import safemp
from tests.support import errors, jobs, multidicts, tracing
from tests.support.errors import MAKERS, portrait

# -- that they are hostile -------------------------------------------------------------


def _survives_pickle(name: str) -> bool:
    try:
        return bool(portrait(pickle.loads(pickle.dumps(MAKERS[name]()))) == portrait(MAKERS[name]()))
    except BaseException:
        return False


def test_most_of_these_do_not_survive_pickle() -> None:
    """Plain pickle, which today's pools use, loses or breaks on every one of these."""
    hostile = [
        *("KeywordOnly", "Slotted", "NeedsNew", "Frozen", "RaisingReduce", "WrongReduce", "RefusesAttributes"),
        *("OwnOSError", "chain", "cycle", "suppressed-context", "deep-chain"),
        "BlockingIOError",
    ]

    assert [name for name in hostile if _survives_pickle(name)] == []


STOP_ITERATION = """
import multiprocessing
from tests.support import errors
if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        import functools
        task = functools.partial(errors.raise_third, "StopIteration")
        print(list(pool.imap(task, range(5))))
        print(pool.map(task, range(5), chunksize=5), flush=True)
"""


def test_stop_iteration_is_lost_in_todays_pool() -> None:
    """``Pool.imap`` ends in the middle without a word, and ``Pool.map`` loses results."""
    from tests.support.child import run_python

    ended = run_python("-c", STOP_ITERATION)

    first, second = ended.out.splitlines()
    assert first == "[0, 1]"
    assert "None" in second or len(second) < len("[0, 1, 4, 9, 16]")


# -- as itself -------------------------------------------------------------------------


@pytest.mark.parametrize("name", MAKERS)
def test_what_a_call_raises_arrives_attribute_by_attribute(executor: safemp.SafeExecutor, name: str) -> None:
    """``Future.exception`` is what the task raised, in all that can be seen of it."""
    error = executor.submit(errors.raise_by_name, name).exception(30)

    assert portrait(error) == portrait(MAKERS[name]())
    assert error is not None
    assert error.__traceback__ is not None


def test_the_headers_of_an_answer_arrive() -> None:
    """An error of aiohttp is its own class, and its headers can be read; a result may be such headers, too."""
    with safemp.SafeExecutor(1, initializer=multidicts.put) as executor:
        headers = executor.submit(multidicts.answer).result(30)
        error = executor.submit(multidicts.make_and_fail).exception(30)

    assert type(headers) is multidicts.CIMultiDictProxy
    assert type(error) is multidicts.ResponseError
    assert (error.status, error.headers.getall("set-cookie")) == (404, ["a", "b"])


def test_an_error_of_boto3_is_a_client_error(executor: safemp.SafeExecutor) -> None:
    """Its class is one of the worker's session, so it is not this one's; but of that name, with the answer."""
    pytest.importorskip("boto3", reason="wants the boto3 package")
    from botocore.exceptions import ClientError

    error = executor.submit(errors.raise_no_such_key).exception(60)

    assert isinstance(error, ClientError)
    assert (type(error).__name__, error.response["Error"]["Code"]) == ("NoSuchKey", "NoSuchKey")
    assert str(error) == "An error occurred (NoSuchKey) when calling the GetObject operation: gone"


@pytest.mark.parametrize("name", MAKERS)
def test_what_an_apply_raises_arrives_attribute_by_attribute(pool: safemp.Pool, name: str) -> None:
    """``AsyncResult.get`` raises what the task raised, in all that can be seen of it."""
    error: BaseException | None = None
    try:
        pool.apply_async(errors.raise_by_name, (name,)).get(30)
    except BaseException as caught:
        error = caught

    assert portrait(error) == portrait(MAKERS[name]())


@pytest.mark.parametrize("name", MAKERS)
def test_an_exception_as_argument_and_as_value_is_the_same(executor: safemp.SafeExecutor, name: str) -> None:
    """What goes there as an argument and comes back as a value is as it was."""
    wanted = portrait(MAKERS[name]())

    assert portrait(executor.submit(errors.return_by_name, name).result(30)) == wanted
    assert portrait(executor.submit(jobs.same, MAKERS[name]()).result(30)) == wanted
    assert portrait(executor.submit(jobs.same, {"errors": [MAKERS[name]()]}).result(30)["errors"][0]) == wanted
    assert portrait(executor.submit(errors.raise_given, MAKERS[name]()).exception(30)) == wanted


def test_a_users_own_reduce_is_honoured(executor: safemp.SafeExecutor) -> None:
    """An exception that leaves its lock at home on purpose arrives the way its class wants."""
    error = executor.submit(errors.raise_own_reduce).exception(30)

    assert type(error) is errors.OwnReduce
    assert (str(error), error.code) == ("own", 31)
    assert error.lock.acquire(blocking=False)


def test_what_cannot_travel_in_an_exception_is_replaced_by_what_says_so(executor: safemp.SafeExecutor) -> None:
    """A socket in an exception becomes ``Lost``, which names its type; the rest is kept."""
    error = executor.submit(errors.raise_with_socket).exception(30)

    assert type(error) is errors.WithSocket
    assert str(error) == "no route"
    assert error.code == 41
    assert isinstance(error.conn, safemp.Lost)
    assert "socket" in error.conn.type_name
    assert "socket" in repr(error.conn)


ONLY_IN_WORKER = """
class Local(ConnectionResetError):
    def __init__(self, text, *, code):
        super().__init__(text)
        self.code = code

def fail():
    raise Local("only the worker knows this class", code=51)
"""


def test_a_class_that_cannot_be_imported_here_is_caught_by_its_base(tmp_path: Path) -> None:
    """An exception of a module that only the worker has is caught as its nearest importable base, with its text."""
    path = tmp_path / "only_in_worker.py"
    path.write_text(ONLY_IN_WORKER)
    with safemp.SafeExecutor(1) as executor:
        error = executor.submit(errors.raise_from_file, str(path)).exception(30)

        assert executor.submit(jobs.square, 3).result(30) == 9
    assert "only_in_worker" not in sys.modules
    assert isinstance(error, ConnectionResetError)
    assert type(error).__name__ == "Local"
    assert str(error) == "only the worker knows this class"
    assert error.code == 51  # type: ignore[attr-defined]
    assert type(pickle.loads(pickle.dumps(error))).__name__ == "Local"


# -- iteration -------------------------------------------------------------------------

BEYOND = ["SystemExit", "KeyboardInterrupt", "GeneratorExit", "StopIteration", "StopAsyncIteration", "KeywordOnly"]


def _collect(count: int, step: Callable[[], Any]) -> list[Any]:
    results: list[Any] = []
    for _ in range(count):
        try:
            results.append(step())
        except BaseException as error:
            results.append(error)
    return results


def _is(error: object, name: str) -> bool:
    """Tell whether *error* is what ``MAKERS[name]`` makes; an iterator wraps ``StopIteration``, as PEP 479 does."""
    if name == "StopIteration" and isinstance(error, RuntimeError):
        error = error.__cause__
    return bool(portrait(error) == portrait(MAKERS[name]()))  # type: ignore[arg-type]


@pytest.mark.parametrize("chunksize", [1, 2, 5])
@pytest.mark.parametrize("method", ["imap", "imap_unordered"])
@pytest.mark.parametrize("name", BEYOND)
def test_imap_is_never_cut_short(pool: safemp.Pool, name: str, method: str, chunksize: int) -> None:
    """Five items give four results and one error, then the end; nothing is ``None``, nothing is missing."""
    iterator = getattr(pool, method)(errors.Third(name), range(5), chunksize)
    results = _collect(5, lambda: iterator.next(30))

    with pytest.raises(StopIteration) as end:
        iterator.next(30)
    assert end.value.value is None
    assert sorted(r for r in results if isinstance(r, int)) == [0, 1, 9, 16]
    (error,) = [r for r in results if not isinstance(r, int)]
    assert _is(error, name)
    if method == "imap":
        assert results.index(error) == 2


@pytest.mark.parametrize("name", BEYOND)
def test_a_for_loop_over_imap_ends_with_an_error_not_in_silence(pool: safemp.Pool, name: str) -> None:
    """``list(pool.imap(...))`` raises; it does not give back a shorter list."""
    with pytest.raises(BaseException) as caught:
        list(pool.imap(errors.Third(name), range(5)))

    assert _is(caught.value, name)


@pytest.mark.parametrize("chunksize", [None, 1, 5])
@pytest.mark.parametrize("name", BEYOND)
def test_map_raises_what_the_item_raised(pool: safemp.Pool, name: str, chunksize: int | None) -> None:
    """``Pool.map`` raises the error itself; no ``None`` takes its place."""
    error: BaseException | None = None
    try:
        pool.map_async(errors.Third(name), range(5), chunksize).get(30)
    except BaseException as caught:
        error = caught

    assert portrait(error) == portrait(MAKERS[name]())


@pytest.mark.parametrize("chunksize", [1, 5])
@pytest.mark.parametrize("name", BEYOND)
def test_executor_map_raises_what_the_item_raised(executor: safemp.SafeExecutor, name: str, chunksize: int) -> None:
    """``SafeExecutor.map`` gives the results before it, then the error, never an early end."""
    iterator = executor.map(errors.Third(name), range(5), chunksize=chunksize, timeout=30)

    assert [next(iterator), next(iterator)] == [0, 1]
    with pytest.raises(BaseException) as caught:
        next(iterator)
    assert _is(caught.value, name)


@pytest.mark.parametrize("function", ["map", "starmap", "imap", "imap_unordered"])
@pytest.mark.parametrize("name", BEYOND)
def test_the_one_line_functions_raise_what_the_item_raised(name: str, function: str) -> None:
    """``safemp.map`` and its kin are never cut short, either."""
    items: list[Any] = [(i,) for i in range(5)] if function == "starmap" else list(range(5))
    with pytest.raises(BaseException) as caught:
        list(getattr(safemp, function)(errors.Third(name), items))

    assert _is(caught.value, name)


def test_the_first_failed_item_is_the_one_that_map_raises(pool: safemp.Pool) -> None:
    """With several failures the error is that of the first item, not of the fastest."""
    for _ in range(5):
        with pytest.raises(ValueError, match=r"odd: 1$"):
            pool.map(jobs.fail_if_odd, range(10), chunksize=1)


def test_wait_sees_a_failure(executor: safemp.SafeExecutor) -> None:
    """``wait(FIRST_EXCEPTION)`` returns at a ``KeyboardInterrupt`` that a task has raised, too."""
    future = executor.submit(errors.raise_by_name, "KeyboardInterrupt")
    done, not_done = wait([future], 30, FIRST_EXCEPTION)

    assert (done, not_done) == ({future}, set())
    assert isinstance(future.exception(), KeyboardInterrupt)


# -- what is printed -------------------------------------------------------------------


def _printed(error: BaseException) -> list[list[str]]:
    return tracing.frames_in("".join(traceback.format_exception(type(error), error, error.__traceback__)))


@pytest.mark.parametrize("name", sorted({*tracing.SCENES} - {"recursion"}))  # how often it recurses is not ours to say
def test_what_is_printed_names_the_workers_lines_with_right_carets(executor: safemp.SafeExecutor, name: str) -> None:
    """Frame by frame, source line and carets too, it is what the worker itself would have printed."""
    wanted = executor.submit(tracing.printed_here, name).result(30)
    error = executor.submit(tracing.play, name).exception(30)
    assert error is not None

    assert len(wanted) >= 2
    assert _printed(error) == wanted


@pytest.mark.skipif(sys.version_info < (3, 11), reason="carets came with Python 3.11")
def test_carets_point_at_the_failing_subscript(executor: safemp.SafeExecutor) -> None:
    """``d['a']['b']['c']`` is underlined where it failed."""
    error = executor.submit(tracing.play, "subscript").exception(30)
    assert error is not None
    (frame,) = [frame for frame in _printed(error) if frame[0].endswith("in subscript")]

    source, carets = frame[1], frame[2]
    start = source.index("tree[")
    assert carets[start:].startswith("~~~~~~~~~~~~~~^^^^^^^^^^^")


def test_frames_are_real(executor: safemp.SafeExecutor) -> None:
    """A debugger can walk them: name, file, line and globals of each frame of the worker."""
    error = executor.submit(tracing.play, "chain").exception(30)
    assert error is not None

    frames = [f for f, _ in traceback.walk_tb(error.__traceback__) if f.f_code.co_filename == tracing.__file__]
    assert [f.f_code.co_name for f in frames] == ["play", "chain"]
    for frame in frames:
        assert frame.f_globals["__name__"] == tracing.__name__
        assert isinstance(frame.f_locals, (dict, type(frame.f_locals)))


def test_the_callers_own_lines_are_printed_too(executor: safemp.SafeExecutor) -> None:
    """The traceback begins where the caller asked for the result, and goes on in the worker."""
    try:
        executor.submit(tracing.play, "subscript").result(30)
    except KeyError as error:
        names = [frame.name for frame in traceback.extract_tb(error.__traceback__)]

    assert names[0] == "test_the_callers_own_lines_are_printed_too"
    assert names[-2:] == ["play", "subscript"]


def test_asking_twice_does_not_lengthen_the_traceback_without_end(executor: safemp.SafeExecutor) -> None:
    """The same error is given each time, as by any future."""
    future = executor.submit(errors.raise_by_name, "chain")

    assert future.exception(30) is future.exception(30)


def test_recursion_errors_are_bounded(executor: safemp.SafeExecutor) -> None:
    """A ``RecursionError`` arrives as one, from thousands of frames deep."""
    error = executor.submit(tracing.play, "recursion").exception(30)

    assert type(error) is RecursionError
    assert "maximum recursion depth" in str(error)


def test_pdb_walks_the_workers_frames(tmp_path: Path, engine: str) -> None:
    """``pdb.pm()`` stops in the worker's function and shows its source line."""
    script = tmp_path / "post_mortem.py"
    script.write_text(
        "import pdb, sys, safemp\n"
        "from tests.support import tracing\n"
        f"with safemp.SafeExecutor(1, engine={engine!r}) as executor:\n"
        "    error = executor.submit(tracing.play, 'subscript').exception()\n"
        "pdb.post_mortem(error.__traceback__)\n"
    )
    from tests.support.child import run_python

    ended = run_python(str(script), stdin="where\nup\nquit\n")

    assert "subscript()" in ended.out, str(ended)
    assert '["missing"]' in ended.out
    assert "Traceback" not in ended.err


@pytest.mark.parametrize("name", MAKERS)
def test_tblibs_reducer_in_copyreg_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dask installs it, for every exception that there is; it loses what builtins keep in C."""
    for cls in type(MAKERS[name]()).__mro__[:-1]:
        monkeypatch.setitem(copyreg.dispatch_table, cls, pickle_exception)
    with safemp.SafeExecutor(engine="inline") as executor:
        error = executor.submit(errors.raise_by_name, name).exception(30)

    assert portrait(error) == portrait(MAKERS[name]())
