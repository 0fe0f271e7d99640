"""Heads are chosen by what they find, and the recipe finds it again in an index."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tamis.probes.errors import BadInput
from tamis.retrieval.keys.encoder import KeyEncoder
from tamis.retrieval.keys.head_selection import LabelledQuestion, select_heads
from tamis.retrieval.keys.late_interaction import max_similarities, chunk_scores
from tamis.retrieval.keys.recipe import KeyRecipe
from tests.probes import tiny
from tests.probes.tiny import one_thread as one_thread

WORDS = "harbour bread engine queen glass salt whale paper copper amber".split()
PASSAGES = [(None, f"the {a} of the {b} and a {a}") for a in WORDS for b in WORDS if a < b]
CASES = [
    LabelledQuestion(f"the {a} {b}", (i,))
    for i, (a, b) in enumerate((a, b) for a in WORDS for b in WORDS if a < b)
]


@pytest.fixture(scope="module")
def found():
    proxy = tiny.proxy("llama")
    return proxy, select_heads(proxy, PASSAGES, CASES, most=2)


def test_the_first_head_is_the_best_alone_and_the_second_helps(found):
    _, fitted = found
    best = max(fitted.heads, key=lambda head: fitted.heads[head])
    assert best in fitted.recipe.heads
    assert fitted.together >= fitted.heads[best] > min(fitted.heads.values())
    assert len(fitted.heads) == tiny.LAYERS * tiny.HEADS


def test_an_index_scores_as_the_fit_did(found):
    """The way through files of keys, one question at a time, is the oracle."""
    proxy, fitted = found
    recipe = KeyRecipe.from_json(json.loads(json.dumps(fitted.recipe.as_json())))
    reader = KeyEncoder(proxy, recipe)
    parts = list(reader.keys([text for _, text in PASSAGES], [None] * len(PASSAGES)))
    keys, starts = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
    ranks = []
    for case in CASES:
        best = max_similarities(reader.question(case.question), keys, starts, len(recipe.heads))
        scores = chunk_scores(best, np.ones(len(PASSAGES), bool))
        ranks.append(1 / int((scores >= scores[case.gold[0]]).sum()))
    assert np.mean(ranks) == pytest.approx(fitted.together, abs=0.05)


def test_questions_without_passages_are_refused():
    with pytest.raises(BadInput, match="each needs a passage"):
        select_heads(tiny.proxy("llama"), PASSAGES, [LabelledQuestion("what", ())])
