"""What a script has taken out of modules (``from module import x``), and what libraries' decorators make of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.child import quiet, run_script

LIBRARY = """
import ctypes, functools, threading

class Handle:
    def __reduce__(self): raise TypeError("a Handle does not pickle")

HANDLE = Handle()

class Unset:
    pass

class Slotted:
    __slots__ = ("value",)

UNSET, EMPTY, MARK, LATER = Unset(), Slotted(), object(), Unset()

class Registered:
    made = []
    def __reduce__(self): return Registered._again, ()
    @staticmethod
    def _again(): return REGISTERED

REGISTERED = Registered()

class Cached:
    "As of several packages: an object in a function's place, which pickles as its name."
    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function, self.kept = function, {}
    def __call__(self, x):
        if x not in self.kept:
            self.kept[x] = self.function(x)
        return self.kept[x]
    def __reduce__(self): return self.__qualname__

class Slots(Cached):
    __slots__ = ("calls",)
    def __init__(self, function):
        super().__init__(function)
        self.calls = []
    def __call__(self, x):
        self.calls.append(x)
        return super().__call__(x)

class Text(str):
    pass

Typed = type("Typed", (), {"__module__": Text(__name__)})

class Bad:
    def __reduce__(self): return int, ("x",)

BAD = Bad()

class OfC(dict):
    "Has state in C."
    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function
    def __call__(self, x): return self.function(x)
    def __reduce__(self): return self.__qualname__
"""

SCRIPT = """
import dataclasses, sys
from dataclasses import MISSING, fields
import safemp, library
from library import BAD, EMPTY, HANDLE, LATER, MARK, REGISTERED, UNSET, Cached, OfC, Slots, Typed

ALSO = [HANDLE, {"it": HANDLE}]

@dataclasses.dataclass
class Config:
    name: str
    port: int = 80

@Cached
def square(x): return x * x

@Slots
def cube(x): return x * square(x)

@OfC
def half(x): return x / 2

def required(): return [field.name for field in fields(Config) if field.default is MISSING]
def marks():
    return UNSET is library.UNSET, EMPTY is library.EMPTY, MARK is library.MARK, REGISTERED is library.REGISTERED
def default(one=UNSET, *, two=MARK): return one is library.UNSET and two is library.MARK
def state(): return vars(LATER)
def handle(): return HANDLE is library.HANDLE and ALSO[0] is HANDLE and ALSO[1]["it"] is HANDLE
def by_default(it=HANDLE): return it is library.HANDLE
def through(): return square(4) + cube(3), cube.calls, cube.kept
def raises():
    error = ValueError("x")
    error.handle, error.several = library.HANDLE, [library.HANDLE, 1]
    raise error
def halved(): return half(3)
def typed(*given): return [type(one).__name__ for one in given] or Typed.__name__
def bad(): return BAD
def bad_default(it=BAD): return it

class Bads:
    it = [BAD]
    def method(self): return self.it

def bad_class(): return Bads.it
def given(it): return it

class Holder:
    it = HANDLE
    def ask(self): return self.it is library.HANDLE
"""

RIGHT = {
    "marks": "assert e.submit(marks).result() == (True,) * 4 and e.submit(default).result()",
    "marks of the standard library": "assert e.submit(required).result() == ['name']",
    "one that is none any more": "LATER.a = 1\n    assert e.submit(state).result() == {'a': 1}",
    "what does not pickle, as a global": "assert e.submit(handle).result()",
    "as a default": "assert e.submit(by_default).result() and list(e.map(by_default, [HANDLE] * 3)) == [True] * 3",
    "as a class's": "assert e.submit(Holder().ask).result()",
    "in an exception": "error = e.submit(raises).exception()\n"
    "    assert (error.handle, error.several) == (HANDLE, [HANDLE, 1]), vars(error)",
    "a decorated function": "assert e.submit(square, 3).result() == 9",
    "one that is read": "assert e.submit(through).result() == (43, [3], {3: 27})",
    "a class whose module's name is a text of another class": "assert e.submit(typed).result() == 'Typed'\n"
    "    assert e.submit(typed, Typed()).result() == ['Typed']",
    "many times": "assert [e.submit(handle).result() for _ in range(20)] == [True] * 20",
}


@pytest.mark.parametrize("what", RIGHT)
def test_it_is_itself_in_the_worker(tmp_path: Path, what: str) -> None:
    """As with the standard library, whose workers import the script."""
    (tmp_path / "library.py").write_text(LIBRARY)
    body = f"with safemp.SafeExecutor(1) as e:\n    {RIGHT[what]}\n    print('ok')\n"
    assert quiet(run_script(tmp_path, SCRIPT + body))


@pytest.mark.parametrize(
    ("call", "path"),
    {
        "bad": "fn.__globals__['BAD']",
        "bad_default": "fn.__defaults__[0]",
        "bad_class": "fn.__globals__['Bads'].it[0]",
        "given, Bads()": "type(args[0]).it[0]",
        "given, Bads().method": "type(args[0].__self__).it[0]",
        "given, lambda: BAD": "args[0].__globals__['BAD']",
    }.items(),
)
def test_what_does_not_load_is_named_by_its_path(tmp_path: Path, call: str, path: str) -> None:
    """Wherever it is in what the script defines, of which this process has its own; ``inspect`` sees it, too."""
    (tmp_path / "library.py").write_text(LIBRARY)
    body = (
        "with safemp.SafeExecutor(1) as e:\n"
        f"    error = e.submit({call}).exception()\n"
        "    print(*[culprit.path for culprit in error.culprits])\n"
        f"print(len(safemp.inspect([{call}][-1]).culprits))\n"
    )
    assert quiet(run_script(tmp_path, SCRIPT + body), out=f"{path}\n1\n")


def test_what_cannot_be_made_of_its_parts_is_refused_by_its_path(tmp_path: Path) -> None:
    """Its state in C would be lost without a word."""
    (tmp_path / "library.py").write_text(LIBRARY)
    body = (
        "with safemp.SafeExecutor(1) as e:\n"
        "    try: e.submit(halved)\n"
        "    except safemp.PreflightError as error:\n"
        "        (culprit,) = error.culprits\n"
        "        print(culprit.path, culprit.reason, culprit.fix, sep=chr(10))\n"
    )
    said = (
        "fn.__globals__['half']\nit pickles as the name of a global of the script, and has state of its own in C\n"
        "define it in a module, and import that\n"
    )
    assert quiet(run_script(tmp_path, SCRIPT + body), out=said)
