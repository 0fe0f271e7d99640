"""Options of the published methods: a value of another kind is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tamis.compressors.registry import build_method, check_options
from tamis.probes.errors import BadInput
from tests.laws.methods import head_profile
from tests.scripted import ScriptedReader


@pytest.mark.parametrize(
    ("name", "option", "value", "give"),
    [
        ("raw_attention", "sigma", "x", "a number of at least 0"),
        ("icr", "window_tokens", "abc", "a whole number, or None"),
        ("qrhead", "heads", 2.5, "a whole number"),
        ("corehead", "profile", [1], "a HeadProfile or a path or a text"),
    ],
)
def test_a_value_of_another_kind_is_refused_before_any_model_is_loaded(name, option, value, give):
    with pytest.raises(BadInput) as refused:
        build_method(name, proxy="nobody", root=Path("nowhere"), **{option: value})
    assert str(refused.value) == f"{name}: {option} is {value!r}; give {give}"


def test_values_of_the_right_kind_pass():
    reader = ScriptedReader.from_needles("pin")
    check_options("qrhead", {"profile": head_profile(reader), "heads": 2, "window_tokens": None})
    check_options("corehead", {"profile": "auto", "calibrate": False})
    check_options("raw_attention", {"sigma": 2})
