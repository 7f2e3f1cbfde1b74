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
    if says_how(type(obj)) or type(reduced) is str or type(reduced[2]) is not dict:
        return reduced
    mark = Made(getattr, argparse, "SUPPRESS")
    state = {name: mark if value is argparse.SUPPRESS else value for name, value in reduced[2].items()}
    return *reduced[:2], state, *reduced[3:]


def _is_plain(reduced: Any) -> bool:
    state = None if type(reduced) is str else reduced[2]
    return type(state) is not dict or not any(type(value) is Made for value in state.values())


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "the copy leaves out what it leaves out, by the mark of the argparse there"
    rule = Repair(RECONSTRUCT, why, _with_the_mark, family=True, plain=_is_plain)
    return {argparse.Action: rule, argparse._ActionsContainer: rule}
