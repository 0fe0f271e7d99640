"""Readings of cases, kept on disk: what a proxy read of a case serves every method and refit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from tamis.compressors.method import CaseReader
from tamis.compressors.reading.windows import Reading, question_sentences
from tamis.probes.text import Passage, Unit
from tamis_lab.datasets.reading_store import Entry, ReadingStore, StoreKey


def store_key(method: CaseReader, kind: str = "features") -> StoreKey:
    """Everything that a method's readings depend on, apart from the case itself.

    Args:
        kind: what is kept; readings of different kinds are kept apart.
    """
    options = f"{type(method).__name__} {method.reading_key}"
    return StoreKey.of_reader(kind, method.reader, options)


def case_identity(question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> list[Any]:
    """What tells a case from any other: question, titles and texts, and the units' spans.

    Of a question of several sentences also theirs, on which the reading depends.
    """
    texts = [[passage.title, passage.text] for passage in passages]
    sentences = question_sentences(question)
    asked = [question, sentences] if len(sentences) > 1 else question
    return [asked, texts, [[unit.passage, *unit.visible] for unit in units]]


class CaseReadings:
    """Kept readings of cases. Features are rounded to fp16; `tokens_cached` is not kept."""

    def __init__(self, folder: Path, key: StoreKey) -> None:
        self._store = ReadingStore(folder, key)

    def get(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> Reading | None:
        """The kept reading of a case; None if there is none."""
        entry = self._store.get(case_identity(question, passages, units))
        return None if entry is None else _to_reading(entry)

    def put(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit], reading: Reading
    ) -> Reading:
        """Keeps a reading, and returns it as a later run will find it."""
        entry = _to_entry(reading)
        identity = case_identity(question, passages, units)
        return _to_reading(self._store.put(identity, entry.tensors, entry.facts))

    def get_or_read(
        self,
        question: str,
        passages: Sequence[Passage],
        units: Sequence[Unit],
        read: Callable[[str, Sequence[Passage], Sequence[Unit]], Reading],
    ) -> Reading:
        """The kept reading of a case, or a new one, kept."""
        kept = self.get(question, passages, units)
        if kept is not None:
            return kept
        return self.put(question, passages, units, read(question, passages, units))


def _to_entry(reading: Reading) -> Entry:
    tensors = {
        "features": reading.features.half(),
        "tokens": torch.tensor(reading.tokens, dtype=torch.int32),
    }
    if reading.cosines is not None:
        tensors["cosines"] = reading.cosines
    if reading.depths is not None:
        tensors["depths"] = torch.tensor(reading.depths, dtype=torch.int32)
    facts = {
        "windows": reading.windows,
        "layers": reading.layers,
        "tokens_read": reading.tokens_read,
        "timings_ms": reading.timings_ms,
    }
    return Entry(tensors, facts)


def _to_reading(entry: Entry) -> Reading:
    depths = entry.tensors.get("depths")
    return Reading(
        entry.tensors["features"].float(),
        tuple(entry.tensors["tokens"].tolist()),
        **entry.facts,
        cosines=entry.tensors.get("cosines"),
        depths=None if depths is None else tuple(depths.tolist()),
    )
