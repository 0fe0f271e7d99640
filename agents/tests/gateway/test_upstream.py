"""`tamis serve --upstream`: results of tools get shorter, and all else goes through to the byte."""

from __future__ import annotations

import json
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from agents.tests.gateway.chat_server import ANSWER, FIRST, REST
from tamis.compressors.registry import DEFAULT
from tamis.probes.errors import BadInput
from tamis.service.http.runtime.settings import Settings
from tamis_agents.gateway.middleware import ANSWER_HEADERS
from tamis_agents.gateway.shortening import replace_strings
from tests.service.agents.recorded import ERROR, LOG, QUESTION
from tests.service.http.app_kit import (
    BODY,
    Gated,
    busy_ratio,
    connected,
    pointing,
    served,
    wait_until,
)

PATH = "/v1/chat/completions"
KEY = "0123456789abcdef"


def turns(*results: str) -> list[dict]:
    """A conversation: the question, then calls with their results."""
    messages = [{"role": "system", "content": "Be brief. " * 400}]
    messages.append({"role": "user", "content": QUESTION})
    for i, result in enumerate(results):
        function = {"name": "bash", "arguments": '{"command": "pytest -v"}'}
        call = {"id": f"call_{i}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": f"call_{i}", "content": result})
    return messages


def body_of(messages: list[dict], **fields) -> bytes:
    """A body with white space, escapes and fields that nobody here knows."""
    text = json.dumps(
        {"model": "m", "messages": messages, "x_new": {"é": [1e3, "\u2028"]}} | fields
    )
    return text.replace('", "', '" ,\r\n\t"').encode()


def sent(service, upstream, body: bytes, path: str = PATH, **headers: str):
    """What the upstream got, and what the client got."""
    before = len(upstream.exchanges)
    answer = service.raw(path, body, **headers)
    (asked,) = upstream.exchanges[before:]
    return asked, answer


def test_a_result_gets_shorter_and_every_other_byte_stays(service, upstream):
    body = body_of(turns(LOG))
    asked, answer = sent(service, upstream, body)
    content = asked.json["messages"][3]["content"]
    assert ERROR in content.splitlines()
    assert "omitted" in content
    assert len(content) < len(LOG) * 0.6
    original = json.loads(body)["messages"][3]["content"]
    assert replace_strings(asked.body.decode(), {"/messages/3/content": original}) == body.decode()
    assert answer.content == ANSWER
    assert answer.headers["x-tamis-status"] == "shortened"
    assert int(answer.headers["x-tamis-tokens-saved"]) > 1000


def test_an_anthropic_result_gets_shorter(service, upstream):
    messages = [
        {"role": "user", "content": QUESTION},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "t1", "name": "bash", "input": {"command": "pytest"}}
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": LOG},
                {
                    "type": "tool_result",
                    "tool_use_id": "t2",
                    "content": [{"type": "text", "text": "small"}],
                },
            ],
        },
    ]
    body = body_of(messages, max_tokens=100)
    asked, answer = sent(service, upstream, body, "/v1/messages")
    first, second = asked.json["messages"][2]["content"]
    assert ERROR in first["content"]
    assert len(first["content"]) < len(LOG) * 0.6
    assert second == messages[2]["content"][1]
    assert answer.json()["content"][0]["text"] == "Hello"


def test_headers_go_through_and_ours_and_those_of_one_connection_do_not(service, upstream):
    headers = {
        "authorization": "Bearer sk-client",
        "openai-organization": "org-1",
        "x_tamis_ratio": "0.3",
        "connection": "x-hop, keep-alive",
        "x_hop": "1",
        "accept_encoding": "identity",
        "user_agent": "agent/1",
    }
    asked, answer = sent(service, upstream, body_of(turns(LOG)), **headers)
    assert asked.header("authorization") == "Bearer sk-client"
    assert asked.header("openai-organization") == "org-1"
    assert asked.header("user-agent") == "agent/1"
    assert asked.header("accept-encoding") == "identity"
    assert asked.header("content-length") == str(len(asked.body))
    assert asked.header("x-hop") is None
    assert [name for name, _ in asked.headers if name.lower().startswith("x-tamis")] == []
    assert asked.header("host") == upstream.url.removeprefix("http://")
    assert answer.headers["x-own"] == "yes"
    assert answer.headers["x-request-id"] == "req_upstream"


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (body_of(turns(LOG)), {"x_tamis": "off"}, "off"),
        (body_of(turns("few words")), {}, "unchanged"),
        (body_of(turns(LOG)), {"x_tamis_ratio": "much"}, "failed"),
        (body_of(turns(LOG)), {"x_tamis_ratio": "7"}, "failed"),
        (body_of(turns(LOG)), {"x_tamis_method": "none"}, "failed"),
        (b'{"messages": "none"}', {}, "failed"),
        (b'{"messages": [7]}', {}, "failed"),
        (b'{"messages": [{"content": []}]}', {}, "unchanged"),
        (b"no json", {}, "failed"),
        (b"", {}, "failed"),
        (b"\xff\xfe", {}, "failed"),
        (b"[" * 100 + b"]" * 100, {}, "failed"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_on_any_error_of_ours_the_body_goes_on_as_it_came(service, upstream, body, headers, status):
    asked, answer = sent(service, upstream, body, **headers)
    assert asked.body == body
    assert answer.status_code == 200
    assert answer.headers["x-tamis-status"] == status
    # what a caller did wrong is no fault of the service, which would be logged as one
    assert answer.headers.get("x-tamis-passthrough-reason") != "internal_error"


@pytest.mark.parametrize(
    ("headers", "status", "warning"),
    [
        ({"x_tamis_ratio": "7"}, "failed", "X-Tamis-Ratio is 7.0; give a share above 0 and up to"),
        ({"x_tamis_tools": "few"}, "failed", "X-Tamis-Tools is 'few'; give a number from 1 on"),
        ({"x_tamis_max_tokens": "9"}, "shortened", "the header x-tamis-max-tokens has no effect"),
        ({"x_tamis": "no"}, "shortened", "X-Tamis is 'no' and has no effect; off is known"),
        ({"x_tamis": "on"}, "shortened", None),
        ({"content_encoding": "gzip"}, "failed", "the body is packed (gzip); it is forwarded"),
    ],
)
def test_a_header_that_is_not_followed_is_named(service, upstream, headers, status, warning):
    body = body_of(turns(LOG))
    asked, answer = sent(service, upstream, body, **headers)
    assert answer.headers["x-tamis-status"] == status
    told = json.loads(answer.headers.get("x-tamis-warnings", "[]"))
    assert any(warning in one for one in told) if warning else told == []
    assert [name for name, _ in asked.headers if name.lower().startswith("x-tamis")] == []


def test_a_stream_comes_chunk_by_chunk(service, upstream):
    """The second event is sent only after the first has arrived."""
    upstream.gate.clear()
    with service.http.stream("POST", PATH, content=body_of(turns(LOG), stream=True)) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        found = b""
        for chunk in answer.iter_raw():
            found += chunk
            if found.startswith(FIRST):
                upstream.gate.set()
    assert found.replace(b": waiting\n\n", b"") == FIRST + REST
    assert len(upstream.exchanges[-1].json["messages"][3]["content"]) < len(LOG)


def test_a_client_that_hangs_up_ends_the_upstream_s_stream(service, upstream):
    upstream.gate.clear()
    upstream.gone.clear()
    with service.http.stream("POST", PATH, content=body_of(turns(LOG), stream=True)) as answer:
        next(answer.iter_raw())
    assert upstream.gone.wait(20)
    upstream.gate.set()


def test_a_client_that_goes_away_ends_the_work_and_nothing_is_sent_on(upstream):
    """Its chat waits for the model, which is then not asked for the results that are left."""
    knobs = {"upstream": upstream.url, "upstream_read_s": 600.0, "warmup": False}
    with Gated(pointing()) as reader, served(reader, **knobs) as running:
        data, before = body_of(turns(LOG, LOG[::-1], LOG[1:])), len(upstream.exchanges)
        connection = connected(running)
        connection.sendall(
            b"POST %s HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n" % (PATH.encode(), len(data)) + data
        )
        wait_until(lambda: reader.calls > 0)
        connection.close()
        wait_until(lambda: running.service_state.engine.queue_load().requests == 0)
        calls = reader.calls
        reader.open()
        assert running.post("/v1/compress", **BODY).status_code == 200
        assert len(upstream.exchanges) == before
        assert reader.calls <= calls + 1  # of the request above


def resident_bytes() -> int:
    """The memory of this process, the service's included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_sixteen_large_chats_at_a_time_are_shortened_or_passed_on_in_time(upstream):
    limit_s = 2.0
    chats = [body_of(turns(*[f"{k} {n}\n{LOG}" for n in range(12)])) for k in range(16)]
    with (
        served(upstream=upstream.url, method="lexical", upstream_compress_s=limit_s) as running,
        ThreadPoolExecutor(len(chats)) as pool,
    ):
        running.raw(PATH, chats[0].replace(b"0 0", b"first"))
        before, began = len(upstream.exchanges), time.monotonic()
        held = resident_bytes()
        answers = list(pool.map(lambda body: running.raw(PATH, body), chats))
        took_s = time.monotonic() - began
        assert [answer.status_code for answer in answers] == [200] * len(chats)
        assert resident_bytes() - held < 100 << 20
    statuses = {answer.headers["x-tamis-status"] for answer in answers}
    assert statuses <= {"shortened", "unchanged"}
    assert "shortened" in statuses
    assert took_s < (limit_s + 3) * busy_ratio()
    sent_on = upstream.exchanges[before:]
    assert len(sent_on) == len(chats)
    for exchange in sent_on:
        assert len(exchange.json["messages"]) == 26


def test_a_result_reads_the_same_in_every_later_request(service, upstream):
    """What comes later (turns, results, questions) does not touch the prompt's beginning."""
    later = [*turns(LOG, LOG[::-1]), {"role": "user", "content": "And who painted the wall?"}]
    for messages in (later, start := turns(LOG)):
        messages[0]["content"] = "A conversation of its own."
    first, answer = sent(service, upstream, body_of(start))
    second, again = sent(service, upstream, body_of(later))
    assert second.json["messages"][3] == first.json["messages"][3]
    saved = [int(one.headers["x-tamis-tokens-saved"]) for one in (answer, again)]
    assert answer.headers["x-tamis-tokens-saved-again"] == "0"
    assert int(again.headers["x-tamis-tokens-saved-again"]) == saved[0] < saved[1]
    assert len(second.json["messages"][5]["content"]) < len(LOG)


def test_nothing_before_the_last_breakpoint_of_the_cache_is_touched(service, upstream):
    messages = turns(LOG, LOG)
    messages[0]["content"] = "A conversation that was never sent before."
    messages[3]["cache_control"] = {"type": "ephemeral"}
    asked, _ = sent(service, upstream, body_of(messages))
    assert asked.json["messages"][:4] == messages[:4]
    assert len(asked.json["messages"][5]["content"]) < len(LOG) * 0.6
    with served(upstream=upstream.url, method="lexical", upstream_cached=True) as whole:
        asked, _ = sent(whole, upstream, body_of(messages))
    assert len(asked.json["messages"][3]["content"]) < len(LOG) * 0.6


def test_what_was_sent_short_stays_short_when_a_breakpoint_moves_behind_it(service, upstream):
    def asked(*marked: int, start: str) -> list:
        messages = turns(LOG, LOG[::-1])
        messages[0]["content"] = start
        for index in marked:
            messages[index]["cache_control"] = {"type": "ephemeral"}
        return sent(service, upstream, body_of(messages))[0].json["messages"]

    first = asked(1, start="A")
    assert len(first[3]["content"]) < len(LOG) * 0.6
    again = asked(1, 3, start="A")
    assert again[3]["content"] == first[3]["content"]  # as the provider's cache has it
    assert again[5] == first[5]
    other = asked(1, 3, start="B")
    assert other[3]["content"] == LOG  # this conversation was never sent


@pytest.mark.parametrize("most_s", [1e-6, 600.0])
def test_what_would_take_too_long_to_read_is_shortened_by_its_words(upstream, most_s):
    with served(upstream=upstream.url, upstream_read_s=most_s) as reading:
        first, answer = sent(reading, upstream, body_of(turns(LOG)))
        more = [*turns(LOG), {"role": "user", "content": "And then?"}]
        again, later = sent(reading, upstream, body_of(more))
        repeated = reading.raw(PATH, body_of(more))
    assert len(first.json["messages"][3]["content"]) < len(LOG) * 0.6
    assert again.json["messages"][3] == first.json["messages"][3]
    told = [json.loads(a.headers.get("x-tamis-warnings", "[]")) for a in (answer, later, repeated)]
    words = [f"1 of 1 texts are shortened by their words, not by {DEFAULT}"] * (most_s < 1)
    assert [warnings[-1:] for warnings in told] == [words] * 3
    assert any("the most (--upstream-read-s)" in one for one in told[0]) == (most_s < 1)
    assert told[1:] == [words] * 2  # nothing is left to be read


def test_what_this_service_does_not_know_goes_on_and_what_it_knows_is_answered_here(
    service, upstream
):
    body = b'{"input":  "x"}'
    asked, answer = sent(service, upstream, body, "/v1/embeddings?a=b%20c")
    assert (asked.path, asked.body) == ("/v1/embeddings?a=b%20c", body)
    assert "x-tamis-status" not in answer.headers
    before = len(upstream.exchanges)
    assert service.http.get("/v1/models").json()["data"]
    assert service.post("/v1/compress", question="q", documents=["x"]).status_code == 200
    assert service.http.get("/nowhere").status_code == 404
    assert len(upstream.exchanges) == before


def test_errors_of_the_upstream_come_back_as_they_are(service, upstream):
    _, answer = sent(service, upstream, body_of(turns(LOG), fail_with=429))
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert answer.json() == {"error": {"message": "slow down"}}


def test_an_upstream_that_is_away_is_502_that_says_so():
    with served(upstream="http://127.0.0.1:9", method="lexical") as running:
        answer = running.raw(PATH, body_of(turns(LOG)))
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_unreachable"


def test_a_key_of_this_service_never_leaves_it(upstream):
    knobs = {"upstream": upstream.url, "method": "lexical", "api_keys": (f"ada:{KEY}",)}
    with pytest.raises(BadInput, match="upstream_api_key"):
        Settings(**knobs)
    with served(**knobs, upstream_api_key="sk-ours") as running:
        body = body_of(turns("few words"))
        before = len(upstream.exchanges)
        assert running.raw(PATH, body).status_code == 401
        assert len(upstream.exchanges) == before
        asked, _ = sent(running, upstream, body, authorization=f"Bearer {KEY}")
        assert asked.header("authorization") == "Bearer sk-ours"
        both = {"authorization": f"Bearer {KEY}", "x_api_key": "of the client"}
        asked, _ = sent(running, upstream, body, "/v1/messages", **both)
        assert (asked.header("authorization"), asked.header("x-api-key")) == (None, "sk-ours")
        assert KEY not in str(asked.headers)


def test_a_wrong_address_stops_the_start():
    with pytest.raises(BadInput, match=r"api\.openai\.com"), served(upstream="ftp://x"):
        pass


def test_a_page_may_read_every_header_that_says_what_became_of_its_chat(upstream):
    origin = "https://chat.example"
    knobs = {"method": "lexical", "cors_origins": (origin,), "upstream_price": 3.0}
    with served(upstream=upstream.url, **knobs) as running:
        answer = running.raw(PATH, body_of(turns(LOG)), origin=origin, x_tamis_max="9")
        failed = running.raw(PATH, b"", origin=origin)
    for one in (answer, failed):
        shown = {n.strip().lower() for n in one.headers["access-control-expose-headers"].split(",")}
        ours = {name for name in one.headers if name.startswith("x-tamis-")}
        assert {"x-tamis-status", "x-tamis-tokens-saved", "x-tamis-warnings"} <= ours <= shown
        assert {name.lower() for name in ANSWER_HEADERS} <= shown
        assert {"x-request-id", "retry-after", "x-tamis-result-cache"} <= shown
    assert "x-tamis-cost-saved" in answer.headers
    assert "x-tamis-passthrough-reason" in failed.headers


def test_without_an_upstream_nothing_is_forwarded():
    with served() as running:
        assert running.raw(PATH, body_of(turns(LOG))).status_code == 404


def test_a_large_chat_is_forwarded_too(service, upstream):
    """Larger than the bodies that this service takes for itself."""
    picture = {
        "type": "image_url",
        "image_url": {"url": "data:image/png;base64," + "A" * (9 << 20)},
    }
    messages = [*turns(LOG), {"role": "user", "content": [picture]}]
    asked, answer = sent(service, upstream, body_of(messages))
    assert answer.headers["x-tamis-status"] == "shortened"
    assert asked.json["messages"][-1] == messages[-1]


def test_it_is_counted(service, upstream):
    sent(service, upstream, body_of(turns(LOG)))
    wait_until(lambda: "tamis" in httpx.get(f"{service.url}/metrics").text)
    assert 'route="/v1/chat/completions"' in httpx.get(f"{service.url}/metrics").text
