"""joblib on safemp's workers, and with it scikit-learn: ``parallel_config(backend="safemp")``.

How work is cut into batches, when it is dispatched and what a nested ``Parallel`` does is
joblib's own. What is different from its loky backend:

Rule 1: a batch is a chunk of a map. So each call of it has its own limits and its own
outcome, and what cannot be sent is named by its place in what ``Parallel`` was given:
``items[17][1][0].lock``, the first argument of call 17.
Rule 2: callbacks run in a thread of the backend's. They read the user's iterable, pickle
and unpickle: no thread of an engine may do that.
Rule 3: when ``Parallel`` has raised, none of its calls runs any more, and no other call
has been disturbed.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from joblib.parallel import (
    TASK_ERROR,
    AutoBatchingMixin,
    BatchCompletionCallBack,
    FallbackToBackend,
    ParallelBackendBase,
    SequentialBackend,
    parallel_config,
    register_parallel_backend,
)

from safemp.batch import Batch
from safemp.codec.calls import decode_outcome
from safemp.codec.describe import describe_call
from safemp.engines import Outcome, Task, failed
from safemp.engines.imports import aside
from safemp.engines.listener import settle
from safemp.executor import SafeExecutor, default_workers
from safemp.results import unwrap
from safemp.steady import steady_event
from safemp.worker import name_of

__all__ = ["SafempBackend", "register", "shutdown"]

_IDLE_TIMEOUT = 300.0
"""Seconds after which idle workers end; as with joblib's loky backend."""

_END = 10.0
"""Seconds that the calls of a ``Parallel`` that has failed are waited for. Picked: a killed
process ends in milliseconds, unless the kernel holds it."""

_JOBLIBS_OWN = frozenset({"max_nbytes", "temp_folder", "mmap_mode", "prefer", "require", "verbose", "context"})
"""What ``Parallel`` tells every backend. Large arrays need no files here: see ``engines.memory``."""


def register(make_default: bool = False) -> None:
    """Make ``"safemp"`` a backend of joblib.

    Args:
        make_default: Also use it where no backend is asked for.
    """
    register_parallel_backend("safemp", SafempBackend, make_default=make_default)


def shutdown() -> None:
    """End the workers. They would stay for the next ``Parallel``, up to five minutes."""
    global _executor
    with _lock:
        executor, _executor = _executor, None
    if executor is not None:
        executor.shutdown()


_lock = threading.Lock()
_executor: SafeExecutor | None = None
_made_with: dict[str, Any] = {}


def _warm(settings: dict[str, Any]) -> SafeExecutor:
    """Return the executor of the ``Parallel`` before, or another if it was made with other *settings*.

    Then the old one ends when the last ``Parallel`` that uses it has let it go.
    """
    global _executor, _made_with
    with _lock:
        if _executor is None or _executor._shut_down or not _same(settings, _made_with):
            _executor, _made_with = SafeExecutor(**settings), settings
        return _executor


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Compare settings without running a user's ``__eq__``: an array in *initargs* has a strange one."""
    return one.keys() == other.keys() and all(_is_same(value, other[name]) for name, value in one.items())


def _is_same(one: Any, other: Any) -> bool:
    if one is other or type(one) is not type(other):
        return one is other
    if type(one) is tuple:
        return len(one) == len(other) and all(map(_is_same, one, other))
    return type(one) in (bool, int, float, str) and bool(one == other)


def _after_fork() -> None:
    global _executor, _lock
    _executor, _lock = None, threading.Lock()  # it is the parent's; a thread that is not here may have held this


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class SafempBackend(AutoBatchingMixin, ParallelBackendBase):  # type: ignore[misc]  # joblib is untyped
    """A backend of joblib: see the module.

    Args:
        nesting_level: Of the ``Parallel`` around it; joblib sets it.
        inner_max_num_threads: As of ``SafeExecutor``.
        settings: Others of ``SafeExecutor``: *task_timeout*, *retries*, *max_memory*,
            *initializer*, … ``Parallel`` takes them too.
    """

    supports_retrieve_callback = True
    supports_inner_max_num_threads = True

    def __init__(
        self, nesting_level: int | None = None, inner_max_num_threads: int | None = None, **settings: Any
    ) -> None:
        super().__init__(nesting_level=nesting_level, inner_max_num_threads=inner_max_num_threads)
        self._settings = settings
        self._executor: SafeExecutor | None = None
        self._callbacks: _Callbacks | None = None
        self._jobs: set[_Job] = set()
        self._aborting = False

    def effective_n_jobs(self, n_jobs: int | None) -> int:
        """Resolve *n_jobs* as joblib does: ``None`` is 1, -1 all the cores, -2 all but one.

        Raises:
            ValueError: It is 0.
        """
        if n_jobs == 0:
            raise ValueError("n_jobs == 0 in Parallel has no meaning")
        if n_jobs is None:
            return 1
        return n_jobs if n_jobs > 0 else max(default_workers() + 1 + n_jobs, 1)

    def configure(self, n_jobs: int = 1, parallel: Any = None, **settings: Any) -> int:
        """Get the workers for a ``Parallel``; return how many.

        Raises:
            FallbackToBackend: There is only one: the calls are made here, one by one. Or
                another ``Parallel`` of the same ``parallel_config`` has this backend in use.
            TypeError: A setting is not one of ``SafeExecutor``.
        """
        n_jobs = self.effective_n_jobs(n_jobs)
        if n_jobs == 1:
            raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
        if self._callbacks is not None:
            raise FallbackToBackend(SafempBackend(self.nesting_level, self.inner_max_num_threads, **self._settings))
        self.parallel = parallel
        self._executor = _warm(
            {
                "max_workers": n_jobs,
                "idle_timeout": _IDLE_TIMEOUT,
                "inner_max_num_threads": self.inner_max_num_threads,
                "initializer": register,  # what that imports should not count as a call's time
                **self._settings,
                **{name: value for name, value in settings.items() if name not in _JOBLIBS_OWN},
            }
        )
        self._callbacks = _Callbacks()
        return n_jobs

    def start_call(self) -> None:
        """Take batches, also after an abort."""
        self._aborting = False
        # What the call before had cut and not sent when it failed, joblib (1.6.0) would send
        # now: the results of both would be in one list.
        self.parallel._ready_batches = queue.Queue()

    def submit(self, func: Any, callback: Callable[[Any], object]) -> _Job:
        """Send a batch to the workers. What is wrong with it, its callback finds out."""
        parallel, executor, callbacks = self.parallel, self._executor, self._callbacks
        assert executor is not None
        assert callbacks is not None
        # How many calls of this ``Parallel`` came before, under its lock.
        first = parallel.n_dispatched_tasks - len(func)

        def finished() -> None:
            self._jobs.discard(job)
            callbacks.put(partial(_call_back, parallel, callback, job))

        job = _Job(executor, func.items, first, self.get_nested_backend(), finished)
        self._jobs.add(job)
        if not self._aborting:
            job.start()
        return job

    def retrieve_result_callback(self, out: _Job) -> Iterable[Any]:
        """Return the results of a batch, or raise what its first failed call raised."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """End the calls that run, drop those that wait. The workers are there for others."""
        self._aborting = True
        jobs = list(self._jobs)
        for job in [job for job in jobs if job.kill()]:
            job.over.wait(_END)
        self._jobs.difference_update(jobs)

    def terminate(self) -> None:
        """Let the workers go, for the next ``Parallel``."""
        callbacks, self._callbacks, self._executor = self._callbacks, None, None
        if callbacks is not None:
            callbacks.end()
        self.reset_batch_stats()


def _call_back(parallel: Any, callback: Callable[[Any], object], job: _Job) -> None:
    """Let joblib take the outcome of *job*, and send the next batch."""
    with parallel._lock:
        try:
            callback(job)
        except BaseException as error:  # the user's iterable has raised SystemExit; stderr is closed
            # As joblib does when that raises an Exception. Else it would wait for ever.
            tracker = BatchCompletionCallBack(0, 1, parallel)
            parallel._register_new_job(tracker)
            tracker._register_outcome({"result": error, "status": TASK_ERROR})
        if job.error is not None:
            # joblib takes the traceback away, since its own would keep the ``Parallel``
            # alive. It raises the error when it has this lock.
            job.error.__traceback__ = job.traceback
            job.error = job.traceback = None


class _Callbacks:
    """A thread that calls what it is given, in turn."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self.put = self._calls.put
        # A daemon: it may be waiting for the user's iterable when the interpreter ends.
        self._thread = threading.Thread(target=aside, args=(self._run,), name="safemp-joblib", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call

    def end(self) -> None:
        """Make the calls there are, and no more."""
        self.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join(_END)


class _Job(Batch):
    """A batch of joblib's, and what became of it.

    Args:
        executor: Where it goes.
        items: Its calls, ``(function, args, kwargs)`` each.
        first: The index of the first of them in what ``Parallel`` was given.
        nested: The backend of a ``Parallel`` in a call, and its *n_jobs*.
        finished: Called when all calls have returned or one has failed; in any thread.

    Attributes:
        over: Whether that is so.
        error: What the first failed call raised, once ``result`` has raised it.
        traceback: Of it: where that was, in the worker.
    """

    def __init__(
        self,
        executor: SafeExecutor,
        items: list[Any],
        first: int,
        nested: tuple[Any, int | None],
        finished: Callable[[], object],
    ) -> None:
        names = {name_of(function) for function, _, _ in items}
        call = _Call(nested, names.pop() if len(names) == 1 else "joblib.parallel.BatchedCalls")
        super().__init__(executor._engine, call, self._take, star=True, limits=executor._limits)
        self._items = items
        self._first = first
        self._finished = finished
        self._tasks: list[Task] = []
        self._lock = threading.Lock()
        self._outcomes: list[Outcome] = [None] * len(items)
        self._left = len(items)
        self.over: threading.Event = steady_event()
        self.error: BaseException | None = None
        self.traceback: TracebackType | None = None

    def start(self) -> None:
        """Send it. An error is an outcome: nobody else would hear of it in the thread of the callbacks."""
        try:
            self.send(self._made(self.encode(self._items, self._first)))
        except Exception as error:
            self._take(self._first, [error])

    def _take(self, first: int, outcomes: list[Outcome]) -> None:
        with self._lock:
            if self.over.is_set():
                return
            at = first - self._first
            self._outcomes[at : at + len(outcomes)] = outcomes
            self._left -= len(outcomes)
            if self._left and not any(map(failed, outcomes)):
                return
            self.over.set()
        self.cancel()
        self.close()
        self._finished()

    def result(self) -> Iterable[Any]:
        """Return what the calls returned, or raise what the first failed one raised. After ``over``."""
        bad = next(filter(failed, self._outcomes), None)
        if bad is None:
            return [unwrap(each) for each in self._outcomes]
        settle()
        error = decode_outcome(bad)[1] if isinstance(bad, list) else bad
        assert isinstance(error, BaseException)
        traceback = error.__traceback__
        try:
            error.__traceback__ = None  # as joblib will do
        except Exception:  # a frozen dataclass: joblib's thread would end, and ``Parallel`` wait for ever
            return _raising(error)
        self.error, self.traceback = error, traceback
        raise error

    def kill(self) -> bool:
        """End the calls; tell whether one was running."""
        self.cancel()
        ended = [self._engine.end_task(task) for task in self._tasks]
        return any(ended)

    def _made(self, task: Any) -> Any:
        self._tasks.append(task)
        return task

    def _encode_carefully(self, items: Sequence[Any], first: int) -> Any:
        return self._made(super()._encode_carefully(items, first))

    def describe(self, item: Any) -> str:
        """Show the arguments of a call."""
        _, args, kwargs = item
        return describe_call(args, kwargs)


def _raising(error: BaseException) -> Iterator[Any]:
    """Give what raises *error* when joblib looks for the first result in it."""
    raise error
    yield


class _Call:
    """What a worker calls. Its name is that of the function that it calls in turn."""

    def __init__(self, nested: tuple[Any, int | None], name: str) -> None:
        self._nested = nested
        self.__module__ = None  # type: ignore[assignment]  # it is in the name
        self.__qualname__ = name

    def __call__(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        register()  # it may use the backend by its name
        backend, n_jobs = self._nested
        with parallel_config(backend=backend, n_jobs=n_jobs):
            return function(*args, **kwargs)
