"""Real objects: each arrives and works in another process, or is named by a path that leads to it."""

from __future__ import annotations

import ast
import gc
import warnings
from collections.abc import Iterator
from copy import copy
from importlib.util import find_spec
from typing import Any

import pytest

import safemp
from tests.support import real_objects
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
