"""Reranking: order, ties, duplicates, bad arguments, and fusion with a first stage."""

from __future__ import annotations

import math
import time
from itertools import count

import pytest

from tamis.compressors.features.rank_fusion import first_scores, fuse_ranks
from tamis.compressors.pipeline.reranking import Reranker
from tamis.compressors.types import Ranks
from tamis.probes.errors import BadInput
from tamis.text.types import Passage

TEXTS = ["bread", "the harbour of Malo", "", "the harbour", "bread", "\ud800 harbour"]


class CountingRanker:
    """Scores a passage by its number of harbours, and records its calls."""

    def __init__(self, calibrated: bool = False) -> None:
        self.calibrated, self.calls = calibrated, []

    def rank(self, question, passages, units):
        self.calls.append([p.text for p in passages])
        values = tuple(p.text.count("harbour") + ("Malo" in p.text) / 2 for p in passages)
        return Ranks(values, tuple(float(u.stop) for u in units), self.calibrated, 3, 7)


def rerank(documents, ranker=None, **arguments):
    return Reranker(ranker or CountingRanker(), "counted").rerank("Where?", documents, **arguments)


def indexes(result):
    return [one.index for one in result.results]


def test_best_first_ties_in_the_order_they_came_and_empty_ones_last():
    result = rerank(TEXTS)
    assert indexes(result) == [1, 3, 5, 0, 4, 2]
    assert [one.score for one in result.results] == [1.5, 1, 1, 0, 0, -math.inf]
    assert all(one.own == one.score and one.first is None for one in result.results)
    assert [p.text for p in result.passages] == TEXTS
    assert (result.windows, result.tokens_read, result.method) == (3, 7, "counted")


def test_times_are_milliseconds(monkeypatch):
    ticks = count(7)  # of a clock that goes on by a millisecond each time that it is looked at
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks) / 1000)
    timings = rerank(TEXTS).timings_ms
    assert {name: round(ms, 6) for name, ms in timings.items()} == {"segment": 1, "total": 2}


def test_a_document_that_occurs_twice_is_read_once_and_both_have_its_scores():
    ranker = CountingRanker()
    result = rerank(["one. two.", "three.", "one. two."], ranker)
    assert ranker.calls == [["one. two.", "three."]]
    assert len(result.results) == 3
    assert [u.passage for u in result.units] == [0, 0, 1, 2, 2]
    assert result.scores[:2] == result.scores[3:]
    titled = rerank([Passage("one", title="a"), Passage("one", title="b")], ranker)
    assert len(ranker.calls[-1]) == len(titled.results) == 2


@pytest.mark.parametrize(
    ("ranks", "says"),
    [
        (None, "the method counted returned NoneType; it must return Ranks"),
        ((0.0, 1.0), "returned tuple"),
        (Ranks((0.0, math.nan)), "1 of 2 scores are not finite, the first is nan at 1"),
        (Ranks(("a", 1.0)), "1 of 2 scores are not finite, the first is 'a' at 0"),
        (Ranks((1.0,)), "got 1 scores for 2 passages"),
        (Ranks((1.0, 2.0, 3.0)), "got 3 scores for 2 passages"),
    ],
)
def test_what_a_method_returns_must_be_a_finite_score_a_document(ranks, says):
    class Faulty:
        def rank(self, question, passages, units):
            return ranks

    for documents in (["One.", "Two."], ["One.", "", "Two."]):
        with pytest.raises(BadInput, match=says):
            rerank(documents, Faulty())


class SureRanker(CountingRanker):
    """Gives probabilities: nine tenths to a harbour, one tenth to anything else."""

    def rank(self, question, passages, units):
        values = tuple(0.9 if "harbour" in passage.text else 0.1 for passage in passages)
        return Ranks(values, (), calibrated=True)


@pytest.mark.parametrize(
    ("least", "kept"), [(0, [1, 3, 5, 0, 4]), (0.1, [1, 3, 5, 0, 4]), (0.5, [1, 3, 5]), (0.95, [])]
)
@pytest.mark.parametrize("first", [None, [9, 1, 9, 1, 9, 1]])
def test_min_score_leaves_out_what_the_method_itself_doubts(least, kept, first):
    """Whatever a first stage thinks of it; `top_n` is of those that are left."""
    found = rerank(TEXTS, SureRanker(), min_score=least, first_stage=first)
    assert sorted(indexes(found)) == sorted(kept)
    assert len(found.passages) == len(TEXTS)
    best = rerank(TEXTS, SureRanker(), min_score=least, first_stage=first, top_n=2)
    assert indexes(best) == indexes(found)[:2]


@pytest.mark.parametrize("first", [None, [9, 1, 9, 1, 9, 1]])
def test_the_probability_of_a_document_without_text_is_zero_and_it_is_last(first):
    """A fused score is no probability, so it stays behind those below zero."""
    (*_, last) = rerank(TEXTS, SureRanker(), first_stage=first).results
    assert (last.index, last.own) == (2, 0.0)
    assert last.score == (0.0 if first is None else -math.inf)
    zeros = Ranks((0.0, 0.0), (), calibrated=True)

    class Doubter:
        def rank(self, question, passages, units):
            return zeros

    assert indexes(rerank(["", "bread", "harbour"], Doubter())) == [1, 2, 0]


def test_min_score_is_refused_where_there_are_no_probabilities():
    with pytest.raises(BadInput, match=r"counted gives none .* give a method that does"):
        rerank(TEXTS, min_score=0.5)


def test_top_n_shows_fewer_and_reads_all():
    ranker = CountingRanker()
    assert indexes(rerank(TEXTS, ranker, top_n=2)) == [1, 3]
    assert len(ranker.calls[0]) == 4  # that without text is not read
    assert indexes(rerank(TEXTS, top_n=99)) == indexes(rerank(TEXTS))


@pytest.mark.parametrize("documents", [[], ["", " \n"]])
def test_without_text_no_model_runs(documents):
    ranker = CountingRanker()
    assert len(rerank(documents, ranker).results) == len(documents)
    assert ranker.calls == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"top_n": 0}, "top_n is 0"),
        ({"top_n": True}, "top_n is True"),
        ({"fuse": "rrf"}, "there is no first_stage"),
        ({"min_score": 1.5}, "min_score is 1.5; give a probability from 0 to 1"),
        ({"min_score": math.nan}, "min_score is nan"),
        ({"min_score": True}, "min_score is True"),
        ({"first_stage": [1.0]}, "1 scores for 6 documents"),
        ({"first_stage": [1, 2, math.nan, 0, 0, 0]}, "score 2 is nan; give a finite"),
        ({"first_stage": [1, 2, "x", 0, 0, 0]}, "score 2 is 'x'"),
        ({"first_stage": [1, 2, 10**400, 0, 0, 0]}, "score 2 is 1000"),
        ({"first_stage": [1e308, -1e308, 0, 0, 0, 0]}, "score 0 is 1e.308"),
        ({"first_stage": "best"}, "'best'; give a score"),
        ({"first_stage": dict.fromkeys("123456", 1.0)}, "type dict; give a list of scores in"),
        ({"first_stage": {1, 2, 3, 4, 5, 6}}, "type set; give a list"),
        ({"first_stage": 5}, "type int; give a list"),
        ({"first_stage": "order", "fuse": 1.5}, "weight from 0 to 1"),
        ({"first_stage": "order", "fuse": "sum"}, "'rrf', 'fitted'"),
        ({"first_stage": "order", "fuse": math.nan}, "fuse is nan"),
        ({"first_stage": "order", "fuse": [0.5]}, r"fuse is \[0.5\]"),
    ],
)
def test_bad_arguments_are_refused_with_a_way_out_and_nothing_is_read(arguments, says):
    ranker = CountingRanker()
    with pytest.raises(BadInput, match=says):
        rerank(TEXTS, ranker, **arguments)
    assert ranker.calls == []


@pytest.mark.parametrize(
    ("question", "says"), [("", "is empty"), ("  ", "is empty"), (None, "of type NoneType")]
)
def test_a_question_that_is_none_is_refused(question, says):
    with pytest.raises(BadInput, match=f"question is {says}|question {says}"):
        Reranker(CountingRanker(), "x").rerank(question, TEXTS)


@pytest.mark.parametrize("documents", ["bread", b"bread", None, 5, {"bread"}, {"text": "bread"}])
def test_what_is_no_list_of_documents_is_refused(documents):
    with pytest.raises(BadInput, match="give a list of documents"):
        rerank(documents)


@pytest.mark.parametrize("fuse", ["fitted", "rrf", 0.0, 0.3])
def test_no_first_stage_ranks_a_document_without_text_above_one_with_text(fuse):
    result = rerank(["", "harbour", " ", "bread"], first_stage=[9, 1, 8, 7], fuse=fuse)
    assert set(indexes(result)[:2]) == {1, 3}
    assert [one.score for one in result.results[2:]] == [-math.inf] * 2
    alone = rerank(["harbour", "bread"], first_stage=[1, 7], fuse=fuse)
    assert [one.score for one in result.results[:2]] == [one.score for one in alone.results]


def test_reciprocal_ranks_are_those_of_the_paper():
    """1 / (60 + rank) of both sides, documents that tie share the better rank."""
    got = fuse_ranks([0.9, 0.1, 0.1], [1.0, 3.0, 2.0], "rrf", "x")
    assert got == pytest.approx([1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 62 + 1 / 62])


def test_a_weight_mixes_standardised_scores():
    """Scores 0 and 2 standardise to -1 and 1, first-stage scores 30 and 10 to 1 and -1."""
    assert fuse_ranks([0, 2], [30, 10], 0.75, "x") == pytest.approx([-0.5, 0.5])
    assert fuse_ranks([0, 2], [30, 10], 0, "x") == pytest.approx([1, -1])
    assert fuse_ranks([5, 5], [1, 0], 1.0, "x") == [0, 0]


def test_probabilities_are_mixed_as_log_odds():
    """.5, .9 and .99 are 0, 2.2 and 4.6 as log odds: about evenly spaced, as they are not plain."""
    got = fuse_ranks([0.5, 0.9, 0.99], [0, 0, 0], 1.0, "x", calibrated=True)
    assert got[1] == pytest.approx((got[0] + got[2]) / 2, abs=0.1)


@pytest.mark.parametrize(
    ("method", "weight"), [("question_rows", 0.9), ("fusion", 0.9), ("lexical", 0.5), ("x", 0.5)]
)
def test_without_a_weight_that_of_the_method_is_taken(method, weight):
    scores = ([0.1, 0.7, 0.2], [3.0, 1.0, 2.0])
    assert fuse_ranks(*scores, None, method) == fuse_ranks(*scores, weight, method)
    assert fuse_ranks(*scores, "fitted", method) == fuse_ranks(*scores, weight, method)


def test_fused_results_have_both_scores_and_rank_by_the_fused_one():
    result = rerank(["harbour", "bread"], first_stage=[0.0, 5.0], fuse=0.1)
    assert indexes(result) == [1, 0]
    assert [(one.own, one.first) for one in result.results] == [(0, 5), (1, 0)]
    assert indexes(rerank(["harbour", "bread"], first_stage=[0.0, 5.0], fuse=0.9)) == [0, 1]


def test_the_order_of_the_documents_is_a_first_stage():
    assert first_scores("order", 3, None) == (0, -1, -2)
    assert indexes(rerank(["bread", "harbour"], first_stage="order", fuse=0.2)) == [0, 1]
