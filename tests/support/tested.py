"""What the tests of ``safemp.testing`` send: classes as a library has them, good and bad."""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import Any


class Good(Exception):
    """Its constructor takes what it hands on."""

    def __init__(self, text: str, status: int) -> None:
        super().__init__(text, status)
        self.status = status


class KeywordOnly(Exception):
    """pickle cannot call its constructor."""

    def __init__(self, *, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Mended(KeywordOnly):
    """The same, with the recipe of the how-to."""

    def __reduce__(self) -> Any:
        return partial(Mended, status=self.status), (), self.__dict__


class Forgetful(Exception):
    """Its own way leaves an attribute and the notes out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.detail = object()

    def __reduce__(self) -> Any:
        return _forgetful, (str(self),)


def _forgetful(text: str) -> Forgetful:
    made = Forgetful(text)
    del made.detail
    return made


class Changed(Exception):
    """Comes back with another text."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __reduce__(self) -> Any:
        return Changed, (f"again: {self}",)


class Other(Exception):
    """Comes back as its base."""

    def __reduce__(self) -> Any:
        return Exception, self.args


class Holding(Exception):
    """Holds a live thing in public, in private and in its arguments, and a lock."""

    def __init__(self, thing: Any) -> None:
        super().__init__("holding", thing)
        self.thing = thing
        self._thing = thing
        self.lock = threading.Lock()
        self.number = 7


class ByRegistry:
    """Is looked up among what this process has made."""

    made: dict[int, ByRegistry] = {}  # noqa: RUF012

    def __init__(self, number: int) -> None:
        self.number = number
        ByRegistry.made[number] = self

    def __reduce__(self) -> Any:
        return _from_registry, (self.number,)


def _from_registry(number: int) -> ByRegistry:
    return ByRegistry.made[number]


class Lossy:
    """Loses an attribute, and says so when it is compared."""

    def __init__(self) -> None:
        self.kept = 1
        self.lost = 2

    def __getstate__(self) -> dict[str, Any]:
        return {"kept": self.kept}

    def __eq__(self, other: object) -> bool:
        return type(other) is Lossy and vars(other) == vars(self)

    __hash__ = None  # type: ignore[assignment]


class Grows:
    """Counts how often it was loaded."""

    def __init__(self) -> None:
        self.of = {"loads": [[0]]}

    def __setstate__(self, state: Any) -> None:
        self.of = {"loads": [[state["of"]["loads"][0][0] + 1]]}


class Quits:
    """Ends the worker that loads it."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __setstate__(self, state: Any) -> None:
        if os.getpid() != state["home"]:
            os._exit(3)
        self.__dict__.update(state)


class Hangs:
    """Never ends loading, elsewhere."""

    def __init__(self) -> None:
        self.home = os.getpid()

    def __setstate__(self, state: Any) -> None:
        if os.getpid() != state["home"]:
            threading.Event().wait(60)
