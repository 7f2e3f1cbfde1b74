"""How others send an exception: each way pickles one and loads it again."""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

from safemp.audit.look import STOCK
from safemp.audit.stock import DoesNotLoadError, copy

__all__ = ["ways"]


def _cloudpickle(exc: Any) -> Any:
    import cloudpickle

    return _load(cloudpickle.dumps(exc))


def _tblib(exc: Any) -> Any:
    """Install its reducers for this exception and all that it is tied to, and take them away again."""
    from tblib import pickling_support

    before = dict(copyreg.dispatch_table)
    try:
        pickling_support.install(exc)
        return _load(pickle.dumps(exc))
    finally:
        copyreg.dispatch_table.clear()
        copyreg.dispatch_table.update(before)


def _ray(exc: Any) -> Any:
    """Do what a worker of Ray does, and then ``ray.get``."""
    from ray import cloudpickle
    from ray.exceptions import RayTaskError

    return _load(cloudpickle.dumps(RayTaskError("f", "", exc))).as_instanceof_cause()


def _load(stream: bytes) -> Any:
    try:
        return pickle.loads(stream)
    except BaseException as error:  # user code may raise anything
        raise DoesNotLoadError from error


def ways() -> dict[str, Callable[[Any], Any]]:
    """Return the ways that are installed here."""
    found = {STOCK: copy, "cloudpickle": _cloudpickle, "tblib": _tblib}
    if find_spec("ray") is not None:
        found["Ray"] = _ray
    return found
