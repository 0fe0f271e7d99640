"""Shallow readings: a part of a deep one serves a fit of fewer layers."""

from __future__ import annotations

import pytest
import torch

from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.reading.windows import Reading
from tamis.compressors.registry import load_proxy
from tamis.text.types import Passage
from tamis.text.units.segment import units_of
from tamis_lab.train.probe.labelled_readings import cut_to_exit_layer

QUESTION = "When was the bridge opened?"
TEXTS = [
    "The bridge is old. It was opened in 1792 by the duke. Boats pass below. It is shut at night.",
    "Cheese ripens for a year. Caves are cool. Milk is brought at dawn. Nobody counts the wheels.",
]


@pytest.mark.model
def test_a_part_of_a_deep_reading_is_the_shallow_reading(proxy_folder):
    passages = [Passage(text) for text in TEXTS]
    units = units_of(passages, "en")
    proxy = load_proxy("smollm2-135m-sharp", 20)
    deep, early = (QuestionRows.for_fit(proxy, layers) for layers in (20, 12))
    shallow = cut_to_exit_layer(deep.read(QUESTION, passages, units), 20, 12)
    alone = early.read(QUESTION, passages, units)
    assert torch.equal(shallow.features, alone.features)


def test_columns_are_means_of_all_layers_then_maxima():
    layers, heads = 3, 2
    features = torch.arange(12.0)[None]
    reading = Reading(features, (1,), 1, 1, {})
    assert cut_to_exit_layer(reading, layers, 1).features.tolist() == [[0.0, 1.0, 6.0, 7.0]]
    assert features.shape[1] == 2 * layers * heads
