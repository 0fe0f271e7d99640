"""Early exits: a probe of that depth, and a shallow reading that is part of the full one."""

from __future__ import annotations

import pytest
import torch

import tamis
from tamis.compressors.features.shipped_probes import shipped_exits, shipped_probe
from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.reading.windows import Reading
from tamis.compressors.registry import layers_needed, load_proxy
from tamis.probes.errors import BadInput
from tamis.probes.segmentation.segment import units_of
from tamis.probes.text import Passage
from tamis.service.http.runtime.methods import proxy_layers
from tamis.service.http.runtime.settings import Settings
from tamis_lab.train.probe.labelled_readings import cut_to_exit_layer

SHARP = "smollm2-135m-sharp"
EARLY = [12, 14, 16, 18]
QUESTION = "When was the bridge opened?"
TEXTS = [
    "The bridge is old. It was opened in 1792 by the duke. Boats pass below. It is shut at night.",
    "Cheese ripens for a year. Caves are cool. Milk is brought at dawn. Nobody counts the wheels.",
]


def test_probes_ship_for_several_exits_each_with_its_own_calibration():
    assert shipped_exits("question_rows", SHARP) == [*EARLY, 20]
    for layer in EARLY:
        probe = shipped_probe("question_rows", SHARP, layer)
        assert probe.card.layers == layer
        assert probe.card.figures["held_out"]["auc"] > 0.85
        assert layers_needed("question_rows", SHARP, exit_layer=layer) == layer
    assert (
        shipped_probe("question_rows", SHARP, 20).card == shipped_probe("question_rows", SHARP).card
    )


def test_an_exit_without_a_probe_is_refused_with_those_that_have_one():
    with pytest.raises(BadInput, match="ship for 12, 14, 16, 18, 20; fit one"):
        layers_needed("question_rows", SHARP, exit_layer=15)
    with pytest.raises(BadInput, match="ship for 20"):
        layers_needed("question_rows", "smollm2-135m", exit_layer=15)


def test_a_service_loads_no_deeper_than_it_reads():
    settings = {"proxy": SHARP, "methods": ("question_rows", "lexical")}
    assert proxy_layers(Settings(**settings)) == 20
    assert proxy_layers(Settings(**settings, exit_layer=16)) == 16


@pytest.mark.model
def test_an_early_exit_still_finds_the_answer(proxy_folder):
    short = {}
    for layer in (16, 18, None):
        early = {} if layer is None else {"exit_layer": layer}
        short[layer] = tamis.compress(QUESTION, TEXTS, max_tokens=16, proxy=SHARP, **early)
        assert "1792" in short[layer].text
        assert short[layer].tokens_out <= 16
    assert short[16].scores != short[None].scores
    assert tamis.compress(QUESTION, TEXTS, coverage=0.9, proxy=SHARP, exit_layer=16).threshold
    with pytest.raises(BadInput, match="exit_layer is 16 and the probe reads nothing"):
        tamis.compress(QUESTION, TEXTS, max_tokens=16, proxy=SHARP, exit_layer=16, probe=None)


@pytest.mark.model
def test_a_part_of_a_deep_reading_is_the_shallow_reading(proxy_folder):
    passages = [Passage(text) for text in TEXTS]
    units = units_of(passages, "en")
    proxy = load_proxy(SHARP, 20)
    deep, early = QuestionRows(proxy), QuestionRows(proxy, exit_layer=12)
    shallow = cut_to_exit_layer(deep.read(QUESTION, passages, units), 20, 12)
    alone = early.read(QUESTION, passages, units)
    assert torch.equal(shallow.features, alone.features)


def test_columns_are_means_of_all_layers_then_maxima():
    layers, heads = 3, 2
    features = torch.arange(12.0)[None]
    reading = Reading(features, (1,), 1, 1, {})
    assert cut_to_exit_layer(reading, layers, 1).features.tolist() == [[0.0, 1.0, 6.0, 7.0]]
    assert features.shape[1] == 2 * layers * heads
