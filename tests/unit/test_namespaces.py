"""What goes by value has one namespace in each process, and behaves there as at home."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from safemp.codec import namespaces
from tests.support import jobs
from tests.support.child import quiet, run_script
from tests.support.other import Other
from tests.support.scripts import RUN, SCRIPTS


@pytest.fixture(scope="module")
def other() -> Iterator[Other]:
    made = Other()
    yield made
    made.terminate()


@pytest.fixture(scope="module")
def module() -> Iterator[Callable[[str], types.ModuleType]]:
    """Make a module that exists in this process only."""
    names: list[str] = []

    def make(source: str) -> types.ModuleType:
        name = f"made_in_memory_{len(names)}"
        names.append(name)
        made = sys.modules[name] = types.ModuleType(name)
        exec(compile(source, f"<{name}>", "exec", dont_inherit=True), made.__dict__)
        return made

    yield make
    for name in names:
        del sys.modules[name]


Make = Callable[[str], types.ModuleType]

# -- scripts -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_module_in_memory_behaves_as_at_home(other: Other, module: Make, name: str) -> None:
    """What it defines works in another process, and is itself again on its return."""
    with ExitStack() as stack:

        def fresh() -> Other:
            made = Other()
            stack.callback(made.terminate)
            return made

        module(SCRIPTS[name]).check(other, fresh)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_behaves_as_at_home(tmp_path: Path, name: str) -> None:
    """What ``__main__`` defines works in a worker, and is itself again on its return."""
    ended = run_script(tmp_path, SCRIPTS[name] + RUN)

    assert quiet(ended), str(ended)


# -- the four rules ----------------------------------------------------------------------


def test_what_tasks_put_into_a_namespace_stays(other: Other, module: Make) -> None:
    """Rule 1: names that the caller has never had, too."""
    made = module(
        "def put(name, value):\n    globals()[name] = value\n"
        "def get(name):\n    return globals()[name]\n"
        "def declare():\n    global declared\n    declared = [1]\n"
        "def read():\n    declared.append(2)\n    return declared\n"
    )
    other(made.put, "x", 5)
    other(made.declare)

    assert other(made.get, "x") == 5
    assert other(made.read) == [1, 2]
    assert other(made.read) == [1, 2, 2]
    assert not hasattr(made, "x")
    assert not hasattr(made, "declared")


def test_a_global_is_set_when_it_is_first_needed(other: Other, module: Make) -> None:
    """Rule 2: a task gets what it uses, and nothing else is sent."""
    made = module(
        "class Loud:\n    pass\na, b = 1, 2\ndef use_a():\n    return a\ndef names():\n    return sorted(globals())\n"
    )
    other(made.use_a)

    found = other(made.names)

    assert "a" in found
    assert "b" not in found
    assert "Loud" not in found


def test_a_global_is_set_again_only_when_the_caller_has_changed_it(other: Other, module: Make) -> None:
    """Rule 2: the worker's own change stays until then."""
    made = module("n = 1\ndef get():\n    return n\ndef put(value):\n    global n\n    n = value\n")
    assert other(made.get) == 1
    other(made.put, 2)
    assert other(made.get) == 2, "the caller's is as it was"
    made.n = 3
    assert other(made.get) == 3
    other(made.put, 4)
    made.n = 3.0

    assert other(made.get) == 3.0, "equal, but another value"

    made.n = 1
    assert other(made.get) == 1, "back to the first value"


def test_a_helper_may_be_defined_after_its_first_user_has_been_sent(other: Other, module: Make) -> None:
    """Rule 2: in a notebook the call that fails for want of a name is made again when it is there."""
    made = module("def use():\n    return helper(abs(-1))\ndef again():\n    return use() + abs(-1)\n")
    with pytest.raises(NameError):
        other(made.use)
    exec("def helper(x):\n    return x + 1", made.__dict__)

    assert other(made.use) == 2
    assert other(made.again) == 3

    exec("def abs(x):\n    return 10", made.__dict__)
    assert other(made.use) == 11, "one that hides a built-in, too"


@pytest.mark.skipif(
    sys.version_info < (3, 14), reason="annotations are made when they are asked for from Python 3.14 on"
)
def test_annotations_may_name_what_is_not_there(other: Other, module: Make) -> None:
    """What only a type checker imports, or what comes later; they are what they were once it is there."""
    made = module(
        "import annotationlib, dataclasses, typing\n"
        "def use(x: Later, y: int = 1) -> int:\n    return x + y\n"
        "class Plain:\n    x: int\n    def method(self, y: Later) -> Never:\n        return y\n"
        "class Waiting:\n    y: Later\n    z: int\n"
        "@dataclasses.dataclass\nclass Data:\n    x: int\n    y: Later = 3\n"
        "class Options(typing.TypedDict):\n    x: int\n"
        "def texts(of):\n    return annotationlib.get_annotations(of, format=annotationlib.Format.STRING)\n"
        "def values(of):\n    return of.__annotations__\n"
    )
    here = [made.texts(each) for each in (made.use, made.Plain, made.Waiting, made.Data)]

    assert other(made.use, 2) == 3
    assert other(made.Plain().method, 4) == 4
    assert other(lambda data: (data.x, data.y), made.Data(1)) == (1, 3)
    assert [other(made.texts, each) for each in (made.use, made.Plain, made.Waiting, made.Data)] == here
    assert other(made.values, made.Plain) == other(made.values, made.Options) == {"x": int}

    made.Later = str
    assert other(made.values, made.Waiting) == {"y": str, "z": int}


def test_nothing_that_comes_back_is_set_at_home(other: Other, module: Make) -> None:
    """Rule 3: the caller's own namespace is its own."""
    made = module(
        "n = [1]\n"
        "class Thing:\n    kind = 'home'\n"
        "def spoil():\n    n.append(2)\n    Thing.kind = 'spoilt'\n    return lambda: (n, Thing.kind)\n"
        "def give():\n    return Thing(), spoil\n"
    )
    space = dict(vars(made))

    back = other(made.spoil)
    thing, function = other(made.give)

    assert vars(made) == space
    assert made.n == [1]
    assert made.Thing.kind == "home"
    assert function is made.spoil
    assert type(thing) is made.Thing
    assert back() == ([1], "home"), "a closure made there uses the globals of its home here"


def test_functions_of_an_importable_module_use_its_real_globals(other: Other) -> None:
    """Rule 4: also those that go by value because they have no name in it."""
    nameless: Any = types.FunctionType(jobs.get_state.__code__, vars(jobs), "nameless")
    other(jobs.set_state, "rule", 4)

    assert other(nameless, "rule") == 4
    assert jobs.get_state("rule") is None


def test_two_modules_with_names_in_common_do_not_mix(other: Other, module: Make) -> None:
    """Each has its own namespace there."""
    source = "value = {!r}\ndef get():\n    return value\ndef put(v):\n    global value\n    value = v\n"
    one, two = module(source.format("one")), module(source.format("two"))
    other(one.put, "changed")

    assert (other(one.get), other(two.get)) == ("changed", "two")


def test_modules_may_use_one_another(other: Other, module: Make) -> None:
    """A module in memory that imports another one takes along what it needs of it."""
    base = module(
        "class Base:\n    def who(self):\n        return 'base'\nlimit = 3\ndef helper(x):\n    return x + limit\n"
    )
    user = module(
        f"from {base.__name__} import Base, helper\nimport {base.__name__} as whole\n"
        "class Child(Base):\n    def who(self):\n        return 'child', super().who()\n"
        "def use(x):\n    return helper(x), Child().who(), whole.limit, isinstance(Child(), whole.Base)\n"
    )

    assert other(user.use, 1) == (4, ("child", "base"), 3, True)

    base.limit = 5
    assert other(user.use, 1) == (6, ("child", "base"), 5, True)
    assert type(other(user.Child)) is user.Child


def test_a_registered_module_goes_by_value(other: Other) -> None:
    """``cloudpickle.register_pickle_by_value`` is heeded, with or without earlier calls."""
    assert other(jobs.square, 3) == 9
    cloudpickle.register_pickle_by_value(jobs)
    try:
        other(jobs.set_state, "registered", 1)
        by_value = other(jobs.get_state, "registered")
        made = other(jobs.same, jobs.Mute())
    finally:
        cloudpickle.unregister_pickle_by_value(jobs)

    assert by_value == 1
    assert other(jobs.get_state, "registered") is None, "its namespace was not the imported module's"
    assert type(made) is jobs.Mute


def test_a_registered_module_is_heeded_in_what_was_sent_before(other: Other, module: Make) -> None:
    """What a module in memory names of it goes by value from then on."""
    made = module(
        "from tests.support import jobs\nfrom tests.support.jobs import _state, get_state, set_state\n"
        "def put(v):\n    set_state('seen', v)\ndef get():\n    return get_state('seen')\n"
        "def real():\n    import importlib\n"
        "    return importlib.import_module('tests.support.jobs')._state.get('seen')\n"
    )
    other(made.put, 1)
    assert other(made.real) == 1
    cloudpickle.register_pickle_by_value(jobs)
    try:
        other(made.put, 2)
        found = other(made.get), other(made.real)
    finally:
        cloudpickle.unregister_pickle_by_value(jobs)

    assert found == (2, 1)


def test_a_namespace_whose_module_is_gone_is_still_its_functions(other: Other) -> None:
    """A function outlives the module's entry in ``sys.modules``."""
    made = sys.modules["made_and_gone"] = types.ModuleType("made_and_gone")
    exec("limit = 3\ndef get():\n    return limit\ndef deep():\n    return get()\n", made.__dict__)
    del sys.modules["made_and_gone"]

    assert other(made.get) == 3
    assert other(made.deep) == 3


def test_a_module_in_memory_that_takes_the_place_of_another_is_seen(other: Other) -> None:
    """As many modules as before, but not the same ones."""
    for name in ("in_memory_one", "in_memory_two"):
        made = sys.modules[name] = types.ModuleType(name)
        exec("def get():\n    return __name__\n", made.__dict__)
        try:
            assert other(made.get) == name
        finally:
            del sys.modules[name]


def test_functions_of_no_module_at_all_work(other: Other) -> None:
    """``exec`` into a bare dict makes functions with a namespace of its own."""
    space: dict[str, Any] = {}
    exec("limit = 3\ndef get():\n    return limit\ndef fact(n):\n    return 1 if n < 2 else n * fact(n - 1)\n", space)

    assert other(space["get"]) == 3
    assert other(space["fact"], 5) == 120


def test_a_received_function_can_be_passed_on(other: Other, module: Make) -> None:
    """A worker may send what it was sent to workers of its own; it is the caller's again on its return."""
    made = module(
        "from tests.support.other import Other\n"
        "n = 2\n"
        "class Thing:\n    def __init__(self, x):\n        self.x = x\n"
        "def leaf(thing):\n    return Thing(thing.x * n), type(thing) is Thing\n"
        "def pass_on(thing):\n"
        "    inner = Other()\n"
        "    try:\n        found, same = inner(leaf, thing)\n"
        "    finally:\n        inner.terminate()\n"
        "    return found, same, type(found) is Thing\n"
    )
    found, there, here = other(made.pass_on, made.Thing(4))

    assert (found.x, there, here) == (8, True, True)
    assert type(found) is made.Thing


def test_a_name_defined_only_there_is_not_named_to_others(other: Other, module: Make) -> None:
    """A class that a task defines comes back, though its home has never had it."""
    made = module(
        "def define():\n"
        "    global Late\n"
        "    class Late:\n"
        "        def __init__(self):\n            self.x = 5\n"
        "        def get(self):\n            return self.x\n"
        "    return Late()\n"
    )
    back = other(made.define)

    assert back.get() == 5
    assert not hasattr(made, "Late")


LATE = """
import sys, safemp

def whole():
    return helper.f()

def part():
    return f()

def thing(x):
    return T(x).doubled(), T(3) == T(3), isinstance(T(1), helper.T)

def made():
    return T(4)

def one():
    return 1

SOURCE = '''
import contextlib, dataclasses
value = 4
def f():
    return value
@dataclasses.dataclass
class T:
    x: int = 1
    def doubled(self):
        with managed(self.x) as x:
            return x + x
@contextlib.contextmanager
def managed(x):
    yield x
'''

if __name__ == "__main__":
    folder = sys.argv[1]
    with safemp.SafeExecutor(1) as executor:
        call = lambda fn, *args: executor.submit(fn, *args).result(30)
        assert call(one) == 1
        with open(folder + "/late_helper.py", "w") as file:
            file.write(SOURCE)
        sys.path.insert(0, folder)
        import late_helper as helper
        from late_helper import T, f
        assert call(whole) == 4
        assert call(part) == 4
        assert call(thing, 5) == (10, True, True)
        assert type(call(made)) is T
        assert call(T, 5) == T(5)
        assert call(T(6).doubled) == 12
        assert list(executor.map(T, [1, 2])) == [T(1), T(2)]
        assert call(one) == 1
    print("ok")
"""


def test_a_module_that_workers_cannot_import_goes_by_value(tmp_path: Path) -> None:
    """A folder that joined ``sys.path`` after they had started is no obstacle."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    ended = run_script(tmp_path, LATE, str(hidden))

    assert quiet(ended), str(ended)


# -- the parts -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"), [("__main__", True), ("__mp_main__", True), ("main", False), (None, False)]
)
def test_the_script_has_two_names(name: str | None, expected: bool) -> None:
    """In a spawned child it is ``__mp_main__``."""
    assert namespaces.is_main(name) is expected


def test_at_its_origin_a_namespace_is_the_module_itself(module: Make) -> None:
    """Rule 3, seen from inside."""
    made = module("x = 1\n")
    key = namespaces.origin(made.__name__)

    assert namespaces.open_module(key, {}) is made
    assert namespaces.open_namespace(key, {}) is made.__dict__
    assert namespaces.get_global(key, "x") == 1
    assert namespaces.key_of(made.__dict__) is None


def test_at_its_origin_a_module_that_is_gone_is_an_import_error() -> None:
    """Not a new, empty one."""
    with pytest.raises(ModuleNotFoundError) as caught:
        namespaces.open_module(namespaces.origin("made_and_gone_for_good"), {})

    assert caught.value.name == "made_and_gone_for_good"
