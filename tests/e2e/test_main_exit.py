"""How a program ends: with its work done or given up, no process left, no noise on stderr."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.child import in_session, lines, quiet, run_script, started, until

HEAD = """
import os, sys, time, threading, signal
import safemp
from tests.support.jobs import note, square, work, started_then_wait

def nap(seconds):
    time.sleep(seconds)
"""

ENDS: dict[str, tuple[str, int]] = {
    "executor not shut down": ("e = safemp.SafeExecutor(2)\nassert e.submit(square, 3).result() == 9\n", 0),
    "executor never used": ("e = safemp.SafeExecutor(2)\n", 0),
    "pool not closed": ("p = safemp.Pool(2)\nassert p.map(square, [3]) == [9]\n", 0),
    "pool never used": ("p = safemp.Pool(2)\n", 0),
    "pool closed, not joined": ("p = safemp.Pool(2)\np.map_async(square, range(9))\np.close()\n", 0),
    "pool with a long call": ("p = safemp.Pool(1)\np.apply_async(nap, (600,))\n", 0),
    "pool in the middle of imap": (
        "import itertools\np = safemp.Pool(2)\nassert next(p.imap(square, itertools.count(3))) == 9\n",
        0,
    ),
    "one-line map": ("assert safemp.map(square, [3]) == [9]\n", 0),
    "one-line imap given up": ("import itertools\nassert next(safemp.imap(square, itertools.count(3))) == 9\n", 0),
    "future not read": ("e = safemp.SafeExecutor(2)\nf = e.submit(int, 'x')\n", 0),
    "a worker crashed": ("e = safemp.SafeExecutor(2)\nassert e.submit(os._exit, 3).exception().exitcode == 3\n", 0),
    "a worker was killed idle": (
        "e = safemp.SafeExecutor(1)\ne.submit(square, 3).result()\nos.kill(next(iter(e._processes)), signal.SIGKILL)\n",
        0,
    ),
    "everything at once": (
        "e = safemp.SafeExecutor(2)\np = safemp.Pool(2)\ne.submit(square, 3)\np.map_async(square, range(99), 1)\n"
        "safemp.map(square, [3])\n",
        0,
    ),
    "in a cycle": (
        "class C: pass\nc = C()\nc.c = c\nc.p = safemp.Pool(1)\nc.e = safemp.SafeExecutor(1)\nc.e.submit(square, 3)\n",
        0,
    ),
    "sys.exit": ("e = safemp.SafeExecutor(2)\ne.submit(square, 3)\nprint('ok', flush=True)\nsys.exit(3)\n", 3),
    "started in a thread": (
        "def run():\n    global e\n    e = safemp.SafeExecutor(1)\n    e.submit(square, 3).result()\n"
        "t = threading.Thread(target=run)\nt.start()\nt.join()\n",
        0,
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_a_program_may_just_end(tmp_path: Path, end: str) -> None:
    """Without ``shutdown`` or ``close``: the exit code is the program's, stderr is empty, no process is left."""
    body, returncode = ENDS[end]
    ending = "" if returncode else "print('ok', flush=True)\n"
    ended = run_script(tmp_path, HEAD + "if __name__ == '__main__':\n" + _indent(body + ending))

    assert quiet(ended, returncode=returncode), str(ended)


def _indent(body: str) -> str:
    return "".join(f"    {line}\n" for line in body.splitlines())


def test_an_executors_calls_are_finished_at_exit(tmp_path: Path) -> None:
    """As in the standard library: what was submitted runs, though nobody has called ``shutdown``."""
    effects = tmp_path / "effects"
    ended = run_script(
        tmp_path,
        HEAD + "if __name__ == '__main__':\n"
        "    e = safemp.SafeExecutor(2)\n"
        f"    for i in range(40): e.submit(note, {str(effects)!r}, i)\n"
        "    print('ok', flush=True)\n",
    )

    assert quiet(ended), str(ended)
    assert sorted(map(int, lines(effects))) == list(range(40))


def test_an_unhandled_error_ends_the_program_as_any(tmp_path: Path) -> None:
    """Its traceback is on stderr, once, and the exit code is 1."""
    ended = run_script(
        tmp_path,
        HEAD + "if __name__ == '__main__':\n"
        "    e = safemp.SafeExecutor(2)\n"
        "    e.submit(square, 3)\n"
        "    e.submit(int, 'x').result()\n",
    )

    assert (ended.returncode, ended.out, ended.left) == (1, "", ()), str(ended)
    assert ended.err.startswith("Traceback (most recent call last):\n")
    assert ended.err.endswith("ValueError: invalid literal for int() with base 10: 'x'\n")
    assert ended.err.count("Traceback") == 1


def test_an_error_in_the_with_block_of_a_pool_does_not_wait(tmp_path: Path) -> None:
    """``with Pool``: an error ends the calls that are running."""
    ended = run_script(
        tmp_path,
        HEAD + "if __name__ == '__main__':\n"
        "    with safemp.Pool(2) as p:\n"
        "        p.apply_async(nap, (600,))\n"
        "        raise SystemExit(4)\n",
    )

    assert quiet(ended, out="", returncode=4), str(ended)


LONG = (
    HEAD
    + """
if __name__ == "__main__":
    folder, how = sys.argv[1:]
    paths = [(f"{folder}/started{i}", f"{folder}/never") for i in range(2)]
    if how == "map":
        safemp.starmap(started_then_wait, paths)
    elif how == "Pool":
        with safemp.Pool(2) as pool:
            pool.starmap(started_then_wait, paths, 1)
    else:
        with safemp.SafeExecutor(2) as executor:
            futures = [executor.submit(started_then_wait, *path) for path in paths]
            futures += [executor.submit(square, i) for i in range(100)]
            [future.result() for future in futures]
"""
)


@pytest.mark.parametrize("how", ["SafeExecutor", "Pool", "map"])
def test_workers_go_when_the_program_is_killed(tmp_path: Path, how: str) -> None:
    """SIGKILL in the middle of calls: no worker stays, and nothing is left in ``/dev/shm``."""
    script = tmp_path / "script.py"
    script.write_text(LONG)
    with started(str(script), str(tmp_path), how) as (child, written):
        assert until(lambda: all((tmp_path / f"started{i}").exists() for i in range(2)), timeout=30), written()
        child.kill()
        child.wait()

        assert until(lambda: not in_session(child.pid), timeout=15), in_session(child.pid)
        assert written() == ("", "")
    shared_memory = os.listdir("/dev/shm") if os.path.isdir("/dev/shm") else []
    assert not [entry for entry in shared_memory if f"-{child.pid}-" in entry]


@pytest.mark.parametrize("how", ["SafeExecutor", "Pool", "map"])
def test_ctrl_c_ends_everything_without_a_page_of_workers(tmp_path: Path, how: str) -> None:
    """SIGINT to the whole group, as a terminal sends it: one traceback, of the caller, and no process left."""
    script = tmp_path / "script.py"
    script.write_text(LONG)
    with started(str(script), str(tmp_path), how) as (child, written):
        assert until(lambda: all((tmp_path / f"started{i}").exists() for i in range(2)), timeout=30), written()
        os.killpg(child.pid, signal.SIGINT)
        try:
            returncode = child.wait(20)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running: {in_session(child.pid)}\n{written()[1]}")

        assert until(lambda: not in_session(child.pid), timeout=10), in_session(child.pid)
        out, err = written()
    assert returncode == -signal.SIGINT
    assert out == ""
    assert err.count("Traceback (most recent call last)") == 1, err
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_sigterm_ends_workers_too(tmp_path: Path) -> None:
    """What a service manager sends ends the program at once, and its workers after it."""
    script = tmp_path / "script.py"
    script.write_text(LONG)
    with started(str(script), str(tmp_path), "SafeExecutor") as (child, written):
        assert until(lambda: all((tmp_path / f"started{i}").exists() for i in range(2)), timeout=30), written()
        child.terminate()
        assert child.wait(20) == -signal.SIGTERM

        assert until(lambda: not in_session(child.pid), timeout=15), in_session(child.pid)


def test_a_forked_child_that_exits_leaves_the_parents_workers_alone(tmp_path: Path) -> None:
    """``os.fork`` after a pool was made: the child's exit, by ``sys.exit`` too, neither waits nor ends anything."""
    ended = run_script(
        tmp_path,
        HEAD + "import warnings\nwarnings.simplefilter('ignore')\n"
        "if __name__ == '__main__':\n"
        "    e = safemp.SafeExecutor(1)\n"
        "    p = safemp.Pool(1)\n"
        "    assert e.submit(square, 3).result() == p.apply(square, (3,)) == 9\n"
        "    pid = os.fork()\n"
        "    if not pid:\n"
        "        sys.exit(0)\n"
        "    assert os.waitpid(pid, 0)[1] == 0\n"
        "    assert e.submit(square, 3).result() == p.apply(square, (3,)) == 9\n"
        "    print('ok', flush=True)\n",
    )

    assert quiet(ended), str(ended)


def test_output_of_tasks_is_not_swallowed(tmp_path: Path) -> None:
    """What tasks print goes where the program's output goes, even if the worker ends right after."""
    ended = run_script(
        tmp_path,
        HEAD + "def say(i):\n    sys.stdout.write(f'said {i}\\n')\n"
        "if __name__ == '__main__':\n"
        "    e = safemp.SafeExecutor(2)\n"
        "    for i in range(5): e.submit(say, i)\n",
    )

    assert (ended.returncode, ended.err, ended.left) == (0, "", ()), str(ended)
    assert sorted(ended.out.splitlines()) == [f"said {i}" for i in range(5)]
