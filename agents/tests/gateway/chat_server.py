"""A service on a real socket that speaks as OpenAI's and Anthropic's do, as far as a chat needs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHUNK = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}


@dataclass
class Exchange:
    """A request as it arrived."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        found = [value for key, value in self.headers if key.lower() == name]
        return found[0] if found else None

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class ChatServer:
    """What it was asked; `gate` holds the rest of a stream back, `gone` says that nobody reads."""

    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)


def events(*values: Any, done: bool = True) -> bytes:
    lines = [f"data: {json.dumps(value)}\n\n" for value in values]
    return "".join([*lines, *["data: [DONE]\n\n"] * done]).encode()


FIRST = events(
    CHUNK | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hel"}}]},
    done=False,
)
REST = events(
    CHUNK | {"choices": [{"index": 0, "delta": {"content": "lo"}, "finish_reason": "stop"}]}
)
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello"},
                "finish_reason": "stop",
            }
        ],
    },
    indent=3,
).encode()
MESSAGE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [{"type": "text", "text": "Hello"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
).encode()


class Handler(BaseHTTPRequestHandler):
    chat: ChatServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        asked = Exchange(self.command, self.path, list(self.headers.items()), body)
        self.chat.exchanges.append(asked)
        if b'"fail_with"' in body:
            self._answer(429, b'{"error": {"message": "slow down"}}', [("retry-after", "7")])
        elif b'"stream": true' in body or b'"stream":true' in body:
            self._stream()
        else:
            found = MESSAGE if self.path.startswith("/v1/messages") else ANSWER
            self._answer(200, found, [("x-request-id", "req_upstream"), ("x-own", "yes")])

    def _answer(self, status: int, body: bytes, headers: list[tuple[str, str]]) -> None:
        self.send_response(status)
        for name, value in [("content-type", "application/json"), *headers]:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            self._chunk(FIRST)
            while not self.chat.gate.wait(0.05):
                self._chunk(b": waiting\n\n")
            self._chunk(REST)
            self._chunk(b"")
        except OSError:
            self.chat.gone.set()
            self.close_connection = True

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A running one."""
    server = ChatServer()
    http = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"chat": server}))
    server.url = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.gate.set()
        http.shutdown()
        http.server_close()
