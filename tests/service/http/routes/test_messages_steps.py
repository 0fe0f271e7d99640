"""`/v1/compress` with `messages`: results that a later step made needless go first, for free."""

from __future__ import annotations

import re
from typing import Any

import pytest

from agents.tests.gateway.step_kit import Step, chat_of
from agents.tests.gateway.test_steps import DONE, edit
from tests.service.http.app_kit import served
from tests.service.http.conversation_kit import at

FILE = "".join(f"def step_{i}(order):\n    return order.part_{i}\n" for i in range(40))
FRAMES = "".join(f"  File 'part_{i}.py', line {7 * i}, in part_{i}\n" for i in range(60))
TRACE = f"Traceback (most recent call last):\n{FRAMES}KeyError: 7\n"
READ, WRITE = (
    Step("read_file", {"path": "a.py"}, FILE),
    Step("write_file", {"path": "a.py", "content": "x = 1"}, "ok"),
)
FAILED, RAN = (Step("bash", {"command": "python a.py"}, text) for text in (TRACE, "42"))
STEPS = [READ, FAILED, edit(), RAN, READ, *DONE]
SHAPES = ("openai", "anthropic")


@pytest.fixture(scope="module")
def service():
    with served(method="lexical", retrieve_bytes=1 << 22) as running:
        yield running


def compressed(service, steps: list[Step], shape: str = "openai", **fields: Any):
    chat = chat_of(shape, "You repair programs.", steps)
    answer = service.post("/v1/compress", messages=chat.body["messages"], **fields)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    given = {"messages": chat.body["messages"]}
    gone = {
        chat.places.index(one["path"]): one for one in found["compressions"] if one["superseded"]
    }
    return found, gone, [(at(given, p), at(found, p)) for p in chat.places]


@pytest.mark.parametrize("shape", SHAPES)
def test_needless_results_go_and_the_answer_says_which_and_why(service, shape):
    found, gone, texts = compressed(service, STEPS, shape, ratio=1.0, config={"mode": "ccr"})
    assert {i: one["superseded"] for i, one in gone.items()} == {0: "repeated", 1: "recovered"}
    assert found["transforms_summary"] == {"tamis:superseded": 2}
    assert (found["method"], found["status"]) == (None, "ok")
    assert texts[1][1].startswith("KeyError: 7\n[… ")
    for i, one in gone.items():
        source, shown = texts[i]
        (digest,) = re.findall(r"hash=([0-9a-f]+)\]$", shown)
        assert one["hash"] == digest
        kept = service.http.get(f"/v1/retrieve/{digest}").json()
        assert kept["original_content"] == source
        spans = sorted([*one["kept"], *([o["start"], o["end"]] for o in one["omissions"])])
        assert "".join(source[a:b] for a, b in spans) == source
        assert all(source[a:b] in shown for a, b in one["kept"])
    assert all(source == shown for i, (source, shown) in enumerate(texts) if i not in gone)


def test_they_take_their_markers_of_the_budget_and_no_more(service):
    """What is left of the budget is divided among the results that are needed."""
    count = service.service_state.methods.counter("proxy").count
    for steps in (STEPS, [READ, WRITE, FAILED, *DONE], [FAILED, RAN, READ, READ, READ, *DONE]):
        for most in range(300, 2400, 300):
            found, gone, texts = compressed(service, steps, max_tokens=most)
            named = {one["path"] for one in found["compressions"]}
            left = sum(one["tokens_after"] for one in found["compressions"])
            assert gone
            assert left <= most
            needed = [s for i, (s, _) in enumerate(texts) if i not in gone and count(s) >= 250]
            room = most - sum(one["tokens_after"] for one in gone.values())
            # what fits without those that went stays whole
            assert (len(named) == len(gone)) is (sum(map(count, needed)) <= room)
        refused = service.post(
            "/v1/compress", messages=chat_of("openai", "x", steps).body["messages"], max_tokens=5
        )
        assert refused.status_code == 422


def test_a_token_budget_for_all_messages_is_kept(service):
    whole, _, _ = compressed(service, STEPS, shadow=True)
    for budget in range(whole["tokens_before"] - 1, 300, -400):
        found, gone, _ = compressed(service, STEPS, token_budget=budget)
        assert found["tokens_after"] <= budget
        assert gone


@pytest.mark.parametrize(
    "fields",
    [
        {"config": {"steps": False}},
        {"config": {"exclude_tools": ["read_*", "bash"]}},
        {"config": {"frozen_message_count": 99}},
        {"config": {"protect_recent": 99}},
        {"config": {"min_tokens_to_compress": 9999}},
        {"protect": {"regex": ["return order.part_7\\b", "part_7.py"]}},
    ],
    ids=str,
)
def test_what_shall_stay_stays(service, fields):
    _, gone, texts = compressed(service, STEPS, **({"ratio": 1.0} | fields))
    assert gone == {}
    assert all(source == shown for source, shown in texts)


def test_nothing_is_left_out_losslessly_and_a_shadow_changes_nothing(service):
    _, gone, texts = compressed(service, STEPS, lossless=True)
    assert gone == {}
    found, gone, texts = compressed(service, STEPS, shadow=True)
    assert set(gone) == {0, 1}
    assert all(source == shown for source, shown in texts)
    assert found["tokens_saved"] > 0


def test_the_last_steps_and_the_callers_own_markers(service):
    _, gone, _ = compressed(service, [READ, READ, *DONE[:1]], ratio=1.0)
    assert set(gone) == {0}
    _, gone, texts = compressed(service, [READ, READ], ratio=1.0)
    assert gone == {}
    _, gone, texts = compressed(service, STEPS, ratio=1.0, elision="(…)")
    assert texts[0][1] == "(…)"
    assert texts[1][1] == "KeyError: 7\n(…)"
