"""What a running service says of itself: log lines, meters for Prometheus, and traces.

Texts of requests are never logged. Under `--traces` spans go to the program's own provider, or to a
collector by OTLP over HTTP; the variables of OpenTelemetry say where and how, such as
OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Receive, Scope, Send

from tamis.probes.extras import needing
from tamis.service.engine.engine import EngineObserver
from tamis.service.http.runtime.settings import LogFormat, LogLevel, Traces


def create_logger(form: LogFormat = "auto", level: LogLevel = "info") -> Any:
    """A logger that writes to standard error; the process's own logging is left alone."""
    console = sys.stderr.isatty() if form == "auto" else form == "console"
    renderer = structlog.dev.ConsoleRenderer() if console else structlog.processors.JSONRenderer()
    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
    )


_SECONDS_BUCKETS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_TOKEN_BUCKETS = (64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384)
GAUGES = {
    "queue_tokens": "Tokens that wait or are read.",
    "queue_requests": "Requests that are in.",
    "ready": "Whether the model is there.",
}
CONTENT_TYPE: str = CONTENT_TYPE_LATEST
STAGES = ("queue", "tokenize", "segment", "forward", "score", "select")
"""Keys of a result's timings."""
STORES: Mapping[str, tuple[Mapping[str, str], Mapping[str, str]]] = {
    "cache": (
        {
            "hits": "Passages that were kept, in memory or on disk.",
            "disk_hits": "Of those, the ones on disk alone.",
            "misses": "Passages that were not kept and had to be read.",
            "evicted": "Passages removed from memory to make room.",
            "dropped": "Damaged or foreign files that were deleted.",
            "unread": "Passages on disk that could not be read at that moment.",
            "unwritten": "Passages that could not be written to disk.",
        },
        {"bytes": "Memory that kept passages take.", "entries": "Passages kept in memory."},
    ),
    "originals": (
        {
            "stored": "Originals that were kept.",
            "hits": "Originals that were asked for and still kept.",
            "misses": "Originals that were asked for and not kept.",
            "evicted": "Originals removed to make room.",
            "expired": "Originals removed because their time was up.",
        },
        {"bytes": "Memory that originals take.", "entries": "Originals kept."},
    ),
    "results": (
        {
            "hits": "Requests whose answer was kept.",
            "misses": "Requests whose answer was not kept.",
            "evicted": "Answers removed to make room.",
        },
        {"bytes": "Memory that answers take.", "entries": "Answers kept."},
    ),
}
"""What stores count, and what they hold now: help texts by the count's name."""


class _StoreMetrics(Collector):
    """Collects the counts that one of `STORES` keeps itself, as `tamis_<name>_hits` and the like.

    Args:
        stats: its current counts.
    """

    def __init__(self, stats: Callable[[], Any], name: str) -> None:
        self._stats, self._name = stats, name

    def collect(self) -> Iterator[Metric]:
        """The current counts."""
        stats = self._stats()
        families = (CounterMetricFamily, GaugeMetricFamily)
        for family, texts in zip(families, STORES[self._name], strict=True):
            for name, text in texts.items():
                yield family(f"tamis_{self._name}_{name}", text, value=getattr(stats, name))


class Metrics(EngineObserver):
    """The metrics of one service, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        seconds = partial(Histogram, registry=self.registry, buckets=_SECONDS_BUCKETS)
        tokens = partial(Histogram, registry=self.registry, buckets=_TOKEN_BUCKETS)
        self.requests = counter(
            "tamis_requests", "Requests by route and status.", ["route", "status"]
        )
        self.request_seconds = seconds("tamis_request_seconds", "Time of a request.", ["route"])
        self.stage_seconds = seconds("tamis_stage_seconds", "Where it went.", ["stage"])
        self.batch_tokens = tokens("tamis_batch_tokens", "Tokens of a forward pass.")
        self.batch_prompts = counter("tamis_batch_prompts", "Prompts that were read.")
        self.model_seconds = counter("tamis_model_seconds", "Time the model was busy.")
        self.tokens_read = counter("tamis_tokens_read", "Tokens the model has read.")
        self.tokens_in = counter("tamis_tokens_in", "Tokens of the contexts given.")
        self.tokens_out = counter("tamis_tokens_out", "Tokens of the texts returned.")
        self.tokens_saved = counter("tamis_tokens_saved", "Tokens left out.", ["key"])
        self.saved_again = counter(
            "tamis_upstream_tokens_saved_again",
            "Of these, in chats: of texts that were sent before, which a provider's cache bills.",
            ["key"],
        )
        self.cost_before = counter(
            "tamis_upstream_cost_before",
            "What chats would have cost as they came.",
            ["key"],
        )
        self.cost_after = counter("tamis_upstream_cost_after", "What they cost as sent.", ["key"])
        self.cached_tokens = counter(
            "tamis_cached_tokens", "Tokens not read again, for the cache had them."
        )
        self.refused = counter("tamis_refused", "Requests not served, by reason.", ["code"])
        self.fallbacks = counter(
            "tamis_fallback", "Answers that are not what was asked for.", ["reason"]
        )
        self.restarts = counter("tamis_worker_restarts", "Model threads replaced.")

    def add_gauge(self, name: str, value: Callable[[], float]) -> None:
        """Adds one of `GAUGES`; its value is read at every scrape."""
        Gauge(f"tamis_{name}", GAUGES[name], registry=self.registry).set_function(value)

    def add_store(self, name: str, stats: Callable[[], Any]) -> None:
        """Adds the counts of one of `STORES`; they are read at every scrape."""
        self.registry.register(_StoreMetrics(stats, name))

    def count_batch(self, tokens: int, prompts: int, seconds: float) -> None:
        """Counts a finished forward pass."""
        self.batch_tokens.observe(tokens)
        self.batch_prompts.inc(prompts)
        self.model_seconds.inc(seconds)
        self.tokens_read.inc(tokens)

    def count_restart(self) -> None:
        """Counts a replaced model thread."""
        self.restarts.inc()

    def observe_stages(self, timings_ms: Mapping[str, float]) -> None:
        """Records the time of each stage of a request."""
        for stage in STAGES:
            if stage in timings_ms:
                self.stage_seconds.labels(stage).observe(timings_ms[stage] / 1e3)

    def count_compression(self, tokens_in: int, tokens_out: int, key: str) -> None:
        """Counts the tokens of a compression for the owner of a key."""
        self.tokens_in.inc(tokens_in)
        self.tokens_out.inc(tokens_out)
        self.tokens_saved.labels(key).inc(max(0, tokens_in - tokens_out))

    def render(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        return generate_latest(self.registry)


_SERVICE_NAME = "OTEL_SERVICE_NAME"


def start_traces(traces: Traces) -> Callable[[], object]:
    """Sees to it that spans are exported; the function that sends the last of them.

    A provider that the program has set is used as it is, and left to the program.

    Raises:
        MissingExtra: the extra is not installed.
    """
    if traces == "off":
        return lambda: None
    with needing('traces need {name}, which is not installed; pip install "tamis[otel]"'):
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return lambda: None
    resource = Resource.create({} if os.environ.get(_SERVICE_NAME) else {SERVICE_NAME: "tamis"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown


class TraceContextMiddleware:
    """ASGI middleware: spans of a request belong to the trace that its `traceparent` names."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request; one that an instrumentation has begun a span for stays in that."""
        from opentelemetry import context, propagate, trace

        if scope["type"] != "http" or trace.get_current_span().get_span_context().is_valid:
            await self.app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        token = context.attach(propagate.extract(headers))
        try:
            await self.app(scope, receive, send)
        finally:
            context.detach(token)
