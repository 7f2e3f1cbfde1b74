"""``python -m safemp run``: programs that nobody has changed behave as without, and survive what they did not."""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.child import Ended, quiet, run_python
from tests.support.idioms import EXAMPLES, REPLACED
from tests.support.unmodified import (
    ABOUT_ITSELF,
    EXITS,
    FATAL,
    FATAL_IN_A_PROCESS,
    IDIOMS,
    IMPORTS,
    NAMED_LOCK,
    SPAWNED,
    WITH_METHOD,
)

METHODS = [None, "spawn", "forkserver"]


def both(folder: Path, *args: str) -> tuple[Ended, Ended]:
    """Run ``python *args`` without and with safemp."""
    return run_python(*args, cwd=folder), run_python("-m", "safemp", "run", *args, cwd=folder)


def same(folder: Path, *args: str) -> Ended:
    """Run it both ways, check that nobody could tell which is which, and return how it ended."""
    stock, ours = both(folder, *args)

    assert (ours.returncode, ours.out, ours.err, ours.left) == (stock.returncode, stock.out, stock.err, ()), (
        f"without: {stock}\nwith: {ours}"
    )
    return ours


def write(folder: Path, source: str, name: str = "program.py") -> str:
    """Write a program and return its name."""
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(source)
    return name


@pytest.mark.slow
@pytest.mark.parametrize("method", [None, "spawn"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_documentation_run(tmp_path: Path, example: str, method: str | None) -> None:
    """Every other program of the documentation that has processes prints what it prints without."""
    source = EXAMPLES[example] if method is None else WITH_METHOD.format(method=method) + EXAMPLES[example]

    ended = same(tmp_path, write(tmp_path, source))

    assert ended.returncode == 0
    assert ended.out


@pytest.mark.slow
@pytest.mark.parametrize("example", REPLACED)
def test_the_examples_run_with_their_import_replaced(tmp_path: Path, example: str) -> None:
    """``Pool``, ``Process`` and ``ProcessPoolExecutor`` from safemp, and nothing else changed."""
    stock = run_python(write(tmp_path, (IDIOMS | EXAMPLES)[example]), cwd=tmp_path)
    ours = run_python(write(tmp_path, REPLACED[example]), cwd=tmp_path)

    assert quiet(ours, out=stock.out), f"without: {stock}\nwith: {ours}"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("idiom", IDIOMS)
def test_the_idioms_of_the_documentation_run(tmp_path: Path, idiom: str, method: str | None) -> None:
    """The three programs of the examples page, each with each start method."""
    source = IDIOMS[idiom] if method is None else WITH_METHOD.format(method=method) + IDIOMS[idiom]

    ended = same(tmp_path, write(tmp_path, source))

    assert ended.returncode == 0
    assert len(ended.out.splitlines()) > 1


def test_an_error_that_does_not_unpickle_arrives(tmp_path: Path) -> None:
    """Without, it breaks the pool, and with it the calls that follow."""
    stock, ours = both(tmp_path, write(tmp_path, FATAL))

    assert "BrokenProcessPool" in stock.out
    assert quiet(ours, out="0\n1\nRefused 429\n3\n"), str(ours)


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_pool_of_a_process_is_ours_by_a_name_from_the_top(tmp_path: Path, method: str) -> None:
    """The main module is imported before the process knows of safemp; what it has imported leads to us all the same."""
    stock, ours = both(tmp_path, write(tmp_path, FATAL_IN_A_PROCESS.format(method=method)))

    assert "BrokenProcessPool" in stock.out
    assert quiet(ours, out="0\n1\nRefused 429\n3\n"), str(ours)


def test_a_fork_server_has_what_its_processes_want(tmp_path: Path) -> None:
    """They import nothing of safemp, which takes much longer than a fork; a spawned process must."""
    (forked, spawned) = (
        run_python("-m", "safemp", "run", write(tmp_path, IMPORTS.format(method=method)), cwd=tmp_path)
        for method in ("forkserver", "spawn")
    )

    assert quiet(forked, out="[]\n"), str(forked)
    assert "'safemp.patching'" in spawned.out


@pytest.mark.parametrize("method", METHODS[1:])
def test_workers_of_a_pool_that_is_terminated_leave_no_semaphore(tmp_path: Path, method: str) -> None:
    """Nobody is told of a leak: the lock that a worker has made is gone with it."""
    program = write(tmp_path, NAMED_LOCK.format(method=method))

    ours = run_python("-m", "safemp", "run", program, cwd=tmp_path)

    assert quiet(ours, out="[0, 1, 2, 3]\n"), str(ours)


def test_a_process_gets_what_it_was_meant_to_have(tmp_path: Path) -> None:
    """Without, spawn fails; with, the lock, the logger and the lambda arrive."""
    stock, ours = both(tmp_path, write(tmp_path, SPAWNED))

    assert stock.returncode not in (0, None)
    assert "cannot pickle" in stock.err.lower() or "can't pickle" in stock.err.lower()
    assert quiet(ours, out="42\n"), str(ours)


def test_functions_of_a_main_that_is_not_imported_arrive(tmp_path: Path) -> None:
    """A package's ``__main__`` is not imported again, so the standard library does not find its functions."""
    write(tmp_path, "", "package/__init__.py")
    write(tmp_path, EXITS, "package/__main__.py")

    stock, ours = both(tmp_path, "-m", "package")

    assert stock.out == "1\n"
    assert "AttributeError" in stock.err
    assert quiet(ours, out="7\n"), str(ours)


def test_what_cannot_be_sent_is_named_at_the_line(tmp_path: Path) -> None:
    """The traceback ends in a PreflightError, and its first line is the program's."""
    source = SPAWNED.replace("lambda x: 3 * x", "(x for x in ())")

    _, ours = both(tmp_path, write(tmp_path, source))

    assert ours.returncode == 1
    assert "safemp.PreflightError: cannot send args[0].scale: generator does not pickle\n" in ours.err
    traceback = ours.err.rpartition("Traceback (most recent call last):\n")[2]
    assert traceback.startswith(f'  File "{tmp_path / "program.py"}", line 18, in <module>\n')


@pytest.mark.parametrize("args", [(), ("x", "-m", "y", "--version", "--", "-h"), ("path",)])
def test_a_script_sees_what_it_would_have_seen(tmp_path: Path, args: tuple[str, ...]) -> None:
    """Its name, file, package, loader and arguments; nothing of safemp is among its names."""
    same(tmp_path, write(tmp_path, ABOUT_ITSELF), *args)


def test_a_script_elsewhere_finds_its_neighbours(tmp_path: Path) -> None:
    """The directory of the script comes first on ``sys.path``, not the current one."""
    write(tmp_path, "WHO = 'neighbour'", "sub/mod.py")
    write(tmp_path, "WHO = 'cwd'", "mod.py")
    write(tmp_path, "import mod\nprint(mod.WHO)", "sub/program.py")

    assert same(tmp_path, "sub/program.py").out == "neighbour\n"


@pytest.mark.parametrize("name", ["prog", "package", "package.prog"])
def test_a_module_sees_what_it_would_have_seen(tmp_path: Path, name: str) -> None:
    """As with ``python -m``, with packages too."""
    for file in ("prog.py", "package/__init__.py", "package/__main__.py", "package/prog.py"):
        write(tmp_path, "" if "init" in file else ABOUT_ITSELF, file)

    same(tmp_path, "-m", name, "-m", "path", "--help")


@pytest.mark.parametrize("how", ["directory", "archive", "compiled"])
def test_other_forms_of_a_program(tmp_path: Path, how: str) -> None:
    """A directory, a zip file and a compiled file are programs, too."""
    write(tmp_path, ABOUT_ITSELF, "app/__main__.py")
    name = "app"
    if how == "archive":
        name = "app.zip"
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(tmp_path / "app" / "__main__.py", "__main__.py")
    elif how == "compiled":
        import py_compile

        name = "app.pyc"
        py_compile.compile(str(tmp_path / "app" / "__main__.py"), str(tmp_path / name))

    same(tmp_path, name, "path")


@pytest.mark.parametrize(
    "end",
    [
        "sys.exit()",
        "sys.exit(5)",
        "sys.exit('a text')",
        "raise ValueError('x')",
        "raise KeyboardInterrupt",
        "def f(): return 1 / 0\nf()",
        "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e",
        "import os; os._exit(9)",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
        "1 +",
        "sys.excepthook = lambda *a: print('hook', a[0].__name__)\n1 / 0",
        "import atexit; atexit.register(lambda: print('exit', __name__, f()))\ndef f(): return 'there'",
        "import threading; threading.Thread(target=lambda: print('thread', f())).start()\ndef f(): return 'there'",
    ],
)
@pytest.mark.parametrize("as_module", [False, True], ids=["script", "module"])
def test_it_ends_as_it_would_have_ended(tmp_path: Path, end: str, as_module: bool) -> None:
    """Exit status, traceback and all."""
    name = write(tmp_path, f"import sys\nprint('begun', flush=True)\n{end}\n")

    same(tmp_path, *(["-m", "program"] if as_module else [name]))


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    """Python's own words and status."""
    same(tmp_path, "nothing.py")
    same(tmp_path, "-m", "nothing")


def test_no_program_is_named() -> None:
    """The usage is said, and how to get help."""
    for args in ((), ("-m",)):
        ended = run_python("-m", "safemp", "run", *args)
        assert ended.returncode == 2
        assert "python -m safemp run [-m module | script.py] args..." in ended.err
    helped = run_python("-m", "safemp", "run", "--help")
    assert helped.returncode == 0
    assert helped.out.startswith("usage: python -m safemp run [-m module | script.py] args...\n")


def test_compileall_compiles_with_it(tmp_path: Path) -> None:
    """A program of the standard library that nobody here wrote: same errors, same files."""
    for way in ("stock", "ours"):
        shutil.copytree(
            Path(__file__).parents[2] / "safemp" / "engines",
            tmp_path / way / "code",
            ignore=shutil.ignore_patterns("__pycache__"),
        )
        (tmp_path / way / "code" / "bad.py").write_text("1 +\n")

    stock = run_python("-m", "compileall", "-q", "-j", "2", "code", cwd=tmp_path / "stock")
    ours = run_python("-m", "safemp", "run", "-m", "compileall", "-q", "-j", "2", "code", cwd=tmp_path / "ours")

    assert (ours.returncode, ours.out, ours.err, ours.left) == (1, stock.out, stock.err, ())
    assert "SyntaxError" in ours.out
    made = [sorted(path.name for path in (tmp_path / way).rglob("*.pyc")) for way in ("stock", "ours")]
    assert made[0] == made[1] != []
    assert f"cpython-{sys.version_info.major}{sys.version_info.minor}" in made[0][0]
