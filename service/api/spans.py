"""Spans of OpenTelemetry around compressions and rerankings, for programs that have it.

Names are those of its conventions for generative AI. `rerank` and its attributes are a proposal
there (semantic-conventions-genai, 253); `compress` is no operation there yet and is named in the
same way. No text is recorded, and no message of an error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from tamis.compressors.types import Compressed, Reranked
from tamis.probes.errors import BadInput
from tamis.probes.tokens import replace_surrogates

if TYPE_CHECKING:
    from opentelemetry.trace import Span

P = ParamSpec("P")
R = TypeVar("R")
Attributes = Mapping[str, Any]
_MAX_MODEL_CHARS = 80


def is_traced() -> bool:
    """Whether this program has given OpenTelemetry a provider: without one nothing is recorded."""
    api: Any = sys.modules.get("opentelemetry.trace")
    return api is not None and not isinstance(api.get_tracer_provider(), api.ProxyTracerProvider)


def traced(
    operation: str, attributes: Callable[[R], Attributes]
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: every call is a span, with attributes of its result."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def run(*given: P.args, **named: P.kwargs) -> R:
            if not is_traced():
                return function(*given, **named)
            with operation_span(operation) as span:
                result = function(*given, **named)
                top_n = named.get("top_n") if operation == "rerank" else None
                set_attributes(span, {**attributes(result), "gen_ai.rerank.top_n": top_n})
                return result

        return run

    return decorate


@contextmanager
def operation_span(
    operation: str, model: str | None = None, is_served: bool = False
) -> Iterator[Span]:
    """A span, which is current while the block runs; its parent is the span that is current before.

    Args:
        model: that the caller named.
        is_served: for a request that came from elsewhere.
    """
    from opentelemetry import trace

    if model is not None:  # whatever a client sends: no collector takes half a character
        model = replace_surrogates(model)[:_MAX_MODEL_CHARS]
    parent = trace.get_current_span().get_span_context()
    is_entry = is_served and (parent.is_remote or not parent.is_valid)
    with trace.get_tracer("tamis").start_as_current_span(
        operation if model is None else f"{operation} {model}",
        kind=trace.SpanKind.SERVER if is_entry else trace.SpanKind.INTERNAL,
        attributes={"gen_ai.operation.name": operation, "gen_ai.provider.name": "tamis"}
        | ({} if model is None else {"gen_ai.request.model": model}),
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield span
        except BaseException as error:
            span.set_attribute("error.type", type(error).__name__)
            if not isinstance(error, BadInput):  # a mistake of the caller is no fault of ours
                span.set_status(trace.Status(trace.StatusCode.ERROR))
            raise


def set_attributes(span: Span, attributes: Attributes) -> None:
    """Sets those that have a value."""
    span.set_attributes({name: value for name, value in attributes.items() if value is not None})


def compression_attributes(found: Compressed) -> Attributes:
    """What a compression read and kept."""
    return {
        "gen_ai.usage.input_tokens": found.tokens_in,
        "gen_ai.usage.output_tokens": found.tokens_out,
        "tamis.documents": len(found.passages),
        "tamis.method": found.method,
        "tamis.status": found.status,
        "tamis.answerability": found.answerability,
        "tamis.verdict": found.verdict,
    }


def ranking_attributes(found: Reranked) -> Attributes:
    """What was ranked; the scores are for whoever asks for them."""
    return {
        "gen_ai.rerank.candidate.count": len(found.passages),
        "gen_ai.usage.input_tokens": found.tokens_read,
        "tamis.method": found.method,
    }


def traceparent_headers() -> dict[str, str]:
    """The headers with which a request to another service continues the current trace."""
    headers: dict[str, str] = {}
    if is_traced():
        from opentelemetry import propagate

        propagate.inject(headers)
    return headers
