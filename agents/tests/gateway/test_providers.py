"""`tamis serve --upstream`: OpenAI's responses and Gemini's chats, shortened like other chats."""

from __future__ import annotations

import json

import pytest

from tamis.probes.errors import BadInput
from tamis_agents.gateway.providers import read_turns
from tamis_agents.gateway.shortening import replace_strings, string_spans
from tests.service.agents.recorded import ERROR, LOG, QUESTION
from tests.service.http.app_kit import served

GEMINI = "/v1beta/models/gemini-3-pro:streamGenerateContent"


def call(n: int, name: str = "bash", command: str = "pytest -v") -> dict:
    arguments = json.dumps({"command": command})
    return {"type": "function_call", "call_id": f"c{n}", "name": name, "arguments": arguments}


def output(n: int, text) -> dict:
    return {"type": "function_call_output", "call_id": f"c{n}", "output": text}


REASONING = {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "gAAA"}
ASKED = {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}
RESPONSES = {
    "model": "m",
    "instructions": "Be brief.",
    "input": [ASKED, REASONING, call(0), call(1, "ls", "ls"), output(0, LOG), output(1, "a b")],
}
GEMINI_BODY = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {"role": "user", "parts": [{"text": QUESTION}, {"inlineData": {"data": "AAAA"}}]},
        {
            "role": "model",
            "parts": [
                {"functionCall": {"name": "bash", "args": {"command": "pytest -v"}}},
                {"functionCall": {"name": "ls", "args": {}}},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "bash", "response": {"exit/code": 1, "out~": LOG}}},
                {"functionResponse": {"name": "ls", "response": {"result": "a b"}}},
            ],
        },
    ],
}


def get(body, pointer: str):
    for step in pointer.split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        body = body[int(key)] if isinstance(body, list) else body[key]
    return body


@pytest.mark.parametrize(
    ("path", "body", "place"),
    [
        ("/v1/responses", RESPONSES, "/input/4/output"),
        (
            "/v1/responses",
            {**RESPONSES, "input": [ASKED, call(0), output(0, LOG)]},
            "/input/2/output",
        ),
        (
            "/v1/responses",
            {"input": [ASKED, call(0), output(0, [{"type": "input_text", "text": LOG}])]},
            "/input/2/output/0/text",
        ),
        (GEMINI, GEMINI_BODY, "/contents/2/parts/0/functionResponse/response/out~0"),
        (
            "/v1beta/models/gemini-3-pro:generateContent",
            json.loads(
                json.dumps(GEMINI_BODY)
                .replace("functionCall", "function_call")
                .replace("functionResponse", "function_response")
            ),
            "/contents/2/parts/0/function_response/response/out~0",
        ),
    ],
)
def test_a_result_gets_shorter_and_every_other_byte_stays(service, upstream, path, body, place):
    before = len(upstream.exchanges)
    given = json.dumps(body, indent=1).encode()
    answer = service.raw(path, given)
    (asked,) = upstream.exchanges[before:]
    assert asked.path == path
    shown = get(asked.json, place)
    assert ERROR in shown.splitlines()
    assert len(shown) < len(LOG) * 0.6
    assert replace_strings(asked.body.decode(), {place: LOG}) == given.decode()
    assert answer.headers["x-tamis-status"] == "shortened"


def test_each_result_has_its_own_call_among_those_made_together():
    turns = read_turns(RESPONSES)
    roles = [turn.message["role"] for turn in turns]
    assert roles == ["system", "user", "assistant", "tool", "tool"]
    names = [one["function"]["name"] for one in turns[2].message["tool_calls"]]
    assert names == ["bash", "ls"]
    assert [turn.message.get("tool_call_id") for turn in turns[3:]] == ["c0", "c1"]
    gemini = read_turns(GEMINI_BODY)
    assert [turn.message["role"] for turn in gemini] == roles
    assert [turn.message.get("name") for turn in gemini[3:]] == ["bash", "ls"]


@pytest.mark.parametrize("body", [RESPONSES, GEMINI_BODY, {"input": QUESTION}])
def test_every_text_has_the_place_of_its_string(body):
    text = json.dumps(body)
    for turn in read_turns(body):
        content = turn.message["content"]
        if isinstance(content, str):
            ((start, stop),) = string_spans(text, [turn.place]).values()
            assert json.loads(text[start:stop]) == content


@pytest.mark.parametrize("body", [[], {}, {"messages": ["a"]}, {"input": [1]}, {"contents": {}}])
def test_a_body_of_no_known_api_is_refused(body):
    with pytest.raises(BadInput, match="no list of messages, input or contents"):
        read_turns(body)


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/gemini-3-pro:tune",
        "/v1beta/models/a/b:generateContent",
        "/v1beta/models/..:generateContent",
        "/v1beta/files",
        "/v1beta/models/gemini:generateContent:x",
    ],
)
def test_no_other_path_of_gemini_is_sent_on(service, upstream, path):
    before = len(upstream.exchanges)
    assert service.raw(path, b"{}").status_code == 404
    assert len(upstream.exchanges) == before


def test_the_service_s_key_is_sent_in_the_header_that_gemini_takes(upstream):
    with served(upstream=upstream.url, upstream_api_key="0123456789abcdef0") as guarded:
        guarded.raw(GEMINI, json.dumps(GEMINI_BODY).encode())
        guarded.raw(GEMINI, b"{}", **{"x_goog_api_key": "client"})
    for asked in upstream.exchanges[-2:]:
        assert asked.header("x-goog-api-key") == "0123456789abcdef0"
        assert asked.header("authorization") is None
