"""``SafeExecutor``: ``concurrent.futures.ProcessPoolExecutor`` that always answers."""

from __future__ import annotations

import operator
import os
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Executor
from concurrent.futures import TimeoutError as FutureTimeoutError
from functools import partial
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, overload

from safemp import lifetime
from safemp.batch import Batch, chunked
from safemp.by_submit import map_by_submit
from safemp.codec import calls, homes, pickling
from safemp.codec.describe import describe_call
from safemp.codec.frames import Buffer, Frames
from safemp.codec.record import Count
from safemp.codec.repairs import ALL, Spec, policy_of
from safemp.codec.statics import type_name
from safemp.engines import Definitions, Engine, Outcome, Shared, Task, Tasks, nesting, system
from safemp.engines.crash import not_run
from safemp.engines.handover import encode_start
from safemp.engines.settings import RETRY_ON, SETTINGS, LimitOptions, Limits, RetryOn, Settings, limits_of
from safemp.engines.stats import Stats
from safemp.failures import OnError, check_on_error, given
from safemp.future import SafeFuture
from safemp.progress import Meter, Progress, length_of, meter_of
from safemp.results import failures, read, unwrap
from safemp.steady import steady_condition
from safemp.worker import name_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = [
    "AnyEngine",
    "CallTask",
    "ProcessPoolExecutor",
    "SafeExecutor",
    "View",
    "check_callable",
    "check_limits",
    "make_engine",
    "stats_of",
]

P = ParamSpec("P")
T = TypeVar("T")

AnyEngine = str | Engine | Executor | Callable[[], Executor]
"""What front ends take as an engine."""

_NO_KEYWORDS: dict[str, Any] = {}
"""For all calls without any: a million of them may be queued. It stays empty."""

_CO_COROUTINE = 0x80 | 0x200
"""``inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR``, without importing inspect."""

_MAX_WINDOWS_WORKERS = 61
"""``WaitForMultipleObjects`` takes 63 handles; as in the standard library."""


def default_workers() -> int:
    """Return the cores this process may use: by affinity, by cgroup, in a worker its part."""
    return nesting.cores()


def check_callable(fn: Any) -> None:
    """Refuse what cannot be called in a worker.

    Raises:
        TypeError: *fn* is not callable, or calling it would give a coroutine.
    """
    if type(fn) is FunctionType and not fn.__code__.co_flags & _CO_COROUTINE:
        return
    if not callable(fn):
        raise TypeError(
            f"cannot call fn: {type_name(type(fn))} is not callable\n"
            "  fix:    hand over the function and its arguments separately"
        )
    function = fn
    while type(function) is partial:
        function = function.func
    code = getattr(getattr(function, "__func__", function), "__code__", None)
    if code is not None and getattr(code, "co_flags", 0) & _CO_COROUTINE:
        raise TypeError(
            f"cannot run {name_of(fn)}: a coroutine function gives a coroutine, which cannot come back\n"
            "  fix:    hand over a function that calls asyncio.run()"
        )


def make_engine(
    engine: AnyEngine,
    context: Any,
    start: tuple[Callable[..., Any], tuple[Any, ...]] | None,
    repairs: Spec = "all",
    *,
    limits: Limits,
    max_workers: int | None,
    **settings: Any,
) -> Engine:
    """Make the engine that a front end was asked for.

    Args:
        engine: One, or its name; an executor, or a function that makes one.
        context: A ``multiprocessing`` context or the name of a start method.
        start: The initializer and its arguments.
        repairs: See ``policy_of``.
        limits: What calls may use unless they say otherwise.
        max_workers: The most tasks at a time; ``None``: as many as the engine thinks right.
        settings: Others for ``Settings``.

    Raises:
        TypeError: A setting has the wrong type, or *engine* is none.
        ValueError: There is no engine of that name, a setting is out of range, or one that the
            engine cannot keep.
        ImportError: The package that the engine is for is not installed.
        PreflightError: The initializer cannot be pickled.
        RecursionError: Pools are nested too deep.
    """
    policy = policy_of(repairs)
    if engine not in ("inline", "local"):
        made = foreign_engine(engine, max_workers)
        try:
            asked = {"mp_context": context, **{name: settings.get(key) for name, key in _ASKED.items()}}
            check_settings(made, asked)
            check_limits(made, limits)
            if policy is not ALL:
                made.policy = policy
            if start is not None:
                _initialize(made, start)
        except BaseException:
            if made is not engine:
                made.close()
            raise
        return made
    if max_workers is None:
        max_workers = default_workers()
        if sys.platform == "win32":
            max_workers = min(_MAX_WINDOWS_WORKERS, max_workers)
    by_name = engine == "inline" or not _is_clean(context)
    frames, inherited = None, None
    if start is not None:
        method = "inline" if engine == "inline" else _method_of(context)
        frames, inherited = encode_start(*start, method=method, by_name=by_name, policy=policy)
        if inherited.wants_fork:
            context, by_name = "fork", True
            frames, inherited = encode_start(*start, method="fork", by_name=True, policy=policy)
    if engine == "inline":
        from safemp.engines.inline import InlineEngine

        made = InlineEngine(frames, inherited)
    else:
        from safemp.engines.local import LocalEngine

        nesting.check_depth()
        made = LocalEngine(
            Settings(
                max_workers=max_workers,
                context=_context_of(context),
                main_by_name=by_name,
                offer=b"" if by_name else pickling.dumps_offer(policy),
                start=frames,
                inherited=inherited,
                **settings,
            )
        )
    made.policy = policy
    return made


_ASKED = {
    "max_tasks_per_child": "max_tasks",
    "idle_timeout": "idle_timeout",
    "inner_max_num_threads": "inner_max_num_threads",
    "capture_output": "capture_output",
    "trace": "trace",
}
"""What front ends call settings that not every engine can keep, and what ``Settings`` does."""


def foreign_engine(engine: Any, max_workers: int | None) -> Engine:
    """Return the engine that *engine* is, names or makes: see ``make_engine``."""
    if hasattr(engine, "end_task"):
        return engine  # type: ignore[no-any-return]
    try:
        if engine == "dask":
            from safemp.engines.dask import DaskEngine

            return DaskEngine(max_workers=max_workers)
        if engine == "ray":
            from safemp.engines.ray import RayEngine

            return RayEngine(max_workers=max_workers)
    except ImportError as error:
        raise ImportError(f"cannot use engine {engine!r}: {error}\n  fix:    pip install 'safemp[{engine}]'") from error
    if isinstance(engine, str):
        raise ValueError(f"cannot find engine {engine!r}: there are 'local', 'inline', 'dask' and 'ray'")
    if isinstance(engine, Executor) or callable(engine):
        from safemp.engines.futures import ExecutorEngine

        return ExecutorEngine(engine, max_workers)
    raise TypeError(
        f"cannot use {type_name(type(engine))} as an engine\n"
        "  fix:    hand over its name, an engine, a concurrent.futures.Executor, or a function that makes one"
    )


def check_settings(engine: Engine, asked: Mapping[str, Any]) -> None:
    """Refuse what *engine* cannot keep.

    Args:
        engine: It.
        asked: Settings by name; ``None`` and ``False`` ask for nothing.

    Raises:
        ValueError: One cannot be kept.
    """
    can = engine.capabilities
    if can.lenient:
        return
    for name, value in asked.items():
        if value is not None and value is not False and name not in can.settings:
            raise ValueError(
                f"cannot use {name}= with the engine {engine.name}: it cannot {SETTINGS[name]}\n"
                '  fix:    leave it out, or use the engine "local"'
            )


def check_limits(engine: Engine, limits: Limits) -> None:
    """Refuse *limits* that *engine* cannot keep. Raises as ``check_settings``."""
    if limits.task_timeout is not None or limits.max_memory is not None:
        check_settings(engine, {"task_timeout": limits.task_timeout, "max_memory": limits.max_memory})


def _initialize(engine: Any, start: tuple[Callable[..., Any], tuple[Any, ...]]) -> None:
    """Have *engine* make the call *start* in each worker."""
    if not hasattr(engine, "initialize"):
        raise ValueError(f"cannot use initializer= with the engine {engine.name}: it cannot call it in its workers")
    engine.initialize(calls.encode_call(*start, {}, by_name=engine.main_by_name, root="init", policy=engine.policy))


def _method_of(context: Any) -> str | None:
    """Return the name of a start method; ``None``: the user has not chosen any."""
    if context is None and getattr(sys, "frozen", False):
        return "spawn"  # the one that a frozen program has, by ``freeze_support``
    method: str | None = context if context is None or isinstance(context, str) else context.get_start_method()
    return method


def _is_clean(context: Any) -> bool:
    """Tell whether workers start as clean interpreters, which have nothing of the caller's main."""
    method = _method_of(context)
    return method is None or method == "template" or method.startswith("loky")


def _context_of(context: Any) -> Any:
    """Return a ``multiprocessing`` context; *context* may be one, a name, or ``None``.

    Raises:
        ValueError: There is no such start method; or it needs an interpreter, and a frozen program is none.
    """
    if context is not None and not isinstance(context, str):
        return context
    if context is not None and getattr(sys, "frozen", False) and _is_clean(context):
        raise ValueError(
            f"cannot start workers with {context!r} in a frozen program: it would start itself, again and again\n"
            '  fix:    choose "spawn", the default here, and call multiprocessing.freeze_support() first of all'
        )
    context = _method_of(context)
    if context in (None, "template") and system.has_templates():
        from safemp.engines.template import template_context

        return template_context
    if _is_clean(context):
        from safemp import backend

        return backend.context(context or "loky")
    from multiprocessing import get_context as get_stdlib_context

    return get_stdlib_context(context)


def processes_of(engine: Engine) -> dict[int, Any]:
    """Return the worker processes of *engine* by process id, if it has any."""
    processes: dict[int, Any] = engine.processes() if hasattr(engine, "processes") else {}
    return processes


def stats_of(engine: Engine) -> Stats:
    """Return what *engine* has counted.

    Raises:
        NotImplementedError: It does not count.
    """
    if not hasattr(engine, "stats"):
        raise NotImplementedError(
            f'cannot tell what has happened: {type(engine).__name__} does not count\n  fix:    the engine "local" does'
        )
    found: Stats = engine.stats()
    return found


class CallTask(Task):
    """A call whose outcome settles a future.

    Raises:
        PreflightError: The call cannot be pickled.
    """

    __slots__ = ("_call", "_careful", "_future")

    def __init__(
        self,
        engine: Engine,
        call: tuple[Any, tuple[Any, ...], dict[str, Any]],
        future: SafeFuture[Any],
        limits: Limits | None = None,
    ) -> None:
        apart: list[Buffer] = []
        since, repairs = time.monotonic(), Count.repairs
        frames = calls.encode_call(*call, by_name=engine.main_by_name, policy=engine.policy, apart=apart)
        super().__init__(engine.hold(frames), name_of(call[0]), Definitions.of(apart), limits=limits)
        self.encoded(since, repairs)
        self._call = call
        self._future = future
        self._careful = False

    def begin(self) -> bool:
        """Mark the future as running; tell whether it had not been cancelled."""
        # A moved or mended task begins again; its future is running already.
        return self._future._begin(self)

    def part(self, index: int) -> Task:
        """Return this task, which is all of one item, so that its future keeps knowing it."""
        self.done = 0
        return self

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        """Settle the future."""
        del self._call
        self._future._settle(outcomes[0])

    def hand_over(self, outcomes: list[Frames]) -> bool:
        """Settle the future, if a thread waits for just this one: see ``Task``."""
        return self._future._give(outcomes[0], self)

    def abort(self) -> None:
        """Cancel the future."""
        future = self._future
        future.cancel()
        # It may have begun before, on a worker from which it was taken back.
        if future._begin(self):
            self.deliver_same(not_run(self.name))

    def describe(self, index: int) -> str:
        """Return the call's arguments in short."""
        call = getattr(self, "_call", None)  # gone once the future is settled
        return "" if call is None else describe_call(call[1], call[2])

    def mend(self, outcome: Frames | None) -> Tasks | Outcome:
        """Encode the call carefully, once; then say what does not load."""
        fn, args, kwargs = self._call
        assert outcome is not None
        reason = calls.read_not_loaded(outcome)
        assert reason is not None
        engine = self._future._engine
        if engine is None:  # nobody waits for it any more
            return not_run(self.name)
        if self._careful:
            return calls.blame_load(reason, calls.roots_of(fn, args, kwargs), engine.policy)
        if reason.module is not None:
            homes.send_by_value(reason.module)
        self.frames: Frames = engine.hold(calls.encode_call(fn, args, kwargs, careful=True, policy=engine.policy))
        self.shared: Shared | None = None
        self._careful = True
        return Tasks([self])  # by this one its future knows it


class SafeExecutor(Executor):
    """A pool of processes with the interface of ``ProcessPoolExecutor``.

    What cannot be sent is named at the line of the call; what a call raised comes back
    as its own class; a worker that dies fails only the call it was at.

    Args:
        max_workers: The most processes at a time; default: the cores this process may
            use, in a worker its part of them. They start as calls arrive.
        mp_context: A ``multiprocessing`` context or the name of a start method;
            default: ``"template"`` on Linux, else ``"loky"``: clean interpreters which do not
            import the caller's main, and on Linux are forked of one that is started for it;
            or fork, if *initargs* hold a lock (a queue, ...) that was made in a fork
            context, since only forked workers can have it; ``"spawn"`` in a frozen program.
        initializer: Called in each worker before its first call. When it raises, every
            call fails with ``InitializerError``, whose cause is what it raised.
        initargs: Its arguments. Locks, queues, pipes and shared values of multiprocessing
            may be among them, or inside them.
        max_tasks_per_child: Calls after which a worker is replaced; default: never.
        engine: Where calls run. ``"local"``: processes of this machine; ``"inline"``: in
            ``submit``, for debugging, without limits; ``"dask"``, ``"ray"``: there; an executor
            of ``concurrent.futures``, or a function that makes one; any ``safemp.engines.Engine``.
        task_timeout: Seconds that a call may run. Then its worker is killed, and the call
            fails with ``TaskTimeout``. Default: as long as it takes.
        retries: How often a call is tried again that failed with one of *retry_on*.
        retry_on: The errors for that; default: what befell the worker, not what the call
            raised (``WorkerCrashed``, ``TaskTimeout``, ``MemoryLimitExceeded``).
        max_memory: Bytes that a worker may have resident. Between calls it is replaced;
            during a call it is killed, and the call fails with ``MemoryLimitExceeded``.
        idle_timeout: Seconds without a call after which a worker ends; default: never.
        inner_max_num_threads: Threads that BLAS and OpenMP may use in each worker;
            default: the cores divided by the workers. 0: as many as they like.
        forward_logging: Hand workers' log records and warnings to this process's.
        capture_output: Hand what calls print to this process's ``sys.stdout`` and
            ``sys.stderr``.
        repairs: What is mended of what is sent, of what pickle cannot copy: ``"all"``,
            ``"none"``, a collection of kinds (``"rebuild"``, ``"by name"``,
            ``"reconstruct"``, ``"reopen"``) and types, or a mapping of types to
            functions as for ``safemp.register``. Only ``"reopen"`` is not in ``"all"``.
        trace: Write down when each call runs: ``"run.json"`` is written when the executor ends,
            for Perfetto and the like, ``"run.html"`` as a page; ``True``: for ``stats`` only.

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
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        engine: AnyEngine = "local",
        task_timeout: float | None = None,
        retries: int = 0,
        retry_on: RetryOn = RETRY_ON,
        max_memory: int | None = None,
        idle_timeout: float | None = None,
        inner_max_num_threads: int | None = None,
        forward_logging: bool = True,
        capture_output: bool = False,
        repairs: Spec = "all",
        trace: str | os.PathLike[str] | bool = False,
    ) -> None:
        max_workers = None if max_workers is None else operator.index(max_workers)
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if max_workers is not None and sys.platform == "win32" and max_workers > _MAX_WINDOWS_WORKERS:
            raise ValueError(f"max_workers must be <= {_MAX_WINDOWS_WORKERS}")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
        start = (initializer, tuple(initargs)) if initializer is not None else None
        self._limits = Limits(task_timeout, retries, retry_on, max_memory)
        self._engine = make_engine(
            engine,
            mp_context,
            start,
            limits=self._limits,
            max_workers=max_workers,
            max_tasks=max_tasks_per_child,
            idle_timeout=idle_timeout,
            inner_max_num_threads=inner_max_num_threads,
            forward_logging=forward_logging,
            capture_output=capture_output,
            repairs=repairs,
            trace=trace,
        )
        self._max_workers = max_workers or self._engine.max_workers
        self._shut_down = False
        lifetime.track(self)
        self._finalizer = weakref.finalize(self, lifetime.abandon, self._engine)
        self._finalizer.atexit = False

    @property
    def _processes(self) -> dict[int, Any]:
        """The workers' processes by process id; libraries look here."""
        return processes_of(self._engine)

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> SafeFuture[T]:
        """Call ``fn(*args, **kwargs)`` in a worker.

        Returns:
            The future of what it returns.

        Raises:
            PreflightError: The call cannot be pickled; nothing was sent.
            RuntimeError: The executor is shut down, or belongs to the parent process.
            TypeError: *fn* is not callable, or a coroutine function.
            InitializerError: The initializer has failed.
        """
        check_callable(fn)
        if self._shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        if lifetime.waiting.broken_off:
            lifetime.waiting.goes_on()
        engine = self._engine
        future: SafeFuture[T] = SafeFuture(engine)
        engine.submit(CallTask(engine, (fn, args, kwargs or _NO_KEYWORDS), future, self._limits))
        return future

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["raise", "collect"] = "raise",
    ) -> Iterator[T]: ...

    @overload
    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: Literal["return"],
    ) -> Iterator[T | BaseException]: ...

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: Progress | None = None,
        on_error: OnError = "raise",
    ) -> Iterator[Any]:
        """Call *fn* for the items of *iterables*, in parallel; give results in order.

        Where ``submit`` has been overridden, or replaced on this object, it is called for each
        chunk, as by the standard library's ``map``; then an item that fails fails its chunk.

        Args:
            fn: The function; it is sent to each worker once.
            iterables: One for each parameter, as for the builtin ``map``.
            timeout: Seconds from now until which results are waited for.
            chunksize: Items that go to a worker together.
            buffersize: Calls that may be under way beyond those yielded; default: all.
            progress: Show how many calls have finished, while results are taken: as of
                ``safemp.map``.
            on_error: ``"raise"``: what a call raised is raised in its place, ends the
                iteration, and drops what has not begun. ``"return"``: it is the result of
                its item. ``"collect"``: failed items are left out, and at the end a
                ``MapError`` has all they raised.

        Raises:
            PreflightError: *fn* or an item cannot be pickled; named ``items[index][parameter]``.
            ValueError: *chunksize* or *buffersize* is less than 1, or *on_error* unknown.
            TimeoutError: From the iterator: the time is up.
            BaseException: From the iterator: what a call raised, in its place.
            MapError: From the iterator, at its end: what calls raised, collected.
        """
        check_callable(fn)
        check_on_error(on_error)
        if operator.index(chunksize) < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        if self._shut_down:
            raise RuntimeError("cannot schedule new futures after shutdown")
        deadline = None if timeout is None else time.monotonic() + timeout
        meter = meter_of(progress, name_of(fn))
        total = None if meter is None else length_of(*iterables)
        chunks = chunked(zip(*iterables), chunksize)  # noqa: B905 - as the builtin map
        try:
            results = self._results(fn, chunks, total, deadline, chunksize, buffersize, meter, on_error)
        except BaseException:
            if meter is not None:
                meter.close()
            raise
        return results if meter is None else meter.around(results)

    def _results(
        self,
        fn: Callable[..., T],
        chunks: Iterator[tuple[Any, ...]],
        total: int | None,
        deadline: float | None,
        chunksize: int,
        buffersize: int | None,
        meter: Meter | None,
        on_error: OnError,
    ) -> Iterator[T]:
        ahead = None if buffersize is None else -(-buffersize // chunksize)
        if "submit" in self.__dict__ or type(self).submit is not SafeExecutor.submit:
            if meter is not None:
                meter.open(total)
            alone = chunksize == 1
            return map_by_submit(
                self.submit, fn, chunks, alone=alone, ahead=ahead, deadline=deadline, meter=meter, on_error=on_error
            )
        # What is still to be sent needs an executor that is not over: see ``lifetime.abandon``.
        ordered = _Ordered(self._engine, fn, self._limits, keeps=None if ahead is None else self, meter=meter)
        if ahead is None:
            ordered.send_all(chunks)
        else:
            ordered.send_some(chunks, ahead, total)
        more = None if ahead is None else chunks
        if on_error == "raise":
            return ordered.results(deadline, more, chunksize, unwrap)
        return given(ordered.results(deadline, more, chunksize, read), on_error)

    def options(self, **limits: Unpack[LimitOptions]) -> SafeExecutor:
        """Return a view of this executor whose calls have other limits.

        The view is an executor on the same workers: shutting down either shuts down
        both.

        Args:
            limits: *task_timeout*, *retries*, *retry_on*, *max_memory*; what is left
                out stays as it is here.

        Raises:
            ValueError: A number is out of range, or the engine cannot keep a limit.
            TypeError: A value has the wrong type, or there is no such limit.
        """
        made = limits_of("options", limits, self._limits)
        check_limits(self._engine, made)
        return View(self, made)

    def stats(self) -> Stats:
        """Say what has happened until now: calls, failures, times, and what each worker is at.

        Raises:
            NotImplementedError: Its engine does not count.
        """
        return stats_of(self._engine)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, finish those taken, end the workers.

        Args:
            wait: Return only when that is done.
            cancel_futures: Cancel the calls that have not begun.
        """
        self._shut_down = True
        with lifetime.waiting:
            self._engine.close(wait=wait, cancel=cancel_futures)
        if wait:  # if not, the interpreter's end still waits for what is under way
            self._forget()

    def terminate_workers(self) -> None:
        """End the workers now, by SIGTERM; running calls fail with ``WorkerCrashed``.

        Idle workers may run their exit handlers, for a second at most.
        """
        self._end(signal.SIGTERM)

    def kill_workers(self) -> None:
        """End the workers now, by SIGKILL, with all that their calls have started.

        Running calls fail with ``WorkerCrashed``.
        """
        self._end(system.KILL)

    _outlives_threads = False

    def _at_exit(self, now: bool) -> None:
        """Finish what was submitted, as the standard library does, then end the workers; or *now*."""
        if now:
            self.terminate_workers()
        self.shutdown(wait=True)

    def _forked(self) -> None:
        """Cost a forked child nothing."""
        self._finalizer.detach()
        lifetime.disown(self._engine)

    def _end(self, number: int) -> None:
        self._shut_down = True
        self._engine.kill(number)

    def _forget(self) -> None:
        self._finalizer.detach()
        lifetime.forget(self)

    def __exit__(self, exc_type: type[BaseException] | None, exc_val: Any, exc_tb: Any) -> None:
        kind = exc_type or Exception
        # Any other, as what closes a generator or cancels a coroutine, leaves the block like a ``return``.
        if issubclass(kind, KeyboardInterrupt) or (lifetime.waiting.broken_off and not issubclass(kind, Exception)):
            self.terminate_workers()
        self.shutdown(wait=True)

    def __reduce__(self) -> Any:
        raise TypeError(
            "cannot pickle a SafeExecutor: its workers belong to this process\n"
            "  fix:    make one in the worker, or use safemp.map there"
        )


class View(SafeExecutor):
    """An executor with other limits. What it does not have itself is that of the whole."""

    def __init__(self, whole: SafeExecutor, limits: Limits) -> None:
        self._whole: SafeExecutor = whole._whole if isinstance(whole, View) else whole
        self._limits = limits
        self._engine = whole._engine
        self._max_workers = whole._max_workers

    @property
    def _shut_down(self) -> bool:  # type: ignore[override]
        return self._whole._shut_down

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Shut down the whole."""
        self._whole.shutdown(wait, cancel_futures=cancel_futures)

    def _end(self, number: int) -> None:
        self._whole._end(number)


ProcessPoolExecutor = SafeExecutor
"""The name under which a program's import line has it."""


class _Ordered:
    """The results of a map in the order of its items.

    Args:
        engine: Where the items go.
        fn: The function.
        limits: What each call may use.
        keeps: An object that must not be collected while results are taken.
        meter: Shows how far it is, while results are taken.
    """

    def __init__(
        self, engine: Engine, fn: Callable[..., Any], limits: Limits, *, keeps: object, meter: Meter | None
    ) -> None:
        self._keeps = keeps
        self._meter = meter
        take = weakref.WeakMethod(self._take)  # no cycle: when nobody reads, nothing is kept

        def sink(first: int, outcomes: list[Outcome]) -> None:
            method = take()
            if method is not None:
                method(first, outcomes)

        self._batch = Batch(engine, fn, sink, star=True, limits=limits)
        self._condition = steady_condition()
        self._outcomes: dict[int, Outcome] = {}
        self._sent = 0

    def _take(self, first: int, outcomes: list[Outcome]) -> None:
        with self._condition:
            if self._meter is not None:
                self._meter.count(len(outcomes), len(failures(outcomes)))
            self._outcomes.update(enumerate(outcomes, first))
            self._condition.notify_all()

    def send_all(self, chunks: Iterable[tuple[Any, ...]]) -> None:
        """Encode every chunk, so that a culprit is named before anything is sent."""
        tasks, self._sent = self._batch.encode_all(chunks)
        if self._meter is not None:
            self._meter.open(self._sent)
        for task in tasks:
            self._batch.send(task)
            if self._meter is not None:
                self._meter.show()

    def send_some(self, chunks: Iterator[tuple[Any, ...]], most: int, total: int | None) -> None:
        """Send the first of *chunks*, which have *total* items, as far as is known."""
        if self._meter is not None:
            self._meter.open(total)
        for _ in range(most):
            if not self.send_next(chunks):
                break

    def send_next(self, chunks: Iterator[tuple[Any, ...]]) -> bool:
        chunk = next(chunks, None)
        if chunk is None:
            return False
        self._batch.send(self._batch.encode(chunk, self._sent))
        self._sent += len(chunk)
        return True

    def results(
        self,
        deadline: float | None,
        more: Iterator[tuple[Any, ...]] | None,
        chunksize: int,
        decode: Callable[[Outcome], Any],
    ) -> Iterator[Any]:
        """Give what *decode* makes of each outcome; for each whole chunk of them, send one of *more*."""
        index = 0
        try:
            while index < self._sent:
                outcome = self._wait(index, deadline)
                index += 1
                if more is not None and not index % chunksize:
                    self.send_next(more)
                yield decode(outcome)
        finally:
            self._batch.cancel()

    def _wait(self, index: int, deadline: float | None) -> Outcome:
        meter = self._meter
        while True:
            if meter is not None:
                meter.show()  # without the lock
            with self._condition:
                if index in self._outcomes:
                    return self._outcomes.pop(index)
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    raise FutureTimeoutError
                with lifetime.waiting:
                    self._condition.wait(left if meter is None else meter.nap(left))
