"""Modules without a file that a package makes as it is imported: they go by name, as in the standard library.

pybind11's and nanobind's submodules are such (onnx has some), ``six.moves``, ``torch.ops``.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import safemp

PACKAGE = """
import sys, types

sub = types.ModuleType(__name__ + ".sub")
sys.modules[sub.__name__] = sub
exec('''
class Thing: pass
class Failed(Exception): pass
def fail(): raise Failed("of the package", 7)
def make(): return Thing()
''', sub.__dict__)

class Lazy(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"): raise AttributeError(name)
        return len(name)

lazy = sys.modules[__name__ + ".lazy"] = Lazy(__name__ + ".lazy")
lazy.__package__ = __name__

class Reduces(types.ModuleType):
    def __reduce__(self): return getattr, (sys.modules[__name__], "reduces")

reduces = Reduces("whatever")

import enum

class Model:
    DoesNotExist = type("ModelDoesNotExist", (LookupError,), {"__module__": __name__})
    Kind = enum.Enum("OtherName", "A B", module=__name__)

def make_error():
    class Local(Exception): pass
    return Local

Model.Local = make_error()
Renamed = type("Another", (), {"__module__": __name__})

class Refuses:
    def __reduce__(self): raise TypeError("cannot pickle it")

ONLY = Refuses()
def is_only(holder): return holder["only"] is ONLY
def give(only): return {"only": ONLY} if only else {"other": Refuses(), "only": ONLY}

def look(name): raise getattr(Model, name)("none", 3)
def is_kind(kind): return kind is Model.Kind.A
def is_renamed(x): return type(x) is Renamed

def is_thing(x): return isinstance(x, sub.Thing)
def is_sub(module): return module is sub
def is_lazy(module): return module is lazy
def is_reduces(module): return module is reduces
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A package that has made a submodule, and one of a class of its own."""
    (tmp_path / "makes_submodules").mkdir()
    (tmp_path / "makes_submodules" / "__init__.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import makes_submodules  # type: ignore[import-not-found]

    yield makes_submodules
    for name in [name for name in sys.modules if name.partition(".")[0] == "makes_submodules"]:
        del sys.modules[name]


@pytest.mark.parametrize("context", [None, "spawn"])
def test_what_is_in_submodules_keeps_its_identity(package: Any, context: str | None) -> None:
    """Instances, classes, exceptions and the modules themselves, there and back."""
    with safemp.SafeExecutor(1, mp_context=context) as executor:

        def call(fn: Any, *args: Any) -> Any:
            return executor.submit(fn, *args).result(60)

        assert call(package.is_thing, package.sub.Thing())
        assert call(package.is_sub, package.sub)
        assert call(package.is_lazy, package.lazy)
        assert call(package.is_reduces, package.reduces)
        assert type(call(package.sub.make)) is package.sub.Thing
        assert call(lambda: package.lazy.three) == 5
        with pytest.raises(package.sub.Failed, match="of the package"):
            call(package.sub.fail)
    assert pickle.loads(safemp.dumps(package.lazy)) is package.lazy
    assert type(safemp.loads(safemp.dumps(package.sub.Thing()))) is package.sub.Thing


@pytest.mark.parametrize("context", [None, "spawn"])
def test_classes_that_are_attributes_under_another_name_keep_their_identity(package: Any, context: str | None) -> None:
    """As ``DoesNotExist`` of several packages, enumerations in a class, and ``pytest.fail.Exception``."""
    with safemp.SafeExecutor(1, mp_context=context) as executor:
        for name in ("DoesNotExist", "Local"):
            with pytest.raises(getattr(package.Model, name)) as caught:
                executor.submit(package.look, name).result(60)
            assert caught.value.args == ("none", 3)
            assert executor.submit(getattr, package.Model, name).result(60) is getattr(package.Model, name)
        assert executor.submit(package.is_kind, package.Model.Kind.A).result(60)
        assert executor.submit(package.is_renamed, package.Renamed()).result(60)
        with pytest.raises(pytest.fail.Exception, match="in a task"):
            executor.submit(pytest.fail, "in a task").result(60)
    assert safemp.loads(safemp.dumps(package.Model.Kind.B)) is package.Model.Kind.B


def test_what_is_an_attribute_of_a_module_travels_both_ways(package: Any) -> None:
    """An object that does not pickle; another one like it is still named."""
    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(package.is_only, {"only": package.ONLY}).result(60)
        assert executor.submit(package.give, True).result(60)["only"] is package.ONLY
        with pytest.raises(safemp.ResultError, match=r"result\['other'\]"):
            executor.submit(package.give, False).result(60)


def test_a_submodule_that_only_this_process_has_goes_by_value(package: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has put it among the modules; its package does not know it."""
    made = ModuleType("makes_submodules.later")
    exec("def double(x): return 2 * x", made.__dict__)
    monkeypatch.setitem(sys.modules, made.__name__, made)

    with safemp.SafeExecutor(1) as executor:
        assert executor.submit(made.double, 4).result(60) == 8
