"""Signals of single prompts, kept on disk: an hour of reading survives being cut short."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tamis.probes.prompt import Prompt
from tamis.probes.signal import Signal, Want
from tamis_lab.datasets.reading_store import Entry, ReadingStore, StoreKey


@dataclass(frozen=True, slots=True)
class TimedSignal:
    """A signal, rounded to bfloat16 (three digits), and the milliseconds that reading it took."""

    signal: Signal
    ms: float


class SignalReadings:
    """Kept signals of one reader's model, revision, dtype and template."""

    def __init__(self, folder: Path, reader: Any) -> None:
        self._store = ReadingStore(folder, StoreKey.of_reader("signals", reader))

    def get(self, prompt: Prompt, want: Want) -> TimedSignal | None:
        """The kept signal of a prompt; None if there is none."""
        entry = self._store.get(_identity(prompt, want))
        return None if entry is None else _to_signal(entry, want)

    def put(self, prompt: Prompt, want: Want, signal: Signal, ms: float) -> TimedSignal:
        """Keeps a signal, and returns it as a later run will find it."""
        tensors = {"weights": signal.weights.bfloat16()}
        return _to_signal(self._store.put(_identity(prompt, want), tensors, {"ms": ms}), want)


def _identity(prompt: Prompt, want: Want) -> Sequence[Any]:
    read, ask = prompt.passage, prompt.question
    sentences = [ask.sentences] if "sentence_means" in want.rows else []
    asked = [ask.ids, ask.first_row, *sentences]
    return [read.ids, read.title_tokens, *asked, want.layers, want.rows]


def _to_signal(entry: Entry, want: Want) -> TimedSignal:
    return TimedSignal(
        Signal(entry.tensors["weights"].float(), want.layers, want.rows), entry.facts["ms"]
    )
