"""Where scores come from: a model runs once for a case, and later runs score the same."""

from __future__ import annotations

import pytest
import torch

from tamis.compressors.method import best_unit_scores
from tamis.compressors.methods.lead import Lead
from tamis.compressors.reading.windows import Reading
from tamis.compressors.types import Scores
from tamis.probes.model.encoder import CachedEncoder
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tamis_lab.datasets.reading_store import CaseReadings, StoreKey
from tamis_lab.datasets.score_sources import (
    EmbeddingSource,
    SourceScorer,
    StoredSource,
    TimedScores,
    TwoStepSource,
)

PASSAGES = [
    Passage("Ann lives in Rome. Bob left."),
    Passage("Rome is old. Ann is not.", title="Rome"),
]
UNITS = units_of(PASSAGES)
CASE = ("Where does Ann live?", PASSAGES, UNITS)
KEY = StoreKey("scores", "minilm", "r1")


class CountingSource:
    """A source that counts its calls."""

    def __init__(self, *values: float, ms: float = 1.0) -> None:
        self.scores = Scores(values, best_unit_scores(values, UNITS, len(PASSAGES)))
        self.ms, self.calls = ms, 0

    def score_case(self, *case):
        self.calls += 1
        return TimedScores(self.scores, self.ms)


class CountingMethod:
    """A method of two steps, with features that fp16 cannot hold."""

    def __init__(self) -> None:
        self.reads = 0

    def read(self, question, passages, units):
        self.reads += 1
        features = torch.linspace(0.1, 0.7, len(units))[:, None]
        return Reading(features, (1,) * len(units), 1, 10, {"tokenize": 2.0, "read": 40.0})

    def score_reading(self, reading, question, passages, units):
        values = tuple(reading.features[:, 0].tolist())
        return Scores(values, best_unit_scores(values, units, len(passages)))


def test_a_reading_on_disk_serves_a_later_run_with_the_same_scores_and_the_time_it_took(tmp_path):
    method = CountingMethod()
    first, again = (
        TwoStepSource(method, CaseReadings(tmp_path, KEY)).score_case(*CASE) for _ in range(2)
    )
    assert method.reads == 1
    assert again.scores.values == first.scores.values
    assert (first.cached, again.cached) == (False, True)
    assert 42 <= again.ms < 1042


def test_scores_on_disk_serve_a_later_run_unchanged(tmp_path):
    source = CountingSource(0.1, 1 / 3, -2.0, 1e-17, ms=12.5)
    first, again = (StoredSource(source, tmp_path, KEY).score_case(*CASE) for _ in range(2))
    assert source.calls == 1
    assert again == TimedScores(first.scores, 12.5, cached=True)


@pytest.mark.parametrize(
    "other",
    [
        ("Where does Bob live?", PASSAGES, UNITS),
        (CASE[0], [PASSAGES[0], Passage(PASSAGES[1].text, title="Oslo")], UNITS),
        (CASE[0], PASSAGES, [*UNITS[:-1], UNITS[0]]),
    ],
)
def test_scores_on_disk_are_of_that_question_those_passages_and_units(tmp_path, other):
    source = CountingSource(1, 2, 3, 4)
    stored = StoredSource(source, tmp_path, KEY)
    stored.score_case(*CASE)
    stored.score_case(*other)
    assert source.calls == 2


def test_scores_on_disk_are_of_that_key(tmp_path):
    source = CountingSource(1, 2, 3, 4)
    for revision in ("r1", "r2"):
        StoredSource(source, tmp_path, StoreKey("scores", "minilm", revision)).score_case(*CASE)
    assert source.calls == 2


def test_torn_scores_are_scored_anew(tmp_path):
    source = CountingSource(1, 2, 3, 4)
    StoredSource(source, tmp_path, KEY).score_case(*CASE)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1])
    assert not StoredSource(source, tmp_path, KEY).score_case(*CASE).cached
    assert StoredSource(source, tmp_path, KEY).score_case(*CASE).cached
    assert source.calls == 2


class LengthEncoder:
    """An encoder whose vector of a text is its length; it keeps what it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def encode(self, texts):
        self.texts += texts
        return torch.tensor([[float(len(text))] for text in texts])


def test_a_text_is_encoded_once_and_vectors_keep_the_order_of_the_texts():
    cached = CachedEncoder(encoder := LengthEncoder())
    assert cached.encode(["aa", "b", "aa"]).flatten().tolist() == [2, 1, 2]
    assert cached.encode(["ccc", "b"]).flatten().tolist() == [3, 1]
    assert encoder.texts == ["aa", "b", "ccc"]


def test_a_case_with_texts_encoded_before_counts_as_cached():
    class EncodingMethod:
        def scores(self, question, passages, units):
            cached.encode([question, *(passage.text for passage in passages)])
            return Scores((1.0,) * len(units), (1.0,) * len(passages))

    cached = CachedEncoder(LengthEncoder())
    source = EmbeddingSource(EncodingMethod(), cached)
    assert not source.score_case(*CASE).cached
    assert source.score_case("Who left?", PASSAGES, UNITS).cached


def test_a_source_selects_as_a_scorer_and_says_nothing_of_coverage():
    source = CountingSource(0.1, 0.3, 0.2, 0.4)
    scorer = SourceScorer(Lead.info, source)
    assert scorer.scores(*CASE) == source.scores
    assert scorer.rank(*CASE).values == source.scores.passages
    assert scorer.coverage_threshold(0.9) is None
