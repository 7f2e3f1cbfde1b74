"""A server on 127.0.0.1 that speaks OpenAI's chat completions and refuses whom it is told to refuse."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ChatServer:
    """Answers each question with its echo; a context manager.

    Args:
        statuses: The HTTP status of the first answer to a question, the second to the same one, and so on;
            the last one for all that follow.
        answer: Makes the answer of the request.

    Attributes:
        url: What to give a client as its ``base_url``.
    """

    def __init__(self, *statuses: int, answer: Callable[[dict[str, Any]], str] | None = None) -> None:
        lock = threading.Lock()
        times_asked: Counter[str] = Counter()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"  # clients keep their connections, as with the real one

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                question = asked["messages"][-1]["content"]
                with lock:
                    status = statuses[min(times_asked[question], len(statuses) - 1)]
                    times_asked[question] += 1
                body = json.dumps(reply(asked, answer or echo) if status == 200 else refusal(status)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.send_header("x-should-retry", "false")  # openai's client leaves trying again to its caller
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Keep quiet."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, request: Any, client_address: Any) -> None:
                """Keep quiet: a client has been killed."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ChatServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def echo(asked: dict[str, Any]) -> str:
    """Repeat the question."""
    return f"You said: {asked['messages'][-1]['content']}"


def reply(asked: dict[str, Any], answer: Callable[[dict[str, Any]], str]) -> dict[str, Any]:
    """Return as many completions as were asked for."""
    message = {"role": "assistant", "content": answer(asked)}
    choices = [{"index": i, "finish_reason": "stop", "message": message} for i in range(asked.get("n") or 1)]
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    made = {"id": "chat", "object": "chat.completion", "created": 1, "model": asked["model"]}
    return {**made, "choices": choices, "usage": usage}


def refusal(status: int) -> dict[str, Any]:
    """Return what comes with a status that is no success."""
    return {"error": {"message": f"refused with {status}", "type": "refused", "param": None, "code": str(status)}}
