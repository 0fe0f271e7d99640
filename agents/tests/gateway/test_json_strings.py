"""Strings are replaced in a JSON text, and not a byte beside them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis_agents.gateway.shortening import replace_strings, string_spans

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
SPACES = st.sampled_from([None, 1, "\t", "\r\n "])


def strings(value: Any, path: str = "") -> dict[str, str]:
    """Every string by its pointer: the slow way."""
    if isinstance(value, str):
        return {path: value}
    if isinstance(value, list):
        return {p: s for i, v in enumerate(value) for p, s in strings(v, f"{path}/{i}").items()}
    if isinstance(value, dict):
        names = {k: k.replace("~", "~0").replace("/", "~1") for k in value}
        return {p: s for k, v in value.items() for p, s in strings(v, f"{path}/{names[k]}").items()}
    return {}


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values, SPACES, st.booleans())
def test_every_string_is_found_where_it_stands(value, indent, escaped):
    text = json.dumps(value, indent=indent, ensure_ascii=escaped)
    wanted = strings(value)
    spans = string_spans(text, wanted)
    assert {p: json.loads(text[a:b]) for p, (a, b) in spans.items()} == wanted


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(values, SPACES, st.data())
def test_all_around_what_is_replaced_stays(value, indent, data):
    text = json.dumps(value, indent=indent)
    wanted = strings(value)
    chosen = {p for p in wanted if data.draw(st.booleans())}
    replaced = replace_strings(text, {p: f"{wanted[p]}\ud800é" for p in chosen})
    assert strings(json.loads(replaced)) == {
        p: f"{s}\ud800é" if p in chosen else s for p, s in wanted.items()
    }
    assert replace_strings(replaced, {p: wanted[p] for p in chosen}) == text


def test_of_two_members_with_one_name_the_last_counts():
    assert replace_strings('{"a":"x","a":"y"}', {"/a": "z"}) == '{"a":"x","a":"z"}'


@pytest.mark.parametrize(
    "text", ["", "{", "[", '{"a"', '{"a":', '{"a":"b"', '{"a" "b"}', '["a" "b"]', "[,]", '{"a":}']
)
def test_what_is_no_json_is_refused(text):
    with pytest.raises(ValueError, match=r".+"):
        replace_strings(text, {"/a": "z", "/0": "z"})


def test_a_deep_text_does_not_exhaust_the_stack():
    text = "[" * 50_000 + '"a"' + "]" * 50_000
    assert replace_strings(text, {"/0" * 50_000: "b"}) == text.replace("a", "b")
