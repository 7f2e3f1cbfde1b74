"""elasticsearch: a client travels as it is, but for one part that asks for its client before it has one."""

from __future__ import annotations

import operator
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]


def _part(part: Any) -> tuple[Any, ...]:
    """Fill its ``__dict__`` without asking it for anything."""
    made = Made(object.__new__, type(part))
    space = Made(object.__getattribute__, made, "__dict__")
    return operator.getitem, ([made, Made(Made(getattr, space, "update"), part.__dict__)], 0)


def table() -> dict[type, Repair]:
    """Return the rules."""
    rule = Repair(RECONSTRUCT, "it is its client, which travels", _part)
    return {loaded(f"elasticsearch._{way}.client.xpack", "XPackClient"): rule for way in ("sync", "async")}
