"""The laws of `rank` and `order`: every method that ranks or orders passages, on every text."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tamis.compressors.pipeline.reranking import Reranker
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.laws.halves import every_context, every_small_context
from tests.laws.methods import ORDERERS, RANKERS, build_orderer, build_ranker
from tests.laws.texts import CONTEXTS, OTHER, PLAIN, QUESTION, SMALL_CONTEXTS, Context
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself

every_ranker = pytest.mark.parametrize("ranker", RANKERS)
every_orderer = pytest.mark.parametrize("orderer", ORDERERS)


def with_text(given: Context) -> Context:
    """The passages that have a unit: pipelines hand no others to a method."""
    return tuple(given[i] for i in sorted({unit.passage for unit in units_of(given)}))


def rank(ranker: str, given: Context) -> tuple[float, ...]:
    return build_ranker(ranker).rank(QUESTION, given, units_of(given)).values


def order(orderer: str, given: Context, scores: Sequence[float]) -> tuple[int, ...]:
    return build_orderer(orderer).order(QUESTION, given, scores)


@every_context
@every_ranker
def test_every_passage_has_one_finite_value(ranker: str, context: str):
    given = with_text(CONTEXTS[context])
    values = rank(ranker, given)
    assert len(values) == len(given)
    assert all(map(math.isfinite, values))


@every_small_context
@every_ranker
def test_the_same_passages_have_the_same_values(ranker: str, context: str):
    given = with_text(SMALL_CONTEXTS[context])
    assert rank(ranker, given) == rank(ranker, given)


@every_ranker
def test_documents_without_text_come_last_and_the_others_are_ranked_as_without_them(ranker: str):
    texts = (Passage(PLAIN), Passage(OTHER))
    given = (Passage(""), texts[0], Passage(" \n\t"), texts[1])
    found = Reranker(build_ranker(ranker), ranker).rerank(QUESTION, given)
    results = found.results
    own = {result.index: result.own for result in results}
    assert (own[1], own[3]) == rank(ranker, texts)
    assert [result.index for result in results][2:] == [0, 2]
    assert own[0] == own[2] == (0.0 if found.calibrated else -math.inf)


@every_context
@every_orderer
def test_an_order_holds_every_passage_once_and_is_repeatable(orderer: str, context: str):
    given = with_text(CONTEXTS[context])
    for scores in ([i * 7 % 5 / 5 for i in range(len(given))], [0.5] * len(given)):
        found = order(orderer, given, scores)
        assert sorted(found) == list(range(len(given)))
        assert order(orderer, given, scores) == found


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
@every_orderer
def test_lists_of_any_length_are_ordered(orderer: str, size: int):
    given = tuple(Passage(f"{PLAIN} Boat {i}.") for i in range(size))
    found = order(orderer, given, [1 / (1 + i) for i in range(size)])
    assert isinstance(found, tuple)
    assert sorted(found) == list(range(size))
