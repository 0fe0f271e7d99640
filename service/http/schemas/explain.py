"""`POST /v1/explain`: a compression with every sentence, kept or not.

The answer suffices to select again under another budget without another request: sort units by
score and take them while their tokens, plus `separator_tokens` for each further document, fit. The
service itself counts the joined text instead, which is exact.
"""

from __future__ import annotations

from tamis.probes.tokens import TextTokenizer
from tamis.service.http.schemas.base import Response, Text
from tamis.service.http.schemas.compression import Compression


class Selection(Response):
    """What a client needs beside the units to select by itself.

    Attributes:
        separator: the text between documents. separator_tokens: its number of tokens.
    """

    separator: Text
    separator_tokens: int
    budget_tokens: int | None
    threshold: float | None


class Explanation(Compression):
    """A compression with every unit, and the parameters to select again."""

    selection: Selection


def build_explanation(
    compression: Compression,
    counter: TextTokenizer,
    separator: str,
    budget_tokens: int | None,
    threshold: float | None,
) -> Explanation:
    """The answer of `/v1/explain`."""
    selection = Selection(
        separator=separator,
        separator_tokens=counter.count(separator),
        budget_tokens=budget_tokens,
        threshold=threshold,
    )
    return Explanation(**dict(compression), selection=selection)
