"""Hamilton: a driver is sent with the modules that its graph was made of.

From 1.74 on a driver pickles their names. A module that was made in memory has no name to
import it by, nor has ``__main__``: pickling ends in "__spec__ is None".
"""

from __future__ import annotations

import copyreg
from typing import Any

from safemp.codec.homes import goes_by_value
from safemp.codec.libraries import loaded
from safemp.codec.rebuild import set_attributes
from safemp.codec.repairs import RECONSTRUCT, Repair

__all__ = ["table"]

_newobj: Any = copyreg.__newobj__  # type: ignore[attr-defined]


def _driver(driver: Any) -> Any:
    names_them = vars(loaded("hamilton.driver", "Driver")).get("__getstate__")
    own = getattr(type(driver), "__getstate__", None) is not names_them
    if own or not any(goes_by_value(module.__name__) for module in driver.graph_modules):
        return driver.__reduce_ex__(5)
    return _newobj, (type(driver),), driver.__dict__, None, None, set_attributes


def _is_plain(reduced: Any) -> bool:
    return reduced[-1] is not set_attributes


def table() -> dict[type, Repair]:
    """Return the rules."""
    why = "it has the same graph, made of the same modules; those that cannot be imported go by value"
    driver = Repair(RECONSTRUCT, why, _driver, needs_safemp=True, family=True, plain=_is_plain)
    return {loaded("hamilton.driver", "Driver"): driver}
