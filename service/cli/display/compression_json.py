"""A compression as one JSON object, the same as the response of the service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tamis.service.documents.document_text import FORMAT, page_at

if TYPE_CHECKING:
    from tamis.compressors.pipeline.compression import PassageResult
    from tamis.compressors.types import Compressed


def compression_json(
    result: Compressed, passages: Sequence[PassageResult], estimated: bool = False
) -> dict[str, Any]:
    """The response of `POST /v1/compress` to a compression; without scores they are null.

    Of the answer alone: its id, time and model are the service's.

    `extracted_text` is what spans point into where a document is HTML, PDF or DOCX; the spans of a
    PDF have their `page`, from 1.

    Args:
        estimated: whether the tokenizer of the budget stands for another.
    """
    return {
        "text": result.text,
        "results": [_passage_json(passage, result) for passage in passages],
        "coverage": {
            "windows": result.windows,
            "tokens_scored": result.tokens_read,
            "truncated": False,
        },
        "usage": {
            "input_tokens": result.tokens_in,
            "output_tokens": result.tokens_out,
            "saved_tokens": result.tokens_in - result.tokens_out,
            "ratio": round(result.ratio, 4),
            "cached_tokens": result.tokens_cached,
            "tokenizer": result.tokenizer,
            "estimated": estimated,
        },
        "timings": {f"{name}_ms": round(ms, 3) for name, ms in result.timings_ms.items()},
        "status": result.status,
        "method": result.method,
        "calibrated": result.calibrated,
        "answerability": result.answerability,
        "warnings": list(result.warnings),
    }


def _passage_json(passage: PassageResult, result: Compressed) -> dict[str, Any]:
    return {
        "index": passage.index,
        "id": passage.passage.id,
        "relevance_score": passage.relevance(result.calibrated),
        "raw_score": passage.raw_score,
        "kept": bool(passage.kept),
        "text": passage.text,
        "extracted_text": passage.passage.text if FORMAT in passage.passage.metadata else None,
        "relevant_spans": [_span_json(u, result) for u in passage.kept],
        "tokens_before": passage.tokens_before,
        "tokens_after": passage.tokens_after,
    }


def _span_json(u: int, result: Compressed) -> dict[str, Any]:
    unit = result.units[u]
    start, end = unit.visible
    span = {"start": start, "end": end, "score": result.scores[u] if result.scores else None}
    page = page_at(result.passages[unit.passage].metadata, start)
    return span if page is None else {**span, "page": page}
