"""Official chat clients, unmodified, with `tamis serve --upstream` as their base URL."""

from __future__ import annotations

import asyncio
import json

import anthropic
import openai
import pytest

from agents.tests.gateway.chat_server import chat_server
from tests.service.agents.recorded import ERROR, LOG, QUESTION
from tests.service.http.app_kit import served

CALL = {"name": "bash", "arguments": json.dumps({"command": "pytest -v"})}
MESSAGES = [
    {"role": "user", "content": QUESTION},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c1", "type": "function", "function": CALL}],
    },
    {"role": "tool", "tool_call_id": "c1", "content": LOG},
]
ANTHROPIC_MESSAGES = [
    {"role": "user", "content": QUESTION},
    {
        "role": "assistant",
        "content": [{"type": "tool_use", "id": "t1", "name": "bash", "input": {"command": "x"}}],
    },
    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": LOG}]},
]


@pytest.fixture(scope="module")
def upstream():
    with chat_server() as running:
        running.gate.set()
        yield running


@pytest.fixture(scope="module")
def service(upstream):
    with served(upstream=upstream.url, method="lexical") as running:
        yield running


def was_shortened(text: str) -> bool:
    return ERROR in text.splitlines() and len(text) < len(LOG) * 0.6


def test_openai(service, upstream):
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="sk-client")
    answer = client.chat.completions.create(model="m", messages=MESSAGES)
    assert answer.choices[0].message.content == "Hello"
    asked = upstream.exchanges[-1]
    assert asked.header("authorization") == "Bearer sk-client"
    assert was_shortened(asked.json["messages"][2]["content"])


def test_openai_streams(service, upstream):
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="sk-client")
    stream = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == "Hello"
    assert was_shortened(upstream.exchanges[-1].json["messages"][2]["content"])


def test_openai_streams_asynchronously(service):
    async def run() -> str:
        async with openai.AsyncOpenAI(base_url=f"{service.url}/v1", api_key="sk") as client:
            stream = await client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(run()) == "Hello"


def test_openai_opts_out(service, upstream):
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="sk-client")
    client.chat.completions.create(model="m", messages=MESSAGES, extra_headers={"X-Tamis": "off"})
    assert upstream.exchanges[-1].json["messages"] == MESSAGES


def test_openai_raises_what_the_upstream_refuses(service):
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="sk-client", max_retries=0)
    with pytest.raises(openai.RateLimitError, match="slow down"):
        client.chat.completions.create(model="m", messages=MESSAGES, extra_body={"fail_with": 429})


def test_openai_reads_the_error_of_an_upstream_that_is_away():
    with served(upstream="http://127.0.0.1:9", method="lexical") as running:
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="sk", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="did not answer"):
            client.chat.completions.create(model="m", messages=MESSAGES)


def test_anthropic(service, upstream):
    client = anthropic.Anthropic(base_url=service.url, api_key="sk-ant")
    answer = client.messages.create(model="m", max_tokens=10, messages=ANTHROPIC_MESSAGES)
    assert answer.content[0].text == "Hello"
    asked = upstream.exchanges[-1]
    assert asked.header("authorization") == "Bearer sk-ant"
    assert asked.header("anthropic-version")
    assert was_shortened(asked.json["messages"][2]["content"][0]["content"])
