"""Whether another process that imports a module by its name gets the same module.

It looks where imports look, on ``sys.path`` and in the packages' own paths, which workers
have from their caller; nothing is imported.
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder

__all__ = ["whereabouts"]


def whereabouts(name: str) -> str | None:
    """Tell where another process finds module *name*, which this one has loaded.

    Returns:
        An empty text: where it is here. A file: it is another one. ``None``: nowhere.
    """
    module = sys.modules.get(name)
    spec = getattr(module, "__spec__", None)
    top = name.partition(".")[0]
    if module is None or top in sys.stdlib_module_names or getattr(spec, "name", name) != name:
        return ""  # os.path is posixpath: such a name is the module's own affair
    found = _find(name)
    if found is None:
        # Finders of others (of editable installs, of zip files, of pytest) find it here; so
        # will they there, if what installs them runs at start-up. Ask them, too.
        return "" if _found_by_others(name) else None
    here = getattr(spec, "origin", None) or getattr(module, "__file__", None)
    there = found.origin
    if isinstance(here, str) and isinstance(there, str) and os.path.exists(here):
        return "" if os.path.realpath(here) == os.path.realpath(there) else there
    return ""


def _find(name: str) -> ModuleSpec | None:
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        path = getattr(sys.modules.get(parent), "__path__", None)
        if path is None:
            return None
        path = list(path)
    for finder in (BuiltinImporter, FrozenImporter, PathFinder):
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def _found_by_others(name: str) -> bool:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is None or finder in (BuiltinImporter, FrozenImporter, PathFinder):
            continue
        try:
            if find(name, getattr(sys.modules.get(name.rpartition(".")[0]), "__path__", None)) is not None:
                return True
        except Exception:  # somebody else's finder
            continue
    return False
