"""A library that crashes for one input, hangs for another, and works at the second try for a third.

Each call has its own end; the others are undisturbed, and the pool goes on.

Prints:

    good.dat      12 bytes
    crash.dat     WorkerCrashed: SIGSEGV in render
    hang.dat      TaskTimeout
    flaky.dat     12 bytes
    last.dat      12 bytes
"""

import faulthandler
import tempfile
import time
from pathlib import Path

import safemp


def render(name, folder):
    """Stand in for a call of a C library."""
    if name == "crash.dat":
        faulthandler._sigsegv()
    if name == "hang.dat":
        time.sleep(3600)
    if name == "flaky.dat" and not (folder / "tried").exists():
        (folder / "tried").touch()
        raise ConnectionError("try again")
    return 12


def main():
    names = ["good.dat", "crash.dat", "hang.dat", "flaky.dat", "last.dat"]
    with tempfile.TemporaryDirectory() as folder, safemp.SafeExecutor(2, task_timeout=1) as executor:
        patient = executor.options(retries=2, retry_on=ConnectionError)
        futures = {name: patient.submit(render, name, Path(folder)) for name in names}
        for name, future in futures.items():
            try:
                print(f"{name:13} {future.result()} bytes")
            except safemp.WorkerCrashed as error:
                print(f"{name:13} WorkerCrashed: {error.signal} in {error.call.rpartition('.')[2]}")
            except safemp.TaskTimeout:
                print(f"{name:13} TaskTimeout")


if __name__ == "__main__":
    main()
