"""Tests of the local engine that hold over a cluster, too: the four bad jobs, exceptions, openai's errors, the demo.

A module that imports these names brings fixtures ``engine``, ``executor`` and ``pool`` of its own.
"""

# ruff: noqa: F401 - they are there to be imported

from __future__ import annotations

import re
from importlib.util import find_spec

from tests.contract.test_exceptions_arrive import (
    test_a_users_own_reduce_is_honoured,
    test_an_exception_as_argument_and_as_value_is_the_same,
    test_what_a_call_raises_arrives_attribute_by_attribute,
    test_what_an_apply_raises_arrives_attribute_by_attribute,
    test_what_cannot_travel_in_an_exception_is_replaced_by_what_says_so,
    test_what_is_printed_names_the_workers_lines_with_right_carets,
)
from tests.contract.test_four_bad_jobs import (
    _no_socket_left,
    ask,
    test_a_result_that_cannot_travel_is_named,
    test_a_result_that_raises_while_it_is_loaded_fails_that_call_alone,
    test_a_result_that_raises_while_it_is_pickled_is_named,
    test_an_argument_that_cannot_travel_is_named_at_the_call,
    test_an_argument_that_raises_while_it_is_loaded_fails_that_call_alone,
    test_an_exception_that_holds_a_lock_keeps_class_and_text,
    test_an_exception_with_two_arguments_arrives_as_itself,
    test_bad_items_of_a_map_do_not_cost_the_good_ones,
    test_good_jobs_are_all_answered_with_bad_ones_among_them,
)
from tests.support.child import ROOT, run_python

if find_spec("openai") is not None:
    from tests.contract.test_openai import (
        test_a_connection_error_arrives_whole,
        test_a_rate_limit_is_caught_as_such_from_a_pool,
        test_a_status_error_arrives_whole,
        test_an_error_callback_gets_the_error,
    )

__all__ = [
    "_no_socket_left",
    "ask",
    *(name for name in dir() if name.startswith("test_")),
    "test_the_demo_says_what_it_says_of_processes_of_this_machine",
]


def test_the_demo_says_what_it_says_of_processes_of_this_machine(engine: str) -> None:
    """The same table, but for how the worker died, which only the local engine knows; the promises were kept."""
    tables = []
    for where in ("local", engine):
        ended = run_python("-m", "safemp", "demo", "--deadline", "2", "--engine", where, cwd=ROOT, timeout=100)
        assert ended.returncode == 0, str(ended)
        assert not ended.left
        table = re.search(r"^  -+\n(.*?came back[^\n]*)\n", ended.out, re.MULTILINE | re.DOTALL)
        assert table, str(ended)
        # Without the column of multiprocessing.Pool, which answers as far as it comes in its time.
        tables.append([(row[:46], row[70:].replace(" (SIGKILL)", "")) for row in table[1].splitlines()])

    assert tables[0] == tables[1]
    assert tables[0][-1][1] == "16 of 16"
