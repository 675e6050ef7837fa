"""An OpenAI-compatible server on loopback, whose behaviour a test decides request by request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Reply(NamedTuple):
    """What the server sends; `body` None: it closes the connection."""

    status: int = 200
    body: bytes | None = b""
    headers: dict[str, str] = {}  # noqa: RUF012
    after: float = 0.0  # seconds


def says(text: str, **choice: Any) -> Reply:
    """Answer with a chat completion."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 0,
        "model": "small",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", **choice}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16},
    }
    return Reply(body=json.dumps(body).encode())


def refuses(status: int, message: str = "no", **headers: str) -> Reply:
    """Answer with an error, as OpenAI's server formats it."""
    body = json.dumps({"error": {"message": message, "type": "x", "code": None}}).encode()
    return Reply(status, body, {"retry-after-ms": "5", **headers})


class ChatServer:
    """Notes what it is asked.

    Attributes:
        asked: The requests: path, headers and body of each.
        most_at_once: The most that were in flight together.
        reply: Returns the reply to the n-th request, from 0.
    """

    def __init__(self, reply: Callable[[int, dict[str, Any]], Reply], port: int = 0) -> None:
        self.asked: list[dict[str, Any]] = []
        self.most_at_once = self._at_once = 0
        self.reply = reply
        lock, server = threading.Lock(), self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with lock:
                    number = len(server.asked)
                    asked = {
                        "path": self.path,
                        "headers": {k.lower(): v for k, v in self.headers.items()},
                        "body": body,
                    }
                    server.asked.append(asked)
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                reply = server.reply(number, body)
                time.sleep(reply.after)
                with lock:
                    server._at_once -= 1
                if reply.body is None:
                    self.close_connection = True
                    return
                with suppress(BrokenPipeError):  # the client may have given up
                    self._send(reply)

            def _send(self, reply: Reply) -> None:
                self.send_response(reply.status)
                headers = {"content-type": "application/json", **reply.headers}
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *about: Any) -> None:
                pass

        ThreadingHTTPServer.allow_reuse_address = True
        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextmanager
def serving(reply: Callable[[int, dict[str, Any]], Reply]) -> Iterator[ChatServer]:
    """Run a server for the duration of the block."""
    server = ChatServer(reply)
    try:
        yield server
    finally:
        server.stop()
