"""The plan of a batch: its settings, its input files, and the parts that they are cut into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tamis.service.batch.row_writer import Columns
from tamis.service.batch.survey import BatchPart, FileSurvey
from tamis.service.files.input_files import InputFile


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """The content of manifest and plan.

    Attributes:
        settings: those that a rerun must share; see `resume_settings`.
        sources: the input files. inputs: name, rows, SHA-256 and stamp of each of them.
        suffix: of the parts' files, without a dot.
        columns: of a Parquet output whose input is text.
    """

    settings: Mapping[str, Any]
    sources: tuple[InputFile, ...]
    inputs: tuple[Mapping[str, Any], ...]
    parts: tuple[BatchPart, ...]
    suffix: str
    columns: Columns = ()
    rows: int = field(default=0)

    @classmethod
    def from_surveys(
        cls,
        settings: Mapping[str, Any],
        surveys: Sequence[FileSurvey],
        suffix: str,
        columns: Columns,
    ) -> BatchPlan:
        """The plan for input files that were surveyed."""
        inputs = tuple(
            {"name": s.source.url, "rows": s.rows, "sha256": s.sha256, "stamp": s.stamp}
            for s in surveys
        )
        parts = tuple(part for s in surveys for part in s.parts)
        sources = tuple(s.source for s in surveys)
        rows = sum(s.rows for s in surveys)
        return cls(settings, sources, inputs, parts, suffix, columns, rows)

    def part_file(self, part: BatchPart) -> str:
        """The name of a part's file."""
        return f"{part.stem}.{self.suffix}"

    def shard_parts(self, index: int, count: int) -> list[BatchPart]:
        """Every `count`-th part; `index` counts from 1."""
        return [part for part in self.parts if part.index % count == index - 1]
