"""A ranking as a table, as one JSON object, and as a line of totals."""

from __future__ import annotations

import math
from typing import Any

from rich.table import Table
from rich.text import Text

from tamis.compressors.types import Ranked, Reranked, to_probability
from tamis.service.cli.display.text import printable

_SNIPPET_CHARS = 160
_LABEL_CHARS = 44
_LABEL_SHARE = 3


def ranking_json(result: Reranked) -> dict[str, Any]:
    """Results best first, as the service responds; with the best sentence if any was scored.

    `relevance_score` is in [0, 1] for every method, `own_score` the method's own number; beside a
    first stage it is what both were joined to.
    """
    return {
        "results": [_document_json(ranked, result) for ranked in result.results],
        "coverage": {
            "windows": result.windows,
            "tokens_scored": result.tokens_read,
            "truncated": False,
        },
        "calibrated": result.calibrated,
        "timings": {f"{name}_ms": round(ms, 3) for name, ms in result.timings_ms.items()},
        "method": result.method,
        "warnings": list(result.warnings),
    }


def _document_json(ranked: Ranked, result: Reranked) -> dict[str, Any]:
    best = best_unit(ranked.index, result)
    alone = to_probability(ranked.own, result.calibrated)
    row: dict[str, Any] = {
        "index": ranked.index,
        "id": result.passages[ranked.index].id,
        "relevance_score": alone if ranked.first is None else _finite(ranked.score),
        "own_score": _finite(ranked.own),
        "first_stage_score": _finite(ranked.first),
        "relevant_spans": [],
    }
    if best is not None:
        start, end = result.units[best].visible
        row["relevant_spans"] = [{"start": start, "end": end, "score": result.scores[best]}]
    return row


def _finite(value: float | None) -> float | None:
    """None for an infinite score, that of a document without text: JSON has no infinity."""
    return value if value is not None and math.isfinite(value) else None


def best_unit(index: int, result: Reranked) -> int | None:
    """The best sentence of a document; None where sentences were not scored."""
    mine = [u for u, unit in enumerate(result.units) if unit.passage == index]
    return max(mine, key=lambda u: (result.scores[u], -u), default=None)


def ranking_table(result: Reranked, width: int) -> Table:
    """A row per document: score, name, and its best sentence or its beginning.

    Only the last column shrinks on a screen of `width`: where no column may wrap, rich shrinks
    columns to nothing.
    """
    fused = any(ranked.first is not None for ranked in result.results)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    for name in ("score", "own", "first") if fused else ("score",):
        table.add_column(name, justify="right", no_wrap=True)
    chars = max(1, min(_LABEL_CHARS, width // _LABEL_SHARE))
    table.add_column("document", overflow="fold", max_width=chars)
    table.add_column("best sentence" if result.units else "text")
    labels = _labels(result, chars)
    for place, (ranked, label) in enumerate(zip(result.results, labels, strict=True), 1):
        numbers = [ranked.score, ranked.own, ranked.first] if fused else [ranked.score]
        table.add_row(
            str(place), *map(_number, numbers), Text(printable(label)), _snippet(ranked, result)
        )
    return table


def _number(value: float | None) -> str:
    return "-" if _finite(value) is None else f"{value:.4g}"


def _labels(result: Reranked, chars: int) -> list[str]:
    """Names, of long ones the end, which distinguishes files; whole names where it does not."""
    passages = [(ranked.index, result.passages[ranked.index]) for ranked in result.results]
    names = [p.id or p.title or f"document {i + 1}" for i, p in passages]
    cut = [name if len(name) <= chars else f"…{name[len(name) - chars + 1 :]}" for name in names]
    return cut if len(set(cut)) == len(set(names)) else names


def _snippet(ranked: Ranked, result: Reranked) -> Text:
    text = result.passages[ranked.index].text
    best = best_unit(ranked.index, result)
    excerpt = text if best is None else text[slice(*result.units[best].visible)]
    line = " ".join(excerpt[:_SNIPPET_CHARS].split())
    return Text(printable(line), no_wrap=True, overflow="ellipsis")


def totals_text(result: Reranked) -> str:
    """Documents, tokens, windows and time, in a line."""
    seconds = result.timings_ms.get("total", 0.0) / 1e3
    return (
        f"{len(result.passages)} documents, {result.tokens_read:,} tokens read in "
        f"{result.windows} windows, {seconds:.1f} s, {result.method}"
    )
