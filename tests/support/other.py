"""Another process that makes the calls it is sent: ``worker.run`` and nothing else.

It keeps its namespaces as a worker does, but has no engine around it, so what goes
wrong with it is the codec's.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any

from safemp import worker
from safemp.codec import calls, namespaces
from tests.support.child import environment


class Other:
    """The other process, from this side. ``other(fn, *args)`` gives what the call gives."""

    def __init__(self) -> None:
        self._connection, theirs = Pipe()
        with theirs:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "tests.support.other", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env=environment(),
            )

    def __call__(self, fn: Callable[..., Any], /, *args: Any, careful: bool = False, **kwargs: Any) -> Any:
        self._connection.send([bytes(frame) for frame in calls.encode_call(fn, args, kwargs, careful=careful)])
        if not self._connection.poll(30):
            raise TimeoutError("the other process does not answer")
        good, value = calls.decode_outcome(list(map(bytearray, self._connection.recv())))
        if not good:
            raise value
        return value

    def terminate(self) -> None:
        """End it."""
        self._connection.close()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()


def main(descriptor: int) -> None:
    """Answer until the other side is gone."""
    namespaces.adopt()
    with Connection(descriptor) as connection:
        while True:
            try:
                frames = connection.recv()
            except (EOFError, ConnectionError):
                return
            connection.send([bytes(frame) for frame in worker.run(frames)])


if __name__ == "__main__":
    main(int(sys.argv[1]))
