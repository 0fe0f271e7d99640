"""`POST /v1/tools/rank` on a real socket, by both of our clients' requests."""

from __future__ import annotations

import pytest

import tamis
from tamis.client import Client
from tests.service.api.tool_definitions import anthropic_tools, openai_tools
from tests.service.http.app_kit import served

ASKED = "Will it rain in Oslo tomorrow?"


@pytest.fixture(scope="module")
def service():
    with served(method="lexical") as running:
        yield running


def test_the_answer_is_that_of_the_library(service):
    with Client(service.url) as client:
        found = client.rank_tools(ASKED, openai_tools(), top_n=4)
    here = tamis.rank_tools(ASKED, openai_tools(), top_n=4)
    assert [one.index for one in found.data] == [one.index for one in here.results]
    assert [one.score for one in found.data] == pytest.approx([r.score for r in here.results], 1e-3)
    assert found.data[0].name == "getWeatherForecast"
    assert found.fits
    assert found.encoder == "minilm-l6"
    assert found.warnings == []


def test_messages_may_ask_and_none_may_fit(service):
    messages = [{"role": "user", "content": "Who was the second emperor of Rome?"}]
    answer = service.post("/v1/tools/rank", messages=messages, tools=anthropic_tools())
    assert answer.status_code == 200, answer.text
    assert answer.json()["fits"] is False
    assert len(answer.json()["data"]) == 12


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"tools": openai_tools()}, "give question, or messages"),
        ({"question": "x", "messages": [], "tools": []}, "give question, or messages"),
        ({"messages": [], "tools": openai_tools()}, "no message of a user"),
        ({"question": "x", "tools": [{}]}, "tool 0 has no name"),
        ({"question": "x", "tools": [7]}, "tools"),
        ({"question": "x", "tools": [], "top_k": 3}, "top_n"),
        ({"question": "x", "tools": openai_tools() * 70}, "1,000 is the most"),
    ],
    ids=str,
)
def test_what_cannot_be_ranked_is_refused(service, fields, why):
    answer = service.post("/v1/tools/rank", **fields)
    assert answer.status_code == 422, answer.text
    assert why in answer.json()["error"]["message"]
