"""Scores without a probe: which heads are averaged, and how."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tamis.compressors.methods.question_rows import QuestionRows, UnfittedHeads, induction_heads
from tamis.probes.errors import BadInput, ProbeMismatch
from tamis.probes.hub.zoo import ZOO
from tamis.probes.probing.heads import HeadProfile
from tests.scripted import ScriptedReader

READER = ScriptedReader.from_needles("pin", layers=6, heads=2)
CARD = READER.card


def make_profile(scores: list[list[float]]) -> HeadProfile:
    return HeadProfile(
        CARD.name, CARD.revision, "chatml", len(scores), 2, "induction", tuple(map(tuple, scores))
    )


PROFILE = make_profile([[0.0, 0.1], [0.9, 0.0], [0.0, 0.5], [0.8, 0.3], [0.95, 0.9], [1.0, 0.9]])


def test_the_best_heads_of_two_thirds_of_depth_are_taken_best_first():
    """Layers 4 and 5 of 6 are too deep, however well they do."""
    assert induction_heads(PROFILE)[:4] == ((1, 0), (3, 0), (2, 1), (3, 1))
    assert {layer for layer, _ in induction_heads(PROFILE)} == {0, 1, 2, 3}


def test_of_induction_heads_the_log_maximum_counts():
    """2 layers of 2 heads: means in front, then log maxima 1, 2, 3, 4; heads 0-1 and 1-0."""
    features = torch.tensor([[9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0, 4.0]])
    assert UnfittedHeads(0, 2, ((0, 1), (1, 0))).scores(features, 2).tolist() == [2.5]


def test_without_a_profile_the_mean_attention_of_the_middle_counts():
    """Of 4 layers, 3 are read, and 1 and 2 lie from 45 to 75 %: (2 + 4 + 6 + 8) / 4."""
    found = UnfittedHeads.choose(ScriptedReader.from_needles("pin", layers=4), "auto")
    assert (found.first, found.stop, found.induction) == (1, 3, ())
    logs = torch.tensor([9.0, 9.0, 2.0, 4.0, 6.0, 8.0]).log()
    features = torch.cat([logs, torch.full((6,), 9.0)])[None]
    assert found.scores(features, 2).tolist() == pytest.approx([5.0])


def test_layers_below_the_deepest_chosen_head_are_not_read():
    method = QuestionRows(READER, probe=None, profile=PROFILE)
    assert method.layers == 4
    # enough for the middle of the model, too, where a profile that ships is of another revision
    assert QuestionRows.layers_needed(CARD.name, {"probe": None, "profile": PROFILE}) == 5
    assert QuestionRows.layers_needed("bot", {"probe": None}) is None


def test_a_profile_of_another_revision_is_refused_and_one_beside_a_probe_too():
    other = dataclasses.replace(PROFILE, revision="other")
    with pytest.raises(ProbeMismatch, match="tamis lab heads find --by induction"):
        QuestionRows(READER, probe=None, profile=other)
    sharp = ScriptedReader.from_needles("pin", name="smollm2-135m-sharp")
    with pytest.raises((BadInput, ProbeMismatch)):
        QuestionRows(sharp, profile=PROFILE)


@pytest.mark.parametrize(
    "model", [name for name in ZOO if HeadProfile.is_shipped("induction", name)]
)
def test_heads_of_a_profile_look_at_what_follows_more_than_others_do(model):
    """What ships was measured: the best head pays a tenth and more, most heads next to nothing."""
    found = HeadProfile.load_shipped("induction", model)
    scores = sorted((x for row in found.scores for x in row), reverse=True)
    assert scores[0] > 0.5
    assert scores[len(scores) // 2] < 0.05
    assert found.revision == ZOO[model].revision
