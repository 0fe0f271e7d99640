"""`X-Tamis-Tools`: of many tools those are sent on that fit, the same ones turn after turn."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tamis_agents.gateway.shortening import keep_elements
from tests.service.api.tool_definitions import DESCRIPTIONS, anthropic_tools, openai_tools
from tests.service.http.app_kit import served

CHATS, MESSAGES = "/v1/chat/completions", "/v1/messages"


def sent(service, upstream, body: dict[str, Any], path: str = CHATS, most: str = "3") -> tuple:
    """The body that the upstream got, and the answer."""
    before = len(upstream.exchanges)
    answer = service.raw(path, json.dumps(body, indent=1).encode(), x_tamis_tools=most)
    (asked,) = upstream.exchanges[before:]
    assert asked.header("x-tamis-tools") is None
    return asked.body.decode(), answer


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def names(body: str) -> list[str]:
    return [(t.get("function") or t).get("name", t.get("type")) for t in json.loads(body)["tools"]]


def test_the_tools_that_fit_go_on_and_every_other_byte_stays(service, upstream):
    body = {"model": "m", "tools": openai_tools(), "messages": [user("Will it rain in Oslo?")]}
    got, answer = sent(service, upstream, body)
    kept = names(got)
    assert "getWeatherForecast" in kept
    assert len(kept) == 3
    assert kept == [name for name in DESCRIPTIONS if name in kept]
    whole = json.dumps(body, indent=1)
    assert got == keep_elements(whole, "tools", [list(DESCRIPTIONS).index(n) for n in kept])
    head, tail = whole.split('"tools": [')[0], whole[whole.index('"messages"') :]
    assert got.startswith(head)
    assert got.endswith(tail)
    assert answer.headers["x-tamis-status"] == "shortened"
    assert answer.headers["x-tamis-tools"] == f"3/{len(DESCRIPTIONS)}"
    left_out = json.loads(answer.headers["x-tamis-tools-left-out"])
    assert sorted(left_out + kept) == sorted(DESCRIPTIONS)


def test_twenty_turns_have_the_same_tools_to_the_byte(service, upstream):
    messages, arrays = [], list[str]()
    for turn in range(20):
        messages.append(user("Will it rain in Oslo?" if turn == 0 else f"And on day {turn}?"))
        body = {"tools": openai_tools(), "messages": messages}
        got, _ = sent(service, upstream, body)
        arrays.append(got[: got.index('"messages"')])
        call = {"name": "getWeatherForecast", "arguments": '{"place": "Oslo"}'}
        messages += [
            {
                "role": "assistant",
                "tool_calls": [{"id": f"c{turn}", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": f"c{turn}", "content": "rain"},
            {"role": "assistant", "content": "It will."},
        ]
    assert len(set(arrays)) == 1


def test_what_was_called_forced_marked_or_is_the_providers_own_stays(service, upstream):
    tools = [*anthropic_tools(), {"type": "web_search_20250305", "name": "web_search"}]
    tools[7]["cache_control"] = {"type": "ephemeral"}
    block = {"type": "tool_use", "id": "t", "name": "run_sql", "input": {}}
    body = {
        "tools": tools,
        "messages": [user("Will it rain in Oslo?"), {"role": "assistant", "content": [block]}],
        "tool_choice": {"type": "tool", "name": "set_alarm"},
    }
    kept = names(sent(service, upstream, body, MESSAGES, "1")[0])
    pinned = {"run_sql", "set_alarm", "play_music", "web_search"}
    assert set(kept) == {"getWeatherForecast", *pinned}
    forced = {"type": "function", "function": {"name": "git_commit"}}
    body = {"tools": openai_tools(), "messages": [user("Will it rain?")], "tool_choice": forced}
    assert "git_commit" in names(sent(service, upstream, body)[0])


@pytest.mark.parametrize(
    ("fields", "most", "status"),
    [
        ({"tools": openai_tools()}, "", "unchanged"),
        ({"tools": openai_tools()}, "99", "unchanged"),
        ({"tools": openai_tools()}, "few", "failed"),
        ({"tools": openai_tools()}, "0", "failed"),
        ({"tools": openai_tools(), "messages": []}, "3", "unchanged"),
        ({"tools": [{"type": "web_search"}] * 9}, "3", "unchanged"),
        ({"tools": 7}, "3", "unchanged"),
        ({}, "3", "unchanged"),
    ],
    ids=str,
)
def test_otherwise_all_tools_go_on(service, upstream, fields, most, status):
    body = {"messages": [user("Will it rain?")], **fields}
    got, answer = sent(service, upstream, body, most=most)
    assert got == json.dumps(body, indent=1)
    assert answer.headers["x-tamis-status"] == status
    assert "x-tamis-tools-left-out" not in answer.headers


def test_where_the_time_is_over_all_tools_go_on_with_a_warning(upstream):
    with served(
        upstream=f"{upstream.url}/v1", method="lexical", upstream_compress_s=1e-6
    ) as service:
        body = {"tools": openai_tools(), "messages": [user("Will it rain?")]}
        got, answer = sent(service, upstream, body)
    assert got == json.dumps(body, indent=1)
    assert "all tools are sent on" in answer.headers["x-tamis-warnings"]


@pytest.mark.parametrize(
    ("text", "kept", "left"),
    [
        ('{"a":[1, {"tools":[0]} ,"]"], "tools" : [ ]}', [], None),
        ('{ "tools":[1],"tools": [ 1 , [2, 3], "x,]" ], "b":2 }', [0, 2], '[1,"x,]"], "b":2 }'),
        ('{"tools":[{"n":"\\u007d]"},{}]}', [1], "[{}]}"),
    ],
)
def test_elements_are_kept_as_they_stand(text, kept, left):
    found = keep_elements(text, "tools", kept)
    assert found.endswith(left or "[]}")
    assert json.loads(found)["tools"] == [json.loads(text)["tools"][i] for i in kept]
    with pytest.raises(ValueError, match="no array other"):
        keep_elements(text, "other", kept)
