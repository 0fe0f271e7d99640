"""Readings that heads are scored by, kept on disk: one entry per record and way of scoring.

They depend on the proxy and the record alone, so another way of scoring may cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from tamis.probes.probing.heads import HeadScoring
from tamis_lab.datasets.reading_store import Entry, ReadingStore, StoreKey
from tamis_lab.datasets.records import Record, record_id
from tamis_lab.train.heads.cases import (
    HeadCase,
    build_head_case,
    read_calibrated_mass,
    read_copying,
    read_document_masses,
)
from tamis_lab.train.heads.needle import build_needle_case, read_needle_mass

BuildCase = Callable[[Record, Any, int], HeadCase]
ReadCase = Callable[[HeadCase, Any], dict[str, Tensor]]
READINGS: dict[str, tuple[BuildCase, ReadCase]] = {
    "needle": (build_needle_case, read_needle_mass),
    "contrast": (build_head_case, read_document_masses),
    "qr": (build_head_case, read_calibrated_mass),
    "copy": (build_head_case, read_copying),
}
"""By way of scoring: how a record becomes a prompt, and what is read; `probe` reads nothing."""
VERSION = 2
"""Raised whenever what is read changes: kept readings of an earlier version are not used."""


class HeadReadings:
    """Kept readings of one proxy, with prompts of at most so many tokens."""

    def __init__(self, folder: Path, reader: Any, most_tokens: int) -> None:
        self._reader, self._most_tokens = reader, most_tokens
        card = reader.card
        options = f"{card.layers} layers, {card.heads} heads, prompts of {most_tokens} tokens"
        key = StoreKey.of_reader("heads", reader, options, VERSION)
        self._store = ReadingStore(folder, key)

    def get_or_read(self, record: Record, by: HeadScoring) -> dict[str, Tensor]:
        """The kept reading of a record, or a new one, kept; empty where nothing can be read."""
        build, read = READINGS[by]

        def read_record() -> Entry:
            return Entry(read(build(record, self._reader, self._most_tokens), self._reader), {})

        return dict(self._store.get_or_compute(_identity(record, by), read_record).tensors)


def _identity(record: Record, by: HeadScoring) -> list[Any]:
    # the id draws the order of the documents, the spans say which answer is looked for
    drawn = [record_id(record), record["question"], record["docs"], record.get("answer_spans")]
    return [by, *drawn]
