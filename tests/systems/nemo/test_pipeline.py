"""A LangChain pipeline with NeMo Guardrails: what the standard ways do with it, and what safemp does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.systems.nemo.programs import COMMON, MODEL, REGISTERED, told
from tests.systems.nemo.rails import ANSWERS, OLD, VERSION

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not VERSION, reason="wants the nemoguardrails package"),
    pytest.mark.timeout(300),
]

STOCK = """
import multiprocessing

if __name__ == "__main__":
    chain, errors = pipeline(os.environ["URL"]), []
    with multiprocessing.Pool(2) as pool:
        try:
            pool.map(chain.invoke, [{"question": prompt} for prompt in PROMPTS])
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    try:
        mlflow.pyfunc.save_model("saved", python_model=Model(chain), pip_requirements=[])
    except Exception as error:
        errors += [f"{type(error).__name__}: {error}", f"{type(error.__cause__).__name__}: {error.__cause__}"]
    tell(errors=errors, answers=ask(chain))
"""

LOCK = "TypeError: cannot pickle '_thread.RLock' object"


def test_what_the_standard_ways_do(tmp_path: Path, url: str) -> None:
    """Neither a pool nor MLflow can take the pipeline, which works."""
    stock = told(tmp_path, url, COMMON + MODEL + STOCK)

    assert stock["answers"] == ANSWERS
    pool, save, cause = stock["errors"]
    assert pool == cause == LOCK
    assert save.startswith("MlflowException: Failed to serialize Python model.")


OURS = """
def ask_one(chain, prompt):
    return chain.invoke({"question": prompt})

if __name__ == "__main__":
    chain = pipeline(os.environ["URL"])
    before = safemp.starmap(ask_one, [(chain, prompt) for prompt in PROMPTS])
    serial = ask(chain)
    after = safemp.map(chain.invoke, [{"question": prompt} for prompt in PROMPTS])
    tell(before=before, serial=serial, after=after, loaded=ask(safemp.loads(safemp.dumps(chain))))
"""


def test_four_prompts_in_workers(tmp_path: Path, url: str) -> None:
    """Before the chain's first use and after, and from ``dumps``: every answer is the serial one."""
    ours = told(tmp_path, url, COMMON + REGISTERED + OURS)

    assert ours == dict.fromkeys(("before", "serial", "after", "loaded"), ANSWERS)


SAVE = """
if __name__ == "__main__":
    chain = pipeline(os.environ["URL"])
    with safemp.repairing():
        mlflow.pyfunc.save_model("new", python_model=Model(chain), pip_requirements=[])
    answers = ask(chain)
    with safemp.repairing():
        mlflow.pyfunc.save_model("used", python_model=Model(chain), pip_requirements=[])
    tell(answers=answers)
"""

PREDICT = """
import json, mlflow, sys
from tests.systems.nemo.rails import PROMPTS

found = {name: mlflow.pyfunc.load_model(name).predict(PROMPTS) for name in ("new", "used")}
print(json.dumps({**found, "safemp": "safemp" in sys.modules}))
"""


def test_mlflow_saves_it(tmp_path: Path, url: str) -> None:
    """Before its first use and after; another process, which loads nothing of safemp, predicts the same."""
    saved = told(tmp_path, url, COMMON + REGISTERED + MODEL + SAVE)
    loaded = told(tmp_path, url, PREDICT)

    assert saved["answers"] == ANSWERS
    assert loaded == {"new": ANSWERS, "used": ANSWERS, "safemp": False}


REPORT = """
if __name__ == "__main__":
    chain = pipeline(os.environ["URL"])

    def look():
        strict, ours = safemp.inspect(chain, repairs="none"), safemp.inspect(chain)
        return {
            "culprits": [[culprit.type_name, culprit.path] for culprit in strict.culprits],
            "repairs": [[repair.kind, repair.path] for repair in ours.repairs if repair.type_name != "module"],
            "complete": strict.complete and ours.ok,
        }

    before = look()
    ask(chain)
    chain.middle[0].llm.invoke("hello")
    tell(before=before, after=look())
"""

CLIENT = "obj.middle[0].llm.{}client._client._client."

SYNC, ASYNC = CLIENT.format(""), CLIENT.format("async_")

ACTIONS = "obj.middle[0].rails.runtime.action_dispatcher._registered_actions"

INDEXES = [
    f"{ACTIONS}['generate_bot_message'].__self__.{kind}_index" for kind in ("user_message", "bot_message", "flows")
]

CULPRITS = {
    f"{SYNC}_cookies.jar._cookies_lock": "_thread.RLock",
    f"{SYNC}_transport._pool._ssl_context": "ssl.SSLContext",
    f"{SYNC}_transport._pool._optional_thread_lock._lock": "_thread.lock" if OLD else "_thread.RLock",
    f"{ASYNC}_cookies.jar._cookies_lock": "_thread.RLock",
    f"{ASYNC}_transport._pool._ssl_context": "ssl.SSLContext",
}
"""What stands in the way of a chain that nobody has used, by its path."""

REPAIRS = {
    f"{SYNC}_cookies.jar._cookies_lock": "rebuild",
    f"{SYNC}_transport._pool": "reconstruct",
    f"{SYNC}_transport._pool._ssl_context": "reconstruct",
    f"{SYNC}_transport._pool._optional_thread_lock._lock": "rebuild",
    f"{ASYNC}_cookies.jar._cookies_lock": "rebuild",
    f"{ASYNC}_transport._pool": "reconstruct",
    f"{ASYNC}_transport._pool._ssl_context": "reconstruct",
    f"{ASYNC}_transport._pool._network_backend": "rebuild",
}
"""What is repaired, but for modules; the same before and after."""

if OLD:  # the rails themselves travel, in newer versions their config
    CULPRITS |= {
        f"{ACTIONS}['check_hallucination'].__globals__['llm_call_info_var']": "_contextvars.ContextVar",
        **{f"{index}._index": "annoy.Annoy" for index in INDEXES},
    }
    REPAIRS |= {
        f"{ACTIONS}['check_hallucination'].__globals__['llm_call_info_var']": "by name",
        f"{ACTIONS}['detect_sensitive_data'].__globals__['_get_analyzer']": "rebuild",
        **{f"{index}._index": "reconstruct" for index in INDEXES},
        **{f"{index}._current_batch_submitted": "rebuild" for index in INDEXES},
        f"{ACTIONS}['generate_bot_message'].__self__.llm_task_manager.env.cache": "reconstruct",
        f"{ACTIONS}['generate_bot_message'].__self__.env.cache": "reconstruct",
    }

CONNECTED = {"socket.socket", "select.epoll", "threading.Thread", "_contextvars.Context", "weakref.KeyedRef"}
"""What comes with connections, and with the event loop of one."""


def test_what_stands_in_the_way_has_a_path(tmp_path: Path, url: str) -> None:
    """All of it, before the first use and after, when there are connections, which are cut off at their pools."""
    seen = told(tmp_path, url, COMMON + REPORT)
    before, after = seen["before"], seen["after"]

    assert before["complete"]
    assert after["complete"]
    assert {path: name for name, path in before["culprits"]} == CULPRITS
    assert {path: kind for kind, path in before["repairs"]} == REPAIRS
    assert before["repairs"] == after["repairs"]
    more = {path: name for name, path in after["culprits"] if path not in CULPRITS}
    assert set(more.values()) >= CONNECTED
    assert all(re.search(r"_transport\._pool\._connections\[0\]", path) for path in more), more


def test_an_error_of_a_rail_arrives(tmp_path: Path, url: str) -> None:
    """With its class and text, as in the serial run."""
    source = """
if __name__ == "__main__":
    chain, errors = pipeline(os.environ["URL"]).steps[1], []
    for call in (chain.invoke, lambda asked: safemp.map(chain.invoke, [asked])):
        try:
            call({"inputs": "hello"})
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    tell(errors=errors)
"""
    here, there = told(tmp_path, url, COMMON + REGISTERED + source)["errors"]

    assert here == there
    assert re.match("(Exception|ValueError): .*input", here)
