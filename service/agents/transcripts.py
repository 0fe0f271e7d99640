"""What the user asked last, from the transcript that an agent writes while it works.

Claude Code and Codex write JSON Lines; only the end of the file is read, which may be long.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TAIL_BYTES = 1 << 20
_TEXT_TYPES = ("text", "input_text")


def last_user_text(transcript: Path) -> str | None:
    """The last turn of the user; None where the end of the file has none, or cannot be read."""
    try:
        lines = _last_lines(transcript)
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


def _last_lines(file: Path) -> list[bytes]:
    with file.open("rb") as opened:
        size = opened.seek(0, os.SEEK_END)
        opened.seek(max(0, size - _TAIL_BYTES))
        return opened.read(_TAIL_BYTES).splitlines()


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
