"""Which units the encoder reads, and that no other unit's cosine is looked at."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tamis.compressors.features import second_step
from tamis.compressors.features.scales import z_scores
from tamis.compressors.features.second_step import (
    COSINE_WEIGHT,
    ENCODER_SHARE,
    SHORT_UNITS,
    RequestTexts,
    candidate_cosines,
    encoder_candidates,
    is_short,
    order_by_cosines,
    unit_scores,
    unit_structure,
)
from tamis.compressors.features.words import WORD_FEATURES
from tamis.compressors.methods import question_rows
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.laws.methods import ScriptedEncoder, question_probe
from tests.scripted import ScriptedReader

SCORED = st.lists(st.tuples(st.floats(-5, 5), st.integers(1, 90)), min_size=1, max_size=60)


@given(SCORED)
def test_the_encoder_reads_the_best_units_up_to_its_share_and_never_fewer_than_eight(scored):
    scores, tokens = torch.tensor([z for z, _ in scored]), [n for _, n in scored]
    chosen = encoder_candidates(scores, tokens).tolist()
    assert chosen == sorted(set(chosen))
    assert len(chosen) >= min(8, len(scored))
    rest = set(range(len(scored))) - set(chosen)
    assert min(scores[chosen]) >= max(scores[sorted(rest)], default=-torch.inf)
    if len(chosen) > 8:
        assert sum(tokens[u] for u in chosen) <= ENCODER_SHARE * sum(tokens)


def test_units_that_were_not_read_have_a_low_cosine_of_those_that_were():
    cosines = torch.tensor([0.9, torch.nan, 0.1, 0.5, torch.nan])
    found = candidate_cosines(cosines, torch.tensor([0, 2, 3]))
    assert found.tolist() == pytest.approx([0.9, 0.3, 0.1, 0.5, 0.3])
    # a candidate by rounded features, which the encoder did not read
    found = candidate_cosines(cosines, torch.tensor([0, 1, 2, 3]))
    assert found.tolist() == pytest.approx([0.9, 0.3, 0.1, 0.5, 0.3])


def test_a_candidate_without_a_cosine_counts_as_one_that_was_not_read():
    cosines = torch.tensor([0.9, torch.nan, 0.1, 0.5, torch.nan])
    found = candidate_cosines(cosines, torch.tensor([0, 1, 2, 3]))
    assert found.tolist() == pytest.approx([0.9, 0.3, 0.1, 0.5, 0.3])


def test_scores_are_the_same_whether_all_units_were_encoded_or_the_candidates_alone():
    passages = [Passage(f"Line {i} says {'Lima' * (i % 7 == 0)} and more. " * 3) for i in range(9)]
    units, reader = units_of(passages), ScriptedReader.from_needles("Lima")
    probe, question = question_probe(reader), "Where is Lima?"
    encoder = ScriptedEncoder()
    method = QuestionRows(reader, probe, encoder=encoder)
    reading = method.read(question, passages, units)
    known = ~reading.cosines.isnan()
    assert 8 <= known.sum() < len(units)
    assert len(encoder.read_log) == known.sum() + 1
    texts = RequestTexts.of(question, passages, units, reading.tokens)
    first = torch.rand(len(units), reading.features.shape[1] + len(WORD_FEATURES))
    scores = torch.rand(len(units))
    whole, part = (
        unit_scores(probe, texts, first, cosines)[0]
        for cosines in (scores, scores.where(_candidates(probe, texts, first), torch.nan))
    )
    assert torch.equal(whole, part)
    found = method.score_reading(reading, question, passages, units)
    assert all(0 < value < 1 for value in found.values)


def test_what_chose_the_encoders_units_is_not_computed_again_to_score_them(monkeypatch):
    passages = [Passage(f"Line {i} says {'Lima' * (i % 7 == 0)} and more. " * 3) for i in range(9)]
    units, reader = units_of(passages), ScriptedReader.from_needles("Lima")
    probe, question = question_probe(reader), "Where is Lima?"
    calls: list[str] = []
    for name in ("first_features", "second_step_features"):
        module = question_rows if name == "first_features" else second_step
        made = getattr(module, name)
        monkeypatch.setattr(
            module, name, lambda *given, name=name, made=made: calls.append(name) or made(*given)
        )
    method = QuestionRows(reader, probe, encoder=ScriptedEncoder())
    reading = method.read(question, passages, units)
    found = method.score_reading(reading, question, passages, units)
    assert calls == ["first_features", "second_step_features"]
    anew = method.score_reading(replace(reading, judged=None), question, passages, units)
    assert replace(found, timings_ms={}) == replace(anew, timings_ms={})
    # of other features, another question or other units nothing is taken over
    other = replace(reading, features=reading.features - 1)
    plain = replace(other, judged=None)
    for case in ((question, passages, units), ("What else?", passages, units_of(passages))):
        one, two = (method.score_reading(each, *case) for each in (other, plain))
        assert replace(one, timings_ms={}) == replace(two, timings_ms={})
        assert one.values != found.values
    asked = "What does line 3 say?"
    one, two = (
        method.score_reading(each, asked, passages, units)
        for each in (reading, replace(reading, judged=None))
    )
    assert one.values == two.values != found.values


def _candidates(probe, texts, first):
    without, _ = unit_scores(probe, texts, first)
    marked = torch.zeros(len(without), dtype=torch.bool)
    marked[encoder_candidates(without, texts.tokens)] = True
    return marked


@given(st.lists(st.tuples(st.floats(0.001, 0.999), st.floats(-1, 1)), min_size=1, max_size=30))
def test_cosines_change_the_order_of_probabilities_and_none_of_them(scored):
    probabilities, cosines = torch.tensor(scored).T
    given_anew = order_by_cosines(probabilities, cosines)
    assert sorted(given_anew.tolist()) == sorted(probabilities.tolist())
    likeness = torch.from_numpy(z_scores(cosines.double().numpy(), 1e-6))
    best = int((probabilities.logit() + COSINE_WEIGHT * likeness).argmax())
    assert given_anew[best] == probabilities.max()


def test_units_that_are_equally_like_the_question_stay_in_order():
    probabilities = torch.tensor([0.2, 0.7, 0.1, 0.7])
    assert order_by_cosines(probabilities, torch.full((4,), 0.3)).equal(probabilities)
    assert order_by_cosines(probabilities, torch.full((4,), torch.nan)).equal(probabilities)


def test_cosines_decide_between_units_that_are_nearly_as_good():
    probabilities = torch.tensor([0.30, 0.31, 0.9])
    changed = order_by_cosines(probabilities, torch.tensor([0.8, 0.1, 0.1]))
    assert changed.equal(torch.tensor([0.31, 0.30, 0.9]))


def test_one_document_of_few_units_is_short():
    def structure(*units_of_each):
        passages = [Passage("A line.\n" * count) for count in units_of_each]
        return unit_structure(passages, units_of(passages))

    assert is_short(structure(SHORT_UNITS))
    assert not is_short(structure(SHORT_UNITS + 1))
    assert not is_short(structure(2, 2))
