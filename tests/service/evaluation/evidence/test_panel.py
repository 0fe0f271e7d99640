"""Many methods over one case: each model asked once, nothing lost between runs."""

from __future__ import annotations

import pytest
import torch

from tamis.compressors.method import best_unit_scores
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.methods.lead import Lead
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.reading.windows import Reading
from tamis.compressors.types import Scores
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage
from tamis.service.datasets.case_readings import CaseReadings
from tamis.service.datasets.score_sources import (
    CachedEncoder,
    EmbeddingSource,
    StoredSource,
    TimedScores,
    TimedSource,
    TwoStepSource,
)
from tamis.service.evaluation.evidence.panel import (
    BLENDS,
    Panel,
    blend_scores,
    build_panel,
    parse_method_spec,
    source_names,
)
from tests.probes import tiny
from tests.probes.tiny import one_thread  # noqa: F401

PASSAGES = [
    Passage("Ann lives in Rome. Bob left."),
    Passage("Rome is old. Ann is not.", title="Rome"),
]
UNITS = units_of(PASSAGES)
CASE = ("Where does Ann live?", PASSAGES, UNITS)


class Counted:
    """A source that says how often it was asked."""

    def __init__(self, *values: float, ms: float = 1.0, cached: bool = False) -> None:
        self.scores = Scores(values, best_unit_scores(values, UNITS, len(PASSAGES)))
        self.ms, self.cached, self.asked = ms, cached, 0

    def score_case(self, *case):
        self.asked += 1
        return TimedScores(self.scores, self.ms, self.cached)


def test_a_panel_asks_each_source_once_however_many_blends_it_is_in():
    sources = {name: Counted(1, 2, 3, 4) for name in ("question_rows", "lexical", "embedding")}
    seen = Panel(["question_rows", "fusion", "bm25+minilm"], sources).score_case(*CASE)
    assert list(seen) == ["question_rows", "fusion", "bm25+minilm"]
    assert [source.asked for source in sources.values()] == [1, 1, 1]


def test_a_blend_scores_as_fusion_does():
    parts = {"lexical": Lexical(), "lead": Lead()}
    weights = {"lexical": 0.1, "lead": 2.0}
    expected = Fusion(parts, weights).scores(*CASE)
    seen = {name: TimedSource(part).score_case(*CASE) for name, part in parts.items()}
    got = blend_scores(seen, weights, PASSAGES, UNITS)
    assert got.scores.values == pytest.approx(expected.values)
    assert got.scores.passages == pytest.approx(expected.passages)


def test_a_blend_takes_as_long_as_its_parts_and_is_cached_if_one_is():
    fast, slow = Counted(1, 2, 3, 4, ms=2.0), Counted(1, 2, 3, 4, ms=5.0, cached=True)
    seen = {"fast": fast.score_case(), "slow": slow.score_case(), "other": slow.score_case()}
    got = blend_scores(seen, {"fast": 1.0, "slow": 1.0}, PASSAGES, UNITS)
    assert (got.ms, got.cached) == (7.0, True)


def test_sources_are_the_parts_of_blends_and_each_is_built_once():
    assert source_names(["fusion", "lexical", "bm25+minilm", "lead"]) == [
        *BLENDS["fusion"],
        "lead",
    ]


def test_a_method_that_is_not_there_is_named_before_any_model_is_loaded(tmp_path):
    with pytest.raises(UnknownMethod, match="did you mean 'lexical'"):
        build_panel(["question_rows", "lexicl"], "no-such-proxy", tmp_path)


def test_methods_that_read_nothing_are_built_without_any_model(tmp_path):
    models = build_panel(["lexical", "lead"], "no-such-proxy", tmp_path)
    assert models.proxies == ()
    assert models.panel.score_case(*CASE)["lead"].scores == Lead().scores(*CASE)


def test_a_name_may_carry_options_and_stands_in_the_table_as_it_was_written(tmp_path):
    assert parse_method_spec("infiniretri:form=independent:heads=16") == (
        "infiniretri",
        {"form": "independent", "heads": 16},
    )
    models = build_panel(["lexical", "lead"], "no-such-proxy", tmp_path)
    assert models.panel.names == ("lexical", "lead")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("icr", "method of reranking"),
        ("edges", "method of ordering"),
        ("infiniretri:heads", "infiniretri:option=value"),
        ("infiniretri:colour=red", "no option"),
    ],
)
def test_what_scores_no_sentences_or_has_no_such_option_is_refused(name, said):
    with pytest.raises(BadInput, match=said):
        source_names([name])


def test_one_method_with_other_options_is_another_source_with_its_own_files(tmp_path):
    folder = tiny.save("llama", tmp_path / "llama")
    names = ["raw_attention", "raw_attention:sigma=0", "infiniretri", "infiniretri:top_k=1"]
    for cached in (False, True):
        seen = build_panel(names, str(folder), tmp_path / "kept").panel.score_case(*CASE)
        assert list(seen) == names
        assert [one.cached for one in seen.values()] == [cached] * 4
    values = {one.scores.values for one in seen.values()}
    assert len(values) == 4


class Looking:
    """A method that looks and judges, with features that fp16 cannot hold."""

    def __init__(self) -> None:
        self.looked = 0

    def read(self, question, passages, units):
        self.looked += 1
        features = torch.linspace(0.1, 0.7, len(units))[:, None]
        return Reading(features, (1,) * len(units), 1, 10, {"tokenize": 2.0, "read": 40.0})

    def score_reading(self, look, question, passages, units):
        values = tuple(look.features[:, 0].tolist())
        return Scores(values, best_unit_scores(values, units, len(passages)))


def test_a_reading_on_disk_serves_a_later_run_with_the_same_scores_and_the_time_it_took(tmp_path):
    method = Looking()
    first = TwoStepSource(method, CaseReadings(tmp_path, "key")).score_case(*CASE)
    again = TwoStepSource(method, CaseReadings(tmp_path, "key")).score_case(*CASE)
    assert method.looked == 1
    assert again.scores.values == first.scores.values
    assert (first.cached, again.cached) == (False, True)
    assert 42 <= again.ms < 1042


def test_scores_on_disk_serve_a_later_run_unchanged(tmp_path):
    source = Counted(0.1, 1 / 3, -2.0, 1e-17, ms=12.5)
    first = StoredSource(source, tmp_path, "key").score_case(*CASE)
    again = StoredSource(source, tmp_path, "key").score_case(*CASE)
    assert source.asked == 1
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
    source = Counted(1, 2, 3, 4)
    filed = StoredSource(source, tmp_path, "key")
    filed.score_case(*CASE)
    filed.score_case(*other)
    assert source.asked == 2


def test_scores_on_disk_are_of_that_key(tmp_path):
    source = Counted(1, 2, 3, 4)
    StoredSource(source, tmp_path, "encoder at one revision").score_case(*CASE)
    StoredSource(source, tmp_path, "encoder at another").score_case(*CASE)
    assert source.asked == 2


class Lengths:
    """An encoder whose vector of a text is its length; it keeps what it was given."""

    def __init__(self) -> None:
        self.given: list[str] = []

    def encode(self, texts):
        self.given += texts
        return torch.tensor([[float(len(text))] for text in texts])


def test_a_text_is_encoded_once_and_vectors_keep_the_order_of_the_texts():
    vectors = CachedEncoder(encoder := Lengths())
    assert vectors.encode(["aa", "b", "aa"]).flatten().tolist() == [2, 1, 2]
    assert vectors.encode(["ccc", "b"]).flatten().tolist() == [3, 1]
    assert encoder.given == ["aa", "b", "ccc"]


def test_a_case_with_texts_encoded_before_is_said_to_be_cached():
    class Asks:
        def scores(self, question, passages, units):
            vectors.encode([question, *(passage.text for passage in passages)])
            return Scores((1.0,) * len(units), (1.0,) * len(passages))

    vectors = CachedEncoder(Lengths())
    source = EmbeddingSource(Asks(), vectors)
    assert not source.score_case(*CASE).cached
    assert source.score_case("Who left?", PASSAGES, UNITS).cached
