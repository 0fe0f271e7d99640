"""Whether a shortened output says anything; a caller shows the whole one where it does not."""

from __future__ import annotations

import json

from tamis.compressors.tools.types import CompressedToolOutput


def shows_source(found: CompressedToolOutput, source: str) -> bool:
    """Whether there is more in it than markers, brackets, and JSON with unmarked omissions.

    `[]` in place of a long array would read as if there had been nothing in it.
    """
    says_something = any(
        character.isalnum() for start, stop in found.kept for character in source[start:stop]
    )
    return says_something and not (found.warnings and is_json(source))


def is_json(text: str) -> bool:
    """Whether a text is JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
