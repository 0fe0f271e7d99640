"""TEI's response headers about the work, in whole milliseconds.

TEI reads texts one by one and reports their mean; here texts are read together, and the times are
of the whole request.
"""

from __future__ import annotations

from typing import Any

from tamis.compressors.types import Reranked
from tamis.probes.model.loading import choose_device
from tamis.service.http.schemas.dialects.tei import TeiRequest

HEADERS = {
    "x-compute-type": "Where the model runs, such as cpu or cuda.",
    "x-compute-time": "Milliseconds in all.",
    "x-compute-characters": "Characters of the texts, and of the query once for each.",
    "x-compute-tokens": "Tokens that were read.",
    "x-total-time": "Milliseconds in all.",
    "x-tokenization-time": "Milliseconds of finding sentences and tokens.",
    "x-queue-time": "Milliseconds in the queue before the model.",
    "x-inference-time": "Milliseconds of the model's forward passes.",
}


def timing_headers(body: TeiRequest, found: Reranked, device: str) -> dict[str, str]:
    """The headers of an answer, from the timings of a ranking."""

    def ms(*names: str) -> int:
        return int(sum(found.timings_ms.get(name, 0.0) for name in names))

    read = sum(map(len, body.ranked_texts())) + len(body.query) * len(body.texts)
    total, queue, model = ms("total"), ms("queue"), ms("forward")
    measured = (total, read, found.tokens_read, total, ms("segment", "tokenize"), queue, model)
    values = (choose_device(device).type, *map(str, measured))
    return dict(zip(HEADERS, values, strict=True))


def header_schemas() -> dict[str, Any]:
    """The headers for the OpenAPI document; answers in other dialects have none of them."""
    return {
        name: {
            "description": f"To TEI's requests: {text[0].lower()}{text[1:]}",
            "schema": {"type": "string" if name == "x-compute-type" else "integer"},
        }
        for name, text in HEADERS.items()
    }
