"""h5py: a file that is open for reading is opened again; what is in it is found there by its name."""

from __future__ import annotations

import operator
import os
from functools import partial
from typing import Any

from safemp.codec.libraries import loaded
from safemp.codec.repairs import REOPEN, RefusedError, Repair

__all__ = ["table"]

_FROM_A_PATH = ("sec2", "stdio", "core")
"""Drivers for which a file is its path, and nothing else."""


def _file(file: Any) -> Any:
    if not file:
        raise RefusedError("cannot pickle a closed h5py file", "send its path")
    if file.mode != "r":
        raise RefusedError(
            "cannot pickle an h5py file that is open for writing: two would write over each other",
            'close() it, and open it for reading: h5py.File(path, "r")',
        )
    if file.driver not in _FROM_A_PATH:
        raise RefusedError(f"cannot pickle an h5py file of driver {file.driver!r}: it is more than its path")
    _, slots, size, preemption = file.id.get_access_plist().get_cache()
    cache = {"rdcc_nslots": slots, "rdcc_nbytes": size, "rdcc_w0": preemption}
    cls: type = type(file)
    return partial(cls, os.path.abspath(file.filename), "r", driver=file.driver, swmr=file.swmr_mode, **cache), ()


def _inside(node: Any) -> Any:
    if not node or node.name is None:
        raise RefusedError("cannot pickle an h5py object that has no name in an open file")
    return operator.getitem, (node.file, node.name)


def table() -> dict[type, Repair]:
    """Return the rules."""
    again = "it is opened for reading again; the file is the same on this machine"
    there = f"its file travels, and it is found there by its name; {again}"
    return {
        loaded("h5py", "File"): Repair(REOPEN, again, _file),
        loaded("h5py", "Group"): Repair(REOPEN, there, _inside),
        loaded("h5py", "Dataset"): Repair(REOPEN, there, _inside),
    }
