"""The programs that the tests run, each in a process of its own, and what is in them all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.child import Ended, run_python

COMMON = """
import json, os, sys
from nemoguardrails import LLMRails
import safemp
from tests.systems.nemo.pipeline import ask, pipeline, rails_with_actions
from tests.systems.nemo.rails import OLD, PROMPTS

def tell(**found):
    print(json.dumps(found))
"""

REGISTERED = """
if not OLD:  # where a LLMRails pickles its config, and nothing else
    safemp.register(LLMRails, lambda rails: (rails_with_actions, (rails.config, rails.llm)))
"""

MODEL = """
import mlflow

class Model(mlflow.pyfunc.PythonModel):
    def __init__(self, chain):
        self.chain = chain

    def predict(self, context, model_input: list[str]) -> list[str]:
        return [self.chain.invoke({"question": question}) for question in model_input]
"""


def run(folder: Path, url: str, source: str, *args: str, name: str = "script.py") -> Ended:
    """Write *source* into *folder* and run it; its model is at *url*."""
    (folder / name).write_text(source)
    homes = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")
    quiet = ("DO_NOT_TRACK", "HF_HUB_OFFLINE", "MLFLOW_DISABLE_TELEMETRY")
    env = {**dict.fromkeys(homes, str(folder)), **dict.fromkeys(quiet, "true"), "OPENAI_API_KEY": "sk-none"}
    env |= {"URL": url, "OPENAI_API_BASE": url}
    return run_python(name, *args, cwd=folder, env=env, timeout=100)


def told(folder: Path, url: str, source: str, *args: str) -> dict[str, Any]:
    """Run *source* and return what it tells."""
    ended = run(folder, url, source, *args)
    assert (ended.returncode, ended.left) == (0, ()), str(ended)
    return dict(json.loads([line for line in ended.out.splitlines() if line.startswith("{")][-1]))
