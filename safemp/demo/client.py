"""A chat client of the common kind: it counts what it asks, and guards that with a lock.

With the ``openai`` package installed it asks through that, else through ``urllib``.
Either way its errors have constructors that pickle cannot call.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import json
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from typing import Any

from safemp.demo import errors
from safemp.demo.prompts import CRASH

__all__ = ["ChatClient", "ask", "error_class", "has_openai"]


def has_openai() -> bool:
    """Say whether the ``openai`` package can be imported."""
    return importlib.util.find_spec("openai") is not None


def error_class(status: int, *, openai: bool) -> type[Exception]:
    """Return the class of the error that the client raises for *status*."""
    builtin = errors.BY_STATUS[status]
    if not openai:
        return builtin
    found: type[Exception] = getattr(importlib.import_module("openai"), builtin.__name__)
    return found


class ChatClient:
    """Asks a chat API one prompt at a time.

    Attributes:
        url: The API's base URL.
        openai: Whether to ask through the ``openai`` package.
        asked: Prompts asked through this very object.
        session: Empty until ``connect()``; then it holds an open socket.
    """

    def __init__(self, url: str, *, openai: bool) -> None:
        self.url = url
        self.openai = openai
        self.asked: int = 0
        self.session: dict[str, socket.socket] = {}
        self._lock = threading.RLock()

    def connect(self, address: tuple[str, int]) -> None:
        """Open a connection, and keep it. The caller closes ``session["connection"]``."""
        self.session["connection"] = socket.create_connection(address)

    def ask(self, text: str) -> str:
        """Return the API's answer to *text*.

        Raises:
            APIStatusError: The server refused; the subclass says how.
        """
        with self._lock:
            self.asked += 1
        return _ask_openai(self.url, text) if self.openai else _ask_builtin(self.url, text)


def ask(client: ChatClient, text: str) -> str:
    """Ask *client*; the task of the demo. One prompt of the batch kills the worker."""
    if text == CRASH:
        os.kill(os.getpid(), signal.SIGKILL)
    return client.ask(text)


@functools.cache
def _openai(url: str) -> Any:
    """Return this process's own ``openai.OpenAI`` for *url*."""
    openai = importlib.import_module("openai")
    # The server is on this machine: no proxy that the environment may name.
    http = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(api_key="sk-demo", base_url=url, max_retries=0, http_client=http)


def _ask_openai(url: str, text: str) -> str:
    made = _openai(url).chat.completions.create(model="demo", messages=[{"role": "user", "content": text}])
    return str(made.choices[0].message.content)


def _ask_builtin(url: str, text: str) -> str:
    asked = json.dumps({"model": "demo", "messages": [{"role": "user", "content": text}]}).encode()
    request = urllib.request.Request(f"{url}/chat/completions", asked, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return str(json.load(answer)["choices"][0]["message"]["content"])
    except urllib.error.HTTPError as refused:
        with refused:
            response = errors.Response(refused.code, request.full_url, refused.read().decode())
    body = response.json()["error"]
    raise errors.BY_STATUS[response.status_code](
        f"Error code: {response.status_code} - {body['message']}", response=response, body=body
    )
