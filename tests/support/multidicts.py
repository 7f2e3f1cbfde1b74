"""Stands in for multidict and frozenlist: like theirs, its views cannot be pickled, nor can its frozen lists.

It is for where these are not installed. ``put`` lets this process take it for them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["CIMultiDict", "CIMultiDictProxy", "FrozenList", "MultiDict", "MultiDictProxy", "ResponseError"]


def _refuse(obj: object) -> Any:
    raise TypeError(f"can't pickle {type(obj).__name__} objects")


class MultiDict:
    """Several values for a key."""

    def __init__(self, items: Iterable[tuple[str, Any]] = ()) -> None:
        self._items = list(items)

    def key(self, name: str) -> str:
        return name

    def add(self, name: str, value: Any) -> None:
        self._items.append((name, value))

    def getall(self, name: str) -> list[Any]:
        return [value for key, value in self._items if self.key(key) == self.key(name)]

    def __reduce__(self) -> Any:
        return type(self), (list(self._items),)


class CIMultiDict(MultiDict):
    """One that minds no case."""

    def key(self, name: str) -> str:
        return name.lower()


class MultiDictProxy:
    """A view."""

    wants: type[MultiDict] = MultiDict
    keeps_dict = True
    """Older ones, written in Python, keep only what is in it."""

    def __init__(self, arg: MultiDict) -> None:
        if not isinstance(arg, self.wants):
            raise TypeError(f"a {self.wants.__name__} is wanted, not {type(arg).__name__}")
        self._items = arg._items
        if self.keeps_dict:
            self._md = arg

    def getall(self, name: str) -> list[Any]:
        return self._md.getall(name) if self.keeps_dict else self.copy().getall(name)

    def copy(self) -> MultiDict:
        return self.wants(self._items)

    __reduce__: Callable[[Any], Any] = _refuse


class CIMultiDictProxy(MultiDictProxy):
    """A view of one that minds no case."""

    wants = CIMultiDict


class FrozenList:
    """A list, until it is frozen."""

    def __init__(self, items: Iterable[Any] = ()) -> None:
        self._items = list(items)
        self.frozen = False

    def freeze(self) -> None:
        self.frozen = True

    def append(self, item: Any) -> None:
        if self.frozen:
            raise RuntimeError("Cannot modify frozen list.")
        self._items.append(item)

    def __getitem__(self, at: int) -> Any:
        return self._items[at]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __hash__(self) -> int:
        if not self.frozen:
            raise RuntimeError("Cannot hash unfrozen list.")
        return hash(tuple(self._items))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FrozenList) and self._items == other._items

    __reduce__: Callable[[Any], Any] = _refuse


class ResponseError(Exception):
    """As aiohttp's: with a view of what the server said."""

    def __init__(self, status: int, *, headers: CIMultiDictProxy) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers


ITEMS = [("Set-Cookie", "a"), ("set-cookie", "b"), ("Age", "1")]
HEADERS = CIMultiDictProxy(CIMultiDict(ITEMS))


def put() -> None:
    """Take this for multidict and frozenlist, in a worker that ends afterwards."""
    sys.modules["multidict"] = sys.modules["frozenlist"] = sys.modules[__name__]


def make_and_fail() -> None:
    raise ResponseError(404, headers=HEADERS)


def answer() -> Any:
    return HEADERS
