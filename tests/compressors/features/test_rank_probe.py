"""How question_rows ranks whole documents: features, weights, and when no rank probe is used."""

from __future__ import annotations

import math

import pytest
import torch

from tamis.compressors.features import likeness as likeness_module
from tamis.compressors.features import rank_probe as rank_probe_module
from tamis.compressors.features.likeness import (
    BOTH,
    BOTH_E5,
    BOTH_GEMMA,
    E5,
    ENGLISH,
    GEMMA,
    MULTILINGUAL,
)
from tamis.compressors.features.rank_probe import (
    RANK_WORDS,
    best_unit_means,
    first_word_column,
    passage_masses,
    rank_features,
    unit_evidence,
    word_shares,
)
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.methods.late_interaction import LateInteraction
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.reading.windows import Reading
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.text.types import Passage, Unit
from tamis.text.units.segment import units_of
from tests.laws.methods import HEADS, LAYERS, make_probe, question_probe, scripted_reader
from tests.laws.texts import NEEDLE

PASSAGES = [
    Passage(f"The weather is mild. {NEEDLE} Rain fell.", title="Drawer"),
    Passage("Bread was cheap. A loaf cost two pennies."),
    Passage("Ships came in spring."),
]
QUESTION = "Where is the needle-7 in the drawer?"
UNITS = (0.3, 0.2)


def rank_probe(reader, words=0.0):
    heads = torch.ones(LAYERS * HEADS) / 10
    weights = {
        "document": torch.cat([heads, heads / 2, torch.full((len(RANK_WORDS),), words)]),
        "units": UNITS,
        "calibration": [1.0, 0, 0, 0],
    }
    return make_probe(reader, "rank", weights)


@pytest.fixture
def method(monkeypatch):
    reader = scripted_reader()
    monkeypatch.setattr(rank_probe_module, "choose_probe", lambda *_: rank_probe(reader))
    return QuestionRows(reader, question_probe(reader))


def test_a_documents_mass_is_the_sum_over_its_units():
    """Two heads; means .1 and .2 a token of 3 and 5 tokens sum to 1.3."""
    features = torch.tensor([[0.1, 0.3], [0.2, 0.1], [0.5, 0.5]]).log().repeat(1, 2)
    reading = Reading(features, (3, 5, 2), 0, 0, {})
    got = passage_masses(reading, torch.tensor([0, 0, 2]), 3).exp()
    assert got[0].tolist() == pytest.approx([1.3, 1.4])
    assert got[2].tolist() == pytest.approx([1.0, 1.0])
    assert got[1].max() < 1e-6


def test_a_documents_best_unit_is_another_for_each_head():
    features = torch.tensor([[0.1, 0.3], [0.2, 0.1], [0.5, 0.4]]).log().repeat(1, 2)
    features[:, 2:] += 1  # the maxima of tokens play no part
    got = best_unit_means(Reading(features, (3, 5, 2), 0, 0, {}), torch.tensor([0, 0, 2]), 3).exp()
    assert got[0].tolist() == pytest.approx([0.2, 0.3])
    assert got[2].tolist() == pytest.approx([0.5, 0.4])
    assert got[1].max() < 1e-6


def test_word_features_are_shares_of_their_maximum_for_the_question():
    shares = word_shares(
        "red pins", [Passage("Red pins."), Passage("blue", title="pin"), Passage("")]
    )
    assert shares.shape == (3, 3)
    assert shares[0, 1] == pytest.approx(1)
    assert 0 < shares[1, 2] < 1
    assert shares[2].tolist() == [0, 0, 0]
    assert shares.max() <= 1


def test_evidence_adds_up_and_the_best_unit_is_log_odds():
    units = [Unit(0, 0, 1, (0, 1)), Unit(0, 1, 2, (1, 2)), Unit(1, 0, 1, (0, 1))]
    evidence = unit_evidence(torch.tensor([1.0, 1.0, 2.0]), [0.5, 0.9], units)
    assert evidence[:, 0].tolist() == pytest.approx([1 + math.log(2), 2.0])
    assert evidence[:, 1].tolist() == pytest.approx([0, math.log(9)], abs=1e-5)


def test_a_documents_score_is_its_weighed_mass_plus_the_evidence_of_its_units(method):
    units = units_of(PASSAGES)
    reading = method.read(QUESTION, PASSAGES, units)
    scores = method.score_reading(reading, QUESTION, PASSAGES, units)
    features = rank_features(QUESTION, reading, PASSAGES, units)[
        :, : first_word_column(LAYERS, HEADS)
    ]
    whole, best = features.view(len(PASSAGES), 2, -1).sum(2).unbind(1)
    first = method.first_step(reading, QUESTION, PASSAGES, units)
    evidence = unit_evidence(first, scores.passages, units)
    z = whole / 10 + best / 20 + UNITS[0] * evidence[:, 0] + UNITS[1] * evidence[:, 1]
    got = method.rank(QUESTION, PASSAGES, units)
    assert got.values == pytest.approx(torch.sigmoid(z).tolist(), abs=1e-5)
    assert got.units == scores.values
    assert got.calibrated


def test_the_document_with_the_needle_is_first_and_its_sentence_the_best(method):
    found = Reranker(method, "x").rerank(QUESTION, PASSAGES)
    assert found.results[0].index == 0
    best = max(range(len(found.units)), key=lambda u: found.scores[u])
    assert PASSAGES[0].text[slice(*found.units[best].visible)] in NEEDLE


class Likeness:
    """An encoder that finds the documents it was told of like the question."""

    def __init__(self, *like, name="e5-small"):
        self.like, self.name, self.read = like, name, []

    def interact(self, question, texts):
        self.read.append(len(texts))
        values = torch.tensor([float(any(word in text for word in self.like)) for text in texts])
        return values, values / 2

    def recall(self, texts):
        raise AssertionError("a ranking needs no vectors of units")


@pytest.mark.parametrize(
    ("encoder", "rank_encoder", "question", "weights", "acting"),
    [
        (True, False, QUESTION, ENGLISH, ["Ships"]),
        (True, False, "Où sont les clés de la maison ?", ENGLISH, ["Ships"]),
        (True, False, "针在哪里?", None, []),
        (True, True, QUESTION, BOTH, ["Ships", "Bread"]),
        (True, True, "针在哪里?", MULTILINGUAL, ["Bread"]),
        (False, True, QUESTION, MULTILINGUAL, ["Bread"]),
        (True, "embeddinggemma-300m", QUESTION, BOTH_GEMMA, ["Ships", "Bread"]),
        (True, "embeddinggemma-300m", "针在哪里?", GEMMA, ["Bread"]),
        (True, "both", QUESTION, BOTH_GEMMA, ["Ships", "Bread"]),
        (True, "both", "针在哪里?", MULTILINGUAL, ["Drawer"]),
        (True, "e5-small-english", QUESTION, BOTH_E5, ["Ships", "Bread"]),
        (True, "e5-small-english", "Où sont les clés de la maison ?", ENGLISH, ["Ships"]),
        (True, "e5-small-english", "针在哪里?", None, []),
        (False, "e5-small-english", QUESTION, E5, ["Bread"]),
        (False, False, QUESTION, None, []),
    ],
)
def test_encoders_add_to_the_log_odds_of_every_document(
    method, encoder, rank_encoder, question, weights, acting
):
    passages = PASSAGES if question == QUESTION else [Passage(question)] * 2 + [Passage("Ships")]
    units = units_of(passages)
    alone = method.rank(question, passages, units)
    method.encoder = Likeness("Ships") if encoder else None
    name = rank_encoder if rank_encoder not in (True, "both") else "e5-small"
    method.rank_encoders = (Likeness("Bread", name=name),) if rank_encoder else ()
    if rank_encoder == "both":
        larger = Likeness("Bread", name="embeddinggemma-300m")
        method.rank_encoders = (larger, Likeness("Drawer"))
    found = method.rank(question, passages, units)
    assert (found.units, found.calibrated) == (alone.units, True)
    asked = [one.like[0] for one in (method.encoder, *method.rank_encoders) if one and one.read]
    assert asked == acting
    if weights is None:
        assert found.values == alone.values
        return
    least = rank_probe_module._LEAST_LOG_ODDS
    z = weights.odds * torch.tensor(alone.values).logit().clamp_min(least) + weights.intercept
    for word, (cosine, interaction) in zip(acting, weights.encoders, strict=True):
        like = torch.tensor([float(word in passage.text) for passage in passages])
        z += like * (cosine + interaction / 2)
    assert found.values == pytest.approx(z.sigmoid().tolist(), abs=1e-6)


def test_of_a_long_list_the_proxy_reads_what_is_most_like_the_question(method, monkeypatch):
    monkeypatch.setattr(rank_probe_module, "READ_DOCUMENTS", 2)
    method.encoder = Likeness("Bread", "Drawer")
    units = units_of(PASSAGES)
    found = method.rank(QUESTION, PASSAGES, units)
    read = [unit for unit in units if unit.passage < 2]
    of_two = QuestionRows(method.reader, method.probe).rank(QUESTION, PASSAGES[:2], read)
    assert found.windows == of_two.windows
    assert found.units[: len(read)] == pytest.approx(of_two.units)
    assert set(found.units[len(read) :]) == {min(of_two.units)}
    assert max(found.values) == found.values[0]
    assert found.values[2] == min(found.values)


def test_of_a_long_list_a_second_encoder_reads_what_the_first_finds_most_alike(method, monkeypatch):
    monkeypatch.setattr(likeness_module, "ENCODE_DOCUMENTS", 2)
    second = Likeness("Drawer", "Ships")
    method.encoder, method.rank_encoders = Likeness("Bread", "Drawer"), [second]
    units = units_of(PASSAGES)
    found = method.rank(QUESTION, PASSAGES, units)
    assert (method.encoder.read, second.read) == ([len(PASSAGES)], [2])
    monkeypatch.setattr(likeness_module, "ENCODE_DOCUMENTS", len(PASSAGES))
    whole = method.rank(QUESTION, PASSAGES, units)
    assert found.values[:2] == whole.values[:2]
    cosine, interaction = BOTH.encoders[1]
    z = torch.tensor(whole.values[2]).double().logit() - cosine - interaction / 2
    assert found.values[2] == pytest.approx(float(z.sigmoid()), rel=1e-3)


@pytest.mark.parametrize(
    ("rank_encoder", "question", "weights"),
    [
        (None, QUESTION, ENGLISH),
        (None, "针在哪里?", ENGLISH),
        ("e5-small", QUESTION, BOTH),
        ("embeddinggemma-300m", "针在哪里?", GEMMA),
    ],
)
def test_late_interaction_is_the_sum_of_the_encoders_without_the_proxy(
    rank_encoder, question, weights
):
    passages = PASSAGES if question == QUESTION else [Passage(question), Passage("针")]
    english = Likeness("Ships", "针")
    other = rank_encoder and Likeness("Bread", "针在", name=rank_encoder)
    found = LateInteraction(english, [other] if other else []).rank(
        question, passages, units_of(passages)
    )
    z = torch.zeros(len(passages))
    acting = [english, other] if len(weights.encoders) == 2 else [other or english]
    for one, (cosine, interaction) in zip(acting, weights.encoders, strict=True):
        like = torch.tensor([float(any(w in p.text for w in one.like)) for p in passages])
        z += like * (cosine + interaction / 2)
    assert found.values == pytest.approx((z + weights.alone).sigmoid().tolist(), abs=1e-6)
    assert (found.calibrated, found.tokens_read, found.units) == (True, 0, ())


def test_only_the_encoders_that_are_named_judge():
    units = units_of(PASSAGES)
    english, other = Likeness("Ships", name="english"), Likeness("Bread", name="e5-small")

    def ranks(one, others, **options):
        return LateInteraction(one, others, **options).rank(QUESTION, PASSAGES, units).values

    alone = ranks(english, [])
    assert ranks(english, [other], encoders="english") == alone
    assert ranks(english, [other], encoders="e5-small") == ranks(None, [other]) != alone
    both = ranks(english, [other])
    assert ranks(english, [other], encoders="e5-small, english") == both != alone
    with pytest.raises(BadInput, match="encoders names 'gone'; here are english, e5-small"):
        LateInteraction(english, [other], encoders="english,gone")


@pytest.mark.parametrize("how", ["isolated", "no unit probe", "another depth"])
def test_where_the_rank_probe_cannot_be_used_the_best_unit_ranks(method, monkeypatch, how):
    reader = method.reader
    if how == "another depth":
        method.layers = 2
        monkeypatch.setattr(method, "read", QuestionRows(reader, method.probe).read)
    else:
        probe = None if how == "no unit probe" else method.probe
        method = QuestionRows(reader, probe, isolated=how == "isolated")
    units = units_of(PASSAGES)
    want = method.scores(QUESTION, PASSAGES, units).passages
    assert method.rank(QUESTION, PASSAGES, units).values == want


def test_words_alone_rank_whole_documents_with_their_titles():
    documents = [Passage("red. blue."), Passage("pins are red", title="pins"), Passage("red")]
    got = Lexical().rank("red pins", documents, units_of(documents))
    assert max(range(3), key=lambda i: got.values[i]) == 1
    assert len(got.units) == 4


class FixedRanker:
    """Ranks documents by fixed values."""

    def __init__(self, *values):
        self.values = values

    def scores(self, question, passages, units):
        raise AssertionError

    def rank(self, question, passages, units):
        return Ranks(self.values, windows=1, tokens_read=5, timings_ms={"read": 1.0})


def test_a_rank_probe_of_ones_own_ranks_and_none_leaves_it_to_the_best_unit(tmp_path):
    reader = scripted_reader()
    mine, units = rank_probe(reader, words=3.0), units_of(PASSAGES)
    file = mine.save(tmp_path / "mine.safetensors")
    probe = question_probe(reader)

    def ranks(given):
        method = QuestionRows(reader, probe, rank_probe=given)
        return method.rank(QUESTION, PASSAGES, units).values

    other = ranks(rank_probe(reader))
    assert ranks(mine) == ranks(file) == ranks(str(file)) != other
    best = QuestionRows(reader, probe).scores(QUESTION, PASSAGES, units).passages
    assert ranks(None) == best


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"isolated": True}, "isolated documents are scored apart"),
        ({"probe": None}, "probe is None"),
        ({"rank_probe": question_probe(scripted_reader())}, "one for question_rows.*one for rank"),
        ({"probe": rank_probe(scripted_reader())}, "one for rank.*one for question_rows"),
    ],
)
def test_a_rank_probe_that_cannot_be_used_is_refused(options, says):
    reader = scripted_reader()
    given = {"probe": question_probe(reader), "rank_probe": rank_probe(reader)} | options
    with pytest.raises(BadInput, match=says):
        QuestionRows(reader, **given)


def test_fusion_sums_the_document_scores_of_its_parts():
    both = Fusion({"a": FixedRanker(0.0, 2.0), "b": FixedRanker(30.0, 10.0)}, {"a": 3.0})
    got = both.rank("q", PASSAGES[:2], units_of(PASSAGES[:2]))
    assert got.values == pytest.approx((-2.0, 2.0))
    assert (got.windows, got.tokens_read, got.timings_ms) == (2, 10, {"read": 2.0})


def test_fusion_ranks_by_weights_of_its_own_and_does_not_run_a_part_of_weight_0():
    two, units = PASSAGES[:2], units_of(PASSAGES[:2])
    parts = {
        "attention": FixedRanker(0.0, 2.0),
        "lexical": FixedRanker(1.0, 0.0),
        "embedding": FixedRanker(8.0, 0.0),
    }
    got = Fusion(parts).rank("q", two, units)
    assert got.values == pytest.approx((0.2 - 0.8, 0.8 - 0.2))
    assert got.windows == 2
    weighted = Fusion(parts, {"lexical": 2.0}).rank("q", two, units)
    assert weighted.values == pytest.approx((2 + 0.2 - 0.8, 0.8 - 0.2 - 2))
