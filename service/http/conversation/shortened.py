"""What is shown of one text of a conversation."""

from __future__ import annotations

from dataclasses import dataclass

from tamis.service.http.conversation.candidates import Candidate
from tamis.service.http.schemas.messages import Omitted


@dataclass(slots=True)
class Shortened:
    """A text and what is shown of it.

    Attributes:
        shown: kept spans verbatim, markers between. kept: half-open code points of the source.
        tokens: of `shown`. hash: that the source is kept under, if it is.
    """

    candidate: Candidate
    shown: str
    kept: list[tuple[int, int]]
    omissions: list[Omitted]
    format: str
    tokens: int
    hash: str | None = None

    @classmethod
    def whole(cls, candidate: Candidate, format_: str) -> Shortened:
        """The text as it came."""
        text = candidate.text.text
        return cls(candidate, text, [(0, len(text))], [], format_, candidate.tokens)
