"""What the standard library's pickle does to an exception or a value.

Rule 1: no rule of safemp is in force here, as none is in a pool of the standard library.
"""

from __future__ import annotations

import pickle
from typing import Any

__all__ = ["DoesNotLoadError", "copy"]


class DoesNotLoadError(Exception):
    """A value pickles, and its pickle does not load."""


def copy(value: Any) -> Any:
    """Return what is loaded of the pickle of *value*.

    Raises:
        DoesNotLoadError: It does not load; the cause says why.
        BaseException: It does not pickle.
    """
    stream = pickle.dumps(value)
    try:
        return pickle.loads(stream)
    except BaseException as error:  # user code may raise anything
        raise DoesNotLoadError from error
