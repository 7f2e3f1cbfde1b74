"""``concurrent.futures``: executors without work, futures that are done."""

from __future__ import annotations

from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_LATER = "wait until it is done, or make the executor in the worker"


def _threads(executor: Any) -> Any:
    """An idle pool is its settings: threads come with the first call."""
    if executor._shutdown:
        busy = any(thread.is_alive() for thread in executor._threads)
    else:
        busy = not executor._work_queue.empty() or len(executor._threads) > executor._idle_semaphore._value
    if busy:
        raise RefusedError("cannot pickle a ThreadPoolExecutor that is at work: its calls run in this process", _LATER)
    args = (executor._max_workers, executor._thread_name_prefix, *_initializer(executor))
    return (type(executor), args, {"_shutdown": True}) if executor._shutdown else (type(executor), args)


def _initializer(executor: Any) -> tuple[Any, Any]:
    if hasattr(executor, "_initializer"):
        return executor._initializer, executor._initargs
    make = executor._create_worker_context  # from 3.14 on, they are in its closure
    held = dict(zip(make.__code__.co_freevars, make.__closure__, strict=True))
    return held["initializer"].cell_contents, held["initargs"].cell_contents


def _processes(executor: Any) -> Any:
    if executor._pending_work_items:
        raise RefusedError("cannot pickle a ProcessPoolExecutor that is at work", _LATER)
    args = (executor._max_workers, executor._mp_context, executor._initializer, executor._initargs)
    state = {"_shutdown_thread": True} if executor._shutdown_thread else {}
    if getattr(executor, "_max_tasks_per_child", None) is not None:  # from 3.11 on
        state["_max_tasks_per_child"] = executor._max_tasks_per_child
    return (type(executor), args, state) if state else (type(executor), args)


def _future(future: Any) -> Any:
    if not future.done():
        raise RefusedError("cannot pickle a Future that is not done: nobody there would set it", "send its result()")
    return type(future), (), {name: future.__dict__[name] for name in ("_state", "_result", "_exception")}


def table() -> dict[type, Repair]:
    """Return the rules."""
    processes = loaded("concurrent.futures.process", "ProcessPoolExecutor")
    if processes is not None:  # while safemp.patch is in force another class is there, and says so
        processes = vars(processes).get("_stands_for", processes)
    fresh = "it has no calls, so it is its settings; its {} come with the first call there"
    rules = {
        loaded("concurrent.futures.thread", "ThreadPoolExecutor"): Repair(
            RECONSTRUCT, fresh.format("threads"), _threads
        ),
        processes: Repair(RECONSTRUCT, fresh.format("processes"), _processes),
        loaded("concurrent.futures._base", "Future"): Repair(RECONSTRUCT, "it is done, so it is its result", _future),
    }
    return {cls: rule for cls, rule in rules.items() if cls is not None}
