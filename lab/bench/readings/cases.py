"""Labelled questions as every reading sees them: one pass a window for all, kept on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tamis.compressors.options import check_values
from tamis.compressors.reading.windows import WINDOW_TOKENS, Window, split_windows
from tamis.probes.probing.heads import Head, HeadProfile
from tamis.probes.text import Unit
from tamis_lab.bench.evidence.panel import parse_method_spec
from tamis_lab.datasets.reading_store import Entry, ReadingStore, StoreKey, case_identity
from tamis_lab.datasets.record_files import RecordFile, ReportProgress
from tamis_lab.datasets.records import Record, gold_labels, passages_of, request_units
from tamis_lab.methods.registry import READINGS
from tamis_lab.methods.window_attention.contract import Reading
from tamis_lab.methods.window_attention.passes import read_window

VERSION = 1
"""Raised whenever what a reading returns changes; what was kept before is then read again."""
HEADS = 8
"""The heads of the contrast profile that unfitted scores are also averaged over."""


@dataclass(frozen=True, slots=True)
class ReadingCase:
    """One question, read in every way.

    Attributes:
        source: the name of its file. gold: which units answer it, `[U]`.
        tokens: proxy tokens of each unit.
        features: by reading `[U, F]` in logarithms. scores: by reading `[U, 2]` without any fit,
            by the mean of all heads and of the profile's best.
    """

    record: Record
    source: str
    units: tuple[Unit, ...]
    gold: Tensor
    tokens: tuple[int, ...]
    features: Mapping[str, Tensor]
    scores: Mapping[str, Tensor]


class CaseReader:
    """Reads questions in several ways with one proxy; what is kept is not read again."""

    def __init__(self, reader: Any, names: Sequence[str], layers: int, folder: Path) -> None:
        """Readings by their names and options, such as `zero:gamma=0.2`.

        Args:
            reader: a `Proxy`. layers: how many are read, from the first.

        Raises:
            UnknownMethod: no such reading. BadInput: an option that it does not have.
        """
        self.reader, self.layers = reader, tuple(range(layers))
        self.readings: dict[str, Reading] = {}
        for name in names:
            kind, options = parse_method_spec(name)
            reading = READINGS.load(kind)
            check_values(kind, reading, options)
            self.readings[name] = reading(reader, **options)
        self.heads = profile_heads(reader.card.name, layers)
        self._stores = {
            name: ReadingStore(folder, StoreKey.of_reader("windows", reader, options, VERSION))
            for name in names
            for options in [f"{name}, {layers} layers, heads {self.heads}"]
        }

    def read(
        self, file: RecordFile, records: Sequence[Record], report: ReportProgress
    ) -> Iterator[ReadingCase]:
        """The cases of some records of a file, in order."""
        for done, record in enumerate(records, 1):
            yield self._read_case(record, file.name)
            report(file.name, done, len(records))

    def _read_case(self, record: Record, source: str) -> ReadingCase:
        passages, units = passages_of(record), request_units(record)
        identity = case_identity(record["question"], passages, units)
        kept = {name: store.get(identity) for name, store in self._stores.items()}
        windows = split_windows(self.reader.layout, passages, units, WINDOW_TOKENS)
        if missing := [name for name, entry in kept.items() if entry is None]:
            for name, entry in self._read_windows(record["question"], windows, missing).items():
                kept[name] = self._stores[name].put(identity, entry.tensors, entry.facts)
        found = {name: entry.tensors for name, entry in kept.items() if entry is not None}
        return ReadingCase(
            record,
            source,
            tuple(units),
            torch.tensor(gold_labels(record, units)),
            tuple(b - a for window in windows for a, b in window.tokens.unit_spans),
            {name: tensors["features"].float() for name, tensors in found.items()},
            {name: tensors["scores"] for name, tensors in found.items()},
        )

    def _read_windows(
        self, question: str, windows: Sequence[Window], names: Sequence[str]
    ) -> dict[str, Entry]:
        """Features and scores of all windows, end to end, of the readings that are not kept."""
        wanted = {name: self.readings[name] for name in names}
        features: dict[str, list[Tensor]] = {name: [] for name in names}
        scores: dict[str, list[Tensor]] = {name: [] for name in names}
        for window in windows:
            seen = read_window(self.reader, window.tokens, question, self.layers, wanted)
            spans = window.tokens.unit_spans
            for name, reading in wanted.items():
                one = seen[name]
                features[name].append(reading.pool(one, spans).half())
                both = [reading.score(one, spans, heads) for heads in (None, self.heads)]
                scores[name].append(torch.stack(both, 1).float())
        return {
            name: Entry(
                {
                    "features": torch.cat(features[name]).contiguous(),
                    "scores": torch.cat(scores[name]),
                },
                {},
            )
            for name in names
        }

    def cost_ms(self, case: ReadingCase) -> dict[str, float]:
        """Processor time of each reading alone, per 1,000 tokens of the case, in milliseconds.

        Process time, so that other programs on the machine do not count.
        """
        passages = passages_of(case.record)
        windows = split_windows(self.reader.layout, passages, case.units, WINDOW_TOKENS)
        tokens = sum(len(window.tokens.ids) for window in windows)
        costs = {}
        for name in self.readings:
            clock = time.process_time()
            self._read_windows(case.record["question"], windows, [name])
            costs[name] = round((time.process_time() - clock) * 1e6 / tokens, 1)
        return costs


def profile_heads(model: str, layers: int, by: str = "contrast") -> tuple[Head, ...] | None:
    """The best heads of a shipped profile within the layers that are read; None without one."""
    if not HeadProfile.is_shipped(by, model):
        return None
    return heads_within(HeadProfile.load_shipped(by, model), layers)


def heads_within(profile: HeadProfile, layers: int) -> tuple[Head, ...]:
    """The best heads of a profile among the first layers."""
    every = profile.best(profile.layers * profile.heads)
    return tuple(head for head in every if head[0] < layers)[:HEADS]
