"""The how-to page on Ray clusters: its program prints what the page says."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.child import ROOT, Ended, run_python
from tests.support.how_to import PROGRAM, is_all_run

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(find_spec("ray") is None, reason="wants the ray package"),
    pytest.mark.timeout(180),
]

PAGE = ROOT / "docs" / "how-to" / "systems" / "ray-cluster.md"


def with_a_ray_of_its_own(source: str) -> Ended:
    """Run a script that starts Ray, in a folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # a short path: there are sockets in it
        script = Path(folder, "script.py")
        script.write_text(source, encoding="utf-8")
        variables = {"RAY_TMPDIR": folder, "RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
        return run_python(str(script), cwd=script.parent, env={**variables, "PYTHONPATH": str(ROOT)}, timeout=100)


def test_the_program_prints_what_the_page_says() -> None:
    """As a script; no process of Ray is left."""
    assert is_all_run(PAGE)
    ((source, out),) = PROGRAM.findall(PAGE.read_text(encoding="utf-8"))
    ended = with_a_ray_of_its_own(source)

    said = [line for line in ended.out.splitlines(keepends=True) if "(raylet)" not in line]  # it speaks of the death
    assert (ended.returncode, "".join(said), ended.left) == (0, out, ()), str(ended)


SHUT_DOWN = """
import time

import ray
import safemp

if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
    with safemp.SafeExecutor(engine="ray") as executor:
        print(executor.submit(pow, 2, 2).result())
        futures = [executor.submit(time.sleep, 600) for _ in range(3)]
        time.sleep(1)
        ray.shutdown()
        print([type(future.exception(60)).__name__ for future in futures])
    print(ray.is_initialized())
"""


def test_a_ray_that_is_shut_down_leaves_nobody_waiting() -> None:
    """Calls under way, and those behind them, fail; no other Ray is started for them."""
    ended = with_a_ray_of_its_own(SHUT_DOWN)

    assert ended.out == "4\n['EngineError', 'EngineError', 'EngineError']\nFalse\n", str(ended)


SAYS = """
import logging
import time
import safemp


def work(n):
    print("printed", n, flush=True)
    logging.getLogger("work").warning("logged %d", n)
    return n


if __name__ == "__main__":
    import ray

    ray.init(num_cpus=1, include_dashboard=False, object_store_memory=100_000_000)
    with safemp.SafeExecutor(engine="ray") as executor:
        print(list(executor.map(work, range(3))))
        time.sleep(5)  # Ray brings it when it comes to it
    ray.shutdown()
"""


def test_what_a_call_says_is_handed_to_the_driver_once() -> None:
    """By Ray, and not by safemp, too."""
    ended = with_a_ray_of_its_own(SAYS)

    assert ended.returncode == 0, str(ended)
    said = ended.out + ended.err
    assert "[0, 1, 2]" in said
    for n in range(3):
        assert said.count(f"printed {n}") == 1, str(ended)
        assert said.count(f"logged {n}") == 1, str(ended)
