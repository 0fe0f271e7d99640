"""What a client of a service sends, and what it takes for an answer."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tamis.compressors.tools.types import ToolOutput
from tamis.service.agents.remote import RemoteService, ServiceRefused


@contextmanager
def answering(status, body=None, **headers):
    """A server with one answer, and the headers of each request that it got."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(dict(self.headers))
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        do_GET = do_POST

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def shorten(url):
    return RemoteService(url, "secret-key", 5).shorten([ToolOutput("one\ntwo\n")], "two?")


def test_a_redirect_carries_neither_the_key_nor_the_texts_to_another_address():
    with answering(200, {"messages": []}) as (other, seen):
        with (
            answering(302, location=other.replace("127.0.0.1", "localhost")) as (url, asked),
            pytest.raises(ServiceRefused, match="answered 302"),
        ):
            shorten(url)
        assert asked[0]["Authorization"] == "Bearer secret-key"
        assert seen == []


@pytest.mark.parametrize(
    "body", [{"messages": None}, {"messages": [{"content": "x"}]}, {"messages": ["x"]}, {}, []]
)
def test_what_is_no_answer_is_refused(body):
    with answering(200, body) as (url, _), pytest.raises(ServiceRefused):
        shorten(url)
