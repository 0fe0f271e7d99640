"""Events and transcripts as Claude Code 2.1.332 and Codex 0.171.0 wrote them, texts exchanged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PASSED = [f"tests/test_orders.py::test_order_{i} PASSED" for i in range(300)]
ERROR = "E   ConnectionError: the queue of warehouse 7 is closed"
SUMMARY = "FAILED tests/test_orders.py::test_reorder - ConnectionError: the queue of warehouse 7"
LOG = "\n".join([*PASSED[:150], ERROR, *PASSED[150:], SUMMARY, "1 failed, 300 passed in 3.1s"])
QUESTION = "Why does the order fail?"


def claude_code(folder: Path, **fields: Any) -> dict[str, Any]:
    """The event after a call of Bash, with a transcript in a folder."""
    transcript = folder / "claude-code.jsonl"
    lines = [
        {"type": "queue-operation", "operation": "enqueue", "content": "Something else?"},
        {"type": "user", "message": {"role": "user", "content": QUESTION}, "uuid": "63e99682"},
        {"type": "user", "isMeta": True, "message": {"role": "user", "content": "Caveat: ..."}},
        {
            "type": "user",
            "message": {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "toolu_00", "content": "x"}],
            },
        },
        {"type": "assistant", "message": {"role": "assistant", "content": []}},
    ]
    transcript.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return {
        "session_id": "dc9c8635-429d-43fb-9394-510ff83c1e58",
        "transcript_path": str(transcript),
        "cwd": str(folder),
        "prompt_id": "43942766-fa75-428f-9141-3925613501bc",
        "permission_mode": "default",
        "effort": {"level": "medium"},
        "hook_event_name": "PostToolUse",
        "tool_name": "Bash",
        "tool_input": {"command": "pytest -v", "description": "Run the tests"},
        "tool_response": {
            "stdout": LOG,
            "stderr": "",
            "interrupted": False,
            "isImage": False,
            "noOutputExpected": False,
        },
        "tool_use_id": "toolu_01",
        "duration_ms": 3100,
    } | fields


def codex(folder: Path, **fields: Any) -> dict[str, Any]:
    """The event after a call of the shell, with a transcript in a folder."""
    transcript = folder / "codex.jsonl"
    messages = [QUESTION, "<environment_context>\n  <cwd>/x</cwd>\n</environment_context>"]
    lines = [
        {"type": "session_meta", "payload": {"session_id": "01a21911", "cwd": "/x"}},
        *(
            {
                "type": "response_item",
                "payload": {
                    "type": "message",
                    "role": "user",
                    "content": [{"type": "input_text", "text": text}],
                },
            }
            for text in messages
        ),
        {"type": "response_item", "payload": {"type": "function_call", "name": "exec_command"}},
    ]
    transcript.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return {
        "session_id": "01a21911-af7f-7963-b28f-37492cd68630",
        "turn_id": "01a21911-af94-7b31-b1d6-767ea138f3f0",
        "transcript_path": str(transcript),
        "cwd": str(folder),
        "hook_event_name": "PostToolUse",
        "model": "gpt-5",
        "permission_mode": "bypassPermissions",
        "tool_name": "Bash",
        "tool_input": {"command": "pytest -v"},
        "tool_response": LOG,
        "tool_use_id": "call_1",
    } | fields
