"""Spans of OpenTelemetry: its real SDK, a real service, a real collector's protocol."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

import tamis
from tamis.client import Client
from tests.service.http.app_kit import BODY, DOCUMENTS, NEEDLE, QUESTION, Running, served

ROOT = Path(__file__).parents[4]
TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-01"}
EXPORTER = InMemorySpanExporter()
LOG = "".join(f"tests/test_rooms.py::test_room_{i} PASSED\n" for i in range(90))


@pytest.fixture(scope="module")
def provider() -> None:
    """The provider of this process, as a program that traces sets it: once."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
    trace.set_tracer_provider(provider)


@pytest.fixture(scope="module")
def service(provider: None) -> Iterator[Running]:
    with served(traces="scores") as running:
        yield running


@pytest.fixture(autouse=True)
def no_spans_yet() -> None:
    EXPORTER.clear()


def only_span() -> Any:
    (span,) = EXPORTER.get_finished_spans()
    return span


def test_a_compression_is_a_span_of_the_caller_s_trace(service: Running):
    answer = service.http.post("/v1/compress", json=BODY, headers=PARENT).json()
    span = only_span()
    assert (span.name, span.kind) == ("compress", SpanKind.SERVER)
    assert f"{span.context.trace_id:032x}" == TRACE_ID
    assert f"{span.parent.span_id:016x}" == SPAN_ID
    assert dict(span.attributes) == {
        "gen_ai.operation.name": "compress",
        "gen_ai.provider.name": "tamis",
        "gen_ai.response.model": answer["model"],
        "gen_ai.usage.input_tokens": answer["usage"]["input_tokens"],
        "gen_ai.usage.output_tokens": answer["usage"]["output_tokens"],
        "tamis.documents": len(DOCUMENTS),
        "tamis.method": "question_rows",
        "tamis.status": "ok",
        **({"tamis.answerability": a} if (a := answer["answerability"]) is not None else {}),
        **({"tamis.verdict": v} if (v := answer["verdict"]) is not None else {}),
    }
    assert span.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("path", ["/v2/rerank", "/v1/rerank", "/rerank"])
def test_a_reranking_has_the_attributes_that_are_proposed_for_it(service: Running, path: str):
    body = {"model": "rerank-v4.0", "query": QUESTION, "documents": DOCUMENTS, "top_n": 1}
    assert service.http.post(path, json=body).status_code == 200
    span = only_span()
    assert (span.name, span.kind, span.parent) == ("rerank rerank-v4.0", SpanKind.SERVER, None)
    found = dict(span.attributes)
    assert found.pop("gen_ai.usage.input_tokens") > 0
    (score,) = found.pop("gen_ai.rerank.scores")
    assert 0 < score <= 1
    assert found == {
        "gen_ai.operation.name": "rerank",
        "gen_ai.provider.name": "tamis",
        "gen_ai.request.model": "rerank-v4.0",
        "gen_ai.response.model": service.service_state.methods.reader.card.name,
        "gen_ai.rerank.candidate.count": 2,
        "gen_ai.rerank.top_n": 1,
        "tamis.method": "question_rows",
    }


def test_a_conversation_is_a_compression(service: Running):
    messages = [{"role": "user", "content": "Which fails?"}, {"role": "tool", "content": LOG}]
    answer = service.post("/v1/compress", messages=messages, model="gpt-4o").json()
    span = only_span()
    assert span.name == "compress gpt-4o"
    assert span.attributes["gen_ai.usage.output_tokens"] == answer["tokens_after"]
    assert span.attributes["tamis.messages"] == 2


def test_whatever_a_client_calls_a_model_can_be_sent_to_a_collector(service: Running):
    body = {"model": "\ud800" + "m" * 500, "query": QUESTION, "documents": DOCUMENTS}
    raw = json.dumps(body).encode()
    assert service.raw("/v2/rerank", raw).status_code == 200
    name = only_span().name
    assert len(name.encode()) < 100


def test_every_question_of_a_call_has_a_span(service: Running):
    service.post("/v1/compress", questions=[QUESTION] * 3, documents=DOCUMENTS, max_tokens=40)
    assert [span.name for span in EXPORTER.get_finished_spans()] == ["compress"] * 3


def test_a_failure_is_named_and_is_ours_only_where_it_is_no_mistake_of_the_caller(
    service: Running, monkeypatch: pytest.MonkeyPatch
):
    assert service.post("/v1/compress", **{**BODY, "max_tokens": 1}).status_code == 422
    span = only_span()
    assert span.attributes["error.type"] == "BudgetTooSmall"
    assert span.status.status_code is StatusCode.UNSET
    EXPORTER.clear()

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(f"the card fell off the bus at {NEEDLE}")

    monkeypatch.setattr(service.service_state.methods, "scorer", broken)
    assert service.post("/v2/rerank", query=QUESTION, documents=DOCUMENTS).status_code == 500
    span = only_span()
    assert (span.attributes["error.type"], span.status.status_code) == (
        "RuntimeError",
        StatusCode.ERROR,
    )
    assert not span.events
    assert NEEDLE not in span.to_json()


def test_no_text_of_a_request_is_recorded(service: Running):
    service.http.post("/v1/compress", json=BODY, headers=PARENT)
    shown = only_span().to_json()
    assert QUESTION not in shown
    assert NEEDLE not in shown


def test_a_call_of_the_client_continues_the_trace_in_the_service(service: Running):
    with trace.get_tracer("test").start_as_current_span("answer") as outer:
        Client(service.url).compress(QUESTION, DOCUMENTS, max_tokens=40)
    inner, _ = EXPORTER.get_finished_spans()
    assert inner.context.trace_id == outer.get_span_context().trace_id
    assert inner.parent.span_id == outer.get_span_context().span_id


def test_the_library_is_traced_in_a_program_that_traces(provider: None):
    with trace.get_tracer("test").start_as_current_span("answer") as outer:
        short = tamis.compress(QUESTION, DOCUMENTS, max_tokens=20, method="lexical")
        tamis.rerank(QUESTION, DOCUMENTS, top_n=1, method="lexical")
    compress, rerank, _ = EXPORTER.get_finished_spans()
    assert (compress.name, compress.kind) == ("compress", SpanKind.INTERNAL)
    assert compress.parent.span_id == outer.get_span_context().span_id
    assert compress.attributes["gen_ai.usage.output_tokens"] == short.tokens_out
    assert rerank.attributes["gen_ai.rerank.top_n"] == 1
    assert rerank.attributes["gen_ai.rerank.candidate.count"] == 2
    assert "gen_ai.rerank.scores" not in rerank.attributes


class Collector(BaseHTTPRequestHandler):
    """Takes spans as a collector does."""

    exports: Queue[tuple[str, bytes]] = Queue()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.exports.put((self.path, body))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


SERVING = """
from tests.service.http.app_kit import BODY, served

with served(traces="on") as service:
    assert service.http.post("/v1/compress", json=BODY).status_code == 200
"""


def python(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def test_spans_arrive_at_a_collector_before_the_service_has_ended():
    server = HTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        done = python(
            SERVING, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, OTEL_BSP_SCHEDULE_DELAY="60000"
        )
        assert done.returncode == 0, done.stderr
        path, body = Collector.exports.get(timeout=30)
    finally:
        server.shutdown()
    assert path == "/v1/traces"
    (sent,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {a.key: a.value.string_value for a in sent.resource.attributes}
    assert names["service.name"] == "tamis"
    assert [span.name for span in sent.scope_spans[0].spans] == ["compress"]


WITHOUT = """
import sys

class Absent:
    names = ("opentelemetry",)

    def find_spec(self, name, path=None, target=None):
        if name.startswith(self.names):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import tamis

texts = ["The wall is blue.", "Rooms are painted."]
tamis.compress("What is blue?", texts, max_tokens=5, method="lexical")
tamis.rerank("What is blue?", texts, method="lexical")

Absent.names = ("opentelemetry.sdk", "opentelemetry.exporter")  # FastAPI needs the API alone
from tamis.client import Client
from tamis.probes.errors import MissingExtra
from tests.service.http.app_kit import DOCUMENTS, QUESTION, served

with served() as service:
    Client(service.url).compress(QUESTION, DOCUMENTS, max_tokens=40)
    assert service.post("/v2/rerank", query=QUESTION, documents=DOCUMENTS).status_code == 200
try:
    with served(traces="on"):
        pass
except MissingExtra as error:
    assert 'pip install "tamis[otel]"' in str(error), error
    print("refused")
"""


def test_without_the_package_all_is_served_and_traces_say_what_to_install():
    done = python(WITHOUT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "refused\n"
