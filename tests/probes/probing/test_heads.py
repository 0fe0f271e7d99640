"""Heads scored by hand-computed cases of each paper's formula; profiles on disk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tamis.probes.card import ModelCard
from tamis.probes.errors import BadInput, BadModelFile, ProbeMismatch
from tamis.probes.probing.heads import HEAD_SCORINGS, HeadProfile, choose_profile

CARD = ModelCard("m", "r", 2, 3)


def profile(**changes) -> HeadProfile:
    given = HeadProfile("m", "r", "chatml", 2, 3, "needle", ((0.1, 0.5, 0.2), (0.4, 0.0, 0.35)), 7)
    return replace(given, **changes)


def test_the_best_heads_come_in_order_and_evaluators_from_one_layer():
    assert profile().best(3) == ((0, 1), (1, 0), (1, 2))
    # layer 0 sums to .8, layer 1 to .75, though two of the best three are in layer 1
    assert profile().best_layer() == 0
    assert profile().best_heads_of_one_layer(2) == ((0, 1), (0, 2))


@pytest.mark.parametrize("k", [0, 7])
def test_more_heads_than_there_are_are_refused_with_the_number_there_is(k):
    with pytest.raises(BadInput, match="give 1 to 6"):
        profile().best(k)


def test_a_profile_is_read_back_as_it_was_written(tmp_path):
    given = profile(stability={"8": 0.5}, data=({"name": "a"},), settings={"temperature": 0.1})
    given.save(tmp_path / "p.json")
    assert HeadProfile.load(tmp_path / "p.json") == given
    assert choose_profile(tmp_path / "p.json", "needle", "m") == given


@pytest.mark.parametrize(
    "damage",
    [
        lambda facts: facts.pop("scores"),
        lambda facts: facts.update(kind="basin"),
        lambda facts: facts.update(format=99),
        lambda facts: facts["scores"].pop(),
        lambda facts: facts["scores"][0].append(float("nan")),
    ],
)
def test_a_damaged_profile_is_refused(tmp_path, damage):
    profile().save(tmp_path / "p.json")
    facts = json.loads((tmp_path / "p.json").read_text())
    damage(facts)
    (tmp_path / "p.json").write_text(json.dumps(facts))
    with pytest.raises(BadModelFile):
        HeadProfile.load(tmp_path / "p.json")


def test_a_profile_of_another_model_or_template_is_refused_with_the_way_out():
    profile().check(CARD, "chatml")
    for card, template in ((replace(CARD, revision="x"), "chatml"), (CARD, "plain")):
        with pytest.raises(ProbeMismatch, match="tamis lab heads find --by needle"):
            profile().check(card, template)


def test_a_model_without_profile_is_an_error_with_the_command():
    with pytest.raises(BadInput, match="tamis lab heads find --by copy --proxy nobody"):
        HeadProfile.load_shipped("copy", "nobody")


@pytest.mark.parametrize("by", HEAD_SCORINGS)
def test_profiles_of_the_default_proxy_ship(by):
    found = HeadProfile.load_shipped(by, "smollm2-135m")
    assert (found.layers, found.heads, found.by) == (30, 9, by)
    assert by == "probe" or found.cases >= 60
