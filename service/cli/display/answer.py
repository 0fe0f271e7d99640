"""What came of a compression, source by source, and as one JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tamis.service.files.json_values import finite

if TYPE_CHECKING:
    from tamis.compressors.pipeline.results import PassageResult
    from tamis.compressors.types import Compressed

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = {
    **{c: 0x2400 + c for c in range(0x20) if chr(c) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), 0xFFFD),
}


def as_json(result: Compressed, found: Sequence[PassageResult]) -> dict[str, Any]:
    """The answer of `POST /v1/compress`. Where nothing was scored, scores are null."""
    return {
        "text": result.text,
        "results": [_result(source, result) for source in found],
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
            "estimated": False,
        },
        "timings": {f"{name}_ms": round(ms, 3) for name, ms in result.timings_ms.items()},
        "status": result.status,
        "method": result.method,
        "warnings": list(result.warnings),
    }


def _result(source: PassageResult, result: Compressed) -> dict[str, Any]:
    return {
        "index": source.index,
        "id": source.passage.id,
        "relevance_score": source.score,
        "kept": bool(source.kept),
        "text": source.text,
        "relevant_spans": [_span(u, result) for u in source.kept],
        "tokens_before": source.tokens_before,
        "tokens_after": source.tokens_after,
    }


def _span(u: int, result: Compressed) -> dict[str, Any]:
    start, end = result.units[u].visible
    return {"start": start, "end": end, "score": result.scores[u] if result.scores else None}


def dumped(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """JSON for people and programs: a lone surrogate is written as its escape, so none is lost; NaN
    and infinity, which JSON has not, as null.
    """
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, indent=2)
    return _SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shown(text: str) -> str:
    """A text for the screen: as many code points, none that steers a terminal or breaks a page.

    Control characters become their pictures, lone surrogates U+FFFD; tabs and line feeds stay.
    """
    return text.translate(_CONTROLS)
