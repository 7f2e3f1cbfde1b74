"""The four jobs that break today's pools: first that they do, then that ours answers."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

import safemp
from tests.support import jobs
from tests.support.child import run_python

BAD_JOBS = ("two-arguments", "locked", "return-service", "take-service")


@pytest.fixture(autouse=True)
def _no_socket_left() -> Iterator[None]:
    yield
    jobs.close_services()


# -- that they are hostile -------------------------------------------------------------


def today(kind: str, job: str) -> dict[str, Any]:
    ended = run_python("-m", "tests.support.peers", kind, job, settle=0)
    assert ended.returncode == 0, str(ended)
    return json.loads(ended.out)  # type: ignore[no-any-return]


def _is_broken(told: dict[str, Any]) -> bool:
    return told["answer"] == "error" and "concurrent.futures.process.BrokenProcessPool" in told["bases"]


def test_a_constructor_with_two_arguments_breaks_todays_pools() -> None:
    """The standard library's executor and loky are dead after it, ``Pool`` never answers again."""
    executor, pool, loky = (today(kind, "two-arguments") for kind in ("executor", "pool", "loky"))

    assert _is_broken(executor["first"])
    assert _is_broken(executor["after"])
    assert pool == {"first": {"answer": "never"}, "after": {"answer": "never"}}
    assert _is_broken(loky["first"])
    assert _is_broken(loky["after"])


def test_a_lock_in_an_exception_costs_its_text_in_todays_pools() -> None:
    """The class is lost in all of them; loky speaks of a segmentation fault, and is dead."""
    executor, pool, loky = (today(kind, "locked") for kind in ("executor", "pool", "loky"))

    assert executor["first"]["type"] == "TypeError"
    assert "cannot pickle '_thread.lock'" in executor["first"]["text"]
    assert pool["first"]["type"] == "MaybeEncodingError"
    assert "ExceptionWithTraceback object at 0x" in pool["first"]["text"]
    assert "segmentation fault" in loky["first"]["text"]
    assert _is_broken(loky["after"])


@pytest.mark.parametrize("job", ["return-service", "take-service"])
def test_an_open_connection_is_refused_without_a_path_by_todays_pools(job: str) -> None:
    """What does not pickle is named by its type alone, and when it is too late to see the call."""
    told = {kind: today(kind, job)["first"] for kind in ("executor", "pool", "loky")}

    for one in told.values():
        assert one["answer"] == "error"
        assert "conn" not in one["text"]
    assert told["executor"]["type"] == "TypeError"
    assert told["pool"]["type"] == ("MaybeEncodingError" if job == "return-service" else "TypeError")
    assert told["loky"]["type"] == ("TypeError" if job == "return-service" else "PicklingError")


@pytest.mark.parametrize("kind", ["executor", "loky"])
def test_bad_jobs_cost_todays_pools_their_good_ones(kind: str) -> None:
    """Of eight good jobs not all are answered, and the pool is dead."""
    told = today(kind, "storm")

    assert told["good"] < 8
    assert _is_broken(told["after"])


def test_a_killed_worker_breaks_todays_pools() -> None:
    """The executors are dead, and ``Pool`` never answers that call."""
    assert _is_broken(today("executor", "sigkill")["after"])
    assert _is_broken(today("loky", "sigkill")["after"])
    assert today("pool", "sigkill")["first"] == {"answer": "never"}


# -- that ours answers -----------------------------------------------------------------


Ask = Callable[..., Any]


@pytest.fixture(params=["submit", "Executor.map", "apply", "Pool.map", "imap", "imap_unordered"])
def ask(request: pytest.FixtureRequest, executor: safemp.SafeExecutor, pool: safemp.Pool) -> Ask:
    """Call a function with at most one argument in each way there is; return or raise what it did."""

    def item_of(args: tuple[Any, ...]) -> list[Any]:
        return [args[0] if args else None]

    def one_argument(function: Ask, args: tuple[Any, ...]) -> Ask:
        return function if args else jobs.Ignoring(function)

    ways: dict[str, Ask] = {
        "submit": lambda f, *a: executor.submit(f, *a).result(30),
        "Executor.map": lambda f, *a: next(iter(executor.map(one_argument(f, a), item_of(a), timeout=30))),
        "apply": lambda f, *a: pool.apply(f, a),
        "Pool.map": lambda f, *a: pool.map_async(one_argument(f, a), item_of(a)).get(30)[0],
        "imap": lambda f, *a: pool.imap(one_argument(f, a), item_of(a)).next(30),
        "imap_unordered": lambda f, *a: pool.imap_unordered(one_argument(f, a), item_of(a)).next(30),
    }
    return ways[request.param]


def test_an_exception_with_two_arguments_arrives_as_itself(ask: Ask) -> None:
    """Same class, same text, same attributes, and the pool is alive."""
    with pytest.raises(jobs.TwoArguments) as caught:
        ask(jobs.raise_two_arguments)

    assert type(caught.value) is jobs.TwoArguments
    assert str(caught.value) == "left/right"
    assert caught.value.args == ("left/right",)
    assert vars(caught.value) == {"a": "left", "b": "right"}
    assert ask(jobs.square, 3) == 9


def test_an_exception_that_holds_a_lock_keeps_class_and_text(ask: Ask) -> None:
    """The class, the text and the other attributes arrive, and the pool is alive."""
    with pytest.raises(jobs.Locked) as caught:
        ask(jobs.raise_locked)

    assert type(caught.value) is jobs.Locked
    assert str(caught.value) == "locked"
    assert caught.value.code == 7
    assert hasattr(caught.value, "lock")
    assert ask(jobs.square, 3) == 9


@pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])
def test_a_result_that_cannot_travel_is_named(ask: Ask, tls: bool) -> None:
    """``ResultError`` says where in the result the socket is, and the pool is alive."""
    with pytest.raises(safemp.ResultError) as caught:
        ask(jobs.return_service, tls)

    first_line = str(caught.value).splitlines()[0]
    assert [culprit.path for culprit in caught.value.culprits] == ["result.db['conn'][0]"]
    assert "result.db['conn'][0]" in first_line
    assert ("SSLSocket" if tls else "socket.socket") in first_line
    assert ask(jobs.square, 3) == 9


def test_a_result_error_is_what_the_standard_library_raised() -> None:
    """Code that caught ``MaybeEncodingError``, ``PicklingError`` or ``TypeError`` still does."""
    from multiprocessing.pool import MaybeEncodingError

    assert issubclass(safemp.ResultError, (MaybeEncodingError,))
    assert issubclass(safemp.ResultError, pickle.PicklingError)
    assert issubclass(safemp.ResultError, TypeError)


def test_an_argument_that_cannot_travel_is_named_at_the_call(executor: safemp.SafeExecutor, pool: safemp.Pool) -> None:
    """``PreflightError`` is raised by the call itself and says where in the argument the socket is."""
    service = jobs.open_service()
    calls: list[Callable[[], object]] = [
        lambda: executor.submit(jobs.take, service),
        lambda: pool.apply_async(jobs.take, (service,)),
    ]

    for call in calls:
        with pytest.raises(safemp.PreflightError) as caught:
            call()

        (culprit,) = caught.value.culprits
        assert culprit.path == "args[0].db['conn'][0]"
        assert culprit.get() is service.db["conn"][0]  # type: ignore[index]
        assert str(caught.value).splitlines()[0] == "cannot send args[0].db['conn'][0]: ssl.SSLSocket does not pickle"
        assert isinstance(caught.value, (pickle.PicklingError, TypeError))
    assert executor.submit(jobs.square, 3).result(30) == 9
    assert pool.apply(jobs.square, (3,)) == 9


def test_good_jobs_are_all_answered_with_bad_ones_among_them(engine: str) -> None:
    """Eight of eight good answers, four right errors, and a later submit works."""
    service = jobs.open_service()
    good: dict[int, Future[int]] = {}
    bad: dict[int, Future[Any]] = {}

    with safemp.SafeExecutor(2, engine=engine) as executor:
        for i in range(12):
            if i == 2:
                bad[i] = executor.submit(jobs.raise_two_arguments)
            elif i == 4:
                bad[i] = executor.submit(jobs.raise_locked)
            elif i == 5:
                bad[i] = executor.submit(jobs.return_service)
            elif i == 7:
                with pytest.raises(safemp.PreflightError):
                    executor.submit(jobs.take, service)
            else:
                good[i] = executor.submit(jobs.work, i)

        assert {i: future.result(30) for i, future in good.items()} == {i: i * 10 for i in good}
        assert len(good) == 8
        errors = [type(bad[i].exception(30)) for i in (2, 4, 5)]
        assert errors == [jobs.TwoArguments, jobs.Locked, safemp.ResultError]
        assert executor.submit(jobs.square, 3).result(30) == 9


def test_bad_items_of_a_map_do_not_cost_the_good_ones(pool: safemp.Pool) -> None:
    """With bad items among good ones, ``imap`` gives every good answer and every right error, in place."""
    results: list[Any] = []
    iterator = pool.imap(jobs.by_number, range(10))
    for _ in range(10):
        try:
            results.append(iterator.next(30))
        except Exception as error:
            results.append(type(error))

    wanted = [i * i for i in range(10)]
    wanted[3], wanted[5], wanted[8] = jobs.TwoArguments, jobs.Locked, safemp.ResultError  # type: ignore[call-overload]
    assert results == wanted


# -- hostile values, beyond the table --------------------------------------------------


def test_a_result_that_raises_while_it_is_pickled_is_named(ask: Ask) -> None:
    """What a user's ``__reduce__`` raises, ``SystemExit`` included, comes back as an error of that call."""
    for function in (jobs.return_raises_on_dump, jobs.return_exits_politely, jobs.return_generator):
        with pytest.raises(safemp.ResultError) as caught:
            ask(function)

        assert caught.value.culprits[0].path == "result"
    assert ask(jobs.square, 3) == 9


def test_a_result_that_raises_while_it_is_loaded_fails_that_call_alone(ask: Ask) -> None:
    """The reason is in the error of that call; the pool is alive."""
    with pytest.raises(Exception, match="refuses to load"):
        ask(jobs.return_raises_on_load)

    assert ask(jobs.square, 3) == 9


def test_an_argument_that_raises_while_it_is_loaded_fails_that_call_alone(ask: Ask) -> None:
    """The reason is in the error of that call; the pool is alive."""
    with pytest.raises(Exception, match="refuses to load"):
        ask(jobs.take, jobs.RaisesOnLoad())

    assert ask(jobs.square, 3) == 9


def test_a_preflight_error_is_an_instance_of_what_the_users_reduce_raised(executor: safemp.SafeExecutor) -> None:
    """A ``LookupError`` out of ``__reduce__`` is caught as such, too."""
    with pytest.raises(LookupError) as caught:
        executor.submit(jobs.take, [jobs.RaisesOnDump()])

    assert isinstance(caught.value, safemp.PreflightError)
    assert caught.value.culprits[0].path == "args[0][0]"
    assert caught.value.culprits[0].reason.endswith("refuses to dump")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # callbacks run as deep as it gets
def test_reprs_and_attributes_of_values_are_never_asked(ask: Ask) -> None:
    """An object whose ``repr`` raises travels; one that looks up attributes for ever is answered."""
    assert ask(jobs.take, jobs.Mute()) == "Mute"
    try:
        answer = ask(jobs.take, jobs.Recurses())
    except (safemp.SafempError, RecursionError):
        pass
    else:
        assert answer == "Recurses"
    assert ask(jobs.square, 3) == 9
