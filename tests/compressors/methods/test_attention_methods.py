"""Shared by the published methods: depths, options out of range."""

from __future__ import annotations

import pytest

from tamis.compressors.methods.ehpc import EHPC
from tamis.compressors.methods.infiniretri import InfiniRetri
from tamis.compressors.registry import layers_needed
from tamis.probes.errors import BadInput
from tamis.probes.probing.heads import HeadProfile
from tests.laws.methods import head_profile
from tests.probes.tiny import one_thread  # noqa: F401 - a fixture that acts by itself
from tests.scripted import ScriptedReader


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
