"""``python -m safemp run``: an unmodified program, with ``safemp.patch()``.

The program is the ``__main__`` of this process, as it would be without: its file, spec and
``sys.argv`` are what it and the processes that it spawns expect, and a traceback begins
with its own first line. So ``__main__`` is a new module here, and stays it to the
interpreter's end, when its exit handlers and threads run.
"""

from __future__ import annotations

import io
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any

from safemp.patching import patch

__all__ = ["USAGE", "add_to", "run"]

USAGE = "python -m safemp run [-m module | script.py] args..."

_NOT_FOUND = 2
"""The exit status of the interpreter for a script that is not there."""


def add_to(commands: Any) -> None:
    """Add the command to those of a parser, which only tells of it: ``run`` reads the arguments."""
    commands.add_parser(
        "run",
        usage=USAGE,
        help="run a program with safemp in the place of multiprocessing's pools",
        description="Run a script or a module as Python would, with safemp.patch(): multiprocessing.Pool and "
        "concurrent.futures.ProcessPoolExecutor are safemp's, and what spawned processes are given is checked and "
        "repaired. Exit status, output and tracebacks are the program's own.",
    )


def run(argv: list[str]) -> int:
    """Run a program to its end.

    Args:
        argv: ``["-m", module, ...]`` or ``[script, ...]``, and the program's own arguments.

    Returns:
        The exit status, if there is no such program. Otherwise 0: it has ended normally.

    Raises:
        BaseException: What ended the program. Its traceback has been shown.
    """
    target, *arguments = argv
    try:
        if target == "-m":
            if not arguments:
                print(f"{USAGE}\ncannot run: -m wants the name of a module", file=sys.stderr)
                return _NOT_FOUND
            program = _module(*arguments)
        elif pkgutil.get_importer(target) is not None:
            program = _directory(target, arguments)
        else:
            program = _script(target, arguments)
    except OSError as error:
        print(
            f"{sys.executable}: can't open file {os.path.abspath(target)!r}: [Errno {error.errno}] {error.strerror}",
            file=sys.stderr,
        )
        return _NOT_FOUND
    sys.modules["__main__"] = ModuleType("__main__")
    patch()
    try:
        program()
    except SystemExit:
        raise
    except BaseException as error:
        error.__traceback__ = _of_the_program(error.__traceback__)
        sys.excepthook(type(error), error, error.__traceback__)
        sys.excepthook = _silent  # the interpreter gives the exit status, for Ctrl-C too
        raise
    return 0


def _silent(*_: object) -> None:
    """Show nothing: it has been shown."""


def _module(name: str, *arguments: str) -> Callable[[], object]:
    sys.argv = ["-m", *arguments]  # its path comes when it has been found
    run_as_main: Any = runpy._run_module_as_main  # type: ignore[attr-defined]  # what "python -m" itself calls
    return lambda: run_as_main(name)


def _directory(path: str, arguments: list[str]) -> Callable[[], object]:
    """Return how to run the ``__main__`` in a directory or an archive."""
    sys.argv = [path, *arguments]
    if _safe_path():
        sys.path.insert(0, os.path.abspath(path))
    else:
        sys.path[0] = os.path.abspath(path)
    run_as_main: Any = runpy._run_module_as_main  # type: ignore[attr-defined]  # as above
    return lambda: run_as_main("__main__", False)


def _script(path: str, arguments: list[str]) -> Callable[[], object]:
    file = os.path.abspath(path)
    with io.open_code(file) as opened:
        source = opened.read()
    sys.argv = [path, *arguments]
    if not _safe_path():
        sys.path[0] = os.path.dirname(os.path.realpath(file))

    def program() -> None:
        space = sys.modules["__main__"].__dict__
        compiled = file.endswith(".pyc")
        loader: Any = SourcelessFileLoader if compiled else SourceFileLoader
        space.update(__file__=file, __cached__=None, __loader__=loader("__main__", file))
        code: CodeType = (
            space["__loader__"].get_code("__main__") if compiled else compile(source, file, "exec", dont_inherit=True)
        )
        exec(code, space)

    return program


def _safe_path() -> bool:
    """Tell whether the interpreter was told to put nothing before ``sys.path``."""
    return bool(getattr(sys.flags, "safe_path", False) or sys.flags.isolated)


def _of_the_program(trace: TracebackType | None) -> TracebackType | None:
    """Return what is left of a traceback without the frames of this file at its start."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
