"""The error for what a task returns and cannot be sent.

By itself, since its base class comes with all of ``multiprocessing.pool``, which a worker can do without.
"""

from __future__ import annotations

from _pickle import PicklingError
from typing import TYPE_CHECKING, Any

from safemp.errors import Culprit, SafempError, message_of

if TYPE_CHECKING:  # typeshed lacks it

    class MaybeEncodingError(Exception):
        """That of ``multiprocessing.pool``."""

        def __init__(self, exc: object, value: object) -> None: ...
else:
    from multiprocessing.pool import MaybeEncodingError

__all__ = ["ResultError"]


class ResultError(SafempError, MaybeEncodingError, PicklingError, TypeError):
    """A task has finished, but what it returned cannot be pickled.

    Attributes:
        culprits: Every object that cannot travel; paths are rooted at ``result``.
        exc: The first reason (as in ``MaybeEncodingError``).
        value: The first path and type; never the value's repr.
    """

    __module__ = "safemp"
    _verb = "return"

    culprits: tuple[Culprit, ...]

    def __init__(self, culprits: tuple[Culprit, ...]) -> None:
        MaybeEncodingError.__init__(self, culprits[0].reason, f"{culprits[0].path}: {culprits[0].type_name}")
        # MaybeEncodingError stores repr()s of what it is given.
        self.exc: str = culprits[0].reason
        self.value: str = f"{culprits[0].path}: {culprits[0].type_name}"
        self.args: tuple[Any, ...] = (message_of(self._verb, culprits),)
        self.culprits = culprits

    def __reduce__(self) -> tuple[Any, ...]:
        return ResultError, (self.culprits,)

    def __str__(self) -> str:
        return str(self.args[0])
