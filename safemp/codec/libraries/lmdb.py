"""lmdb: an environment is opened again; it was made to be open in several processes at once."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.rebuild import Made
from safemp.codec.repairs import REOPEN, RefusedError, Repair

__all__ = ["table"]

_MAX_DBS = 128
"""Named databases for which there is room: an environment does not say for how many it was
opened. Picked: lmdb calls a moderate number cheap."""


def _environment(environment: Any) -> Any:
    try:
        path, flags, size = environment.path(), environment.flags(), environment.info()
    except sys.modules["lmdb"].Error:
        raise RefusedError("cannot pickle a closed lmdb environment", "send its path") from None
    if not flags["lock"] and not flags["readonly"]:
        raise RefusedError(
            "cannot pickle an lmdb environment that is open for writing without locks",
            "open it with readonly=True, or without lock=False",
        )
    limits = {"map_size": size["map_size"], "max_readers": size["max_readers"], "max_dbs": _MAX_DBS}
    opened: Any = Made(getattr, sys.modules["lmdb"], "open")  # the class says that it is of builtins
    return partial(opened, os.path.abspath(path), create=False, **flags, **limits), ()


def table() -> dict[type, Repair]:
    """Return the rules."""
    again = "the same environment is opened again; lmdb's own locks are between the processes"
    return {loaded("lmdb", "Environment"): Repair(REOPEN, again, _environment)}
