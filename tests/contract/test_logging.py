"""What workers log, warn of and print arrives in the caller, once."""

from __future__ import annotations

import contextlib
import io
import logging
import multiprocessing
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import safemp
from safemp.engines import forward, listener
from tests.support import logs
from tests.support.child import environment, lines, run_python, until

METHODS = ["template", "spawn", "fork", "forkserver"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """How workers are started."""
    return str(request.param)


@pytest.fixture
def kept() -> Iterator[logs.Kept]:
    """A handler of the tasks' logger, which lets pass what is INFO and more."""
    kept = logs.Kept()
    before, propagate = logs.log.level, logs.log.propagate
    logs.log.addHandler(kept)
    logs.log.setLevel(logging.INFO)
    logs.log.propagate = False
    yield kept
    logs.log.removeHandler(kept)
    logs.log.setLevel(before)
    logs.log.propagate = propagate
    logging.disable(logging.NOTSET)


@contextlib.contextmanager
def recorded(action: Any = "default") -> Iterator[list[warnings.WarningMessage]]:
    """Record what this process warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter(action)
        yield found


# -- records ---------------------------------------------------------------------------


def test_the_standard_library_loses_them(kept: logs.Kept) -> None:
    """What a task logs in a clean interpreter never reaches the handlers of the caller."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        executor.submit(logs.say).result()

    assert kept.records == []


def test_a_record_arrives_once(method: str, kept: logs.Kept, tmp_path: Path) -> None:
    """It has been handled when the result is there, by the caller only, and says who logged it."""
    written = tmp_path / "written"
    to_file = logs.ToFile(written)
    logs.log.addHandler(to_file)
    try:
        with safemp.SafeExecutor(1, method) as executor:
            pid, thread = executor.submit(logs.say, 7).result()
            (record,) = kept.records
    finally:
        logs.log.removeHandler(to_file)

    assert lines(written) == ["item 7 of many"]
    assert (record.name, record.levelname, record.getMessage()) == (logs.NAME, "INFO", "item 7 of many")
    assert (record.msg, record.args) == ("item %d of %s", (7, "many"))
    assert (record.process, record.threadName) == (pid, thread)
    assert record.processName is not None
    assert record.processName.startswith("safemp-")
    assert (record.filename, record.funcName) == ("logs.py", "say")
    assert (record.safemp_task, record.safemp_item) == ("tests.support.logs.say", None)  # type: ignore[attr-defined]
    assert record.kept == (7, {"a": [1]})  # type: ignore[attr-defined]
    assert not hasattr(record, "not_kept")
    assert 0 < record.relativeCreated < (time.time() - record.created + 3600) * 1000


def test_records_name_the_item(kept: logs.Kept) -> None:
    """Records of a map say which item they belong to."""
    with safemp.Pool(2) as pool:
        pool.map(logs.say, range(20), chunksize=3)

    found = {(r.args[0], r.safemp_item) for r in kept.records}  # type: ignore[index, attr-defined]
    assert found == {(i, i) for i in range(20)}
    assert len(kept.records) == 20


def test_the_text_of_an_error_arrives(kept: logs.Kept) -> None:
    """``log.exception`` in a task prints its traceback in the caller."""
    with safemp.SafeExecutor(1) as executor:
        executor.submit(logs.log_an_error).result()

    text = logging.Formatter("%(message)s").format(kept.records[0])
    assert text.startswith("it failed\nTraceback (most recent call last):")
    assert "in log_an_error" in text
    assert text.endswith("KeyError: 'inner'")


def test_it_can_be_turned_off(kept: logs.Kept) -> None:
    """With ``forward_logging=False`` the caller's handlers see nothing."""
    with safemp.SafeExecutor(1, forward_logging=False) as executor:
        executor.submit(logs.say).result()
        executor.submit(logs.log_in_library).result()

    assert kept.records == []


def test_levels_hold_in_the_worker(method: str, kept: logs.Kept, tmp_path: Path) -> None:
    """What the caller's levels do not let pass is neither formatted nor sent."""
    formatted = tmp_path / "formatted"
    with safemp.SafeExecutor(1, method) as executor:
        assert not executor.submit(logs.debug_costly, str(formatted)).result()
        assert lines(formatted) == []
        logs.log.setLevel(logging.DEBUG)  # the worker learns of it with its next task
        assert executor.submit(logs.debug_costly, str(formatted)).result()
        assert kept.messages == ["counted"]
        logging.disable(logging.DEBUG)
        assert not executor.submit(logs.debug_costly, str(formatted)).result()
        logging.disable(logging.NOTSET)
        assert executor.submit(logs.debug_costly, str(formatted)).result()

    assert len(lines(formatted)) == 2


def test_functions_of_the_module_do_not_configure(kept: logs.Kept) -> None:
    """``logging.info()`` adds no handler to a worker's root, as it would in a bare process."""
    logging.root.addHandler(kept)
    before = logging.root.level
    logging.root.setLevel(logging.INFO)
    try:
        with safemp.SafeExecutor(1) as executor:
            assert executor.submit(logs.log_at_root).result() == 0
    finally:
        logging.root.removeHandler(kept)
        logging.root.setLevel(before)

    assert kept.messages == ["by the function", "again"]


def test_a_null_handler_is_no_handler(kept: logs.Kept) -> None:
    """Libraries add one to their logger; their records arrive all the same."""
    with safemp.SafeExecutor(1) as executor:
        executor.submit(logs.log_in_library).result()

    assert kept.messages == ["from a library"]


def test_what_the_initializer_configures_is_obeyed(method: str, kept: logs.Kept, tmp_path: Path) -> None:
    """A worker with handlers of its own writes to those, with the levels it has set, and to nobody else."""
    path = tmp_path / "log"
    with safemp.SafeExecutor(1, method, logs.to_file, (str(path),)) as executor:
        executor.submit(logs.say, 3).result()

    assert lines(path) == ["INFO item 3 of many", "DEBUG too low"]
    assert kept.records == []


def test_what_cannot_be_formatted_breaks_nothing(kept: logs.Kept, capfd: pytest.CaptureFixture[str]) -> None:
    """The worker's ``logging`` says so on stderr; the task and what it logs later go on."""
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(logs.log_badly).result() == "done"

    assert kept.messages == ["after"]
    assert capfd.readouterr().err.count("--- Logging error ---") == 2


def test_last_words_arrive(method: str, kept: logs.Kept) -> None:
    """What a task logs and prints right before its worker is killed is there."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), safemp.SafeExecutor(1, method, capture_output=True) as executor:
        future = executor.submit(logs.log_then_crash)
        assert isinstance(future.exception(), safemp.WorkerCrashed)

    assert kept.messages == ["last words"]
    assert out.getvalue() == "last line\n"


@pytest.mark.parametrize("call", [logs.say, logs.log_then_crash])
@pytest.mark.parametrize("asked", [False, True])
def test_an_error_is_told_after_what_was_logged_before_it(
    call: Callable[[], object], asked: bool, kept: logs.Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``exception()``, of a future that is waited for as of one that is done, lets the records before it go first."""
    monkeypatch.setattr("safemp.engines.listener.GRACE", 30.0)
    done = threading.Event()
    kept.addFilter(lambda _: done.wait(30) and not threading.Event().wait(0.2))
    with safemp.SafeExecutor(1) as executor:
        future = executor.submit(call)
        future.add_done_callback(lambda _: done.set())
        if asked:
            assert done.wait(30)
        future.exception()

        assert kept.records


def test_a_thread_logs_when_its_task_has_ended(kept: logs.Kept, tmp_path: Path) -> None:
    """Its records arrive, and name no task."""
    go = tmp_path / "go"
    with safemp.SafeExecutor(1) as executor:
        executor.submit(logs.log_later, str(go)).result()
        assert kept.records == []
        go.touch()
        assert until(lambda: kept.records)

    (record,) = kept.records
    assert (record.getMessage(), record.threadName) == ("from a thread", "later")
    assert record.safemp_task == ""  # type: ignore[attr-defined]


def test_threads_of_a_task_do_not_mix(kept: logs.Kept) -> None:
    """Many threads may log at once while results are sent."""
    with safemp.SafeExecutor(2) as executor:
        list(executor.map(logs.log_from_threads, [4] * 6, [200] * 6))

    assert len(kept.records) == 6 * 4 * 200
    assert {len(message) - 50 for message in kept.messages} == {1, 2, 3}


def test_a_forked_child_of_a_task_does_not_speak(kept: logs.Kept) -> None:
    """The stream is its parent's; the task and its record are as if there were no child."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), safemp.SafeExecutor(1, capture_output=True) as executor:
        assert executor.submit(logs.fork_and_log).result() == "parent"

    assert kept.messages == ["from the parent"]
    assert out.getvalue() == ""


def test_signals_cut_no_message(kept: logs.Kept) -> None:
    """A signal handler that raises while a task logs leaves the stream as it should be."""
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(logs.log_while_interrupted, 200).result() >= 200
        assert executor.submit(logs.say, 1).result()

    assert kept.messages[-1] == "item 1 of many"
    assert all(message == "y" * 40_000 for message in kept.messages[:-1])


def test_a_destructor_may_log(kept: logs.Kept) -> None:
    """Also while its own thread is sending something."""
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(logs.log_from_del, 500).result() == 500

    assert kept.messages.count("z" * 1000) == 500
    assert kept.messages.count("gone") >= 500


OWN_CLASS = """
import logging

class Own(logging.Logger):
    def fancy(self, *args): self.log(5, *args)

before = logging.getLoggerClass()
logging.setLoggerClass(Own)
log = logging.getLogger("has_its_own_class")
logging.setLoggerClass(before)

def work(n):
    log.fancy({"n": n, "more": [1, 2]})
    logging.getLogger("has_its_own_class.below").log(5, "below")
    return type(log).__name__, log.level, log.getEffectiveLevel()
"""


@pytest.mark.parametrize("method", ["template", "spawn"])
def test_a_library_may_have_a_class_for_its_loggers(tmp_path: Path, method: str) -> None:
    """No logger is made in its place, and it has its level all the same. Names of levels are the caller's."""
    (tmp_path / "has_its_own_class.py").write_text(OWN_CLASS)
    script = tmp_path / "script.py"
    script.write_text(
        "import logging, sys\n"
        "import safemp\n"
        "import has_its_own_class\n"
        "def first(n):\n"
        "    import has_its_own_class  # only now\n"
        "    return has_its_own_class.work(n)\n"
        "class Show(logging.Handler):\n"
        "    def emit(self, record): print(record.levelname, record.msg, type(record.msg).__name__)\n"
        "if __name__ == '__main__':\n"
        "    logging.addLevelName(5, 'FANCY')\n"
        "    logging.getLogger().addHandler(Show())\n"
        "    has_its_own_class.log.setLevel(5)\n"
        f"    with safemp.SafeExecutor(1, mp_context={method!r} if {method!r} != 'template' else None) as executor:\n"
        "        print(executor.submit(first, 1).result())\n"
        "        has_its_own_class.log.setLevel(10)\n"
        "        print(executor.submit(first, 2).result())\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=60, check=False, env=environment()
    )

    assert ended.stdout.splitlines() == [
        "FANCY {'n': 1, 'more': [1, 2]} dict",
        "FANCY below str",
        "('Own', 5, 5)",
        "('Own', 10, 10)",
    ], ended
    assert ended.stderr == ""


# -- handlers --------------------------------------------------------------------------


def test_a_handler_may_raise(kept: logs.Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it raises is shown, and ends neither the pool nor the handling of what follows."""
    shown: list[Any] = []
    monkeypatch.setattr(threading, "excepthook", shown.append)

    def fail() -> None:
        raise SystemExit(3)

    kept.then = fail
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(logs.say_all, 3).result() == 3

    assert kept.messages == ["0", "1", "2"]
    assert [args.exc_type for args in shown] == [SystemExit] * 3


def test_a_handler_that_never_returns_holds_up_nothing(kept: logs.Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results come, and the pool ends."""
    monkeypatch.setattr(listener, "PATIENCE", 0.2)
    release = threading.Event()
    kept.then = release.wait
    with safemp.SafeExecutor(1) as executor:
        assert [executor.submit(logs.say_all, 3).result() for _ in range(5)] == [3] * 5

    assert kept.messages == ["0"]
    release.set()


def test_a_slow_handler_slows_the_task_and_loses_nothing(kept: logs.Kept) -> None:
    """Of one worker's records no more than a MiB waits here; all of them arrive, in order."""
    release = threading.Event()
    kept.then = release.wait
    with safemp.SafeExecutor(1) as executor:
        future = executor.submit(logs.say_all, 3000, 2000)
        engine: Any = executor._engine
        waiting = engine._listener._queue
        try:
            assert until(lambda: len(waiting) > 300)
            assert not until(lambda: len(waiting) > 600, timeout=0.5)
            assert not future.done()
        finally:
            release.set()
        assert future.result() == 3000

    assert kept.messages == [f"{i}{'x' * 2000}" for i in range(3000)]


def test_a_stuck_handler_costs_records_and_no_task(kept: logs.Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that has waited in vain goes on without logging; how much was lost is said later."""
    monkeypatch.setattr(forward, "PATIENCE", 0.3)  # a forked worker has it, too
    release = threading.Event()
    kept.then = release.wait
    dropped = logs.Kept()
    logging.getLogger("safemp").addHandler(dropped)
    try:
        with safemp.SafeExecutor(1, "fork") as executor:
            assert executor.submit(logs.say_all, 1000, 3000).result() == 1000
            assert kept.messages == ["0" + "x" * 3000]
            release.set()
            engine: Any = executor._engine
            assert until(lambda: not engine._listener._queue)
            assert executor.submit(logs.say_all, 1).result() == 1
            assert until(lambda: dropped.records)
    finally:
        logging.getLogger("safemp").removeHandler(dropped)

    (record,) = dropped.records
    assert record.levelno == logging.WARNING
    lost = 1001 - len(kept.records)
    assert record.getMessage().startswith(f"{lost} messages of a worker were dropped")
    assert 600 < lost < 700


def test_records_are_handled_in_the_context_of_their_call(kept: logs.Kept) -> None:
    """A context variable has the value that it had at ``submit``: a notebook's cell, a server's request."""
    request: ContextVar[str] = ContextVar("request", default="none")
    seen: list[str] = []
    kept.then = lambda: seen.append(request.get())
    with safemp.SafeExecutor(2) as executor:
        futures = []
        for name in "abc":
            token = request.set(name)
            futures += [executor.submit(logs.say), executor.map(logs.say, range(1))]
            request.reset(token)
        executor.shutdown()
    with safemp.Pool(1) as pool:
        token = request.set("d")
        results = pool.imap(logs.say, range(2))
        request.reset(token)
        list(results)

    assert sorted(seen) == list("aabbccdd")


def test_a_pool_in_a_worker_forwards_through_it(kept: logs.Kept) -> None:
    """A record goes up to the first caller, and still names the task that has logged it."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), safemp.SafeExecutor(1, capture_output=True) as executor:
        pid = executor.submit(logs.say_in_a_pool).result()

    (record,) = kept.records
    assert record.process == pid
    assert record.safemp_task == "tests.support.logs.say"  # type: ignore[attr-defined]
    assert out.getvalue() == "from within\n"


def test_records_do_not_keep_a_pool_open(kept: logs.Kept) -> None:
    """All that was logged is handled when ``shutdown`` returns, whoever has asked for results."""
    executor = safemp.SafeExecutor(2)
    for _ in range(4):
        executor.submit(logs.say_all, 500)
    executor.shutdown()

    assert len(kept.records) == 2000


def test_a_worker_that_is_replaced_says_all(kept: logs.Kept) -> None:
    """Nothing of a worker is lost when it leaves after its last task."""
    with safemp.SafeExecutor(1, max_tasks_per_child=1) as executor:
        for _ in range(3):
            executor.submit(logs.say_all, 50).result()

    assert len(kept.records) == 150
    assert len({record.process for record in kept.records}) == 3


# -- warnings --------------------------------------------------------------------------


def test_a_warning_arrives(method: str) -> None:
    """As its own class, from its own line, and once for each place as the caller's filters want it."""
    with recorded() as found, safemp.SafeExecutor(2, method) as executor:
        assert list(executor.map(logs.warn, [logs.Told] * 6)) == ["went on"] * 6

    (one,) = (one for one in found if one.category is not DeprecationWarning)  # of forking
    assert (one.category, str(one.message)) == (logs.Told, "careful")
    assert one.filename == logs.__file__


def test_filters_hold_in_the_worker(method: str) -> None:
    """``ignore`` and ``error`` do in a task what they do here, from the next call on."""
    with safemp.SafeExecutor(1, method) as executor:
        with recorded("ignore") as found:
            assert executor.submit(logs.warn).result() == "went on"
        assert found == []
        with recorded("error"), pytest.raises(logs.Told, match="careful"):
            executor.submit(logs.warn).result()
        with recorded("ignore") as found:
            warnings.filterwarnings("always", "imp.rtant", logs.Told)
            warnings.filterwarnings("error", category=logs.Told, module="no.such")
            executor.submit(logs.warn).result()
            executor.submit(logs.warn, logs.Told, "important").result()
            executor.submit(logs.warn, logs.Told, "important").result()
        assert [str(one.message) for one in found] == ["important"] * 2


def test_a_category_that_cannot_be_made_has_its_nearest_base() -> None:
    """Text and place arrive, under the class that a constructor lets us have."""
    with recorded("always") as found, safemp.SafeExecutor(1) as executor:
        executor.submit(logs.warn_awkwardly).result()

    (one,) = found
    assert (one.category, str(one.message)) == (UserWarning, "1 and 2")


def test_warnings_go_to_logging_if_the_caller_wants_it() -> None:
    """``logging.captureWarnings`` here holds for workers."""
    kept = logs.Kept()
    logger = logging.getLogger("py.warnings")
    logger.addHandler(kept)
    try:
        with recorded("always"), safemp.SafeExecutor(1) as executor:
            logging.captureWarnings(True)
            executor.submit(logs.warn).result()
            logging.captureWarnings(False)
    finally:
        logger.removeHandler(kept)

    (message,) = kept.messages
    assert "Told: careful" in message


def test_the_option_w_holds_in_workers(tmp_path: Path) -> None:
    """``python -W error`` makes a task raise, as in a spawned process."""
    script = tmp_path / "script.py"
    script.write_text(
        "import warnings, safemp\n"
        "def f(): warnings.warn('w')\n"
        "with safemp.SafeExecutor(1) as e:\n"
        "    print(type(e.submit(f).exception()).__name__)\n"
    )
    ended = run_python("-W", "error", str(script))

    assert ended.out == "UserWarning\n"


# -- output ----------------------------------------------------------------------------


def test_output_is_left_alone_unless_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    """What a task prints goes to the worker's stdout, which is that of the caller's process."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), safemp.SafeExecutor(1) as executor:
        executor.submit(print, "straight").result()

    assert out.getvalue() == ""
    assert capfd.readouterr().out == "straight\n"


def test_output_arrives_in_the_callers_streams(method: str) -> None:
    """What a task prints is written to ``sys.stdout`` and ``sys.stderr``, in order, when its result is there."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        safemp.SafeExecutor(1, method, capture_output=True) as executor,
    ):
        executor.submit(logs.print_both).result()
        printed = out.getvalue(), err.getvalue()

    assert printed == ("one\ndrei \u00fc\n\\udc80 lone\nno end", "two\n")


def test_output_is_live(tmp_path: Path) -> None:
    """A line is there while its task still runs."""
    out, go = io.StringIO(), tmp_path / "go"
    with contextlib.redirect_stdout(out), safemp.SafeExecutor(1, capture_output=True) as executor:
        future = executor.submit(logs.print_and_wait, str(go))
        assert until(lambda: out.getvalue() == "live\n")
        assert not future.done()
        go.touch()


def test_lines_of_workers_do_not_mix() -> None:
    """Each line is one task's, and each task's are in order."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), safemp.SafeExecutor(2, capture_output=True) as executor:
        list(executor.map(logs.print_lines, "ab", [300] * 2))

    printed = out.getvalue().splitlines()
    for who in "ab":
        assert [line for line in printed if line[0] == who] == [f"{who}-{i}-{who * 50}" for i in range(300)]
    assert len(printed) == 600


def test_captured_streams_are_like_streams() -> None:
    """They have an encoding and a descriptor, and are no terminal."""
    with safemp.SafeExecutor(1, capture_output=True) as executor:
        assert executor.submit(logs.describe_stdout).result() == (False, "utf-8", 1)


def test_both_are_independent(kept: logs.Kept) -> None:
    """Output can be captured without forwarding the log."""
    out = io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        safemp.SafeExecutor(1, forward_logging=False, capture_output=True) as executor,
    ):
        executor.submit(logs.say).result()
        executor.submit(print, "printed").result()

    assert kept.records == []
    assert out.getvalue() == "printed\n"


def test_a_reader_that_stands_still_gets_all(tmp_path: Path) -> None:
    """``python script.py | less``: the script waits until it is read, also at its end, and nothing is dropped."""
    script = tmp_path / "script.py"
    script.write_text(
        "import logging, sys, safemp\n"
        "from safemp.engines import forward, listener\n"
        "forward.PATIENCE = listener.PATIENCE = 0.2\n"
        "def f(i):\n"
        "    logging.getLogger('x').info('log')\n"
        "    for j in range(2000): print(j, 'x' * 1000)\n"
        "    logging.getLogger('x').info('%s', 'y' * 100_000)\n"
        "if __name__ == '__main__':\n"
        "    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "    with safemp.SafeExecutor(1, 'fork', capture_output=True) as e:\n"
        "        e.submit(f, 1).result()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, env=environment(), start_new_session=True
    ) as child:
        assert child.stdout is not None
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(2)
        printed = child.stdout.read().decode().splitlines()

    assert printed == ["log", *(f"{j} {'x' * 1000}" for j in range(2000)), "y" * 100_000]
    assert child.returncode == 0
