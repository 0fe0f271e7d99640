"""A method under a deadline: what was read in time by the method, the rest by its words."""

from __future__ import annotations

import time

import pytest

from tamis.compressors.method import MethodInfo, RankingMethod, ScoringMethod
from tamis.compressors.methods.lexical import Method as Lexical
from tamis.compressors.pipeline.compression import Compressor, Request
from tamis.compressors.pipeline.reranking import Reranker, prepare_ranking
from tamis.compressors.rules import Budget
from tamis.compressors.types import Ranks
from tamis.probes.interruption import check_interruption
from tamis.service.engine.errors import ClientDisconnected, OutOfTime
from tamis.service.engine.request import QueuedRequest, UnderDeadline
from tests.compressors.selection.select_kit import words

QUESTION = "Which room is blue?"
DOCUMENTS = ["Keys are rotated.", "Room 7 is blue.", "Rooms are painted."]


class Endless(RankingMethod):
    """Works until it is told to stop."""

    info = MethodInfo("a test", "nobody")

    def rank(self, question, passages, units):
        while True:
            check_interruption()
            time.sleep(0.01)


class Quick(RankingMethod):
    info = MethodInfo("a test", "nobody")

    def rank(self, question, passages, units):
        check_interruption()
        return Ranks(tuple(float(i) for i in range(len(passages))))


def ranked(method, request):
    reranker = Reranker(UnderDeadline(method), "a test")
    prepared = prepare_ranking(QUESTION, DOCUMENTS)
    with request.as_current():
        ranks = reranker.rank(prepared)
        return ranks, reranker.sort(prepared, ranks)


def test_what_was_not_read_in_time_is_ranked_by_its_words_and_that_is_said():
    ranks, found = ranked(Endless(), QueuedRequest(0, 0.0, 0, time.monotonic() + 0.05))
    by_words = Reranker(Lexical(), "lexical").rerank(QUESTION, DOCUMENTS)
    assert [one.index for one in found.results] == [one.index for one in by_words.results]
    assert ranks.passages_read == 0
    assert found.warnings == (
        "0 of 3 documents were read in time; the others were placed by their words",
    )


def test_in_time_it_is_the_method_s_own_ranking():
    ranks, found = ranked(Quick(), QueuedRequest(0, 0.0, 0, time.monotonic() + 60))
    assert [one.index for one in found.results] == [2, 1, 0]
    assert ranks.passages_read is None
    assert found.warnings == ()


def test_a_deadline_that_has_passed_does_not_end_what_makes_the_answer():
    """The words of the fallback look whether they shall go on, too."""
    _, found = ranked(Endless(), QueuedRequest(0, 0.0, 0, time.monotonic() - 1))
    assert len(found.results) == 3


@pytest.mark.parametrize("error", [ClientDisconnected("gone"), OutOfTime("too late")])
def test_a_request_that_has_ended_has_no_answer(error):
    request = QueuedRequest(0, 0.0, 0, time.monotonic() + 60)
    request.end(error)
    with pytest.raises(type(error)):
        ranked(Endless(), request)


class EndlessScorer(ScoringMethod):
    """Works until it is told to stop."""

    info = MethodInfo("a test", "nobody")

    def scores(self, question, passages, units):
        while True:
            check_interruption()
            time.sleep(0.01)


def test_units_that_were_not_read_in_time_are_scored_by_their_words():
    compressor = Compressor(UnderDeadline(EndlessScorer()), "a test", words())
    prepared = compressor.prepare(Request(QUESTION, DOCUMENTS, Budget(max_tokens=5)))
    with QueuedRequest(0, 0.0, 0, time.monotonic() + 0.05).as_current():
        scores = compressor.score(prepared)
    by_words = Compressor(Lexical(), "lexical", words()).score(prepared)
    assert (scores.is_late, scores.count_read) == (True, 0)
    assert scores.values == by_words.values
    assert not by_words.is_late
    assert compressor.select(prepared, scores).text == DOCUMENTS[1]
