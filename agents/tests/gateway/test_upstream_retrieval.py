"""`--upstream-retrieval-tags`: retrieved context in chats that are forwarded."""

from __future__ import annotations

import json

import pytest

from agents.tests.gateway.test_upstream import LOG, body_of, sent, turns
from tamis.probes.errors import BadInput
from tamis.service.http.runtime.settings import Settings
from tamis_agents.gateway.shortening import replace_strings
from tests.service.http.app_kit import NEEDLE, QUESTION, served

FILL = " ".join(f"Room {i} is painted in spring." for i in range(80))
CONTEXT = f"<context>{FILL} {NEEDLE} {FILL}</context>"


@pytest.fixture(scope="module")
def service(upstream):
    tags = ("context", "documents")
    with served(upstream=upstream.url, method="lexical", upstream_retrieval_tags=tags) as running:
        yield running


def is_shortened(text: str) -> bool:
    return NEEDLE in text and len(text) < len(CONTEXT) * 0.7


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def test_context_gets_shorter_and_every_other_byte_stays(service, upstream):
    body = body_of([user(f"{CONTEXT}\n{QUESTION}")])
    asked, answer = sent(service, upstream, body)
    content = asked.json["messages"][0]["content"]
    assert is_shortened(content)
    original = json.loads(body)["messages"][0]["content"]
    assert replace_strings(asked.body.decode(), {"/messages/0/content": original}) == body.decode()
    assert answer.headers["x-tamis-status"] == "shortened"
    assert "x-tamis-warnings" not in answer.headers


@pytest.mark.parametrize("as_parts", [False, True])
def test_anthropic_s_system_is_shortened_for_the_last_turn(service, upstream, as_parts):
    system = [{"type": "text", "text": CONTEXT}] if as_parts else CONTEXT
    messages = [user("Who painted it?"), {"role": "assistant", "content": "x"}, user(QUESTION)]
    asked, _ = sent(service, upstream, body_of(messages, system=system), "/v1/messages")
    found = asked.json["system"]
    assert is_shortened(found[0]["text"] if as_parts else found)
    assert asked.json["messages"] == messages


def test_context_of_a_turn_reads_the_same_in_every_later_request(service, upstream):
    first = [user(CONTEXT), user(QUESTION)]
    asked, _ = sent(service, upstream, body_of(first))
    later = [*first, {"role": "assistant", "content": "x"}, user(f"Which room?\n{CONTEXT}")]
    again, _ = sent(service, upstream, body_of(later))
    assert is_shortened(asked.json["messages"][0]["content"])
    assert again.json["messages"][:2] == asked.json["messages"]
    assert len(again.json["messages"][3]["content"]) < len(CONTEXT)


def test_results_and_context_are_both_shortened_and_what_is_cached_is_not(service, upstream):
    messages = [*turns(LOG), user(f"{CONTEXT}\n{QUESTION}")]
    asked, _ = sent(service, upstream, body_of(messages))
    assert len(asked.json["messages"][3]["content"]) < len(LOG) * 0.6
    assert is_shortened(asked.json["messages"][4]["content"])
    messages[4]["cache_control"] = {"type": "ephemeral"}
    again, _ = sent(service, upstream, body_of(messages))
    for index in (3, 4):  # short as the provider's cache has it, wherever the breakpoint is
        assert again.json["messages"][index]["content"] == asked.json["messages"][index]["content"]
    messages[0]["content"] = "Another conversation."
    whole, answer = sent(service, upstream, body_of(messages))
    assert whole.json["messages"] == messages
    assert answer.headers["x-tamis-status"] == "unchanged"


def test_broken_tags_leave_the_text_alone_and_the_answer_says_so(service, upstream):
    body = body_of([user(f"<context>{FILL}\n{QUESTION}")])
    asked, answer = sent(service, upstream, body)
    assert asked.body == body
    assert "/messages/0/content stays whole" in answer.headers["x-tamis-warnings"]


def test_it_is_off_without_the_setting(upstream):
    with served(upstream=upstream.url, method="lexical") as running:
        body = body_of([user(f"{CONTEXT}\n{QUESTION}")])
        asked, _ = sent(running, upstream, body)
    assert asked.body == body


def test_tags_without_an_upstream_or_that_are_no_names_stop_the_start(upstream):
    with pytest.raises(BadInput, match="upstream"):
        Settings(upstream_retrieval_tags=("context",))
    knobs = {"upstream": upstream.url, "upstream_retrieval_tags": ("<context>",)}
    with pytest.raises(BadInput, match="angle brackets"), served(**knobs):
        pass
