"""tqdm: a bar travels with its count; in the other process it is drawn on that one's stream.

It does not draw anything when it arrives, and has no place among the bars here.
"""

from __future__ import annotations

import copyreg
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, RefusedError, Repair

__all__ = ["table"]

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]


def _bar(bar: Any) -> Any:
    if "container" in bar.__dict__ or getattr(bar, "gui", False):
        raise RefusedError("cannot pickle a tqdm bar of a notebook or a window", "make the bar in the caller")
    state = dict(bar.__dict__)
    if "fp" in state:
        stream = state["fp"]
        while loaded("tqdm.utils", "ObjectWrapper") in type(stream).__mro__:
            stream = object.__getattribute__(stream, "_wrapped")
        state["fp"] = stream
        if "sp" in state:
            state["sp"] = Made(type(bar).status_printer, stream)
    return _newobj, (type(bar),), state


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "it counts on from where it is, on the other process's own stream"
    return {loaded("tqdm.std", "tqdm"): Repair(RECONSTRUCT, why, _bar, family=True)}
