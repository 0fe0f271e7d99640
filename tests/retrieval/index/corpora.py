"""Small corpora for the tests of the index."""

from __future__ import annotations

from pathlib import Path

from tamis.retrieval.index.store import CorpusIndex
from tamis.retrieval.index.writer import create_index, open_writer
from tamis.retrieval.storage.manifest import IndexSettings
from tamis.text.types import CorpusDocument

HARBOUR = CorpusDocument(
    "harbour",
    "Ships came in spring. The old harbour of Malo was closed in 1907. Nobody knew why.",
    "Malo",
    {"year": 1907, "lang": "en", "tags": ["sea", "trade"]},
)
BREAD = CorpusDocument(
    "bread", "Bread was cheap then. A loaf cost two pennies.", None, {"year": 1850, "lang": "en"}
)
HAFEN = CorpusDocument("hafen", "Der alte Hafen wurde 1907 geschlossen.", "Malo", {"lang": "de"})
DOCUMENTS = (HARBOUR, BREAD, HAFEN)
QUESTION = "When was the old harbour of Malo closed?"


def build_index(home: Path, documents=DOCUMENTS, **settings) -> CorpusIndex:
    """An index of words over some documents."""
    with create_index(home, IndexSettings(**settings)) as writer:
        writer.put(documents)
        writer.finish()
    return CorpusIndex.open(home)


def put(home: Path, *documents: CorpusDocument) -> CorpusIndex:
    """The index after documents were added or replaced."""
    with open_writer(home) as writer:
        writer.put(documents)
    return CorpusIndex.open(home)


def delete(home: Path, *ids: str) -> CorpusIndex:
    """The index after documents were deleted."""
    with open_writer(home) as writer:
        writer.delete(ids)
    return CorpusIndex.open(home)


def make_documents(count: int, seed: int = 0) -> list[CorpusDocument]:
    """Documents of a few words of a small vocabulary each, so that terms recur."""
    import random

    draw = random.Random(seed)
    words = [f"word{i}" for i in range(40)]
    return [
        CorpusDocument(
            f"d{i}", " ".join(draw.choices(words, k=draw.randint(3, 30))), None, {"i": i}
        )
        for i in range(count)
    ]


def bm25_scores(index: CorpusIndex, question: str) -> dict[str, float]:
    """BM25 of every chunk that shares a word with the question."""
    return {hit.id: hit.score for hit in index.search(question, 10_000, by=["bm25"])}
