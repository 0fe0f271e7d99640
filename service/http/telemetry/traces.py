"""Where spans go under `--traces`: the program's own provider, or a collector by OTLP over HTTP.

The variables of OpenTelemetry say where and how, such as OTEL_EXPORTER_OTLP_ENDPOINT,
OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from tamis.probes.errors import MissingExtra
from tamis.service.http.telemetry.choices import Traces

_SERVICE_NAME = "OTEL_SERVICE_NAME"


def start_traces(traces: Traces) -> Callable[[], object]:
    """Sees to it that spans are exported; the function that sends the last of them.

    A provider that the program has set is used as it is, and left to the program.

    Raises:
        MissingExtra: the extra is not installed.
    """
    if traces == "off":
        return lambda: None
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise MissingExtra(
            f'traces need {error.name}, which is not installed; pip install "tamis[otel]"'
        ) from error
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
