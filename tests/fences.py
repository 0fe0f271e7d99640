"""The fenced blocks of a page, by their tags: what guides show is run."""

from __future__ import annotations

import re

BLOCK = re.compile(r"^```(?P<tag>[^\n]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)


def tags(text: str) -> set[str]:
    """All tags of a page; a block without one has the empty tag."""
    return {found["tag"] for found in BLOCK.finditer(text)}


def blocks(text: str, tag: str) -> list[str]:
    """The bodies of the blocks with a tag."""
    return [found["body"] for found in BLOCK.finditer(text) if found["tag"] == tag]
