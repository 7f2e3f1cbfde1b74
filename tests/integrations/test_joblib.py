"""joblib's backend: what its own promises, kept, and what it cannot do, done."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support.child import alive, lines, run_script, until
from tests.support.errors import KeywordOnly

try:
    import joblib
    from joblib import Parallel, delayed, parallel_config
except ImportError:
    joblib = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(joblib is None, reason="wants the joblib package"),
    pytest.mark.timeout(120),  # workers import it first
]


@pytest.fixture(scope="module", autouse=True)
def backend() -> Iterator[Any]:
    """The module; its workers stay warm over these tests."""
    from safemp.integrations import joblib as ours

    ours.register()
    yield ours
    ours.shutdown()
    end_loky()


def end_loky() -> None:
    """End joblib's own workers, and remove their folder in /dev/shm. Its name has joblib's pid: ours."""
    executor = joblib.externals.loky.reusable_executor._executor
    if executor is not None:
        executor.terminate(kill_workers=True)  # without that it leaves what they may still have open


@pytest.fixture
def parallel() -> Iterator[None]:
    """``Parallel`` has two workers of ours unless it says otherwise."""
    with parallel_config(backend="safemp", n_jobs=2):
        yield


class Job:
    """One piece of work; it holds a lock."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.lock = threading.RLock()
        self.rows: Any = None


def square(job: Job) -> int:
    """Square a number with a lock held; refuse 13."""
    with job.lock:
        if job.n == 13:
            raise KeywordOnly(status=429, text="refused")
        return job.n * job.n


def refuse(_: object) -> None:
    raise KeywordOnly(status=429, text="refused")


def crash(n: int) -> int:
    if n == 5:
        os._exit(7)
    return n


def stay_or_refuse(n: int, folder: str) -> None:
    """The first call writes its pid down and stays; the second refuses when it has."""
    if n == 0:
        Path(folder, "pid").write_text(f"{os.getpid()}\n")
        time.sleep(3600)
    assert until(lambda: Path(folder, "pid").exists() and lines(Path(folder, "pid")))
    refuse(n)


def flaky(path: str) -> int:
    """Die at the first try."""
    with open(path, "a") as file:
        file.write("x")
    if Path(path).stat().st_size < 2:
        os._exit(1)
    return Path(path).stat().st_size


def within(n: int) -> tuple[str, str, int, list[int]]:
    """Tell which backends a ``Parallel`` in a call has, at two levels."""
    first, n_jobs = joblib.parallel.get_active_backend()
    seconds = Parallel(n_jobs=2)(delayed(lambda _: joblib.parallel.get_active_backend()[0])(i) for i in range(2))
    return type(first).__name__, type(seconds[0]).__name__, n_jobs, Parallel(n_jobs=2)(delayed(abs)(-i) for i in [n])


def explicit(n: int) -> list[int]:
    return Parallel(n_jobs=2, backend="safemp")(delayed(abs)(-i) for i in range(n))


@dataclass(frozen=True)
class Frozen(Exception):
    """Lets nobody set its traceback."""

    code: int


def raise_frozen() -> None:
    raise Frozen(7)


def test_answers_are_those_of_a_serial_run(parallel: None) -> None:
    """Thousands of short calls, which joblib batches; each has a lock in its argument."""
    jobs = [Job(n) for n in range(14, 3000)]
    with pytest.raises(pickle.PicklingError):
        Parallel(backend="loky")(delayed(square)(job) for job in jobs[:4])

    assert Parallel()(delayed(square)(job) for job in jobs) == [square(job) for job in jobs]


@pytest.mark.parametrize("batch_size", ["auto", 1, 7])
def test_an_error_is_itself(parallel: None, batch_size: Any) -> None:
    """Its class, its attributes and the worker's frames, of which joblib would leave nothing; joblib's own breaks."""
    with pytest.raises(joblib.externals.loky.process_executor.BrokenProcessPool):
        Parallel(backend="loky")(delayed(refuse)(n) for n in range(4))

    with pytest.raises(KeywordOnly) as caught:
        Parallel(batch_size=batch_size)(delayed(square)(Job(n)) for n in range(100))
    assert caught.value.status == 429
    names = [entry.name for entry in caught.traceback]
    assert names[-1] == "square"
    assert f"{__name__}.square, items[13]" in names
    assert sum(Parallel()(delayed(square)(Job(n)) for n in range(10))) == 285


def test_the_others_are_ended(parallel: None, tmp_path: Path) -> None:
    """When ``Parallel`` has raised, no call of it runs any more."""
    with pytest.raises(KeywordOnly):
        Parallel(batch_size=1)(delayed(stay_or_refuse)(n, str(tmp_path)) for n in range(2))

    assert not alive(int(lines(tmp_path / "pid")[0]))


def test_a_failure_ends_no_call_of_another(parallel: None, tmp_path: Path) -> None:
    """Two loops on the same workers: one fails, the other gets all of its answers."""

    def other() -> list[int]:
        with parallel_config(backend="safemp", n_jobs=2):
            return Parallel(batch_size=5)(delayed(square)(Job(n)) for n in range(14, 1014))

    with ThreadPoolExecutor(1) as thread:
        answers = thread.submit(other)
        for _ in range(5):
            with pytest.raises(KeywordOnly):
                Parallel()(delayed(square)(Job(n)) for n in range(40))

        assert answers.result(60) == [n * n for n in range(14, 1014)]


def test_a_crash_names_its_call(parallel: None) -> None:
    """By the function that was called and its place, not by joblib's wrapper."""
    with pytest.raises(
        safemp.WorkerCrashed, match=rf"while it ran {__name__}\.crash for items\[5\]\n  call: .*crash\(5\)"
    ):
        Parallel()(delayed(crash)(n) for n in range(20))

    assert Parallel()(delayed(crash)(n) for n in range(3)) == [0, 1, 2]


@pytest.mark.parametrize("at", [0, 37])
def test_what_cannot_be_sent_is_named(parallel: None, at: int) -> None:
    """By its place in what ``Parallel`` was given, also when joblib asks for it in the thread of its callbacks."""
    jobs = [Job(n + 100) for n in range(60)]
    jobs[at].rows = (n for n in range(3))
    calls = [delayed(square)(job) for job in jobs]
    with pytest.raises(safemp.PreflightError) as caught:
        Parallel()(calls)

    (culprit,) = caught.value.culprits
    assert culprit.path == f"items[{at}][1][0].rows"
    assert eval(culprit.path, {"items": calls}) is culprit.get() is jobs[at].rows


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generators(parallel: None, return_as: str) -> None:
    """All results; and a reader who leaves ends the rest."""
    squares = Parallel(return_as=return_as)(delayed(square)(Job(n)) for n in range(10))
    assert sorted(squares) == [n * n for n in range(10)]

    late = Parallel(return_as=return_as, batch_size=1)(delayed(time.sleep)(3600 * (n > 0)) for n in range(2))
    assert next(late) is None
    with pytest.warns(UserWarning, match="have been cancelled"):
        del late
    assert Parallel()(delayed(abs)(-n) for n in range(3)) == [0, 1, 2]


def test_a_loop_that_is_kept_goes_on_after_a_failure(parallel: None) -> None:
    """``with Parallel()``: its results are its own, where joblib 1.6.0 adds those of the call that failed."""
    with Parallel() as loop:
        for _ in range(5):
            assert loop(delayed(square)(Job(n)) for n in range(5)) == [0, 1, 4, 9, 16]
            with pytest.raises(KeywordOnly):
                loop(delayed(square)(Job(n)) for n in range(50))


def test_loops_in_calls_follow_the_rules_of_joblib() -> None:
    """Threads at the first level, one by one below: the same as under its own backend."""
    by_us = Parallel(n_jobs=2, backend="safemp")(delayed(within)(n) for n in range(3))

    assert by_us == Parallel(n_jobs=2, backend="loky")(delayed(within)(n) for n in range(3))
    assert by_us[1][:2] == ("ThreadingBackend", "SequentialBackend")


def test_a_call_may_ask_for_the_backend_by_its_name(parallel: None) -> None:
    """Workers know it, also those that have an initializer of the user's; such pools are nested as others."""
    assert Parallel()(delayed(explicit)(n) for n in range(3)) == [[], [0], [0, 1]]
    assert Parallel(initializer=int)(delayed(explicit)(n) for n in range(3)) == [[], [0], [0, 1]]


@pytest.mark.parametrize("n_jobs", [None, 1, 2, 5, -1, -2, -100])
def test_n_jobs_is_resolved_as_joblib_does(n_jobs: int | None) -> None:
    """Every value but 0, of which neither wants to hear."""
    found = []
    for name in ("safemp", "loky"):
        with parallel_config(backend=name):
            found.append(joblib.effective_n_jobs(n_jobs))
            with pytest.raises(ValueError, match="n_jobs == 0"):
                Parallel(n_jobs=0)([delayed(abs)(1)])

    assert found[0] == found[1]


def test_limits_are_each_calls(parallel: None, tmp_path: Path) -> None:
    """However calls are batched: a time limit has a clock for each, a retry tries one again."""
    assert Parallel(batch_size=4, task_timeout=5)(delayed(time.sleep)(1.5) for _ in range(4)) == [None] * 4
    with pytest.raises(safemp.TaskTimeout, match=r"time\.sleep for items\[1\] ran for more than"):
        Parallel(batch_size=2, task_timeout=0.5)(delayed(time.sleep)(3600 * n) for n in range(2))
    paths = [str(tmp_path / str(n)) for n in range(3)]
    with parallel_config(backend="safemp", n_jobs=2, retries=1):
        assert Parallel(batch_size=3)(delayed(flaky)(path) for path in paths) == [2, 2, 2]


def test_the_timeout_of_joblib_holds(parallel: None) -> None:
    """And what it was waiting for is ended."""
    with pytest.raises(multiprocessing.TimeoutError):
        Parallel(timeout=0.3)(delayed(time.sleep)(3600) for _ in range(2))

    assert Parallel()(delayed(abs)(-n) for n in range(3)) == [0, 1, 2]


def test_an_unknown_setting_is_refused(parallel: None) -> None:
    """What the backend is told it hands to ``SafeExecutor``."""
    with pytest.raises(TypeError, match="task_timout"):
        Parallel(task_timout=3)(delayed(abs)(n) for n in range(3))


def test_an_initializer_prepares_the_workers(parallel: None) -> None:
    """Its arguments may be arrays, whose comparison has no truth value."""
    numpy = pytest.importorskip("numpy", reason="wants numpy")
    for size in (3, 4):
        setting = {"initializer": set_table, "initargs": (numpy.arange(size),)}
        with parallel_config(backend="safemp", n_jobs=2, **setting):
            for _ in range(2):
                assert Parallel()(delayed(table_sum)() for _ in range(2)) == [sum(range(size))] * 2


def test_workers_stay_for_equal_settings(parallel: None) -> None:
    """The arguments of an initializer may stand in another tuple each time."""
    table: list[int] = []
    found = set()
    for _ in range(3):
        with parallel_config(backend="safemp", n_jobs=2, initializer=set_table, initargs=tuple([table, "a"][:1])):
            found |= set(Parallel()(delayed(os.getpid)() for _ in range(20)))

    assert len(found) <= 2


def set_table(table: Any) -> None:
    global _table
    _table = table


def table_sum() -> int:
    return int(_table.sum())


def test_arrays_may_be_written_to(parallel: None, tmp_path: Path) -> None:
    """Joblib's own hands out read-only maps of large ones."""
    numpy = pytest.importorskip("numpy", reason="wants numpy")
    arrays = [numpy.zeros(300_000) for _ in range(4)]
    end_loky()  # those of the tests before would not know of *temp_folder*
    with pytest.raises(ValueError, match="read-only"):
        Parallel(backend="loky", temp_folder=str(tmp_path))(delayed(add_one)(array) for array in arrays)

    assert Parallel()(delayed(add_one)(array) for array in arrays) == [300_000] * 4
    assert not any(array.any() for array in arrays)


def add_one(array: Any) -> int:
    array += 1
    return int(array.sum())


def test_what_the_iterable_raises_is_raised(parallel: None) -> None:
    """Also when joblib asks for more in another thread; the next loop is undisturbed."""

    def calls() -> Iterator[Any]:
        for n in range(40):
            if n == 20:
                raise KeywordOnly(status=1, text="no more")
            yield delayed(abs)(n)

    with pytest.raises(KeywordOnly, match="no more"):
        Parallel()(calls())

    assert Parallel()(delayed(abs)(-n) for n in range(3)) == [0, 1, 2]


def test_an_iterable_that_exits_ends_the_loop(parallel: None) -> None:
    """Wherever it is read: nobody waits for a call that will never come."""

    def calls() -> Iterator[Any]:
        yield from (delayed(abs)(n) for n in range(20))
        raise SystemExit(3)

    with pytest.raises(SystemExit) as caught:
        Parallel(batch_size=1)(calls())
    assert caught.value.code == 3


def test_loops_of_one_block_may_be_under_way_together(parallel: None) -> None:
    """One is read while others run, each on the backend of the same ``parallel_config``."""
    squares = Parallel(return_as="generator", batch_size=1)(delayed(square)(Job(n)) for n in range(12))
    for n in range(12):
        assert next(squares) == n * n
        assert Parallel()(delayed(abs)(-k) for k in range(3)) == [0, 1, 2]
        with pytest.raises(KeywordOnly):
            Parallel()(delayed(refuse)(k) for k in range(3))


def test_an_error_that_takes_no_traceback_does_not_hang(parallel: None) -> None:
    """Joblib takes tracebacks away; an exception that is a frozen dataclass does not let it."""
    with pytest.raises((Frozen, AttributeError)):
        Parallel()(delayed(raise_frozen)() for _ in range(3))


def test_it_can_be_the_default(monkeypatch: pytest.MonkeyPatch, backend: Any) -> None:
    """For programs that ask for no backend."""
    monkeypatch.setattr(joblib.parallel, "DEFAULT_BACKEND", "loky")  # put back afterwards
    backend.register(make_default=True)

    assert Parallel(n_jobs=2)(delayed(square)(Job(n)) for n in range(4)) == [0, 1, 4, 9]


# -- scikit-learn --------------------------------------------------------------------------


@pytest.fixture
def sklearn() -> Any:
    """The package."""
    return pytest.importorskip("sklearn", reason="wants the scikit-learn package")


def estimator(refuses: bool = False) -> Any:
    """Return a classifier that holds a lock, and may refuse to be fitted."""
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.naive_bayes import GaussianNB

    class Locked(ClassifierMixin, BaseEstimator):
        def __init__(self, smoothing: float = 1e-9) -> None:
            self.smoothing = smoothing
            self.lock = threading.Lock()

        def fit(self, X: Any, y: Any) -> Any:
            with self.lock:
                if refuses:
                    raise KeywordOnly(status=422, text="refused")
                self.model_ = GaussianNB(var_smoothing=self.smoothing).fit(X, y)
                self.classes_ = self.model_.classes_
            return self

        def predict(self, X: Any) -> Any:
            return self.model_.predict(X)

    return Locked()


def test_a_search_finds_what_it_finds_here(sklearn: Any) -> None:
    """Scores and best parameters of a grid search, of a class that is local to a function."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV

    X, y = load_digits(return_X_y=True)
    grid = {"smoothing": [1e-9, 1e-3, 1e-1]}
    here = GridSearchCV(estimator(), grid, cv=3, n_jobs=1).fit(X, y)
    with parallel_config(backend="safemp"):
        there = GridSearchCV(estimator(), grid, cv=3, n_jobs=2).fit(X, y)

    assert there.best_params_ == here.best_params_
    assert list(there.cv_results_["mean_test_score"]) == list(here.cv_results_["mean_test_score"])


def test_what_an_estimator_raises_arrives(sklearn: Any, parallel: None) -> None:
    """With ``error_score="raise"``; else scikit-learn counts it, as ever."""
    from sklearn.datasets import load_iris
    from sklearn.model_selection import cross_val_score

    X, y = load_iris(return_X_y=True)
    with pytest.raises(KeywordOnly) as caught:
        cross_val_score(estimator(refuses=True), X, y, error_score="raise")
    assert caught.value.status == 422
    with pytest.raises(ValueError, match="All the 5 fits failed"):
        cross_val_score(estimator(refuses=True), X, y)


def test_a_forest_grows_as_it_does_here(sklearn: Any) -> None:
    """The same trees, by processes: scikit-learn asks for threads, and the user for us."""
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    X, y = load_iris(return_X_y=True)
    here = RandomForestClassifier(20, random_state=0, n_jobs=1).fit(X, y)
    with parallel_config(backend="safemp"):
        there = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(X, y)

    assert (there.predict_proba(X) == here.predict_proba(X)).all()


BESIDE = """
import os, tempfile, time
import joblib, numpy, safemp

if __name__ == "__main__":
    print(safemp.map(abs, [-1, -2]))
    folder = tempfile.mkdtemp()
    with joblib.Parallel(n_jobs=2, backend="loky", max_nbytes=1, temp_folder=folder) as parallel:
        print(parallel(joblib.delayed(numpy.sum)(each) for each in [numpy.arange(4)] * 2))
    while os.listdir(folder):  # joblib's workers say one by one that they do not need its files any more
        time.sleep(0.01)
    print("removed")
"""


def test_joblibs_own_workers_are_its_own_beside_ours(tmp_path: Path) -> None:
    """Its resource tracker is the one that they talk to, so its files are removed, and nobody complains."""
    ended = run_script(tmp_path, BESIDE)

    assert (ended.returncode, ended.out.split("\n")[-2], ended.err) == (0, "removed", ""), str(ended)


AT_IMPORT = """
import multiprocessing
R = None

class Given:
    pass

def name(given):
    return type(given).__name__

if multiprocessing.parent_process() is None:
    import joblib
    import safemp.integrations.joblib
    safemp.integrations.joblib.register()
    with joblib.parallel_config("safemp", n_jobs=2):
        R = joblib.Parallel()(joblib.delayed(name)(Given()) for _ in range(20)) == ["Given"] * 20
"""


def test_a_module_may_use_it_while_it_is_imported(tmp_path: Path) -> None:
    """It pickles in a thread that calls it back, and that does not wait for who imports the module."""
    (tmp_path / "at_import.py").write_text(AT_IMPORT)
    ended = run_script(tmp_path, "import at_import\nprint(at_import.R)\n")
    assert (ended.returncode, ended.out, ended.left) == (0, "True\n", ()), ended
