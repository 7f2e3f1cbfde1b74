"""What garak 0.9.0.13 does by itself, and its classes in a pool of safemp."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chat_server import ChatServer
from tests.support.child import run_python, started, until
from tests.systems.garak.scan import CASES, VERSION, command, environment, scan

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION, reason="wants the garak package"),
    pytest.mark.timeout(300),
]

DIES = "TypeError: APIStatusError.__init__() missing 2 required keyword-only arguments: 'response' and 'body'"


def test_a_probe_before_makes_the_next_one_fail(tmp_path: Path) -> None:
    """The client that the first probe has used is in what the second one sends."""
    probes, statuses, _ = CASES["answers"]
    stock = scan(tmp_path / "stock", statuses, *command(probes, 3))

    assert stock.ended.returncode == 1
    assert stock.last == "TypeError: cannot pickle '_thread.RLock' object"


@pytest.mark.parametrize("name", ["unauthorized", "not found", "unprocessable"])
def test_a_refusal_makes_it_wait_for_ever(tmp_path: Path, name: str) -> None:
    """The exception kills the thread that reads results; nobody tells the one that waits for them."""
    probes, statuses, _ = CASES[name]
    with (
        ChatServer(*statuses) as server,
        started(*command(probes, 3), cwd=tmp_path, env=environment(tmp_path, server)) as (child, written),
    ):
        assert until(lambda: DIES in written()[1], timeout=60), written()
        assert not until(lambda: child.poll() is not None, timeout=3)


GENERATOR = """
import sys
from garak import _config
_config.load_base_config()
from garak.generators.openai import OpenAIGenerator
import multiprocessing
import safemp

class Refused(Exception):
    pass

def ask(generator, prompt):
    answers = generator.generate(prompt, 1)
    if not prompt:
        raise Refused("no prompt", generator)
    return answers

if __name__ == "__main__":
    generator = OpenAIGenerator("gpt-4")
    if "used" in sys.argv:
        print(ask(generator, "first"))
    with (safemp if "ours" in sys.argv else multiprocessing).Pool(2) as pool:
        try:
            pool.apply(ask, (generator, ""))
        except Exception as error:
            print(type(error).__name__, error.args[0])
            if isinstance(error, Refused):
                print(error.args[1].generate("second", 1))
        print(pool.starmap(ask, [(generator, "third"), (generator, "fourth")]))
    if "used" in sys.argv:
        report = safemp.inspect(generator)
        print(report.ok, *sorted(f"{repair.kind} {repair.path}" for repair in report.repairs), sep="\\n")
"""


def run_generator(folder: Path, *args: str) -> list[str]:
    """Run the program and return what it prints, without what garak says as it loads."""
    (folder / "script.py").write_text(GENERATOR)
    with ChatServer(200) as server:
        ended = run_python("script.py", *args, cwd=folder, env=environment(folder, server))
    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    return [line for line in ended.out.splitlines() if "loading" not in line]


def test_an_exception_that_holds_the_generator_arrives(tmp_path: Path) -> None:
    """Its client's lock makes the standard library's pool lose it; here it comes with a generator that works."""
    stock, ours = run_generator(tmp_path), run_generator(tmp_path, "ours")

    assert stock[0].startswith("MaybeEncodingError ")
    assert ours[:2] == ["Refused no prompt", "['You said: second']"]
    assert ours[2] == stock[1] == "[['You said: third'], ['You said: fourth']]"


def test_a_generator_that_was_used_travels(tmp_path: Path) -> None:
    """What the report says is repaired in it: the lock, the pool of connections with its own lock, the TLS context."""
    ours = run_generator(tmp_path, "ours", "used")

    assert ours == [
        "['You said: first']",
        "Refused no prompt",
        "['You said: second']",
        "[['You said: third'], ['You said: fourth']]",
        "True",
        "rebuild obj.client._client._cookies.jar._cookies_lock",
        "rebuild obj.client._client._transport._pool._optional_thread_lock._lock",
        "reconstruct obj.client._client._transport._pool",
        "reconstruct obj.client._client._transport._pool._ssl_context",
    ]


PROBE = """
from garak import _config
_config.load_base_config()
from garak.generators.openai import OpenAIGenerator
from garak.probes.test import Test
import multiprocessing
import safemp

def answer(pool, probe):
    attempts = [probe._mint_attempt(prompt) for prompt in probe.prompts]
    return [attempt.outputs for attempt in pool.map(probe._execute_attempt, attempts)]

if __name__ == "__main__":
    probe = Test()
    probe.generator = OpenAIGenerator("gpt-4")
    serial = [probe._execute_attempt(probe._mint_attempt(prompt)).outputs for prompt in probe.prompts]
    for make in (multiprocessing.Pool, lambda n: safemp.Pool(n, repairs="none"), safemp.Pool):
        with make(2) as pool:
            try:
                print(answer(pool, probe) == serial)
            except safemp.PreflightError as error:
                print(*sorted(culprit.path for culprit in error.culprits if culprit.type_name == "_thread.RLock"))
            except TypeError as error:
                print(error)
"""


def test_a_probe_travels_with_its_generator(tmp_path: Path) -> None:
    """What the standard library only calls a lock has a path: from the method that a scan hands to its pool."""
    (tmp_path / "script.py").write_text(PROBE)
    with ChatServer(200) as server:
        ended = run_python("script.py", cwd=tmp_path, env=environment(tmp_path, server))

    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    assert [line for line in ended.out.splitlines() if "loading" not in line] == [
        "cannot pickle '_thread.RLock' object",
        "fn.__self__.generator.client._client._cookies.jar._cookies_lock",
        "True",
    ]
