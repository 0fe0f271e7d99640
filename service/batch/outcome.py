"""The result of a row: the fields that are added to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tamis.compressors.types import Compressed
from tamis.service.batch.job import OUTPUT_FIELDS, BatchJob


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """The fields that are added to a row.

    Attributes:
        spans: for every kept sentence its document (from 0), its half-open code-point span in that
            document's text, and its score; null where the context fitted and nothing was scored.
        scores: one per document; empty where nothing was scored.
        status: `ok`, `passthrough`, `unanswerable` or `error`.
        answerability: the probability that the documents hold an answer, if known.
        warnings: what the caller should know of the result.
    """

    compressed: str | None = None
    spans: tuple[Mapping[str, Any], ...] = ()
    scores: tuple[float, ...] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None
    status: str = "error"
    answerability: float | None = None
    warnings: tuple[str, ...] = ()
    error: str | None = None

    @classmethod
    def from_compressed(cls, result: Compressed) -> RowOutcome:
        """The outcome of a compression."""
        scored = bool(result.scores)
        spans = (
            {
                "document": kept.passage,
                "start": kept.start,
                "end": kept.stop,
                "score": kept.score if scored else None,
            }
            for kept in result.kept
        )
        return cls(
            result.text,
            tuple(spans),
            tuple(result.passage_scores),
            result.tokens_in,
            result.tokens_out,
            result.status,
            result.answerability,
            result.warnings,
        )

    def output_fields(self, job: BatchJob) -> dict[str, Any]:
        """Names and values of the added fields, in the order of `OUTPUT_FIELDS`."""
        return {job.field_name(name): getattr(self, name) for name in OUTPUT_FIELDS}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], job: BatchJob) -> RowOutcome:
        """The outcome in a row that was written; the inverse of `output_fields`."""
        values: dict[str, Any] = {name: row.get(job.field_name(name)) for name in OUTPUT_FIELDS}
        for name in ("spans", "scores", "warnings"):
            values[name] = tuple(values[name] or ())
        return cls(**values)
