"""What a script has at its top, and what cannot be copied, works in workers that never import the script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SCRIPT = """
import contextvars, ctypes, dataclasses, functools, logging, queue, threading, weakref
import safemp

LOCK = threading.Lock()
VAR = contextvars.ContextVar("VAR", default=3)
LOG = logging.getLogger("script")
STOP = threading.Event()

class Service:
    def __init__(self):
        self.lock, self.items, self.me = threading.RLock(), queue.Queue(), weakref.ref(self)
        self.items.put(4)

    @functools.cached_property
    def value(self):
        return 9

    def get(self):
        with self.lock:
            return self.items.get_nowait() + self.value + (self.me() is self)

class Pair(ctypes.Structure):
    _fields_ = [("a", ctypes.c_int)]

@functools.lru_cache
def cached(x):
    return x * 2

@dataclasses.dataclass
class Made:
    f: object = lambda: 5

def work(x):
    with LOCK:
        LOG.info("not shown")
    return VAR.get() + cached(x) + STOP.is_set()

if __name__ == "__main__":
    with safemp.SafeExecutor(1) as executor:
        calls = [(work, 2), (Service().get,), (lambda pair: pair.a, Pair(6)), (Made().f,)]
        print([executor.submit(*call).result() for call in calls])
        try:
            executor.submit(work, STOP)
        except safemp.PreflightError as error:
            print([culprit.path for culprit in error.culprits])
"""


def test_a_scripts_own_locks_variables_and_classes_travel(tmp_path: Path) -> None:
    """A global Event is the process's own; the same one handed over is refused."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    out = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, timeout=50, env=environment, check=True
    ).stdout

    assert out.splitlines() == ["[7, 14, 6, 5]", "['args[0]']"]
