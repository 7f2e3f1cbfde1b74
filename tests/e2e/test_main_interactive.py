"""Where there is no script file: ``python -c``, standard input, a REPL, a notebook."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from tests.support.child import in_session, quiet, run_python, run_script, started, until

CODE = """
import safemp

factor = 3
cache = []

class Thing:
    def __init__(self, v):
        self.v = v

class MyError(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}/{b}")
        self.a = a

def helper(x):
    return x * factor

def work(x):
    cache.append(x)
    return Thing(helper(x)), len(cache)

def fail():
    raise MyError(1, 2)

with safemp.SafeExecutor(1) as executor:
    made, count = executor.submit(work, 5).result()
    assert type(made) is Thing and made.v == 15 and count == 1
    factor = 4
    made, count = executor.submit(work, 5).result()
    assert made.v == 20 and count == 2
    try:
        executor.submit(fail).result()
    except MyError as error:
        assert (str(error), error.a) == ("1/2", 1)
    else:
        raise AssertionError
assert cache == []
with safemp.Pool(2) as pool:
    assert pool.map(helper, range(3)) == [0, 4, 8]
    assert pool.map(lambda x: helper(x) + 1, range(3)) == [1, 5, 9]
print("ok")
"""


def test_python_c() -> None:
    """Code on the command line."""
    ended = run_python("-c", CODE)

    assert quiet(ended), str(ended)


@pytest.mark.parametrize("arguments", [("-",), ()])
def test_standard_input(arguments: tuple[str, ...]) -> None:
    """A script that is piped in; there is no file, and the guard is no obstacle."""
    ended = run_python(*arguments, stdin=CODE + "\nif __name__ == '__main__':\n    print(safemp.map(helper, [2]))\n")

    assert quiet(ended, out="ok\n[8]\n"), str(ended)


def test_python_c_shows_where_it_failed() -> None:
    """Without source lines to show, a traceback names the function, and the error is the real one."""
    ended = run_python("-c", "import safemp\ndef fail(x):\n    return 1 / x\nsafemp.map(fail, [1, 0])\n")

    assert ended.returncode == 1, str(ended)
    assert 'File "<string>", line 3, in fail' in ended.err
    assert ended.err.rstrip().splitlines()[-1] == "ZeroDivisionError: division by zero"


# -- a REPL ----------------------------------------------------------------------------

TYPED = """\
import safemp
executor = safemp.SafeExecutor(1)
factor = 2
def work(x):
    return x * factor

print("first", executor.submit(work, 3).result())
factor = 5
print("second", executor.submit(work, 3).result())
def work(x):
    return helper(x) + 1

def helper(x):
    return -x

print("third", executor.submit(work, 3).result())
class Thing:
    pass

def make():
    return Thing()

print("fourth", type(executor.submit(make).result()) is Thing)
class Thing:
    new = True

made = executor.submit(make).result()
print("fifth", type(made) is Thing, made.new)
def fail():
    return {}["missing"]

executor.submit(fail).result()
print("sixth", executor.submit(lambda: 6).result())
executor.shutdown()
"""

ANSWERS = ["first 6", "second 15", "third -2", "fourth True", "fifth True True", "sixth 6"]


def test_a_repl_fed_from_a_pipe() -> None:
    """``python -i``: what is defined anew between two calls is what the warm pool uses."""
    ended = run_python("-i", "-q", stdin=TYPED)

    assert ended.returncode == 0, str(ended)
    assert ended.out.splitlines() == ANSWERS, str(ended)
    assert "KeyError: 'missing'" in ended.err
    assert "in fail" in ended.err
    assert ended.left == ()


def test_a_repl_in_a_terminal() -> None:
    """The same, typed into a terminal, as a person does."""
    master, slave = pty.openpty()
    with started("-q", stdin=slave) as (child, written):
        os.close(slave)
        os.write(master, TYPED.encode())
        assert until(lambda: "sixth" in written()[0], timeout=30), written()
        os.write(master, b"exit()\n")
        try:
            assert child.wait(20) == 0
        finally:
            os.close(master)
        out, _ = written()

    assert [line for line in out.splitlines() if line in ANSWERS] == ANSWERS


# -- a notebook ------------------------------------------------------------------------

CELLS = [
    """
import safemp
executor = safemp.SafeExecutor(1)
pool = safemp.Pool(1)
factor = 2
seen = []
def helper(x):
    return x * factor
def work(x):
    seen.append(x)
    return helper(x), len(seen)
class Thing:
    version = 1
""",
    """
assert executor.submit(work, 3).result() == (6, 1)
assert pool.map(helper, [1, 2]) == [2, 4]
assert safemp.map(helper, [1, 2]) == [2, 4]
old = executor.submit(lambda: Thing()).result()
assert type(old) is Thing and old.version == 1
""",
    """
factor = 10
""",
    """
assert executor.submit(work, 3).result() == (30, 2), "the new value of a global, and the worker's own list"
assert pool.map(helper, [1, 2]) == [10, 20]
assert safemp.map(helper, [1, 2]) == [10, 20]
""",
    """
def helper(x):
    return -x
class Thing:
    version = 2
    def twice(self):
        return self.version * 2
""",
    """
assert executor.submit(work, 3).result() == (-3, 3), "the new function, called by the old one"
assert pool.map(helper, [1, 2]) == [-1, -2]
assert safemp.map(helper, [1, 2]) == [-1, -2]
new = executor.submit(lambda: Thing()).result()
assert type(new) is Thing and new.twice() == 4
back = executor.submit(lambda x: x, old).result()
assert type(back) is type(old) is not Thing and back.version == 1, "an instance of the old class is still one"
""",
    """
def helper(x):
    return 1 / x
try:
    executor.submit(work, 0).result()
except ZeroDivisionError as error:
    import traceback
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
else:
    raise AssertionError
assert "return 1 / x" in text, text
assert "in helper" in text or "in __main__.helper" in text, text
""",
    """
del factor
def helper(x):
    return factor
try:
    print("got", executor.submit(helper, 0).result())
except NameError:
    pass
executor.shutdown(); pool.terminate()
print("ok")
""",
]

INTERPRETER = """
import __main__, code, sys
shell = code.InteractiveInterpreter(__main__.__dict__)
failed = []
shell.showtraceback = lambda: (sys.excepthook(*sys.exc_info()), failed.append(1))
cells = {cells!r}
def run(number, cell):
    import linecache
    name = f"<cell {{number}}>"
    linecache.cache[name] = (len(cell), None, cell.splitlines(True), name)
    shell.runcode(compile(cell, name, "exec"))
for number, cell in enumerate(cells):
    run(number, cell)
sys.exit(bool(failed))
"""

IPYTHON = """
import sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config
config = Config()
config.HistoryManager.enabled = False
shell = InteractiveShell.instance(config=config, colors="NoColor")
for cell in {cells!r}:
    result = shell.run_cell(cell)
    if not result.success:
        sys.exit(1)
"""


def test_cells_run_in_main(tmp_path: Path) -> None:
    """Globals, functions and classes defined anew between two calls on a warm pool are the ones it uses."""
    ended = run_script(tmp_path, INTERPRETER.format(cells=CELLS))

    assert (ended.returncode, ended.err, ended.left) == (0, "", ()), str(ended)
    assert ended.out.endswith("ok\n")


def test_cells_run_in_ipython(tmp_path: Path) -> None:
    """The same in IPython's own shell, whose ``__main__`` is the notebook's."""
    pytest.importorskip("IPython", reason="wants IPython")
    path = tmp_path / "kernel.py"
    path.write_text(IPYTHON.format(cells=CELLS))
    ended = run_python(str(path), cwd=tmp_path, env={"IPYTHONDIR": str(tmp_path)})

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert ended.out.endswith("ok\n"), str(ended)


def test_a_kernel_that_is_killed_leaves_no_worker(tmp_path: Path) -> None:
    """A notebook whose kernel is restarted, by SIGKILL, does not keep its workers."""
    ready = tmp_path / "ready"
    code = (
        "import safemp, pathlib, sys\n"
        "assert safemp.map(abs, [-1, 2]) == [1, 2]\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "sys.stdin.read()\n"
    )
    with started("-c", code, stdin=subprocess.PIPE) as (child, written):
        assert until(ready.exists, timeout=30), written()
        assert len(in_session(child.pid)) > 1
        child.kill()
        child.wait()

        assert until(lambda: not in_session(child.pid), timeout=15), in_session(child.pid)
