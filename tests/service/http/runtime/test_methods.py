"""Which methods a service offers: those whose models are here."""

from __future__ import annotations

import pytest

from tamis.compressors.registry import LAB_METHODS, method_names, ships_for
from tamis.probes.errors import BadInput, UnknownMethod
from tamis.service.http.runtime.methods import parse_named_paths, proxy_layers, served_method_names
from tamis.service.http.runtime.settings import Settings
from tests.service.http.app_kit import served


def test_a_method_is_offered_only_where_its_probe_ships():
    assert ships_for("sentinel", "smollm2-135m")
    assert not ships_for("sentinel", "smollm2-135m-sharp")
    assert "sentinel" in served_method_names(Settings(proxy="smollm2-135m"))
    assert "sentinel" not in served_method_names(Settings(proxy="smollm2-135m-sharp"))
    assert ships_for("sentinel", "qwen2.5-coder-0.5b")
    assert "ehpc" in served_method_names(Settings(proxy="qwen2.5-coder-0.5b"))
    assert "ehpc" in served_method_names(Settings(proxy="smollm2-135m-sharp"))
    names = set(method_names("compression")) - set(LAB_METHODS)
    assert all(ships_for(name, "smollm2-135m") for name in names)


def test_a_service_loads_no_deeper_than_it_reads():
    methods = ("question_rows", "lexical")
    assert proxy_layers(Settings(proxy="smollm2-135m-sharp", methods=methods)) == 20


def test_the_encoder_s_method_is_offered_only_where_the_encoder_is(tmp_path):
    assert "embedding" not in served_method_names(Settings(home=tmp_path))
    assert "embedding" in served_method_names(Settings(home=tmp_path, method="embedding"))


def test_methods_of_papers_are_served_by_name_and_listed_where_the_settings_name_them():
    for methods, listed in (((), False), (("lexical", "infiniretri"), True)):
        with served(method="lexical", methods=methods) as running:
            names = {one["id"] for one in running.http.get("/v1/models").json()["data"]}
            assert ("infiniretri" in names) is listed
            assert {"default", "lexical"} <= names
            assert running.http.get("/v1/models/infiniretri").status_code == 200


def test_the_default_has_to_be_among_those_that_are_named():
    with pytest.raises(BadInput, match="not among"):
        served_method_names(Settings(methods=("lexical",)))
    with pytest.raises(UnknownMethod, match="did you mean 'lexical'"):
        served_method_names(Settings(method="lexicl"))


@pytest.mark.parametrize(
    ("knob", "form"), [("tokenizers", "tokenizer.json"), ("indexes", "folder")]
)
@pytest.mark.parametrize("pair", ["gpt", "gpt=", "=here"])
def test_a_path_without_a_name_is_refused_by_the_flag_with_its_form(knob, form, pair):
    with pytest.raises(BadInput, match=rf"^--{knob} has '{pair}'; give name={form}$"):
        parse_named_paths([pair], knob)
