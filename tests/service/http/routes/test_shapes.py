"""`/v1/compress` in other services' shapes: conversations, and one text."""

from __future__ import annotations

import pytest

from tests.service.http.app_kit import NEEDLE, QUESTION, served

LONG = " ".join([NEEDLE, *(f"Room {i} is painted in spring." for i in range(60))])
TALK = [
    {"role": "system", "content": "Be brief. " * 5},
    {"role": "user", "content": "Look it up first."},
    {"role": "assistant", "content": None, "tool_calls": [{"id": "t1", "type": "function"}]},
    {"role": "tool", "tool_call_id": "t1", "content": LONG},
    {"role": "user", "content": QUESTION},
]


@pytest.fixture(scope="module")
def service():
    with served() as running:
        yield running


def test_only_what_tools_returned_is_shorter_and_every_field_comes_back(service):
    answer = service.post("/v1/compress", messages=TALK, config={"target_ratio": 0.1})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    before, after = TALK[3].pop("content"), found["messages"][3].pop("content")
    assert found["messages"] == TALK
    TALK[3]["content"] = before
    assert after == NEEDLE or (after.startswith(NEEDLE) and len(after) < len(LONG) / 5)
    assert found["tokens_saved"] == found["tokens_before"] - found["tokens_after"] > 300
    assert found["compression_ratio"] == found["tokens_after"] / found["tokens_before"]


def test_the_token_budget_is_for_all_messages(service):
    found = service.post("/v1/compress", messages=TALK, token_budget=140).json()
    assert NEEDLE in found["messages"][3]["content"]
    assert found["tokens_after"] <= 140


def test_a_budget_spent_on_what_stays_is_refused_with_the_numbers(service):
    answer = service.post("/v1/compress", messages=TALK, token_budget=5)
    assert answer.status_code == 422
    assert "token_budget is 5 and the messages that stay" in answer.json()["error"]["message"]


def test_tool_results_of_anthropics_shape_are_compressed_in_place(service):
    parts = [
        {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": LONG}]},
        {"type": "text", "text": QUESTION},
    ]
    body = {"messages": [{"role": "user", "content": parts}], "config": {"target_ratio": 0.1}}
    found = service.post("/v1/compress", **body).json()["messages"][0]["content"]
    assert found[1] == parts[1]
    assert found[0]["tool_use_id"] == "t1"
    assert NEEDLE in found[0]["content"][0]["text"]
    assert len(found[0]["content"][0]["text"]) < len(LONG) / 5


@pytest.mark.parametrize(
    "config", [{"protect_recent": 2}, {"min_tokens_to_compress": 10_000}], ids=str
)
def test_what_is_protected_stays(service, config):
    found = service.post("/v1/compress", messages=TALK, token_budget=80, config=config).json()
    assert found["messages"] == TALK
    assert found["tokens_saved"] == 0
    assert found["warnings"]


def test_instructions_and_earlier_turns_are_compressed_only_if_asked(service):
    talk = [{"role": "system", "content": LONG}, {"role": "user", "content": LONG}, TALK[-1]]
    config = {"target_ratio": 0.1}
    assert service.post("/v1/compress", messages=talk, config=config).json()["messages"] == talk
    config |= {"compress_system_messages": True, "compress_user_messages": True}
    found = service.post("/v1/compress", messages=talk, config=config).json()["messages"]
    assert max(len(m["content"]) for m in found[:2]) < len(LONG) / 5 + len(NEEDLE)
    assert found[2] == talk[2]


def test_clients_of_other_services_name_models_of_their_own(service):
    body = {"messages": TALK, "config": {"target_ratio": 0.1}}
    talk = service.post("/v1/compress", **body, model="gpt-4o")
    assert talk.status_code == 200
    assert service.post("/v1/compress", **body).json() == talk.json()
    single = service.post("/v1/compress", input=LONG, query=QUESTION, model="bear-2")
    assert single.status_code == 200
    ours = service.post("/v1/compress", question=QUESTION, documents=[LONG], model="gpt-4o")
    assert ours.status_code == 404


def test_a_tool_result_that_fits_keeps_the_white_space_around_it(service):
    code = "    def f():\n        return 1\n\n" * 60
    talk = [TALK[-1], {"role": "tool", "tool_call_id": "a", "content": code}]
    found = service.post("/v1/compress", messages=talk, token_budget=100_000).json()
    assert found["messages"] == talk
    assert found["tokens_after"] == found["tokens_before"]


def test_a_share_is_wished_for_beside_a_budget(service):
    config = {"target_ratio": 0.05}
    little = service.post("/v1/compress", messages=TALK, token_budget=4000, config=config).json()
    much = service.post("/v1/compress", messages=TALK, token_budget=4000).json()
    assert little["tokens_after"] < much["tokens_after"] <= 4000


def test_messages_without_a_question_are_served_all_the_same(service):
    """A gateway may hold back the user's turn and the calls."""
    answer = service.post("/v1/compress", messages=[TALK[3]])
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert 0 < found["tokens_after"] < found["tokens_before"] / 2
    assert found["messages"][0]["content"].startswith(NEEDLE)


def test_one_text_comes_back_in_its_own_shape(service):
    settings = {"aggressiveness": 0.9}
    body = {"input": LONG, "query": QUESTION, "compression_settings": settings, "app_id": "x"}
    found = service.post("/v1/compress", **body).json()
    assert set(found) == {"output", "output_tokens", "original_input_tokens"}
    assert NEEDLE in found["output"]
    assert found["output_tokens"] <= 0.1 * found["original_input_tokens"]


def test_safe_text_is_kept_and_its_tags_are_not(service):
    tagged = LONG.replace("Room 40 is", "<ttc_safe>Room 40 is</ttc_safe>")
    body = {"input": tagged, "query": QUESTION, "compression_settings": {"aggressiveness": 0.9}}
    found = service.post("/v1/compress", **body).json()
    assert "Room 40 is painted" in found["output"]
    assert "ttc_safe" not in found["output"]


def test_one_text_without_a_question_is_refused_with_the_way_out(service):
    answer = service.post("/v1/compress", input=LONG)
    assert answer.status_code == 422
    assert "add query" in answer.json()["error"]["message"]


def test_a_batch_refuses_many_questions_in_one_input_instead_of_answering_one(service):
    inputs = [{"questions": ["a?", "b?"], "documents": ["c."]}]
    (item,) = service.post("/v1/compress/batch", inputs=inputs).json()["data"]
    assert "input 0 has 2 questions" in item["error"]["message"]


@pytest.mark.parametrize(("granularity", "most"), [("sentence", 35), ("block", 50)])
def test_granularity_is_what_is_kept_as_one(service, granularity, most):
    body = {"question": QUESTION, "documents": [f"{NEEDLE} Walls are blue.\n\nMore. And more."]}
    found = service.post("/v1/compress", **body, max_tokens=most, granularity=granularity).json()
    blocks = {"sentence": NEEDLE, "block": f"{NEEDLE} Walls are blue."}
    assert found["text"] == blocks[granularity]


def test_examples_of_a_task_are_kept_or_dropped_whole(service):
    examples = ["Walls are blue.\n\nAnswer: no", f"{NEEDLE}\n\nAnswer: yes"]
    body = {"question": QUESTION, "documents": examples, "granularity": "document"}
    found = service.post("/v1/compress", **body, max_tokens=50).json()
    assert found["text"] == examples[1]
    assert [one["text"] for one in found["results"]] == ["", examples[1]]


def test_in_shadow_the_text_comes_back_whole_and_the_spans_say_what_would_be(service):
    body = {"question": QUESTION, "documents": [LONG, "Walls are blue."], "max_tokens": 60}
    short = service.post("/v1/compress", **body).json()
    found = service.post("/v1/compress", **body, shadow=True).json()
    assert found["status"] == "shadow"
    assert found["text"] == f"{LONG}\n\nWalls are blue."
    assert [d["text"] for d in found["results"]] == body["documents"]
    for name in ("relevant_spans", "kept", "tokens_after", "evidence_score"):
        assert [d[name] for d in found["results"]] == [d[name] for d in short["results"]]
    assert found["usage"] == short["usage"]
