"""The batch through ``multiprocessing.Pool``: what happens today.

Run as ``python -m safemp.demo.today URL DEADLINE openai|builtin`` in a session of its
own, for the pool may never answer. It prints one line of JSON and leaves no process.
It ends when its standard input does: with whoever started it.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.pool
import os
import signal
import sys
import threading
from typing import Any

from safemp.demo.batch import gather
from safemp.demo.client import ChatClient, ask
from safemp.demo.prompts import BATCH

__all__ = ["main"]

WORKERS = 2

_client: ChatClient


def _make_client(url: str, openai: bool) -> None:
    """Give a worker a client of its own, since one cannot be sent to it."""
    global _client
    _client = ChatClient(url, openai=openai)


def _ask_own(text: str) -> str:
    return ask(_client, text)


def main(url: str, deadline: float, openai: bool) -> dict[str, Any]:
    """Run the batch.

    Args:
        url: The API's base URL.
        deadline: Seconds for the batch.
        openai: Whether the client asks through the ``openai`` package.

    Returns:
        ``argument``: what sending the client as an argument gave; ``outcomes``: one
        text per prompt, ``None`` for no answer.
    """
    pool = multiprocessing.Pool(WORKERS, _make_client, (url, openai))
    try:
        try:
            argument = str(pool.apply(ask, (ChatClient(url, openai=openai), BATCH[0].text)))
        except Exception as error:  # the demo shows what came, whatever it is
            argument = f"{type(error).__name__}: {error}"
        outcomes = gather(lambda text: pool.apply_async(_ask_own, (text,)), deadline=deadline)
    finally:
        _end(pool)
    texts = [f"{type(one).__name__}: {one}" if isinstance(one, BaseException) else one for one in outcomes]
    return {"argument": argument, "outcomes": texts}


def _end(pool: multiprocessing.pool.Pool) -> None:
    """End *pool* and its workers, even when its own threads are dead."""
    ending = threading.Thread(target=pool.terminate, daemon=True)
    ending.start()
    ending.join(5)
    for worker in multiprocessing.active_children():
        worker.kill()
        worker.join()


def _end_with_caller() -> None:
    # Not ``sys.stdin.read``: it holds a lock that a forked worker, which closes its
    # ``sys.stdin`` first, would wait for.
    while os.read(0, 1024):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    if os.getpgrp() == os.getpid():  # else the group is not ours to kill
        threading.Thread(target=_end_with_caller, daemon=True).start()
    found: dict[str, Any] = main(sys.argv[1], float(sys.argv[2]), sys.argv[3] == "openai")
    print(json.dumps(found), flush=True)
    os._exit(0)  # a thread of the pool that still waits must not keep us
