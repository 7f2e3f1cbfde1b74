"""CPython's tests of ``multiprocessing.Pool``, with ``safemp.Pool`` in its place."""

from __future__ import annotations

from tests.dropin import cpython_swap

cpython_swap.swap()

from test import _test_multiprocessing, test_multiprocessing_main_handling  # noqa: E402 - they look for Pool when imported

METHOD = cpython_swap.method()

_test_multiprocessing.install_tests_in_module_dict(
    globals(), "spawn" if METHOD == "loky" else METHOD  # the default for what is no pool: locks, managers
)


class MainHandlingTest(test_multiprocessing_main_handling.SpawnCmdLineTest):
    """Scripts, packages, zip files and ``-m`` whose main defines what the workers call."""

    start_method = METHOD


test_multiprocessing_main_handling.AVAILABLE_START_METHODS.add("loky")
for name in ("test_source", "test_source_main_skipped_in_children"):
    source = getattr(test_multiprocessing_main_handling, name)
    changed = source.replace(
        "from multiprocessing import Pool, set_start_method\n",
        "import functools, safemp\n"
        f"Pool = functools.partial(safemp.Pool, context={METHOD!r})\n"
        "def set_start_method(method): pass\n",
    )
    assert changed != source, name
    setattr(test_multiprocessing_main_handling, name, changed)
# Its functions have the source as a default argument.
for function in vars(test_multiprocessing_main_handling).values():
    defaults = getattr(function, "__defaults__", None)
    if defaults and any("set_start_method" in str(value) for value in defaults):
        function.__defaults__ = tuple(
            test_multiprocessing_main_handling.test_source if "set_start_method" in str(value) else value
            for value in defaults
        )
