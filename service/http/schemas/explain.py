"""`POST /v1/explain`: a compression with every sentence, kept or not.

What is answered is enough to choose again under another budget without asking again: sort units by
score, take them while their tokens, and `separator_tokens` for each further document,
fit. The service's own choice counts the joined text instead, and is exact.
"""

from __future__ import annotations

from tamis.probes.tokens import Tokens
from tamis.service.http.schemas.base import Text, Response
from tamis.service.http.schemas.compression import Compression


class Selection(Response):
    """What a page needs beside the units to choose by itself.

    Attributes:
        separator: between documents, and how many tokens it has.
    """

    separator: Text
    separator_tokens: int
    budget_tokens: int | None
    threshold: float | None


class Explanation(Compression):
    """A compression whose results hold every unit, and what choosing again takes."""

    selection: Selection


def build_explanation(
    compression: Compression,
    counter: Tokens,
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
