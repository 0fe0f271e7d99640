"""Hooks of coding agents after a tool: its result is shortened before the model reads it.

The agent starts the command after a tool has run, with a JSON object on its standard input, and
reads another from its standard output; no output leaves the result as it is. What each agent sends
and obeys was seen with Claude Code 2.1.332 and Codex 0.171.0:
lab/log/agents.md#2026-11-26-hooks-of-real-agents

What the user asked last is read from the transcript that an agent writes while it works: JSON
Lines; only the end of the file is read, which may be long. A result is any JSON value, in which
each text can be replaced in place.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tamis.compressors.tools.types import MOST_TOKENS, ToolOutput
from tamis.probes.errors import BadInput
from tamis.service.agents.result_texts import replace_texts, result_texts
from tamis.service.agents.shortening import MAX_BYTES, Shortening

_TAIL_BYTES = 1 << 20
_TEXT_TYPES = ("text", "input_text")


def last_user_text(transcript: Path) -> str | None:
    """The last turn of the user; None where the end of the file has none, or cannot be read."""
    try:
        with transcript.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - _TAIL_BYTES))
            lines = opened.read(_TAIL_BYTES).splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        if b'"user' not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:  # the first line of the tail, or one that is being written
            continue
        if text := _user_text(entry):
            return text
    return None


def _user_text(entry: Any) -> str | None:
    """The user's words in an entry: `message` of Claude Code, `payload` of Codex."""
    if not isinstance(entry, dict) or entry.get("isMeta"):
        return None
    message = entry.get("message") if entry.get("type") == "user" else entry.get("payload")
    if not isinstance(message, dict) or message.get("role") != "user":
        return None
    text = "\n".join(_texts(message.get("content")))
    # what the program adds by itself stands in tags: reminders, the environment, output of commands
    return None if not text.strip() or text.lstrip().startswith("<") else text


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    for part in content if isinstance(content, list) else ():
        if isinstance(part, dict) and part.get("type") in _TEXT_TYPES:
            yield str(part.get("text", ""))


SKIPPED_TOOLS = (
    *("Read", "Edit", "MultiEdit", "Write", "NotebookRead", "NotebookEdit", "apply_patch"),
    *("TodoWrite", "Task*", "Agent", "AskUserQuestion", "Skill", "ToolSearch", "mcp__tamis__*"),
)
"""Left alone: files that an agent reads in order to edit them, what it wrote, its own notes, and
what `tamis mcp` gives back."""
_SHOWN_CHARS = 1000
"""A long output has at least so many in the event, and the file named for it begins with them."""
_OF_SERVERS = "mcp__"
"""Tools of MCP servers, whose results are what the servers make them."""


def _updated_output(response: Any) -> dict[str, Any]:
    """Claude Code: the result in the shape that it had."""
    return {"hookSpecificOutput": {"hookEventName": "PostToolUse", "updatedToolOutput": response}}


def _blocked_output(response: Any) -> dict[str, Any] | None:
    """Codex, which refuses `updatedToolOutput`: the reason of a block is shown for the result.

    A result of an MCP server is replaced where it is text alone.
    """
    if isinstance(response, str):
        return {"decision": "block", "reason": response}
    blocks = response.get("content") if isinstance(response, dict) else response
    if not isinstance(blocks, list) or not all(is_text_block(block) for block in blocks):
        return None
    return {"decision": "block", "reason": "\n".join(block["text"] for block in blocks)}


def is_text_block(block: Any) -> bool:
    """Whether this is a block of text in the content of a result."""
    return (
        isinstance(block, dict)
        and block.get("type") == "text"
        and isinstance(block.get("text"), str)
    )


AFTER: dict[str, Callable[[Any], dict[str, Any] | None]] = {
    "claude-code": _updated_output,
    "codex": _blocked_output,
}
"""The answers that replace a result by another, of agents with hooks after a tool; None where this
result cannot be replaced."""


def hook_answer(
    agent: str,
    given: Mapping[str, Any],
    shortening: Shortening,
    skipped: Sequence[str] = SKIPPED_TOOLS,
    warn: Callable[[str], object] = lambda warning: None,
) -> bytes | None:
    """The answer to an event; None where the result stays as it is.

    Args:
        given: the event: the object that the agent sent.
        skipped: names or patterns (`mcp__*`) of tools to leave alone.
        warn: gets each warning.

    Raises:
        BadInput: the event is not a `PostToolUse`.
        TamisError, OSError: what `Shortening.apply` raises.
    """
    if given.get("hook_event_name") != "PostToolUse" or agent not in AFTER:
        raise BadInput(
            f"the event is {given.get('hook_event_name')!r:.80}, which {agent} has no use for; "
            "`--print-settings` prints the events that this command answers"
        )
    name = str(given.get("tool_name", ""))
    if any(fnmatchcase(name, pattern) for pattern in skipped):
        return None
    holder: dict[str, Any] = {"tool_response": given.get("tool_response")}
    persisted = None if name.startswith(_OF_SERVERS) else _show_persisted_output(given)
    if persisted is not None:
        limit = shortening.max_tokens or MOST_TOKENS
        shortening = replace(shortening, max_tokens=limit, ratio=None)
    texts = result_texts(holder)
    arguments = json.dumps(given.get("tool_input"), ensure_ascii=False)
    outputs = [ToolOutput(text.text, name, arguments) for text in texts]
    shortened = shortening.apply(outputs, _question(given), warn)
    if not replace_texts(texts, shortened):
        return None
    if persisted is not None:
        holder["tool_response"]["stdout"] += f"\n[the whole output: {persisted}]"
    answer = AFTER[agent](holder["tool_response"])
    return None if answer is None else json.dumps(answer).encode("ascii")


def parse_event(event: bytes) -> Mapping[str, Any]:
    """The object that an agent sent.

    Raises:
        BadInput: it is none.
    """
    try:
        given = json.loads(event)
    except ValueError as error:
        raise BadInput(
            f"standard input is no JSON ({error}); the agent sends an event, and "
            "`--print-settings` prints what makes it do so"
        ) from error
    if not isinstance(given, dict):
        raise BadInput(
            f"the event is a {type(given).__name__} and no object; `--print-settings` prints what "
            "makes the agent send one"
        )
    return given


def _show_persisted_output(event: Mapping[str, Any]) -> str | None:
    """Puts a long output of Claude Code in its place whole. The file that has it, or None.

    Over 30,000 characters it sends the beginning and names a file that has all; as long as the file
    is named, its model is shown the first 2 KB and the name, whatever a hook answers.
    """
    response = event.get("tool_response")
    if not isinstance(response, dict) or not isinstance(response.get("stdout"), str):
        return None
    path = response.get("persistedOutputPath")
    if not isinstance(path, str):
        return None
    file = Path(path)
    if not file.is_file() or file.stat().st_size > MAX_BYTES:
        return None
    whole = file.read_text("utf-8", "replace")
    shown = response["stdout"][:_SHOWN_CHARS]
    if len(shown) < _SHOWN_CHARS or not whole.startswith(shown):
        return None
    response["stdout"] = whole
    del response["persistedOutputPath"]
    response.pop("persistedOutputSize", None)
    return path


def _question(given: Mapping[str, Any]) -> str | None:
    transcript = given.get("transcript_path")
    return last_user_text(Path(transcript)) if isinstance(transcript, str) else None
