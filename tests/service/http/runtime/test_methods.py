"""Which methods a service offers: those whose models are here."""

from __future__ import annotations

import pytest

from tamis.compressors.registry import method_names, ships_for
from tamis.probes.errors import BadInput
from tamis.service.http.runtime.methods import served_method_names
from tamis.service.http.runtime.settings import Settings


def test_a_method_is_offered_only_where_its_probe_ships():
    assert ships_for("sentinel", "smollm2-135m")
    assert not ships_for("sentinel", "smollm2-135m-sharp")
    assert "sentinel" in served_method_names(Settings(proxy="smollm2-135m"))
    assert "sentinel" not in served_method_names(Settings(proxy="smollm2-135m-sharp"))
    assert all(ships_for(name, "smollm2-135m") for name in method_names("compression"))


def test_the_encoder_s_method_is_offered_only_where_the_encoder_is(tmp_path):
    assert "embedding" not in served_method_names(Settings(home=tmp_path))
    assert "embedding" in served_method_names(Settings(home=tmp_path, method="embedding"))


def test_the_default_has_to_be_among_those_that_are_named():
    with pytest.raises(BadInput, match="not among"):
        served_method_names(Settings(methods=("lexical",)))
