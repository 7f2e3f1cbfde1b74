"""``Pool``: ``multiprocessing.Pool`` that always answers. Same methods, same defaults."""

from __future__ import annotations

import operator
import os
import queue
import signal
import sys
import threading
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from functools import partial
from multiprocessing import TimeoutError as PoolTimeoutError
from typing import Any, Protocol

from safemp import lifetime
from safemp.batch import default_chunksize
from safemp.codec.repairs import Spec
from safemp.engines import Engine, Outcome
from safemp.engines.crash import FORKED as FORKED_TEXT
from safemp.engines.imports import aside
from safemp.engines.settings import RETRY_ON, Limits, RetryOn
from safemp.engines.stats import Stats
from safemp.executor import AnyEngine, CallTask, check_callable, make_engine, processes_of, stats_of
from safemp.failures import OnError, check_on_error
from safemp.future import SafeFuture
from safemp.progress import Progress, length_of, meter_of
from safemp.results import Feed, Gather, ItemIterator
from safemp.steady import steady_event
from safemp.worker import name_of

__all__ = ["AsyncResult", "Pool"]

RUN, CLOSE, TERMINATE, FORKED = "RUN", "CLOSE", "TERMINATE", "FORKED"

_UNREAD = 10_000
"""Results of ``imap`` that may wait unread before its feeding pauses. Picked: far more
than a reader lags behind, far less than memory."""


class AsyncResult:
    """The result of ``apply_async``, ``map_async`` or ``starmap_async``.

    As ``multiprocessing.pool.AsyncResult``; and what a call raised comes back whole.
    """

    __module__ = "safemp"

    def __init__(
        self, pool: Pool, callback: Callable[..., object] | None, error_callback: Callable[..., object] | None
    ) -> None:
        self._pool: Pool | None = pool  # an abandoned pool lives until its results are there
        self._callback = callback
        self._error_callback = error_callback
        self._called = steady_event() if callback is not None or error_callback is not None else None
        self._source: _Source

    def _arrived(self) -> None:
        """The last outcome is there. Called in an engine's thread."""
        pool, self._pool = self._pool, None
        if pool is not None and self._called is not None:
            pool._call_back(self)

    def _run_callback(self) -> None:
        """Call back, and only then let ``get`` return, as the standard library does."""
        assert self._called is not None
        try:
            try:
                value = self._source.result()
            except BaseException as error:  # what the call raised
                if self._error_callback is not None:
                    self._error_callback(error)
            else:
                if self._callback is not None:
                    self._callback(value)
        except BaseException:
            # The callback's own failure: said on stderr, as for any thread, and over.
            threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))
        finally:
            self._callback = self._error_callback = None
            self._called.set()

    def ready(self) -> bool:
        """Tell whether the call has finished."""
        return self._source.done() if self._called is None else self._called.is_set()

    def successful(self) -> bool:
        """Tell whether the call returned.

        Raises:
            ValueError: It has not finished.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return not self._source.failed()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the call has finished.

        Args:
            timeout: Seconds; ``None``: for as long as it takes.
        """
        self._wait(timeout)

    def _wait(self, timeout: float | None) -> bool:
        return self._source.wait(timeout) if self._called is None else self._called.wait(timeout)

    def get(self, timeout: float | None = None) -> Any:
        """Return what the call returned, or raise what it raised.

        Args:
            timeout: Seconds to wait; ``None``: until it is done.

        Raises:
            multiprocessing.TimeoutError: The wait was too short.
            ResultError: What it returned could not be sent, or does not load here.
            WorkerCrashed: The worker's process ended during the call.
            BaseException: What the call raised, as its own class; of a map, what its
                first failed item raised.
        """
        if not self._wait(timeout):
            raise PoolTimeoutError
        return self._source.result()


class _Source(Protocol):
    """Where the value of an ``AsyncResult`` comes from."""

    def done(self) -> bool: ...

    def wait(self, timeout: float | None) -> bool: ...

    def failed(self) -> bool: ...

    def result(self) -> Any: ...


class _PoolTask(CallTask):
    """A call whose result a pool has promised."""

    __slots__ = ("_result",)

    def __init__(
        self, engine: Engine, call: Any, future: SafeFuture[Any], result: AsyncResult, limits: Limits | None
    ) -> None:
        super().__init__(engine, call, future, limits)
        self._result = result

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        super().deliver(first, outcomes)
        self._result._arrived()

    def abort(self) -> None:
        super().abort()
        self._result._arrived()


class Pool:
    """A pool of processes with the interface of ``multiprocessing.Pool``.

    What cannot be sent is named at the line of the call; what a call raised comes back
    as its own class; a worker that dies fails only the call it was at.

    Args:
        processes: How many; default: the cores this process may use, in a worker its
            part of them.
        initializer: Called in each worker when it starts. When it raises, every call
            fails with ``InitializerError``, whose cause is what it raised.
        initargs: Its arguments. Locks, queues, pipes and shared values of multiprocessing
            may be among them, or inside them.
        maxtasksperchild: Tasks after which a worker is replaced; default: never.
        context: A ``multiprocessing`` context or the name of a start method;
            default: ``"template"`` on Linux, else ``"loky"``: clean interpreters which do not
            import the caller's main, and on Linux are forked of one that is started for it;
            or fork, if *initargs* hold a lock (a queue, ...) that was made in a fork
            context, since only forked workers can have it; ``"spawn"`` in a frozen program.
        engine: Where calls run: as for ``SafeExecutor``.
        task_timeout: Seconds that a call, or one item of a map, may run. Then its worker
            is killed, and it fails with ``TaskTimeout``. Default: as long as it takes.
        retries: How often a call is tried again that failed with one of *retry_on*.
        retry_on: The errors for that; default: what befell the worker, not what the call
            raised (``WorkerCrashed``, ``TaskTimeout``, ``MemoryLimitExceeded``).
        max_memory: Bytes that a worker may have resident. Between calls it is replaced;
            during a call it is killed, and the call fails with ``MemoryLimitExceeded``.
        inner_max_num_threads: Threads that BLAS and OpenMP may use in each worker;
            default: the cores divided by the workers. 0: as many as they like.
        forward_logging: Hand workers' log records and warnings to this process's.
        capture_output: Hand what calls print to this process's ``sys.stdout`` and
            ``sys.stderr``.
        repairs: What is mended of what is sent: as for ``SafeExecutor``.
        trace: Write down when each call runs: as for ``SafeExecutor``.

    Raises:
        ValueError: A number is out of range, an engine unknown, or a setting one that it
            cannot keep.
        TypeError: *initializer* is not callable, or a value has the wrong type.
        PreflightError: *initializer* or *initargs* cannot be pickled.
        RecursionError: This is a worker, and too many pools are around it already.
    """

    __module__ = "safemp"

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        engine: AnyEngine = "local",
        task_timeout: float | None = None,
        retries: int = 0,
        retry_on: RetryOn = RETRY_ON,
        max_memory: int | None = None,
        inner_max_num_threads: int | None = None,
        forward_logging: bool = True,
        capture_output: bool = False,
        repairs: Spec = "all",
        trace: str | os.PathLike[str] | bool = False,
    ) -> None:
        self._state = CLOSE  # until there is something to close
        processes = None if processes is None else operator.index(processes)
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        start = (initializer, tuple(initargs)) if initializer is not None else None
        self._limits = Limits(task_timeout, retries, retry_on, max_memory)
        self._engine = make_engine(
            engine,
            context,
            start,
            limits=self._limits,
            max_workers=processes,
            max_tasks=maxtasksperchild,
            eager=True,
            name="safemp-pool",
            inner_max_num_threads=inner_max_num_threads,
            forward_logging=forward_logging,
            capture_output=capture_output,
            repairs=repairs,
            trace=trace,
        )
        self._processes = processes or self._engine.max_workers
        self._feeds: list[Feed] = []  # of imap; they go on when nobody reads their results
        self._feeding = threading.RLock()  # a signal handler, or a __reduce__, may end the pool
        self._callbacks: queue.SimpleQueue[AsyncResult | None] = queue.SimpleQueue()
        self._callback_thread: threading.Thread | None = None
        self._callback_lock = threading.Lock()
        self._state = RUN
        self._finalizer = weakref.finalize(self, _end, self._engine, self._callbacks, self._feeds)
        self._finalizer.atexit = False
        lifetime.track(self)

    # -- calls ------------------------------------------------------------------------

    def apply(self, func: Callable[..., Any], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> Any:
        """Call ``func(*args, **kwds)`` in a worker and return what it returns.

        Raises:
            As ``apply_async`` and ``AsyncResult.get``.
        """
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """Call ``func(*args, **kwds)`` in a worker.

        Args:
            func: What to call.
            args: Its positional arguments.
            kwds: Its keyword arguments.
            callback: Called with what it returned, in a thread of the pool.
            error_callback: Called with what it raised, in a thread of the pool.

        Raises:
            PreflightError: The call cannot be pickled; nothing was sent.
            ValueError: The pool is closed.
            TypeError: *func* is not callable, or a coroutine function.
        """
        self._check_running()
        check_callable(func)
        arguments, keywords = tuple(args), dict(kwds or {})
        engine = self._engine
        future: SafeFuture[Any] = SafeFuture(engine)
        result = AsyncResult(self, callback, error_callback)
        result._source = future
        task = _PoolTask(engine, (func, arguments, keywords), future, result, self._limits)
        with self._still_running():
            engine.submit(task)
        return result

    @contextmanager
    def _still_running(self) -> Iterator[None]:
        """Say as the standard library does that another thread has just ended the pool."""
        try:
            yield
        except RuntimeError as error:
            if type(error) is RuntimeError and self._state in (CLOSE, TERMINATE):
                raise ValueError("Pool not running") from error
            raise

    def map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> list[Any]:
        """Call *func* for each item and return the results in order.

        Args:
            func: Called with one item.
            iterable: The items.
            chunksize: Items that go to a worker together; default: so that each worker
                gets about four chunks.
            progress: Show how far it is: as of ``safemp.map``.
            on_error: What becomes of failures: as of ``safemp.map``. ``None``: as in the
                standard library, what the first failed item raised is raised when all have
                finished.

        Raises:
            PreflightError: *func* or an item cannot be pickled; nothing was sent.
            ModuleNotFoundError: *progress* wants tqdm, and it is not installed.
            ValueError: The pool is closed, or *on_error* unknown.
            BaseException: What the first failed item raised.
            MapError: What the failed items raised, if they are collected.
        """
        return self._watch(self._gather(func, iterable, chunksize, False, None, None, progress, on_error))

    def starmap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> list[Any]:
        """As ``map``, each item being the positional arguments of a call."""
        return self._watch(self._gather(func, iterable, chunksize, True, None, None, progress, on_error))

    def _watch(self, result: AsyncResult) -> list[Any]:
        """Wait for a map that is shown meanwhile; return its results."""
        gather = result._source
        assert isinstance(gather, Gather)
        gather.watch()
        return gather.result()

    def map_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """As ``map``, without waiting; see ``apply_async`` for the callbacks."""
        return self._gather(func, iterable, chunksize, False, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult:
        """As ``starmap``, without waiting; see ``apply_async`` for the callbacks."""
        return self._gather(func, iterable, chunksize, True, callback, error_callback)

    def _gather(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        star: bool,
        callback: Callable[..., object] | None,
        error_callback: Callable[..., object] | None,
        progress: Progress | None = None,
        on_error: OnError | None = None,
    ) -> AsyncResult:
        self._check_running()
        check_callable(func)
        check_on_error(on_error)
        meter = meter_of(progress, name_of(func))
        items = iterable if isinstance(iterable, Sized) else list(iterable)
        by_default = chunksize is None
        if chunksize is None:
            chunksize = default_chunksize(len(items), self._processes)
        elif chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        result = AsyncResult(self, callback, error_callback)
        with self._still_running():
            gather = Gather(
                self._engine,
                func,
                items,
                chunksize,
                star=star,
                limits=self._limits,
                divisible=by_default,
                meter=meter,
                on_error=on_error,
            )
        result._source = gather
        gather.when_done(result._arrived)
        return result

    def imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        progress: Progress | None = None,
        on_error: OnError = "raise",
    ) -> ItemIterator:
        """Call *func* for each item; give the results in order, as they come.

        Args:
            func: Called with one item.
            iterable: The items; read in a thread, a little ahead of the workers.
            chunksize: Items that go to a worker together.
            progress: Show how many calls have finished, while results are taken: as of
                ``safemp.map``.
            on_error: What becomes of failures: as of ``safemp.imap``.

        Raises:
            PreflightError: *func* cannot be pickled. An item that cannot is named in
                its place.
        """
        return self._iterate(func, iterable, chunksize, True, progress, on_error)

    def imap_unordered(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        progress: Progress | None = None,
        on_error: OnError = "raise",
    ) -> ItemIterator:
        """As ``imap``, giving the results in the order in which they arrive."""
        return self._iterate(func, iterable, chunksize, False, progress, on_error)

    def _iterate(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        ordered: bool,
        progress: Progress | None,
        on_error: OnError,
    ) -> ItemIterator:
        self._check_running()
        check_callable(func)
        check_on_error(on_error)
        meter = meter_of(progress, name_of(func))
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        total = None if meter is None else length_of(iterable)
        with self._feeding:
            self._check_running()
            feed = Feed(
                self._engine,
                func,
                iterable,
                chunksize,
                ordered=ordered,
                window=4 * self._processes * chunksize,
                unread=_UNREAD + chunksize,
                timeout_error=PoolTimeoutError,
                limits=self._limits,
                meter=meter,
            )
            self._feeds[:] = [each for each in self._feeds if each.alive()] + [feed]
        if meter is not None:
            meter.open(total)
        return ItemIterator(
            feed, own=False, on_error=on_error, keeps=self
        )  # as the standard library: an abandoned pool goes on

    # -- callbacks --------------------------------------------------------------------

    def _call_back(self, result: AsyncResult) -> None:
        """Have *result* call back, in the pool's thread for that."""
        with self._callback_lock:
            if self._callback_thread is None:
                run = partial(_run_callbacks, self._callbacks)
                thread = threading.Thread(target=aside, args=(run,), name="safemp-callbacks", daemon=True)
                try:
                    thread.start()
                    self._callback_thread = thread
                except RuntimeError:  # the system has no thread left for us
                    pass
            called_there = self._callback_thread is not None
        if called_there:
            self._callbacks.put(result)
        else:
            result._run_callback()

    def stats(self) -> Stats:
        """Say what has happened until now: calls, failures, times, and what each worker is at.

        Raises:
            NotImplementedError: Its engine does not count.
        """
        return stats_of(self._engine)

    # -- the end ----------------------------------------------------------------------

    _outlives_threads = True

    def _at_exit(self, now: bool) -> None:
        """End with the interpreter: the workers are daemons, as in the standard library."""
        self.terminate()

    def _forked(self) -> None:
        """Be of no use in a forked child, and cost it nothing."""
        self._state = FORKED
        self._feeding = threading.RLock()  # a thread that is not here may have held them
        self._callback_lock = threading.Lock()
        self._finalizer.detach()
        lifetime.disown(self._engine)

    def _check_running(self) -> None:
        if self._state == FORKED:
            raise RuntimeError(FORKED_TEXT)
        if self._state != RUN:
            raise ValueError("Pool not running")

    def close(self) -> None:
        """Take no more calls. Those taken are finished, then the workers end."""
        with self._feeding:
            if self._state != RUN:
                return
            self._state = CLOSE
            for feed in self._feeds:
                feed.unbound()
        if not any(feed.alive() for feed in self._feeds):
            self._engine.close(wait=False)
            return
        closer = threading.Thread(
            target=_close_after, args=(list(self._feeds), self._engine), name="safemp-closer", daemon=True
        )
        closer.start()

    def terminate(self) -> None:
        """End the workers now. Calls under way fail; idle workers may run their exit handlers, for a second at most."""
        with self._feeding:
            self._state = TERMINATE
            for feed in self._feeds:
                feed.stop()
        self._engine.kill(signal.SIGTERM)
        self._engine.close()
        self._stop_callbacks()
        self._finalizer.detach()  # last: Ctrl-C may come anywhere above
        lifetime.forget(self)

    def join(self) -> None:
        """Wait until the workers have ended, and every callback has run.

        Raises:
            ValueError: Neither ``close`` nor ``terminate`` was called.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        for feed in self._feeds:
            feed.join()
        self._engine.close()
        self._stop_callbacks()
        self._finalizer.detach()
        lifetime.forget(self)

    def _stop_callbacks(self) -> None:
        with self._callback_lock:
            thread, self._callback_thread = self._callback_thread, None
        if thread is not None:
            self._callbacks.put(None)
            if thread is not threading.current_thread():
                thread.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def __del__(self, _warn: Any = warnings.warn, _RUN: str = RUN) -> None:
        if getattr(self, "_state", None) == _RUN:
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} state={self._state} pool_size={self._processes}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    @property
    def _pool(self) -> list[Any]:
        """The workers' processes; libraries look here."""
        return list(processes_of(self._engine).values())


def _run_callbacks(results: queue.SimpleQueue[AsyncResult | None]) -> None:
    while (result := results.get()) is not None:
        result._run_callback()
        del result


def _close_after(feeds: list[Feed], engine: Engine) -> None:
    for feed in feeds:
        feed.join()
    engine.close(wait=False)


def _end(engine: Engine, callbacks: queue.SimpleQueue[AsyncResult | None], feeds: list[Feed]) -> None:
    """Clean up behind a pool that nobody refers to any more."""
    for feed in feeds:
        feed.drop()
    engine.abandon(signal.SIGTERM)
    callbacks.put(None)
