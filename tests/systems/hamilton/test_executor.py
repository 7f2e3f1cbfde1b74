"""Hamilton: parallel blocks on our workers."""

# Annotations are no strings here: Hamilton 1.73 would not know what is parallel.

import logging
import os
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import safemp
from tests.support.child import alive, lines, until
from tests.support.errors import KeywordOnly

os.environ.setdefault("HAMILTON_TELEMETRY_ENABLED", "false")

try:
    from hamilton import ad_hoc_utils, driver
    from hamilton.execution.executors import MultiProcessingExecutor, SynchronousLocalTaskExecutor
    from hamilton.htypes import Collect, Parallelizable
except ImportError:
    driver = None
    Collect = Parallelizable = list

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(driver is None, reason="wants the sf-hamilton package"),
    pytest.mark.timeout(180),  # workers import it first
]


class Client:
    """What nodes get as an input: it holds a lock, a logger and a module."""

    def __init__(self, folder: Path | None = None, rows: Any = None) -> None:
        self.lock = threading.RLock()
        self.log = logging.getLogger("client")
        self.os = os
        self.folder = folder
        self.rows = rows


def url(count: int) -> Parallelizable[int]:
    yield from range(count)


def page(url: int, client: Client) -> int:
    with client.lock:
        if url == 7:
            raise KeywordOnly(status=429, text="refused")
        if client.folder is not None:
            stay_or_refuse(url, client.folder / "pid")
        return url * url


def words(page: int) -> int:
    return page + 1


def total(words: Collect[int]) -> int:
    return sum(words)


def stay_or_refuse(url: int, path: Path) -> None:
    """The first writes its pid down and stays; the next refuses when it has."""
    if url == 0:
        path.write_text(f"{os.getpid()}\n")
        time.sleep(3600)
    assert until(lambda: path.exists() and lines(path))
    raise KeywordOnly(status=1, text="refused")


def pipeline(executor: Any) -> Any:
    """Build the graph of the functions above."""
    return (
        driver.Builder()
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_modules(ad_hoc_utils.create_temporary_module(url, page, words, total))
        .with_remote_executor(executor)
        .build()
    )


@pytest.fixture
def ours() -> Any:
    """Our executor's class."""
    from safemp.integrations.hamilton import SafeMultiProcessingExecutor

    return SafeMultiProcessingExecutor


def test_answers_are_those_of_a_serial_run(ours: Any) -> None:
    """With a lock, a logger and a module in an input, which Hamilton's own executor refuses."""
    inputs = {"count": 6, "client": Client()}
    with pytest.raises(TypeError, match="cannot pickle"):
        pipeline(MultiProcessingExecutor(2)).execute(["total"], inputs=inputs)

    here = pipeline(SynchronousLocalTaskExecutor()).execute(["total"], inputs=inputs)
    there = pipeline(ours(2))
    assert there.execute(["total"], inputs=inputs) == here == {"total": 61}
    assert there.execute(["total"], inputs={**inputs, "count": 3}) == {"total": 8}, "it can be used again"


def test_an_error_is_itself(ours: Any) -> None:
    """Its class, its attributes, the line of the node."""
    with pytest.raises(KeywordOnly) as caught:
        pipeline(ours(2)).execute(["total"], inputs={"count": 9, "client": Client()})

    assert caught.value.status == 429
    assert (caught.traceback[-1].name, caught.traceback[-1].path) == ("page", Path(__file__))


def test_what_cannot_be_sent_is_named(ours: Any) -> None:
    """By its path from the task that Hamilton has made."""
    inputs = {"count": 3, "client": Client(rows=(n for n in range(3)))}
    with pytest.raises(safemp.PreflightError, match=r"cannot send args\[0\]\S*\['client'\]\.rows: generator"):
        pipeline(ours(2)).execute(["total"], inputs=inputs)


def test_the_others_are_ended(ours: Any, tmp_path: Path) -> None:
    """When a node fails, ``execute`` does not wait for what nobody will read."""
    with pytest.raises(KeywordOnly):
        pipeline(ours(2)).execute(["total"], inputs={"count": 2, "client": Client(tmp_path)})

    assert not alive(int(lines(tmp_path / "pid")[0]))


def test_settings_are_those_of_the_executor(ours: Any, tmp_path: Path) -> None:
    """A limit ends a node that hangs."""
    with pytest.raises(safemp.TaskTimeout):
        pipeline(ours(1, task_timeout=4)).execute(["total"], inputs={"count": 1, "client": Client(tmp_path)})
    with pytest.raises(TypeError, match="task_timout"):
        pipeline(ours(1, task_timout=4)).execute(["total"], inputs={"count": 1, "client": Client()})


def test_hamilton_does_not_keep_a_core_busy(ours: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It asks tasks how they are, again and again: the first that runs takes a moment to answer."""
    import safemp.integrations.hamilton as module

    waited: list[Any] = []
    monkeypatch.setattr(module, "wait", lambda futures, timeout: waited.extend(futures))
    executor, futures = ours(2), [Future[int](), Future[int]()]
    executor.pool = SimpleNamespace(submit=lambda *_: futures[len(executor.active_futures)])
    tasks = [executor.submit_task(None) for _ in futures]

    def states() -> list[str]:
        waited.clear()
        return [task.get_state().name for task in tasks]

    assert (states(), waited) == (["RUNNING", "RUNNING"], futures[:1])
    futures[0].set_result(1)
    assert (states(), waited) == (["SUCCESSFUL", "RUNNING"], futures[1:])
    futures[1].set_result(2)
    assert (states(), waited) == (["SUCCESSFUL", "SUCCESSFUL"], [])
    assert [task.get_result() for task in tasks] == [1, 2]
