"""The walker on random graphs: what is found is what was planted, where it was planted."""

import ast
import collections
import dataclasses
import functools
import socket
import sys
import types
import typing

import cloudpickle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safemp.codec.pickling import Semantics
from safemp.codec.walker import find_culprits
from tests.unit.cloud_semantics import CloudSemantics

# -- recipes: hypothesis draws (and shrinks) these; ``build`` makes fresh objects of them


class Plain:
    """Keeps its attributes in ``__dict__``."""

    def __init__(self, parts):
        self.__dict__.update(parts)


class Slots:
    __slots__ = ("__c", "a", "b")

    def __init__(self, a, b, c):
        self.a, self.b, self.__c = a, b, c


class Both(Slots):
    """Has slots and a ``__dict__``."""

    def __init__(self, a, b, c):
        super().__init__(a, b, 0)
        self.c = c


class Reduced:
    def __init__(self, a, b, c):
        self.a, self.b, self.c = a, b, c

    def __reduce__(self):
        return Reduced, (self.a, [self.b], {"c": self.c})


class Stated:
    def __init__(self, a, b, c):
        self.kept = (a, b)
        self.other = c

    def __getstate__(self):
        return {"one": self.kept, "two": [self.other]}


class Three(typing.NamedTuple):
    a: object
    b: object
    c: object


@dataclasses.dataclass
class Data:
    a: object
    b: object
    c: object


class Bag(set):
    pass


def closure(a, b, c):
    """Make a function that holds *a* in its closure, *b* as a default and *c* as an attribute."""

    def function(b=b, *, k=(b,)):
        return a, b

    function.attr = c
    return function


def local_class(a, b, c):
    """Make a class that travels by value, and an instance of it."""

    class Local:
        x = a

        def method(self, default=b):
            return super().__eq__(default)

        @property
        def never(self):
            raise AssertionError("a property was run")

    made = Local()
    made.__dict__["never"] = c
    return made


def looped(a, b, c):
    """Make a cycle through a list, a dict and an instance."""
    made = Plain({"items": [a], "space": {"b": b}, "c": c})
    made.items += [made, made.items]
    made.space["up"] = made.space
    return made


MAKERS = [
    lambda a, b, c: [a, b, c],
    lambda a, b, c: (a, b, c),
    lambda a, b, c: {"a": a, 2: b, ("x", None): c, "k" * 99: 4},
    lambda a, b, c: {frozenset({1}): a, 2.5: b, 3: [c]},
    lambda a, b, c: [a, b, a, (c, c), b],
    lambda a, b, c: Plain({"a": a, "b b": b, "class": c}),
    Slots,
    Both,
    Reduced,
    Stated,
    Three,
    Data,
    closure,
    local_class,
    looped,
    lambda a, b, c: functools.partial(print, a, b, end=c),
    lambda a, b, c: Plain({"a": a, "b": [b], "c": c}).__init__,
    lambda a, b, c: collections.OrderedDict([(1, a), (2, b), (3, c)]),
    lambda a, b, c: collections.defaultdict(functools.partial(print, a), {1: b, 2: c}),
    lambda a, b, c: collections.deque([a, b, c]),
    lambda a, b, c: types.MappingProxyType({"a": a, "b": [b, c]}),
    lambda a, b, c: types.SimpleNamespace(a=a, b=b, c=c),
    lambda a, b, c: ValueError(a, [b], c),
    lambda a, b, c: {HashedById(a), HashedById(b), HashedById(c)},
    lambda a, b, c: Bag([HashedById(a), HashedById(b), HashedById(c)]),
    lambda a, b, c: frozenset([HashedById(a)]) | {HashedById(b), HashedById(c)},
    lambda a, b, c: {HashedById(a): 1, HashedById(b): c},
]


class HashedById:
    """Anything, in a set."""

    def __init__(self, held):
        self.held = held


def unconnected():
    """Make a socket which leaves no descriptor behind."""
    made = socket.socket()
    made.close()
    return made


PLANTS = [
    lambda: (x for x in ()),
    unconnected,
    sys._getframe,
    lambda: Refuses(),
    lambda: Recurses(),
]


class Refuses:
    def __reduce__(self):
        raise SystemExit(1)


class Recurses:
    def __getattr__(self, name):
        return self.missing

    def __reduce__(self):
        return int, (self.missing,)

    def __repr__(self):
        return "Recurses"


atoms = st.sampled_from([None, True, 1, 10**30, 1.5, "text", b"bytes", 2j, ..., int, len, bytearray(b"x")])
planted = st.integers(0, len(PLANTS) - 1).map(lambda i: ("plant", i))
leaves = st.one_of(atoms.map(lambda x: ("atom", x)), planted)
recipes = st.recursive(
    leaves, lambda below: st.tuples(st.integers(0, len(MAKERS) - 1), below, below, below), max_leaves=25
)


def build(recipe, plants):
    """Make what *recipe* says, and note in *plants* what cannot travel."""
    if recipe[0] == "atom":
        return recipe[1]
    if recipe[0] == "plant":
        plants.append(PLANTS[recipe[1]]())
        return plants[-1]
    return MAKERS[recipe[0]](*(build(part, plants) for part in recipe[1:]))


class _Cells(ast.NodeTransformer):
    """The path grammar's ``fn.__closure__['name']`` in Python."""

    def visit_Subscript(self, node):
        self.generic_visit(node)
        if isinstance(node.value, ast.Attribute) and node.value.attr == "__closure__":
            return ast.Call(ast.Name("cell", ast.Load()), [node.value.value, node.slice], [])
        return node


def cell(function, name):
    """Read a closure by the variable's name."""
    return function.__closure__[function.__code__.co_freevars.index(name)].cell_contents


def evaluate(path, root):
    """Evaluate a path as a person would, who knows what the names in a closure mean."""
    tree = ast.fix_missing_locations(_Cells().visit(ast.parse(path, mode="eval")))
    return eval(compile(tree, path, "eval"), {"root": root, "cell": cell})


@pytest.mark.parametrize("semantics", [CloudSemantics, Semantics])
@settings(max_examples=400, deadline=None)
@given(recipes)
def test_found_is_planted(semantics, recipe):
    """Every planted object is found, nothing else is, and each path evaluates to its object."""
    plants = []
    root = build(recipe, plants)
    found = find_culprits([("root", root)], semantics())

    assert {id(c.get()) for c in found} == {id(plant) for plant in plants}
    assert len(found) == len(plants)
    for culprit in found:
        assert evaluate(culprit.path, root) is culprit.get()


@pytest.mark.parametrize("semantics", [CloudSemantics, Semantics])
@settings(max_examples=200, deadline=None)
@given(recipes)
def test_agrees_with_the_pickler(semantics, recipe):
    """The walker finds something exactly when pickling fails."""
    root = build(recipe, [])
    try:
        semantics().dump(root)
    except BaseException:
        fails = True
    else:
        fails = False

    assert bool(find_culprits([("root", root)], semantics())) == fails


@pytest.mark.parametrize("semantics", [CloudSemantics, Semantics])
@settings(max_examples=100, deadline=None)
@given(st.lists(recipes, min_size=1, max_size=4))
def test_roots_are_told_apart(semantics, drawn):
    """Each culprit is reported under the root that holds it."""
    plants, roots = [], []
    for recipe in drawn:
        plants.append([])
        roots.append(build(recipe, plants[-1]))
    found = find_culprits([(f"items[{i}]", root) for i, root in enumerate(roots)], semantics())

    for i, own in enumerate(plants):
        here = [c for c in found if c.path.replace("list(", "").replace("type(", "").startswith(f"items[{i}]")]
        assert {id(c.get()) for c in here} == {id(plant) for plant in own}


def test_recipes_are_hostile():
    """What is planted is what the standard library and cloudpickle refuse."""
    for plant in PLANTS:
        with pytest.raises(BaseException):
            cloudpickle.dumps(plant())
