"""Shared by the published methods: smoothing, depths, options out of range."""

from __future__ import annotations

import pytest
import torch

from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.registry import layers_needed
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import HeadProfile
from tamis.probes.signal import box_filter
from tests.laws.methods import head_profile
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself
from tests.scripted import ScriptedReader


def test_a_box_filter_averages_existing_tokens_or_pads_with_zeros():
    scores = torch.tensor([3.0, 0.0, 6.0, 0.0])
    assert box_filter(scores, 3).tolist() == pytest.approx([1.5, 3.0, 2.0, 3.0])
    assert box_filter(scores, 3, padded=True).tolist() == pytest.approx([1.0, 3.0, 2.0, 2.0])
    # an even width reaches one further back: [i - 1, i + 1)
    assert box_filter(scores, 2).tolist() == pytest.approx([3.0, 1.5, 3.0, 3.0])
    assert box_filter(scores, 1).tolist() == scores.tolist()
    assert box_filter(torch.zeros(0), 3).tolist() == []
    with pytest.raises(BadInput, match="width"):
        box_filter(scores, 0)


def test_a_padded_box_filter_is_torchs_convolution():
    scores = torch.rand(40, generator=torch.Generator().manual_seed(0))
    due = torch.nn.functional.conv1d(scores[None, None], torch.ones(1, 1, 8) / 8, padding=4)
    torch.testing.assert_close(box_filter(scores, 8, padded=True), due[0, 0, :-1])


def test_only_the_layers_that_the_options_need_are_loaded():
    """The default proxy has 30; its needle and contrast heads are at two thirds of its depth."""
    assert layers_needed("infiniretri", heads=0) is None
    assert layers_needed("infiniretri", heads=1) <= layers_needed("infiniretri") < 30
    assert (
        layers_needed("infiniretri", "someone/else")
        is layers_needed("ehpc", "someone/else")
        is None
    )
    assert layers_needed("ehpc") < 30
    scores_of = tuple((float(layer == 1),) for layer in range(3))
    shallow = HeadProfile("m", "r", "chatml", 3, 1, "needle", scores_of)
    assert layers_needed("ehpc", profile=shallow) == 2


@pytest.mark.parametrize(
    "make",
    [
        lambda r: EHPC(r, head_profile(r), form="word"),
        lambda r: EHPC(r, head_profile(r), pool_tokens=0),
        lambda r: EHPC(r, head_profile(r), heads=3),
        lambda r: InfiniRetri(r, "backwards"),
        lambda r: InfiniRetri(r, top_k=0),
        lambda r: InfiniRetri(r, heads=-1),
    ],
)
def test_options_out_of_range_are_refused(make):
    with pytest.raises(BadInput, match="give"):
        make(ScriptedReader.from_needles("pin"))
