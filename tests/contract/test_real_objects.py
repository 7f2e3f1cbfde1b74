"""Real objects: each arrives and works in another process, or is named by a path that leads to it."""

from __future__ import annotations

import ast
import gc
import pickle
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from copy import copy
from importlib.util import find_spec
from typing import Any

import pytest

import safemp
from tests.support import real_objects
from tests.support.child import environment
from tests.support.real_objects import ARRIVES, REFUSED


@pytest.fixture(scope="module")
def executor() -> Iterator[safemp.SafeExecutor]:
    """One worker for the module: a fresh interpreter."""
    with safemp.SafeExecutor(1) as executor:
        yield executor


def wanted(needs: str) -> None:
    """Skip unless package *needs* is there."""
    if needs and find_spec(needs) is None:
        pytest.skip(f"wants the {needs} package")


class _Cells(ast.NodeTransformer):
    """The path grammar's ``fn.__closure__['name']`` in Python."""

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.value, ast.Attribute) and node.value.attr == "__closure__":
            return ast.Call(ast.Name("cell", ast.Load()), [node.value.value, node.slice], [])
        return node


def _cell(function: Any, name: str) -> Any:
    return function.__closure__[function.__code__.co_freevars.index(name)].cell_contents


def evaluate(path: str, obj: Any) -> Any:
    """Follow *path* from ``args[0]``, which is *obj*."""
    tree = ast.fix_missing_locations(_Cells().visit(ast.parse(path, mode="eval")))
    return eval(compile(tree, "path", "eval"), {"cell": _cell, "args": (obj,)})


def test_the_tables_are_long_enough() -> None:
    """At least 150 of them."""
    assert len(ARRIVES) + len(REFUSED) >= 150


@pytest.mark.parametrize("name", ARRIVES)
def test_it_arrives_and_works(executor: safemp.SafeExecutor, name: str) -> None:
    """In an interpreter that has never seen it."""
    entry = ARRIVES[name]
    wanted(entry.needs)
    obj = entry.make()

    assert executor.submit(real_objects.works, name, obj).result(60)
    assert safemp.inspect(obj, load=False).ok


@pytest.fixture(scope="module")
def bare() -> Iterator[Callable[[str, bytes], str]]:
    """An interpreter that has what these objects are of, and has never heard of safemp."""
    code = (
        "import pickle, sys; sys.modules['safemp'] = None\n"
        "from tests.support import real_objects\n"
        "while True:\n"
        "    name, data = pickle.load(sys.stdin.buffer)\n"
        "    try:\n        said = str(real_objects.works(name, pickle.loads(data)))\n"
        "    except BaseException as error:\n        said = repr(error)\n"
        "    print(said, flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    ) as child:
        stdin, stdout = child.stdin, child.stdout
        assert stdin is not None
        assert stdout is not None

        def works(name: str, data: bytes) -> str:
            stdin.write(pickle.dumps((name, data)))
            stdin.flush()
            return stdout.readline().decode().strip()

        yield works
        stdin.close()


@pytest.mark.parametrize("name", ARRIVES)
def test_what_dumps_writes_of_it_works_without_safemp(bare: Callable[[str, bytes], str], name: str) -> None:
    """Plain pickle loads it; the report names what it does not."""
    entry = ARRIVES[name]
    wanted(entry.needs)
    obj = entry.make()
    needed = safemp.inspect(obj, load=False).needs_safemp

    said = bare(name, safemp.dumps(obj))

    assert said == "True" if not needed else "No module named 'safemp" in said


def test_a_template_that_has_arrived_can_be_sent_on(executor: safemp.SafeExecutor) -> None:
    """Back to the caller, for instance, and from there to the next worker."""
    wanted("jinja2")
    entry = ARRIVES["jinja2 template of a string"]
    again = executor.submit(copy, executor.submit(copy, entry.make()).result(60)).result(60)

    assert executor.submit(real_objects.works, "jinja2 template of a string", again).result(60)


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_named_by_a_path_that_leads_to_it(executor: safemp.SafeExecutor, name: str) -> None:
    """With something to type instead."""
    entry = REFUSED[name]
    wanted(entry.needs)
    obj = entry.make()
    try:
        with pytest.raises(safemp.PreflightError) as caught:
            executor.submit(real_objects.works, name, obj)

        first = caught.value.culprits[0]
        path = first.path.replace("args[1]", "args[0]")  # the name goes first
        assert path.startswith(entry.path)
        assert evaluate(path, obj) is first.get()
        assert entry.fix in first.fix
    finally:
        del caught
        if entry.close is not None:
            entry.close(obj)
        del obj
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
