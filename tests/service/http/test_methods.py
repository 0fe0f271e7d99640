"""Which methods a service offers: those whose models are here."""

from __future__ import annotations

import pytest

from tamis.compressors.registry import fits, names
from tamis.probes.errors import BadInput
from tamis.service.http.runtime.methods import served_methods
from tamis.service.http.runtime.settings import Settings


def test_a_method_is_offered_only_where_its_probe_ships():
    assert fits("sentinel", "smollm2-135m")
    assert not fits("sentinel", "smollm2-135m-sharp")
    assert "sentinel" in served_methods(Settings(proxy="smollm2-135m"))
    assert "sentinel" not in served_methods(Settings(proxy="smollm2-135m-sharp"))
    assert all(fits(name, "smollm2-135m") for name in names("compression"))


def test_the_encoder_s_method_is_offered_only_where_the_encoder_is(tmp_path):
    assert "embedding" not in served_methods(Settings(home=tmp_path))
    assert "embedding" in served_methods(Settings(home=tmp_path, method="embedding"))


def test_the_default_has_to_be_among_those_that_are_named():
    with pytest.raises(BadInput, match="not among"):
        served_methods(Settings(methods=("lexical",)))
