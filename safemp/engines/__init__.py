"""Engines carry frames to workers and outcomes back. They know no user object.

What an engine promises, whatever it is made of:

1. A task has exactly one outcome for each of its items.
2. Tasks are handed to workers in the order in which they were submitted, and at most
   ``max_workers`` run at a time.
3. A task whose ``begin()`` says no is dropped, and has no outcome. What has begun runs
   once: again only if ``retries`` says so.
4. A task that had begun when its worker died fails with ``WorkerCrashed``, which names it. One
   that had not begun goes to another worker.
5. ``close`` returns when every task has had its outcome; ``kill`` gives one to all.
6. A worker that could not load a task says so; it is encoded again (``mend``) before anybody
   is told.

What more it can do its ``Capabilities`` say. Front ends refuse to be made with a setting that
their engine cannot keep. ``safemp.testing.EngineContract`` tests all of this for any engine.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextvars import Context, copy_context
from copy import copy
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar
from weakref import WeakSet

from safemp.codec import calls
from safemp.codec.frames import Buffer, Frames
from safemp.codec.record import Count
from safemp.codec.repairs import Policy

if TYPE_CHECKING:  # not in workers
    from safemp.engines.settings import Limits

__all__ = [
    "Capabilities",
    "Definitions",
    "Engine",
    "Function",
    "Outcome",
    "Shared",
    "Task",
    "Tasks",
    "Values",
    "failed",
    "running",
]

Outcome = Frames | BaseException | float | None
"""Frames for ``decode_outcome``, an error that arose on the caller's side, or the value
itself: a number, a bool or ``None``."""


class Values(list[Outcome]):
    """Outcomes of items one after another that are the values themselves."""

    __slots__ = ()


def failed(outcome: Outcome) -> bool:
    """Tell, without decoding it, whether *outcome* is anything but a value."""
    if isinstance(outcome, list):
        return calls.failed(outcome)
    return isinstance(outcome, BaseException)


class Shared:
    """What many tasks have in common, in frames that each worker gets once.

    Attributes:
        number: Distinct in this process.
        frames: It.
        size: Their bytes.
    """

    __slots__ = ("__weakref__", "frames", "number", "size")

    _numbers = count(1)

    def __init__(self, frames: Frames) -> None:
        self.number: int = next(Shared._numbers)
        self.frames: Frames = frames
        self.size: int = sum(map(len, frames))

    _known: ClassVar[dict[tuple[Any, ...], Any]] = {}

    @classmethod
    def known(cls: type[_Shared], frames: Frames) -> _Shared:
        """Return the one for *frames*, which are bytes: that which was made of the same before, if it is known yet."""
        key = (cls, *frames)
        kept = Shared._known
        found: _Shared | None = kept.get(key)
        if found is None:
            found = cls(frames)
            if len(kept) >= _MOST_KNOWN:
                kept.clear()
            if found.size > _LARGE:
                for large in [each for each, other in list(kept.items()) if other.size > _LARGE]:
                    kept.pop(large, None)
            kept[key] = found
        return found


_Shared = TypeVar("_Shared", bound=Shared)

_MOST_KNOWN = 256
"""Of those that are told apart by their numbers. More than a script has functions; one that
comes back later gets another number, and is sent again."""

_LARGE = 1 << 20
"""Bytes of one of which sort only the latest is known. Picked."""


class Function(Shared):
    """The function of a map: what ``encode_function`` gave."""

    __slots__ = ()


class Definitions(Shared):
    """What ``encode_call`` gave apart."""

    __slots__ = ()

    @classmethod
    def of(cls, apart: list[Buffer]) -> Definitions | None:
        """Return the one for what ``encode_call`` put into *apart*, if anything."""
        return cls.known(apart) if apart else None


class Task:
    """One thing for one worker to do: a call, or a chunk of a map.

    Front ends derive from it. An engine calls these methods from threads of its own,
    each for one task never in two threads at once.

    Attributes:
        id: Distinct in its engine; the engine sets it.
        frames: A call, or a chunk when *shared* is a function.
        shared: What other tasks have, too: the function of a map, or the definitions that
            a call refers to.
        count: The number of items; 1 for a call.
        done: How many items have had their outcome. The engine keeps it.
        name: The function's name, for messages.
        first: For a map, the index of its first item in the user's iterable.
        divisible: Its items may be shared out, while it runs, among workers that have
            nothing else to do.
        limits: What each of its items may use; ``None``: what there is.
        context: That of who has made the task; what it logs and prints is handled in it.
            So a notebook knows to which cell it belongs, and a log to which request.
        tries: How often it has been tried again.
        killed: How often it has ended its worker.
        made: When it had been pickled (``time.monotonic``); 0: not known. As are the next two.
        encoding: Seconds that this took.
        repairs: Objects that were repaired.
        last: The failure after which it is tried again.
        moves: How many workers in a row have ended that were to begin it, and had not.
    """

    __slots__ = (
        "context",
        "count",
        "divisible",
        "done",
        "encoding",
        "first",
        "frames",
        "id",
        "killed",
        "last",
        "limits",
        "made",
        "moves",
        "name",
        "repairs",
        "shared",
        "tries",
    )

    def __init__(
        self,
        frames: Frames,
        name: str,
        shared: Shared | None = None,
        count: int = 1,
        first: int = 0,
        limits: Limits | None = None,
    ) -> None:
        self.id: int = 0
        self.frames: Frames = frames
        self.name: str = name
        self.shared: Shared | None = shared
        self.count: int = count
        self.done: int = 0
        self.first: int = first
        self.divisible: bool = False
        self.limits: Limits | None = limits
        self.context: Context = copy_context()
        self.tries: int = 0
        self.killed: int = 0
        self.last: Outcome | None = None
        self.moves: int = 0
        self.made: float = 0.0
        self.encoding: float = 0.0
        self.repairs: int = 0

    def encoded(self, since: float, repairs: int) -> None:
        """Say what pickling took: from *since* till now, with ``Count.repairs`` being so many before."""
        self.made = now = time.monotonic()
        self.encoding = now - since
        self.repairs = Count.repairs - repairs

    @property
    def is_chunk(self) -> bool:
        """Whether it is of a map."""
        return isinstance(self.shared, Function)

    def begin(self) -> bool:
        """Tell whether the task may be sent: nobody has cancelled it. Quick."""
        return True

    def part(self, index: int) -> Task:
        """Return a task of only item *index* of this one, whose outcome is still owed."""
        part = copy(self)
        part.done, part.count = index, index + 1
        return part

    def cut(self, index: int) -> Task:
        """Keep the items before *index*; return a task of those from there on, none of which has begun."""
        rest = copy(self)
        rest.done = self.count = index
        return rest

    def deliver(self, first: int, outcomes: list[Outcome]) -> None:
        """Take the outcomes of items *first*, *first* + 1, … of this task."""
        raise NotImplementedError

    def hand_over(self, outcomes: list[Frames]) -> bool:
        """Give the outcomes of all items to a thread that waits for them, if there is one, and nothing else to do.

        In any thread, with an engine's lock held: it runs no user code, and does not wait.

        Returns:
            Whether that is done; ``False``: ``deliver`` them.
        """
        return False

    def deliver_same(self, outcome: Outcome) -> None:
        """Take one outcome for all items that have had none."""
        first, self.done = self.done, self.count
        self.deliver(first, [outcome] * (self.count - first))

    def abort(self) -> None:
        """Give the task up before it was sent: ``cancel_futures``."""
        raise NotImplementedError

    def describe(self, index: int) -> str:
        """Return the arguments of the call for item *index* in short; "" if not known.

        Called when that item has failed, and before its outcome is delivered. Runs no user
        code.
        """
        return ""

    def mend(self, outcome: Frames | None) -> Tasks | Outcome:
        """Encode the task again. Runs user code; called from a thread made for it.

        Args:
            outcome: The ``NOT_LOADED`` outcome; ``None`` when a worker died while it
                loaded the chunk: then each item is to go alone.

        Returns:
            What to run in its stead, or the outcome for all items that had none.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Tasks:
    """Tasks in the stead of one, in order."""

    tasks: Sequence[Task]


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an engine can do beyond what every engine promises.

    Attributes:
        processes: Tasks run in other processes than the caller's, and one that dies leaves
            the caller alone.
        isolates: When a worker dies, only the tasks that it was at fail, and the engine goes on.
            If not, all that is under way fails, and perhaps all that comes later.
        knows_item: Of a chunk whose worker died only the item that it was at fails; if not, each item
            of the chunk fails whose outcome had not arrived.
        ends_tasks: ``end_task`` ends a task that is running.
        settings: The settings of ``SafeExecutor`` and ``Pool`` that it keeps, of those which not
            every engine can: *task_timeout*, *max_memory*, *max_tasks_per_child*, *idle_timeout*,
            *inner_max_num_threads*, *capture_output*, *mp_context*.
        lenient: It takes all settings, whether it keeps them or not: for debugging.
    """

    processes: bool = True
    isolates: bool = False
    knows_item: bool = False
    ends_tasks: bool = False
    settings: frozenset[str] = frozenset()
    lenient: bool = False


class Engine(Protocol):
    """What a front end asks of an engine. Safe to call from any thread.

    Attributes:
        name: For messages.
        capabilities: What it can do beyond what every engine promises.
        max_workers: The most tasks at a time.
        main_by_name: Whether the workers have the caller's ``__main__``, since they
            were forked or have imported it. If not, what is needed of it is sent.
        policy: Which repairs are made of what is sent; front ends set it.
    """

    name: str
    capabilities: Capabilities
    max_workers: int
    main_by_name: bool
    policy: Policy

    def hold(self, frames: Frames) -> Frames:
        """Copy those of *frames* that are still the user's memory: views of an array, say.

        Front ends do it with what they have encoded, before they let the user go on. The
        engine may put the copies where they need not be copied again.
        """

    def submit(self, task: Task) -> None:
        """Take a task.

        Raises:
            RuntimeError: The engine is closed.
            Exception: The engine cannot work any more, and why.
        """

    def close(self, *, wait: bool = True, cancel: bool = False) -> None:
        """Take no more tasks; finish those taken (*cancel*: those begun), then end."""

    def end_task(self, task: Task) -> bool:
        """End one task, also a running one; it fails with ``TaskKilled``.

        Returns:
            Whether it will; ``False``: it has finished, or this engine cannot.
        """

    def abandon(self, signal: int | None = None) -> None:
        """As ``close``, or with a *signal* as ``kill``; soon, and without taking a lock.

        For finalizers: the garbage collector may call them in any thread, at any place.
        """

    def kill(self, signal: int) -> None:
        """End now: queued tasks are aborted, running ones fail, workers get *signal*.

        If that is not SIGKILL, idle workers are told to leave in its place.
        """


running: WeakSet[Engine] = WeakSet()
"""Those to be ended with the interpreter, from before they have a thread or process.
These keep an engine while it works."""
