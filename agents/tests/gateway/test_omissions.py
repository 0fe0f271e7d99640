"""`tamis serve --upstream`: what is left out of a result has a mark, an id, and a limit."""

from __future__ import annotations

import json
import re

import pytest

from agents.tests.gateway.step_kit import SHAPES, Step, chat_of
from agents.tests.gateway.test_providers import get
from tamis.compressors.tools.types import MOST_TOKENS
from tests.service.agents.recorded import LOG
from tests.service.http.app_kit import NEEDLE, QUESTION, served

ACCESS = "".join(f"10.0.{i % 7}.{i % 250} GET /p/{i} 200 {i * 37 % 991}\n" for i in range(3000))
PAGE = " ".join(f"Room {i} is painted in spring. {NEEDLE if i == 40 else ''}" for i in range(90))
OFFERED = {
    "openai": {"type": "function", "function": {"name": "mcp__x__tamis_retrieve"}},
    "anthropic": {"name": "mcp__x__tamis_retrieve", "input_schema": {"type": "object"}},
}


@pytest.fixture(scope="module")
def service(upstream):
    with served(upstream=upstream.url, method="lexical", retrieve_bytes=1 << 22) as running:
        yield running


def send(service, upstream, chat, shape: str, **headers: str):
    """The results that went on, and the answer."""
    answer = service.raw(SHAPES[shape], chat.data, **headers)
    sent = json.loads(upstream.exchanges[-1].body)
    return [get(sent, place) for place in chat.places], answer


def ids_in(shown: str) -> set[str]:
    return set(re.findall(r"omitted, \d+ tokens?; (?:\S+ )?hash=([0-9a-f]{24})\]", shown))


def original(service, key: str) -> str:
    answer = service.http.get(f"/v1/retrieve/{key}")
    answer.raise_for_status()
    return answer.json()["original_content"]


@pytest.mark.parametrize("shape", SHAPES)
def test_each_mark_has_an_id_by_which_the_text_is_had_again(service, upstream, shape):
    texts = [LOG, PAGE, json.dumps([{"id": i, "name": f"user {i}"} for i in range(400)])]
    steps = [Step("fetch", {"of": f"{i} for {QUESTION}"}, text) for i, text in enumerate(texts)]
    results, answer = send(service, upstream, chat_of(shape, "S", steps), shape)
    assert answer.headers["x-tamis-status"] == "shortened"
    for shown, text in zip(results, texts, strict=True):
        marks = len(re.findall(r"omitted, \d+ token", shown))
        assert len(shown) < len(text)
        assert 0 < marks == len(re.findall("; hash=", shown))
        (key,) = ids_in(shown)
        assert original(service, key) == text


def test_the_originals_are_kept_for_as_long_as_their_marks_are_sent(service, upstream):
    """A later request repeats the marks from memory; the text may have gone in between."""
    steps = [Step("bash", {"command": "pytest"}, LOG)]
    (shown,), _ = send(service, upstream, chat_of("openai", "Later.", steps), "openai")
    (key,) = ids_in(shown)
    store = service.service_state.originals
    store._entries.clear()
    store._stats.bytes = 0
    steps.append(Step("bash", {"command": "date"}, "Sunday"))
    results, _ = send(service, upstream, chat_of("openai", "Later.", steps), "openai")
    assert results == [shown, "Sunday"]
    assert original(service, key) == LOG


@pytest.mark.parametrize("shape", OFFERED)
def test_marks_name_the_tool_that_gives_texts_back(service, upstream, shape):
    chat = chat_of(shape, "Tools.", [Step("bash", {"command": "pytest -x"}, LOG)])
    chat.body["tools"] = [OFFERED[shape]]
    (shown,), _ = send(service, upstream, chat, shape)
    assert "; mcp__x__tamis_retrieve hash=" in shown
    (key,) = ids_in(shown)
    assert original(service, key) == LOG


@pytest.mark.parametrize("bytes_", [10_000, 150_000])
def test_what_does_not_fit_into_the_store_is_said(upstream, bytes_):
    """The whole text, or the oldest of several; a text that was never kept has no id."""
    texts = [f"{n}\n{ACCESS}" for n in range(3)]
    steps = [Step("bash", {"command": f"cat {n}"}, text) for n, text in enumerate(texts)]
    with served(upstream=upstream.url, method="lexical", retrieve_bytes=bytes_) as service:
        results, answer = send(service, upstream, chat_of("openai", "Small.", steps), "openai")
        kept = [key for shown in results for key in ids_in(shown)]
        assert len(kept) == (0 if bytes_ == 10_000 else 3)
        assert "--retrieve-bytes" in answer.headers["x-tamis-warnings"]
        assert not kept or original(service, kept[-1]) == texts[-1]


@pytest.mark.parametrize("shape", SHAPES)
def test_no_result_takes_more_than_the_cap_unless_a_share_is_asked_for(service, upstream, shape):
    steps = [Step("bash", {"command": f"cat {n}"}, f"{n}\n{ACCESS}") for n in range(2)]
    count = service.service_state.methods.counter("proxy").count
    chat = chat_of(shape, "Capped.", steps)
    results, answer = send(service, upstream, chat, shape)
    assert all(MOST_TOKENS * 0.8 < count(shown) <= MOST_TOKENS for shown in results)
    saved = sum(count(one.result) - count(shown) for one, shown in zip(steps, results, strict=True))
    assert answer.headers["x-tamis-tokens-saved"] == str(saved)
    results, _ = send(service, upstream, chat, shape, x_tamis_ratio="0.4")
    assert all(count(shown) > MOST_TOKENS for shown in results)


LONG_ERROR = "ERROR worker crashed: " + " ".join(f"frame{i}=0x{i * 7919:x}" for i in range(150))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_one_long_error_of_a_log_stays_and_its_cut_is_said(service, upstream, shape):
    log = "".join(f"INFO request {i} ok\n" for i in range(13)) + LONG_ERROR + "\n"
    chat = chat_of(shape, "One error.", [Step("bash", {"command": "python serve.py"}, log)])
    for _ in range(2):  # of memory the second time
        (shown,), answer = send(service, upstream, chat, shape)
        assert "\nERROR worker crashed: frame0=" in shown
        assert shown.rstrip().endswith(LONG_ERROR[-40:])
        assert answer.headers["x-tamis-status"] == "shortened"
        assert int(answer.headers["x-tamis-tokens-saved"]) > 500
        warnings = answer.headers["x-tamis-warnings"]
        assert f"{chat.places[0]}: failures are cut in 1 of their lines" in warnings
    (key,) = ids_in(shown)
    assert original(service, key) == log


def test_failures_that_have_no_room_are_counted_in_the_warning(service, upstream):
    log = "".join(f"ERROR worker {i} lost its lease on shard {i * 37 % 91}\n" for i in range(200))
    chat = chat_of("openai", "Many.", [Step("bash", {"command": "cat errors.log"}, log)])
    (shown,), answer = send(service, upstream, chat, "openai")
    counted = sum(map(int, re.findall(r"(\d+) errors?, lines", shown)))
    assert counted == 200 - shown.count("lost its lease")
    assert re.search(r"/content: left out: \d+ errors", answer.headers["x-tamis-warnings"])
