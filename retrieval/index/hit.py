"""The result of a search of an index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tamis.retrieval.storage.chunks import title_line


@dataclass(frozen=True, slots=True)
class Hit:
    """One chunk that was found: `text` is code points `[start, stop)` of document `doc`.

    Attributes:
        id: of the chunk, `doc#start-stop`; it stays the same as long as the document's text does.
        score: for ranking the hits of this search only. scores: the score of each leg.
        title, heading: of the document, and of the section that the chunk belongs to.
    """

    id: str
    doc: str
    text: str
    start: int
    stop: int
    score: float
    metadata: Mapping[str, Any]
    title: str | None = None
    heading: str | None = None
    scores: Mapping[str, float] | None = None

    @property
    def title_line(self) -> str | None:
        """The line that the chunk was indexed under: title, then heading."""
        return title_line(self.title, self.heading)


class Hits(list[Hit]):
    """The hits of one search, best first.

    Attributes:
        keys_read: how many keys, and centroids of keys, each query vector was compared with, on
            average; all keys of the index in an exact search, none in a search without keys.
    """

    def __init__(self, hits: Iterable[Hit] = (), keys_read: int = 0) -> None:
        super().__init__(hits)
        self.keys_read = keys_read
