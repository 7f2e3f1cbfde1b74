"""FastAPI and Starlette: calls in the workers of an executor that lives as long as the application."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import safemp
import safemp.aio
from tests.support.child import alive, lines, until
from tests.support.errors import KeywordOnly

try:
    from fastapi import BackgroundTasks, FastAPI
    from fastapi.responses import JSONResponse
    from fastapi.testclient import TestClient
    from starlette.applications import Starlette
    from starlette.routing import Route
except ImportError:
    FastAPI = None

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(FastAPI is None, reason="wants the fastapi package"),
    pytest.mark.timeout(120),
]


class Model:
    """What the routes ask; it holds a lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def predict(self, n: int) -> int:
        with self.lock:
            if n == 13:
                raise KeywordOnly(status=422, text="refused")
            if n == 14:
                os._exit(3)
            return sum(k * k for k in range(n))


def stay(path: str) -> None:
    """Write this process's pid down, and stay."""
    Path(path).write_text(f"{os.getpid()}\n")
    time.sleep(3600)


class Service:
    """An application's executor, for its lifespan."""

    executor: safemp.aio.Executor

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        async with safemp.aio.Executor(1) as self.executor:
            yield


def application(done: list[int], folder: Path) -> Any:
    """Make an application with routes that compute."""
    service, model = Service(), Model()
    app = FastAPI(lifespan=service.lifespan)

    @app.exception_handler(KeywordOnly)
    async def refused(request: Any, error: KeywordOnly) -> Any:
        return JSONResponse({"detail": str(error)}, error.status)

    @app.exception_handler(safemp.WorkerCrashed)
    async def crashed(request: Any, error: safemp.WorkerCrashed) -> Any:
        return JSONResponse({"code": error.exitcode}, 500)

    @app.exception_handler(safemp.TaskTimeout)
    async def late(request: Any, error: safemp.TaskTimeout) -> Any:
        return JSONResponse({}, 504)

    @app.get("/predict/{n}")
    async def predict(n: int) -> int:
        return await service.executor.run(model.predict, n)

    @app.get("/slow")
    async def slow() -> None:
        await service.executor.options(task_timeout=4).run(stay, str(folder / "pid"))

    async def index(n: int) -> None:
        done.append(await service.executor.run(model.predict, n))

    def index_in_a_thread(n: int) -> None:
        done.append(service.executor.submit(model.predict, n).result())

    @app.post("/index/{n}", status_code=202)
    async def later(n: int, tasks: BackgroundTasks) -> None:
        tasks.add_task(index, n)
        tasks.add_task(index_in_a_thread, n)

    return app


def test_requests_get_the_answers_of_a_serial_run(tmp_path: Path) -> None:
    """And an error reaches the application's handler for its class."""
    with TestClient(application([], tmp_path)) as client:
        assert [client.get(f"/predict/{n}").json() for n in range(8)] == [Model().predict(n) for n in range(8)]
        refused = client.get("/predict/13")
        assert (refused.status_code, refused.json()) == (422, {"detail": "refused"})


def test_work_goes_on_when_the_answer_is_sent(tmp_path: Path) -> None:
    """In background tasks, be they coroutines or functions in the server's threads."""
    done: list[int] = []
    with TestClient(application(done, tmp_path)) as client:
        assert client.post("/index/10").status_code == 202

    assert done == [285, 285]


def test_one_request_costs_no_other(tmp_path: Path) -> None:
    """Its worker may crash or hang; the next request has its answer."""
    with TestClient(application([], tmp_path)) as client:
        assert client.get("/predict/14").json() == {"code": 3}
        assert client.get("/predict/4").json() == 14
        assert client.get("/slow").status_code == 504
        pid = int(lines(tmp_path / "pid")[0])
        assert until(lambda: not alive(pid))
        assert client.get("/predict/5").json() == 30


def test_starlette_alone() -> None:
    """The same lifespan, without FastAPI."""
    from starlette.responses import PlainTextResponse

    service = Service()

    async def predict(request: Any) -> Any:
        return PlainTextResponse(str(await service.executor.run(Model().predict, request.path_params["n"])))

    app = Starlette(lifespan=service.lifespan, routes=[Route("/{n:int}", predict)])
    with TestClient(app) as client:
        assert client.get("/10").text == "285"
