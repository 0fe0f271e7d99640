"""Where the scores of a case come from: a method, what it saw earlier, or what it said earlier."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tamis.compressors.method import Scorer
from tamis.compressors.reading.windows import Reading
from tamis.compressors.types import Scores
from tamis.probes.text import Passage, Unit
from tamis.service.datasets.case_readings import Looks, part_of


@dataclass(frozen=True, slots=True)
class Seen:
    """One case, scored.

    Attributes:
        ms: what scoring took when its model was asked. cached: whether that was before this run,
            or only in part now.
    """

    scores: Scores
    ms: float
    cached: bool = False


class Source(Protocol):
    """Whatever scores a case and says how long it took."""

    def see(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Seen:
        """The scores of every unit."""
        ...


class Timed:
    """A method as it is, against the clock."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def see(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Seen:
        """Scores the case now."""
        clock = time.perf_counter()
        scores = self.scorer.scores(question, passages, units)
        return Seen(scores, (time.perf_counter() - clock) * 1e3)


class Stored:
    """A method that looks and judges; what it saw is kept on disk, with the time that took."""

    def __init__(self, method: Any, looks: Looks) -> None:
        self.method, self.looks = method, looks

    def see(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Seen:
        """Judges what was seen of the case, now or in an earlier run."""
        fresh: list[Reading] = []

        def look(*case: Any) -> Reading:
            fresh.append(self.method.read(*case))
            return fresh[0]

        seen = self.looks.get(question, passages, units, look)
        clock = time.perf_counter()
        scores = self.method.score_reading(seen, question, passages, units)
        judged = (time.perf_counter() - clock) * 1e3
        return Seen(scores, judged + sum(seen.timings_ms.values()), cached=not fresh)


class Vectors:
    """An encoder that encodes each text once: data sets repeat their passages."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        self.repeats = 0
        self._known: dict[str, Tensor] = {}

    def encode(self, texts: Sequence[str]) -> Tensor:
        """Vectors in the order of the texts, `[N, D]`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        self.repeats += len(texts) - len(new)
        if new:
            self._known.update(zip(new, self.encoder.encode(new), strict=True))
        return torch.stack([self._known[text] for text in texts])


class Remembered:
    """The embedding method over `Vectors`."""

    def __init__(self, scorer: Scorer, vectors: Vectors) -> None:
        self.timed, self.vectors = Timed(scorer), vectors

    def see(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Seen:
        """Scores the case; cached where some of its texts had been encoded before."""
        before = self.vectors.repeats
        seen = self.timed.see(question, passages, units)
        return Seen(seen.scores, seen.ms, cached=self.vectors.repeats > before)


class Filed:
    """A source whose scores are kept on disk, a small JSON file a case, with the time they took."""

    def __init__(self, source: Source, folder: Path, key: str) -> None:
        """`key` names all that scores depend on, beside the case."""
        self.source = source
        self.folder = part_of(folder, key)
        (self.folder / "key.txt").write_text(key, "utf8")

    def see(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Seen:
        """The scores of an earlier run, else of the source."""
        path = self.folder / f"{_digest(question, passages, units)}.json"
        if path.is_file():
            row = json.loads(path.read_text("utf8"))
            return Seen(Scores(tuple(row["values"]), tuple(row["passages"])), row["ms"], True)
        seen = self.source.see(question, passages, units)
        row = {"values": seen.scores.values, "passages": seen.scores.passages, "ms": seen.ms}
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(json.dumps(row), "utf8")
        os.replace(part, path)
        return seen


def _digest(question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> str:
    texts, spans = [[p.title, p.text] for p in passages], [[u.passage, *u.visible] for u in units]
    return hashlib.sha256(json.dumps([question, texts, spans]).encode()).hexdigest()[:24]
