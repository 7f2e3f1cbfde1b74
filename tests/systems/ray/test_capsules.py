"""Classes of ``__main__`` that reach a ``PyCapsule``: as a Ray actor, and in a pool of safemp."""

from __future__ import annotations

import pytest

from tests.systems.ray.cluster import START, VERSION, run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION, reason="wants the ray package"),
    pytest.mark.timeout(180),
]

SERVICES = """
import sys
from datetime import datetime_CAPI

import numpy
import psutil
import ray
from contourpy import max_threads

import safemp

pointer = numpy.arange(3).__dlpack__()

class Function:
    def ask(self):
        import contourpy
        return max_threads is contourpy._contourpy.max_threads, max_threads() > 0, "safemp" in sys.modules

class Capsule:
    def ask(self):
        import datetime
        return datetime_CAPI is datetime.datetime_CAPI, True, "safemp" in sys.modules

class Held:
    def __init__(self, *things):
        self.things = things

    def ask(self):
        import contourpy, datetime
        return *map(lambda a, b: a is b, self.things, (contourpy._contourpy.max_threads, datetime.datetime_CAPI)), False

class Pointer:
    def ask(self):
        return pointer

class Mended:
    def __init__(self):
        self.pointer = numpy.arange(3).__dlpack__()

    def ask(self):
        return type(self.pointer).__name__, True, False

def ask(service):
    return service.ask()

def children():
    return psutil.Process().children(recursive=True)
"""

ACTORS = (
    SERVICES
    + f"""
if __name__ == "__main__":
    {START}
    try:
        for cls, args in [(Function, ()), (Capsule, ()), (Held, (max_threads, datetime_CAPI))]:
            actor = ray.remote(cls)
            for _ in range(2):
                try:
                    actor.remote(*args)
                except TypeError as error:
                    print(cls.__name__, "stock:", error.__cause__)
                with safemp.repairing():
                    service = actor.remote(*args)
                print(cls.__name__, "ours:", *ray.get(service.ask.remote()))
                ray.kill(service)
        with safemp.repairing():
            try:
                ray.remote(Pointer).remote()
            except TypeError as error:
                print("Pointer ours:", error.__cause__, "FailTuple(pointer " in str(error), "max_threads" in str(error))
            print("Mended:", *ray.get(ray.remote(Mended).remote().ask.remote()))
            function = ray.remote(lambda given: (given is max_threads, max_threads() > 0))
            print("task:", *ray.get(function.remote(max_threads)))
    finally:
        ray.shutdown()
"""
)


def test_an_actor_is_made_of_what_ray_refuses() -> None:
    """By itself Ray refuses each; inside ``repairing()`` each has its module's own object, where safemp is not loaded.

    A pointer that is nobody's attribute is refused there, too, and Ray's message names nothing else.
    """
    ended, left = run(ACTORS)

    assert ended.returncode == 0, str(ended)
    assert ended.out.splitlines() == [
        "Function stock: cannot pickle 'PyCapsule' object",
        "Function ours: True True False",
        "Function ours: True True False",
        "Capsule stock: cannot pickle 'PyCapsule' object",
        "Capsule ours: True True False",
        "Capsule ours: True True False",
        "Held stock: cannot pickle 'PyCapsule' object",
        "Held ours: True True False",
        "Held stock: cannot pickle 'PyCapsule' object",
        "Held ours: True True False",
        "Pointer ours: cannot pickle 'PyCapsule' object True False",
        "Mended: PyCapsule True False",
        "task: True True",
    ], str(ended)
    assert left == []


POOL = (
    SERVICES
    + """
if __name__ == "__main__":
    for service in (Pointer(), Held(pointer)):
        for call in (lambda: safemp.map(ask, [service]), lambda: safemp.SafeExecutor(1).submit(ask, service)):
            try:
                call()
            except safemp.PreflightError as error:
                (culprit,) = error.culprits
                print(culprit.path, culprit.type_name, "in __init__" in culprit.fix, children())
    (culprit,) = safemp.inspect(ray.remote(Pointer)).culprits
    print(culprit.path, culprit.get() is pointer, children(), ray.is_initialized())
    for service in (Function(), Capsule(), Held(max_threads, datetime_CAPI)):
        print(*safemp.map(ask, [service])[0][:2])
    print(*safemp.map(lambda _: Mended().ask(), [0])[0][:2])
"""
)


def test_a_pool_takes_them_and_refuses_a_pointer_before_there_is_a_process() -> None:
    """With its path and what to type instead; the report on an actor says so before Ray is started."""
    ended, left = run(POOL)

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert ended.out.splitlines() == [
        "type(items[0]).ask.__globals__['pointer'] PyCapsule True []",
        "type(args[0]).ask.__globals__['pointer'] PyCapsule True []",
        "items[0].things[0] PyCapsule True []",
        "args[0].things[0] PyCapsule True []",
        "type(obj).__bases__[1].__bases__[0].ask.__globals__['pointer'] True [] False",
        *["True True"] * 3,
        "PyCapsule True",
    ], str(ended)
    assert left == []
