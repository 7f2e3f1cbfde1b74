"""loky's contexts and processes, imported without a trace in the table of ``multiprocessing.get_context``.

``loky.backend.context`` enters its contexts there when it is imported. joblib brings a copy
of loky that does the same, and both ask that table for their own. Whoever came last would
start the processes of the other, with a resource tracker that the other does not talk to:
"KeyError" of joblib's on stderr, and its files left behind. So whoever was there before us
stays there, and we take our contexts from here.
"""

from __future__ import annotations

from multiprocessing import context as _stdlib
from typing import TYPE_CHECKING, Any

_before = dict(_stdlib._concrete_contexts)  # type: ignore[attr-defined]  # the table

if TYPE_CHECKING:  # loky has no types; its classes are made like these
    from multiprocessing.context import SpawnContext as LokyContext
    from multiprocessing.context import SpawnProcess as LokyProcess

    LokyInitMainContext = LokyContext
else:
    from loky.backend.context import LokyContext, LokyInitMainContext
    from loky.backend.process import LokyProcess

_stdlib._concrete_contexts.update(_before)  # type: ignore[attr-defined]

__all__ = ["LokyContext", "LokyProcess", "context"]

_CONTEXTS = {"loky": LokyContext(), "loky_init_main": LokyInitMainContext()}


def context(method: str) -> Any:
    """Return loky's context for a start method of its own.

    Raises:
        ValueError: It has no such method.
    """
    if method not in _CONTEXTS:
        raise ValueError(f"cannot find context for {method!r}: there are {', '.join(map(repr, _CONTEXTS))}")
    return _CONTEXTS[method]
