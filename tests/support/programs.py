"""Programs that use pools and end in all kinds of ways: their common head, and how to run them."""

from __future__ import annotations

from pathlib import Path

from tests.support.child import Ended, run_python

HEAD = """
import asyncio, atexit, concurrent.futures, itertools, os, signal, sys, threading, time
import safemp
from tests.support.jobs import note, square

FOLDER = os.environ["FOLDER"]

def stay(*_):
    open(f"{FOLDER}/running-{os.getpid()}", "w").close()
    time.sleep(600)

def wait_for_running(n):
    while len([name for name in os.listdir(FOLDER) if name.startswith("running-")]) < n:
        time.sleep(0.01)

class Mine:
    def __init__(self, n):
        self.n = n

def mine(n):
    return Mine(n * n)
"""


def script_of(body: str) -> str:
    return HEAD + "if __name__ == '__main__':\n" + "".join(f"    {line}\n" for line in body.splitlines())


def run(folder: Path, body: str) -> Ended:
    """Run *body* as a script to its end."""
    (folder / "script.py").write_text(script_of(body))
    return run_python(str(folder / "script.py"), cwd=folder, env={"FOLDER": str(folder)})
