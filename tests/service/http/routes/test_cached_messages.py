"""`/v1/compress` with `messages`: what a provider has cached stays as it is."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.service.http.app_kit import NEEDLE, QUESTION, Running, served

LONG = " ".join([NEEDLE, *(f"Room {i} is painted in spring." for i in range(60))])
MARK = {"cache_control": {"type": "ephemeral"}}


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


def result(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": name, "content": LONG, **more}


def nested(name: str, *marked: bool) -> dict[str, Any]:
    """A tool result of several texts, of which some are marked."""
    texts = [{"type": "text", "text": LONG, **(MARK if mark else {})} for mark in marked]
    return {"type": "tool_result", "tool_use_id": name, "content": texts}


def user(*parts: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": list(parts), "role": "user", **more}


ASKS = user({"type": "text", "text": QUESTION})


def shortened(service: Running, messages: list[dict[str, Any]], **config: Any) -> list[str]:
    """Which texts became shorter, by the place where they stand; all others came back as sent."""
    config = {"target_ratio": 0.1, **config}
    answer = service.post("/v1/compress", messages=messages, config=config)
    assert answer.status_code == 200, answer.text
    return list(changed(messages, answer.json()["messages"]))


def changed(before: Any, after: Any, place: str = ""):
    if isinstance(before, str) and before != after:
        assert len(after) < len(before) / 5
        yield place
    elif isinstance(before, dict | list):
        keys = list(before) if isinstance(before, dict) else range(len(before))
        assert keys == (list(after) if isinstance(after, dict) else range(len(after)))
        for key in keys:
            yield from changed(before[key], after[key], f"{place}/{key}")
    else:
        assert before == after


@pytest.mark.parametrize(
    ("messages", "shorter"),
    [
        ([user(result("a", **MARK)), user(result("b")), ASKS], ["/1/content/0/content"]),
        ([user(result("a")), user(result("b", **MARK)), ASKS], []),
        ([user(result("a"), result("b", **MARK), result("c")), ASKS], ["/0/content/2/content"]),
        ([user(result("a")), user({"type": "text", "text": "x", **MARK}), ASKS], []),
        ([user(result("a")), user(result("b"), **MARK), user(result("c")), ASKS],
         ["/2/content/0/content"]),
        ([user(nested("a", True, False)), ASKS], ["/0/content/0/content/1/text"]),
        ([user(nested("a", False, True)), ASKS], []),
        ([user(result("a")), user({"type": "image", "source": {}, **MARK}), ASKS], []),
        ([user(result("a", cache_control=None)), ASKS], ["/0/content/0/content"]),
        ([user(result("a")), ASKS | MARK], []),
    ],
)  # fmt: skip
def test_only_what_stands_behind_the_last_breakpoint_is_compressed(service, messages, shorter):
    assert shortened(service, messages) == shorter


def test_all_of_it_is_compressed_where_that_is_asked_for(service):
    messages = [user(result("a", **MARK)), user(result("b")), ASKS]
    both = ["/0/content/0/content", "/1/content/0/content"]
    assert shortened(service, messages, compress_cached=True) == both


def test_what_is_left_alone_is_the_same_to_the_byte(service):
    """The order of the fields included: a prefix that is written otherwise is another prefix."""
    start = {
        "zeta": 1,
        "content": [result("a"), {"text": "x", "type": "text", **MARK}],
        "role": "user",
    }
    sent = [start, user(result("b")), ASKS]
    answer = service.post("/v1/compress", messages=sent, config={"target_ratio": 0.1})
    found = answer.json()["messages"]
    assert json.dumps(found[0]) == json.dumps(start)
    assert found[1] != sent[1]


def test_what_the_cache_holds_counts_against_a_budget(service):
    messages = [user(result("a", **MARK)), user(result("b")), ASKS]
    answer = service.post("/v1/compress", messages=messages, token_budget=100)
    assert answer.status_code == 422
    assert "the messages that stay" in answer.json()["error"]["message"]
