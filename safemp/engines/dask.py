"""Dask as an engine: frames go through ``Client.submit``, and Dask chooses the worker.

Dask runs a task again whose worker has died, on three more workers, one whose worker has left in order, and one
whose result was lost with its worker. It does not know whether that may be done. So a plugin in the scheduler has
our tasks, and only ours, fail at once; what is tried again then is for ``retries`` to say.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from itertools import count
from typing import Any

from distributed import Client, LocalCluster, default_client
from distributed.comm import get_address_host
from distributed.diagnostics.plugin import SchedulerPlugin
from distributed.scheduler import KilledWorker

from safemp.codec.frames import Frames
from safemp.engines import Capabilities, diary, nesting
from safemp.engines.errand import perform
from safemp.engines.foreign import Done, ForeignEngine, first_line
from safemp.engines.lent import lend

__all__ = ["DaskEngine"]

_LARGE = 1 << 20
"""Bytes of a task from which they go to a worker by themselves, not through the scheduler. As Dask advises."""

_PATIENCE = 30.0
"""Seconds that a nanny gets to start a worker in the place of one that has died, when there is no other there."""

_LOOK = 0.1
"""Seconds between two looks for it."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
"""Machines of workers that are this one, if any worker has a diary here; a tunnel may lead to another's."""

_PREFIX = "safemp-"

_numbers = count(1)


class DaskEngine(ForeignEngine):
    """Runs tasks on a Dask cluster.

    Args:
        client: Connected to it; it is not closed with the engine. Default: Dask's own default client,
            or, if there is none, one of a ``LocalCluster`` of processes with a thread each, which ends with
            the engine.
        max_workers: The most tasks at a time; default: the threads of all workers there are now.
        options: Others for each ``Client.submit``: *workers*, *resources*, *priority*, ….
    """

    # A worker may have many threads: all that they are at ends with it.
    capabilities: Capabilities = Capabilities(isolates=True, knows_item=True)
    keeps_diaries = True
    ahead = 16
    stores = True
    may_be_lost = True

    def __init__(self, client: Client | None = None, *, max_workers: int | None = None, **options: Any) -> None:
        self._cluster: Any = None
        if client is None:
            try:
                client = default_client()
            except ValueError:
                self._cluster = LocalCluster(
                    n_workers=max_workers or nesting.cores(), threads_per_worker=1, dashboard_address=":0"
                )
                client = Client(self._cluster, set_as_default=False)
        self._client: Any = client
        self._options = options
        self._ended: list[tuple[Any, Done]] = []
        self._registered: Any = None  # the connection to the scheduler that has the plugin
        self._register()
        threads = sum(client.nthreads().values()) or None
        super().__init__("Dask", max_workers or threads or nesting.cores(), threads)

    def send(self, errand: tuple[Any, ...], parts: tuple[Any, ...], done: Done) -> Any:
        """Submit the errand: see ``ForeignEngine``."""
        client, key = self._client, f"{_PREFIX}{self._token}-{next(_numbers)}"
        if (gone := self.lost()) is not None:
            raise gone  # Dask would take the task, and say nothing more of it
        if self._registered is not client.scheduler_comm:
            self._register()
        todo: Any = errand
        if sum(memoryview(one).nbytes for one in errand[-1] if one is not None) >= _LARGE:
            todo = self.store(errand)
        future = client.submit(perform, todo, *parts, key=key, pure=False, **self._options)
        client.loop.add_callback(self._fetch, future, done)
        return future

    def _register(self) -> None:
        """Have the scheduler run each task of ours once. One that has come in another's place has to be told, too."""
        self._client.register_plugin(_once(), name="safemp-once")
        self._registered = self._client.scheduler_comm

    async def _fetch(self, future: Any, done: Done) -> None:
        """Hand over what has become of *future*, and of those that end with it. In the client's loop."""
        with suppress(BaseException):  # how it has ended says what is gathered
            await future._state.wait()  # ``wait`` waits with the program's default client, whose loop may be another
        self._ended.append((future, done))
        with suppress(BaseException):
            await asyncio.sleep(0)  # for others of whom the same message has told
        ended, self._ended = self._ended, []
        if not ended:
            return
        try:
            answers = await self._client.gather([each for each, _ in ended], asynchronous=True)
        except BaseException:  # of one of them
            answers = [await self._gather(each) for each, _ in ended]
        for (_, its_done), answer in zip(ended, answers, strict=True):
            its_done(answer)

    async def _gather(self, future: Any) -> Any:
        try:
            return await self._client.gather(future, asynchronous=True)
        except BaseException as error:  # KilledWorker; CancelledError
            return error

    def store(self, frames: Any) -> Any:
        """Give them to a worker, from which the others take them: see ``ForeignEngine``."""
        if not self._client.nthreads():
            return frames  # Dask would wait for a worker, and a cluster that adapts waits for a task
        key = f"{_PREFIX}{self._token}-{next(_numbers)}-frames"
        try:
            return self._client.scatter({key: frames})[key]
        except OSError:  # the worker has died meanwhile: they go through the scheduler
            return frames

    def carry(self, frames: Frames) -> Frames:
        """Have large ones written to the connection as they are: see ``ForeignEngine``."""
        return lend(frames)

    def death(self, error: BaseException) -> str | None:
        """Take what Dask says of a lost worker for a death: see ``ForeignEngine``."""
        if isinstance(error, KilledWorker):
            return f"{error.last_worker.address} was lost"
        if "Cancelled" in type(error).__name__:
            return f"it took the task or its result with it ({type(error).__name__}: {first_line(error)})"
        return None

    def look_up(self, token: str, key: str, error: BaseException) -> bytes | None:
        """Ask another worker on the dead one's machine, or the one that its nanny starts: see ``ForeignEngine``."""
        if "cancelled for reason: scheduler-" in str(error):
            return None  # it was restarted, or is gone: workers may still be at it, or begin it
        host = error.last_worker.host if isinstance(error, KilledWorker) else None
        if "lost dependencies" in str(error):
            host = self._client.run_on_scheduler(_left(), key=str(error).partition(" ")[0])
            if host is None:
                return b""  # it waited for what only a worker had that has died
        found: bytes | None = diary.look_up(token, key)  # this may be the machine
        if found is None and host in _LOOPBACK and diary.is_here(token):
            return b""
        deadline = time.monotonic() + _PATIENCE
        while found is None and time.monotonic() < deadline:
            machines = {get_address_host(worker): worker for worker in self._client.nthreads()}
            asked = [worker for machine, worker in machines.items() if host in (None, machine)]
            answers = self._client.run(diary.look_up, token, key, workers=asked, on_error="ignore") if asked else {}
            found = next((each for each in answers.values() if each is not None), None)
            if found is None and host is not None and answers:
                return b""
            time.sleep(_LOOK)
        return found

    def lost(self) -> BaseException | None:
        """See whether the client is closed, as it is when its scheduler is gone: see ``ForeignEngine``."""
        if self._client.status in ("closing", "closed"):
            return RuntimeError("the client is closed: by the program, or since its scheduler was gone")
        return None

    def forget(self, ticket: Any) -> None:
        """Have Dask forget a task: see ``ForeignEngine``."""
        ticket.cancel(force=True)

    def end(self) -> None:
        """End the cluster if it is the engine's own; else remove what the workers have written down."""
        if self._cluster is not None:
            self._client.close()
            self._cluster.close()
        elif self._client.status == "running":
            self._client.run(diary.clear, self._token, on_error="ignore")


def _once() -> SchedulerPlugin:
    """Make the plugin. Its class is a local one, so that it travels by value: the scheduler needs no safemp."""
    prefix = _PREFIX

    class Once(SchedulerPlugin):  # type: ignore[misc]  # has no types of its own
        """Have a task of safemp run once."""

        idempotent = True

        async def start(self, scheduler: Any) -> None:
            self.scheduler = scheduler
            self.at: dict[str, str] = {}  # the machines where tasks are
            self.left: dict[str, str] = {}  # and where those were whose worker has left

        def transition(self, key: Any, start: str, finish: str, *args: Any, **kwargs: Any) -> None:
            task = self.scheduler.tasks.get(key) if isinstance(key, str) and key.startswith(prefix) else None
            host = self.at.pop(key, None)
            if task is None:
                return
            if finish == "released" and host is not None:
                self.left[key] = host
                task.has_lost_dependencies = True  # so it is forgotten, and its client told so
            elif finish == "processing":
                task.suspicious = max(task.suspicious, self.scheduler.allowed_failures)
                self.at[key] = task.processing_on.host
            elif finish == "memory":
                task.run_spec = None  # as of data that was scattered: it cannot be computed again

    return Once()


def _left() -> Any:
    """Make a function that says where a task was whose worker has left. It travels by value, too."""

    def left(key: str, dask_scheduler: Any) -> str | None:
        host: str | None = dask_scheduler.plugins["safemp-once"].left.pop(key, None)
        return host

    return left
