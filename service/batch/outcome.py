"""What came of a row: the fields that are added to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tamis.compressors.types import Compressed
from tamis.service.batch.job import OUTPUTS, Job


@dataclass(frozen=True, slots=True)
class Outcome:
    """The added fields.

    Attributes:
        spans: of every kept sentence its document (from 0), its half-open code-point span in that
            document's text, and its score; null where the context fitted and nothing was scored.
        scores: one a document; empty where nothing was scored.
        status: `ok`, `passthrough` or `error`.
    """

    compressed: str | None = None
    spans: tuple[Mapping[str, Any], ...] = ()
    scores: tuple[float, ...] = ()
    tokens_in: int | None = None
    tokens_out: int | None = None
    status: str = "error"
    error: str | None = None

    @classmethod
    def of(cls, result: Compressed) -> Outcome:
        """A compression as a row shows it."""
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
        )

    def fields(self, job: Job) -> dict[str, Any]:
        """Names and values of the added fields, in their order."""
        return {job.name(name): getattr(self, name) for name in OUTPUTS}

    @classmethod
    def from_row(cls, row: Mapping[str, Any], job: Job) -> Outcome:
        """The way back, from a row that was written."""
        told: dict[str, Any] = {name: row.get(job.name(name)) for name in OUTPUTS}
        told["spans"], told["scores"] = tuple(told["spans"] or ()), tuple(told["scores"] or ())
        return cls(**told)
