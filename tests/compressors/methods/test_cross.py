"""`method="cross"`: documents as a cross-encoder ranks them, as probabilities."""

from __future__ import annotations

import math

import pytest

import tamis
from tamis.compressors.methods.cross import Cross
from tamis.probes.errors import BadInput, ProxyMissing
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tests.laws.methods import ScriptedCrossEncoder

QUESTION = "When was the bridge over the Medlock opened?"
DOCUMENTS = [
    "Cheese ripens for a year in the cellars below the town, where it is turned every week.",
    "The bridge over the Medlock was opened in 1792 by the duke, after six years of work.",
    "The bridge over the Irwell is closed to lorries while its arches are repaired.",
    "",
]


def test_values_are_probabilities_of_the_encoders_log_odds():
    passages = [Passage("red pins"), Passage("blue ships", title="red")]
    encoder = ScriptedCrossEncoder()
    found = Cross(encoder).rank("red", passages, units_of(passages))
    assert encoder.read_log == ["red pins", "red\nblue ships"]
    z = ScriptedCrossEncoder().score("red", encoder.read_log).tolist()
    assert found.values == pytest.approx([1 / (1 + math.exp(-value)) for value in z])
    assert (found.calibrated, found.units, found.tokens_read) == (True, (), 0)


def test_a_document_with_the_identifier_of_the_question_comes_before_those_with_another():
    texts = [f"order SO-{n} order order order of SO-{n}" for n in (10490, 10491, 10492)]
    passages = [Passage(text) for text in texts]
    found = Cross(ScriptedCrossEncoder()).rank("Where is SO-10492?", passages, [])
    assert max(range(3), key=found.values.__getitem__) == 2


def test_whoever_asks_in_other_letters_is_told_that_it_knows_english():
    cross = Cross(ScriptedCrossEncoder())
    assert not cross.rank("red", [Passage("red pins")], []).warnings
    (warning,) = cross.rank("针在哪里?", [Passage("针在抽屉里。")], []).warnings
    assert "English" in warning


@pytest.mark.model
@pytest.mark.usefixtures("encoder_folder")
def test_the_weights_that_ship_find_the_answer():
    ranked = tamis.rerank(QUESTION, DOCUMENTS, method="cross")
    assert [result.index for result in ranked.results][:2] == [1, 2]
    scores = {result.index: result.score for result in ranked.results}
    assert 0 <= scores[3] <= scores[0] < scores[2] < scores[1] <= 1
    assert scores[1] > 0.5 > scores[0]


@pytest.mark.model
@pytest.mark.usefixtures("encoder_folder")
def test_another_model_is_named_with_the_way_out(tmp_path):
    with pytest.raises(BadInput, match="give minilm-l6 or ms-marco-minilm-l12"):
        tamis.rerank(QUESTION, DOCUMENTS, method="cross", model="bge")
    with pytest.raises(ProxyMissing, match="tamis models pull ms-marco-minilm-l12"):
        tamis.rerank(
            QUESTION, DOCUMENTS, method="cross", model="ms-marco-minilm-l12", root=tmp_path
        )
