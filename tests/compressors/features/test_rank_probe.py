"""How question_rows ranks whole documents: what is summed, what is weighed, when it steps back."""

from __future__ import annotations

import math

import pytest
import torch

from tamis.compressors.features import rank_probe as _rank_probe
from tamis.compressors.features.rank_features import (
    RANK_WORDS,
    best_units,
    masses,
    rank_features,
    said_of,
    words_at,
)
from tamis.compressors.features.rank_probe import unit_evidence
from tamis.compressors.methods.fusion import Fusion
from tamis.compressors.methods.lexical import Lexical
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.reading.windows import Reading
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage, Unit
from tests.laws.methods import HEADS, LAYERS, probe_for, question_probe, scripted
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
    return probe_for(reader, "rank", weights)


@pytest.fixture
def method(monkeypatch):
    reader = scripted()
    monkeypatch.setattr(_rank_probe, "choose_probe", lambda *_: rank_probe(reader))
    return QuestionRows(reader, question_probe(reader))


def test_a_documents_mass_is_the_sum_over_its_units():
    """Two heads; means .1 and .2 a token of 3 and 5 tokens sum to 1.3."""
    features = torch.tensor([[0.1, 0.3], [0.2, 0.1], [0.5, 0.5]]).log().repeat(1, 2)
    look = Reading(features, (3, 5, 2), 0, 0, {})
    got = masses(look, torch.tensor([0, 0, 2]), 3).exp()
    assert got[0].tolist() == pytest.approx([1.3, 1.4])
    assert got[2].tolist() == pytest.approx([1.0, 1.0])
    assert got[1].max() < 1e-6


def test_a_documents_best_unit_is_another_for_each_head():
    features = torch.tensor([[0.1, 0.3], [0.2, 0.1], [0.5, 0.4]]).log().repeat(1, 2)
    features[:, 2:] += 1  # the maxima of tokens play no part
    got = best_units(Reading(features, (3, 5, 2), 0, 0, {}), torch.tensor([0, 0, 2]), 3).exp()
    assert got[0].tolist() == pytest.approx([0.2, 0.3])
    assert got[2].tolist() == pytest.approx([0.5, 0.4])
    assert got[1].max() < 1e-6


def test_words_are_shares_of_what_the_question_could_reach():
    said = said_of("red pins", [Passage("Red pins."), Passage("blue", title="pin"), Passage("")])
    assert said.shape == (3, 3)
    assert said[0, 1] == pytest.approx(1)
    assert 0 < said[1, 2] < 1
    assert said[2].tolist() == [0, 0, 0]
    assert said.max() <= 1


def test_evidence_adds_up_and_the_best_unit_is_log_odds():
    units = [Unit(0, 0, 1, (0, 1)), Unit(0, 1, 2, (1, 2)), Unit(1, 0, 1, (0, 1))]
    told = unit_evidence(torch.tensor([1.0, 1.0, 2.0]), [0.5, 0.9], units)
    assert told[:, 0].tolist() == pytest.approx([1 + math.log(2), 2.0])
    assert told[:, 1].tolist() == pytest.approx([0, math.log(9)], abs=1e-5)


def test_a_documents_score_is_its_weighed_mass_and_what_its_units_say(method):
    units = units_of(PASSAGES)
    look = method.read(QUESTION, PASSAGES, units)
    scores = method.score_reading(look, QUESTION, PASSAGES, units)
    seen = rank_features(QUESTION, look, PASSAGES, units)[:, : words_at(LAYERS, HEADS)]
    whole, best = seen.view(len(PASSAGES), 2, -1).sum(2).unbind(1)
    first = method.first_step(look, QUESTION, PASSAGES, units)
    told = unit_evidence(first, scores.passages, units)
    z = whole / 10 + best / 20 + UNITS[0] * told[:, 0] + UNITS[1] * told[:, 1]
    got = method.rank(QUESTION, PASSAGES, units)
    assert got.values == pytest.approx(torch.sigmoid(z).tolist(), abs=1e-5)
    assert got.units == scores.values
    assert got.calibrated


def test_the_document_with_the_needle_is_first_and_its_sentence_the_best(method):
    found = Reranker(method, "x").rerank(QUESTION, PASSAGES)
    assert found.results[0].index == 0
    best = max(range(len(found.units)), key=lambda u: found.scores[u])
    assert PASSAGES[0].text[slice(*found.units[best].visible)] in NEEDLE


@pytest.mark.parametrize("how", ["isolated", "no unit probe", "another depth"])
def test_where_the_rank_probe_cannot_act_the_best_unit_ranks(method, monkeypatch, how):
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


class Says:
    """Thinks this of the documents."""

    def __init__(self, *values):
        self.values = values

    def scores(self, question, passages, units):
        raise AssertionError

    def rank(self, question, passages, units):
        return Ranks(self.values, windows=1, tokens_read=5, timings_ms={"read": 1.0})


def test_a_rank_probe_of_ones_own_ranks_and_none_leaves_it_to_the_best_unit(tmp_path):
    reader = scripted()
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
        ({"rank_probe": question_probe(scripted())}, "one for question_rows.*one for rank"),
        ({"probe": rank_probe(scripted())}, "one for rank.*one for question_rows"),
    ],
)
def test_a_rank_probe_that_could_not_act_is_refused_when_it_is_given(options, says):
    reader = scripted()
    given = {"probe": question_probe(reader), "rank_probe": rank_probe(reader)} | options
    with pytest.raises(BadInput, match=says):
        QuestionRows(reader, **given)


def test_fusion_sums_what_its_parts_think_of_documents():
    both = Fusion({"a": Says(0.0, 2.0), "b": Says(30.0, 10.0)}, {"a": 3.0})
    got = both.rank("q", PASSAGES[:2], units_of(PASSAGES[:2]))
    assert got.values == pytest.approx((-2.0, 2.0))
    assert (got.windows, got.tokens_read, got.timings_ms) == (2, 10, {"read": 2.0})


def test_fusion_ranks_by_weights_of_its_own_and_does_not_ask_what_weighs_nothing():
    two, units = PASSAGES[:2], units_of(PASSAGES[:2])
    parts = {"attention": Says(0.0, 2.0), "lexical": Says(1.0, 0.0), "embedding": Says(8.0, 0.0)}
    got = Fusion(parts).rank("q", two, units)
    assert got.values == pytest.approx((0.2 - 0.8, 0.8 - 0.2))
    assert got.windows == 2
    told = Fusion(parts, {"lexical": 2.0}).rank("q", two, units)
    assert told.values == pytest.approx((2 + 0.2 - 0.8, 0.8 - 0.2 - 2))
