"""Options of methods: a value of another kind is refused by name, with what to give."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.compressors.methods.question_rows import QuestionRows
from tamis.compressors.methods.sentinel import Sentinel
from tamis.compressors.registry import build_method, check_options
from tamis.probes.errors import BadInput
from tests.laws.methods import head_profile, question_probe, sentinel_probe
from tests.scripted import ScriptedReader


@pytest.mark.parametrize(
    ("name", "option", "value", "give"),
    [
        ("ehpc", "calibrate", "False", "true or false"),
        ("question_rows", "isolated", 1, "true or false"),
        ("infiniretri", "top_k", "abc", "a whole number"),
        ("infiniretri", "heads", True, "a whole number or null"),
        ("infiniretri", "form", "backwards", "'sequential' or 'independent'"),
        ("ehpc", "heads", 2.5, "a whole number"),
        ("ehpc", "profile", [1], "a HeadProfile or a Path or a text"),
        ("fusion", "weights", "all", "a Mapping or null"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_any_model_is_loaded(name, option, value, give):
    with pytest.raises(BadInput) as refused:
        build_method(name, proxy="nobody", root=Path("nowhere"), **{option: value})
    assert str(refused.value) == f"{name}: {option} is {value!r}; give {give}"


def test_values_of_the_right_kind_pass():
    reader = ScriptedReader.from_needles("pin")
    check_options("ehpc", {"profile": head_profile(reader), "heads": 2})
    check_options("ehpc", {"profile": "auto", "calibrate": False})
    check_options("question_rows", {"probe": question_probe(reader), "exit_layer": None})
    check_options("fusion", {"weights": {"lexical": 1}})


def test_a_weight_that_is_no_number_is_refused():
    with pytest.raises(BadInput, match="not finite numbers"):
        build_method("fusion", proxy=ScriptedReader.from_needles("x"), weights={"lexical": "much"})


@pytest.mark.parametrize(
    "make",
    [
        lambda r: Sentinel(r, sentinel_probe(r), chunk_tokens=0),
        lambda r: QuestionRows(r, None, window_tokens=0),
    ],
)
def test_windows_below_a_token_are_refused(make):
    with pytest.raises(BadInput, match="give 1 or more"):
        make(ScriptedReader.from_needles("pin"))
