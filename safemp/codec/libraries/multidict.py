"""multidict, and so aiohttp: headers are a view of a dict that travels; frozenlist: its items, frozen if it was.

An error of aiohttp holds the headers of its request and response, so it is whole only if these are.
"""

from __future__ import annotations

from gc import get_referents
from operator import methodcaller
from typing import Any

from safemp.codec.libraries import loaded, says_how
from safemp.codec.rebuild import Made
from safemp.codec.repairs import RECONSTRUCT, Repair
from safemp.codec.statics import instance_dict

__all__ = ["table"]


def _proxy(proxy: Any) -> tuple[Any, ...]:
    """Keep it a view: of the same dict, if that travels too.

    Only the dict knows whether it minds case: a ``MultiDictProxy`` may show a ``CIMultiDict``.
    """
    parts = [*get_referents(proxy), *(instance_dict(proxy) or {}).values()]  # of one in C, and of one in Python
    below = {id(part): part for part in parts if isinstance(part, loaded("multidict", "MultiDict"))}
    return type(proxy), (*below.values(),) if len(below) == 1 else (proxy.copy(),)


def _frozen_list(items: Any) -> tuple[Any, ...]:
    """Freeze it when it is filled. It is made before, since what is in it may refer to it."""
    cls: Any = type(items)
    filled = cls, (), None, iter(list(items))
    if not items.frozen:
        return filled
    # Pickle calls this with the list and a state; a property's ``__get__(obj, cls)`` is a call of ``obj.freeze()``.
    freeze = Made(getattr, Made(property, methodcaller("freeze")), "__get__")
    return cls, (), cls, filled[3], None, freeze


def table() -> dict[type, Repair]:
    """Return the rules."""
    view = "it is a read-only view of a dict, which travels"
    rules: dict[Any, Repair] = {}
    for name in ("MultiDictProxy", "CIMultiDictProxy"):
        rules[loaded("multidict", name)] = Repair(RECONSTRUCT, view, _proxy)
    frozen = loaded("frozenlist", "FrozenList")
    if frozen is not None and says_how(frozen):  # the one in C; the other pickles
        rules[frozen] = Repair(RECONSTRUCT, "it has the same items, and is frozen if it was", _frozen_list)
    return rules
