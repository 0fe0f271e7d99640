"""A decision model that decides by shared words, in this process or behind a URL."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tamis.text.terms import words
from tamis_lab.methods.systemone import Decisions


class WordDecisions:
    """Decides like a `DecisionClient`: the share of the question's words that a text has."""

    def decide(self, state: str, instructions: Mapping[str, str]) -> Decisions:
        question, _, text = state.removeprefix("Question: ").partition("\n\n")
        asked = set(words(question))
        found = {}
        for name, instruction in instructions.items():
            number = re.search(r"\[(\d+)\]", instruction)
            part = text if number is None else _sentence(text, int(number[1]))
            found[name] = len(asked & set(words(part))) / max(1, len(asked))
        return Decisions(found, len(state.split()))


def _sentence(text: str, number: int) -> str:
    """The text of a number, up to the next one."""
    whole = f"\n{text}"
    start = whole.find(f"\n[{number}] ")
    stop = whole.find(f"\n[{number + 1}] ", start + 1)
    return whole[start : stop if stop > 0 else len(whole)]


@dataclass
class DecisionServer:
    """A running server, and what it was asked.

    Attributes:
        answers: bodies or statuses that are sent in place of decisions, the first one first.
    """

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)


@contextmanager
def decision_server() -> Iterator[DecisionServer]:
    """A server of System One's protocol on a free port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            running.bodies.append(body)
            running.headers.append({k.lower(): v for k, v in self.headers.items()})
            answer = running.answers.pop(0) if running.answers else decided(body)
            status = answer if isinstance(answer, int) else 200
            data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("location", f"{running.url}/elsewhere")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running = DecisionServer(f"http://127.0.0.1:{server.server_port}/v1/systemone")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()


def decided(body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of the protocol."""
    asked = {name: question["instructions"] for name, question in body["questions"].items()}
    found = WordDecisions().decide(body["state"], asked)
    answers = {n: {"id": n, "type": "noul", "noul": p} for n, p in found.probabilities.items()}
    return {"answers": answers, "usage": {"input_tokens": found.tokens_read}}
