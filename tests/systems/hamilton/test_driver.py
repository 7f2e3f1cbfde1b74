"""Hamilton: a driver is an input of another one's parallel block; its modules are files, or made in memory."""

# Annotations are no strings here: Hamilton 1.73 would not know what is parallel.

import logging
import os
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

import safemp
from tests.support.errors import KeywordOnly
from tests.systems.hamilton import shapes

os.environ["HAMILTON_TELEMETRY_ENABLED"] = "false"

try:
    VERSION = version("sf-hamilton")
except PackageNotFoundError:
    VERSION = ""
    Collect = Parallelizable = list
else:
    from hamilton import ad_hoc_utils, driver
    from hamilton.execution.executors import MultiProcessingExecutor, SynchronousLocalTaskExecutor
    from hamilton.htypes import Collect, Parallelizable

    from safemp.integrations.hamilton import SafeMultiProcessingExecutor

OLD = VERSION.startswith("1.73.")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION, reason="wants the sf-hamilton package"),
    pytest.mark.timeout(180),  # workers import it first
]


def density(area: int, perimeter: int) -> float:
    """A node of the inner graph."""
    if area == 49:
        raise KeywordOnly(status=49, text="refused")
    return area / perimeter


def mapper(inner: Any, sides: list) -> Parallelizable[dict]:
    """Give each pass a driver."""
    for side in sides:
        yield {"dr": inner, "inputs": {"side": side}}


def worker(mapper: dict) -> dict:
    """Run the inner graph, in a worker."""
    wanted = [node.name for node in mapper["dr"].list_available_variables() if not node.is_external_input]
    return {"pid": os.getpid(), **mapper["dr"].execute(sorted(wanted), inputs=mapper["inputs"])}


def reducer(worker: Collect[dict]) -> list:
    """Collect what they found."""
    return list(worker)


@pytest.fixture
def made() -> dict[str, Any]:
    """The inner drivers, by where their modules are."""
    in_memory = ad_hoc_utils.create_temporary_module(density, shapes.area, shapes.perimeter)
    node = ad_hoc_utils.create_temporary_module(density)
    modules = {"a file": [shapes], "memory": [in_memory], "both": [shapes, node]}
    return {name: driver.Builder().with_modules(*found).with_adapters().build() for name, found in modules.items()}


def pipeline(executor: Any) -> Any:
    """Build the outer graph."""
    return (
        driver.Builder()
        .enable_dynamic_execution(allow_experimental_mode=True)
        .with_modules(ad_hoc_utils.create_temporary_module(mapper, worker, reducer))
        .with_remote_executor(executor)
        .build()
    )


def run(executor: Any, inner: Any, *sides: int) -> tuple[list[dict[str, float]], set[int]]:
    """Return what the passes found, and the processes in which they were."""
    found = pipeline(executor).execute(["reducer"], inputs={"inner": inner, "sides": list(sides)})["reducer"]
    return found, {each.pop("pid") for each in found}


@pytest.mark.parametrize("where", ["a file", "memory", "both"])
def test_answers_are_those_of_a_serial_run(made: dict[str, Any], where: str) -> None:
    """Hamilton's own executor refuses the driver, from 1.74 on only one with a module in memory."""
    here, this = run(SynchronousLocalTaskExecutor(), made[where], 1, 2, 3)
    if OLD:
        with pytest.raises(TypeError, match=r"^cannot pickle 'module' object$"):
            run(MultiProcessingExecutor(2), made[where], 1, 2, 3)
    elif where != "a file":
        with pytest.raises(ValueError, match=r"^temporary_module_\w+\.__spec__ is None$"):
            run(MultiProcessingExecutor(2), made[where], 1, 2, 3)

    there, workers = run(SafeMultiProcessingExecutor(2), made[where], 1, 2, 3)
    assert there == here
    assert [each["density"] if "density" in each else each["area"] for each in here] in ([0.25, 0.5, 0.75], [1, 4, 9])
    assert this == {os.getpid()}
    assert this.isdisjoint(workers)


def test_the_module_has_a_path(made: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """From the task that Hamilton has made: the log says what was repaired on the way."""
    caplog.set_level(logging.DEBUG, "safemp.repairs")
    run(SafeMultiProcessingExecutor(1), made["both"], 1)

    path = "args[0].dynamic_inputs['mapper']['dr'].graph_modules[0]"
    assert f"repaired {path}, module: by name: the other process imports the same module" in caplog.messages


def test_a_driver_says_how_it_travels(made: dict[str, Any]) -> None:
    """As itself where its modules are in files; the report says so."""
    reports = {where: safemp.inspect(inner) for where, inner in made.items()}

    assert all(report.ok for report in reports.values())
    told = {where: [f"{repair.kind} {repair.path}" for repair in report.repairs] for where, report in reports.items()}
    whole = [] if OLD else ["reconstruct obj"]
    by_name, by_value = "by name obj.graph_modules[0]", "by value obj.graph_modules[{}].density"
    assert told == {
        "a file": [by_name] if OLD else [],
        "memory": [*whole, by_value.format(0)],
        "both": [*whole, by_name, by_value.format(1)],
    }


def test_a_driver_that_has_a_state_of_its_own_keeps_it(made: dict[str, Any]) -> None:
    """Of a class derived from it, whose ``__getstate__`` is its own affair."""
    inner = made["memory"]
    inner.__class__ = Stateful

    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(vars, inner).result() == {"own": True}


class Stateful(driver.Driver if VERSION else object):  # type: ignore[misc]
    def __getstate__(self) -> dict[str, Any]:
        return {"own": True}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)


def nodes_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the nodes of which Hamilton has said that they failed."""
    found = re.findall(r"> (\w+) \[\S+\(\)\] encountered an error", caplog.text)
    caplog.clear()
    return found


def test_an_error_is_itself_and_names_its_node(made: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Its class, its attributes, the function of the node; what Hamilton logs of it in the worker arrives here."""
    caplog.set_level(logging.ERROR)
    with pytest.raises(KeywordOnly):
        run(SynchronousLocalTaskExecutor(), made["both"], 7)
    here = nodes_in(caplog)
    with pytest.raises(KeywordOnly) as caught:
        run(SafeMultiProcessingExecutor(2), made["both"], 7)

    assert caught.value.status == 49
    assert (caught.traceback[-1].name, caught.traceback[-1].path) == ("density", Path(__file__))
    assert nodes_in(caplog) == here == ["density", "worker"]
