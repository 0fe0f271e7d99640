"""The models of coding agents as small servers: one call of the shell, then the end.

They speak Anthropic's Messages and OpenAI's chat and Responses API as far as these agents need.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Model:
    """What the model was sent; `command` is what it runs in the shell."""

    command: str
    url: str = ""
    requests: list[Any] = field(default_factory=list)

    def results(self) -> list[str]:
        """The results of the shell, as the model read them."""
        found = []
        for request in self.requests:
            for message in request.get("messages", ()):
                blocks = message["content"] if isinstance(message["content"], list) else ()
                found += [b["content"] for b in blocks if b.get("type") == "tool_result"]
                found += [message["content"]] if message["role"] == "tool" else []
            items = request.get("input", ())
            found += [i["output"] for i in items if i.get("type") == "function_call_output"]
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Model

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._send(b"", "text/plain")

    def do_GET(self) -> None:
        self._send(b'{"data": [], "models": []}', "application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = json.loads(body)
        if "/responses" in self.path:
            self.model.requests.append(request)
            self._send_events(_openai_events(request, self.model.command))
        elif self.path.endswith("/chat/completions"):
            self.model.requests.append(request)
            chunks = [json.dumps(one) for one in _chat_chunks(request, self.model.command)]
            lines = "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"])
            self._send(lines.encode(), "text/event-stream")
        elif self.path.split("?")[0].endswith("/messages"):
            self.model.requests.append(request)
            message = _anthropic_message(request, self.model.command)
            if request.get("stream"):
                self._send_events(_anthropic_events(message))
            else:
                self._send(json.dumps(message).encode(), "application/json")
        else:
            self._send(b'{"input_tokens": 5}', "application/json")

    def _send_events(self, events: list[dict[str, Any]]) -> None:
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events]
        self._send("".join(lines).encode(), "text/event-stream")

    def _send(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _anthropic_message(request: Any, command: str) -> dict[str, Any]:
    has_shell = any(tool.get("name") == "Bash" for tool in request.get("tools", ()))
    is_done = not has_shell or '"tool_result"' in json.dumps(request["messages"])
    block: dict[str, Any] = {"type": "text", "text": "done"}
    if not is_done:
        given = {"command": command, "description": "Run the tests"}
        block = {"type": "tool_use", "id": "toolu_01", "name": "Bash", "input": given}
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": request.get("model", "m"),
        "content": [block],
        "stop_reason": "end_turn" if is_done else "tool_use",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 5},
    }


def _anthropic_events(message: dict[str, Any]) -> list[dict[str, Any]]:
    (block,) = message["content"]
    if block["type"] == "text":
        empty: dict[str, Any] = {**block, "text": ""}
        delta = {"type": "text_delta", "text": block["text"]}
    else:
        empty = {**block, "input": {}}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
    stop = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    start = {**message, "content": [], "stop_reason": None}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": empty},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]


def _openai_events(request: Any, command: str) -> list[dict[str, Any]]:
    is_done = "function_call_output" in json.dumps(request.get("input", []))
    content = [{"type": "output_text", "text": "done"}]
    item: dict[str, Any] = {"type": "message", "role": "assistant", "id": "m1", "content": content}
    if not is_done:
        named = {tool.get("name") for tool in request.get("tools", ())}
        name = "exec_command" if "exec_command" in named else "shell"
        given = {"cmd": command} if name == "exec_command" else {"command": ["sh", "-c", command]}
        item = {"type": "function_call", "id": "f1", "call_id": "call_1", "name": name}
        item["arguments"] = json.dumps(given)
    counts = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    usage = counts | {"input_tokens_details": None, "output_tokens_details": None}
    return [
        {"type": "response.created", "response": {"id": "r1"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "r1", "usage": usage}},
    ]


def _chat_chunks(request: Any, command: str) -> list[dict[str, Any]]:
    named = {tool["function"]["name"] for tool in request.get("tools") or ()}
    is_done = "bash" not in named or any(m["role"] == "tool" for m in request["messages"])
    delta: dict[str, Any] = {"role": "assistant", "content": "done" if is_done else None}
    if not is_done:
        given = json.dumps({"command": command, "description": "Show the log"})
        function = {"name": "bash", "arguments": given}
        call = {"index": 0, "id": "call_1", "type": "function", "function": function}
        delta["tool_calls"] = [call]
    about = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    finish = "stop" if is_done else "tool_calls"
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return [
        about | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]},
        about | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": usage},
    ]


@contextmanager
def model_server(command: str) -> Iterator[Model]:
    """A running one, which speaks both."""
    model = Model(command)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (_Handler,), {"model": model}))
    model.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
