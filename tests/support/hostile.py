"""Objects whose every method may raise anything, or end in itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROPERTIES = ("__class__", "__dict__", "__module__", "__name__", "__cause__", "__traceback__", "__notes__", "args")
"""Hooks that are attributes; the others are methods."""

HOOKS = (
    *PROPERTIES,
    "__reduce__",
    "__reduce_ex__",
    "__getstate__",
    "__setstate__",
    "__getattribute__",
    "__getattr__",
    "__repr__",
    "__str__",
    "__eq__",
    "__hash__",
    "__bool__",
    "__len__",
    "__iter__",
    "__call__",
    "__del__",
    "__getnewargs_ex__",
    "__copyreg_new__",
)
"""What user code may be asked for while it is sent, called, answered or shown."""


def _recurse() -> Any:
    return _recurse()


def _raise(cls: type[BaseException], *args: object) -> Callable[[], Any]:
    def action() -> Any:
        raise cls(*args)

    return action


class Odd(BaseException):
    """Neither an ``Exception`` nor one of Python's own."""

    def __str__(self) -> str:
        raise RuntimeError("it cannot be shown, either")


ACTIONS: dict[str, Callable[[], Any]] = {
    "Exception": _raise(ValueError, "hostile"),
    "SystemExit": _raise(SystemExit, 3),
    "KeyboardInterrupt": _raise(KeyboardInterrupt),
    "GeneratorExit": _raise(GeneratorExit),
    "StopIteration": _raise(StopIteration, 1),
    "MemoryError": _raise(MemoryError),
    "RecursionError": _recurse,
    "Odd": _raise(Odd),
    "nonsense": lambda: object(),
}


def make(hook: str, action: str, base: type = object) -> Any:
    """Make an instance whose *hook* does *action*. Its class has no name to be found by."""
    act = ACTIONS[action]

    def method(self: Any, *args: Any) -> Any:
        if hook == "__getattribute__" and args == ("_armed",):
            return object.__getattribute__(self, "_armed")
        return act()

    space: dict[str, Any] = {"__module__": __name__, "x": 1}
    if hook in PROPERTIES:
        space[hook] = property(method)
    elif hook == "__copyreg_new__":
        space["__new__"] = lambda cls, *args: act() if args else base.__new__(cls)
        space["__reduce__"] = lambda self: (type(self), (1,))
    else:
        space[hook] = method
    return type("Hostile", (base,), space)()


def made(hook: str, action: str, base: str) -> Any:
    """Return a hostile object: made where it is called, so that it is hostile from there on."""
    return make(hook, action, {"object": object, "Exception": Exception, "dict": dict, "list": list}[base])


def raised(hook: str, action: str, base: str = "Exception") -> Any:
    """Raise a hostile exception."""
    raise made(hook, action, base)


def raised_from(hook: str, action: str) -> Any:
    """Raise an error that has a hostile cause, a hostile attribute and a hostile note."""
    error = ValueError("plain")
    error.hostile = made(hook, action, "object")  # type: ignore[attr-defined]
    error.__dict__["__notes__"] = [made(hook, action, "object")]
    raise error from made(hook, action, "Exception")


def nested(hook: str, action: str) -> Any:
    """Return a value with hostile objects all over it."""
    return {
        "list": [made(hook, action, "object")],
        "error": made(hook, action, "Exception"),
        "x": made(hook, action, "dict"),
    }


class Detonator:
    """Loads as the act itself: the worker meets it while it loads a call."""

    def __init__(self, action: str) -> None:
        self.action = action

    def __reduce__(self) -> Any:
        return detonate, (self.action,)


def detonate(action: str) -> Any:
    """Do *action*."""
    return ACTIONS[action]()


class SetStateDetonator:
    """Loads, then its ``__setstate__`` acts."""

    def __init__(self, action: str) -> None:
        self.action = action

    def __getstate__(self) -> Any:
        return self.action

    def __setstate__(self, state: Any) -> None:
        ACTIONS[state]()


class EqualDetonator:
    """Acts when a dict or set that holds it is loaded: it is hashed."""

    def __init__(self, action: str) -> None:
        self.action = action
        self.armed = False

    def __hash__(self) -> int:
        if self.__dict__.get("armed", True):
            ACTIONS[self.__dict__.get("action", "Exception")]()
        return 1

    def __reduce__(self) -> Any:
        return _arm, (self.action,)


def _arm(action: str) -> Any:
    made = EqualDetonator.__new__(EqualDetonator)
    made.action = action
    made.armed = True
    return made
