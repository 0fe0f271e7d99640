"""`GET /v1/retrieve/{hash}`: the answer, in Headroom's shape."""

from __future__ import annotations

from tamis.service.http.schemas.base import Response, Text


class RetrievedOriginal(Response):
    """A text as it was before it was shortened, or the lines of it that were asked for.

    `original_content` has those lines verbatim, `lines` their ranges, from 1 and inclusive.
    `original_tokens` and `original_item_count` (lines) are of the whole text,
    `compressed_item_count` of what was shown of it.
    """

    hash: str
    original_content: Text
    original_tokens: int
    original_item_count: int
    compressed_item_count: int
    tool_name: Text | None
    retrieval_count: int
    lines: list[list[int]]
    warnings: list[Text]
