"""`config.retrieval_tags`: retrieved context in prompts gets shorter, all else stays as sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tamis.service.http.conversation.tagged import RetrievalTags
from tests.service.http.app_kit import NEEDLE, QUESTION, served

FILL = " ".join(f"Room {i} is painted in spring." for i in range(80))
OPEN, CLOSE = "Use what is found.\r\n<context id='1'>\n", "\n</context >\n\n  "
HIGH = {"min_tokens_to_compress": 1}


@pytest.fixture(scope="module")
def service():
    with served(method="lexical") as running:
        yield running


def compress(service: Any, messages: list[dict], tags: list[str], **more: Any) -> dict:
    config = {"retrieval_tags": tags, **HIGH, **more.pop("config", {})}
    answer = service.post("/v1/compress", messages=messages, config=config, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def user(text: str) -> dict:
    return {"role": "user", "content": text}


@pytest.mark.parametrize("role", ["user", "system", "developer"])
def test_what_is_between_the_tags_is_compressed_and_the_rest_stays(service, role):
    text = f"{OPEN}{FILL} {NEEDLE} {FILL}{CLOSE}"
    found = compress(service, [{"role": role, "content": text}, user(QUESTION)], ["context"])
    shown = found["messages"][0]["content"]
    assert shown.startswith(OPEN)
    assert shown.endswith(CLOSE)
    assert NEEDLE in shown
    assert len(shown) < len(text) * 0.6
    (one,) = found["compressions"]
    assert (one["tool"], one["format"]) == (None, "prose")
    assert found["messages"][1] == user(QUESTION)


def test_the_question_is_the_last_user_s_text_outside_of_the_tags(service):
    """Words that the context repeats do not count, though they are in the same message."""
    text = f"<context>{FILL} {NEEDLE} {FILL}</context>\n{QUESTION}"
    shown = compress(service, [user(text)], ["context"], ratio=0.1)["messages"][0]["content"]
    assert NEEDLE in shown
    assert shown.endswith(f"</context>\n{QUESTION}")
    without = text.removesuffix(QUESTION)
    found = compress(service, [user(without)], ["context"])
    assert found["messages"][0]["content"] == without
    assert any("nobody asks" in warning for warning in found["warnings"])


def test_each_document_keeps_its_tags_and_its_source(service):
    def document(i: int, text: str) -> str:
        head = f'<document index="{i}">\n<source>a{i}.txt</source>\n'
        return f"{head}<document_content>\n{text}\n</document_content>\n</document>"

    documents = [document(1, FILL), document(2, f"{FILL} {NEEDLE}"), document(3, FILL)]
    text = "<documents>\n" + "\n".join(documents) + f"\n</documents>\n{QUESTION}"
    shown = compress(service, [user(text)], ["documents"], ratio=0.1)["messages"][0]["content"]
    at = 0
    for part in text.replace(FILL, "|").replace(NEEDLE, "|").split("|"):
        at = shown.index(part.strip(), at) + len(part.strip())
    assert NEEDLE in shown
    assert len(shown) < len(text) * 0.3


@pytest.mark.parametrize(
    "text",
    [
        f"<context>{FILL}",
        f"{FILL}</context>",
        f"<context>{FILL}<context>a</context></context>",
        f"<context><document>{FILL}</context>",
        f"<context><document>{FILL}<document>a</document></document></context>",
    ],
)
def test_broken_tags_leave_the_text_alone_and_say_so(service, text):
    config = {"compress_user_messages": True}
    found = compress(service, [user(text), user(QUESTION)], ["context"], config=config)
    assert found["messages"] == [user(text), user(QUESTION)]
    assert any("/messages/0/content stays whole: <" in warning for warning in found["warnings"])


def test_what_is_cached_frozen_or_recent_stays(service):
    text = f"<context>{FILL} {NEEDLE}</context>"
    for frozen in ({"frozen_message_count": 1}, {"protect_recent": 2}):
        found = compress(service, [user(text), user(QUESTION)], ["context"], config=frozen)
        assert found["compressions"] == []
    part = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
    messages = [{"role": "user", "content": [part]}, user(QUESTION)]
    assert compress(service, messages, ["context"])["messages"] == messages


def test_without_tags_in_config_nothing_changes(service):
    messages = [user(f"<context>{FILL}</context>\n{QUESTION}")]
    assert compress(service, messages, [])["messages"] == messages


def test_a_mention_of_the_tags_stays(service):
    text = f"Read between <context> and </context>.\n<context>{FILL}</context>\n{QUESTION}"
    shown = compress(service, [user(text)], ["context"])["messages"][0]["content"]
    assert shown.startswith("Read between <context> and </context>.\n<context>")
    assert len(shown) < len(text)


def test_a_tag_that_is_no_name_is_refused(service):
    config = {"retrieval_tags": ["<context>"]}
    answer = service.post("/v1/compress", messages=[user(QUESTION)], config=config)
    assert answer.status_code == 422
    assert "without angle brackets" in answer.text


words = st.text("ab. \n<>/'\"\u00e9", max_size=12)
sentences = st.integers(1, 40).map(lambda n: " ".join(f"Key {i} is red." for i in range(n)))
tags = st.sampled_from(["<context>", "</context>", "<document>", "</document>", "<context a='>'>"])
whole = st.builds(lambda text: f"<context>{text}</context>", sentences)
texts = st.lists(words | sentences | tags | whole, max_size=8).map("".join)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(text=texts, ratio=st.floats(0.01, 1), role=st.sampled_from(["user", "system"]))
def test_nothing_changes_outside_of_the_tags_and_nothing_grows(service, text, ratio, role):
    messages = [{"role": role, "content": text}, user("Which key is red?")]
    found = compress(service, messages, ["context"], ratio=ratio)
    shown = found["messages"][0]["content"]
    tagged = RetrievalTags(["context"]).parse(text)
    fixed, at = [], 0
    for stretch in tagged.stretches:
        fixed.append(text[at : stretch.start])
        at = stretch.stop
    fixed.append(text[at:])
    assert shown.startswith(fixed[0])
    assert shown.endswith(fixed[-1])
    place = 0
    for part in fixed:
        place = shown.index(part, place) + len(part)
    if len(fixed) == 1:
        assert shown == text
    for one in found["compressions"]:
        assert one["tokens_after"] < one["tokens_before"]
        assert any(stop - start > 0 and text[start:stop].strip() for start, stop in one["kept"])
        for omission in one["omissions"]:
            inside = [(s.start, s.stop) for s in tagged.stretches]
            start, stop = omission["start"], omission["end"]
            assert any(a <= start and stop <= b for a, b in inside)
    assert found["messages"][1] == messages[1]
