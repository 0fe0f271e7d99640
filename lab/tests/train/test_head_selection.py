"""Heads are chosen by what they find, and the recipe finds it again in an index."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tamis.probes.errors import BadInput
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.keys.late_interaction import max_similarities
from tamis.retrieval.keys.recipe import KeyRecipe
from tamis_lab.train.head_selection import LabelledQuestion, chunk_scores, select_heads
from tests.probes import tiny
from tests.probes.tiny import one_thread as one_thread

WORDS = "harbour bread engine queen glass salt whale paper copper amber".split()
PASSAGES = [(None, f"the {a} of the {b} and a {a}") for a in WORDS for b in WORDS if a < b]
CASES = [
    LabelledQuestion(f"the {a} {b}", (i,))
    for i, (a, b) in enumerate((a, b) for a in WORDS for b in WORDS if a < b)
]


@pytest.fixture(scope="module")
def proxy_and_selection():
    proxy = tiny.proxy("llama")
    return proxy, select_heads(proxy, PASSAGES, CASES, max_heads=2)


def test_the_first_head_is_the_best_alone_and_the_second_helps(proxy_and_selection):
    _, selection = proxy_and_selection
    best = max(selection.head_mrr, key=lambda head: selection.head_mrr[head])
    assert best in selection.recipe.heads
    assert selection.recipe_mrr >= selection.head_mrr[best] > min(selection.head_mrr.values())
    assert len(selection.head_mrr) == tiny.LAYERS * tiny.HEADS


def test_an_index_scores_as_the_fit_did(proxy_and_selection):
    """The way through files of keys, one question at a time, is the oracle."""
    proxy, selection = proxy_and_selection
    recipe = KeyRecipe.from_json(json.loads(json.dumps(selection.recipe.as_json())))
    encoder = KeyEncoder(proxy, recipe)
    parts = list(encoder.encode_chunks([text for _, text in PASSAGES], [None] * len(PASSAGES)))
    keys, starts = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
    ranks = []
    for case in CASES:
        best = max_similarities(
            encoder.encode_question(case.question), keys, starts, len(recipe.heads)
        )
        scores = chunk_scores(best, np.ones(len(PASSAGES), bool))
        ranks.append(1 / int((scores >= scores[case.gold[0]]).sum()))
    assert np.mean(ranks) == pytest.approx(selection.recipe_mrr, abs=0.05)


def test_questions_without_passages_are_refused():
    with pytest.raises(BadInput, match="each needs a passage"):
        select_heads(tiny.proxy("llama"), PASSAGES, [LabelledQuestion("what", ())])
