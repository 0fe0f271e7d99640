"""Where the scores of a case come from: a method, its kept reading, or its kept scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from tamis.compressors import registry
from tamis.compressors.method import MethodInfo, Scorer, ranks_from_scores
from tamis.compressors.types import Ranks, Scores
from tamis.probes.errors import ProxyMissing
from tamis.probes.hub import zoo
from tamis.probes.model.encoder import CachedEncoder
from tamis.text.types import Passage, Unit
from tamis_lab.datasets.reading_store import CaseReadings, ReadingStore, StoreKey, case_identity

DATASET_VECTOR_BYTES = 512 << 20
"""Of vectors that are kept while a data set is read: it repeats its passages."""


@dataclass(frozen=True, slots=True)
class TimedScores:
    """The scores of one case.

    Attributes:
        ms: what scoring took when the model ran. cached: whether that was before this run, or only
            in part in it.
    """

    scores: Scores
    ms: float
    cached: bool = False


class ScoreSource(Protocol):
    """Whatever scores a case and says how long it took."""

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """The scores of every unit."""
        ...


class TimedSource:
    """A method as it is, timed."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """Scores the case now."""
        clock = time.perf_counter()
        scores = self.scorer.scores(question, passages, units)
        return TimedScores(scores, (time.perf_counter() - clock) * 1e3)


class SourceScorer:
    """A source as a scorer, so that a compressor can select by kept readings."""

    def __init__(self, info: MethodInfo, source: ScoreSource) -> None:
        self.info, self.source = info, source

    def scores(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Scores:
        """The scores of every unit, from this run or an earlier one."""
        return self.source.score_case(question, passages, units).scores

    def rank(self, question: str, passages: Sequence[Passage], units: Sequence[Unit]) -> Ranks:
        """Passages by their best unit."""
        return ranks_from_scores(self.scores(question, passages, units))

    def coverage_threshold(self, coverage: float, cautious: bool = False) -> float | None:
        """None: a source knows no calibration."""
        return None


class TwoStepSource:
    """A method that reads and scores in two steps; its readings are kept, with their times."""

    def __init__(self, method: Any, readings: CaseReadings) -> None:
        """`method` is a `ReadingScorer`."""
        self.method, self.readings = method, readings

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """Scores the reading of the case, of this run or an earlier one."""
        case = question, passages, units
        kept = self.readings.get(*case)
        reading = kept if kept is not None else self.readings.put(*case, self.method.read(*case))
        clock = time.perf_counter()
        scores = self.method.score_reading(reading, *case)
        scoring_ms = (time.perf_counter() - clock) * 1e3
        ms = scoring_ms + sum(reading.timings_ms.values())
        return TimedScores(scores, ms, cached=kept is not None)


class EmbeddingSource:
    """The embedding method over a `CachedEncoder`."""

    def __init__(self, scorer: Scorer, encoder: CachedEncoder) -> None:
        """`scorer` encodes with `encoder`."""
        self._timed, self._encoder = TimedSource(scorer), encoder

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """Scores the case; cached where some of its texts had been encoded before."""
        before = self._encoder.repeats
        scored = self._timed.score_case(question, passages, units)
        return TimedScores(scored.scores, scored.ms, cached=self._encoder.repeats > before)


class StoredSource:
    """A source whose scores are kept on disk in fp64, with the time they took."""

    def __init__(self, source: ScoreSource, folder: Path, key: StoreKey) -> None:
        """`key` names everything that the scores depend on, apart from the case."""
        self.source = source
        self._store = ReadingStore(folder, key)

    def score_case(
        self, question: str, passages: Sequence[Passage], units: Sequence[Unit]
    ) -> TimedScores:
        """The values of an earlier run, else whatever the source says."""
        identity = case_identity(question, passages, units)
        if (entry := self._store.get(identity)) is not None:
            values, passage_values = (
                tuple(entry.tensors[name].tolist()) for name in ("values", "passages")
            )
            return TimedScores(Scores(values, passage_values), entry.facts["ms"], cached=True)
        scored = self.source.score_case(question, passages, units)
        tensors = {
            "values": torch.tensor(scored.scores.values, dtype=torch.float64),
            "passages": torch.tensor(scored.scores.passages, dtype=torch.float64),
        }
        self._store.put(identity, tensors, {"ms": scored.ms})
        return scored


def encoder_source(
    folder: Path, name: str = "embedding", method: str = "embedding", **options: Any
) -> StoredSource:
    """A method over the default encoder: each text is encoded once, and scores are kept on disk.

    Args:
        name: what the scores are kept under, the method's options included.

    Raises:
        ProxyMissing: the encoder is not on this machine.
    """
    scorer = registry.build_method(method, **options)
    cached = scorer.encoder = CachedEncoder(scorer.encoder, DATASET_VECTOR_BYTES)
    encoder = registry.DEFAULT_ENCODER
    key = StoreKey("scores", encoder, zoo.ZOO[encoder].revision, options=name)
    return StoredSource(EmbeddingSource(scorer, cached), folder, key)


def installed_encoder_source(folder: Path) -> StoredSource | None:
    """The cosines of the default encoder; None where it is not on this machine."""
    try:
        return encoder_source(folder)
    except ProxyMissing:
        return None
