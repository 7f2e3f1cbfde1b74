"""Programs that end badly: prompt, quiet, nothing left.

Each is a real program in a session of its own. A deadline only tells a hang; what is
asserted is how the program ended, what it printed, and that no process is left.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.child import in_session, lines, quiet, started, until
from tests.support.programs import run, script_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="sends signals and forks as POSIX does")


def signalled(
    folder: Path, body: str, send: Callable[[int], None], *, running: int = 2, times: int = 1
) -> tuple[int, str, str]:
    """Run *body*; when *running* calls run in workers, *send* a signal; see that nothing is left.

    Returns:
        Exit code, stdout, stderr.
    """
    (folder / "script.py").write_text(script_of(body))
    with started(str(folder / "script.py"), cwd=folder, env={"FOLDER": str(folder)}) as (child, written):
        assert until(lambda: len(list(folder.glob("running-*"))) == running, timeout=30), written()
        send(child.pid)
        for _ in range(times - 1):
            # The next one when the program has heard the last, and says so.
            assert until(lambda: "heard" in written()[0], timeout=20), written()
            send(child.pid)
        try:
            returncode = child.wait(25)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running: {in_session(child.pid)}\n{written()}")

        assert until(lambda: not in_session(child.pid), timeout=10), in_session(child.pid)
        out, err = written()
    shared_memory = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    assert not [name for name in shared_memory if f"-{child.pid}-" in name]
    return returncode, out, err


def ctrl_c(pid: int) -> None:
    """Send SIGINT to the whole group, as a terminal does."""
    os.killpg(pid, signal.SIGINT)


def sigterm(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)


# -- Ctrl-C -----------------------------------------------------------------------------

AT = {
    "safemp.map": "safemp.map(stay, range(2))",
    "safemp.imap": "list(safemp.imap(stay, itertools.count()))",
    "safemp.imap_unordered": "list(safemp.imap_unordered(stay, range(2)))",
    "Pool.apply": "p = safemp.Pool(2)\np.apply_async(stay)\np.apply(stay)",
    "Pool.get": "safemp.Pool(2).map_async(stay, range(9), 1, callback=print).get()",
    "Pool.imap": "p = safemp.Pool(2)\nnext(p.imap(stay, itertools.count()))",
    "Pool.join": "p = safemp.Pool(2)\np.map_async(stay, range(9))\np.close()\np.join()",
    "Pool.join of an imap": "p = safemp.Pool(2)\np.imap(stay, range(9))\np.close()\np.join()",
    "with Pool": "with safemp.Pool(2) as p: p.map(stay, range(2))",
    "result": "e = safemp.SafeExecutor(2)\n[e.submit(stay) for _ in range(9)][0].result()",
    "exception": "e = safemp.SafeExecutor(2)\n[e.submit(stay) for _ in range(9)][0].exception()",
    "with SafeExecutor": "with safemp.SafeExecutor(2) as e: [e.submit(stay) for _ in range(9)][0].result()",
    "SafeExecutor.map": "list(safemp.SafeExecutor(2).map(stay, range(9)))",
    "shutdown": "e = safemp.SafeExecutor(2)\n[e.submit(stay) for _ in range(9)]\ne.shutdown()",
    "leaving with": "with safemp.SafeExecutor(2) as e:\n    [e.submit(stay) for _ in range(9)]",
    "submit": "e = safemp.SafeExecutor(2)\ne.submit(stay), e.submit(stay)\nwhile True: e.submit(square, 3)",
    "wait": "e = safemp.SafeExecutor(2)\nconcurrent.futures.wait([e.submit(stay) for _ in range(2)])",
    "sleep": "e = safemp.SafeExecutor(2)\ne.submit(stay), e.submit(stay)\ntime.sleep(600)",
}


@pytest.mark.slow
@pytest.mark.parametrize("where", AT)
def test_ctrl_c_ends_a_program_wherever_it_is(tmp_path: Path, where: str) -> None:
    """One traceback, the caller's own; the exit code says SIGINT; no call is waited for."""
    returncode, out, err = signalled(tmp_path, AT[where], ctrl_c)

    assert (returncode, out) == (-signal.SIGINT, ""), err
    assert err.count("Traceback (most recent call last)") == 1, err
    assert err.startswith("Traceback")
    assert err.rstrip().endswith("KeyboardInterrupt")


CAUGHT = {
    "result": "f.result()",
    "imap": "list(safemp.imap(stay, range(2)))",
    "map": "list(e.map(stay, range(2)))",
    "shutdown": "e.shutdown()",
}


@pytest.mark.parametrize("where", CAUGHT)
def test_a_program_that_catches_ctrl_c_and_exits_is_not_held_up(tmp_path: Path, where: str) -> None:
    """``except KeyboardInterrupt: sys.exit(130)``: the calls whose answers nobody wants are not waited for."""
    body = (
        "e = safemp.SafeExecutor(2)\nf = e.submit(stay)\ne.submit(stay)\n"
        f"try: {CAUGHT[where]}\nexcept KeyboardInterrupt:\n    print('aborted')\n    sys.exit(130)"
    )
    if where == "imap":  # which has an executor of its own
        body = body.replace("f = e.submit(stay)\ne.submit(stay)\n", "")

    assert signalled(tmp_path, body, ctrl_c) == (130, "aborted\n", "")


@pytest.mark.parametrize("kind", ["Pool", "SafeExecutor"])
def test_ctrl_c_in_a_constructor_leaves_nothing_to_wait_for(tmp_path: Path, kind: str) -> None:
    """The pool that nobody has got ends with the program, its workers too."""
    body = (
        "from safemp.engines.local import LocalEngine\ninit = LocalEngine.__init__\n"
        "def interrupted(self, settings):\n    init(self, settings)\n    raise KeyboardInterrupt\n"
        "LocalEngine.__init__ = interrupted\n"
        f"try: safemp.{kind}(2)\nexcept KeyboardInterrupt: print('ok')\ntime.sleep(0.3)"
    )

    assert quiet(run(tmp_path, body))


def test_a_program_that_goes_on_after_ctrl_c_has_its_calls_finished(tmp_path: Path) -> None:
    """Calls submitted after it are waited for at exit, as ever."""
    body = (
        "e = safemp.SafeExecutor(2)\nf = e.submit(stay)\n"
        "try: f.result()\nexcept KeyboardInterrupt: e.kill_workers()\n"
        "e = safemp.SafeExecutor(1)\nfor i in range(9): e.submit(note, FOLDER + '/effects', i)"
    )

    assert signalled(tmp_path, body, ctrl_c, running=1) == (0, "", "")
    assert lines(tmp_path / "effects") == [str(i) for i in range(9)]


def test_ctrl_c_at_exit_is_the_end(tmp_path: Path) -> None:
    """While the interpreter waits for calls: they are given up, and one line says so."""
    body = "e = safemp.SafeExecutor(2)\nfor _ in range(9): e.submit(stay)"

    returncode, out, err = signalled(tmp_path, body, ctrl_c)

    assert (returncode, out) == (0, "")
    assert err == "KeyboardInterrupt: calls that had not finished are given up\n"


def test_ctrl_c_twice(tmp_path: Path) -> None:
    """Who catches the first one and then waits, is ended by the second."""
    body = (
        "e = safemp.SafeExecutor(2)\ne.submit(stay), e.submit(stay)\n"
        "try: time.sleep(600)\nexcept KeyboardInterrupt: print('heard', flush=True)\nsys.exit(3)"
    )

    returncode, out, err = signalled(tmp_path, body, ctrl_c, times=2)

    assert (returncode, out) in ((3, "heard\n"), (-signal.SIGINT, "heard\n"))
    assert err.count("KeyboardInterrupt") == 1


# -- SIGTERM ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["safemp.map", "Pool.join", "result", "submit", "sleep"])
def test_sigterm_ends_a_program_and_its_workers(tmp_path: Path, where: str) -> None:
    """By default it ends a program at once, without a word; its workers go with it."""
    assert signalled(tmp_path, AT[where], sigterm) == (-signal.SIGTERM, "", "")


@pytest.mark.parametrize("where", ["safemp.map", "safemp.imap", "Pool.join", "Pool.get", "result", "shutdown"])
def test_a_handler_that_exits_is_not_held_up(tmp_path: Path, where: str) -> None:
    """SIGTERM whose handler calls ``sys.exit``, in a wait: no call is waited for."""
    body = f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n{AT[where]}"

    assert signalled(tmp_path, body, sigterm) == (143, "", "")


def test_a_handler_that_exits_at_exit_is_obeyed(tmp_path: Path) -> None:
    """The same while the interpreter waits for calls."""
    body = (
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "e = safemp.SafeExecutor(2)\ne.submit(stay), e.submit(stay)"
    )

    returncode, out, err = signalled(tmp_path, body, sigterm)

    assert (out, err) == ("", "")
    assert returncode in (0, 143)  # Python takes no other one any more; 143 if it came before the exit


# -- ends without a signal --------------------------------------------------------------

ENDS = {
    "with Pool left by an error": (
        "with safemp.Pool(2) as p:\n    p.map_async(stay, range(9), 1)\n    wait_for_running(2)\n    1 / 0",
        1,
        "ZeroDivisionError: division by zero",
    ),
    "with SafeExecutor left by sys.exit": (
        "with safemp.SafeExecutor(2) as e:\n    future = e.submit(time.sleep, 0.5)\n"
        "    import atexit; atexit.register(lambda: future.done() or os._exit(9))\n    sys.exit(5)",
        5,
        "",
    ),
    "with Pool left by sys.exit with a text": (
        "with safemp.Pool(2) as p:\n    p.apply_async(stay)\n    wait_for_running(1)\n    sys.exit('enough')",
        1,
        "enough",
    ),
    "an error with a pool at work": (
        "p = safemp.Pool(2)\np.map_async(stay, range(9), 1)\nwait_for_running(2)\n1 / 0",
        1,
        "ZeroDivisionError: division by zero",
    ),
    "os._exit": (
        "e = safemp.SafeExecutor(2)\nfor _ in range(9): e.submit(stay)\nwait_for_running(2)\nos._exit(7)",
        7,
        "",
    ),
    "os._exit with a pool": (
        "p = safemp.Pool(2)\np.map_async(stay, range(9), 1)\nwait_for_running(2)\nos._exit(7)",
        7,
        "",
    ),
    "a crash": (
        "e = safemp.SafeExecutor(2)\nfor _ in range(9): e.submit(stay)\nwait_for_running(2)\n"
        "os.kill(os.getpid(), signal.SIGSEGV)",
        -signal.SIGSEGV,
        "",
    ),
    "sys.exit in a thread": (
        "def run():\n    e = safemp.SafeExecutor(1)\n    assert e.submit(square, 3).result() == 9\n    sys.exit(3)\n"
        "t = threading.Thread(target=run)\nt.start()\nt.join()",
        0,
        "",
    ),
    "a pool in an atexit handler": (
        "e = safemp.SafeExecutor(1)\n"
        "def last():\n"
        "    try: assert safemp.map(square, [3]) == [9]\n"
        "    except RuntimeError: pass  # from Python 3.12 on: no new threads at exit\n"
        "atexit.register(last)",
        0,
        "",
    ),
    "submitting in an atexit handler": (
        "e = safemp.SafeExecutor(1)\ne.submit(square, 3).result()\np = safemp.Pool(1)\n"
        "def last():\n"
        "    try: e.submit(square, 3)\n"
        "    except RuntimeError: pass\n"
        "    else: print('?')\n"
        "    assert p.apply(square, (3,)) == 9\n"  # as the standard library's two
        "atexit.register(last)",
        0,
        "",
    ),
    "a thread that uses a pool when the main one has ended": (
        "import threading\np = safemp.Pool(2)\n"
        "def use():\n"
        "    threading.main_thread().join()\n"
        "    assert p.map(square, range(4)) == [0, 1, 4, 9]\n"
        "    p.terminate()\n"
        "threading.Thread(target=use).start()",
        0,
        "",
    ),
    "globals that clean up at the end": (
        "import os, shutil\nclass Scratch:\n"
        "    def __init__(self): os.mkdir('scratch')\n"
        "    def __del__(self): shutil.rmtree('scratch'); print('cleaned', file=sys.stderr, flush=True)\n"
        "scratch = Scratch()\n"
        "with safemp.SafeExecutor(1) as e: e.submit(square, 3).result()",
        0,
        "cleaned",
    ),
    "daemon threads that submit": (
        "e = safemp.SafeExecutor(2)\np = safemp.Pool(2)\n"
        "def run():\n"
        "    try:\n"
        "        while True:\n"
        "            e.submit(square, 3), p.apply_async(square, (3,)), safemp.map(square, [3])\n"
        "    except (RuntimeError, ValueError, safemp.WorkerCrashed, concurrent.futures.CancelledError): pass\n"
        "for _ in range(4): threading.Thread(target=run, daemon=True).start()\n"
        "time.sleep(0.5)",
        0,
        "",
    ),
    "a daemon thread that waits": (
        "p = safemp.Pool(2)\n"
        "def run():\n"
        "    try: p.map(stay, range(2), 1)\n"
        "    except safemp.WorkerCrashed: pass\n"
        "threading.Thread(target=run, daemon=True).start()\nwait_for_running(2)",
        0,
        "",
    ),
    "a call that calls sys.exit": (
        "e = safemp.SafeExecutor(1)\n"
        "try: e.submit(sys.exit, 4).result()\nexcept SystemExit as error: assert error.code == 4\n"
        "assert e.submit(square, 3).result() == 9",
        0,
        "",
    ),
    "the executor in a default argument of an atexit handler": (
        "def last(e=safemp.SafeExecutor(1)): e.shutdown()\natexit.register(last)\n"
        "last.__defaults__[0].submit(square, 3)",
        0,
        "",
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_ends_as_it_says(tmp_path: Path, end: str) -> None:
    """Its own exit code, its own last words, nobody left."""
    body, returncode, last = ENDS[end]
    ended = run(tmp_path, body)

    assert (ended.returncode, ended.out, ended.left) == (returncode, "", ()), str(ended)
    assert ended.err.rstrip().endswith(last), str(ended)
    assert ended.err.count("Traceback") == (1 if "Error" in last else 0), str(ended)
    assert last or not ended.err, str(ended)


@pytest.mark.parametrize("raised", ["ZeroDivisionError", "SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize("kind", ["future", "pool"])
def test_an_error_in_a_callback_is_said_once_and_ends_nothing(tmp_path: Path, raised: str, kind: str) -> None:
    """It is the program's own traceback; the pool works on, and the exit code is the program's."""
    call = {
        "future": "e = safemp.SafeExecutor(1)\nf = e.submit(square, 2)\nf.add_done_callback(bad)\nf.result()\n"
        "assert e.submit(square, 3).result() == 9",
        "pool": "p = safemp.Pool(1)\np.apply_async(square, (2,), callback=bad).wait()\n"
        "assert p.apply(square, (3,)) == 9",
    }[kind]
    ended = run(tmp_path, f"def bad(_): raise {raised}('mine')\n{call}\nprint('ok')")

    assert (ended.returncode, ended.out, ended.left) == (0, "ok\n", ()), str(ended)
    assert ended.err.count("Traceback") == (0 if raised == "SystemExit" else 1), str(ended)
