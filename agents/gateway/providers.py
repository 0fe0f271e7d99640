"""The bodies of providers' chat APIs as messages of OpenAI's chat, each with its place.

| API | messages |
|---|---|
| OpenAI chat, Anthropic messages | `messages`, and Anthropic's `system` |
| OpenAI responses | `instructions`, and `input`: a text, or messages, calls and their outputs |
| Gemini | `systemInstruction`, and `contents`, whose parts are texts, calls and their responses |
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from tamis.probes.errors import BadInput

JsonObject = dict[str, Any]
_CALLS = {"function_call": "arguments", "custom_tool_call": "input", "mcp_call": "arguments"}
"""Items of `input` that call a tool, and the member with the call's arguments."""
_OUTPUTS = ("function_call_output", "custom_tool_call_output", "local_shell_call_output")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message as OpenAI's chat has it.

    Attributes:
        place: the JSON pointer (RFC 6901) of its content in the body.
    """

    message: JsonObject
    place: str


def read_turns(chat: Any) -> list[Turn]:
    """The messages of a body in their order.

    Calls that follow each other are one message, as in OpenAI's chat. What is neither text, call
    nor result, such as reasoning, has no message.

    Raises:
        BadInput: it is of none of these APIs.
    """
    given = chat if isinstance(chat, dict) else {}
    if _are_objects(given.get("messages")):
        return list(_of_chat(given))
    if isinstance(given.get("input"), str) or _are_objects(given.get("input")):
        return list(_joining_calls(_of_responses(given)))
    if _are_objects(given.get("contents")):
        return list(_joining_calls(_of_gemini(given)))
    raise BadInput("the body has no list of messages, input or contents")


def without_breakpoints(value: Any) -> Any:
    """A message, or a part of one, without marks of what the provider shall cache."""
    if isinstance(value, dict):
        return {k: without_breakpoints(v) for k, v in value.items() if k != "cache_control"}
    return [without_breakpoints(one) for one in value] if isinstance(value, list) else value


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)


def _of_chat(chat: JsonObject) -> Iterator[Turn]:
    if isinstance(system := chat.get("system"), str | list):
        yield Turn({"role": "system", "content": system}, "/system")
    for i, message in enumerate(chat["messages"]):
        known = message if isinstance(message.get("role"), str) else {**message, "role": ""}
        yield Turn(known, f"/messages/{i}/content")


def _of_responses(chat: JsonObject) -> Iterator[Turn]:
    if isinstance(instructions := chat.get("instructions"), str):
        yield Turn({"role": "system", "content": instructions}, "/instructions")
    if isinstance(chat["input"], str):
        yield Turn({"role": "user", "content": chat["input"]}, "/input")
        return
    for i, item in enumerate(chat["input"]):
        kind, place = item.get("type", "message"), f"/input/{i}"
        called = str(item.get("call_id") or item.get("id") or i)
        if kind in _CALLS:
            yield _call(called, item.get("name"), item.get(_CALLS[kind]), place)
        if kind in _OUTPUTS or isinstance(item.get("output"), str):
            content = item.get("output")
            known = content if isinstance(content, str | list) else None
            yield Turn(
                {"role": "tool", "tool_call_id": called, "content": known}, f"{place}/output"
            )
        elif kind == "message" and isinstance(item.get("role"), str):
            yield Turn({"role": item["role"], "content": item.get("content")}, f"{place}/content")


def _of_gemini(chat: JsonObject) -> Iterator[Turn]:
    for name in ("systemInstruction", "system_instruction"):
        if isinstance(system := chat.get(name), dict):
            yield from _parts("system", system, f"/{name}")
    for i, content in enumerate(chat["contents"]):
        role = {"model": "assistant"}.get(content.get("role", "user"), "user")
        yield from _parts(role, content, f"/contents/{i}")


def _parts(role: str, content: JsonObject, place: str) -> Iterator[Turn]:
    parts = content.get("parts")
    for i, part in enumerate(parts if isinstance(parts, list) else ()):
        at = f"{place}/parts/{i}"
        if not isinstance(part, dict):
            continue
        if isinstance(part.get("text"), str):
            yield Turn({"role": role, "content": part["text"]}, f"{at}/text")
        for name in ("functionCall", "function_call"):
            if isinstance(call := part.get(name), dict):
                yield _call(str(call.get("id") or at), call.get("name"), call.get("args"), at)
        for name in ("functionResponse", "function_response"):
            if isinstance(found := part.get(name), dict):
                yield from _gemini_results(found, f"{at}/{name}/response")


def _gemini_results(found: JsonObject, place: str) -> Iterator[Turn]:
    """Each text of a tool's response, which is an object, as a result of its own."""
    about = {"role": "tool", "tool_call_id": found.get("id"), "name": found.get("name")}
    members = found.get("response")
    for key, value in members.items() if isinstance(members, dict) else ():
        if isinstance(value, str):
            escaped = key.replace("~", "~0").replace("/", "~1")
            yield Turn({**about, "content": value}, f"{place}/{escaped}")


def _joining_calls(turns: Iterator[Turn]) -> Iterator[Turn]:
    for makes_calls, run in groupby(turns, lambda turn: "tool_calls" in turn.message):
        if not makes_calls:
            yield from run
            continue
        first, *others = run
        calls = [call for turn in (first, *others) for call in turn.message["tool_calls"]]
        yield Turn({**first.message, "tool_calls": calls}, first.place)


def _call(called: str, name: Any, arguments: Any, place: str) -> Turn:
    given = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    function = {"name": str(name or ""), "arguments": given}
    calls = [{"id": called, "type": "function", "function": function}]
    return Turn({"role": "assistant", "content": None, "tool_calls": calls}, place)
