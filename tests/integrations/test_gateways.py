"""LiteLLM's guardrail for Headroom, unmodified, before a running service."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # nothing is fetched

import litellm
import pytest
from litellm.proxy.guardrails.guardrail_hooks.headroom.headroom import HeadroomGuardrail
from litellm.types.proxy.guardrails.guardrail_hooks.headroom import HEADROOM_REQUEST_CONTEXT_KEY

from tests.service.http.app_kit import served
from tests.service.http.conversation_kit import ASKS, LOG, anthropic, call, result

ADA, BOB = "ada-0123456789abcdef", "bob-0123456789abcdef"
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Run the tests."},
    call("bash", {"command": "pytest"}),
    result(LOG),
    {"role": "assistant", "content": "One failed."},
    ASKS,
]
FAILED = "E       assert 30 == 90\n"


@pytest.fixture(scope="module")
def service():
    keys = (f"ada:{ADA}", f"bob:{BOB}")
    with served(method="lexical", retrieve_bytes=1_000_000, api_keys=keys) as running:
        yield running


def guardrail(service, key: str = ADA, **options: Any) -> HeadroomGuardrail:
    return HeadroomGuardrail(
        api_base=service.url,
        api_key=key,
        guardrail_name="headroom-compression",
        event_hook="pre_call",
        default_on=True,
        **options,
    )


def applied(guard: HeadroomGuardrail, talk: list[Any], request: dict[str, Any]) -> Any:
    """What the gateway would send on, as its request hook makes it."""
    return guard.apply_guardrail({"structured_messages": talk}, request, "request")


def model_calls(digest: str, query: str | None = None) -> Any:
    """A model's answer that calls the tool which the guardrail has injected."""
    arguments = {"hash": digest} | ({"query": query} if query else {})
    function = {"name": "headroom_retrieve", "arguments": json.dumps(arguments)}
    message = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "r1", "type": "function", "function": function}],
    }
    return litellm.ModelResponse(choices=[{"index": 0, "message": message}])


async def retrieved(guard: HeadroomGuardrail, request: Any, response: Any, tools: Any) -> str:
    """The text that the guardrail puts into the next turn for the model's call."""
    runs, found = await guard.async_should_run_agentic_loop(
        response, "gpt-4o", [], tools, False, "openai", {}
    )
    assert runs
    plan = await guard.async_build_agentic_loop_plan(
        found, "gpt-4o", [], response, None, {}, None, False,
        {HEADROOM_REQUEST_CONTEXT_KEY: request[HEADROOM_REQUEST_CONTEXT_KEY]},
    )  # fmt: skip
    return str(plan.request_patch.messages[-1]["content"])


def test_the_guardrail_compresses_and_its_tool_gets_the_original_back(service):
    async def run() -> None:
        guard, request = guardrail(service), {"model": "gpt-4o", "messages": TALK}
        found = await applied(guard, TALK, request)
        shown = found["structured_messages"][3]["content"]
        assert [m for i, m in enumerate(found["structured_messages"]) if i != 3] == [
            m for i, m in enumerate(TALK) if i != 3
        ]
        assert FAILED in shown
        assert len(shown) < len(LOG) / 2
        assert [tool["function"]["name"] for tool in found["tools"]] == ["headroom_retrieve"]
        (digest,) = request[HEADROOM_REQUEST_CONTEXT_KEY].issued_hashes
        assert f"hash={digest}]" in shown
        whole = await retrieved(guard, request, model_calls(digest), found["tools"])
        assert whole == LOG
        answer = model_calls(digest, "test_room_61")
        lines = await retrieved(guard, request, answer, found["tools"])
        assert "test_room_61 PASSED" in lines
        assert len(lines) < len(LOG) / 2
        stranger = guardrail(service, BOB)
        missing = await retrieved(stranger, request, model_calls(digest), found["tools"])
        assert "not found or expired" in missing

    asyncio.run(run())


def test_the_guardrail_counts_what_was_saved(service):
    async def run() -> dict[str, Any]:
        request: dict[str, Any] = {"model": "gpt-4o", "messages": TALK, "metadata": {}}
        await applied(guardrail(service), TALK, request)
        return request

    request = asyncio.run(run())
    (entry,) = request["metadata"]["standard_logging_guardrail_information"]
    assert entry["guardrail_status"] == "success"
    stats = entry["guardrail_response"]
    assert stats["tokens_saved"] == stats["tokens_before"] - stats["tokens_after"] > 0


def test_without_its_tool_no_hash_is_asked_for(service):
    async def run() -> Any:
        request = {"model": "gpt-4o", "messages": TALK}
        return await applied(guardrail(service, ccr_retrieval=False), TALK, request)

    found = asyncio.run(run())
    assert "hash=" not in found["structured_messages"][3]["content"]
    assert "tools" not in found


def test_text_parts_of_anthropics_format_come_back_as_parts(service):
    """The gateway hands translated rows over: parts of text, without the user's last turn."""
    rows = [
        {"role": "user", "content": "Run the tests."},
        call("bash", {}),
        result([{"type": "text", "text": LOG}]),
        {"role": "assistant", "content": "One failed."},
        ASKS,
    ]

    async def run() -> Any:
        request = {"model": "claude", "messages": anthropic(LOG, "bash", {})}
        return await applied(guardrail(service), rows, request)

    (part,) = asyncio.run(run())["structured_messages"][2]["content"]
    assert part["type"] == "text"
    assert FAILED in part["text"]
    assert len(part["text"]) < len(LOG) / 2


def test_a_wrong_key_fails_closed_or_open_as_the_gateway_is_set(service):
    async def run(**options: Any) -> Any:
        request = {"model": "gpt-4o", "messages": TALK}
        inputs = {"structured_messages": TALK}
        guard = guardrail(service, "wrong-key-of-some-length", **options)
        return await guard.apply_guardrail(inputs, request, "request") is inputs

    assert asyncio.run(run(unreachable_fallback="fail_open"))
    with pytest.raises(Exception, match="Headroom compression service returned an error"):
        asyncio.run(run())
