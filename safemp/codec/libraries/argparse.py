"""argparse: what a parser leaves out is told by the very text ``argparse.SUPPRESS``, which a copy would not be."""

from __future__ import annotations

import argparse
from typing import Any

from safemp.codec.libraries import says_how
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]


def _with_the_mark(obj: Any) -> Any:
    reduced = obj.__reduce_ex__(5)
    if says_how(type(obj)) or type(reduced) is str or len(reduced) < 3:
        return reduced
    state = reduced[2]
    state = tuple(map(_marked, state)) if type(state) is tuple else _marked(state)
    return *reduced[:2], state, *reduced[3:]


def _marked(state: Any) -> Any:
    if type(state) is not dict or all(value is not argparse.SUPPRESS for value in state.values()):
        return state
    mark = Made(getattr, argparse, "SUPPRESS")
    return {name: mark if value is argparse.SUPPRESS else value for name, value in state.items()}


def _is_plain(reduced: Any) -> bool:
    state = None if type(reduced) is str or len(reduced) < 3 else reduced[2]
    parts = state if type(state) is tuple else (state,)
    return not any(type(value) is Made for part in parts if type(part) is dict for value in part.values())


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "the copy leaves out what it leaves out, by the mark of the argparse there"
    rule = Repair(RECONSTRUCT, why, _with_the_mark, family=True, plain=_is_plain)
    return {argparse.Action: rule, argparse._ActionsContainer: rule}
