"""Conversations with what tools print, for the tests of `/v1/compress` with `messages`."""

from __future__ import annotations

import json
from typing import Any

LOG = "".join(
    [
        "============================= test session starts ==============================\n",
        *(f"tests/test_rooms.py::test_room_{i} PASSED\n" for i in range(90)),
        "=================================== FAILURES ===================================\n",
        "________________________________ test_rotation _________________________________\n",
        "    def test_rotation():\n",
        ">       assert rotate() == 90\n",
        "E       assert 30 == 90\n",
        "tests/test_keys.py:7: AssertionError\n",
        "=========================== short test summary info ============================\n",
        "FAILED tests/test_keys.py::test_rotation - assert 30 == 90\n",
        "======================== 1 failed, 90 passed in 1.03s =========================\n",
    ]
)
ROWS = [
    {"id": i, "name": f"user {i}", "state": "suspended" if i == 77 else "active"}
    for i in range(150)
]
ASKS = {"role": "user", "content": "Why does the rotation of keys fail?"}


def call(name: str, arguments: Any, call_id: str = "c1") -> dict[str, Any]:
    """A turn of the assistant that calls a tool, in OpenAI's format."""
    function = {"name": name, "arguments": json.dumps(arguments)}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def result(text: str, call_id: str = "c1", **more: Any) -> dict[str, Any]:
    """What the tool returned, in OpenAI's format."""
    return {"role": "tool", "tool_call_id": call_id, "content": text, **more}


def anthropic(text: Any, name: str, arguments: Any, **more: Any) -> list[dict[str, Any]]:
    """A call and what it returned, in Anthropic's format."""
    use = {"type": "tool_use", "id": "u1", "name": name, "input": arguments}
    back = {"type": "tool_result", "tool_use_id": "u1", "content": text, **more}
    return [{"role": "assistant", "content": [use]}, {"role": "user", "content": [back]}]


def at(document: Any, pointer: str) -> Any:
    """The value at a JSON pointer."""
    for key in pointer.split("/")[1:]:
        document = document[int(key) if isinstance(document, list) else key]
    return document
