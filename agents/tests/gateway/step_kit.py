"""Conversations of an agent in the shapes of the four chat APIs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

SHAPES = {
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
    "gemini": "/v1beta/models/gemini-3-pro:generateContent",
}


@dataclass
class Step:
    """A call, what it returned, and what the model said before it."""

    name: str
    arguments: dict[str, Any]
    result: str
    said: str = "Next."
    is_error: bool = False


@dataclass
class Chat:
    """A body, and the places of its results."""

    body: dict[str, Any]
    places: list[str] = field(default_factory=list)

    @property
    def data(self) -> bytes:
        return json.dumps(self.body, indent=1).encode()


def chat_of(shape: str, start: str, steps: Sequence[Step]) -> Chat:
    """A system's text, a question and steps, as a client of that API sends them."""
    return {"openai": _openai, "anthropic": _anthropic, "responses": _responses, "gemini": _gemini}[
        shape
    ](start, steps)


def _openai(start: str, steps: Sequence[Step]) -> Chat:
    messages: list[Any] = [{"role": "system", "content": start}, {"role": "user", "content": "Fix"}]
    places = []
    for i, one in enumerate(steps):
        function = {"name": one.name, "arguments": json.dumps(one.arguments)}
        call = {"id": f"c{i}", "type": "function", "function": function}
        messages.append({"role": "assistant", "content": one.said, "tool_calls": [call]})
        places.append(f"/messages/{len(messages)}/content")
        messages.append({"role": "tool", "tool_call_id": f"c{i}", "content": one.result})
    return Chat({"model": "m", "messages": messages}, places)


def _anthropic(start: str, steps: Sequence[Step]) -> Chat:
    messages: list[Any] = [{"role": "user", "content": "Fix"}]
    places = []
    for i, one in enumerate(steps):
        call = {"type": "tool_use", "id": f"c{i}", "name": one.name, "input": one.arguments}
        messages.append(
            {"role": "assistant", "content": [{"type": "text", "text": one.said}, call]}
        )
        result = {"type": "tool_result", "tool_use_id": f"c{i}", "content": one.result}
        if one.is_error:
            result["is_error"] = True
        places.append(f"/messages/{len(messages)}/content/0/content")
        messages.append({"role": "user", "content": [result]})
    return Chat({"model": "m", "max_tokens": 9, "system": start, "messages": messages}, places)


def _responses(start: str, steps: Sequence[Step]) -> Chat:
    items: list[Any] = [{"role": "user", "content": "Fix"}]
    places = []
    for i, one in enumerate(steps):
        items.append({"role": "assistant", "content": one.said})
        arguments = json.dumps(one.arguments)
        named = {"call_id": f"c{i}", "name": one.name, "arguments": arguments}
        items.append({"type": "function_call", **named})
        places.append(f"/input/{len(items)}/output")
        items.append({"type": "function_call_output", "call_id": f"c{i}", "output": one.result})
    return Chat({"model": "m", "instructions": start, "input": items}, places)


def _gemini(start: str, steps: Sequence[Step]) -> Chat:
    contents: list[Any] = [{"role": "user", "parts": [{"text": "Fix"}]}]
    places = []
    for one in steps:
        call = {"functionCall": {"name": one.name, "args": one.arguments}}
        contents.append({"role": "model", "parts": [{"text": one.said}, call]})
        places.append(f"/contents/{len(contents)}/parts/0/functionResponse/response/result")
        found = {"functionResponse": {"name": one.name, "response": {"result": one.result}}}
        contents.append({"role": "user", "parts": [found]})
    system = {"parts": [{"text": start}]}
    return Chat({"systemInstruction": system, "contents": contents}, places)
