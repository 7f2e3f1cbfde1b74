"""How many threads BLAS and OpenMP may use in a worker.

Each of those libraries starts a thread for every core, in every worker: eight workers
on eight cores would have 64 threads that push each other off. So a worker's are
limited to the cores divided by the workers.

1. The libraries read environment variables when they are loaded. A started interpreter
   has them before it loads anything; a task may change them, and programs that it
   starts inherit them. The caller's own environment is read, never written.
2. A variable that the user has set stays as it is. So do those which their library
   reads only in its absence: who sets ``OMP_NUM_THREADS`` has decided for MKL, too.
   Only ``inner_max_num_threads=n`` goes above that, since it says so for this pool.
3. A library that is loaded already (a forked worker has all of the caller's) reads them
   no more. There threadpoolctl lowers its number, where it is installed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

__all__ = ["lower", "variables"]

_VARIABLES = {
    "OMP_NUM_THREADS": None,  # PyTorch reads it, too
    "OPENBLAS_NUM_THREADS": "OMP_NUM_THREADS",
    "MKL_NUM_THREADS": "OMP_NUM_THREADS",
    "BLIS_NUM_THREADS": "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS": None,
    "NUMEXPR_NUM_THREADS": "OMP_NUM_THREADS",
    "NUMBA_NUM_THREADS": None,
}
"""joblib's list; and for each the variable that its library reads when it is not set."""

_LIBRARIES = {
    "openmp": "OMP_NUM_THREADS",
    "openblas": "OPENBLAS_NUM_THREADS",
    "mkl": "MKL_NUM_THREADS",
    "blis": "BLIS_NUM_THREADS",
}
"""threadpoolctl's names of libraries (``user_api`` or ``internal_api``)."""

_LOADERS = ("numpy", "scipy", "torch", "sklearn", "mkl", "numexpr", "faiss")
"""Modules that bring such a library along. Looked for, never imported."""

_ours: dict[str, str] = {}
"""In a worker: what its own caller has set. Not the user's will."""


def variables(limit: int, *, insist: bool = False) -> dict[str, str]:
    """Return what to set in the environment of a worker.

    Args:
        limit: Threads for each library; 0: as many as they like.
        insist: Above what the user has set, too.
    """
    if not limit:
        return {}
    kept = {name for name in _VARIABLES if not insist and _set_by_user(name, os.environ)}
    return {name: str(limit) for name, other in _VARIABLES.items() if name not in kept and other not in kept}


def _set_by_user(name: str, environment: Mapping[str, str]) -> bool:
    value = environment.get(name)
    return value is not None and value != _ours.get(name)


def lower(environment: Mapping[str, str]) -> None:
    """In a worker, before its first task: hold loaded libraries to *environment*, too.

    Args:
        environment: What ``variables`` gave, and what else there is.
    """
    _ours.update((name, environment[name]) for name in _VARIABLES if name in environment)
    limits = {library: int(environment[name]) for library, name in _LIBRARIES.items() if name in environment}
    if not limits or not any(name in sys.modules for name in _LOADERS):
        return
    try:
        from threadpoolctl import ThreadpoolController
    except ImportError:
        return
    try:
        # Each by itself, and only downwards: the caller may have set less.
        for library in ThreadpoolController().lib_controllers:
            limit = limits.get(library.internal_api, limits.get(library.user_api))
            if limit is not None and (library.num_threads or 0) > limit:
                library.set_num_threads(limit)
    except Exception:  # a library that it does not know; the tasks run all the same
        return
