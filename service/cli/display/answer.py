"""What came of a compression, source by source, and as one JSON object."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tamis.probes.text import Passage
from tamis.service.files.json_values import finite

if TYPE_CHECKING:
    from tamis.compressors.types import Compressed, Rules
    from tamis.probes.tokens import Tokens

_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROLS = {
    **{c: 0x2400 + c for c in range(0x20) if chr(c) not in "\t\n"},
    0x7F: 0x2421,
    **dict.fromkeys((*range(0x80, 0xA0), *range(0xD800, 0xE000)), 0xFFFD),
}


@dataclass(frozen=True, slots=True)
class Source:
    """One passage and what was kept of it.

    Attributes:
        score: for ranking; None where nothing was scored.
        units: indices of its units. kept: those that stayed.
        text: the kept ones as rendered; tokens are counted on it, and on all of them likewise.
    """

    index: int
    passage: Passage
    score: float | None
    units: tuple[int, ...]
    kept: tuple[int, ...]
    text: str
    tokens_before: int
    tokens_after: int

    @property
    def label(self) -> str:
        """How people know it."""
        return self.passage.id or self.passage.title or f"document {self.index + 1}"


def sources(result: Compressed, rules: Rules, counter: Tokens) -> list[Source]:
    """One `Source` a passage, in the order of the input."""
    from tamis.compressors.selection.rendering import Sheet

    sheet = Sheet(result.passages, result.units, rules)
    units: list[list[int]] = [[] for _ in result.passages]
    for u, unit in enumerate(result.units):
        units[unit.passage].append(u)
    held = {kept.unit for kept in result.kept}
    kept = [[u for u in mine if u in held] for mine in units]
    texts = [sheet.text(mine) for mine in kept]
    before = counter.count_many([sheet.text(mine) for mine in units])
    scores: Sequence[float | None] = result.passage_scores or [None] * len(units)
    return [
        Source(p, passage, scores[p], tuple(units[p]), tuple(kept[p]), texts[p], before[p], after)
        for (p, passage), after in zip(
            enumerate(result.passages), counter.count_many(texts), strict=True
        )
    ]


def as_json(result: Compressed, found: Sequence[Source]) -> dict[str, Any]:
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


def _result(source: Source, result: Compressed) -> dict[str, Any]:
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
