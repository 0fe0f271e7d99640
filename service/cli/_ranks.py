"""A ranking as a table, as one JSON object, and in a line."""

from __future__ import annotations

from typing import Any

from rich.table import Table
from rich.text import Text

from tamis.compressors._types import Ranked, Reranked
from tamis.service.cli.answer import shown

_SNIPPET_CHARS = 160
_LABEL_CHARS = 44


def as_json(result: Reranked) -> dict[str, Any]:
    """Results best first, as the service answers. Where sentences were scored, the best one."""
    return {
        "results": [_result(ranked, result) for ranked in result.results],
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


def _result(ranked: Ranked, result: Reranked) -> dict[str, Any]:
    best = best_unit(ranked.index, result)
    row: dict[str, Any] = {
        "index": ranked.index,
        "id": result.passages[ranked.index].id,
        "relevance_score": ranked.score,
        "own_score": ranked.own,
        "first_stage_score": ranked.first,
        "relevant_spans": [],
    }
    if best is not None:
        start, end = result.units[best].visible
        row["relevant_spans"] = [{"start": start, "end": end, "score": result.scores[best]}]
    return row


def best_unit(index: int, result: Reranked) -> int | None:
    """The sentence of a document that answers best; None where sentences were not scored."""
    mine = [u for u, unit in enumerate(result.units) if unit.passage == index]
    return max(mine, key=lambda u: (result.scores[u], -u), default=None)


def ranking_table(result: Reranked) -> Table:
    """A row a document: score, name, and its best sentence or its opening."""
    fused = any(ranked.first is not None for ranked in result.results)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("#", justify="right")
    for name in ("score", "own", "first") if fused else ("score",):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("document", no_wrap=True)
    table.add_column("best sentence" if result.units else "text", no_wrap=True, ratio=1)
    for place, ranked in enumerate(result.results, 1):
        numbers = [ranked.score, ranked.own, ranked.first] if fused else [ranked.score]
        table.add_row(
            str(place), *map(_number, numbers), _label(ranked, result), _snippet(ranked, result)
        )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _label(ranked: Ranked, result: Reranked) -> Text:
    passage = result.passages[ranked.index]
    name = passage.id or passage.title or f"document {ranked.index + 1}"
    # the end of a path tells files apart; --json has names whole
    return Text(shown(name if len(name) <= _LABEL_CHARS else f"…{name[1 - _LABEL_CHARS :]}"))


def _snippet(ranked: Ranked, result: Reranked) -> Text:
    text = result.passages[ranked.index].text
    best = best_unit(ranked.index, result)
    said = text if best is None else text[slice(*result.units[best].visible)]
    return Text(shown(" ".join(said[:_SNIPPET_CHARS].split())), overflow="ellipsis")


def totals(result: Reranked) -> str:
    """What it took, in a line."""
    seconds = result.timings_ms.get("total", 0.0) / 1e3
    return (
        f"{len(result.passages)} documents, {result.tokens_read:,} tokens read in "
        f"{result.windows} windows, {seconds:.1f} s, {result.method}"
    )
