"""Tasks that use what the initializer was given: locks, queues, pipes, shared values."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

HELD: dict[str, Any] = {}


def keep(**things: Any) -> None:
    HELD.update(things)


def keep_all(things: dict[str, Any]) -> None:
    HELD.update(things)


KINDS = (
    *("lock", "rlock", "semaphore", "bounded", "event", "condition", "barrier"),
    *("queue", "joinable", "simple", "reader", "writer", "value", "array", "raw_value", "raw_array"),
)
"""The keys of ``one_of_each``."""


def one_of_each(ctx: Any) -> dict[str, Any]:
    """Make one of everything that *ctx* makes."""
    reader, writer = ctx.Pipe(duplex=False)
    return {
        "lock": ctx.Lock(),
        "rlock": ctx.RLock(),
        "semaphore": ctx.Semaphore(3),
        "bounded": ctx.BoundedSemaphore(2),
        "event": ctx.Event(),
        "condition": ctx.Condition(),
        "barrier": ctx.Barrier(2),
        "queue": ctx.Queue(),
        "joinable": ctx.JoinableQueue(),
        "simple": ctx.SimpleQueue(),
        "reader": reader,
        "writer": writer,
        "value": ctx.Value("i", 0),
        "array": ctx.Array("d", 3),
        "raw_value": ctx.RawValue("i", 0),
        "raw_array": ctx.RawArray("i", 3),
    }


def close_all(things: dict[str, Any]) -> None:
    for name in ("queue", "joinable", "simple", "reader", "writer"):
        things[name].close()
    for name in ("queue", "joinable"):
        things[name].join_thread()


def use_each() -> dict[str, Any]:
    """Do to each thing what the caller can see; return what a worker sees."""
    seen: dict[str, Any] = {}
    seen["lock"] = HELD["lock"].acquire(block=False)
    seen["rlock"] = HELD["rlock"].acquire(block=False) and HELD["rlock"].acquire(block=False)
    HELD["rlock"].release()
    HELD["rlock"].release()
    seen["semaphore"] = HELD["semaphore"].acquire(block=False)
    seen["bounded"] = HELD["bounded"].acquire(block=False)
    HELD["event"].set()
    with HELD["condition"]:
        HELD["condition"].notify_all()
    seen["barrier"] = HELD["barrier"].parties
    for name in ("queue", "joinable", "simple"):
        HELD[name].put((name, os.getpid()))
    HELD["writer"].send("sent")
    for name in ("value", "raw_value"):
        HELD[name].value += 7
    for name in ("array", "raw_array"):
        HELD[name][1] = 9
    return seen


def add(times: int) -> int:
    """Add to the counter under its lock. Without the lock, sums would be lost."""
    lock, counter = HELD["lock"], HELD["counter"]
    for _ in range(times):
        with lock:
            counter.value += 1
    return os.getpid()


def add_to_value(times: int) -> None:
    counter = HELD["counter"]
    for _ in range(times):
        with counter.get_lock():
            counter.value += 1


def put(i: int) -> None:
    HELD["queue"].put(i * i)


def wait_for_event(_: object = None) -> bool:
    HELD["ready"].release()
    return bool(HELD["event"].wait(40))


def meet(_: object = None) -> int:
    return int(HELD["barrier"].wait(40))


def meet_and_tell(_: object = None) -> int:
    HELD["barrier"].wait(40)
    return os.getpid()


def same_twice() -> bool:
    return HELD["first"] is HELD["second"].lock and HELD["first"] is HELD["third"]["deep"][0]


def die_with_the_lock() -> None:
    HELD["lock"].acquire()
    os._exit(9)


def try_the_lock(seconds: float) -> bool:
    if HELD["lock"].acquire(timeout=seconds):
        HELD["lock"].release()
        return True
    return False


def tell(text: str) -> None:
    HELD["conn"].send(text)


def get(name: str) -> Any:
    return HELD[name]


def read_shared(_: object = None) -> bytes:
    return bytes(HELD["memory"].buf[:3])


def append(i: int) -> int:
    HELD["list"].append(i)
    return len(HELD["list"])


class Holder:
    """An object of the user that has a lock somewhere inside."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock


def fail_after(path: str) -> None:
    """Work in the first process, and fail in every later one."""
    first = Path(path)
    if first.exists():
        raise LookupError("the second time")
    first.touch()


def tell_each() -> None:
    for i, (_, writer) in enumerate(HELD["pipes"]):
        writer.send(i)


def knows(name: str) -> bool:
    return name in HELD


class LockedError(Exception):
    """An error that does not pickle as it is."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.lock = threading.Lock()
        self.file = open(os.devnull)  # noqa: SIM115 - so that it cannot travel


def raise_with_a_lock() -> None:
    raise LockedError("locked")


def interrupt() -> None:
    raise KeyboardInterrupt


def end_by_signal() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def hang(path: str) -> None:
    """Say who hangs, and hang."""
    Path(path).write_text(f"{os.getpid()}\n")
    while True:
        time.sleep(60)
