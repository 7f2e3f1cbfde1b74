"""The command line: ``python -m safemp``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import safemp
from safemp import doctor, running
from safemp.audit import command as audit
from safemp.inspection import command

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments, without the program's name. ``None``: those of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m safemp", description="A pool of processes that always answers.")
    parser.add_argument("--version", action="version", version=f"safemp {safemp.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command")
    demo = commands.add_parser(
        "demo",
        help="run a batch through multiprocessing.Pool and through safemp.Pool, side by side",
        description="Run a batch of chat prompts through multiprocessing.Pool and through safemp.Pool, side by side, "
        "against a server on 127.0.0.1. Needs no network. Exit status 0: the three promises were seen to hold.",
    )
    demo.add_argument(
        "--deadline",
        type=_seconds,
        default=8.0,
        metavar="SECONDS",
        help="how long multiprocessing.Pool may take (default: %(default)g)",
    )
    demo.add_argument("--builtin", action="store_true", help="use the built-in client even where openai is installed")
    demo.add_argument(
        "--engine",
        choices=["local", "dask", "ray"],
        default="local",
        help="where safemp.Pool runs its calls (default: %(default)s)",
    )
    command.add_to(commands)
    audit.add_to(commands)
    doctor.add_to(commands)
    running.add_to(commands)
    arguments = sys.argv[1:] if argv is None else list(argv)
    if arguments[:1] == ["run"] and arguments[1:2] not in ([], ["-h"], ["--help"]):
        return running.run(arguments[1:])  # what follows is the program's, not for argparse to read
    options = parser.parse_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader has had enough, as with "| head"
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(options: argparse.Namespace) -> int:
    if hasattr(sys.stdout, "reconfigure"):
        # Names of classes may be any letters, and stdout a code page that lacks them.
        sys.stdout.reconfigure(errors="backslashreplace")
    if options.command == "inspect":
        return command.run(options)
    if options.command == "audit-exceptions":
        return audit.run(options)
    if options.command == "doctor":
        return doctor.run(options)
    if options.command == "run":
        print(f"usage: {running.USAGE}\ncannot run: no program is named", file=sys.stderr)
        return 2
    from safemp.demo.show import run

    return run(deadline=options.deadline, builtin=options.builtin, engine=options.engine)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and 3600 seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
