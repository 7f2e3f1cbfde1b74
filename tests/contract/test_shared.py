"""What many calls have in common goes to each worker once, and is forgotten when it gets too much."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import psutil
import pytest

import safemp
from safemp.codec import calls
from safemp.codec.frames import Buffer
from safemp.errors import FrameError
from tests.support.child import quiet, run_script

MANY = """
import safemp

factor = 1
{functions}

if __name__ == "__main__":
    functions = [globals()[f"f{{i}}"] for i in range(150)]
    with safemp.SafeExecutor(2) as executor:
        for factor in (1, 10, 1):  # what they refer to changes, and is what it was
            futures = [executor.submit(f, 1) for _ in range(4) for f in functions]
            assert [future.result() for future in futures] == [i + factor for _ in range(4) for i in range(150)]
            assert executor.submit(lambda: f3(1)).result() == 3 + factor
    print("ok")
"""


def test_more_functions_of_a_script_than_a_worker_keeps(tmp_path: Path) -> None:
    """Each call finds its own function, and the globals of the time of the call."""
    functions = "\n".join(f"def f{i}(x): return {i} + x * factor" for i in range(150))

    assert quiet(run_script(tmp_path, MANY.format(functions=functions)))


def _resident(executor: safemp.SafeExecutor) -> int:
    (pid,) = executor._processes
    return psutil.Process(pid).memory_info().rss


@pytest.mark.parametrize("size", [1, 8_000_000], ids=["small", "large"])
def test_a_worker_does_not_keep_the_functions_of_all_maps(size: int) -> None:
    """Fifty closures over eight megabytes do not become four hundred; as many small ones work as well."""
    with safemp.SafeExecutor(1) as executor:
        for i in range(50):
            data = bytes(size)
            assert list(executor.map(lambda x, data=data, i=i: (x + i, len(data)), range(2))) == [
                (i, size),
                (i + 1, size),
            ]
            if i == 9:
                before = _resident(executor)
        assert _resident(executor) - before < 100_000_000


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module that exists in this process only."""
    made = ModuleType("made_for_this_test")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec("def one(x): return x, 1\ndef two(x): return x, 2", made.__dict__)
    return made


def test_what_goes_apart_is_wanted_back(module: ModuleType) -> None:
    """The call refers to it, and says so when it is not there, another one, or damaged."""
    found = {}
    for function in (module.one, module.two):
        whole = calls.encode_call(function, (7,), {}, apart=[])
        apart: list[Buffer] = []
        frames = calls.encode_call(function, (7,), {}, apart=apart)
        (table,) = apart
        assert len(frames[1]) < 200 < len(table) <= len(whole[1]) - len(frames[1]) + 5
        call = calls.decode_call(frames, bytearray(table))
        assert call.fn(*call.args) == function(7)
        found[function] = frames, table

    frames, table = found[module.one]
    for wrong in (None, b"", table[:-1], table[:5], table[:-1] + b"?", found[module.two][1]):
        with pytest.raises(FrameError):
            calls.decode_call(frames, wrong)
    with pytest.raises(FrameError):
        calls.decode_call(found[module.two][0], table)


def test_the_first_time_all_is_in_the_call(module: ModuleType) -> None:
    """What may never be the same again would be sent apart for nothing."""
    module.counter = 0
    exec("def count(x): return x + counter", module.__dict__)
    for module.counter in range(5):
        apart: list[Buffer] = []
        call = calls.decode_call(calls.encode_call(module.count, (7,), {}, apart=apart))
        assert not apart
        assert call.fn(*call.args) == 7 + module.counter
