"""The texts in a tool's result: every one, in its place, and nothing that is no text."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.service.agents.result_texts import result_texts

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def test_texts_at_any_depth_are_found_in_order():
    response = {"stdout": "a b", "parts": [{"type": "text", "text": "c d"}, "e f"], "rc": 0}
    assert [found.text for found in result_texts(response)] == ["a b", "c d", "e f"]


def test_pictures_and_base64_are_no_text():
    response = [
        {"type": "image", "data": "a b"},
        {"isImage": True, "stdout": "a b"},
        {"blob": "QUJD" * 100},
        {"json": '{"a":1}'},
    ]
    assert [found.text for found in result_texts(response)] == ['{"a":1}']


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(st.text(), values))
def test_replacing_every_text_changes_nothing_else(response):
    before = json.dumps(response)
    found = result_texts(response)
    texts = [text.text for text in found]
    for i, text in enumerate(found):
        text.replace(f"{i}")
    for text, original in zip(found, texts, strict=True):
        text.replace(original)
    assert json.dumps(response) == before


def test_a_deep_result_does_not_exhaust_the_stack():
    response: list = []
    for _ in range(50_000):
        response = [response]
    assert result_texts([response, "a b"])[-1].text == "a b"
