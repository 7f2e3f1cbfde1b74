"""Ray as an engine: frames are a task's arguments and result, small ones in one text, and Ray chooses the worker.

What a task answers is a value to Ray, also when the call has failed. So ``RayTaskError`` never has to
pickle or load a user's exception.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums, as in ``safemp.steady``
import marshal
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import ray
from ray import exceptions
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from safemp.codec.frames import Frames
from safemp.engines import Capabilities, diary, nesting
from safemp.engines.errand import DONE, Answer, Errand, ends, parted, perform
from safemp.engines.foreign import Done, ForeignEngine, first_line
from safemp.engines.lent import lend

__all__ = ["RayEngine"]

_DEATHS = (
    exceptions.WorkerCrashedError,
    exceptions.OutOfMemoryError,
    exceptions.NodeDiedError,
    exceptions.LocalRayletDiedError,
    exceptions.ObjectLostError,
)

_PATIENCE = 20.0
"""Seconds for a look at what a worker has written down that has died, on a node that may be busy."""

_TOGETHER = 16
"""The most tasks of which one tells of all. Ray calls back in its own thread, which is to send as well. Picked:
a sixteenth of that is little."""

_GLANCE = 0.05
"""Seconds between two of these looks. Picked."""

_MOMENT = 0.002
"""Seconds that who submits waits for others to have done with Ray. Picked: mostly one lets go of an answer."""

_SOON = 0.025
"""Seconds after which those are asked that nobody has told of. Picked: in a storm one tells of them earlier."""

_SIGTERM = int(signal.SIGTERM)

_PLAIN = (bytes, type(None))
"""Types of frames that are sent in one text."""

_driver = ray._private.worker.global_worker
"""Of this process. Its ``node`` is another object after each ``ray.init``; jobs each Ray counts from one."""

_THERE: Any = getattr(ray._private.worker, "_connect_or_shutdown_lock", None) or threading.RLock()
"""Held wherever Ray is used, and Ray's own: so the program cannot end it meanwhile. Who uses one that has been ended
starts another; who uses one that is being ended, if only by letting go of a reference, is ended himself. Never to be
waited for with an engine's lock held: who ends Ray may come by a finalizer of ours."""


class _Ref:
    """A reference of Ray's, which is let go only with ``_THERE`` held."""

    __slots__ = ("ref",)

    def __init__(self, ref: Any) -> None:
        self.ref = ref

    def __del__(self) -> None:
        _spent.append(self.ref)
        del self.ref
        if not _THERE._is_owned() and _THERE.acquire(blocking=False):  # or this may be within ``ray.shutdown``
            try:
                _spent.clear()
            finally:
                _THERE.release()


_spent: deque[Any] = deque()
"""References to be let go by the next one who holds it."""

_Waiting = list[tuple[_Ref, Done]]
"""Tasks, and what to call with their answers."""


class RayEngine(ForeignEngine):
    """Runs tasks on a Ray cluster.

    Args:
        address: As of ``ray.init``, which is called if nobody has: then Ray ends with the engine.
            Default: ``RAY_ADDRESS``, else a Ray of this machine.
        max_workers: The most tasks at a time; default: as many as have room in the cluster now.
        num_cpus: The processors that each task takes; default: 1.
        num_gpus: The graphics processors that each task takes.
        resources: What else each task takes, as of ``ray.remote``.
        runtime_env: What each task's worker is to have, as of ``ray.remote``.
        init: Others for ``ray.init``, if it is called.
    """

    capabilities: Capabilities = Capabilities(isolates=True, knows_item=True, ends_tasks=True)
    keeps_diaries = True
    ahead = 16
    stores = True
    may_be_lost = True

    def __init__(
        self,
        address: str | None = None,
        *,
        max_workers: int | None = None,
        num_cpus: float = 1,
        num_gpus: float = 0,
        resources: Mapping[str, float] | None = None,
        runtime_env: Mapping[str, Any] | None = None,
        init: Mapping[str, Any] | None = None,
    ) -> None:
        wanted = {"CPU": num_cpus, "GPU": num_gpus, **(resources or {})}
        with _THERE:
            self._ours = not ray.is_initialized()
            if self._ours:
                # Signals are the program's own; what workers print Ray prints by itself.
                ray.init(address, **{"configure_logging": False, **(init or {})})
            self._node = _driver.node
            there = ray.cluster_resources()
        room = min((int(there.get(name, 0) // number) for name, number in wanted.items() if number), default=0)
        options: dict[str, Any] = {"num_cpus": num_cpus, "num_gpus": num_gpus, "max_retries": 0}
        if resources:
            options["resources"] = dict(resources)
        if runtime_env:
            options["runtime_env"] = dict(runtime_env)
        self._perform = ray.remote(**options)(_perform)
        self._ask = ray.remote(num_cpus=0, max_retries=0)(diary.look_up)
        self._fresh: _Waiting = []
        self._untold: deque[tuple[float, _Waiting]] = deque()  # and when to ask
        self._told: deque[_Waiting] = deque()
        super().__init__("Ray", max_workers or room or nesting.cores(), room or None)

    def send(self, errand: tuple[Any, ...], parts: tuple[Any, ...], done: Done) -> Any:
        """Start the task: see ``ForeignEngine``."""
        with _THERE:
            self._check()
            if _is_plain(errand, parts):
                ref = self._perform.remote(marshal.dumps((errand, parts)))
            else:
                ref = self._perform.remote(errand, *(part.ref if isinstance(part, _Ref) else part for part in parts))
            kept = _Ref(ref)
            del ref
        self._fresh.append((kept, done))
        return kept

    def send_now(self, errand: tuple[Any, ...], parts: tuple[Any, ...], done: Done) -> Any:
        """Start the task, unless somebody uses Ray who may keep it: see ``ForeignEngine``."""
        if _THERE._is_owned() or not _THERE.acquire(timeout=_MOMENT):
            return None
        try:
            self._check()
            kept = _Ref(self._perform.remote(marshal.dumps((errand, parts))))
            _call(kept.ref, done)
            return kept
        finally:
            _THERE.release()

    def _check(self) -> None:
        if not self._is_there():
            raise RuntimeError("ray.shutdown() was called")

    def _is_there(self) -> bool:
        """Tell whether Ray goes on, and is the one that the engine began with."""
        return ray.is_initialized() and _driver.node is self._node

    def ask(self) -> float | None:
        """Have the last tell of those that were sent with it: see ``ForeignEngine``."""
        with _THERE:
            soon = self._ask_there() if self._is_there() else None  # ``lost`` says so
            _spent.clear()
            return soon

    def _ask_there(self) -> float | None:
        fresh, self._fresh = self._fresh, []
        together = _TOGETHER if len(self._sent) > 2 * self.max_workers else 1  # those wait for each other anyway
        for at in range(0, len(fresh), together):
            *others, (ref, done) = fresh[at : at + together]
            if others:
                self._untold.append((time.monotonic() + _SOON, others))
            _call(ref.ref, partial(self._tell, others, done) if others else done)
        while self._told:
            self._look(self._told.popleft())
        while self._untold:
            when, waiting = self._untold[0]
            if waiting:
                if (seconds := when - time.monotonic()) > 0:
                    return seconds
                self._look(waiting)
            self._untold.popleft()
        return None

    def _tell(self, others: _Waiting, done: Done, answer: Answer | BaseException) -> None:
        self._told.append(others)
        done(answer)

    def _look(self, waiting: _Waiting) -> None:
        """Take the answers that are there; the others tell of themselves from now on."""
        tasks = [*waiting]
        waiting.clear()
        answers: dict[Any, Any] = {}
        with suppress(BaseException):  # of one of them: each tells of its own
            ready, _ = ray.wait([ref.ref for ref, _ in tasks], num_returns=len(tasks), timeout=0)
            answers = dict(zip(ready, ray.get(ready), strict=True))
        for ref, done in tasks:
            if answers and ref.ref in answers:
                done(_found(answers[ref.ref]))
            else:
                _call(ref.ref, done)

    def store(self, frames: Frames) -> Any:
        """Put them into the object store: see ``ForeignEngine``."""
        with _THERE:
            self._check()
            return _Ref(ray.put(frames))

    def carry(self, frames: Frames) -> Frames:
        """Have large ones written into the object store as they are: see ``ForeignEngine``."""
        return lend(frames)

    def death(self, error: BaseException) -> str | None:
        """Take what Ray says of a lost worker, node or object for a death: see ``ForeignEngine``."""
        if isinstance(error, _DEATHS):
            return f"{type(error).__name__}: {first_line(error)}"
        return None

    def look_up(self, token: str, key: str, error: BaseException) -> bytes | None:
        """Ask each node: see ``ForeignEngine``."""
        found: bytes | None = diary.look_up(token, key)  # this may be the machine
        if found is not None:
            return found
        with _THERE:
            self._check()
            asked = [_Ref(_on(node, self._ask).remote(token, key)) for node in _nodes()]
        deadline = time.monotonic() + _PATIENCE
        while True:
            with _THERE:
                self._check()
                ended, answers = _answers(asked)
            for found in answers:
                if found is not None:
                    return found
            if ended == len(asked) or time.monotonic() > deadline:
                break
            time.sleep(_GLANCE)
        gone = isinstance(error, (exceptions.NodeDiedError, exceptions.LocalRayletDiedError))
        return b"" if len(answers) == len(asked) and not gone else None

    def stop(self, ticket: Any) -> bool:
        """Kill the worker that is at it: see ``ForeignEngine``."""
        with _THERE:
            if not self._is_there():
                return False
            ray.cancel(ticket.ref, force=True)
        return True

    def lost(self) -> BaseException | None:
        """See whether the program has ended its Ray: see ``ForeignEngine``."""
        if not _THERE.acquire(blocking=False):
            return None  # it is asked again
        try:
            return None if self._is_there() else RuntimeError("ray.shutdown() was called")
        finally:
            _THERE.release()

    def may_wait(self) -> bool:
        """Not within ``ray.shutdown``, which a handler of a signal or a finalizer may be: see ``ForeignEngine``."""
        return not _THERE._is_owned() and super().may_wait()

    def end(self) -> None:
        """End Ray if it is the engine's own; else remove what the workers have written down."""
        with _THERE:
            if not self._is_there():
                return  # or this is within ``ray.shutdown``
            _spent.clear()
            if self._ours:
                ray.shutdown()
            else:
                clear = ray.remote(num_cpus=0)(diary.clear)
                for node in _nodes():
                    _on(node, clear).remote(self._token)


def _nodes() -> list[str]:
    """Return those that are there."""
    return [node["NodeID"] for node in ray.nodes() if node["Alive"]]


def _on(node: str, task: Any) -> Any:
    """Have *task* run on *node* or not at all."""
    return task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False))


def _answers(asked: list[_Ref]) -> tuple[int, list[Any]]:
    """Return how many have ended, and the answers of those: a node may have gone."""
    ready, _ = ray.wait([ref.ref for ref in asked], num_returns=len(asked), timeout=0)
    answers = []
    for each in ready:
        with suppress(Exception):
            answers.append(ray.get(each))
    return len(ready), answers


def _is_plain(errand: tuple[Any, ...], parts: tuple[Any, ...]) -> bool:
    """Tell whether nothing is in it that Ray is to see: then one text of bytes costs less to send."""
    todo = Errand(*errand)
    for frames in (todo.frames, todo.start and todo.start[1], *parts):
        if frames is not None and (type(frames) is not list or any(type(one) not in _PLAIN for one in frames)):
            return False
    return True


def _perform(errand: Any, *parts: Any) -> Any:
    """Be the task."""
    _listen()
    if isinstance(errand, bytes):
        errand, parts = marshal.loads(errand)
    kind, content = perform(errand, *parts)
    if kind == DONE:
        content = [lend(frames) for frames in content]
        if any(type(one) is not bytes for frames in content for one in frames):
            return kind, content
    return marshal.dumps((kind, content))


def _listen() -> None:
    """Have it remembered when Ray ends this worker: at SIGTERM it raises ``SystemExit`` in the midst of what runs."""
    theirs: Any = _signal.getsignal(_SIGTERM)
    if getattr(theirs, "__module__", None) != ray._private.worker.__name__:
        return  # one of the program's, or ours
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, partial(_end, theirs))


def _end(theirs: Callable[[int, Any], Any], number: int, frame: Any) -> None:
    try:
        theirs(number, frame)
    except SystemExit as error:
        ends.append(error)
        raise


def _call(ref: Any, done: Done) -> None:
    """Have Ray call *done*, in a thread of its own. Who waits for that has to keep *ref*."""
    try:
        ref._on_completed(lambda answer: done(_found(answer)))  # as ``ref.future()`` does, at half its cost
    except Exception as error:  # Ray is being shut down
        done(error)


def _found(answer: Any) -> Answer | BaseException:
    """Return what *answer* stands for: a copy, since what Ray has cannot be written to, and goes with Ray."""
    try:
        if isinstance(answer, exceptions.RayTaskError):
            answer = answer.as_instanceof_cause()
        if isinstance(answer, BaseException):
            return answer
        kind, content = marshal.loads(answer) if isinstance(answer, bytes) else answer
        if kind == DONE:
            return kind, [*map(parted, content)]
        return kind, parted(content) if isinstance(content, list) else content
    except BaseException as error:
        return error
