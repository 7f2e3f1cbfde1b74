"""A small HTTP server on 127.0.0.1 that answers like the OpenAI chat API."""

from __future__ import annotations

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from safemp.demo.prompts import BATCH

__all__ = ["ChatServer"]

_REPLIES = {prompt.text: prompt for prompt in BATCH}

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
}


class ChatServer:
    """The server, in a thread of this process; a context manager.

    The first part of a request's path says who asks, so ``/today/v1/chat/completions``
    counts for ``today``.

    Attributes:
        served: Requests answered, by who asked. Grows while the server runs.
    """

    def __init__(self) -> None:
        self.served: Counter[str] = Counter()
        self._counting = threading.Lock()
        owner = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                status, body = _reply(asked["messages"][-1]["content"], asked["model"])
                owner._count(self.path.split("/")[1])
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.send_header("x-request-id", f"req_{status}")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet: the demo's own output says what was asked."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Keep quiet: a client was interrupted in the middle of its question."""

        self._server = Server(("127.0.0.1", 0), Handler)
        # A daemon: Ctrl-C may come before, or while, it is told to end.
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="demo-server", daemon=True
        )

    @property
    def address(self) -> tuple[str, int]:
        """The server's host and port."""
        return "127.0.0.1", self._server.server_port

    def url(self, who: str) -> str:
        """Return the base URL under which *who* is counted."""
        host, port = self.address
        return f"http://{host}:{port}/{who}/v1"

    def _count(self, who: str) -> None:
        with self._counting:
            self.served[who] += 1

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _reply(text: str, model: str) -> tuple[int, dict[str, Any]]:
    """Return the status and the body for one prompt."""
    prompt = _REPLIES.get(text)
    if prompt is None:
        return 404, _error(404, "unknown_prompt")
    if prompt.status != 200:
        return prompt.status, _error(prompt.status, prompt.reply)
    message = {"role": "assistant", "content": prompt.reply, "refusal": None}
    return 200, {
        "id": "chatcmpl-demo",
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": len(text.split()), "completion_tokens": 1, "total_tokens": len(text.split()) + 1},
    }


def _error(status: int, code: str) -> dict[str, Any]:
    return {"error": {"message": code.replace("_", " "), "type": _TYPES[status], "param": None, "code": code}}
