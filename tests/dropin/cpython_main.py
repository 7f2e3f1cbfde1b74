"""CPython's tests of what a script's ``__main__`` is in the workers, with ``safemp.Pool``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.dropin import cpython_swap

cpython_swap.swap()

from test import test_multiprocessing_main_handling as theirs  # noqa: E402 - after the swap

METHOD = cpython_swap.method()

IMPORT = "from multiprocessing import Pool, set_start_method\n"
OURS = (
    "import functools, safemp\n"
    f"Pool = functools.partial(safemp.Pool, context={METHOD!r})\n"
    "def set_start_method(method): pass\n"
)


def with_our_pool(make: Callable[..., Any]) -> Callable[..., Any]:
    """Have the scripts that *make* writes take their ``Pool`` from safemp."""

    def make_ours(*args: Any, **kwargs: Any) -> Any:
        return make(*(arg.replace(IMPORT, OURS) if isinstance(arg, str) else arg for arg in args), **kwargs)

    return make_ours


for name in ("make_pkg", "make_script", "make_zip_pkg", "make_zip_script"):
    setattr(theirs, name, with_our_pool(getattr(theirs, name)))
theirs.AVAILABLE_START_METHODS.update({"template", "loky"})


class MainHandlingTest(theirs.SpawnCmdLineTest):
    """Scripts, packages, zip files and ``-m`` whose main defines what the workers call."""

    start_method = METHOD
    if METHOD in ("template", "loky"):  # workers get main's functions without running main, so there is nothing to skip
        main_in_children_source = theirs.test_source
